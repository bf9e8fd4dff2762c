"""The event logs of all jobs: live ones in memory, ended ones built again from their row when someone asks."""

import threading
import time
from collections.abc import Callable, Sequence

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
        self._said: dict[str, int] = {}
        self._unclosed: dict[str, JobRecord] = {}
        # Cursors of this run of the program lie above those of all earlier runs.
        self._first_cursor = int(time.time() * _CURSORS_PER_SECOND)

    def live(self, job: JobRecord) -> EventLog:
        """The event log of a job that has not ended; the first call makes it, Queued first."""
        with self._lock:
            event_log = self._live.get(job.id)
            if event_log is None:
                position, wait_s = self._place_of(job.id)
                self._said[job.id] = position
                first = events.Queued(
                    job_id=job.id, attempt=job.attempt, at=time.time(), position=position, wait_s=wait_s
                )
                said = (first, *self._notices(job), *self._saved(job))
                event_log = self._live[job.id] = event_log_from_events(job.id, self._first_cursor, said)
            return event_log

    def of(self, job: JobRecord) -> EventLog:
        """The event log of any job. What the caller knows of its state may be old by now."""
        with self._lock:
            if job.id in self._live:
                return self._live[job.id]
            job = self._queue.record(job.id)  # an event log is closed after its row has ended, so this is the truth
            if job.state in ("queued", "running"):
                return self.live(job)
        row = self._queue.row(job.id)
        if row is not None and row["log"]:
            return event_log_from_log(job.id, row["log"], lambda image_id: self._gallery.find(image_id, job.owner))
        at = job.created_at
        first = events.Queued(job_id=job.id, attempt=job.attempt, at=at, position=0)
        return event_log_from_events(
            job.id, 0, (first, *self._notices(job), *self._saved(job), *_prepared(job), ending_of(job))
        )

    def _notices(self, job: JobRecord) -> Sequence[events.JobEvent]:
        return [
            events.Notice(job_id=job.id, attempt=job.attempt, at=job.created_at, code=code, message=message)
            for code, message in self._queue.notices(job.id)
        ]

    def _saved(self, job: JobRecord) -> Sequence[events.JobEvent]:
        return [
            events.Saved(job_id=job.id, attempt=job.attempt, at=record.created_at, image=image, record=record)
            for image, record in self._gallery.of_job(job.id, job.owner)
        ]

    def say_position(self, job_id: str, position: int, wait_s: float | None) -> None:
        """Tell the followers of a waiting job, if its position changed."""
        with self._lock:
            event_log = self._live.get(job_id)
            if event_log is None or self._said.get(job_id) == position:
                return
            self._said[job_id] = position
        event_log.append(events.Queued(job_id=job_id, at=time.time(), position=position, wait_s=wait_s))

    def close(self, job: JobRecord, event_log: EventLog) -> None:
        """The job has ended: keep its compact log, let go of the event log.

        Raises:
            StudioError: the log could not be written; the event log stays in memory until `close_late`.
        """
        with self._lock:
            self._unclosed[job.id] = job
            self._queue.save_log(job.id, event_log.compact_log())
            self._unclosed.pop(job.id, None)
            self._live.pop(job.id, None)
            self._said.pop(job.id, None)

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
        image_of: Callable[[str], int],
        is_complete: bool,
    ) -> None:
        """After a late save: the pictures and maps, then the ending, with cursors above all before."""
        found = self.of(job).since(0)
        kept = [(n, e) for n, e in zip(found.cursors, found.events, strict=True) if not events.is_ending(e)]
        event_log = event_log_from_events(job.id, 0, ())
        event_log.restore(kept, found.cursor)
        now = time.time()
        for one in saved:
            event_log.append(
                events.Prepared(job_id=job.id, attempt=job.attempt, at=now, upload=one)
                if isinstance(one, StoredUpload)
                else events.Saved(job_id=job.id, attempt=job.attempt, at=now, image=image_of(one.id), record=one)
            )
        last = found.events[-1]
        event_log.append(
            events.Done(job_id=job.id, attempt=job.attempt, at=now, seconds=now - job.created_at)
            if is_complete
            else last
        )
        self.close(job, event_log)

    def is_followed(self, job_id: str) -> bool:
        """Whether anyone follows a live job at this moment."""
        event_log = self._live.get(job_id)
        return event_log is not None and event_log.is_followed


def _prepared(job: JobRecord) -> Sequence[events.JobEvent]:
    return [
        events.Prepared(job_id=job.id, attempt=job.attempt, at=job.created_at, upload=made) for made in job.prepared
    ]


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
