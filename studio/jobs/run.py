"""A job while it runs: its attempts, what is generated and saved so far, and how it ends.

The dispatcher makes one for each job it takes (`dispatcher.py`). Knows no worker and no thread.
"""

import logging
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple, TypedDict

from contract import events
from contract.errors import JobError, StudioError
from contract.records import JobRecord, JobState
from contract.work import WorkCancelled, WorkDone, WorkerEvent, WorkFailed
from studio.jobs.event_log import EventLog
from studio.jobs.progress import Meter

logger = logging.getLogger(__name__)
POLL_S = 0.5  # between two looks whether the job is cancelled while something is waited for
_HASH_S = 600.0  # from a job's start that its images wait for hashes: the largest file on a slow disk


class _Stamp(TypedDict):
    job_id: str
    attempt: int
    at: float


class Ending(NamedTuple):
    """How a job ended. error: code, message and hint, for its row; None unless it failed."""

    state: JobState
    event: events.JobEvent
    error: tuple[str, str, str] | None = None


@dataclass(slots=True)
class Run:
    """A job while it runs.

    Attributes:
        began: When it was started, by the monotonic clock.
        made: Indices of the images that are generated, by this attempt or an earlier one.
        saved: Indices of those that are saved.
        hashes: sha256 of its models as they were when it began, by `path_key`.
        unsaved: Why an image could not be saved.
        generated: How many images this run of the program has generated, and in how many seconds.
    """

    job: JobRecord
    event_log: EventLog
    meter: Meter
    began: float
    attempt: int
    is_cancelled: bool = False
    made: set[int] = field(default_factory=set)
    saved: set[int] = field(default_factory=set)
    hashes: "dict[str, Future[str]]" = field(default_factory=dict)
    unsaved: StudioError | None = None
    generated: int = 0
    generating_s: float = 0.0
    last_loading_at: float = 0.0

    def stamp(self) -> _Stamp:
        """The fields that every event of the job has."""
        return {"job_id": self.job.id, "attempt": self.attempt, "at": time.time()}

    def known_hashes(self) -> dict[str, str]:
        """Hashes of its models, by `path_key`; waits for those under way.

        No image is lost for a hash: one that takes too long is left out.
        """
        until = self.began + _HASH_S
        hashes: dict[str, str] = {}
        for key, future in self.hashes.items():
            sha256 = self._wait_for_hash(future, until)
            if sha256:
                hashes[key] = sha256
        return hashes

    def _wait_for_hash(self, future: "Future[str]", until: float) -> str | None:
        """A hash, waited for unless the job is cancelled; None for a file that changed or is gone by now."""
        while True:
            try:
                return future.result(POLL_S)
            except TimeoutError:
                if self.is_cancelled:
                    return None
                if time.monotonic() >= until:
                    logger.warning("an image of job %s is saved without a model's hash: it takes too long", self.job.id)
                    return None
            except (OSError, StudioError) as error:
                logger.warning("a model of job %s has no hash: %s", self.job.id, error)
                return None

    def ending(self, last: WorkerEvent, seconds: float) -> Ending:
        """How the job ended by the worker's last event, counting the images that are saved."""
        stamp = self.stamp()
        if isinstance(last, WorkCancelled):
            return Ending("cancelled", events.Cancelled(**stamp))
        count = self.job.task.picture_count
        failure: WorkFailed | StudioError
        if isinstance(last, WorkFailed):
            failure = last
        elif self.unsaved is not None:
            failure = self.unsaved
        elif isinstance(last, WorkDone) and len(self.saved) >= count:
            return Ending("done", events.Done(**stamp, seconds=seconds))
        else:
            failure = JobError(
                f"The engine ended after {len(self.saved)} of {count} pictures.",
                "Run the job again.",
                code="pictures_missing",
            )
        failed = events.Failed(
            **stamp,
            code=failure.code,
            message=failure.message,
            hint=failure.hint,
            field=failure.field,
            fix=failure.fix or None,
        )
        return Ending("failed", failed, (failed.code, failed.message, failed.hint))
