"""Pictures on disk: a PNG with its recipe inside, never half written, never over another.

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
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import ValidationError

from contract.errors import InvalidInput, NotFound, StorageFull
from contract.recipe import Recipe
from contract.tasks import Upscale
from contract.records import ImageRecord
from contract.work import RawImage
from studio import VERSION, infotext
from studio.ids import is_id
from studio.png_text import read_text

logger = logging.getLogger(__name__)
KEYWORD = "darkroom"
_PART = ".part"
_FLOOR_BYTES = 16_000_000  # for the database, thumbnails and the log
_NUMBERED = re.compile(r"(\d{5,9})-\w+\.png")
_NO_SPACE = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What a picture says of itself beside its pixels.

    Attributes:
        owner_key: Keyed hash of the owner (see `owners.py`); "" if nobody knows.
        job_image: Which picture of its job (0-based).
        provenance: Device, dtype, threads, batch, versions.
        source: Of an enlarged picture: the recipe of the one it was made from, for its infotext.
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
        return json.dumps({
            "schema": 1, "id": self.id, "job": self.job_id, "image": self.job_image,
            "width": self.width, "height": self.height,
            "created_at": self.created_at, "owner": self.owner_key, "parent": self.parent,
            "seconds": self.seconds, "version": VERSION, "provenance": dict(self.provenance),
            "recipe": json.loads(self.recipe.canonical_json()) if self.recipe else None,
            **({"upscale": self.upscale.model_dump(mode="json", exclude_defaults=True)} if self.upscale else {}),
        }, separators=(",", ":"))

    def record(self, path: str, owner: str) -> ImageRecord:
        """As the gallery shows it. path: relative to outputs/."""
        return ImageRecord(
            id=self.id, path=path, created_at=self.created_at, width=self.width,
            height=self.height, recipe=self.recipe, upscale=self.upscale, job_id=self.job_id, owner=owner,
            parent=self.parent, seconds=self.seconds)


class PictureFolder:
    """The outputs folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}

    def save(self, pixels: RawImage, facts: PictureFacts) -> str:
        """Write one picture.

        Returns:
            Its path relative to the folder, with forward slashes: YYYY-MM-DD/NNNNN-seed.png.

        Raises:
            StorageFull: nothing of it is left on the disk.
        """
        data = encode(pixels, facts)
        day = time.strftime("%Y-%m-%d", time.localtime(facts.created_at))
        folder = self.root / day
        part = folder / f".{facts.id}.png{_PART}"
        try:
            with self._lock:
                folder.mkdir(parents=True, exist_ok=True)
                final = self._free_name(folder, str(facts.recipe.seed) if facts.recipe else "upscaled")
                write_through(part, data)
                os.replace(part, final)
                _flush_folder(folder)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise self.refusal(error) from None
        return f"{day}/{final.name}"

    def _free_name(self, folder: Path, ending: str) -> Path:
        number = self._numbers.get(folder.name)
        if number is None or not folder.exists():
            taken = (_NUMBERED.fullmatch(name) for name in os.listdir(folder))
            number = max((int(match[1]) for match in taken if match), default=0)
        while True:
            number += 1
            path = folder / f"{number:05d}-{ending}.png"
            if not path.exists():
                self._numbers[folder.name] = number
                return path

    def check_room(self, needed_bytes: int) -> None:
        """Refuse before anything is painted that could not be kept.

        Raises:
            StorageFull: there is less room than that, or the folder can't be written.
        """
        if self.root.is_dir() and not os.access(self.root, os.W_OK | os.X_OK):
            raise StorageFull(f"{self.root.name}/ can't be written.", "Correct its permissions; what waits goes on by itself.",
                              code="storage_refused")
        free = _free_bytes(self.root)
        if free < needed_bytes + _FLOOR_BYTES:
            raise StorageFull(f"No space left in {self.root.name}/ ({_bytes_in_words(free)} free).",
                              "Free some; what waits goes on by itself.")

    def refusal(self, error: OSError) -> StorageFull:
        """A write error in words."""
        if error.errno in _NO_SPACE:
            free = _free_bytes(self.root)
            return StorageFull(f"No space left in {self.root.name}/ ({_bytes_in_words(free)} free).",
                               "Free some, then press Try again; the picture is kept in memory.")
        return StorageFull(f"{self.root.name}/ can't be written ({error.strerror}).",
                           "Correct its permissions, then press Try again; the picture is kept in memory.",
                           code="storage_refused")

    def sweep(self) -> int:
        """Remove what a crash left half written; returns how many files."""
        swept = 0
        for folder in (self.root, *self.days()):
            for part in folder.glob(f".*{_PART}"):
                part.unlink(missing_ok=True)
                swept += 1
        return swept

    def days(self) -> list[Path]:
        """The folders of pictures, newest first."""
        try:
            return sorted((Path(entry.path) for entry in os.scandir(self.root) if entry.is_dir()), reverse=True)
        except OSError:
            return []

    def files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Every .png of the folder, newest day first: (relative path, status)."""
        for folder in self.days():
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=True)
            except OSError as error:
                logger.warning("%s/ can't be read: %s", folder.name, error.strerror)
                continue
            for entry in entries:
                if entry.name.endswith(".png") and entry.is_file(follow_symlinks=False):
                    yield f"{folder.name}/{entry.name}", entry.stat()

    def locate(self, relative: str) -> Path:
        """The absolute path of a picture.

        Raises:
            NotFound: it would lie outside the folder.
        """
        path = (self.root / relative).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise NotFound("There is no such picture.")
        return path


def encode(pixels: RawImage, facts: PictureFacts) -> bytes:
    """The bytes of a PNG: texts before the picture data, zlib level 1."""
    info = PngInfo()
    if described := facts.recipe or facts.source:
        info.add_text("parameters", infotext.write(described))
    if facts.upscale:
        info.add_text("postprocessing", infotext.write_upscale(facts.upscale))
    info.add_text(KEYWORD, facts.to_json())
    buffer = io.BytesIO()
    picture = Image.frombytes("RGB", (pixels.width, pixels.height), pixels.rgb)
    picture.save(buffer, "PNG", pnginfo=info, compress_level=1)
    return buffer.getvalue()


def read_facts(path: Path) -> PictureFacts | None:
    """What a picture of ours says of itself; None if it is not ours or damaged."""
    try:
        with path.open("rb") as file:
            return parse_facts(read_text(file).get(KEYWORD, ""))
    except (OSError, InvalidInput):
        return None


def parse_facts(text: str) -> PictureFacts | None:
    """Read a `darkroom` chunk, believing nothing; None if anything in it is not as we write it."""
    try:
        data = json.loads(text)
        facts = PictureFacts(
            id=data["id"], job_id=data["job"], job_image=data["image"], created_at=data["created_at"],
            owner_key=data["owner"], width=data["width"], height=data["height"], parent=data["parent"],
            seconds=data["seconds"], provenance=data["provenance"],
            recipe=Recipe.model_validate_json(json.dumps(data["recipe"])) if data["recipe"] else None,
            upscale=Upscale.model_validate_json(json.dumps(data["upscale"])) if data.get("upscale") else None)
        facts.record("x", "x")  # the types of all the rest
    except (ValueError, KeyError, TypeError, RecursionError, ValidationError):
        return None
    usable = (is_id(facts.id) and (facts.recipe is None) != (facts.upscale is None) and isinstance(facts.job_image, int) and isinstance(facts.owner_key, str)
              and isinstance(facts.provenance, dict))
    return facts if usable else None


def write_through(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
