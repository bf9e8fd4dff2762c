"""Takes the next job of a queue, runs it on its worker, and turns what the worker says into job events.

One dispatcher per lane, so that painting waits for no download. Each has two threads: one drives the worker, one saves,
so that a picture is written while the next is painted.
Broad `except`s stand only here, in `extension_calls.py` and where an engine is made (`workers/inline.py`); each logs
the traceback.
"""

import logging
import queue as standard_queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol, TypedDict

from contract import events
from contract.errors import JobError, NotFound, StorageFull, StudioError
from contract.model_tasks import QueueName
from contract.records import JobRecord, JobState, StoredUpload
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
from studio.gallery.thumbnails import jpeg
from studio.jobs.costs import Rates, billed, cost
from studio.jobs.event_log import EventLog
from studio.jobs.progress import Meter, Progress
from studio.jobs.queue import JobQueue
from studio.jobs.saver import Saver
from studio.jobs.work_items import build_work_item
from studio.library.hashes import ModelHashes
from studio.library.model_list import ModelList
from studio.metadata.recipe_hashes import files_to_hash
from studio.uploads.upload_owners import UploadOwners
from studio.uploads.uploads import Uploads

logger = logging.getLogger(__name__)
_TRIED_AGAIN = ("worker_died", "worker_hung")
_MOST_ATTEMPTS = 2
_LOADING_INTERVAL_S = 0.25
_HELD_S = 1.0
_LOOK_S = 0.5  # between two looks whether what is waited for is still wanted
_HASH_S = 600.0  # after a job's begin, that its pictures wait for hashes: the largest file on a slow disk
_FLUSH_S = 60.0


_Ending = tuple[JobState, events.JobEvent, tuple[str, str, str] | None]


class _Stamp(TypedDict):
    job_id: str
    attempt: int
    at: float


@dataclass(slots=True)
class Run:
    """A job while it runs."""

    job: JobRecord
    event_log: EventLog
    meter: Meter
    began: float
    attempt: int
    is_cancelled: bool = False
    made: set[int] = field(default_factory=set)
    saved: set[int] = field(default_factory=set)
    hashes: "dict[str, Future[str]]" = field(default_factory=dict)  # of its models as they were when it began
    unsaved: StudioError | None = None  # why a picture could not be saved
    painted: int = 0
    painting_s: float = 0.0
    loading_said_at: float = 0.0

    def stamp(self) -> _Stamp:
        """What every event of the job carries."""
        return {"job_id": self.job.id, "attempt": self.attempt, "at": time.time()}


class Runner(Protocol):
    """What a dispatcher needs of a worker."""

    def run(self, work_items: Sequence[WorkItem]) -> Iterator[WorkerEvent]:
        """As of `contract.work.Worker`."""

    def cancel(self, job_id: str) -> None:
        """As of `contract.work.Worker`."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the dispatcher works with."""

    queue: JobQueue
    worker: Runner
    models: ModelList
    uploads: Uploads
    upload_owners: UploadOwners
    hashes: ModelHashes
    saver: Saver
    rates: Rates
    event_log_of: Callable[[JobRecord], EventLog]
    on_change: Callable[[], None]  # the queue moved
    on_event: Callable[[events.JobEvent], None]
    on_end: Callable[[JobRecord, EventLog], None]
    finished_of_job: Callable[[str], frozenset[int]]
    on_picture: Callable[[JobRecord], None] = lambda job: None  # its first step is made
    previews: bool = True
    queue_name: QueueName = "engine"


@contextmanager
def saving() -> Iterator[None]:
    """Whatever goes wrong while a picture is saved gets a code that begins "storage": its pixels are kept.

    Raises:
        StorageFull: with the cause in words, or its kind if it has none.
    """
    try:
        yield
    except (StorageFull, NotFound):
        raise
    except StudioError as error:
        raise StorageFull(error.message, error.hint, code=f"storage_{error.code}") from None
    except Exception as error:
        logger.exception("a picture could not be saved")
        raise StorageFull(
            f"The picture could not be saved ({type(error).__name__}).",
            "Details are in the log. Press Try again; the picture is kept in memory.",
            code="storage_failed",
        ) from None


class Dispatcher:
    """Runs jobs until it is stopped."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._stopping = threading.Event()
        self.held = ""  # why waiting jobs don't start, as a sentence
        self._running: Run | None = None
        self._cancelled_early: set[str] = set()
        self._lock = threading.Lock()
        self._to_save: standard_queue.SimpleQueue[Callable[[], None] | None] = standard_queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def start(self, ready: threading.Event) -> None:
        """Begin; the first job waits until `ready` is set (at most ten seconds)."""
        for target, name in ((self._dispatch, "dispatcher"), (self._save_all, "saver")):
            self._threads.append(
                threading.Thread(target=target, args=(ready,), name=f"{self._tools.queue_name}-{name}", daemon=True)
            )
            self._threads[-1].start()

    def begin_stop(self) -> None:
        """Take no more jobs; the worker is to be stopped now."""
        self._stopping.set()
        self._tools.queue.wake()

    def stop(self, timeout_s: float) -> None:
        """End both threads; what is painted is still saved."""
        self.begin_stop()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def cancel(self, job_id: str) -> None:
        """Cancel a job that was taken from the queue, running yet or not; nothing if it has ended."""
        with self._lock:
            run = self._running
            if run is None or run.job.id != job_id:
                self._cancelled_early.add(job_id)
                return
            run.is_cancelled = True
        self._tools.worker.cancel(job_id)

    def progress(self, job_id: str) -> Progress | None:
        """Where the running job is; None if it does not run."""
        run = self._running
        return run.meter.now if run is not None and run.job.id == job_id else None

    # The dispatching thread

    def _dispatch(self, ready: threading.Event) -> None:
        ready.wait(10.0)
        try:
            while not self._stopping.is_set():
                try:
                    self._run_next()
                except Exception:
                    logger.exception("the dispatcher met something unexpected and goes on")
                    self._tools.queue.leave_worker(self._tools.queue_name)
                    self._stopping.wait(1.0)
        finally:
            self._to_save.put(None)

    def _wait_for_job(self) -> bool:
        """Whether a job waits that can be run: one whose pictures could not be kept is held back."""
        job = self._tools.queue.next(1.0, self._tools.queue_name)
        held = ""
        if job is not None and isinstance(job.task, Generate | Upscale):  # what else is made goes elsewhere
            try:
                self._tools.saver.check_room(job)
            except StorageFull as error:
                held = f"{error.message} {error.hint}"
        if bool(held) != bool(self.held):
            logger.warning("%s", held or "the queue goes on")
        self.held = held
        return job is not None and not held

    def _run_next(self) -> None:
        if not self._wait_for_job():
            self._stopping.wait(_HELD_S if self.held else 0.0)
            return
        job = self._tools.queue.take(self._tools.queue_name)
        if job is None:
            return
        run = Run(job, self._tools.event_log_of(job), Meter(job.task.picture_count), time.monotonic(), job.attempt)
        run.made = set(self._tools.finished_of_job(job.id))
        run.saved = set(run.made)
        with self._lock:
            self._running = run
            run.is_cancelled = job.id in self._cancelled_early
        self._tools.on_change()
        logger.info(
            "job %s starts: %s with %s, %d",
            job.id,
            job.task.type,
            billed(job.task) or "no model",
            job.task.picture_count,
        )
        ending = self._try(run)
        with self._lock:
            self._running = None
        self._tools.queue.leave_worker(self._tools.queue_name)
        if ending is None:
            self._put_back(job)
        else:
            self._to_save.put(lambda: self._end(run, ending))

    def _put_back(self, job: JobRecord) -> None:
        """The program stops under a model task: it goes on at the next start, however often that happens."""
        if job.task.queue_name == "engine":
            return
        try:
            self._tools.queue.put_back(job.id)
        except StudioError as error:
            logger.warning("job %s could not be put back: %s", job.id, error.message)

    def _try(self, run: Run) -> WorkerEvent | None:
        """Attempts until one counts; None when the program stops under the job."""
        last_attempt = run.job.attempt + _MOST_ATTEMPTS - 1
        while True:
            ending = self._attempt(run)
            if run.is_cancelled and isinstance(ending, WorkFailed):
                return WorkCancelled(run.job.id)
            if self._stopping.is_set() and not isinstance(ending, WorkDone) and not run.is_cancelled:
                return None
            if not isinstance(ending, WorkFailed) or ending.code not in _TRIED_AGAIN:
                return ending
            if run.attempt >= last_attempt:
                return ending
            self._flush_saver(run)
            run.attempt += 1
            self._say(
                run,
                events.Notice(
                    **run.stamp(),
                    code="engine_restarted",
                    message="The engine stopped and is starting again; your job is tried once more.",
                ),
            )

    def _attempt(self, run: Run) -> WorkerEvent:
        """One run on the worker; returns how it ended."""
        run.meter = Meter(run.job.task.picture_count, len(run.made))
        if run.is_cancelled:
            return WorkCancelled(run.job.id)
        try:
            job = run.job.model_copy(update={"attempt": run.attempt})
            if run.attempt != run.job.attempt:
                self._tools.queue.set_attempt(job.id, run.attempt)
            work_item = build_work_item(
                job, self._tools.models, self._tools.uploads, frozenset(run.made), previews=self._tools.previews
            )
            if 0 < run.job.task.picture_count <= len(run.made):
                return WorkDone(job.id, 0.0)
            for key, path in files_to_hash(work_item).items():
                with suppress(OSError):  # one that is gone is told of when it is loaded
                    run.hashes[key] = self._tools.hashes.request(path)
            return self._follow_worker(run, work_item)
        except StudioError as error:
            return WorkFailed(run.job.id, error.code, error.message, error.hint, error.field, error.fix)
        except Exception as error:
            logger.exception("job %s broke", run.job.id)
            return WorkFailed(
                run.job.id,
                "internal",
                f"Darkroom stumbled over this job ({type(error).__name__}).",
                "Details are in the log.",
            )

    def _follow_worker(self, run: Run, work_item: WorkItem) -> WorkerEvent:
        for event in self._tools.worker.run([work_item]):
            if isinstance(event, WORK_ENDINGS):
                return event
            self._translate(run, work_item, event)
            if run.is_cancelled:
                self._tools.worker.cancel(run.job.id)  # again: it may not have known the job before
        return WorkFailed(run.job.id, "worker_died", "The engine ended without a word.", "Try again.")

    def _translate(self, run: Run, work_item: WorkItem, event: WorkerEvent) -> None:
        facts = run.stamp()
        if isinstance(event, WorkStep):
            if event.index == 1:
                self._tools.on_picture(run.job)
            now = run.meter.step(event.image, event.index, event.total)
            preview = jpeg(event.preview) if event.preview else None
            self._say(
                run,
                events.Step(
                    **facts, image=event.image, index=event.index, total=event.total, left_s=now.left_s, preview=preview
                ),
            )
        elif isinstance(event, WorkLoading):
            now_s = time.monotonic()
            if run.job.task.queue_name != "engine":
                run.meter.loaded(event.fraction, event.done_bytes, event.total_bytes, event.left_s)
            if event.fraction is None or now_s - run.loading_said_at >= _LOADING_INTERVAL_S:
                run.loading_said_at = now_s
                self._say(
                    run,
                    events.Loading(
                        **facts,
                        what=event.what,
                        fraction=event.fraction,
                        done_bytes=event.done_bytes,
                        total_bytes=event.total_bytes,
                        left_s=event.left_s,
                    ),
                )
        elif isinstance(event, WorkNotice):
            self._say(run, events.Notice(**facts, code=event.code, message=event.message))
        elif isinstance(event, WorkImage):
            run.meter.painted()
            run.made.add(event.image)
            run.painted += 1
            run.painting_s += event.seconds
            self._to_save.put(lambda: self._save(run, event))

    def _say(self, run: Run, event: events.JobEvent) -> None:
        run.event_log.append(event)
        if not isinstance(event, events.Step):
            self._tools.on_event(event)

    # The saving thread

    def _save_all(self, ready: threading.Event) -> None:
        while (work := self._to_save.get()) is not None:
            try:
                work()
            except Exception:
                logger.exception("saving met something unexpected and goes on")

    def _flush_saver(self, run: Run) -> None:
        """Let what is painted be saved before the job is tried again; not for ever, and not once nobody wants it."""
        done = threading.Event()
        self._to_save.put(done.set)
        until = time.monotonic() + _FLUSH_S
        while not done.wait(_LOOK_S) and time.monotonic() < until:
            if run.is_cancelled or self._stopping.is_set():
                return

    def _save(self, run: Run, painted: WorkImage) -> None:
        try:
            with saving():
                self._keep(run, painted)
        except StudioError as error:
            run.unsaved = error
            return
        run.saved.add(painted.image)

    def _keep(self, run: Run, painted: WorkImage) -> None:
        if isinstance(run.job.task, Preprocess):
            made = self._tools.saver.save_map(run.job, painted.pixels, lambda pixels: self._keep_map(run.job, pixels))
            self._say(run, events.Prepared(**run.stamp(), upload=made))
            return
        record, notices = self._tools.saver.save(run.job, painted, lambda: _hashes_of(run))
        for code, message in notices:
            self._say(run, events.Notice(**run.stamp(), code=code, message=message))
        self._say(run, events.Saved(**run.stamp(), image=painted.image, record=record))

    def _keep_map(self, job: JobRecord, pixels: RawImage) -> StoredUpload:
        made = self._tools.uploads.add_raw(pixels)
        self._tools.upload_owners.add(made.sha256, job.owner)
        self._tools.queue.add_prepared(job, made)
        return made

    def _end(self, run: Run, ending: WorkerEvent) -> None:
        seconds = round(time.monotonic() - run.began, 3)
        state, event, error = self._ending_event(run, ending, seconds)
        logger.info("job %s %s after %.1f s", run.job.id, state, seconds)
        try:
            self._tools.queue.finish(run.job.id, state, seconds=seconds, error=error)
            if state == "done" and run.painting_s:
                share = run.painted / run.job.task.picture_count
                self._tools.rates.learn(billed(run.job.task), cost(run.job.task) * share, run.painting_s)
        except StudioError as problem:
            logger.warning("the end of job %s could not be recorded: %s", run.job.id, problem.message)
        self._cancelled_early.discard(run.job.id)
        self._say(run, event)
        self._tools.on_end(run.job, run.event_log)
        self._tools.on_change()

    def _ending_event(self, run: Run, ending: WorkerEvent, seconds: float) -> _Ending:
        facts = run.stamp()
        if isinstance(ending, WorkCancelled):
            return "cancelled", events.Cancelled(**facts), None
        count = run.job.task.picture_count
        if isinstance(ending, WorkDone) and run.unsaved is None and len(run.saved) >= count:
            return "done", events.Done(**facts, seconds=seconds), None
        failure = (
            ending
            if isinstance(ending, WorkFailed)
            else run.unsaved
            or JobError(
                f"The engine ended after {len(run.saved)} of {count} pictures.",
                "Run the job again.",
                code="pictures_missing",
            )
        )
        failed = events.Failed(
            **facts,
            code=failure.code,
            message=failure.message,
            hint=failure.hint,
            field=failure.field,
            fix=failure.fix or None,
        )
        return "failed", failed, (failed.code, failed.message, failed.hint)


def _hashes_of(run: Run) -> dict[str, str]:
    """Of the job's models. A hash is worth no picture: one that can't be had in time is left out."""
    until = run.began + _HASH_S
    return {key: sha256 for key, future in run.hashes.items() if (sha256 := _result(future, run, until))}


def _result(future: "Future[str]", run: Run, until: float) -> str | None:
    """A hash, waited for unless the job is cancelled; None of a file that changed or went away meanwhile."""
    while True:
        try:
            return future.result(_LOOK_S)
        except TimeoutError:
            if run.is_cancelled:
                return None
            if time.monotonic() >= until:
                logger.warning(
                    "a picture of job %s is saved without the hash of a model: it takes too long", run.job.id
                )
                return None
        except (OSError, StudioError) as error:
            logger.warning("a model of job %s has no hash: %s", run.job.id, error)
            return None
