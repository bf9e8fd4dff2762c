"""A secret of the data folder: 32 bytes in a file, made when missing.

A damaged file is set aside and reported, not silently replaced. Does not know what the secret is for.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from contract.errors import StudioError

SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Secret:
    """The content of the file.

    Attributes:
        is_new: It was made just now.
        problem: A sentence, if there was a damaged file, which is kept as .bad; else empty.
    """

    value: bytes = field(repr=False)
    is_new: bool = False
    problem: str = ""


def secret_or_new(path: Path) -> Secret:
    """Read a secret, or make it (mode 0600) in one atomic step; a damaged file is kept aside, and a new one made.

    Raises:
        StudioError: it can't be moved aside, or a new one can't be written.
    """
    with _data_folder_refused(path):
        value = b""
        damage = ""
        try:
            value = path.read_bytes()
        except FileNotFoundError:
            return Secret(_make(path), is_new=True)
        except OSError as error:
            damage = "it is a folder" if path.is_dir() else f"it can't be read: {error.strerror}"
        if not damage and not value:
            damage = "it is empty"
        elif not damage and not any(value):
            damage = "it holds nothing but zeros"
        elif not damage and len(value) != SECRET_BYTES:
            damage = f"{len(value)} bytes"
        if not damage:
            if os.name == "posix" and path.stat().st_mode & 0o077:
                path.chmod(0o600)
            return Secret(value)
        # The last damaged one gets the plain name; older ones that were set aside are kept, numbered.
        aside, number = _aside(path), 1
        while os.path.lexists(aside) and number < 1000:
            number += 1
            aside = path.with_name(f"{path.name}.{number}.bad")
        if number > 1:
            _aside(path).replace(aside)
        path.replace(_aside(path))
        value = _make(path)
    problem = (
        f"{path.name} was damaged ({damage}). It is kept as {_aside(path).name}, and a new one was made. If you have "
        f"a copy of it, end Darkroom, put the copy in the place of {path.name}, and start again."
    )
    return Secret(value, is_new=True, problem=problem)


@contextmanager
def _data_folder_refused(path: Path) -> Iterator[None]:
    """Turn the file system's refusals into a StudioError."""
    try:
        yield
    except OSError as error:
        raise StudioError(
            f"{path.name} can't be used ({error.strerror}).",
            "Correct the permissions of the data folder.",
            code="data_folder",
        ) from None


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.bad")


def _make(path: Path) -> bytes:
    value = secrets.token_bytes(SECRET_BYTES)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(value)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    return value
