"""Takes the next job of a queue, runs it on its worker, and turns worker events into job events.

One dispatcher per worker: the engine queue has as many as it has devices, each other queue one, so that generating
waits for no download. Each has two threads: one drives the worker, one saves, so that an image is written while the
next is generated. Which job a worker takes is `router.py`'s.
Broad `except`s stand only here, in `extension_calls.py` and where an engine is made (`workers/inline.py`); each logs
the traceback.
"""

import logging
import queue as standard_queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from contract import events
from contract.errors import NotFound, StorageFull, StudioError
from contract.model_tasks import QueueName
from contract.records import JobRecord, StoredUpload
from contract.tasks import Generate, Preprocess, Upscale
from contract.work import (
    WORK_ENDINGS,
    RawImage,
    WorkCancelled,
    WorkDone,
    WorkerEvent,
    WorkFailed,
    WorkImage,
    WorkItem,
    WorkLoading,
    WorkNotice,
    WorkStep,
)
from studio.gallery.gallery import Gallery
from studio.gallery.thumbnails import jpeg
from studio.jobs.costs import Rates, billed, cost
from studio.jobs.engine_pool import EnginePool
from studio.jobs.event_log import EventLog
from studio.jobs.progress import JobProgress, Meter
from studio.jobs.queue import JobQueue
from studio.jobs.router import Router
from studio.jobs.run import POLL_S, Run
from studio.jobs.saver import Saver
from studio.jobs.work_items import build_work_item
from studio.library.hashes import ModelHashes
from studio.library.model_list import ModelList
from studio.metadata.recipe_hashes import files_to_hash
from studio.uploads.owned_uploads import OwnedUploads

logger = logging.getLogger(__name__)
_RETRIED_CODES = ("worker_died", "worker_hung")
_MOST_ATTEMPTS = 2
_LOADING_INTERVAL_S = 0.25
_HELD_S = 1.0  # between two looks whether a job that is held back can start
_FLUSH_S = 60.0
_JOIN_LOOK_S = 0.05  # between two looks for a job that may join


class Runner(Protocol):
    """The part of a worker that a dispatcher uses."""

    def run(self, work_items: Sequence[WorkItem]) -> Iterator[WorkerEvent]:
        """As of `contract.work.Worker`."""

    def cancel(self, job_id: str) -> None:
        """As of `contract.work.Worker`."""


class JobListener(Protocol):
    """Receives a dispatcher's reports; `job_tracker.py` implements it."""

    def log_of(self, job: JobRecord) -> EventLog:
        """The event log of a job that has not ended."""

    def on_queue_changed(self) -> None:
        """A job has left the queue or ended."""

    def on_event(self, event: events.JobEvent) -> None:
        """An event of a job, Steps left out."""

    def on_image_started(self, worker: str) -> None:
        """A worker has made the first step of an image."""

    def on_ended(self, job: JobRecord, event_log: EventLog) -> None:
        """A job has ended; its last event is in the log."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The collaborators of all dispatchers."""

    queue: JobQueue
    router: Router
    pool: EnginePool
    jobs: JobListener
    models: ModelList
    uploads: OwnedUploads
    hashes: ModelHashes
    gallery: Gallery
    saver: Saver
    rates: Rates
    previews: bool


@contextmanager
def saving() -> Iterator[None]:
    """Turn every failure to save an image into a StorageFull: the pixels are kept for another try.

    Raises:
        StorageFull: with the cause in words, or its kind if it has none.
    """
    try:
        yield
    except (StorageFull, NotFound):
        raise
    except StudioError as error:
        code = f"storage_{error.code}"
        if code not in StorageFull.codes:
            code = "storage_failed"
        raise StorageFull(error.message, error.hint, code=code) from None
    except Exception as error:
        logger.exception("an image could not be saved")
        raise StorageFull(
            f"The picture could not be saved ({type(error).__name__}).",
            "Details are in the log. Press Try again; the picture is kept in memory.",
            code="storage_failed",
        ) from None


class Dispatcher:
    """Runs the jobs of one queue on one worker until it is stopped.

    Attributes:
        name: Its worker's; in a queue of model tasks the queue's.
        held: Why waiting jobs don't start, as a sentence; "" if they do.
    """

    def __init__(self, tools: Tools, queue_name: QueueName, name: str, worker: Runner) -> None:
        self._tools = tools
        self.queue_name: QueueName = queue_name
        self.name = name
        self._worker = worker
        self._stopping = threading.Event()
        self._is_retired = False
        self.held = ""
        self._running: dict[str, Run] = {}  # by job: one, and those that joined it
        self._looked_at = 0.0  # for a job that may join
        self._cancelled_early: set[str] = set()
        self._lock = threading.Lock()
        self._to_save: standard_queue.SimpleQueue[Callable[[], None] | None] = standard_queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def start(self, ready: threading.Event) -> None:
        """Begin; the first job waits until `ready` is set (at most ten seconds)."""
        prefix = self.name
        self._threads = [
            threading.Thread(target=self._dispatch, args=(ready,), name=f"{prefix}-dispatcher", daemon=True),
            threading.Thread(target=self._save_all, name=f"{prefix}-saver", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def retire(self) -> None:
        """Take no more jobs: the worker is lost. Another tries the one that runs."""
        self._is_retired = True
        self._tools.queue.wake()

    def begin_stop(self) -> None:
        """Take no more jobs; the worker is to be stopped now."""
        self._stopping.set()
        self._tools.queue.wake()

    def stop(self, timeout_s: float) -> None:
        """End both threads; images that are generated are still saved."""
        self.begin_stop()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def cancel(self, job_id: str) -> None:
        """Cancel a job that was taken from the queue, running yet or not; nothing if it has ended."""
        with self._lock:
            run = self._running.get(job_id)
            if run is None:
                self._cancelled_early.add(job_id)
                return
            run.is_cancelled = True
        self._worker.cancel(job_id)

    def progress(self, job_id: str) -> JobProgress | None:
        """The progress of a running job; None if it does not run."""
        run = self._running.get(job_id)
        return run.meter.now if run else None

    # The dispatching thread

    def _dispatch(self, ready: threading.Event) -> None:
        ready.wait(10.0)
        try:
            while not (self._stopping.is_set() or self._is_retired):
                if not _run_safely(self._run_next):
                    for job in self._tools.queue.at_worker(self.name):
                        self._tools.queue.leave_worker(job.id, self.name)
                    self._stopping.wait(1.0)
        finally:
            self._to_save.put(None)

    def _wait_for_job(self) -> JobRecord | None:
        """A waiting job that can run here now; one whose images could not be saved is held back."""
        choose = partial(self._tools.router.choose, self.name, self.queue_name)
        job = self._tools.queue.next(1.0, self.queue_name, choose)
        held = "" if job is None else self._why_held(job)
        if bool(held) != bool(self.held):
            logger.warning("%s", held or "the queue continues")
        self.held = held
        return None if held else job

    def _why_held(self, job: JobRecord) -> str:
        """Why a job can't start, as a sentence; "" if it can."""
        if isinstance(job.task, Generate | Upscale):  # other results are not saved in outputs/
            try:
                self._tools.saver.check_room(job)
            except StorageFull as error:
                return f"{error.message} {error.hint}"
        return ""

    def _run_next(self) -> None:
        chosen = self._wait_for_job()
        if chosen is None:
            self._stopping.wait(_HELD_S if self.held else 0.0)
            return
        if self._stopping.is_set() or self._is_retired:
            return
        run = self._take(chosen)
        runs = [run] if run is not None else []
        while runs:
            runs += self._attempt(runs.pop(0))

    def _take(self, chosen: JobRecord) -> Run | None:
        """Take a job from the queue; None if it does not wait any more."""
        tools = self._tools
        job = tools.queue.take(chosen.id, self.queue_name, self.name)
        if job is None:
            return None
        run = tools.router.on_taken(self.name, job)
        if run is None:
            run = Run(job, tools.jobs.log_of(job), Meter(job.task.picture_count), time.monotonic(), job.attempt)
            run.made = set(tools.gallery.finished_of_job(job.id))
            run.saved = set(run.made)
        with self._lock:
            self._running[job.id] = run
            run.is_cancelled = run.is_cancelled or job.id in self._cancelled_early
        tools.jobs.on_queue_changed()
        model = billed(job.task) or "no model"
        logger.info("job %s starts: %s with %s, %d", job.id, job.task.type, model, job.task.picture_count)
        return run

    def _attempt(self, first: Run) -> list[Run]:
        """Run a job on the worker, and those that join it, to their ends; returns those to be tried (again) here."""
        runs, later = {first.job.id: first}, []

        def settle(job_id: str, ending: WorkerEvent) -> None:
            run = runs.pop(job_id)
            if self._settle(run, ending):
                later.append(run)

        try:
            begun = self._begin(first)
            if not isinstance(begun, WorkItem):
                settle(first.job.id, begun)
                return later
            for event in self._worker.run([begun]):
                run = runs.get(event.job_id)
                if run is None:
                    continue
                if isinstance(event, WORK_ENDINGS):
                    settle(event.job_id, event)
                else:
                    self._translate(run, event)
                    if run.is_cancelled:
                        self._worker.cancel(event.job_id)  # again: the worker may not have had the job before
                joining = self._next_to_join(len(runs)) if runs else None
                if joining is None:
                    continue
                runs[joining.job.id] = joining
                begun = self._begin(joining)
                if not isinstance(begun, WorkItem):
                    settle(joining.job.id, begun)
                elif not self._tools.pool.join(self.name, begun):
                    later.append(runs.pop(joining.job.id))
            failure = WorkFailed("", "worker_died", "The engine ended unexpectedly.", "Try again.")
        except StudioError as error:
            failure = WorkFailed("", error.code, error.message, error.hint, error.field, error.fix)
        except Exception as error:
            logger.exception("job %s failed unexpectedly", ", ".join(runs))
            message = f"The job failed unexpectedly ({type(error).__name__})."
            failure = WorkFailed("", "internal", message, "Details are in the log.")
        for job_id in tuple(runs):
            settle(job_id, replace(failure, job_id=job_id))
        return later

    def _next_to_join(self, count: int) -> Run | None:
        """The next job of this worker, taken from the queue, if it may run beside the `count` that run."""
        now = time.monotonic()
        if self._stopping.is_set() or self._is_retired or now - self._looked_at < _JOIN_LOOK_S:
            return None
        self._looked_at = now
        job = self._tools.router.joining(self.name, count)
        if job is None or self._why_held(job):
            return None
        return self._take(job)

    def _begin(self, run: Run) -> WorkItem | WorkerEvent:
        """The work item of an attempt; or how the attempt ends without one."""
        tools, job_id = self._tools, run.job.id
        run.meter = Meter(run.job.task.picture_count, len(run.made))
        if run.is_cancelled:
            return WorkCancelled(job_id)
        try:
            job = run.job.model_copy(update={"attempt": run.attempt})
            if run.attempt != run.job.attempt:
                tools.queue.set_attempt(job_id, run.attempt)
            work_item = build_work_item(
                job, tools.models, tools.uploads.files, frozenset(run.made), previews=tools.previews
            )
        except StudioError as error:
            return WorkFailed(job_id, error.code, error.message, error.hint, error.field, error.fix)
        if 0 < run.job.task.picture_count <= len(run.made):
            return WorkDone(job_id, 0.0)
        for key, path in files_to_hash(work_item).items():
            with suppress(OSError):  # a missing file is reported when it is loaded
                run.hashes[key] = tools.hashes.request(path)
        return work_item

    def _settle(self, run: Run, ending: WorkerEvent) -> bool:
        """Take in how an attempt ended; returns whether the job is to be tried again here."""
        tools, job = self._tools, run.job
        is_over = True
        if self._is_retired and isinstance(ending, WorkCancelled) and not run.is_cancelled:
            ending = WorkFailed(job.id, "worker_died", "The worker is gone.", "Run the job again.")
        if run.is_cancelled and isinstance(ending, WorkFailed):
            ending = WorkCancelled(job.id)
        elif self._stopping.is_set() and not isinstance(ending, WorkDone) and not run.is_cancelled:
            is_over = False
        elif isinstance(ending, WorkFailed) and ending.code in _RETRIED_CODES:
            if run.attempt < job.attempt + _MOST_ATTEMPTS - 1:
                self._flush_saver(run)
                run.attempt += 1
                message = "The engine stopped and is starting again; your job is tried once more."
                self._report(run, events.Notice(**run.stamp(), code="engine_restarted", message=message))
                if not tools.router.hand_over(self.name, run):
                    return True
                is_over = False
        with self._lock:
            del self._running[job.id]
        tools.queue.leave_worker(job.id, self.name)
        if is_over:
            self._to_save.put(partial(self._end, run, ending))
        elif job.task.queue_name != "engine":
            # The program stops under a model task: it goes on at the next start, however often that happens.
            try:
                tools.queue.put_back(job.id)
            except StudioError as error:
                logger.warning("job %s could not be put back: %s", job.id, error.message)
        return False

    def _translate(self, run: Run, event: WorkerEvent) -> None:
        """Report a worker event as a job event; images go to the saving thread."""
        stamp = run.stamp()
        if isinstance(event, WorkStep):
            if event.index == 1:
                self._tools.jobs.on_image_started(self.name)
            now = run.meter.step(event.image, event.index, event.total)
            preview = jpeg(event.preview) if event.preview else None
            step = events.Step(
                **stamp, image=event.image, index=event.index, total=event.total, left_s=now.left_s, preview=preview
            )
            self._report(run, step)
        elif isinstance(event, WorkLoading):
            now_s = time.monotonic()
            if run.job.task.queue_name != "engine":
                run.meter.loaded(event.fraction, event.done_bytes, event.total_bytes, event.left_s)
            if event.fraction is None or now_s - run.last_loading_at >= _LOADING_INTERVAL_S:
                run.last_loading_at = now_s
                loading = events.Loading(
                    **stamp,
                    what=event.what,
                    fraction=event.fraction,
                    done_bytes=event.done_bytes,
                    total_bytes=event.total_bytes,
                    left_s=event.left_s,
                )
                self._report(run, loading)
        elif isinstance(event, WorkNotice):
            self._report(run, events.Notice(**stamp, code=event.code, message=event.message))
        elif isinstance(event, WorkImage):
            run.meter.image_made()
            run.made.add(event.image)
            run.generated += 1
            run.generating_s += event.seconds * event.share
            self._to_save.put(partial(self._save, run, event))

    def _report(self, run: Run, event: events.JobEvent) -> None:
        run.event_log.append(event)
        if not isinstance(event, events.Step):
            self._tools.jobs.on_event(event)

    # The saving thread

    def _save_all(self) -> None:
        while True:
            work = self._to_save.get()
            if work is None:
                return
            _run_safely(work)

    def _flush_saver(self, run: Run) -> None:
        """Let images be saved before the job is tried again; for a minute at most, and not once it is cancelled."""
        done = threading.Event()
        self._to_save.put(done.set)
        until = time.monotonic() + _FLUSH_S
        while not done.wait(POLL_S) and time.monotonic() < until:
            if run.is_cancelled or self._stopping.is_set():
                return

    def _save(self, run: Run, image: WorkImage) -> None:
        tools, job = self._tools, run.job

        def keep_map(pixels: RawImage) -> StoredUpload:
            kept = tools.uploads.add_raw(pixels, job.owner)
            tools.queue.add_prepared(job, kept)
            return kept

        try:
            with saving():
                if isinstance(job.task, Preprocess):
                    upload = tools.saver.save_map(job, image.pixels, keep_map)
                    self._report(run, events.Prepared(**run.stamp(), upload=upload))
                else:
                    record, notices = tools.saver.save(job, image, run.known_hashes)
                    for code, message in notices:
                        self._report(run, events.Notice(**run.stamp(), code=code, message=message))
                    self._report(run, events.Saved(**run.stamp(), image=image.image, record=record))
        except StudioError as error:
            run.unsaved = error
            return
        run.saved.add(image.image)

    def _end(self, run: Run, last: WorkerEvent) -> None:
        job = run.job
        seconds = round(time.monotonic() - run.began, 3)
        state, event, error = run.ending(last, seconds)
        logger.info("job %s %s after %.1f s", job.id, state, seconds)
        try:
            self._tools.queue.finish(job.id, state, seconds=seconds, error=error)
            if state == "done" and run.generating_s:
                share = run.generated / job.task.picture_count
                self._tools.rates.learn(billed(job.task), cost(job.task) * share, run.generating_s)
        except StudioError as problem:
            logger.warning("the end of job %s could not be recorded: %s", job.id, problem.message)
        self._cancelled_early.discard(job.id)
        self._report(run, event)
        self._tools.jobs.on_ended(job, run.event_log)
        self._tools.jobs.on_queue_changed()


def _run_safely(work: Callable[[], None]) -> bool:
    """Run one piece of a thread's work; False if it failed unexpectedly, which is logged: the thread goes on."""
    try:
        work()
    except Exception:
        logger.exception("unexpected error in %s; continuing", threading.current_thread().name)
        return False
    return True
