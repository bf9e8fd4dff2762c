"""sha256 of models: computed once, one at a time, remembered as long as the files are unchanged.

A file's is its own, whose first ten digits are A1111's short hash. A folder's is over its sorted (relative path,
sha256 of the file) pairs; side files (README, preview, darkroom.json) do not count, so that a new title does not make
a new model. Jobs request those of their models; all others are computed when nothing else runs (`HashKeeper`).
Hashes are stored by the path, size, times and first bytes of every file: copies in two places are two models.
"""

import contextlib
import hashlib
import logging
import os
import string
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from catalog.files.folders import files_below
from catalog.models import ModelEntry
from contract.errors import StudioError
from studio.library.other_hashes import OtherHashes
from studio.storage.database import Database

logger = logging.getLogger(__name__)
_CHUNK = 1 << 20
SHORT_DIGITS = 10
_LOWEST_PRIORITY = 19
_PAUSE_S = 0.5
_LOOK_S = 5.0
_CHUNK_REST_S = 0.001  # a megabyte takes about as long
_TRY_AGAIN_S = 60.0  # after a file could not be read
_HEAD_BYTES = 65_536


class ModelHashes:
    """Hashes by path. `request` early, `get` when it is needed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._running: dict[str, Future[str]] = {}
        self._turn = threading.Lock()
        self._short: dict[str, str] | None = None
        self._failed_at: dict[str, float] = {}  # by the stamp of what was listed
        self._stopping = threading.Event()

    def known(self, folder: Path) -> str | None:
        """The hash if it is remembered; reads no weights. Raises OSError."""
        return self._remembered(_stamp_of(folder), folder)

    def _remembered(self, stamp: str, folder: Path) -> str | None:
        found = self._database.value("SELECT sha256 FROM model_hashes WHERE stamp = ?", (stamp,))
        if not found:  # an earlier version knew neither place nor beginning, but which folder it had read
            found = self._database.value(
                "SELECT sha256 FROM model_hashes WHERE stamp = ? AND folder = ?", (_first_stamp(folder), str(folder))
            )
        return str(found) if found else None

    def folders_of(self, beginning: str) -> frozenset[Path]:
        """Folders that once had a hash with this beginning (8 digits or more); they may have changed since."""
        if not 8 <= len(beginning) <= 64 or not set(beginning) <= set(string.hexdigits):
            return frozenset()
        low = beginning.lower()
        rows = self._database.rows("SELECT folder FROM model_hashes WHERE sha256 BETWEEN ? AND ?", (low, low + "g"))
        return frozenset(Path(row["folder"]) for row in rows)

    def request(self, folder: Path) -> "Future[str]":
        """Begin to hash a folder, unless it is known or under way. Raises OSError."""
        stamp = _stamp_of(folder)
        with self._lock:
            future = self._running.get(stamp)
            if future is not None:
                return future
            future = Future()
            known = self._remembered(stamp, folder)
            if known:
                future.set_result(known)
                return future
            self._running[stamp] = future
        threading.Thread(target=self._work, args=(folder, stamp, future), name="hash", daemon=True).start()
        return future

    def get(self, folder: Path) -> str | None:
        """The hash, waited for; None if the folder can no longer be read."""
        try:
            return self.request(folder).result()
        except OSError as error:
            logger.warning("%s can't be hashed: %s", folder.name, error.strerror)
            return None

    def short(self, entry: ModelEntry) -> str:
        """The short hash of a model as it was listed; "" while it isn't known. Reads no files."""
        if self._short is None:
            try:
                rows = self._database.rows("SELECT stamp, sha256 FROM model_hashes WHERE stamp LIKE 'listed %'")
            except StudioError:
                return ""
            self._short = {row["stamp"]: row["sha256"][:SHORT_DIGITS] for row in rows}
        return self._short.get(_stamp_as_listed(entry), "")

    def learn(self, entry: ModelEntry, wait: Callable[[], None]) -> None:
        """Hash a listed model, slowly; it may be gone or changed by now. `wait` is called between chunks of it."""
        listed = _stamp_as_listed(entry)
        try:
            stamp = _stamp_of(entry.path)
            sha256 = self._remembered(stamp, entry.path)
            if sha256 is None:
                sha256 = self._hash_unchanged(entry.path, stamp, wait)
                self._remember(stamp, sha256, entry.path)
        except (OSError, StudioError) as error:
            if not isinstance(error, InterruptedError):  # the program ends, or the file is being written
                logger.info("%s can't be hashed: %s", entry.path.name, error)
            self._failed_at[listed] = time.monotonic()
            return
        self._failed_at.pop(listed, None)
        self._remember(listed, sha256, entry.path)
        if self._short is not None:
            self._short[listed] = sha256[:SHORT_DIGITS]

    def is_learnt(self, entry: ModelEntry) -> bool:
        """Whether `learn` was called for a model as it is; not for long if that failed."""
        self.short(entry)
        listed = _stamp_as_listed(entry)
        if self._short is None or listed in self._short:
            return True
        failed_at = self._failed_at.get(listed)
        return failed_at is not None and time.monotonic() - failed_at < _TRY_AGAIN_S

    @property
    def is_asked(self) -> bool:
        """Whether a job waits for a hash."""
        return bool(self._running)

    def stop(self) -> None:
        """Stop hashing."""
        self._stopping.set()

    def _work(self, folder: Path, stamp: str, future: "Future[str]") -> None:
        try:
            with self._turn:
                sha256 = self._hash_unchanged(folder, stamp)
        except OSError as error:
            future.set_exception(error)
        else:
            future.set_result(sha256)
            self._remember(stamp, sha256, folder)
        finally:
            with self._lock:
                self._running.pop(stamp, None)

    def _remember(self, stamp: str, sha256: str, folder: Path) -> None:
        try:
            self._database.write(
                "INSERT OR REPLACE INTO model_hashes (stamp, sha256, folder) VALUES (?, ?, ?)",
                (stamp, sha256, str(folder)),
            )
        except StudioError as error:
            logger.warning("a model's hash could not be kept: %s", error.message)

    def _hash_unchanged(self, folder: Path, stamp: str, wait: Callable[[], None] | None = None) -> str:
        """The hash of the files that the stamp was taken of. Raises OSError, also if they changed meanwhile."""
        if folder.is_file():
            sha256 = self._hash_file(folder, wait)
        else:
            whole = hashlib.sha256()
            for path in _hashed_files(folder):
                whole.update(f"{path.relative_to(folder).as_posix()}\0{self._hash_file(path, wait)}\n".encode())
            sha256 = whole.hexdigest()
        if _stamp_of(folder) != stamp:
            raise InterruptedError(4, "it changed meanwhile")
        return sha256

    def _hash_file(self, path: Path, wait: Callable[[], None] | None) -> str:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                if wait is not None:
                    wait()
                if self._stopping.is_set():
                    raise InterruptedError(4, "Darkroom is stopping")
        return digest.hexdigest()


class HashKeeper:
    """Hashes the listed models, one after another, at the lowest priority, and only while nothing else runs.

    Args:
        listed: The models, without a new look at the disk.
        is_busy: Whether a job runs.
        others: Hashes of other programs, learned in the same way.
        look_s: How long it rests when all hashes are known.
    """

    def __init__(
        self,
        hashes: ModelHashes,
        listed: Callable[[], tuple[ModelEntry, ...]],
        is_busy: Callable[[], bool],
        look_s: float = _LOOK_S,
        others: OtherHashes | None = None,
    ) -> None:
        self._hashes = hashes
        self._others = others
        self._listed = listed
        self._is_busy = is_busy
        self._look_s = look_s
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin, on a thread of its own."""
        threading.Thread(target=self._work, name="hash-keeper", daemon=True).start()

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()

    def _work(self) -> None:
        def wait_or_end() -> None:
            self._wait()
            if self._stopping.is_set():
                raise InterruptedError(4, "Darkroom is stopping")

        with contextlib.suppress(AttributeError, OSError):  # Linux alone has priorities of threads
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
        while not self._stopping.wait(self._look_s):
            for entry in self._listed():
                if not self._hashes.is_learnt(entry):
                    self._wait()
                    self._hashes.learn(entry, self._wait)
                if self._others and not self._others.is_learnt(entry) and not self._stopping.is_set():
                    self._others.learn(entry, wait_or_end)
                if self._stopping.is_set():
                    return

    def _wait(self) -> None:
        """Yield to other work: wait while it runs, else half of the time."""
        self._stopping.wait(_CHUNK_REST_S)
        while (self._is_busy() or self._hashes.is_asked) and not self._stopping.is_set():
            self._stopping.wait(_PAUSE_S)


def _stamp_as_listed(entry: ModelEntry) -> str:
    return f"listed {entry.path} {entry.ref.fingerprint or entry.modified}"


def _hashed_files(folder: Path) -> list[Path]:
    """The files that make the model, sorted by their relative path. Raises FileNotFoundError.

    The weights of a component alone (a ControlNet) lie in its folder itself.
    """
    if folder.is_file():
        return [folder]
    is_component = not (folder / "model_index.json").is_file()
    found: dict[str, Path] = {}
    for path in files_below(folder):
        is_component_file = path.name == "config.json" or path.suffix == ".safetensors"
        is_of_model = path.parent != folder or path.name == "model_index.json" or (is_component and is_component_file)
        if is_of_model and path.is_file():
            found[path.relative_to(folder).as_posix()] = path
    if not found:
        raise FileNotFoundError(2, "the folder is gone or empty")
    return [found[name] for name in sorted(found)]


def _stamp_of(folder: Path) -> str:
    """Changes with the place of a file or folder and with whatever is hashed of it. Raises OSError.

    Without the files' numbers: some disks number anew each time they are plugged in, and a library takes hours.
    """
    digest = hashlib.sha256(f"{os.path.abspath(folder)}\n".encode("utf-8", "surrogateescape"))
    for path in _hashed_files(folder):
        status = path.stat()
        with path.open("rb") as file:
            head = hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()
        line = f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\0{head}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _first_stamp(folder: Path) -> str:
    """The stamp as the first version of the program computed it. Raises OSError."""
    digest = hashlib.sha256()
    for path in _hashed_files(folder):
        status = path.stat()
        name = path.relative_to(folder).as_posix() if path != folder else path.name
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
