"""Small JPEGs for the grid, at most 320 px on a side; made when a picture is saved, remade when missing."""

import io
import os
import threading
from pathlib import Path

from PIL import Image

from contract.errors import NotFound, StorageFull
from contract.work import RawImage
from studio.uploads.safe_open import on_background

SIDE = 320
_QUALITY = 82
_PREVIEW_QUALITY = 70


def jpeg(pixels: RawImage, quality: int = _PREVIEW_QUALITY) -> bytes:
    """A JPEG of raw pixels, for previews."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (pixels.width, pixels.height), pixels.rgb).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


class Thumbnails:
    """Files by picture id under one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, image_id: str) -> Path:
        """The path of an image's thumbnail, whether it is there or not."""
        return self._root / image_id[:6] / f"{image_id}.jpg"

    def make(self, image_id: str, pixels: RawImage) -> Path:
        """Write the thumbnail of pixels at hand. Raises OSError."""
        return self._write(image_id, Image.frombytes("RGB", (pixels.width, pixels.height), pixels.rgb))

    def ensure(self, image_id: str, picture: Path) -> Path:
        """The thumbnail, made from the picture's file if there is none.

        Raises:
            NotFound: the picture can't be read.
            StorageFull: the thumbnail can't be written.
        """
        path = self.path(image_id)
        if _is_whole(path):
            return path
        try:
            if not picture.is_file():  # opening a pipe would block
                raise FileNotFoundError
            with Image.open(picture, formats=["PNG"]) as file:
                image = on_background(file)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            raise NotFound("The picture's file is missing or damaged.", "Its recipe is still known.") from None
        try:
            return self._write(image_id, image)
        except OSError as error:
            raise StorageFull(
                f"The small version of the picture can't be kept ({error.strerror}).",
                "Free some space, or correct the permissions of thumbnails/.",
            ) from None

    def _write(self, image_id: str, image: Image.Image) -> Path:
        path = self.path(image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        image.save(part, "JPEG", quality=_QUALITY)
        os.replace(part, path)
        return path

    def remove(self, image_id: str) -> None:
        """Forget a thumbnail."""
        self.path(image_id).unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    """Whether a thumbnail is there and was not cut off or emptied since."""
    try:
        with path.open("rb") as file:
            begins = file.read(3) == b"\xff\xd8\xff"
            file.seek(-2, os.SEEK_END)
            return begins and file.read() == b"\xff\xd9"
    except OSError:
        return False
