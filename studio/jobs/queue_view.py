"""The queue as people see it: positions, predicted waits, rows of the drawer, one job with its progress."""

import math
import time
from collections.abc import Callable

from contract.model_tasks import QUEUE_NAMES
from contract.records import JobRecord, JobView, QueueRow
from studio.jobs.costs import Rates, billed, cost
from studio.jobs.progress import JobProgress
from studio.jobs.queue import JobQueue
from studio.jobs.router import Router

_SHOWN_PROMPT = 200
_MOST_FINISHED = 50


class QueueView:
    """Reads the queue; changes nothing."""

    def __init__(
        self, queue: JobQueue, router: Router, rates: Rates, progress: Callable[[str], JobProgress | None]
    ) -> None:
        self._queue = queue
        self._router = router
        self._rates = rates
        self._progress = progress

    def places(self) -> dict[str, tuple[int, float | None]]:
        """job id -> (jobs of its queue before it that run or wait, predicted seconds until it starts)."""
        places = {}
        for queue_name in QUEUE_NAMES:
            position = self._queue.running(queue_name)
            planned = {route.job_id: route.starts_in_s for route in self._router.routes(queue_name)}
            for waiting in self._queue.waiting(queue_name):
                places[waiting.id] = (position, _rounded(planned.get(waiting.id)))
                position += 1
        return places

    def place(self, job_id: str) -> tuple[int, float | None]:
        """As `places`, of one job; (0, None) if it does not wait."""
        return self.places().get(job_id, (0, None))

    def _left_s(self, job: JobRecord) -> float | None:
        progress = self._progress(job.id)
        if progress and progress.left_s is not None:
            return progress.left_s
        return self._predict(job)

    def _predict(self, job: JobRecord) -> float | None:
        if job.task.queue_name != "engine":
            return None
        return self._rates.predict(billed(job.task), cost(job.task))

    def job(self, job: JobRecord) -> JobView:
        """A job with its position or progress."""
        if job.state == "queued":
            return JobView(job=job, position=self.place(job.id)[0])
        if job.state != "running":
            return JobView(job=job, progress=1.0 if job.state == "done" else 0.0)
        now = self._progress(job.id) or JobProgress()
        return JobView(
            job=job,
            image=now.image,
            step=now.step,
            total_steps=now.total_steps,
            progress=round(now.fraction, 4),
            left_s=now.left_s,
            done_bytes=now.done_bytes,
            total_bytes=now.total_bytes,
        )

    def rows(self, owner: str) -> tuple[QueueRow, ...]:
        """The running jobs, the waiting ones in their order, then the owner's that ended today, newest first."""
        places = self.places()
        ids = [waiting.id for queue_name in QUEUE_NAMES for waiting in self._queue.waiting(queue_name)]
        order = {job_id: index for index, job_id in enumerate(ids)}
        midnight = time.mktime((*time.localtime()[:3], 0, 0, 0, 0, 0, -1))
        # Read at once: a job that starts or ends between two looks would be in neither, or in both.
        jobs = self._queue.records(
            "state IN ('queued', 'running') OR owner = ? AND finished_at >= ?", (owner, midnight)
        )
        rows = [self._row(job, owner, 0, None, self._left_s(job)) for job in jobs if job.state == "running"]
        queued = [job for job in jobs if job.state == "queued"]
        for job in sorted(queued, key=lambda job: order.get(job.id, len(order))):
            position, wait_s = places.get(job.id, (0, None))
            rows.append(self._row(job, owner, position, wait_s, self._predict(job)))
        ended = [job for job in jobs if job.state not in ("queued", "running") and job.owner == owner]
        for job in reversed(ended[-_MOST_FINISHED:]):
            rows.append(self._row(job, owner, 0, None, self._queue.seconds_of(job.id)))
        return tuple(rows)

    def _row(self, job: JobRecord, owner: str, position: int, wait_s: float | None, seconds: float | None) -> QueueRow:
        if job.owner != owner:
            return QueueRow(
                mine=False, state=job.state, position=position, starts_in_s=wait_s, seconds=_rounded(seconds)
            )
        now = self._progress(job.id) or JobProgress()
        return QueueRow(
            mine=True,
            state=job.state,
            type=job.task.type,
            job_id=job.id,
            prompt=job.task.title[:_SHOWN_PROMPT],
            message=job.error_message,
            hint=job.error_hint,
            progress=round(now.fraction, 4),
            left_s=_rounded(now.left_s),
            done_bytes=now.done_bytes,
            total_bytes=now.total_bytes,
            position=position,
            starts_in_s=wait_s,
            seconds=_rounded(seconds),
            image_ids=job.image_ids,
        )


def _rounded(seconds: float | None) -> float | None:
    if seconds is None or seconds == math.inf:
        return None
    return round(seconds, 1)
