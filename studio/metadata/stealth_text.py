"""Reads texts hidden in an image's lowest bits ("stealth" metadata), as NovelAI and extensions of A1111 write them.

The lowest bits of alpha, or of red, green and blue, from top to bottom and then from left to right: a signature, 32
bits that say how many bits follow, and UTF-8 text, plain or gzipped. Source: specs/compatibility.md 4a; the format's
description in NovelAI's published metadata reader.
"""

import struct
import zlib

from PIL import Image

from studio.uploads.text_decoding import decode_text

MAX_PIXELS = 8_000_000  # larger ones are not decoded for a text that hardly any has
MAX_TEXT_BYTES = 4_000_000
_SIGNATURES = {b"stealth_pnginfo": False, b"stealth_pngcomp": True, b"stealth_rgbinfo": False, b"stealth_rgbcomp": True}
_SIGNATURE_BITS = 15 * 8


def hidden_text(image: Image.Image) -> str:
    """The text in an opened picture's pixels; "" where there is none. Decodes it.

    Raises:
        OSError: the picture's data is damaged.
    """
    if image.width * image.height > MAX_PIXELS or image.mode not in ("RGBA", "RGB"):
        return ""
    bands = [image]
    if image.mode == "RGBA":
        bands = [image.getchannel("A"), image.convert("RGB")]
    for band in bands:
        columns = -(-_SIGNATURE_BITS // (band.height * len(band.getbands())))
        head = _bits(band.crop((0, 0, min(columns, band.width), band.height)), 0, _SIGNATURE_BITS)
        if head not in _SIGNATURES:
            continue
        length = _bits(band, _SIGNATURE_BITS, 32)
        count = struct.unpack(">I", length)[0] if len(length) == 4 else 0
        if not 0 < count <= 8 * MAX_TEXT_BYTES:
            continue
        data = _bits(band, _SIGNATURE_BITS + 32, count)
        if _SIGNATURES[head]:
            try:
                data = zlib.decompressobj(wbits=31).decompress(data, MAX_TEXT_BYTES)
            except zlib.error:
                continue
        text = decode_text(data)
        if text:
            return text
    return ""


def _bits(band: Image.Image, begin: int, count: int) -> bytes:
    """So many of the lowest bits, from top to bottom and then from left to right, as bytes."""
    values = band.transpose(Image.Transpose.TRANSPOSE).tobytes()[begin : begin + count // 8 * 8]
    digits = values[: len(values) // 8 * 8].translate(b"01" * 128)  # an even value is "0", an odd one "1"
    if not digits:
        return b""
    return int(digits, 2).to_bytes(len(digits) // 8, "big")
