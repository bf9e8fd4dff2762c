"""Downloads one file of the hub: resumes where an earlier try stopped, keeps nothing with a wrong checksum.

The received bytes are in `<name>.part` beside the target; the file is renamed when it is complete and its checksum is
right. Generators, so that the caller can report progress between two reads.
"""

import errno
import hashlib
import logging
import os
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from contract.errors import JobError, StorageFull
from studio.downloads.hub import Busy, HubFile, Repository, refuse_status
from studio.downloads.wire import Broken, Late, Wire

logger = logging.getLogger(__name__)
_CHUNK = 1 << 20
_WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0)  # before further tries; progress in between resets them
_LONGEST_BUSY_S = 120.0


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class Fetcher:
    """Downloads files of one repository.

    Args:
        stopped: Set to cancel; waits end at once.
        wait_unit_s: A second, in tests less.
        least_rate: Bytes/s that must arrive over each `slow_s` seconds; else it reconnects.
    """

    def __init__(
        self,
        wire: Wire,
        repository: Repository,
        stopped: threading.Event,
        wait_unit_s: float = 1.0,
        *,
        least_rate: float = 1000.0,
        slow_s: float = 60.0,
    ) -> None:
        self._wire = wire
        self._repository = repository
        self._stopped = stopped
        self._wait_unit_s = wait_unit_s
        self._least_rate, self._slow_s = least_rate, slow_s

    def fetch(self, file: HubFile, place: Path, pinned: str = "") -> Iterator[int]:
        """Download a file to its place; yields how many of its bytes have arrived.

        Args:
            pinned: sha256 that it must have whatever the hub says; empty where none is known.
        Raises:
            JobError: Offline, Busy, a wrong checksum, or the connection broke too often.
            StorageFull: no space; the received part is kept.
        """
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(place.name + ".part")
        for is_last in (False, True):
            resumed = part.exists()
            digest = yield from self._complete(file, part)
            if _is_right(file, pinned, digest):
                break
            part.unlink()
            if is_last or not resumed:  # the part may be of another version: once more from the start
                raise JobError(
                    f"“{place.name}” arrived damaged: its checksum is wrong.",
                    "It was deleted. Try again.",
                    code="checksum",
                )
            logger.warning("%s: the partial file was of another version; downloading it again", place.name)
        os.replace(part, place)

    def _complete(self, file: HubFile, part: Path) -> Generator[int, None, _Digest]:
        """Fill the part up to its size; the generator returns its digest."""
        digest = _new_digest(file)
        have = 0
        if part.exists() and part.stat().st_size > file.size_bytes:
            part.unlink()
        if part.exists():  # read what an earlier try left
            with part.open("rb") as known:
                while chunk := known.read(_CHUNK):
                    self._check_stopped()
                    digest.update(chunk)
                    have += len(chunk)
                    yield have
        tries = 0
        while have < file.size_bytes or not part.exists():
            before = have
            try:
                have, digest = yield from self._transfer(file, part, have, digest)
            except (Broken, Busy) as problem:
                have = part.stat().st_size if part.exists() else 0
                tries = 1 if have > before and not isinstance(problem, Late) else tries + 1
                self._pause(problem, tries, file)
        return digest

    def _pause(self, problem: Broken | Busy, tries: int, file: HubFile) -> None:
        wait_s = problem.retry_after_s if isinstance(problem, Busy) else _WAITS_S[min(tries, len(_WAITS_S)) - 1]
        if isinstance(problem, Busy) and (wait_s > _LONGEST_BUSY_S or tries > len(_WAITS_S)):
            raise problem
        if tries > len(_WAITS_S):
            raise JobError(
                f"The connection to {self._wire.hub.host} broke {tries} times in a row.",
                "The received part is kept: download it again to resume.",
                code="download_failed",
            )
        logger.info("%s: %s; try %d", file.path, problem, tries + 1)
        if self._stopped.wait(wait_s * self._wait_unit_s):
            raise Broken("cut")

    def _transfer(
        self, file: HubFile, part: Path, have: int, digest: _Digest
    ) -> Generator[int, None, tuple[int, _Digest]]:
        """Read one response, as far as it goes; the generator returns the size and the digest of the part."""
        path = f"/{quote(self._repository.id)}/resolve/{quote(self._repository.commit)}/{quote(file.path)}"
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._wire.ask(path, headers) as answer:
            refuse_status(answer, self._wire, self._repository.id)
            goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if have and not goes_on:
                have, digest = 0, _new_digest(file)
            with _full_disk_named(part), part.open("ab" if have else "wb") as out:
                began, since = time.monotonic(), 0
                while chunk := answer.read1(_CHUNK):
                    self._check_stopped()
                    have, since = have + len(chunk), since + len(chunk)
                    if (passed_s := time.monotonic() - began) > self._slow_s:
                        if since < self._least_rate * passed_s:
                            raise Late(f"less than {self._least_rate:,.0f} bytes a second")
                        began, since = began + passed_s, 0
                    if have > file.size_bytes:
                        raise JobError(
                            f"“{file.path}” is larger than {self._wire.hub.host} announced.",
                            "Try again later.",
                            code="download_failed",
                        )
                    out.write(chunk)
                    digest.update(chunk)
                    yield have
                out.flush()
                os.fsync(out.fileno())
        if have < file.size_bytes:
            raise Broken(f"it ended after {have:,} of {file.size_bytes:,} bytes")
        return have, digest

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise Broken("cut")


def is_whole(file: HubFile, path: Path, stopped: threading.Event) -> bool:
    """Whether a file is what the hub has, by its checksum: those of one architecture have one size.

    Raises:
        Broken: it was cancelled.
    """
    if not path.is_file() or path.stat().st_size != file.size_bytes:
        return False
    digest = _new_digest(file)
    with path.open("rb") as known:
        while chunk := known.read(_CHUNK):
            if stopped.is_set():
                raise Broken("cut")
            digest.update(chunk)
    return _is_right(file, "", digest)


@contextmanager
def _full_disk_named(part: Path) -> Iterator[None]:
    """Turn the error of a full disk into a StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull(
                f"No space left for {part.stem}.", "Free some, then download it again: the received part is kept."
            ) from None
        raise


def _new_digest(file: HubFile) -> _Digest:
    if file.sha256 or not file.blob:
        return hashlib.sha256()
    # git's blob id of a small file: the sha1 of a word, its length and its bytes; it guards against damage only.
    return hashlib.sha1(f"blob {file.size_bytes}\0".encode(), usedforsecurity=False)


def _is_right(file: HubFile, pinned: str, digest: _Digest) -> bool:
    listed = file.sha256 or file.blob
    return (not listed or digest.hexdigest() == listed) and (not pinned or digest.hexdigest() == pinned)
