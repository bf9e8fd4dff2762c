"""Server-Sent Events of one job, over `studio.jobs.follow`: id is the cursor, event the type, data JSON."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import cast

from api.schemas import event_fields
from contract.events import JobEvent
from studio.jobs.event_log import EventLog
from studio.jobs.follow import follow

KEEP_ALIVE_S = 15.0
_KEEP_ALIVE = b": still here\n\n"


def encode(cursor: int, event: JobEvent) -> bytes:
    """One event on the wire."""
    data = json.dumps(event_fields(event), ensure_ascii=False, separators=(",", ":"))
    return f"id: {cursor}\nevent: {event.type}\ndata: {data}\n\n".encode("utf-8", "replace")


async def stream(event_log: EventLog, cursor: int = 0, *, keep_alive_s: float = KEEP_ALIVE_S) -> AsyncIterator[bytes]:
    """The events after `cursor`, up to the job's ending; a comment when nothing came for a while.

    The stream ends after the ending. A browser that asks again then gets an empty one at once.
    """
    events = cast(AsyncGenerator[tuple[int, JobEvent], None], follow(event_log, cursor))
    pending: asyncio.Task[tuple[int, JobEvent]] | None = None
    try:
        yield b"retry: 1000\n\n"
        while True:
            pending = pending or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait({pending}, timeout=keep_alive_s)
            if not done:
                yield _KEEP_ALIVE
                continue
            number, event = pending.result()
            pending = None
            yield encode(number, event)
    except StopAsyncIteration:
        return
    finally:
        if pending is not None and not pending.done():
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
        await events.aclose()
