"""Locks the data folder for one program, with a lock that the system releases when the process ends."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from contract.errors import StudioError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


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
            if sys.platform == "win32":
                file.seek(0)  # the first byte is locked; the pid stands behind it and stays readable
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = ""
            with suppress(OSError):
                file.seek(1)
                pid = file.read(20).decode("ascii", "replace").strip()
            file.close()
            shown = f" (process {pid})" if pid.isdigit() else ""
            raise StudioError(
                f"Another Darkroom{shown} uses this data folder.",
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
