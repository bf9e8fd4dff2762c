"""The one async adapter from an event log to an event loop, shared by api and tabs. Plain asyncio."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import cast

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
        with contextlib.suppress(RuntimeError):  # the loop is closed: the follower is gone
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
                        continue  # later events go first; the newest Step is fetched again below
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


async def follow_with_heartbeats(
    event_log: EventLog, cursor: int, every_s: float
) -> AsyncGenerator[tuple[int, JobEvent] | None]:
    """As `follow`, with None whenever no event came for `every_s` seconds."""
    followed = cast("AsyncGenerator[tuple[int, JobEvent]]", follow(event_log, cursor))
    async with contextlib.aclosing(followed) as items:
        waiting: asyncio.Future[tuple[int, JobEvent]] | None = None
        try:
            while True:
                waiting = waiting or asyncio.ensure_future(anext(items))
                finished, _ = await asyncio.wait({waiting}, timeout=every_s)
                if not finished:
                    yield None
                    continue
                try:
                    item = waiting.result()
                except StopAsyncIteration:
                    return
                waiting = None
                yield item
        finally:
            if waiting is not None and not waiting.done():
                waiting.cancel()
                await asyncio.wait({waiting})
