"""Builds good, odd and hostile picture files for the tests."""

import io
import struct
import zlib

from PIL import Image
from PIL.PngImagePlugin import PngInfo

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, depth: int = 8, color: int = 2) -> bytes:
    return SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))


def png(
    size: tuple[int, int] = (8, 8), mode: str = "RGB", color: object = "red", texts: dict[str, str] | None = None
) -> bytes:
    info = PngInfo()
    for key, text in (texts or {}).items():
        info.add_text(key, text)
    return encoded(Image.new(mode, size, color), "PNG", pnginfo=info)  # type: ignore[arg-type]


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flat_png(width: int, height: int) -> bytes:
    """A valid PNG of one color, small however large it is (8-bit gray)."""
    packer = zlib.compressobj(9)
    row = b"\0" * (width + 1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return header(width, height, 8, 0) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def with_chunks(picture: bytes, *chunks: bytes) -> bytes:
    """Insert chunks behind the header of a PNG."""
    return picture[:33] + b"".join(chunks) + picture[33:]
