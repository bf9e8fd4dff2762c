"""Runs the downloads of the queue: lists the files, checks the free space, fetches, moves them to their places.

One at a time, in the dispatcher's own thread. A download that is cancelled or interrupted leaves its .part files, so
that the next try resumes there.
"""

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from catalog.catalog_models import pinned_sha256
from contract.errors import StorageFull, StudioError
from contract.model_tasks import Download
from contract.work import WorkCancelled, WorkDone, WorkerEvent, WorkFailed, WorkItem, WorkLoading, WorkNotice
from studio.downloads.destinations import Plan, plan, put_where
from studio.downloads.fetch import Fetcher, is_whole
from studio.downloads.hub import chosen_files, read_repository
from studio.downloads.wire import Broken, Hub, Offline, Wire

_FLOOR_BYTES = 1_000_000_000  # stays free whatever is downloaded
_RATE_OVER_S = 15.0
_SAY_EVERY_S = 0.2


class NetworkWorker:
    """Runs `Download` work items.

    Args:
        models: The folder below which files go.
        on_change: Called when a model was added.
        wait_unit_s: A second, in tests less.
    """

    def __init__(self, hub: Hub, models: Path, on_change: Callable[[], None], wait_unit_s: float = 1.0) -> None:
        self._wire = Wire(hub)
        self._models = models
        self._on_change = on_change
        self._wait_unit_s = wait_unit_s
        self._lock = threading.Lock()
        self._running = ""
        self._stopped = threading.Event()
        self._is_ending = False

    def cancel(self, job_id: str) -> None:
        """End the running download at once, if it is this one."""
        with self._lock:
            if self._running != job_id:
                return
            self._stopped.set()
            self._wire.cut()

    def stop(self) -> None:
        """End whatever runs."""
        with self._lock:
            self._is_ending = True
            self._stopped.set()
            self._wire.cut()

    def run(self, work_items: Sequence[WorkItem]) -> Iterator[WorkerEvent]:
        """Download; each work item gets exactly one ending."""
        for work_item in work_items:
            with self._lock:
                self._running = work_item.job_id
                if not self._is_ending:
                    self._stopped.clear()
                    self._wire.reopen()
            began, task = time.monotonic(), work_item.task
            assert isinstance(task, Download)
            try:
                yield from self._download(work_item.job_id, task)
                yield WorkDone(work_item.job_id, time.monotonic() - began)
            except Broken:
                yield WorkCancelled(work_item.job_id)
            except Offline as error:
                yield WorkFailed(work_item.job_id, error.code, error.message, f"{error.hint} {put_where(task)}")
            except StudioError as error:
                yield (
                    WorkCancelled(work_item.job_id)
                    if self._stopped.is_set()
                    else WorkFailed(work_item.job_id, error.code, error.message, error.hint)
                )
            except OSError as error:
                yield WorkFailed(
                    work_item.job_id,
                    "download_failed",
                    f"{Path(error.filename or 'A file').name} can't be written ({error.strerror}).",
                    "Correct the permissions of the models folder.",
                )
            finally:
                with self._lock:
                    self._running = ""

    def _download(self, job_id: str, task: Download) -> Iterator[WorkerEvent]:
        yield WorkLoading(job_id, task.label)
        repository = read_repository(self._wire, task.source, task.revision)
        files = chosen_files(repository, task.files)
        todo = plan(task, files, self._models)
        missing = todo.missing(lambda file, path: is_whole(file, path, self._stopped))
        if not missing:
            yield WorkNotice(job_id, "already_here", f"{task.label} is here already.")
            return
        _check_room(todo, missing)
        meter = _Meter(job_id, task.label, sum(file.size_bytes for file in files))
        fetcher = Fetcher(self._wire, repository, self._stopped, self._wait_unit_s)
        for file, place in todo.places:
            working = todo.working(place)
            if place in missing and not is_whole(file, working, self._stopped):
                for have in fetcher.fetch(file, working, pinned_sha256(task.source, file.path)):
                    yield from meter.say(have)
            meter.next(file.size_bytes)
        if todo.home is not None:
            todo.working(todo.home).replace(todo.home)
        if any(file.is_pickle for file in files) and task.kind != "annotator":
            yield WorkNotice(
                job_id,
                "quarantine",
                f"{task.label} can run code when opened. Convert it to safetensors; Darkroom can do that.",
            )
        self._on_change()


def _check_room(todo: Plan, missing: Mapping[Path, int]) -> None:
    """Check the free space before anything is fetched.

    Raises:
        StorageFull: names how much is needed and how much is free.
    """
    there = 0
    for place in missing:
        for found in (todo.working(place), todo.working(place).with_name(place.name + ".part")):
            there += found.stat().st_size if found.is_file() else 0
    needed = sum(missing.values()) - there
    folder = next(iter(missing))
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed + _FLOOR_BYTES > free:
        raise StorageFull(
            f"The download needs {_gigabytes(needed)}; {_gigabytes(free)} are free.",
            "Free some space (1 GB is kept free for pictures), then try again.",
        )


def _gigabytes(count: int) -> str:
    if count >= 99_500_000:
        return f"{count / 1e9:.1f} GB"
    return f"{max(1, round(count / 1e6))} MB"


class _Meter:
    """Counts the bytes of all files of a download; measures the rate and estimates the remaining time."""

    def __init__(self, job_id: str, label: str, total: int) -> None:
        self._job_id, self._label, self._total = job_id, label, total
        self._before = 0
        self._said_at = -_SAY_EVERY_S
        self._seen: deque[tuple[float, int]] = deque()

    def next(self, size_bytes: int) -> None:
        """The next file begins."""
        self._before += size_bytes

    def say(self, have: int) -> Iterator[WorkLoading]:
        """Report so many bytes of this file; nothing within 0.2 s of the last report."""
        now = time.monotonic()
        if now - self._said_at < _SAY_EVERY_S:
            return
        self._said_at = now
        done = self._before + have
        self._seen.append((now, done))
        while self._seen[0][0] < now - _RATE_OVER_S:
            self._seen.popleft()
        seconds, came = now - self._seen[0][0], done - self._seen[0][1]
        left = (self._total - done) * seconds / came if came > 0 and seconds > 1 else None
        yield WorkLoading(
            self._job_id,
            self._label,
            done / self._total if self._total else None,
            done,
            self._total,
            None if left is None else round(left, 1),
        )
