"""The one place that opens pictures from outside: sniffed, measured before it decodes, first frame only.

Everything else in the studio opens only files that it wrote. Metadata is read in `found_recipes.py`.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from PIL import Image, ImageOps

from contract.errors import InvalidInput, OutOfMemory, StudioError, TooLarge
from studio.png_text import SIGNATURE

MAX_BYTES = 40_000_000
MAX_PIXELS = 24_000_000
MAX_ASPECT = 32
MAX_TEXT_BYTES = 16_000_000
# What Pillow's parsers let out on broken files.
_DAMAGE = (OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError, ArithmeticError, MemoryError,
           LookupError, TypeError)
_MAGIC: Mapping[str, tuple[bytes, ...]] = MappingProxyType({"PNG": (SIGNATURE,), "JPEG": (b"\xff\xd8\xff",)})
_FOREIGN: Mapping[bytes, str] = MappingProxyType({
    b"GIF8": "a GIF", b"8BPS": "a Photoshop file", b"%PDF": "a PDF", b"%!PS": "a PostScript file",
    b"II*\0": "a TIFF", b"MM\0*": "a TIFF", b"DDS ": "a DDS texture", b"SIMPLE": "a FITS file",
    b"\0\0\1\0": "an icon", b"BM": "a BMP", b"<svg": "an SVG drawing", b"<?xml": "an XML or SVG file",
    b"<!DOCTYPE": "a web page", b"<html": "a web page", b"PK\3\4": "a ZIP archive",
})


def sniff(data: bytes) -> str:
    """PNG, JPEG or WEBP, by content.

    Raises:
        InvalidInput: says what it is instead, as far as that is known.
        TooLarge: more than 40 MB.
    """
    if not data:
        raise InvalidInput("The picture is empty (0 bytes).", "Choose another file.")
    if len(data) > MAX_BYTES:
        raise TooLarge(f"The picture is {len(data) / 1e6:.0f} MB; at most {MAX_BYTES // 10**6} MB are taken.",
                       "Save it smaller.")
    for name, starts in _MAGIC.items():
        if data.startswith(starts):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    head = data[:64].lstrip()
    for start, words in _FOREIGN.items():
        if data.startswith(start) or (start[:1] == b"<" and head.lower().startswith(start.lower())):
            raise InvalidInput(f"The file is {words}, a format that is not taken.", "Use PNG, JPEG or WebP.")
    raise InvalidInput("The file's format is not taken.", "Use PNG, JPEG or WebP.")


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """The picture, header read and size checked, pixels not yet decoded.

    Raises:
        InvalidInput, TooLarge: names the cause.
    """
    format_name = sniff(data)
    if format_name == "PNG":
        _check_png(data)
        data = without_texts(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=[format_name]) as image:
                check_size(*image.size)
                yield image
    except Image.DecompressionBombError:
        raise TooLarge("The picture has too many pixels.", f"At most {MAX_PIXELS // 10**6} megapixels.") from None
    except _DAMAGE as error:
        raise _in_words(error) from None


def check_size(width: int, height: int) -> None:
    """Refuse what is too large or too thin, before anything is decoded."""
    if width < 1 or height < 1:
        raise InvalidInput(f"The picture is {width} × {height} pixels.", "Choose another file.")
    if width * height > MAX_PIXELS:
        raise TooLarge(f"The picture is {width} × {height}, {width * height / 1e6:.0f} megapixels.",
                       f"At most {MAX_PIXELS // 10**6} megapixels are taken: save it smaller.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InvalidInput(f"The picture is {width} × {height}, longer than {MAX_ASPECT} to 1.", "Crop it.")


def upright_rgb(image: Image.Image) -> Image.Image:
    """First frame, turned as its EXIF says, 8-bit RGB (or RGBA if it has transparency)."""
    image.seek(0)
    image.load()
    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I") or turned.mode == "F":
        return _sixteen_bit(turned)
    has_alpha = turned.mode in ("RGBA", "LA", "PA") or "transparency" in turned.info
    return turned.convert("RGBA" if has_alpha else "RGB")


def _sixteen_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit gray to 8; Pillow's own convert would cut it off at 255."""
    return image.convert("I").point(lambda value: value * (1 / 256)).convert("L").convert("RGB")


def _check_png(data: bytes) -> None:
    """Bounds that Pillow checks too late or not at all: the size in IHDR, the sum of all texts, CRCs."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise InvalidInput("The PNG is cut off in its header.", "Save or download it again.")
    check_size(*struct.unpack(">II", data[16:24]))
    position, texts, has_end = 8, 0, False
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position:position + 8])
        end = position + 12 + length
        if end > len(data):
            break
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            texts += length
        if texts > MAX_TEXT_BYTES:
            raise TooLarge(f"The picture carries more than {MAX_TEXT_BYTES // 10**6} MB of text.",
                           "Save it again without its metadata.")
        body = memoryview(data)[position + 4:end - 4]
        if kind[:1].isupper() and zlib.crc32(body) != struct.unpack(">I", data[end - 4:end])[0]:
            raise InvalidInput("The PNG is damaged (a checksum does not match).", "Save or download it again.")
        position, has_end = end, kind == b"IEND"
        if has_end:
            return
    raise InvalidInput("The PNG is cut off.", "Save or download it again.")


def without_texts(data: bytes) -> bytes:
    """A PNG's bytes less its text chunks, so that decoding never inflates one."""
    kept, position = [data[:8]], 8
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position:position + 8])
        end = position + 12 + length
        if kind not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(data[position:end])
        position = end
    return b"".join(kept)


def _in_words(error: Exception) -> StudioError:
    if isinstance(error, MemoryError):
        return OutOfMemory("There is not enough memory to read the picture.", "Close other programs, or save it smaller.")
    if isinstance(error, OSError) and error.errno is not None:
        return StudioError(f"The picture could not be read ({error.strerror}).", "Try again; the log says more.",
                           code="input_unreadable")
    return InvalidInput(f"The picture is damaged or cut off ({_cause(error)}).", "Save or download it again.")


def _cause(error: Exception) -> str:
    text = str(error).split("\n")[0]
    return text[:80] if "/" not in text and "<" not in text and text else type(error).__name__
