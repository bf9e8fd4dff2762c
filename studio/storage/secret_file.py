"""A secret of the data folder: 32 bytes in a file, made when missing.

A damaged one is set aside and reported, not silently replaced. Knows nothing of what the secret is for.
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
    """What the file holds.

    Attributes:
        is_new: It was made just now.
        problem: A sentence, if there was one that could not be used; it lies beside as .bad.
    """

    value: bytes = field(repr=False)
    is_new: bool = False
    problem: str = ""


def secret_or_new(path: Path) -> Secret:
    """Read a secret, or make it (mode 0600) in one atomic step; a damaged file is kept aside, and a new one made.

    Raises:
        StudioError: it can't be moved aside, or a new one can't be written.
    """
    found = _read_or_make(path)
    if isinstance(found, Secret):
        return found
    with _explained(path):
        value = _replace_damaged(path)
    problem = (
        f"{path.name} was damaged ({found}). It is kept as {_aside(path).name}, and a new one was made. If you have "
        f"a copy of it, end Darkroom, put the copy in the place of {path.name}, and start again."
    )
    return Secret(value, is_new=True, problem=problem)


def _read_or_make(path: Path) -> Secret | str:
    """The secret, made if there was none; else what is wrong with the file."""
    with _explained(path):
        try:
            value = path.read_bytes()
        except FileNotFoundError:
            return Secret(_make(path), is_new=True)
        except OSError as error:
            if path.is_dir():
                return "it is a folder"
            return f"it can't be read: {error.strerror}"
        if not value:
            return "it is empty"
        if not any(value):
            return "it holds nothing but zeros"
        if len(value) != SECRET_BYTES:
            return f"{len(value)} bytes"
        if os.name == "posix" and path.stat().st_mode & 0o077:
            path.chmod(0o600)
        return Secret(value)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
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


def _replace_damaged(path: Path) -> bytes:
    """Set the damaged file aside and make a new secret; older ones that were set aside are kept, numbered."""
    aside, number = _aside(path), 1
    while os.path.lexists(aside) and number < 1000:  # the last damaged one keeps the plain name
        number += 1
        aside = path.with_name(f"{path.name}.{number}.bad")
    if number > 1:
        _aside(path).replace(aside)
    path.replace(_aside(path))
    return _make(path)


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
