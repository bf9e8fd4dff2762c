"""The one place that opens foreign images: format sniffed, size checked before decoding, first frame only, in sRGB.

Everything else in the studio opens only files that it wrote. Formats are recognized in `file_kinds.py`, colors
converted in `color_profiles.py`; metadata is read in `metadata/image_texts.py`.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from PIL import Image, ImageChops

from contract.errors import InvalidInput, OutOfMemory, StudioError, TooLarge
from contract.values import BACKGROUND
from studio.uploads.color_profiles import Note, png_profile, to_srgb
from studio.uploads.exif import read_exif
from studio.uploads.file_kinds import sniff_image_format

MAX_PIXELS = 24_000_000
MAX_ASPECT = 32
MAX_TEXT_BYTES = 16_000_000
# Removed before Pillow reads the file: it would inflate texts, and fail on a damaged gamma.
_LEFT_OUT = (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"cICP")
_TURNS: Mapping[int, Image.Transpose] = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)
# The errors that Pillow's parsers raise on broken files.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
    EOFError,
    ArithmeticError,
    MemoryError,
    LookupError,
    TypeError,
)


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """The picture, header read and size checked, pixels not yet decoded.

    Raises:
        InvalidInput, TooLarge: names the cause.
    """
    format_name = sniff_image_format(data)
    if format_name == "PNG":
        _check_png(data)
        data = without_texts(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=[format_name]) as image:
                check_image_size(*image.size)
                yield image
    except Image.DecompressionBombError:
        raise TooLarge("The picture has too many pixels.", f"At most {MAX_PIXELS // 10**6} megapixels.") from None
    except _DAMAGE as error:
        raise _explained_damage(error) from None


def check_image_size(width: int, height: int) -> None:
    """Refuse images that are too large or too thin, before they are decoded."""
    if width < 1 or height < 1:
        raise InvalidInput(f"The picture is {width} × {height} pixels.", "Choose another file.")
    if width * height > MAX_PIXELS:
        raise TooLarge(
            f"The picture is {width} × {height}, {width * height / 1e6:.0f} megapixels.",
            f"At most {MAX_PIXELS // 10**6} megapixels are accepted: save it smaller.",
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InvalidInput(f"The picture is {width} × {height}, longer than {MAX_ASPECT} to 1.", "Crop it.")


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """A foreign image, ready for use: RGB or RGBA, with notices as (code, sentence)."""

    image: Image.Image
    notes: tuple[Note, ...] = ()


def read_picture(data: bytes) -> OpenedImage:
    """Decode a picture: first frame, upright, sRGB, 8 bits a channel.

    Raises:
        InvalidInput, TooLarge: names the cause.
    """
    profile, note = png_profile(data) if sniff_image_format(data) == "PNG" else (None, None)
    with opened(data) as image:
        profile = profile or _bytes_of(image.info.get("icc_profile"))
        # Several pictures in a JPEG are previews and maps of its brightness, no animation.
        frames = getattr(image, "n_frames", 1) if image.format != "JPEG" and image.format != "MPO" else 1
        converted, other = to_srgb(_upright(image), profile)
    notes = [one for one in (note, other) if one is not None]
    if frames > 1:
        notes.append(("first_frame", f"The picture is an animation of {frames} frames; the first one is used."))
    return OpenedImage(converted, tuple(notes))


def _bytes_of(value: object) -> bytes | None:
    return value if isinstance(value, bytes) and value else None


def upright_rgb(image: Image.Image) -> Image.Image:
    """First frame, turned as its EXIF says, 8-bit RGB (or RGBA if it has transparency), by its profile in sRGB."""
    return to_srgb(_upright(image), _bytes_of(image.info.get("icc_profile")))[0]


def on_background(image: Image.Image) -> Image.Image:
    """As RGB, transparent pixels on the background that the engine puts behind them."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    colored = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", colored.size, BACKGROUND), colored).convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """First frame, turned as its EXIF says, of 8 bits a channel."""
    image.seek(0)
    image.load()
    turn = _TURNS.get(read_exif(_bytes_of(image.info.get("exif")) or b"").orientation)
    is_inverted = image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info
    plain = image
    if image.mode.startswith("I") or image.mode == "F":
        # Scale 16-bit gray to 8; Pillow's own convert would cut it off at 255.
        plain = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
        plain.info.clear()
    if is_inverted:  # Pillow assumes Adobe's CMYK, which is inverted
        plain = ImageChops.invert(plain)
    return plain.transpose(turn) if turn is not None else plain


def _check_png(data: bytes) -> None:
    """Bounds that Pillow checks too late or not at all: the size in IHDR, the sum of all texts, CRCs."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise InvalidInput("The PNG is cut off in its header.", "Save or download it again.")
    check_image_size(*struct.unpack(">II", data[16:24]))
    position, texts, has_end = 8, 0, False
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        end = position + 12 + length
        if end > len(data):
            break
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            texts += length
        if texts > MAX_TEXT_BYTES:
            raise TooLarge(
                f"The picture carries more than {MAX_TEXT_BYTES // 10**6} MB of text.",
                "Save it again without its metadata.",
            )
        body = memoryview(data)[position + 4 : end - 4]
        if kind[:1].isupper() and zlib.crc32(body) != struct.unpack(">I", data[end - 4 : end])[0]:
            raise InvalidInput("The PNG is damaged (a checksum does not match).", "Save or download it again.")
        position, has_end = end, kind == b"IEND"
        if has_end:
            return
    raise InvalidInput("The PNG is cut off.", "Save or download it again.")


def without_texts(data: bytes) -> bytes:
    """A PNG's bytes without text and color chunks, so that decoding never inflates one."""
    kept, position = [data[:8]], 8
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        end = position + 12 + length
        if kind not in _LEFT_OUT:
            kept.append(data[position:end])
        position = end
    return b"".join(kept)


def _explained_damage(error: Exception) -> StudioError:
    if isinstance(error, MemoryError):
        return OutOfMemory(
            "There is not enough memory to read the picture.", "Close other programs, or save it smaller."
        )
    if isinstance(error, OSError) and error.errno is not None:
        return StudioError(
            f"The picture could not be read ({error.strerror}).",
            "Try again; the log says more.",
            code="upload_unreadable",
        )
    cause = str(error).split("\n")[0]
    if not cause or "/" in cause or "<" in cause:  # a path, or an object's address
        cause = type(error).__name__
    return InvalidInput(f"The picture is damaged or cut off ({cause[:80]}).", "Save or download it again.")
