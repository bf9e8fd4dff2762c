"""The event logs of all jobs: live ones in memory, ended ones rebuilt from their row on demand."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from contract import events
from contract.errors import StudioError
from contract.records import ImageRecord, JobRecord, StoredUpload
from studio.gallery.gallery import Gallery
from studio.jobs.event_log import EventLog, event_log_from_events, event_log_from_log
from studio.jobs.queue import JobQueue

_CURSORS_PER_SECOND = 10_000  # below 2^53 for three more centuries, as browsers need


class EventLogs:
    """Hands out the one live event log of a job, or a rebuilt one.

    Args:
        place_of: (position, wait_s) of a waiting job.
    """

    def __init__(self, queue: JobQueue, gallery: Gallery, place_of: Callable[[str], tuple[int, float | None]]) -> None:
        self._queue = queue
        self._gallery = gallery
        self._place_of = place_of
        self._lock = threading.RLock()
        self._live: dict[str, EventLog] = {}
        self._positions: dict[str, int] = {}  # as last reported
        self._unclosed: dict[str, JobRecord] = {}
        # Cursors of this run of the program are above those of all earlier runs.
        self._first_cursor = int(time.time() * _CURSORS_PER_SECOND)

    def live(self, job: JobRecord) -> EventLog:
        """The event log of a job that has not ended; the first call makes it, Queued first."""
        with self._lock:
            event_log = self._live.get(job.id)
            if event_log is None:
                position, wait_s = self._place_of(job.id)
                self._positions[job.id] = position
                queued = events.Queued(
                    job_id=job.id, attempt=job.attempt, at=time.time(), position=position, wait_s=wait_s
                )
                first = (queued, *self._notices_and_images(job))
                event_log = self._live[job.id] = event_log_from_events(job.id, self._first_cursor, first)
            return event_log

    def of(self, job: JobRecord) -> EventLog:
        """The event log of any job. The caller's record may be outdated."""
        with self._lock:
            if job.id in self._live:
                return self._live[job.id]
            job = self._queue.record(job.id)  # an event log is closed after its row has ended, so this is current
            if job.state in ("queued", "running"):
                return self.live(job)
        row = self._queue.row(job.id)
        if row is not None and row["log"]:
            return event_log_from_log(job.id, row["log"], partial(self._gallery.find, owner=job.owner))
        at = job.created_at
        rebuilt: list[events.JobEvent] = [events.Queued(job_id=job.id, attempt=job.attempt, at=at, position=0)]
        rebuilt += self._notices_and_images(job)
        for upload in job.prepared:
            rebuilt.append(events.Prepared(job_id=job.id, attempt=job.attempt, at=at, upload=upload))
        rebuilt.append(ending_of(job))
        return event_log_from_events(job.id, 0, rebuilt)

    def _notices_and_images(self, job: JobRecord) -> Sequence[events.JobEvent]:
        """The events of a job that the database keeps, in any state."""
        found: list[events.JobEvent] = []
        for code, message in self._queue.notices(job.id):
            found.append(
                events.Notice(job_id=job.id, attempt=job.attempt, at=job.created_at, code=code, message=message)
            )
        for image, record in self._gallery.of_job(job.id, job.owner):
            found.append(
                events.Saved(job_id=job.id, attempt=job.attempt, at=record.created_at, image=image, record=record)
            )
        return found

    def report_position(self, job_id: str, position: int, wait_s: float | None) -> None:
        """Append a waiting job's position to its event log, if it has changed."""
        with self._lock:
            event_log = self._live.get(job_id)
            if event_log is None or self._positions.get(job_id) == position:
                return
            self._positions[job_id] = position
        attempt = event_log.attempt
        event_log.append(
            events.Queued(job_id=job_id, attempt=attempt, at=time.time(), position=position, wait_s=wait_s)
        )

    def close(self, job: JobRecord, event_log: EventLog) -> None:
        """The job has ended: store its compact log, drop the event log from memory.

        Raises:
            StudioError: the log could not be written; the event log stays in memory until `close_late`.
        """
        with self._lock:
            self._unclosed[job.id] = job
            self._queue.save_log(job.id, event_log.compact_log())
            self._unclosed.pop(job.id, None)
            self._live.pop(job.id, None)
            self._positions.pop(job.id, None)

    def close_late(self) -> None:
        """Close the event logs whose log could not be written. Raises StudioError if it still can't."""
        for job in tuple(self._unclosed.values()):
            event_log = self._live.get(job.id)
            if event_log is not None:
                self.close(job, event_log)

    def extend(
        self,
        job: JobRecord,
        saved: Sequence[ImageRecord | StoredUpload],
        index_of: Mapping[str, int],
        is_complete: bool,
    ) -> None:
        """After a late save: append the images and maps, then the ending, with cursors above all before.

        Args:
            index_of: Which image of the job (0-based) each id is.
            is_complete: Whether the job is done now; else it keeps its ending.
        """
        found = self.of(job).since(0)
        event_log = event_log_from_events(job.id, 0, ())
        before_ending = []
        for cursor, event in zip(found.cursors, found.events, strict=True):
            if not events.is_ending(event):
                before_ending.append((cursor, event))
        event_log.restore(before_ending, found.cursor)
        now = time.time()
        for one in saved:
            if isinstance(one, StoredUpload):
                event_log.append(events.Prepared(job_id=job.id, attempt=job.attempt, at=now, upload=one))
            else:
                image = index_of.get(one.id, 0)
                event_log.append(events.Saved(job_id=job.id, attempt=job.attempt, at=now, image=image, record=one))
        if is_complete:
            seconds = now - job.created_at
            event_log.append(events.Done(job_id=job.id, attempt=job.attempt, at=now, seconds=seconds))
        else:
            event_log.append(found.events[-1])
        self.close(job, event_log)

    def is_followed(self, job_id: str) -> bool:
        """Whether anyone follows a live job at this moment."""
        event_log = self._live.get(job_id)
        return event_log is not None and event_log.is_followed


def ending_of(job: JobRecord) -> events.JobEvent:
    """The last event of an ended job, from its row."""
    at = job.finished_at or job.created_at
    if job.state == "done":
        return events.Done(job_id=job.id, attempt=job.attempt, at=at, seconds=max(0.0, at - job.created_at))
    if job.state == "cancelled":
        return events.Cancelled(job_id=job.id, attempt=job.attempt, at=at)
    if job.state == "interrupted":
        return events.Interrupted(job_id=job.id, attempt=job.attempt, at=at)
    if job.state != "failed":
        raise StudioError(f"Job {job.id} has not ended.", code="internal")
    return events.Failed(
        job_id=job.id,
        attempt=job.attempt,
        at=at,
        code=job.error_code or "job_failed",
        message=job.error_message or "The job failed.",
        hint=job.error_hint or "",
    )
