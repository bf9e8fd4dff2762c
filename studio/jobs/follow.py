"""The one async adapter from an event log to an event loop, shared by api and tabs. Plain asyncio."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from contract.events import JobEvent, Step, is_ending
from studio.jobs.event_log import EventLog


async def follow(
    event_log: EventLog, cursor: int = 0, *, min_interval_s: float = 0.25
) -> AsyncIterator[tuple[int, JobEvent]]:
    """Yield (cursor, event) until the job's ending.

    Steps come at most once per `min_interval_s`, always the newest; everything else at once and in order.

    Args:
        event_log: From `Studio.event_log`.
        cursor: Where an earlier follower stopped; 0 for the beginning.
    """
    loop = asyncio.get_running_loop()
    awake = asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody follows any more
            loop.call_soon_threadsafe(awake.set)

    unsubscribe = event_log.subscribe(wake)
    next_step_at = 0.0
    try:
        while True:
            awake.clear()
            found = event_log.since(cursor)
            if cursor > found.cursor:
                cursor = 0
            wait_s: float | None = None
            for number, event in zip(found.cursors, found.events, strict=True):
                if isinstance(event, Step):
                    wait_s = next_step_at - loop.time()
                    if wait_s > 0:
                        continue  # what follows goes on; the newest Step is asked for again below
                    wait_s, next_step_at = None, loop.time() + min_interval_s
                else:
                    wait_s = None
                cursor = number
                yield number, event
                if is_ending(event):
                    return
            if found.ended and not found.events:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(awake.wait(), wait_s)
    finally:
        unsubscribe()
