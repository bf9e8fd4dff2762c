"""Every text that a picture carries, by the name of its place: chunks of a PNG, EXIF, XMP, comments.

Read from the file's structure with bounds, never by decoding pixels (a text hidden in pixels: `stealth_text.py`).
What the texts mean is in `import_recipe.py` and `other_programs.py`.
"""

import binascii
import html
import io
import re
import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from PIL import Image

from studio.uploads.exif import read_exif
from studio.uploads.file_kinds import sniff
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
    """Texts by where they stand: a PNG's keywords, "UserComment" and other fields of EXIF, "XMP", "Comment".

    Raises:
        InvalidInput: no picture, a damaged one, or too much text.
        TooLarge: more bytes or pixels than are taken.
    """
    if data[:6] in (b"GIF87a", b"GIF89a") and (texts := _named(_gif_blocks(data))):
        return texts  # which say how it was made, though its frames are not taken
    with opened(data) as image:
        match sniff(data):
            case "PNG":
                return _of_png(data)
            case "JPEG":
                return _named(_jpeg_blocks(data))
            case "WEBP":
                return _named(_webp_blocks(data))
        return _named(_blocks_of(image))


def _of_png(data: bytes) -> dict[str, str]:
    texts = read_text(io.BytesIO(data))
    blocks = [("EXIF", texts.pop(EXIF_KEY, "").encode("latin-1"))]
    blocks += [(kind, _unhexed(texts.pop(name, ""))) for name, kind in _PROFILES.items()]
    blocks.append(("XMP", texts.pop(_XMP, "").encode("utf-8")))
    return {**_named(blocks), **texts}


def _unhexed(text: str) -> bytes:
    """A raw profile: its name, its length, and hexadecimal digits, each on lines of their own."""
    parts = text.strip().split("\n", 2)
    try:
        return binascii.unhexlify("".join(parts[2].split())) if len(parts) == 3 else b""
    except (ValueError, binascii.Error):
        return b""


def _named(blocks: Iterator[tuple[str, bytes]] | list[tuple[str, bytes]]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for kind, block in blocks:
        found: Mapping[str, str] = {}
        if kind == "EXIF":
            found = read_exif(block).texts
        elif kind == "XMP":
            found = _xmp_texts(block.removeprefix(_XMP_HEAD))
        elif text := decode_text(block):
            found = {"Comment": text}
        texts = {**found, **texts}
    return texts


def _xmp_texts(block: bytes) -> dict[str, str]:
    """The fields of XMP that may hold a recipe. No XML is parsed: nothing can expand."""
    text = decode_text(block[:_XMP_BYTES])
    found: dict[str, str] = {}
    for name in _XMP_FIELDS:
        inside = _between(text, f"<{name}", f"</{name}>")
        # Of an element what is behind its own ">"; an attribute has its value in quotes.
        inside = _MARKUP.sub("", inside.partition(">")[2]) if inside else _between(text, f'{name}="', '"')
        if inside.strip():
            found[f"XMP {name.rpartition(':')[2]}"] = html.unescape(inside).strip()
    return found


def _between(text: str, before: str, behind: str) -> str:
    """What stands between two marks, at their first place; "" without them."""
    begin = text.find(before)
    end = text.find(behind, begin + len(before)) if begin >= 0 else -1
    return text[begin + len(before) : end] if end >= 0 else ""


def _jpeg_blocks(data: bytes) -> Iterator[tuple[str, bytes]]:
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


def _webp_blocks(data: bytes) -> Iterator[tuple[str, bytes]]:
    place = 12
    for _ in range(_MAX_BLOCKS):
        head = data[place : place + 8]
        if len(head) < 8:
            return
        name, length = struct.unpack("<4sI", head)
        if name in (b"EXIF", b"XMP "):
            yield name.decode("ascii").strip(), data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


def _gif_blocks(data: bytes) -> Iterator[tuple[str, bytes]]:
    """A GIF's comments. Its frames are not decoded."""
    if len(data) < 13:
        return
    place = 13 + (3 * 2 ** ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    for _ in range(_MAX_BLOCKS):
        kind = data[place : place + 1]
        if kind == b"!":
            label = data[place + 1 : place + 2]
            body, place = _sub_blocks(data, place + 2)
            if label == b"\xfe":
                yield "Comment", body
        elif kind == b"," and place + 10 < len(data):
            flags = data[place + 9]
            place += 10 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
            _, place = _sub_blocks(data, place + 1)
        else:
            return


def _sub_blocks(data: bytes, place: int) -> tuple[bytes, int]:
    parts: list[bytes] = []
    while place < len(data) and (length := data[place]):
        parts.append(data[place + 1 : place + 1 + length])
        place += 1 + length
    return b"".join(parts), place + 1


def _blocks_of(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    """What Pillow found in a format whose structure is not read here."""
    for kind in ("exif", "xmp"):
        if isinstance(block := image.info.get(kind), bytes):
            yield kind.upper(), block
