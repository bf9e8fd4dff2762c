"""Runs the engine in a spawned process, so that a fault of the device costs one restart and no one's queue.

The page is up while the process loads torch. Its death and its silence are noticed here; the dispatcher decides
what that means for a job. A canceled job is over after some seconds, whatever the process does: the process may finish
its step, and is killed if that takes too long. What runs in the process is `child.py`.
"""

import contextlib
import logging
import multiprocessing
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from contract.recipe import ModelRef
from contract.records import EngineStatus
from contract.tasks import Generate, Task, Upscale
from contract.work import (
    DEVICE_FAULT,
    WORK_ENDINGS,
    Command,
    WorkCancelled,
    WorkerEvent,
    WorkFailed,
    WorkItem,
    WorkLoading,
    WorkStep,
)
from studio.jobs.costs import billed, expected_pixels
from studio.jobs.durations import about
from studio.workers.child import DEFAULT_FACTORY, STARTING, main

logger = logging.getLogger(__name__)
_STARTS_IN_A_ROW = 3  # that fail before the engine counts as stopped
_START_S = 600.0  # importing torch from a cold, slow disk
_TILE_S, _HIRES_TILE = 60.0, 256  # pixels, as the engine cuts them for a hires pass
_STEP_512_S = 10.0  # a slow machine's step of 512 × 512 before anything was measured
_SLOW_DISK_BYTES_PER_S = 20_000_000.0
_GONE_S = 5.0
_QUIET_S = 5.0  # without a sign of life, which should come every second
_CANCEL_S = 4.0  # after which a canceled job is over, whether the engine has reacted or not
_END_S = 5.0, 20.0, 60.0  # that it has to end the step of a canceled job: at least, where no step was measured, at most
_LOOK_S = 1.0
_MOST_CANCELS = 100  # that are remembered, for jobs that may not have arrived yet
_MOST_ENDED = 100  # jobs that are remembered


_WAKE = "look"


class _Child:
    """One spawned process, its pipe, and the thread that reads it."""

    def __init__(
        self,
        arguments: tuple[object, ...],
        on_status: Callable[[EngineStatus], None],
        on_death: Callable[["_Child"], None],
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.events: queue.SimpleQueue[WorkerEvent | str | None] = queue.SimpleQueue()  # None: it is dead
        self.is_gone = threading.Event()
        self.was_ready = False
        self.last_message_at = time.monotonic()
        self._ended = threading.Condition()
        self._ended_jobs: deque[str] = deque(maxlen=_MOST_ENDED)  # the newest
        self._on_status = on_status
        self._on_death = on_death
        self._send_lock = threading.Lock()
        self.process = context.Process(target=main, args=(theirs, *arguments), name="darkroom-engine", daemon=True)
        self.process.start()
        theirs.close()
        threading.Thread(target=self._listen, name="worker-listener", daemon=True).start()

    def _listen(self) -> None:
        pipe: Connection = self._pipe
        while True:
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                break
            self.last_message_at = time.monotonic()
            if message is None:
                continue
            if isinstance(message, EngineStatus):
                self.was_ready = self.was_ready or message.state == "ready"
                self._on_status(message)
            else:
                self.events.put(message)
                if isinstance(message, WORK_ENDINGS):
                    self._note_end(message.job_id)
        self.process.join(1.0)
        self.kill()
        self._on_death(self)
        self.events.put(None)
        self.is_gone.set()
        self._note_end("")

    def _note_end(self, job_id: str) -> None:
        with self._ended:
            self._ended_jobs.append(job_id)
            self._ended.notify_all()

    def has_ended(self, job_id: str, timeout_s: float) -> bool:
        """Wait until it has reported the end of a job, or is gone."""
        with self._ended:
            return self._ended.wait_for(lambda: job_id in self._ended_jobs or self.is_gone.is_set(), timeout_s)

    def wake(self) -> None:
        """Make the reader of `events` check for cancellations."""
        self.events.put(_WAKE)

    def begin(self, work_item: WorkItem) -> None:
        """Send a work item; what an earlier attempt of its job ended with no longer counts."""
        with self._ended:
            while work_item.job_id in self._ended_jobs:
                self._ended_jobs.remove(work_item.job_id)
        self.send(work_item)

    def send(self, message: object) -> None:
        """A work item, a command, or the id of a job to cancel; nothing if the process is gone."""
        with self._send_lock, contextlib.suppress(OSError, ValueError):
            self._pipe.send(message)

    def kill(self) -> None:
        """Kill it now, whatever it does."""
        self.process.kill()
        self.process.join(1.0)

    def close(self, timeout_s: float) -> None:
        """Close the pipe, which ends it; kill it if it does not react."""
        with contextlib.suppress(OSError):
            self.process.terminate()
        self.process.join(timeout_s)
        self.kill()


@dataclass(slots=True)
class _Followed:
    """A work item that runs, and the last event that came of it."""

    work_item: WorkItem
    last: WorkerEvent | None = None
    last_at: float = field(default_factory=time.monotonic)


class ProcessWorker:
    """A worker with a process of its own, started again when it dies.

    Args:
        options: Plain values for engine.engine.EngineOptions.
        warm: Model to load ahead of the first job: (path, ref).
        factory: Importable name "module:function" of what makes the engine from the options.
        hang_s: The least silence that counts as a hang (else 10 × the predicted step or load).
        quiet_s: Seconds without a sign of life after which the status says "Not responding".
        cancel_s: Seconds after which a canceled job is over, whatever the process does.
        end_s: Seconds that it has to end such a job's step (four steps, of which a decode takes some): at least, where
            none was measured, at most.
    """

    def __init__(
        self,
        options: Mapping[str, object],
        warm: tuple[str, ModelRef] | None = None,
        *,
        factory: str = DEFAULT_FACTORY,
        hang_s: float = 120.0,
        quiet_s: float = _QUIET_S,
        cancel_s: float = _CANCEL_S,
        end_s: tuple[float, float, float] = _END_S,
    ) -> None:
        self._factory, self._options, self._warm = factory, dict(options), warm
        self._quiet_s, self._cancel_s, self._end_s = quiet_s, cancel_s, end_s
        self._canceled_at: dict[str, float] = {}  # jobs, the newest last
        self._left: tuple[_Child, str] | None = None  # a process that still ends the step of a canceled job
        self._followed: dict[str, _Followed] = {}  # by job: those that `run` runs
        self._silence = _Silence(hang_s)
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._failed_starts = 0
        self._is_stopping = False
        self._status = STARTING
        self._on_status: Callable[[EngineStatus], None] = lambda status: None

    def start(self, on_status: Callable[[EngineStatus], None]) -> None:
        """Spawn the process; it loads in the background."""
        self._on_status = on_status
        self._set_status(STARTING)
        self._spawn()

    def _spawn(self) -> "_Child | None":
        with self._lock:
            if not self._is_stopping and self._child is None:
                warm = None if self._failed_starts else self._warm  # that model may be what kills it
                self._child = _Child((self._factory, self._options, warm), self._set_status, self._on_death)
            return self._child

    def _on_death(self, child: _Child) -> None:
        with self._lock:
            if self._child is child:
                self._child = None
            if self._is_stopping:
                return
            if child.was_ready:
                self._failed_starts = 0
            else:
                self._failed_starts += 1
            gives_up = self._failed_starts >= _STARTS_IN_A_ROW
        logger.warning("the engine process ended (exit code %s)", child.process.exitcode)
        nothing_loaded = {"resident": (), "models": (), "fraction": None}
        if gives_up:
            changes = {"state": "stopped", "text": "Engine stopped", **nothing_loaded}
            self._set_status(self._status.model_copy(update=changes))
        else:
            changes = {"state": "restarting", "text": "Engine restarting", **nothing_loaded}
            self._set_status(self._status.model_copy(update=changes))
            self._spawn()

    def _set_status(self, status: EngineStatus) -> None:
        if self._is_stopping and status.state != "stopped":
            return
        self._status = status
        self._on_status(status)

    def run(self, work_items: Sequence[WorkItem]) -> Iterator[WorkerEvent]:
        """Run one work item after the other; death and silence end a work item with worker_died, worker_hung."""
        for work_item in work_items:
            job_id = work_item.job_id
            try:
                while self._left and job_id not in self._canceled_at:  # another's step: it ends, or its process does
                    busy, busy_job = self._left
                    if busy.has_ended(busy_job, _LOOK_S):
                        self._left = None
                child = self._spawn()
                if job_id in self._canceled_at:
                    yield WorkCancelled(job_id)
                elif child is None:
                    yield WorkFailed(job_id, "engine_stopped", "The engine is stopped.", "Start Darkroom again.")
                else:
                    self._followed = {job_id: _Followed(work_item)}
                    child.begin(work_item)
                    yield from self._follow(child)
            finally:
                with self._lock:
                    for ended in (job_id, *self._followed):
                        self._canceled_at.pop(ended, None)
                self._followed = {}

    def join(self, work_item: WorkItem) -> bool:
        """Run a work item beside those that `run` runs, between two of its events; its events come with theirs.

        Returns:
            False if nothing runs that it could join.
        """
        child = self._child
        if not self._followed or child is None:
            return False
        self._followed[work_item.job_id] = _Followed(work_item)
        child.begin(work_item)
        return True

    def _follow(self, child: _Child) -> Iterator[WorkerEvent]:
        """Yield the events of what runs as they come, or their endings if the process dies, hangs or is left alone."""
        followed = self._followed
        last_at = time.monotonic()  # of any of them
        while followed:
            limit = _START_S
            if child.was_ready:
                limit = max(self._silence.limit(one.work_item, one.last) for one in followed.values())
            over_at = {
                job_id: self._canceled_at[job_id] + self._cancel_s for job_id in followed & self._canceled_at.keys()
            }
            first_over = min(over_at, key=over_at.__getitem__, default="")
            if first_over and time.monotonic() >= over_at[first_over]:
                self._leave(child, followed.pop(first_over).work_item)
                yield WorkCancelled(first_over)
                continue
            until = min((last_at + limit, *over_at.values()))
            try:
                event = child.events.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                if over_at and time.monotonic() >= min(over_at.values()):
                    continue
                if limit == _START_S and child.was_ready:  # it has started meanwhile: the silence begins now
                    last_at = time.monotonic()
                    continue
                child.kill()
                child.is_gone.wait(_GONE_S)
                yield from self._end_all(
                    "worker_hung", f"The engine was silent for {about(limit)}{{where}} and was started again."
                )
                return
            if event is None:
                if child.was_ready:
                    yield from self._end_all("worker_died", "The engine stopped{where} and was started again.")
                else:
                    yield from self._end_all(
                        "worker_died", "The engine could not be started.", "Details are in the log."
                    )
                return
            if isinstance(event, str) or event.job_id not in followed:
                continue  # a cancel, or the rest of a job that was given up
            one, now = followed[event.job_id], time.monotonic()
            self._silence.learn(one.work_item, one.last, event, now - one.last_at)
            one.last, one.last_at, last_at = event, now, now
            if isinstance(event, WorkFailed) and event.code == DEVICE_FAULT:
                child.kill()  # the device is unusable in that process
                child.is_gone.wait(_GONE_S)
            if isinstance(event, WORK_ENDINGS):
                del followed[event.job_id]
                with self._lock:
                    self._canceled_at.pop(event.job_id, None)
            yield event

    def _end_all(self, code: str, message: str, hint: str = "Your job failed; others go on.") -> Iterator[WorkerEvent]:
        """The failure of everything that runs. message: with {where} for what each one was doing."""
        ended = tuple(self._followed.values())
        self._followed.clear()
        for one in ended:
            yield WorkFailed(one.work_item.job_id, code, message.replace("{where}", _where(one.last)), hint)

    def _leave(self, child: _Child, work_item: WorkItem) -> None:
        """Give a canceled job up. The process may finish its step, unless it takes too long or is silent.

        One that is not ready yet is no hang: it finds the job canceled when it comes to it.
        """
        if not child.was_ready:
            return
        self._left = child, work_item.job_id
        least_s, usual_s, most_s = self._end_s
        measured_s = self._silence.end_s(work_item)
        if measured_s is None:
            end_s = usual_s
        else:
            end_s = min(most_s, max(least_s, measured_s))
        changes = {"text": "Ending the step of a canceled job", "fraction": None}
        self._set_status(self._status.model_copy(update=changes))

        def kill_if_late() -> None:
            began = time.monotonic()
            while not child.has_ended(work_item.job_id, min(_LOOK_S, self._cancel_s)):
                now = time.monotonic()
                is_silent = now - child.last_message_at > self._quiet_s
                if is_silent or now - began > end_s:
                    logger.warning(
                        "the engine did not end the step of canceled job %s within %s%s: it is started again",
                        work_item.job_id,
                        about(now - began + self._cancel_s),
                        " and is silent" if is_silent else "",
                    )
                    child.kill()
                    return

        threading.Thread(target=kill_if_late, name="worker-end", daemon=True).start()

    def cancel(self, job_id: str) -> None:
        """Stop a job at its next step; it is over soon even if that never comes."""
        child = self._child
        with self._lock:
            is_new = job_id not in self._canceled_at
            if is_new:
                self._canceled_at[job_id] = time.monotonic()
                for old in list(self._canceled_at)[:-_MOST_CANCELS]:
                    del self._canceled_at[old]
        if child is not None:
            child.send(job_id)
            if is_new:
                child.wake()

    def tell(self, command: Command) -> None:
        """Pass a command on; nothing while the engine restarts, when no model is in memory."""
        child = self._child
        if child is not None:
            child.send(command)

    def status(self) -> EngineStatus:
        """The newest state; after some seconds without a sign of life it says that instead."""
        child = self._child
        quiet_s = 0.0
        if child is not None and child.was_ready:
            quiet_s = time.monotonic() - child.last_message_at
        if quiet_s < self._quiet_s:
            return self._status
        return self._status.model_copy(update={"text": f"Not responding for {about(quiet_s)}", "fraction": None})

    def stop(self) -> None:
        """End the process within three seconds."""
        with self._lock:
            self._is_stopping = True
            child, self._child = self._child, None
        if child is not None:
            child.close(0.4)
        self._set_status(self._status.model_copy(update={"state": "stopped", "text": "Engine stopped"}))


class _Silence:
    """How long a worker may be silent: ten times what the current step or load should take."""

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._step_s_per_pixel: dict[str, float] = {}

    def limit(self, work_item: WorkItem, last: WorkerEvent | None) -> float:
        """Seconds of silence after the last event that count as a hang."""
        step_s = max(self._step_s(work_item.task), _tile_s(work_item.task))
        if last is None or isinstance(last, WorkLoading):
            model_bytes = sum(map(_model_bytes, work_item.model_paths.values()))
            return max(self._least_s, 10 * model_bytes / _SLOW_DISK_BYTES_PER_S, 10 * step_s)
        return max(self._least_s, 10 * step_s)

    def end_s(self, work_item: WorkItem) -> float | None:
        """Four steps of its model, as far as they were measured."""
        if billed(work_item.task) not in self._step_s_per_pixel:
            return None
        return 2 * self._step_s(work_item.task)

    def learn(self, work_item: WorkItem, last: WorkerEvent | None, event: WorkerEvent, seconds: float) -> None:
        """Take in the time between two steps of an image; steps of a hires pass are of another size and not counted."""
        if isinstance(work_item.task, Generate) and work_item.task.recipe.hires:
            return
        if isinstance(last, WorkStep) and isinstance(event, WorkStep) and event.index > last.index:
            step_s = seconds / (event.index - last.index)
            self._step_s_per_pixel[billed(work_item.task)] = step_s / max(1, expected_pixels(work_item.task))

    def _step_s(self, task: Task) -> float:
        pixels = expected_pixels(task)
        measured = self._step_s_per_pixel.get(billed(task))
        if measured is not None:
            return 2 * measured * pixels  # twice: attention grows faster than the pixels
        if pixels <= 512**2:
            return 0.0
        return float(_STEP_512_S * (pixels / 512**2) ** 1.5)


def _tile_s(task: Task) -> float:
    """Seconds that a slow machine needs for a tile of a large upscaler; 0 if none is used."""
    if not any(ref.kind == "upscaler" for ref in task.models):
        return 0.0
    tile = task.tile if isinstance(task, Upscale) else _HIRES_TILE
    return _TILE_S * (tile / _HIRES_TILE) ** 2


def _model_bytes(path: str) -> int:
    try:
        if Path(path).is_file():
            return Path(path).stat().st_size
        return sum(part.stat().st_size for part in Path(path).rglob("*.safetensors"))
    except OSError:
        return 0


def _where(last: WorkerEvent | None) -> str:
    if isinstance(last, WorkStep):
        return f" during step {min(last.index + 1, last.total)}"
    if isinstance(last, WorkLoading):
        return " while it read the model"
    return ""
