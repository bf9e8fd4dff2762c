"""One program on one data folder: an operating-system lock, which ends with the process whatever happens."""

import os
import sys
from pathlib import Path
from typing import IO

from contract.errors import StudioError


class DataLock:
    """Holds `darkroom.lock` in the data folder; the pid inside is only for the message."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "darkroom.lock"
        self._file: IO[bytes] | None = None

    def acquire(self) -> None:
        """Take the folder.

        Raises:
            StudioError: another program holds it, or it can't be written.
        """
        if self._file:
            return
        try:
            file = open(self._path, "a+b")  # noqa: SIM115 (kept open on purpose)
        except OSError as error:
            raise StudioError(
                f"The data folder can't be written ({error.strerror}).",
                "Choose another with --data, or correct its permissions.",
                code="data_folder",
            ) from None
        try:
            _lock(file)
        except OSError:
            pid = _pid_inside(file)
            file.close()
            raise StudioError(
                f"Another Darkroom{pid} uses this data folder.",
                "Close it, or give this one its own folder with --data.",
                code="data_folder_in_use",
            ) from None
        file.truncate(0)
        file.write(f" {os.getpid()}\n".encode())
        file.flush()
        self._file = file

    def release(self) -> None:
        """Give the folder back. Idempotent."""
        if self._file:
            self._file.close()
            self._file = None


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        file.seek(0)  # the first byte is locked; the pid stands behind it and stays readable
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _pid_inside(file: IO[bytes]) -> str:
    try:
        file.seek(1)
        text = file.read(20).decode("ascii", "replace").strip()
    except OSError:
        return ""
    return f" (process {text})" if text.isdigit() else ""
