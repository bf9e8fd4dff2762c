"""Wakes gradio's queue when events arrive: by itself it polls a thousand times a second.

Its two loops (events to start, progress to tell) are replaced on the page's one queue object, by loops that wait
for a push, an ending or a progress. If gradio's queue has another shape than expected, it keeps its own loops:
that costs 6 to 8% of a core, and is logged.
"""

import asyncio
import inspect
import logging
import time
from typing import Any

import gradio as gr
from gradio.utils import set_task_name

logger = logging.getLogger(__name__)
# What is called or set below, with the parameters it is called by.
_METHODS = {
    "push": ("body", "request", "username"),
    "process_events": ("events", "batch", "begin_time", "fn"),
    "start_processing": (),
    "start_progress_updates": (),
    "get_events": (),
    "set_progress": ("event_id", "iterables"),
    "send_message": ("event", "event_message"),
    "broadcast_estimations": ("concurrency_id", "after"),
    "_cancel_asyncio_tasks": (),
}
_FIELDS = (
    "active_jobs",
    "delete_lock",
    "event_queue_per_concurrency_id",
    "event_analytics",
    "_asyncio_tasks",
    "live_updates",
    "stopped",
    "progress_update_sleep_when_free",
)


def wake_by_arrivals(page: gr.Blocks) -> bool:
    """Replace the loops of a page's queue, before the page is mounted.

    Returns:
        Whether it could be done; if not, gradio's own loops run.
    """
    queue: Any = getattr(page, "_queue", None)
    missing = _missing_in(queue)
    if missing:
        logger.warning("Gradio's queue has another shape (%s): it keeps polling a thousand times a second.", missing)
        return False
    WokenQueue(queue).take_over()
    return True


def _missing_in(queue: Any) -> str:
    """A method or field that this module needs and gradio's queue does not have as expected; empty for none."""
    for name, wanted in _METHODS.items():
        method = getattr(queue, name, None)
        if not callable(method) or tuple(inspect.signature(method).parameters) != wanted:
            return name
    for name in _FIELDS:
        if not hasattr(queue, name):
            return name
    return ""


class WokenQueue:
    """Loops for one queue of gradio's. All of it runs in the server's event loop but `set_progress`.

    Attributes:
        rounds: How often either loop went round, for tests.
    """

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._push, self._process, self._set_progress = queue.push, queue.process_events, queue.set_progress
        self._changed = asyncio.Event()
        self._progress = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.rounds = 0

    def take_over(self) -> None:
        """Replace the methods; the queue's own `start` then starts these loops."""
        for name in ("push", "process_events", "set_progress", "start_processing", "start_progress_updates"):
            setattr(self._queue, name, getattr(self, name))

    async def push(self, body: Any, request: Any, username: str | None) -> Any:
        """Gradio's, then wake the loop."""
        try:
            return await self._push(body, request, username)
        finally:
            self._changed.set()

    async def process_events(self, events: list[Any], batch: bool, begin_time: float, fn: Any) -> None:
        """Gradio's, then wake the loop: there is room again."""
        try:
            await self._process(events, batch, begin_time, fn)
        finally:
            self._changed.set()

    def set_progress(self, event_id: str, iterables: Any) -> None:
        """Gradio's, then wake the loop; handlers call it from threads of their own."""
        self._set_progress(event_id, iterables)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._progress.set)

    async def start_processing(self) -> None:
        """Start waiting events as soon as there is room for them."""
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        try:
            while not self._queue.stopped:
                self.rounds += 1
                self._changed.clear()
                while None in self._queue.active_jobs:
                    async with self._queue.delete_lock:
                        waiting = self._queue.get_events()
                    if not waiting:
                        break
                    self._begin(*waiting)
                await self._changed.wait()
        finally:
            self._queue.stopped = True
            self._queue._cancel_asyncio_tasks()

    def _begin(self, events: list[Any], is_batch: bool, concurrency_id: str) -> None:
        queue, first, began_at = self._queue, events[0], time.time()
        queue_name = queue.event_queue_per_concurrency_id[concurrency_id]
        queue_name.current_concurrency += 1
        queue_name.start_times_per_fn[first.fn].add(began_at)
        queue.active_jobs[queue.active_jobs.index(None)] = events
        for event in events:
            if event._id in queue.event_analytics:
                queue.event_analytics[event._id]["status"] = "processing"
        task = asyncio.create_task(self.process_events(events, is_batch, began_at, first.fn))
        set_task_name(
            task, first.session_hash, first.fn._id, first._id, is_batch
        )  # by which gradio finds what to cancel
        queue._asyncio_tasks.add(task)
        task.add_done_callback(queue._asyncio_tasks.discard)
        if queue.live_updates:
            queue.broadcast_estimations(concurrency_id)

    async def start_progress_updates(self) -> None:
        """Send a page the newest progress of its events, at most as often as gradio would."""
        queue, self._progress = self._queue, asyncio.Event()
        while not queue.stopped:
            self.rounds += 1
            await self._progress.wait()
            self._progress.clear()
            for job in list(queue.active_jobs):
                for event in job or ():
                    if event.progress_pending and event.progress:
                        event.progress_pending = False
                        queue.send_message(event, event.progress)
            await asyncio.sleep(queue.progress_update_sleep_when_free)
