"""Recognizes a file's format by its first bytes, never by its name; names those that are not supported.

PNG, JPEG, WebP and AVIF are supported, with Pillow's own decoders. HEIC and JPEG XL would each need another package
that parses foreign bytes in C or Rust (docs/decisions/0025): they are refused by name, with a remedy.
"""

from collections.abc import Mapping
from types import MappingProxyType

from contract.errors import InvalidInput, TooLarge

MAX_BYTES = 40_000_000
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
USE = "Use PNG, JPEG, WebP or AVIF."
_SAVE = "Save it as PNG or JPEG, and use that."
_STARTS: Mapping[bytes, str] = MappingProxyType({PNG_SIGNATURE: "PNG", b"\xff\xd8\xff": "JPEG"})
# Brands of ISO media files, which stand behind the length and "ftyp".
_BRANDS: Mapping[bytes, str] = MappingProxyType(
    {
        **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "a HEIC picture"),
        b"crx ": "a raw photo (CR3)",
        b"jxl ": "a JPEG XL picture",
        b"qt  ": "a QuickTime film",
        **dict.fromkeys((b"M4A ", b"M4B ", b"mp4a"), "a sound"),
    }
)
_AVIF_BRANDS = (b"avif", b"avis")
_FOREIGN: Mapping[bytes, str] = MappingProxyType(
    {
        b"GIF8": "a GIF",
        b"8BPS": "a Photoshop file",
        b"%PDF": "a PDF",
        b"%!PS": "a PostScript file",
        b"\xc5\xd0\xd3\xc6": "a PostScript file",
        b"II\x2a\0\x10\0\0\0CR": "a raw photo (CR2)",
        b"IIRO": "a raw photo (ORF)",
        b"IIU\0": "a raw photo (RW2)",
        b"FUJIFILMCCD-RAW": "a raw photo (RAF)",
        b"II\x1a\0\0\0HEAPCCDR": "a raw photo (CRW)",
        b"\0MRM": "a raw photo (MRW)",
        b"FOVb": "a raw photo (X3F)",
        b"II*\0": "a TIFF",
        b"MM\0*": "a TIFF",
        b"II+\0": "a TIFF",
        b"MM\0+": "a TIFF",
        b"II\xbc": "a JPEG XR picture",
        b"DDS ": "a DDS texture",
        b"SIMPLE": "a FITS file",
        b"\0\0\1\0": "an icon",
        b"\0\0\2\0": "a cursor",
        b"BM": "a BMP",
        b"\xff\x0a": "a JPEG XL picture",
        b"\0\0\0\x0cJXL ": "a JPEG XL picture",
        b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
        b"\xff\x4f\xff\x51": "a JPEG 2000 picture",
        b"qoif": "a QOI picture",
        b"farbfeld": "a farbfeld picture",
        b"v/1\x01": "an OpenEXR picture",
        b"#?RADIANCE": "an HDR picture",
        b"gimp xcf": "a GIMP file",
        b"icns": "an icon",
        b"CSFCHUNK": "a Clip Studio file",
        b"SQLite format 3": "a database",
        b"<svg": "an SVG drawing",
        b"<?xml": "an XML or SVG file",
        b"<!DOCTYPE svg": "an SVG drawing",
        b"<!DOCTYPE": "a web page",
        b"<html": "a web page",
        b"{\\rtf": "a text document",
        b"PK\3\4": "a ZIP archive",
        b"PK\5\6": "a ZIP archive",
        b"Rar!": "a RAR archive",
        b"7z\xbc\xaf": "a 7z archive",
        b"\x1f\x8b": "a gzip archive",
        b"\xd0\xcf\x11\xe0": "an Office document",
        b"\x1a\x45\xdf\xa3": "a film (Matroska or WebM)",
        b"\0\0\1\xba": "a film",
        b"\0\0\1\xb3": "a film",
        b"FLV\1": "a film",
        b"OggS": "a sound or a film",
        b"ID3": "a sound",
        b"fLaC": "a sound",
        b"\x30\x26\xb2\x75": "a film or a sound",
        b"MZ": "a program",
        b"\x7fELF": "a program",
        b"#!": "a script",
        b"version https://git-lfs": "a git-lfs pointer, not the picture itself",
    }
)
_PORTABLE = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7", b"Pf", b"PF")
# Images in formats that are not supported: they can be saved as another.
_CAN_BE_SAVED = (
    "HEIC",
    "JPEG XL",
    "Photoshop",
    "TIFF",
    "BMP",
    "raw photo",
    "SVG",
    "GIMP",
    "PDF",
    "icon",
    "GIF",
    "JPEG 2000",
    "OpenEXR",
    "HDR",
    "XR",
    "QOI",
    "TGA",
    "Clip Studio",
)


def sniff_image_format(data: bytes) -> str:
    """PNG, JPEG, WEBP or AVIF, by content.

    Raises:
        InvalidInput: names its format, as far as it is known.
        TooLarge: more than 40 MB.
    """
    if not data:
        raise InvalidInput("The picture is empty (0 bytes).", "Choose another file.")
    if len(data) > MAX_BYTES:
        raise TooLarge(
            f"The picture is {len(data) / 1e6:.0f} MB; at most {MAX_BYTES // 10**6} MB are accepted.",
            "Save it smaller.",
        )
    for start, name in _STARTS.items():
        if data.startswith(start):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp" and _is_avif(data):
        return "AVIF"
    words = foreign_kind(data)
    if not words:
        raise InvalidInput("The file's format is not supported.", USE)
    hint = _SAVE if any(kind in words for kind in _CAN_BE_SAVED) else USE
    raise InvalidInput(f"The file is {words}, a format that is not supported.", hint)


def foreign_kind(data: bytes) -> str:
    """The kind of an unsupported file, for a sentence: "a PDF"; "" if unknown."""
    if data[4:8] == b"ftyp":
        named = next((_BRANDS[brand] for brand in _brands(data) if brand in _BRANDS), None)
        return named or "a film"
    if data[:4] == b"RIFF":
        return {b"AVI ": "a film (AVI)", b"WAVE": "a sound"}.get(data[8:12], "a RIFF file")
    if data[:2] == b"\0\0" and data[2:3] in (b"\2", b"\3", b"\x0a", b"\x0b") and data[3:8] == bytes(5):
        return "a TGA picture"  # a cursor counts its pictures there
    if data[8:10] == b'{"' and data[3:8] == bytes(5):
        return "a model's weights (safetensors)"
    head = data[:256].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for start, words in _FOREIGN.items():
        if data.startswith(start) or (start[:1] == b"<" and head.startswith(start.lower())):
            if start == b"<?xml" and b"<svg" in data[:4096].lower():
                return "an SVG drawing"
            return words
    if data[:2] in _PORTABLE and data[2:3].isspace():
        return "a portable bitmap (PNM)"
    if head.startswith((b"{", b"[")):
        return "a JSON file"
    return ""


def _brands(data: bytes) -> list[bytes]:
    """The major brand of an ISO media file, and those it is compatible with."""
    length = min(int.from_bytes(data[:4], "big"), 256)
    return [data[8:12], *(data[place : place + 4] for place in range(16, length, 4))]


def _is_avif(data: bytes) -> bool:
    """AVIF shares its container with HEIC: the first brand that names one of them decides."""
    for brand in _brands(data):
        if brand in _AVIF_BRANDS:
            return True
        if brand in _BRANDS and brand not in (b"mif1", b"msf1"):
            return False
    return False
