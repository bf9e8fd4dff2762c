"""Reads every text in an image file, by its field: chunks of a PNG, EXIF, XMP, comments.

Read from the file's structure with bounds, never by decoding pixels (a text hidden in pixels: `stealth_text.py`).
What the texts mean is in `import_recipe.py` and `other_programs.py`.
"""

import binascii
import html
import io
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType

from studio.uploads.exif import read_exif
from studio.uploads.file_kinds import sniff_image_format
from studio.uploads.png_text import EXIF_KEY, read_text
from studio.uploads.safe_open import opened
from studio.uploads.text_decoding import decode_text

_XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
_XMP = "XML:com.adobe.xmp"
_XMP_BYTES = 1_000_000
_MAX_BLOCKS = 4096
# Blocks of EXIF and XMP as ImageMagick and exiftool once put them into PNGs: hexadecimal digits behind a head.
_PROFILES: Mapping[str, str] = MappingProxyType(
    {"Raw profile type exif": "EXIF", "Raw profile type APP1": "EXIF", "Raw profile type xmp": "XMP"}
)
_XMP_FIELDS = ("exif:UserComment", "dc:description", "tiff:ImageDescription", "sd:parameters", "parameters")
_MARKUP = re.compile(r"<[^<>]{0,200}>")


def picture_texts(data: bytes) -> dict[str, str]:
    """Texts by field: a PNG's keywords, "UserComment" and other fields of EXIF, "XMP", "Comment".

    Raises:
        InvalidInput: no image, a damaged one, or too much text.
        TooLarge: more bytes or pixels than are taken.
    """
    if data[:6] in (b"GIF87a", b"GIF89a"):
        texts = _texts_of(gif_blocks(data))
        if texts:
            return texts  # a GIF can have generation data, though its frames can't be used
    with opened(data) as image:
        image_format = sniff_image_format(data)
        if image_format == "PNG":
            return _png_texts(data)
        if image_format in BLOCK_READERS:
            return _texts_of(BLOCK_READERS[image_format](data))
        # What Pillow finds in a format whose structure is not read here.
        blocks = [(kind.upper(), image.info.get(kind)) for kind in ("exif", "xmp")]
        return _texts_of([(kind, block) for kind, block in blocks if isinstance(block, bytes)])


def _png_texts(data: bytes) -> dict[str, str]:
    texts = read_text(io.BytesIO(data))
    blocks = [("EXIF", texts.pop(EXIF_KEY, "").encode("latin-1"))]
    for name, kind in _PROFILES.items():
        # A raw profile: its name, its length, and hexadecimal digits, each on lines of their own.
        lines = texts.pop(name, "").strip().split("\n", 2)
        if len(lines) == 3:
            with suppress(ValueError):
                blocks.append((kind, binascii.unhexlify("".join(lines[2].split()))))
    blocks.append(("XMP", texts.pop(_XMP, "").encode("utf-8")))
    return {**_texts_of(blocks), **texts}


def _texts_of(blocks: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """The texts of blocks by kind: "EXIF", "XMP" or "Comment". Of two under one name the first counts."""
    texts: dict[str, str] = {}
    for kind, block in blocks:
        found: Mapping[str, str] = {}
        if kind == "EXIF":
            found = read_exif(block).texts
        elif kind == "XMP":
            found = _xmp_texts(block.removeprefix(_XMP_HEAD))
        else:
            text = decode_text(block)
            if text:
                found = {"Comment": text}
        texts = {**found, **texts}
    return texts


def _xmp_texts(block: bytes) -> dict[str, str]:
    """The fields of XMP that may hold a recipe. No XML is parsed: nothing can expand."""
    text = decode_text(block[:_XMP_BYTES])
    found: dict[str, str] = {}
    for name in _XMP_FIELDS:
        value = ""
        element = _between(text, f"<{name}", f"</{name}>")
        if element:
            value = _MARKUP.sub("", element.partition(">")[2])  # the text behind its own ">"
        else:
            value = _between(text, f'{name}="', '"')  # an attribute
        if value.strip():
            found[f"XMP {name.rpartition(':')[2]}"] = html.unescape(value).strip()
    return found


def _between(text: str, before: str, behind: str) -> str:
    """The text between two marks, at their first occurrence; "" without them."""
    begin = text.find(before)
    if begin < 0:
        return ""
    end = text.find(behind, begin + len(before))
    if end < 0:
        return ""
    return text[begin + len(before) : end]


def jpeg_blocks(data: bytes) -> Iterator[tuple[str, bytes]]:
    """EXIF, XMP and comments from a JPEG's segments before its picture data."""
    place = 2
    for _ in range(_MAX_BLOCKS):
        if place + 4 > len(data) or data[place] != 0xFF:
            return
        marker = data[place + 1]
        if marker == 0xFF:  # padding
            place += 1
            continue
        if marker in (0xDA, 0xD9):
            return
        length = struct.unpack(">H", data[place + 2 : place + 4])[0]
        body = data[place + 4 : place + 2 + length]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            yield "EXIF", body
        elif marker == 0xE1 and body.startswith(_XMP_HEAD):
            yield "XMP", body
        elif marker == 0xFE:
            yield "Comment", body
        place += 2 + max(2, length)


def webp_blocks(data: bytes) -> Iterator[tuple[str, bytes]]:
    """EXIF and XMP from a WebP's chunks."""
    place = 12
    for _ in range(_MAX_BLOCKS):
        head = data[place : place + 8]
        if len(head) < 8:
            return
        name, length = struct.unpack("<4sI", head)
        if name in (b"EXIF", b"XMP "):
            yield name.decode("ascii").strip(), data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


BLOCK_READERS: Mapping[str, Callable[[bytes], Iterator[tuple[str, bytes]]]] = MappingProxyType(
    {"JPEG": jpeg_blocks, "WEBP": webp_blocks}
)


def gif_blocks(data: bytes) -> Iterator[tuple[str, bytes]]:
    """A GIF's comments. Its frames are not decoded."""
    if len(data) < 13:
        return
    place = 13 + _color_table_bytes(data[10])
    for _ in range(_MAX_BLOCKS):
        kind = data[place : place + 1]
        if kind == b"!":
            label = data[place + 1 : place + 2]
            body, place = _sub_blocks(data, place + 2)
            if label == b"\xfe":
                yield "Comment", body
        elif kind == b"," and place + 10 < len(data):
            place += 10 + _color_table_bytes(data[place + 9])
            _, place = _sub_blocks(data, place + 1)
        else:
            return


def _color_table_bytes(flags: int) -> int:
    """The size of the color table that a GIF's flags announce."""
    if not flags & 0x80:
        return 0
    return 3 << ((flags & 7) + 1)


def _sub_blocks(data: bytes, place: int) -> tuple[bytes, int]:
    """The bytes of a chain of sub-blocks, and the position behind it."""
    parts: list[bytes] = []
    while place < len(data) and data[place]:
        length = data[place]
        parts.append(data[place + 1 : place + 1 + length])
        place += 1 + length
    return b"".join(parts), place + 1
