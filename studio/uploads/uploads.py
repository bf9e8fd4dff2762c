"""Uploaded images: opened safely once, re-encoded as PNG, kept by the sha256 of that PNG."""

import hashlib
import io
import json
import os
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from contract.errors import InvalidInput, StorageFull
from contract.records import StoredUpload
from contract.work import RawImage
from studio.storage.durable_writes import write_through
from studio.uploads.file_kinds import PNG_SIGNATURE
from studio.uploads.png_text import read_text
from studio.uploads.safe_open import read_picture

KEPT_S = 86_400.0
_SWEEP_EVERY_S = 3600.0
_NOTES = "darkroom-notes"
_HEAD_BYTES = 4096
Notes = tuple[tuple[str, str], ...]
_BEGINNING = PNG_SIGNATURE + b"\0\0\0\rIHDR"
_END = b"\0\0\0\0IEND\xaeB`\x82"


class Uploads:
    """The folder of uploads."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        self._root = root
        self._clock = clock
        self._lock = threading.Lock()
        self._next_sweep = 0.0

    def add(self, data: bytes) -> StoredUpload:
        """Normalize and keep an image; the same image twice is kept once.

        Raises:
            InvalidInput, TooLarge: it can't be used; says why.
            StorageFull: no space.
        """
        with self._lock:  # one at a time: decoding takes up to 100 MB
            opened = read_picture(data)
            return self._store(opened.image, opened.notes)

    def add_raw(self, pixels: RawImage) -> StoredUpload:
        """Keep a picture that the engine made. Raises StorageFull: no space."""
        with self._lock:
            return self._store(Image.frombytes("RGB", (pixels.width, pixels.height), pixels.rgb))

    def _store(self, picture: Image.Image, notes: Notes = ()) -> StoredUpload:
        picture.info.clear()
        info = PngInfo()
        if notes:  # they belong to the image: every job that works from it repeats them
            info.add_text(_NOTES, json.dumps(notes))
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=1, pnginfo=info)
        png = buffer.getvalue()
        sha256 = hashlib.sha256(png).hexdigest()
        path = self.path(sha256)
        part = path.with_suffix(".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            is_kept = False
            with suppress(OSError):
                is_kept = path.read_bytes() == png
            if is_kept:
                os.utime(path)
            else:  # also one that was damaged meanwhile
                write_through(part, png)
                os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise StorageFull(
                f"The picture can't be kept in inputs/ ({error.strerror}).", "Free some space, then try again."
            ) from None
        sentences = tuple(sentence for _, sentence in notes)
        return StoredUpload(sha256=sha256, width=picture.width, height=picture.height, notices=sentences)

    def path(self, sha256: str) -> Path:
        """The path of an upload, whether it is there or not."""
        return self._root / sha256[:2] / f"{sha256}.png"

    def size(self, sha256: str) -> tuple[int, int] | None:
        """Width and height of a picture that is kept, from its header; None if it is not, or is cut off.

        Raises:
            InvalidInput: it is there and can't be read.
        """
        try:
            with self.path(sha256).open("rb") as file:
                head = file.read(24)
                file.seek(max(0, file.seek(0, os.SEEK_END) - len(_END)))
                is_whole = head.startswith(_BEGINNING) and file.read() == _END
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unreadable(error) from None
        return struct.unpack(">II", head[16:24]) if is_whole else None

    def gray_range(self, sha256: str) -> tuple[int, int] | None:
        """Darkest and lightest gray of a kept picture, 0 to 255; None if it can't be read.

        What is transparent counts as black.
        """
        try:
            with Image.open(self.path(sha256), formats=["PNG"]) as file:
                return grays_of(file)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None

    def notes(self, sha256: str) -> Notes:
        """The notices of when an image was uploaded, as (code, sentence)."""
        try:
            with self.path(sha256).open("rb") as file:
                head = file.read(_HEAD_BYTES)
            found = json.loads(read_text(io.BytesIO(head)).get(_NOTES, "[]"))
        except (OSError, ValueError, InvalidInput):
            return ()
        return tuple((str(code), str(sentence)) for code, sentence in found)

    def picture(self, sha256: str) -> Image.Image | None:
        """A kept picture, not yet decoded; None if it is gone."""
        try:
            return Image.open(io.BytesIO(self.path(sha256).read_bytes()), formats=["PNG"])
        except OSError:
            return None

    def read(self, sha256: str) -> bytes:
        """The PNG of a kept picture.

        Raises:
            InvalidInput: it is gone, can't be read, or its bytes are no longer those that were kept.
        """
        try:
            data = self.path(sha256).read_bytes()
        except FileNotFoundError:
            raise InvalidInput(
                "A picture that the job works from is not here any more.", "Add it again.", code="upload_gone"
            ) from None
        except OSError as error:
            raise _unreadable(error) from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise InvalidInput(
                "A picture that the job works from is damaged on the disk.", "Add it again.", code="upload_damaged"
            )
        return data

    def sweep_sometimes(self, named: Callable[[], frozenset[str]]) -> None:
        """Once an hour, remove uploads older than a day that no job or image names."""
        if self._clock() >= self._next_sweep:
            self._next_sweep = self._clock() + _SWEEP_EVERY_S
            self.sweep(named())

    def sweep(self, named: frozenset[str]) -> int:
        """Remove old pictures that nothing names; returns how many."""
        swept = 0
        for path in self._root.glob("*/*.p*"):
            with suppress(OSError):  # one that can't be removed holds up no other
                if path.stem not in named and path.stat().st_mtime < self._clock() - KEPT_S:
                    path.unlink()
                    swept += 1
        return swept


def grays_of(picture: Image.Image) -> tuple[int, int]:
    """Darkest and lightest gray, 0 to 255; transparent pixels count as black."""
    if picture.mode in ("RGBA", "LA", "PA", "P"):
        over = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", over.size, "black"), over)
    low, high = picture.convert("L").getextrema()
    return int(low), int(high)  # type: ignore[arg-type]


def _unreadable(error: OSError) -> InvalidInput:
    return InvalidInput(
        f"A picture in inputs/ can't be read ({error.strerror or type(error).__name__}).",
        "Correct the permissions of the data folder, then try again.",
        code="upload_unreadable",
    )
