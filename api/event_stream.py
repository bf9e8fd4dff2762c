"""Server-Sent Events of one job, over `studio/jobs/follow.py`: id is the cursor, event the type, data JSON."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing

from api.schemas import event_fields
from contract.events import JobEvent
from studio.jobs.event_log import EventLog
from studio.jobs.follow import follow_with_heartbeats

KEEP_ALIVE_S = 15.0
_KEEP_ALIVE = b": still here\n\n"


def encode_event(cursor: int, event: JobEvent) -> bytes:
    """One event on the wire."""
    data = json.dumps(event_fields(event), ensure_ascii=False, separators=(",", ":"))
    return f"id: {cursor}\nevent: {event.type}\ndata: {data}\n\n".encode("utf-8", "replace")


async def stream(event_log: EventLog, cursor: int = 0, *, keep_alive_s: float = KEEP_ALIVE_S) -> AsyncIterator[bytes]:
    """The events after `cursor`, up to the job's ending; a comment when nothing came for a while.

    The stream ends after the ending. A browser that asks again then gets an empty one at once.
    """
    async with aclosing(follow_with_heartbeats(event_log, cursor, keep_alive_s)) as items:
        yield b"retry: 1000\n\n"
        async for item in items:
            if item is None:
                yield _KEEP_ALIVE
            else:
                yield encode_event(*item)
