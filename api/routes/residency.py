"""Routes of the models in the engine's memory: evict, pin, prefetch.

Evicting and pinning are for the owner of the machine; anyone who chose a model may prefetch it.
"""

from fastapi import APIRouter

from api.dependencies import Administrator, JsonBody, StudioHere, body_schema
from contract.records import EngineStatus
from contract.validation import parse_request
from contract.values import Frozen, ModelKind, Name

router = APIRouter(tags=["model manager"])


class OfModel(Frozen):
    """Which model; without a kind, a checkpoint."""

    name: Name
    kind: ModelKind = "checkpoint"


class Pinning(OfModel):
    """pinned: stay in memory whatever else is loaded."""

    pinned: bool


BODIES = (OfModel, Pinning)
_OF_MODEL = body_schema("application/json", {"$ref": "#/components/schemas/OfModel"})
_PINNING = body_schema("application/json", {"$ref": "#/components/schemas/Pinning"})


@router.post("/models/prefetch", status_code=202, openapi_extra=_OF_MODEL)
def prefetch(studio: StudioHere, body: JsonBody) -> EngineStatus:
    """Read a model into memory while jobs run, because it will be needed soon."""
    wanted = parse_request(OfModel, body)
    studio.prefetch(wanted.name, wanted.kind)
    return studio.engine()


@router.post("/models/evict", status_code=202, dependencies=[Administrator], openapi_extra=_OF_MODEL)
def evict(studio: StudioHere, body: JsonBody) -> EngineStatus:
    """Free a model's memory; one that a job uses stays until the job has ended."""
    wanted = parse_request(OfModel, body)
    studio.evict(wanted.name, wanted.kind)
    return studio.engine()


@router.post("/models/pin", status_code=202, dependencies=[Administrator], openapi_extra=_PINNING)
def pin(studio: StudioHere, body: JsonBody) -> EngineStatus:
    """Pin a model in memory, or unpin it."""
    wanted = parse_request(Pinning, body)
    studio.pin(wanted.name, wanted.kind, is_pinned=wanted.pinned)
    return studio.engine()
