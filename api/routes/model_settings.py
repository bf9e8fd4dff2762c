"""Routes of what is remembered about checkpoints: a person's own defaults, and what one predicts.

Defaults are the caller's own; what a model predicts goes for all, so only the owner of the machine sets it.
"""

from fastapi import APIRouter
from pydantic import BaseModel

from api.dependencies import Administrator, JsonBody, Owner, StudioHere, body_schema
from contract.model_settings import ModelDefaults, ModelPrediction
from contract.validation import parse_request

router = APIRouter(tags=["models"])
BODIES = (ModelDefaults, ModelPrediction)


class RememberedDefaults(BaseModel):
    """The caller's own defaults for a model, if there are any; left_out: sentences on values that can't be used."""

    defaults: ModelDefaults | None = None
    left_out: tuple[str, ...] = ()


class AllRememberedDefaults(BaseModel):
    """By the name of the checkpoint; those that are gone are left out."""

    models: dict[str, ModelDefaults]


def _body(kind: type[BaseModel]) -> dict[str, object]:
    return body_schema("application/json", {"$ref": f"#/components/schemas/{kind.__name__}"})


@router.get("/model-defaults", response_model_exclude_none=True)
def all_defaults(studio: StudioHere, owner: Owner) -> AllRememberedDefaults:
    """The caller's own defaults for all checkpoints."""
    return AllRememberedDefaults(models=studio.model_settings.all_of(owner))


@router.get("/models/{name:path}/defaults", response_model_exclude_none=True)
def defaults(studio: StudioHere, owner: Owner, name: str) -> RememberedDefaults:
    """The caller's own defaults for a checkpoint. They fill the page's form; drafts don't take them."""
    found, left_out = studio.model_settings.defaults_of(owner, name)
    return RememberedDefaults(defaults=found, left_out=left_out)


@router.put("/models/{name:path}/defaults", response_model_exclude_none=True, openapi_extra=_body(ModelDefaults))
def remember(studio: StudioHere, owner: Owner, name: str, body: JsonBody) -> RememberedDefaults:
    """Remember own defaults for a checkpoint in place of those before."""
    return RememberedDefaults(defaults=studio.model_settings.remember(owner, name, parse_request(ModelDefaults, body)))


@router.delete("/models/{name:path}/defaults", status_code=204)
def forget(studio: StudioHere, owner: Owner, name: str) -> None:
    """Forget own defaults for a checkpoint, also of one that is gone."""
    studio.model_settings.forget(owner, name)


@router.put(
    "/models/{name:path}/prediction",
    status_code=204,
    dependencies=[Administrator],
    openapi_extra=_body(ModelPrediction),
)
def set_prediction(studio: StudioHere, name: str, body: JsonBody) -> None:
    """Set what a checkpoint predicts, for all: epsilon, v_prediction, or v_zero_snr."""
    studio.model_settings.set_prediction(name, parse_request(ModelPrediction, body).prediction)


@router.delete("/models/{name:path}/prediction", status_code=204, dependencies=[Administrator])
def forget_prediction(studio: StudioHere, name: str) -> None:
    """Go by what a checkpoint's files say again."""
    studio.model_settings.set_prediction(name, None)
