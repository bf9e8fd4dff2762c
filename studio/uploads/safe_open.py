"""The one place that opens images from outside: sniffed, measured before decoding, first frame only, in sRGB.

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
from studio.uploads.color_profiles import Note, png_profile, to_srgb
from studio.uploads.exif import read_exif
from studio.uploads.file_kinds import sniff

MAX_PIXELS = 24_000_000
MAX_ASPECT = 32
MAX_TEXT_BYTES = 16_000_000
# Read here with bounds, and by nobody else: Pillow would inflate texts, and fall over a damaged gamma.
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
# What Pillow's parsers let out on broken files.
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
        raise TooLarge(
            f"The picture is {width} × {height}, {width * height / 1e6:.0f} megapixels.",
            f"At most {MAX_PIXELS // 10**6} megapixels are taken: save it smaller.",
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InvalidInput(f"The picture is {width} × {height}, longer than {MAX_ASPECT} to 1.", "Crop it.")


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """An image from outside, ready for use: RGB or RGBA, and what is worth knowing of it, as (code, sentence)."""

    image: Image.Image
    notes: tuple[Note, ...] = ()


def read_picture(data: bytes) -> OpenedImage:
    """Decode a picture: first frame, upright, sRGB, 8 bits a channel.

    Raises:
        InvalidInput, TooLarge: names the cause.
    """
    profile, note = png_profile(data) if sniff(data) == "PNG" else (None, None)
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


def _upright(image: Image.Image) -> Image.Image:
    """First frame, turned as its EXIF says, of 8 bits a channel."""
    image.seek(0)
    image.load()
    turn = _TURNS.get(read_exif(_bytes_of(image.info.get("exif")) or b"").orientation)
    is_inverted = image.format == "JPEG" and image.mode == "CMYK" and "adobe" not in image.info
    plain = _sixteen_bit(image) if image.mode.startswith("I") or image.mode == "F" else image
    if is_inverted:  # Pillow takes all for Adobe's, which alone writes ink as absence
        plain = ImageChops.invert(plain)
    return plain.transpose(turn) if turn is not None else plain


def _sixteen_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit gray to 8; Pillow's own convert would cut it off at 255."""
    scaled = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    scaled.info.clear()
    return scaled


def _check_png(data: bytes) -> None:
    """Bounds that Pillow checks too late or not at all: the size in IHDR, the sum of all texts, CRCs."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise InvalidInput("The PNG is cut off in its header.", "Save or download it again.")
    check_size(*struct.unpack(">II", data[16:24]))
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
    """A PNG's bytes less its texts and what it says of colors, so that decoding never inflates one."""
    kept, position = [data[:8]], 8
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        end = position + 12 + length
        if kind not in _LEFT_OUT:
            kept.append(data[position:end])
        position = end
    return b"".join(kept)


def _in_words(error: Exception) -> StudioError:
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
    return InvalidInput(f"The picture is damaged or cut off ({_cause(error)}).", "Save or download it again.")


def _cause(error: Exception) -> str:
    text = str(error).split("\n")[0]
    if "/" not in text and "<" not in text and text:
        return text[:80]
    return type(error).__name__
