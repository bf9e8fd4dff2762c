"""Converts and merges in a spawned process, so that a pickle never meets the studio and memory comes back.

The process lives for one model task and is killed when it is cancelled, when the studio ends, or by itself when its
parent is gone. It writes to a `.part` beside the place; the studio gives it its name when it is whole.
"""

import importlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
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

logger = logging.getLogger(__name__)
CONVERT, MERGE = "engine.convert.pickles:convert", "engine.convert.merging:merge"
_SAY_EVERY_S = 0.2
_SILENCE_S = 600.0  # of a process that tells each tensor it has written
_GONE_S = 3.0


@dataclass(frozen=True, slots=True)
class Said:
    """How far it is: words, and a fraction where it is known."""

    words: str
    fraction: float | None


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended: code is empty where it is done; message is then what is worth knowing."""

    code: str = ""
    message: str = ""
    hint: str = ""


class DiskWorker:
    """Runs `Convert` and `Merge` work items.

    Args:
        target_of: Where the result goes; raises StudioError where it can't.
        source_of: Where the pickle of a conversion lies.
        on_change: Called when a model has come.
        functions: Importable names "module:function" of what converts and what merges.
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

    def _follow(self, work_item: WorkItem, part: Path) -> Generator[WorkerEvent, None, Ended | None]:
        """What the process says; the generator returns how it ended, None where it was ended from here."""
        ours, process = self._spawn(work_item, part)
        if process is None:
            return None
        ended: Ended | None = None
        try:
            while True:
                try:
                    if not ours.poll(_SILENCE_S):
                        ended = Ended(
                            "model_task_hung",
                            f"{work_item.task.title} said nothing for {_SILENCE_S / 60:.0f} minutes.",
                            "It was ended. Try again; look whether the disk still answers.",
                        )
                        break
                    heard = ours.recv()
                except (EOFError, OSError):
                    break
                if isinstance(heard, Ended):
                    ended = heard
                    break
                yield WorkLoading(work_item.job_id, heard.words, heard.fraction)
        finally:
            process.kill()
            process.join(_GONE_S)
            ours.close()
            with self._lock:
                self._process, self._running = None, ""
        if ended is None and not (self._is_cancelled or self._is_ending):
            logger.warning("%s ended with exit code %s", work_item.task.type, process.exitcode)
            return Ended(
                "model_task_died",
                f"{work_item.task.title} ended without a word; memory may have run out.",
                "Close other programs, then try again.",
            )
        return ended

    def _spawn(self, work_item: WorkItem, part: Path) -> tuple[Connection, SpawnProcess | None]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        task = work_item.task
        if isinstance(task, Convert):
            arguments: tuple[object, ...] = (self._convert, (self._source_of(task), part))
        else:
            arguments = (self._merge, (task, dict(work_item.model_paths), part))
        with self._lock:
            self._running, self._is_cancelled = work_item.job_id, False
            if self._is_ending:
                return ours, None
            process = context.Process(target=main, args=(theirs, *arguments), name="darkroom-model task", daemon=True)
            process.start()
            self._process = process
        theirs.close()
        return ours, process


def main(pipe: Connection, name: str, arguments: tuple[Any, ...]) -> None:
    """The process: one call, its progress, its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_plainly(logging.WARNING)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    said_at = -_SAY_EVERY_S

    def say(words: str, fraction: float | None = None) -> None:
        nonlocal said_at
        now = time.monotonic()
        if now - said_at >= _SAY_EVERY_S:
            said_at = now
            pipe.send(Said(words, fraction))

    module, _, function = name.partition(":")
    try:
        ended = Ended(message=getattr(importlib.import_module(module), function)(*arguments, say) or "")
    except StudioError as error:
        ended = Ended(error.code, error.message, error.hint)
    except MemoryError:
        ended = Ended("out_of_memory", "The machine ran out of memory.", "Close other programs, then try again.")
    except Exception as error:
        logger.exception("an model task broke")
        ended = Ended(
            "internal", f"Darkroom stumbled over this job ({type(error).__name__}).", "Details are in the log."
        )
    with suppress(OSError):
        pipe.send(ended)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)
