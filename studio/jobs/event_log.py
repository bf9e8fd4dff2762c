"""The event log of one job, and its followers; the rules are in `contract/events.py`.

An event log keeps every event but superseded Steps and Loadings, numbered with rising cursors. No thread waits for a
follower: `since(cursor)` answers at once, `subscribe(wake)` calls back after every change. The log of an ended job is
dropped from memory; its row keeps a compact one, from which it can be rebuilt with the same cursors.
"""

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from contract.events import JOB_EVENT, JobEvent, Loading, Saved, Step, is_ending
from contract.records import ImageRecord


@dataclass(frozen=True, slots=True)
class EventLogSlice:
    """The events after a cursor.

    Attributes:
        cursors: One for each event, to resume after it.
        cursor: To resume after the slice.
        ended: No event will follow `cursor`.
    """

    events: tuple[JobEvent, ...]
    cursors: tuple[int, ...]
    cursor: int
    ended: bool


class EventLog:
    """Events of one job, for any number of followers in any thread.

    Args:
        first_cursor: Cursors start above it; every run of the program starts higher.
    """

    def __init__(self, job_id: str, first_cursor: int = 0) -> None:
        self.job_id = job_id
        self._lock = threading.Lock()
        self._events: list[tuple[int, JobEvent]] = []  # without Steps; of Loadings in a row the newest
        self._step: tuple[int, Step] | None = None
        self._preview: tuple[int, Step] | None = None  # the newest Step that carried a preview
        self._last = first_cursor
        self._ended = False
        self._wakes: dict[object, Callable[[], None]] = {}

    def append(self, event: JobEvent) -> None:
        """Add an event and wake the followers. After the ending nothing is added."""
        with self._lock:
            if self._ended:
                return
            self._last += 1
            self._add(self._last, event)
            wakes = tuple(self._wakes.values())
        for wake in wakes:
            wake()

    def _add(self, cursor: int, event: JobEvent) -> None:
        if isinstance(event, Step):
            self._step = (cursor, event)
            if event.preview is not None:
                self._preview = (cursor, event)
            return
        if self._events and isinstance(event, Loading):
            # Of Loadings about the same thing the newest replaces the last: a download reports for hours.
            last = self._events[-1][1]
            if isinstance(last, Loading) and (event.attempt, event.what) == (last.attempt, last.what):
                self._events.pop()
        self._events.append((cursor, event))
        self._ended = is_ending(event)

    def restore(self, events: Iterable[tuple[int, JobEvent]], last: int) -> None:
        """Put events back with the cursors they had; those to come start above `last`."""
        with self._lock:
            for cursor, event in events:
                self._add(cursor, event)
            self._last = last

    def since(self, cursor: int = 0) -> EventLogSlice:
        """Everything after a cursor; of Steps only the newest, with the newest preview not yet seen.

        A cursor beyond the end (of an event log that is gone) starts again from the beginning.
        """
        with self._lock:
            start = cursor if cursor <= self._last else 0
            found: dict[int, JobEvent] = {}
            for event_cursor, event in self._events:
                if event_cursor > start:
                    found[event_cursor] = event
            if self._step and self._step[0] > start:
                step_cursor, step = self._step
                if step.preview is None and self._preview and self._preview[0] > start:
                    older = self._preview[1]
                    if (older.attempt, older.image) == (step.attempt, step.image):
                        step = step.model_copy(update={"preview": older.preview})
                found[step_cursor] = step
            cursors = tuple(sorted(found))
            events = tuple(found[event_cursor] for event_cursor in cursors)
            return EventLogSlice(events, cursors, cursors[-1] if cursors else start, self._ended)

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` (from any thread, must be quick) after each change.

        Returns:
            A function that ends it; may be called twice.
        """
        key = object()
        with self._lock:
            self._wakes[key] = wake

        def unsubscribe() -> None:
            with self._lock:
                self._wakes.pop(key, None)

        return unsubscribe

    @property
    def attempt(self) -> int:
        """The attempt of the newest event."""
        with self._lock:
            return self._events[-1][1].attempt if self._events else 1

    @property
    def is_followed(self) -> bool:
        """Whether anyone listens at this moment."""
        return bool(self._wakes)

    def compact_log(self) -> str:
        """The events worth keeping, as JSON [[cursor, event]]; pictures by id only."""
        with self._lock:
            packed: list[tuple[int, dict[str, object]]] = []
            for cursor, event in self._events:
                data: dict[str, object] = event.model_dump(mode="json", exclude={"record"})
                if isinstance(event, Saved):
                    data["record"] = event.record.id
                packed.append((cursor, data))
            return json.dumps(packed)


def event_log_from_log(job_id: str, log: str, find_image: Callable[[str], ImageRecord | None]) -> EventLog:
    """Rebuild the event log of an ended job; images that were deleted since are left out."""
    event_log = EventLog(job_id)
    for cursor, data in json.loads(log):
        if data["type"] == "saved":
            record = find_image(data["record"])
            if record is None:
                continue
            data["record"] = record.model_dump(mode="json")
        if "input" in data:  # its name in logs before December 2026
            data["upload"] = data.pop("input")
        event_log.restore([(cursor, JOB_EVENT.validate_json(json.dumps(data)))], cursor)
    return event_log


def event_log_from_events(job_id: str, first_cursor: int, events: Iterable[JobEvent]) -> EventLog:
    """An event log that already holds these events."""
    event_log = EventLog(job_id, first_cursor)
    for event in events:
        event_log.append(event)
    return event_log
