"""Receives uploaded images: bodies are spooled to the disk, and only a few at a time are read and decoded.

Twenty of 38 MB at once took 2.8 GB, half of it never freed. Memory of large ones is returned to the system afterwards.
"""

import asyncio
import ctypes
import errno
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from contract.errors import QueueFull, StorageFull

AT_ONCE = 2
MOST_BYTES = 1_000_000_000
PATIENCE_S = 240.0  # the page waits for 300; twenty of 24 megapixels of noise took a busy machine 150
_SMALL_BYTES = 1_000_000


class ImageBodies:
    """Receives image bodies.

    Args:
        folder: Where they are spooled, as unnamed files.
        at_once: How many may be in memory.
        most_bytes: How many bytes of all of them may be on the disk.
        patience_s: How long one may wait for its turn.
    """

    def __init__(
        self, folder: Path, at_once: int = AT_ONCE, most_bytes: int = MOST_BYTES, patience_s: float = PATIENCE_S
    ) -> None:
        self._folder = folder
        self._turns = asyncio.Semaphore(at_once)
        self._most_bytes = most_bytes
        self._patience_s = patience_s
        self._bytes = 0

    @asynccontextmanager
    async def received(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """A body's bytes, once all have arrived and its turn has come; the turn lasts as long as the `async with`.

        Raises:
            QueueFull: too many are sent at once, or its turn did not come in time.
            StorageFull: no space for them.
        """
        with tempfile.SpooledTemporaryFile(_SMALL_BYTES, dir=str(self._folder)) as file:
            size = 0
            try:
                async for part in parts:
                    if self._bytes + len(part) > self._most_bytes:
                        raise _too_many()
                    size += len(part)
                    self._bytes += len(part)
                    _write(file, part)
                try:
                    async with asyncio.timeout(self._patience_s):
                        await self._turns.acquire()
                except TimeoutError:
                    raise _too_many() from None
                try:
                    file.seek(0)
                    data = await asyncio.to_thread(file.read)
                    yield data
                finally:
                    del data
                    self._turns.release()
            finally:
                self._bytes -= size
        if size > _SMALL_BYTES:
            await asyncio.to_thread(give_back)


def _write(file: "tempfile.SpooledTemporaryFile[bytes]", part: bytes) -> None:
    try:
        file.write(part)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull(
                "The disk is full: the picture can't be received.", "Free some space, then try again."
            ) from None
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise _too_many() from None
        raise StorageFull(
            f"The picture can't be received ({error.strerror}).",
            "Correct the permissions of the data folder, then try again.",
            code="storage_refused",
        ) from None


def _too_many() -> QueueFull:
    return QueueFull("Too many pictures are being sent at once.", "Send it again in a moment.", retry_after_s=5)


def give_back() -> None:
    """Have the C library return free memory to the system (Linux with glibc only)."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
