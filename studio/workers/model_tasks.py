"""Converts and merges in a spawned process, so that no pickle is opened in the studio and all memory is freed.

The process lives for one model task. It is killed when the task is cancelled or the studio ends, and ends itself when
its parent is gone. It writes to a `.part` file, which the studio renames when it is complete.
"""

import importlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from contract.errors import JobError, StudioError
from contract.tasks import Convert, Merge
from contract.work import WorkCancelled, WorkDone, WorkerEvent, WorkFailed, WorkItem, WorkLoading, WorkNotice
from studio.storage.log_lines import log_plainly
from studio.workers.child import end_with_parent

logger = logging.getLogger(__name__)
CONVERT, MERGE = "studio.workers.model_tasks:run_convert", "studio.workers.model_tasks:run_merge"
_PROGRESS_INTERVAL_S = 0.2
_SILENCE_S = 600.0  # of a process that reports each tensor it has written
_GONE_S = 3.0


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """The progress of a task in words, and as a fraction if it is known."""

    words: str
    fraction: float | None


@dataclass(frozen=True, slots=True)
class TaskEnd:
    """How a task ended. code is empty if it succeeded; message is then a notice, or empty."""

    code: str = ""
    message: str = ""
    hint: str = ""


class DiskWorker:
    """Runs `Convert` and `Merge` work items.

    Args:
        target_of: Where the result goes; raises StudioError where it can't.
        source_of: Where the pickle of a conversion lies.
        on_change: Called when a model was added.
        functions: Importable names "module:function" of the converter and the merger, as `run_convert` and `run_merge`.
    """

    def __init__(
        self,
        target_of: Callable[[Convert | Merge], Path],
        source_of: Callable[[Convert], Path],
        on_change: Callable[[], None],
        functions: tuple[str, str] = (CONVERT, MERGE),
    ) -> None:
        self._target_of, self._source_of, self._on_change = target_of, source_of, on_change
        self._convert, self._merge = functions
        self._lock = threading.Lock()
        self._running = ""
        self._process: SpawnProcess | None = None
        self._is_cancelled = self._is_ending = False

    def cancel(self, job_id: str) -> None:
        """End the running model task, if it is this one; at once."""
        with self._lock:
            if self._running == job_id:
                self._is_cancelled = True
                self._kill()

    def stop(self) -> None:
        """End whatever runs."""
        with self._lock:
            self._is_ending = True
            self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            with suppress(ValueError):
                self._process.kill()

    def run(self, work_items: Sequence[WorkItem]) -> Iterator[WorkerEvent]:
        """Convert or merge; each work item gets exactly one ending."""
        for work_item in work_items:
            began = time.monotonic()
            part: Path | None = None
            try:
                target = self._target_of(work_item.task)  # type: ignore[arg-type]
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(target.name + ".part")
                ended = yield from self._follow(work_item, part)
                if ended is None:
                    yield WorkCancelled(work_item.job_id)
                elif ended.code:
                    yield WorkFailed(work_item.job_id, ended.code, ended.message, ended.hint)
                else:
                    if target.exists():  # another of the same name was in the queue
                        raise JobError(
                            f"{target.parent.name}/{target.name} is there already.",
                            "Use another name, or delete that one first.",
                            code="name_taken",
                        )
                    os.replace(part, target)
                    self._on_change()
                    if ended.message:
                        yield WorkNotice(work_item.job_id, work_item.task.type, ended.message)
                    yield WorkDone(work_item.job_id, time.monotonic() - began)
            except StudioError as error:
                yield WorkFailed(work_item.job_id, error.code, error.message, error.hint)
            except OSError as error:
                yield WorkFailed(
                    work_item.job_id,
                    "file",
                    f"{Path(error.filename or 'A file').name} can't be written ({error.strerror}).",
                    "Correct the permissions, or free space.",
                )
            finally:
                if part is not None:
                    part.unlink(missing_ok=True)

    def _follow(self, work_item: WorkItem, part: Path) -> Generator[WorkerEvent, None, TaskEnd | None]:
        """Yield the process's progress; the generator returns how it ended, None if it was ended from here."""
        receiver, process = self._spawn(work_item, part)
        if process is None:
            return None
        ended: TaskEnd | None = None
        try:
            while True:
                try:
                    if not receiver.poll(_SILENCE_S):
                        ended = TaskEnd(
                            "model_task_hung",
                            f"{work_item.task.title} was silent for {_SILENCE_S / 60:.0f} minutes.",
                            "It was stopped. Try again, and check that the disk still responds.",
                        )
                        break
                    message = receiver.recv()
                except (EOFError, OSError):
                    break
                if isinstance(message, TaskEnd):
                    ended = message
                    break
                yield WorkLoading(work_item.job_id, message.words, message.fraction)
        finally:
            process.kill()
            process.join(_GONE_S)
            receiver.close()
            with self._lock:
                self._process, self._running = None, ""
        if ended is None and not (self._is_cancelled or self._is_ending):
            logger.warning("%s ended with exit code %s", work_item.task.type, process.exitcode)
            return TaskEnd(
                "model_task_died",
                f"{work_item.task.title} ended unexpectedly; memory may have run out.",
                "Close other programs, then try again.",
            )
        return ended

    def _spawn(self, work_item: WorkItem, part: Path) -> tuple[Connection, SpawnProcess | None]:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        task = work_item.task
        if isinstance(task, Convert):
            arguments: tuple[object, ...] = (self._convert, (self._source_of(task), part))
        else:
            arguments = (self._merge, (task, dict(work_item.model_paths), part))
        with self._lock:
            self._running, self._is_cancelled = work_item.job_id, False
            if self._is_ending:
                return receiver, None
            process = context.Process(target=main, args=(sender, *arguments), name="darkroom-model-task", daemon=True)
            process.start()
            self._process = process
        sender.close()
        return receiver, process


def main(pipe: Connection, name: str, arguments: tuple[Any, ...]) -> None:
    """The process: one call, its progress, its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_plainly(logging.WARNING)
    threading.Thread(target=end_with_parent, daemon=True).start()
    sent_at = -_PROGRESS_INTERVAL_S

    def on_progress(words: str, fraction: float | None = None) -> None:
        nonlocal sent_at
        now = time.monotonic()
        if now - sent_at >= _PROGRESS_INTERVAL_S:
            sent_at = now
            pipe.send(TaskProgress(words, fraction))

    module, _, function = name.partition(":")
    try:
        message = getattr(importlib.import_module(module), function)(*arguments, on_progress)
        ended = TaskEnd(message=message or "")
    except StudioError as error:
        ended = TaskEnd(error.code, error.message, error.hint)
    except MemoryError:
        ended = TaskEnd("out_of_memory", "The machine ran out of memory.", "Close other programs, then try again.")
    except Exception as error:
        logger.exception("the model task failed")
        ended = TaskEnd("internal", f"The job failed unexpectedly ({type(error).__name__}).", "Details are in the log.")
    with suppress(OSError):
        pipe.send(ended)


def run_convert(source: Path, part: Path, on_progress: Callable[..., None]) -> str:
    """Convert a pickle to safetensors with the engine. Returns a notice, or ""; raises StudioError."""
    from engine.convert.pickles import convert as convert_pickle

    message: str = convert_pickle(source, part, on_progress)
    return message


def run_merge(task: Merge, paths: Mapping[str, str], part: Path, on_progress: Callable[..., None]) -> str:
    """Merge checkpoints with the engine. Returns a notice, or ""; raises StudioError."""
    from engine.convert.merging import merge as merge_checkpoints

    message: str = merge_checkpoints(task, paths, part, on_progress)
    return message
