"""Routes of jobs: submit, look up, follow, cancel. The page makes the same calls."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from api.dependencies import JobId, JsonBody, Key, Owner, Session, StudioHere, body_schema
from api.event_stream import stream
from api.schemas import Accepted, JobList, JobStatus, accepted, job_row, job_status
from contract.events import Notice
from contract.validation import parse_draft, parse_preprocess, parse_upscale

router = APIRouter(prefix="/jobs", tags=["jobs"])
_DRAFT = body_schema("application/json", {"$ref": "#/components/schemas/RecipeDraft"})
_UPSCALE = body_schema("application/json", {"$ref": "#/components/schemas/Upscale"})
_PREPROCESS = body_schema("application/json", {"$ref": "#/components/schemas/Preprocess"})
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events as they happen; each `data` is JSON, each `id` a cursor.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.post("", status_code=202, openapi_extra=_DRAFT)
def submit(studio: StudioHere, owner: Owner, session: Session, key: Key, body: JsonBody) -> Accepted:
    """Ask for pictures. Only `prompt` is required; a picture's recipe is a valid body.

    A dynamic prompt with `count` above 1 is drawn for each picture and makes as many jobs, all of them or none.
    With an `Idempotency-Key` the request may be sent again if its response was lost: it starts its jobs once.
    """
    handle = studio.submit(parse_draft(body), owner, session=session, key=key)
    return accepted(handle)


@router.post("/upscale", status_code=202, openapi_extra=_UPSCALE)
def upscale(studio: StudioHere, owner: Owner, session: Session, body: JsonBody) -> Accepted:
    """Upscale a picture, tile by tile. Only `image` is required; `parent` names the picture it comes from."""
    handle = studio.upscale(parse_upscale(body), owner, session=session)
    return accepted(handle)


@router.post("/preprocess", status_code=202, openapi_extra=_PREPROCESS)
def preprocess(studio: StudioHere, owner: Owner, session: Session, body: JsonBody) -> Accepted:
    """Make a control map. It is kept as an upload, whose sha256 is in `prepared` and in the event of that name."""
    handle = studio.preprocess(parse_preprocess(body), owner, session=session)
    return accepted(handle)


@router.get("")
def unfinished(studio: StudioHere, owner: Owner, session: Session) -> JobList:
    """Unfinished jobs of a window (`?session=`), oldest first."""
    found = studio.jobs_of_session(owner, session) if session else ()
    return JobList(jobs=tuple(job_row(record) for record in found))


@router.get("/{job_id}")
def look(studio: StudioHere, owner: Owner, job_id: JobId) -> JobStatus:
    """State, progress, picture ids, error, notices."""
    events_so_far = studio.event_log(job_id, owner).since().events
    notices = tuple(event.message for event in events_so_far if isinstance(event, Notice))
    return job_status(studio.job(job_id, owner), notices)


@router.delete("/{job_id}")
def cancel(studio: StudioHere, owner: Owner, job_id: JobId) -> JobStatus:
    """Cancel; a running job stops between two steps. What is finished stays."""
    studio.cancel(job_id, owner)
    return job_status(studio.job(job_id, owner))


@router.post("/{job_id}/move_up")
def move_up(studio: StudioHere, owner: Owner, job_id: JobId) -> JobStatus:
    """Let it go before the caller's own other waiting jobs."""
    studio.move_up(job_id, owner)
    return job_status(studio.job(job_id, owner))


@router.post("/{job_id}/rerun", status_code=202)
def rerun(studio: StudioHere, owner: Owner, session: Session, job_id: JobId) -> Accepted:
    """Queue the same job again, with the same seed: images, an upscale, a preprocessor's map."""
    handle = studio.rerun(job_id, owner, session=session)
    return accepted(handle)


@router.post("/{job_id}/retry_save")
def retry_save(studio: StudioHere, owner: Owner, job_id: JobId) -> JobStatus:
    """Save the pictures that were kept in memory when the disk was full."""
    studio.retry_save(job_id, owner)
    return job_status(studio.job(job_id, owner))


@router.get("/{job_id}/events", response_class=StreamingResponse, responses=_EVENTS)
async def events(
    studio: StudioHere,
    owner: Owner,
    job_id: JobId,
    cursor: Annotated[int, Query(ge=0, le=2**53)] = 0,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Follow a job as Server-Sent Events; Last-Event-ID (or `?cursor=`) resumes after that event."""
    event_log = await run_in_threadpool(studio.event_log, job_id, owner)
    if last_event_id and last_event_id.isascii() and last_event_id.isdigit():
        cursor = int(last_event_id[:16])
    parts: AsyncIterator[bytes] = stream(event_log, cursor)
    return StreamingResponse(
        parts, media_type="text/event-stream", headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    )
