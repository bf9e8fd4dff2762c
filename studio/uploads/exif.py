"""Reads a few fields of EXIF, within bounds: the orientation and the fields that may hold text.

Pillow's own reader copies every field that a block declares, so that one of 64 KB can ask for gigabytes.
Source: TIFF 6.0, section 2; EXIF 2.32.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from studio.uploads.text_decoding import decode_comment, decode_text

MAX_FIELD_BYTES = 4_000_000
_MAX_ENTRIES = 512
_EXIF_IFD, _ORIENTATION, _USER_COMMENT = 0x8769, 0x0112, 0x9286
_SIZES = MappingProxyType({1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4})
_TEXTS: Mapping[int, str] = MappingProxyType(
    {
        _USER_COMMENT: "UserComment",
        0x010E: "ImageDescription",
        0x9C9C: "XPComment",
        0x9C9B: "XPTitle",
        0x010F: "Make",
        0x0110: "Model",
        0x0131: "Software",
        0x927C: "MakerNote",
    }
)


@dataclass(frozen=True, slots=True)
class Exif:
    """Orientation (1 to 8; 1 where there is none that makes sense), and texts by the names of their fields."""

    orientation: int = 1
    texts: Mapping[str, str] = field(default_factory=dict)


def read_exif(data: bytes) -> Exif:
    """Read a block of EXIF, with or without its “Exif” in front. Never raises: damaged fields are left out."""
    data = data.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return Exif()
    start = struct.unpack(order + "I", data[4:8])[0]
    first = dict(_fields(data, order, start))
    pointer = first.get(_EXIF_IFD, b"")
    second: dict[int, bytes] = {}
    if len(pointer) == 4:
        second = dict(_fields(data, order, struct.unpack(order + "I", pointer)[0]))
    orientation = 1
    raw_orientation = first.get(_ORIENTATION, b"")
    if len(raw_orientation) == 2:
        orientation = struct.unpack(order + "H", raw_orientation)[0]
    if not 1 <= orientation <= 8:
        orientation = 1
    texts: dict[str, str] = {}
    for tag, name in _TEXTS.items():
        raw = first.get(tag, second.get(tag, b""))
        if tag == _USER_COMMENT:
            text = decode_comment(raw, likely="utf-16-le" if order == "<" else "utf-16-be")
        else:
            text = decode_text(raw, likely="utf-16-le" if tag >= 0x9C00 else "utf-8")
        if text:
            texts[name] = text
    return Exif(orientation, texts)


def _fields(data: bytes, order: str, start: int) -> Iterator[tuple[int, bytes]]:
    """Tag and raw value of the known fields of a directory."""
    head = data[start : start + 2]
    if len(head) < 2:
        return
    count = min(struct.unpack(order + "H", head)[0], _MAX_ENTRIES)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        entry = data[place : place + 12]
        if len(entry) < 12:
            return
        tag, kind, number = struct.unpack(order + "HHI", entry[:8])
        if tag not in _TEXTS and tag not in (_EXIF_IFD, _ORIENTATION):
            continue
        size = _SIZES.get(kind, 1) * number
        if size > 4:
            offset = struct.unpack(order + "I", entry[8:])[0]
            yield tag, data[offset : offset + min(size, MAX_FIELD_BYTES)]
        else:
            yield tag, entry[8 : 8 + size]
