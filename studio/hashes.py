"""sha256 of model folders: computed once in the background, remembered as long as the files are unchanged.

A folder's hash is over its sorted (relative path, sha256 of the file) pairs; side files (README, preview,
darkroom.json) do not count, so that a new title does not make a new model.
"""

import hashlib
import logging
import string
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from contract.errors import StudioError
from studio.database import Database

logger = logging.getLogger(__name__)
_CHUNK = 1 << 20


class ModelHashes:
    """Hashes by folder. `request` early, `get` when it is needed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._running: dict[str, Future[str]] = {}
        self._stopping = threading.Event()

    def known(self, folder: Path) -> str | None:
        """The hash if it is remembered; reads no weights. Raises OSError."""
        found = self._database.value("SELECT sha256 FROM model_hashes WHERE stamp = ?", (_stamp(folder),))
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
        stamp = _stamp(folder)
        with self._lock:
            future = self._running.get(stamp)
            if future is not None:
                return future
            future = Future()
            known = self._database.value("SELECT sha256 FROM model_hashes WHERE stamp = ?", (stamp,))
            if known:
                future.set_result(str(known))
                return future
            self._running[stamp] = future
        threading.Thread(target=self._work, args=(folder, stamp, future), name="hash", daemon=True).start()
        return future

    def get(self, folder: Path) -> str | None:
        """The hash, waited for; None if the folder can't be read any more."""
        try:
            return self.request(folder).result()
        except OSError as error:
            logger.warning("%s can't be hashed: %s", folder.name, error.strerror)
            return None

    def stop(self) -> None:
        """Give up what is under way."""
        self._stopping.set()

    def _work(self, folder: Path, stamp: str, future: "Future[str]") -> None:
        try:
            sha256 = self._hash(folder)
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
            self._database.write("INSERT OR REPLACE INTO model_hashes (stamp, sha256, folder) VALUES (?, ?, ?)",
                                 (stamp, sha256, str(folder)))
        except StudioError as error:
            logger.warning("a model's hash could not be kept: %s", error.message)

    def _hash(self, folder: Path) -> str:
        whole = hashlib.sha256()
        for path in _files(folder):
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                    if self._stopping.is_set():
                        raise InterruptedError(4, "Darkroom is stopping")
            whole.update(f"{path.relative_to(folder).as_posix()}\0{digest.hexdigest()}\n".encode())
        return whole.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """The files that make the model, sorted by their relative path."""
    found = [path for path in folder.rglob("*") if path.is_file()
             and (path.parent != folder or path.name == "model_index.json")
             and not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not found:
        raise FileNotFoundError(2, "the folder is gone or empty")
    yield from sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _stamp(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in _files(folder):
        status = path.stat()
        name = path.relative_to(folder).as_posix()
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
