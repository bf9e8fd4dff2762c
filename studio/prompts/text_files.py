"""Reads and writes small text files that people and other programs edit: in any usual encoding, never half written.

A file is read whole, up to a limit; links, devices and binaries are refused. A write keeps what was there as .bak.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

from contract.errors import InvalidInput, StudioError
from studio.storage.durable_writes import flush_folder, write_through

_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


class UnreadableText(InvalidInput):
    """A text file that can't be used; the sentence names it."""

    default_code = "unreadable_text"


def read_text(path: Path, most_bytes: int) -> str:
    """The text of a file; "\\r\\n" becomes "\\n". UTF-8 and 16 by their marks, else UTF-8, else Windows-1252.

    Raises:
        UnreadableText: it is no plain file, is binary or too large, or can't be read.
    """
    # No link is followed, and a pipe's other end is not waited for.
    flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        with open(path, "rb", opener=lambda name, given: os.open(name, given | flags)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UnreadableText(f"{path.name} is no plain file.", "Put a text file there.")
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise UnreadableText(f"{path.name} can't be read ({error.strerror}).", "Put a plain text file there.") from None
    if len(data) > most_bytes:
        raise UnreadableText(f"{path.name} is larger than {most_bytes / 1e6:g} MB.", "Split it.")
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if encoding is None and b"\0" in data:
        raise UnreadableText(f"{path.name} is no text.", "Put a text file there.")
    for name in (encoding or "utf-8", "cp1252", "latin-1"):
        with suppress(UnicodeError):
            return data.decode(name).replace("\r\n", "\n").replace("\r", "\n")
    raise AssertionError("latin-1 decodes everything")


def write_text(path: Path, text: str) -> None:
    """Write a file as UTF-8 so that either the old or the new one is there; the old one is kept as .bak beside it.

    Raises:
        StudioError: it can't be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            write_through(path.with_name(f"{path.name}.bak"), path.read_bytes())
        write_through(temporary, text.encode())
        os.replace(temporary, path)
        flush_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise StudioError(
            f"{path.name} can't be written ({error.strerror}).",
            "Free some space, or look at the folder's permissions.",
            code="text_not_written",
        ) from None
