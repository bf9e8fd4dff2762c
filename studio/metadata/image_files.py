"""Image files on the disk, PNGs with their recipe inside: never half written, never overwriting another.

The text chunk `parameters` is A1111's infotext, `darkroom` is JSON from which the index can be rebuilt.
Written to a temporary file in the same folder, flushed to the disk, renamed, folder flushed.
"""

import errno
import io
import json
import logging
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import BaseModel, ConfigDict, Field

from contract.errors import InvalidInput, NotFound, StorageFull
from contract.recipe import Recipe
from contract.records import ImageRecord
from contract.tasks import Upscale
from contract.work import RawImage
from studio import VERSION
from studio.metadata import infotext
from studio.storage.durable_writes import flush_folder, write_through
from studio.storage.ids import is_id
from studio.uploads.png_text import read_text

logger = logging.getLogger(__name__)
KEYWORD = "darkroom"
_PART = ".part"
_MOST = 1_000_000  # of any count in an image's facts
_FLOOR_BYTES = 16_000_000  # for the database, thumbnails and the log
_NUMBERED = re.compile(r"(\d{5,9})-\w+\.png")
_TRY_AGAIN = "then press Try again; the picture is kept in memory."
_GOES_ON = "what waits goes on by itself."
_NO_SPACE = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """The facts that an image file holds beside its pixels.

    Attributes:
        owner_key: Keyed hash of the owner (see `storage/owner_keys.py`); "" if nobody knows.
        job_image: Which picture of its job (0-based).
        provenance: Device, dtype, threads, batch, versions.
        source: Of an upscaled picture: the recipe of the one it was made from, for its infotext.
    """

    id: str
    job_id: str
    job_image: int
    created_at: float
    owner_key: str
    recipe: Recipe | None
    width: int
    height: int
    upscale: Upscale | None = None
    parent: str | None = None
    seconds: float | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    source: Recipe | None = None

    def to_json(self) -> str:
        """The `darkroom` chunk."""
        facts: dict[str, object] = {
            "schema": 1,
            "id": self.id,
            "job": self.job_id,
            "image": self.job_image,
            "width": self.width,
            "height": self.height,
            "created_at": self.created_at,
            "owner": self.owner_key,
            "parent": self.parent,
            "seconds": self.seconds,
            "version": VERSION,
            "provenance": dict(self.provenance),
            "recipe": json.loads(self.recipe.canonical_json()) if self.recipe else None,
        }
        if self.upscale:
            facts["upscale"] = self.upscale.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(facts, separators=(",", ":"))

    def record(self, path: str, owner: str) -> ImageRecord:
        """As the gallery shows it. path: relative to outputs/."""
        return ImageRecord(
            id=self.id,
            path=path,
            created_at=self.created_at,
            width=self.width,
            height=self.height,
            recipe=self.recipe,
            upscale=self.upscale,
            job_id=self.job_id,
            owner=owner,
            parent=self.parent,
            seconds=self.seconds,
        )


class PictureFolder:
    """The outputs folder. Folders in it, and it itself, may be links to other disks; a file must lie in its folder.

    Args:
        is_known: Whether a relative path is that of a picture, though its file may be gone: it is not given again.
    """

    def __init__(self, root: Path, is_known: Callable[[str], bool] = lambda path: False) -> None:
        self.root = root
        self._is_known = is_known
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}
        self._seen: dict[str, tuple[int, ...]] = {}
        self._warnings: set[str] = set()  # already logged: the folders of days are scanned every few seconds

    def _warn_once(self, message: str) -> None:
        if message not in self._warnings:
            self._warnings.add(message)
            logger.warning("%s", message)

    def save(self, pixels: RawImage, facts: PictureFacts) -> str:
        """Write one picture.

        Returns:
            Its path relative to the folder, with forward slashes: YYYY-MM-DD/NNNNN-seed.png.

        Raises:
            StorageFull: nothing of it is left on the disk.
        """
        data = encode_png(pixels, facts)
        folder = self._day(facts.created_at)
        part, final = folder / f".{facts.id}.png{_PART}", None
        try:
            with self._lock:
                folder.mkdir(parents=True, exist_ok=True)
                path = self._free_path(folder, str(facts.recipe.seed) if facts.recipe else "upscaled")
                write_through(part, data)
                os.replace(part, path)
                final = path
                flush_folder(folder)
                if final.stat().st_size != len(data):
                    raise OSError(errno.EIO, "the disk kept only a part of it")
        except OSError as error:
            for left in filter(None, (part, final)):
                with suppress(OSError):
                    left.unlink(missing_ok=True)
            raise self._refusal(error, folder, _TRY_AGAIN) from None
        return f"{folder.name}/{final.name}"

    def _day(self, at: float) -> Path:
        return self.root / time.strftime("%Y-%m-%d", time.localtime(at))

    def _free_path(self, folder: Path, ending: str) -> Path:
        number = self._numbers.get(folder.name)
        if number is None or not folder.exists():
            number = 0
            for name in os.listdir(folder):
                match = _NUMBERED.fullmatch(name)
                if match:
                    number = max(number, int(match[1]))
        while True:
            number += 1
            path = folder / f"{number:05d}-{ending}.png"
            if not os.path.lexists(path) and not self._is_known(f"{folder.name}/{path.name}"):
                self._numbers[folder.name] = number
                return path

    def check_room(self, needed_bytes: int) -> None:
        """Refuse before anything is generated that could not be kept.

        Raises:
            StorageFull: there is less room than that, or the folder can't be written.
        """
        if self.root.is_dir() and not os.access(self.root, os.W_OK | os.X_OK):
            raise StorageFull(
                f"{self.root.name}/ can't be written.", f"Correct its permissions; {_GOES_ON}", code="storage_refused"
            )
        free = _free_bytes(self.root)
        if free < needed_bytes + _FLOOR_BYTES:
            raise StorageFull(
                f"No space left in {self.root.name}/ ({_bytes_in_words(free)} free).", f"Free some; {_GOES_ON}"
            )

    def check_writing(self) -> None:
        """Try what saving does, with one byte.

        Raises:
            StorageFull: names what is in the way.
        """
        folder = self._day(time.time())
        part = folder / f".try{_PART}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.listdir(folder)
            write_through(part, b"1")
        except OSError as error:
            raise self._refusal(error, folder, _GOES_ON) from None
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _refusal(self, error: OSError, folder: Path, then: str) -> StorageFull:
        """A write error in words. then: what happens to the image when the cause is gone."""
        then = f", {then}" if then is _TRY_AGAIN else f"; {then}"
        if error.errno in _NO_SPACE:
            free = _free_bytes(self.root)
            return StorageFull(
                f"No space left in {self.root.name}/ ({_bytes_in_words(free)} free).", f"Free some{then}"
            )
        for place in (self.root, folder):
            if not os.path.lexists(place) or place.is_dir():
                continue
            what, hint = "is a file, not a folder", "Move it away"
            if place.is_symlink():
                what, hint = "is a link that leads to no folder", "Let it lead to one"
            return StorageFull(
                f"{self._name_of(place)} {what}: no picture can be saved there.",
                f"{hint}{then}",
                code="storage_refused",
            )
        closed = self.root
        if folder.is_dir() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            closed = folder
        return StorageFull(
            f"{self._name_of(closed)}/ can't be written ({error.strerror}).",
            f"Correct its permissions{then}",
            code="storage_refused",
        )

    def _name_of(self, place: Path) -> str:
        if place == self.root:
            return self.root.name
        return f"{self.root.name}/{place.name}"

    def sweep(self) -> int:
        """Remove files that a crash left half written; returns how many."""
        swept = 0
        for folder in (self.root, *self.days()):
            for entry in self._entries(folder):
                if entry.name.startswith(".") and entry.name.endswith(_PART):
                    with suppress(OSError):
                        Path(entry.path).unlink()
                        swept += 1
        return swept

    def days(self) -> list[Path]:
        """The folders of pictures, newest first; each once, though links may lead to it several times."""
        found: dict[str, os.DirEntry[str]] = {}
        for entry in sorted(self._entries(self.root), key=lambda entry: (_is_link(entry), entry.name)):
            try:
                is_folder, real = entry.is_dir(), os.path.realpath(entry.path)
            except OSError as error:
                self._warn_once(f"{self.root.name}/{shown(entry.name)} can't be read: {error.strerror}")
                continue
            if is_folder:
                found.setdefault(real, entry)
            elif _is_link(entry):
                self._warn_once(
                    f"{self.root.name}/{shown(entry.name)} leads to no folder that is there; its pictures are shown "
                    "when it is."
                )
        return sorted([Path(entry.path) for entry in found.values()], reverse=True)

    def changed_days(self) -> list[str]:
        """The names of the days that were added, removed or changed since the last call, by Darkroom itself too."""
        now: dict[str, tuple[int, ...]] = {}
        for folder in self.days():
            with suppress(OSError):
                status = folder.stat()
                now[folder.name] = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        before, self._seen = self._seen, now
        changed = []
        for name in sorted({*before, *now}, reverse=True):
            if before.get(name) != now.get(name) and self._is_utf8(name):
                changed.append(name)
        return changed

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Every .png of the folder, newest day first: (relative path, status)."""
        for folder in self.days():
            yield from self.files_of(folder)

    def files_of(self, folder: Path) -> Iterator[tuple[str, os.stat_result]]:
        """Every .png of one day; what can't be read is left out, and a folder that can't is named in the log."""
        for entry in sorted(self._entries(folder), key=lambda entry: entry.name, reverse=True):
            path = f"{folder.name}/{entry.name}"
            if not entry.name.lower().endswith(".png") or not self._is_utf8(path):
                continue
            status = self.status(path)
            if status is not None:
                yield path, status

    def locate(self, relative: str) -> Path:
        """The absolute path of a picture, by the path that the index has of it.

        Raises:
            NotFound: it would lie outside the folder: only folders are followed where they lead, not files.
        """
        path = self.root.joinpath(*relative.split("/"))
        if _stays_inside(relative):
            with suppress(OSError):  # a folder on the way can't be read
                if not path.is_symlink():
                    return path
                if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(path.parent)):
                    return path
        raise NotFound("There is no such picture.")

    def status(self, relative: str) -> os.stat_result | None:
        """Size and times of an image's file; None if it is gone, is no regular file, or its folder can't be read."""
        try:
            status = self.locate(relative).stat()
        except (NotFound, OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return status

    def has(self, relative: str) -> bool:
        """Whether a picture's file is there."""
        return self.status(relative) is not None

    def remove(self, relative: str) -> None:
        """Remove a picture's file, or the link in its place. Raises OSError."""
        if _stays_inside(relative):
            self.root.joinpath(*relative.split("/")).unlink(missing_ok=True)

    def _is_utf8(self, name: str) -> bool:
        """Whether a name can be kept in the index; one in another encoding is named in the log."""
        try:
            name.encode("utf-8")
            return True
        except UnicodeEncodeError:
            self._warn_once(f"{shown(name)} has a name that is not UTF-8 and is left out. Rename it.")
            return False

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """The entries of a folder; none, with a warning in the log, if it can't be read."""
        try:
            with os.scandir(folder) as found:
                return list(found)
        except FileNotFoundError:
            return []
        except OSError as error:
            self._warn_once(f"{shown(folder.name)}/ can't be read: {error.strerror}")
            return []


def shown(name: str) -> str:
    """A name from the disk for the log, unprintable characters as their codes."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)


def _stays_inside(relative: str) -> bool:
    return not {"", ".", ".."} & set(relative.split("/")) and "\0" not in relative


def _is_link(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_symlink()
    except OSError:
        return False


def encode_png(pixels: RawImage, facts: PictureFacts) -> bytes:
    """The bytes of a PNG: texts before the picture data, zlib level 1."""
    info = PngInfo()
    recipe = facts.recipe or facts.source
    if recipe:
        info.add_text("parameters", infotext.write(recipe))
    if facts.upscale:
        info.add_text("postprocessing", infotext.write_upscale(facts.upscale))
    info.add_text(KEYWORD, facts.to_json())
    buffer = io.BytesIO()
    picture = Image.frombytes("RGB", (pixels.width, pixels.height), pixels.rgb)
    picture.save(buffer, "PNG", pnginfo=info, compress_level=1)
    return buffer.getvalue()


def read_picture_facts(path: Path) -> PictureFacts | None:
    """The facts within an image that Darkroom wrote; None for another's, or a damaged one."""
    try:
        with path.open("rb") as file:
            return parse_facts(read_text(file).get(KEYWORD, ""))
    except (OSError, InvalidInput):
        return None


def parse_facts(text: str) -> PictureFacts | None:
    """Read a `darkroom` chunk, trusting nothing in it; None if anything is not as `to_json` writes it."""
    try:
        chunk = _FactsChunk.model_validate(json.loads(text))
        facts = PictureFacts(
            id=chunk.id,
            job_id=chunk.job,
            job_image=chunk.image,
            created_at=chunk.created_at,
            owner_key=chunk.owner,
            width=chunk.width,
            height=chunk.height,
            parent=chunk.parent,
            seconds=chunk.seconds,
            provenance=chunk.provenance,
            recipe=Recipe.read(json.dumps(chunk.recipe)) if chunk.recipe else None,
            upscale=Upscale.model_validate_json(json.dumps(chunk.upscale)) if chunk.upscale else None,
        )
        for written in (facts.job_id, facts.owner_key, facts.parent or ""):
            written.encode("utf-8")  # half of a character is no text
    except (ValueError, RecursionError):
        return None
    is_usable = is_id(facts.id) and (facts.recipe is None) != (facts.upscale is None)
    return facts if is_usable else None


class _FactsChunk(BaseModel):
    """The `darkroom` chunk as `PictureFacts.to_json` writes it; newer versions may add fields."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    id: str
    job: str
    image: Annotated[int, Field(ge=0, lt=_MOST)]
    width: Annotated[int, Field(gt=0, lt=_MOST)]
    height: Annotated[int, Field(gt=0, lt=_MOST)]
    created_at: float
    owner: str
    parent: str | None
    seconds: float | None
    provenance: dict[str, Any]
    recipe: object
    upscale: object = None


def _free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder if folder.exists() else folder.parent).free
    except OSError:
        return 0


def _bytes_in_words(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
