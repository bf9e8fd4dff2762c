"""Routes of the program itself: health, engine, queue, and the page that describes the API."""

import asyncio
import time
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.dependencies import Owner, StudioHere, refusal_to_manage
from api.page_slot import PageSlot
from api.schemas import Health, PageState, Queue
from contract.errors import NotFound
from contract.records import EngineStatus

router = APIRouter(tags=["system"])
_STATIC = Path(__file__).parents[1] / "static"
_PAGE_WAIT_S, _LOOK_S = 0.9, 0.03  # shorter than the second that open requests get when the program ends
_FILES = {"docs.html": "text/html", "docs.js": "text/javascript", "docs.css": "text/css"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)


@router.get("/health")
def health(request: Request, studio: StudioHere) -> Health:
    """Check that the program responds."""
    return Health(status="ok", name="Darkroom", version=request.app.version, engine=studio.engine())


@router.get("/engine")
def engine(request: Request, studio: StudioHere) -> EngineStatus:
    """The state of the engine, with problems of the start for callers at the machine itself."""
    status = studio.engine()
    if refusal_to_manage(request) is not None:
        return status
    return status.model_copy(update={"notices": studio.notices})


@router.get("/page")
async def page(request: Request) -> PageState:
    """Wait a moment for the page to be there."""
    slot: PageSlot = request.app.state.page_slot
    end = time.monotonic() + _PAGE_WAIT_S
    while not slot.is_filled and time.monotonic() < end:
        await asyncio.sleep(_LOOK_S)
    return PageState(ready=slot.is_filled)


@router.get("/queue")
def queue(studio: StudioHere, owner: Owner) -> Queue:
    """Now, waiting, finished today."""
    return Queue(rows=studio.queue(owner))


@router.get("/docs", include_in_schema=False)
def docs() -> Response:
    """The documentation of the API; loads nothing from other hosts."""
    return _static("docs.html")


@router.get("/docs/{name}", include_in_schema=False)
def docs_file(name: str) -> Response:
    """A file of that page."""
    return _static(name)


def _static(name: str) -> Response:
    if name not in _FILES:
        raise NotFound("There is no such file.", "Reload the page.")
    return Response(
        (_STATIC / name).read_bytes(),
        media_type=f"{_FILES[name]}; charset=utf-8",
        headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"},
    )
