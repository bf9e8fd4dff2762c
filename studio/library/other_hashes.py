"""Other hashes by which programs know a file: A1111's of LoRAs (AutoV3), trainers' own, and the old one of 8 digits.

AutoV3 is the sha256 of a safetensors file behind its header, so that a changed title doesn't make a new LoRA; kohya's
trainers write it into the header ("sshs_model_hash"), and beside it the old one ("sshs_legacy_hash"). The old one is of
64 KB from the first megabyte on. Source: A1111's and sd-scripts' published descriptions of their hashes.
"""

import hashlib
import logging
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from catalog.detect.entries import ModelEntry
from catalog.files.headers import read_whole_header
from contract.errors import ModelProblem, StudioError
from studio.storage.database import Database

logger = logging.getLogger(__name__)
SEARCH_S = 3.0
_MARK = "other "
_KINDS = frozenset({"lora", "checkpoint", "embedding", "hypernetwork"})
_NOTHING = hashlib.sha256(b"").hexdigest()  # some trainers wrote it into every file
LEAST_DIGITS = 8
_CHUNK = 1 << 20
_OLD_FROM, _OLD_BYTES, _OLD_DIGITS = 0x100000, 0x10000, 8
_HEX = frozenset("0123456789abcdef")
_HASH_FIELDS = ("sshs_model_hash", "sshs_legacy_hash")


def is_hash_of_nothing(beginning: str) -> bool:
    """Whether a hash is that of an empty file, which identifies nothing."""
    return _NOTHING.startswith(beginning.lower())


def quick_hashes(path: Path) -> frozenset[str]:
    """The hashes of a file that are known without reading it whole: the old one, and those in its header.

    Raises:
        OSError: the file can't be read.
    """
    found: set[str] = set()
    with path.open("rb") as file:
        for start in {0, _header_end(path)}:
            file.seek(start + _OLD_FROM)
            part = file.read(_OLD_BYTES)
            if part:
                found.add(hashlib.sha256(part).hexdigest()[:_OLD_DIGITS])
    # What the file's maker wrote, as far as it is a hash of something.
    try:
        metadata = read_whole_header(path).metadata
    except ModelProblem:
        return frozenset(found)
    for name in _HASH_FIELDS:
        digits = metadata.get(name, "").strip().lower().removeprefix("0x")
        if len(digits) >= LEAST_DIGITS and set(digits) <= _HEX and not is_hash_of_nothing(digits):
            found.add(digits)
    return frozenset(found)


def hash_behind_header(path: Path, wait: Callable[[], None] = lambda: None) -> str | None:
    """AutoV3 of a safetensors file; None for another, or an empty one. `wait` is called between megabytes.

    Raises:
        OSError: the file can't be read.
    """
    start = _header_end(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            wait()
    found = digest.hexdigest()
    return found if start and found != _NOTHING else None


def _header_end(path: Path) -> int:
    """Where the data of a safetensors file begins, whatever its name; 0 for another file."""
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] != b"{":
        return 0
    begins = 8 + int(struct.unpack("<Q", head[:8])[0])
    return begins if begins <= path.stat().st_size else 0


class OtherHashes:
    """Finds models by these hashes; they are remembered beside the sha256s, as long as a file is unchanged."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._learnt: set[str] = set()

    def find(self, beginning: str, entries: Sequence[ModelEntry], *, seconds: float = SEARCH_S) -> ModelEntry | None:
        """A usable model with a hash that begins so (8 digits or more).

        Files not yet known are read, for some seconds.
        """
        low = beginning.lower()
        if not LEAST_DIGITS <= len(low) <= 64 or not set(low) <= _HEX or is_hash_of_nothing(low):
            return None
        usable = [entry for entry in entries if entry.problem is None and _is_of_interest(entry)]
        found = self._known(low, usable)
        if found is not None:
            return found
        deadline = self._clock() + seconds

        def wait() -> None:
            if self._clock() > deadline:
                raise InterruptedError(4, "the search took too long")

        for entry in usable:
            if self._clock() > deadline:
                break
            if not self.is_learnt(entry):
                self.learn(entry, wait)
                found = self._known(low, [entry])
                if found is not None:
                    return found
        return None

    def is_learnt(self, entry: ModelEntry) -> bool:
        """Whether `learn` was called for a file as it was listed. Reads no files."""
        return not _is_of_interest(entry) or _listing_key(entry) in self._learnt

    def learn(self, entry: ModelEntry, wait: Callable[[], None] = lambda: None) -> None:
        """Read the hashes of a listed file; it may be gone or changed by now. `wait` may raise InterruptedError."""
        self._learnt.add(_listing_key(entry))
        try:
            stamp = _file_stamp(entry.path)
            if self._database.value("SELECT 1 FROM model_hashes WHERE stamp = ?", (f"{_MARK}done {stamp}",)):
                return
            found = set(quick_hashes(entry.path))
            if entry.ref.kind == "lora":
                found.add(hash_behind_header(entry.path, wait) or "")
            rows = [(f"{_MARK}{digits} {stamp}", digits) for digits in sorted(found) if digits]
            rows.append((f"{_MARK}done {stamp}", ""))  # marks the file as done; no hash is found by it
            for name, digits in rows:
                self._database.write(
                    "INSERT OR REPLACE INTO model_hashes (stamp, sha256, folder) VALUES (?, ?, ?)",
                    (name, digits, str(entry.path)),
                )
        except InterruptedError:
            self._learnt.discard(_listing_key(entry))
        except OSError as error:
            logger.info("%s can't be hashed: %s", entry.path.name, error.strerror)
        except StudioError as error:
            logger.info("%s is not hashed: %s", entry.path.name, error.message)

    def _known(self, low: str, entries: Sequence[ModelEntry]) -> ModelEntry | None:
        rows = self._database.rows(
            "SELECT stamp, sha256, folder FROM model_hashes WHERE sha256 BETWEEN ? AND ?", (low, low + "g")
        )
        stamps: dict[str, tuple[str, str]] = {}
        for row in rows:
            if str(row["stamp"]).startswith(_MARK):
                stamps[str(row["folder"])] = (str(row["stamp"]), str(row["sha256"]))
        for entry in entries:
            stamp, digits = stamps.get(str(entry.path), ("", ""))
            if not stamp:
                continue
            with suppress(OSError):  # one that is gone
                if stamp == f"{_MARK}{digits} {_file_stamp(entry.path)}":
                    return entry
        return None


def _is_of_interest(entry: ModelEntry) -> bool:
    return entry.ref.kind in _KINDS and entry.format == "file"


def _listing_key(entry: ModelEntry) -> str:
    return f"{entry.path} {entry.ref.fingerprint or entry.modified}"


def _file_stamp(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
