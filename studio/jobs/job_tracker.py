"""Jobs from the moment they are queued: positions, event logs, cancelling, and images that are saved late.

The dispatchers report here (`JobListener`); the page and the API ask here. How a draft becomes a job is in
`studio/submission.py`.
"""

import logging
import threading
import time
from collections.abc import Sequence

from contract.errors import RequestError, StorageFull, StudioError
from contract.events import Cancelled, JobEvent
from contract.records import ImageRecord, JobHandle, JobRecord, JobView, QueueRow, StoredUpload
from contract.tasks import Task
from studio.extensions import Extensions
from studio.gallery.gallery import Gallery
from studio.jobs.costs import Rates
from studio.jobs.dispatcher import Dispatcher, saving
from studio.jobs.engine_pool import EnginePool
from studio.jobs.event_log import EventLog
from studio.jobs.event_logs import EventLogs
from studio.jobs.progress import JobProgress
from studio.jobs.queue import JobQueue, NewJob
from studio.jobs.queue_view import QueueView
from studio.jobs.router import Router
from studio.jobs.saver import Saver
from studio.library.model_list import ModelList

logger = logging.getLogger(__name__)


class JobTracker:
    """All jobs of one studio.

    Args:
        pool: The engine's workers, which may read the next job's model ahead.
    Attributes:
        dispatchers: Those of all queues, by their worker's name; whoever makes one adds it here.
        event_logs: The event logs of all jobs.
        router: Plans which worker runs what.
    """

    def __init__(
        self,
        queue: JobQueue,
        gallery: Gallery,
        saver: Saver,
        rates: Rates,
        models: ModelList,
        pool: EnginePool,
        extensions: Extensions,
    ) -> None:
        self._queue = queue
        self._gallery = gallery
        self._saver = saver
        self._pool = pool
        self._extensions = extensions
        self.router = Router(queue, pool, models, rates, self._progress)
        self._view = QueueView(queue, self.router, rates, self._progress)
        self._announcing = threading.Lock()
        self.event_logs = EventLogs(queue, gallery, self._view.place)
        self.dispatchers: dict[str, Dispatcher] = {}

    def _progress(self, job_id: str) -> JobProgress | None:
        for dispatcher in tuple(self.dispatchers.values()):
            progress = dispatcher.progress(job_id)
            if progress is not None:
                return progress
        return None

    # For the dispatchers

    def log_of(self, job: JobRecord) -> EventLog:
        """The event log of a job that has not ended."""
        return self.event_logs.live(job)

    def on_queue_changed(self) -> None:
        """Report new positions to the followers of waiting jobs."""
        with self._announcing:
            for job_id, (position, wait_s) in self._view.places().items():
                self.event_logs.report_position(job_id, position, wait_s)

    def on_event(self, event: JobEvent) -> None:
        """Pass an event on to the extensions."""
        self._extensions.watch("on_event", event=event)

    def on_image_started(self, worker: str) -> None:
        """Let a worker read the model of its next job into memory while this one runs."""
        prefetch = self.router.prefetch(worker)
        if prefetch is not None:
            self._pool.tell(prefetch, worker)

    def on_ended(self, job: JobRecord, event_log: EventLog) -> None:
        """Keep the compact log of an ended job."""
        try:
            self.event_logs.close(job, event_log)
        except StudioError as error:
            logger.warning("the log of job %s could not be kept: %s", job.id, error.message)

    # For the page and the API

    def enqueue(
        self, task: Task, owner: str, session: str | None, notices: Sequence[tuple[str, str]] = ()
    ) -> JobHandle:
        """Add a job to its queue. Raises QueueFull."""
        return self.enqueue_all([(task, notices)], owner, session)

    def enqueue_all(self, asked: Sequence[NewJob], owner: str, session: str | None) -> JobHandle:
        """Add jobs to one queue, all or none. Raises QueueFull."""
        first, *further = self._queue.add(asked, owner, session)
        for job in (first, *further):
            self.event_logs.of(job)
        self.on_queue_changed()
        position = self._view.place(first.id)[0]
        return JobHandle(id=first.id, position=position, further=tuple(job.id for job in further))

    def view(self, job_id: str, owner: str) -> JobView:
        """A job with its progress. Raises NotFound for unknown or another owner's."""
        return self._view.job(self._queue.record(job_id, owner))

    def cancel(self, job_id: str, owner: str) -> None:
        """Stop a job, waiting or running; one that has ended stays as it is. Raises NotFound."""
        job = self._queue.record(job_id, owner)
        for _ in range(2):  # between two of these looks a job may be handed over to another worker, once
            if self._queue.withdraw(job_id, owner):
                self.router.forget(job_id)
                event_log = self.event_logs.live(job)
                event = Cancelled(job_id=job_id, attempt=job.attempt, at=time.time())
                event_log.append(event)
                self.on_event(event)
                self.on_ended(job, event_log)
                self.on_queue_changed()
                return
            worker = self._queue.worker_of(job_id)
            dispatcher = self.dispatchers.get(worker) if worker else None
            if dispatcher is not None:
                dispatcher.cancel(job_id)
                if self._queue.worker_of(job_id) == worker:
                    return

    def event_log(self, job_id: str, owner: str) -> EventLog:
        """The event log of a job, to follow it. Raises NotFound."""
        return self.event_logs.of(self._queue.record(job_id, owner))

    def move_up(self, job_id: str, owner: str) -> None:
        """Let a waiting job go before the one before it of the same owner. Raises NotFound."""
        self._queue.move_up(job_id, owner)
        self.on_queue_changed()

    def rows(self, owner: str) -> tuple[QueueRow, ...]:
        """The running and waiting jobs, and the owner's that ended today. Rows of others show only durations."""
        return self._view.rows(owner)

    def of_session(self, owner: str, session: str) -> tuple[JobRecord, ...]:
        """A browser session's unfinished jobs, oldest first."""
        return self._queue.records("owner = ? AND session = ? AND state IN ('queued', 'running')", (owner, session))

    def to_follow(self, owner: str, session: str) -> JobRecord | None:
        """The job that a page shows when it loads.

        Its session's running or first unfinished job, else the owner's newest unfinished job of a session that
        follows nothing.
        """
        own = [job for job in self.of_session(owner, session) if job.task.queue_name == "engine"]
        for job in own:
            if job.state == "running":
                return job
        if own:
            return own[0]
        jobs = self._queue.records("owner = ? AND state IN ('queued', 'running')", (owner,))
        followed_jobs = {job.id for job in jobs if self.event_logs.is_followed(job.id)}
        followed_sessions = {job.session for job in jobs if job.id in followed_jobs and job.session is not None}
        for job in reversed(jobs):
            is_free = job.id not in followed_jobs and job.session not in followed_sessions
            if is_free and job.task.queue_name == "engine":
                return job
        return None

    def retry_save(self, job_id: str, owner: str) -> tuple[ImageRecord, ...]:
        """Save what could not be saved and is still in memory; the job is done when nothing of it is missing.

        Raises:
            NotFound: nothing is kept of this job.
            RequestError: it still runs.
            StorageFull: something can still not be saved; what could be is.
        """
        job = self._queue.record(job_id, owner)
        if job.state in ("queued", "running"):
            raise RequestError("The job still runs.", "Try again when it has ended.", code="job_running")
        with saving():
            retried = self._saver.retry(job.id)
        maps = [saved for saved in retried.saved if isinstance(saved, StoredUpload)]
        count = len(maps) or len(self._gallery.finished_of_job(job.id))
        is_complete = (
            retried.problem is None and count >= job.task.picture_count and job.error_code in StorageFull.codes
        )
        index_of = {record.id: index for index, record in self._gallery.of_job(job.id, owner)}
        self.event_logs.extend(job, retried.saved, index_of, is_complete)
        if is_complete:
            self._queue.finish(job.id, "done")
        if retried.problem:
            raise retried.problem
        return tuple(saved for saved in retried.saved if isinstance(saved, ImageRecord))
