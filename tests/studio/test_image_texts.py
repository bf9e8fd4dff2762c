"""An infotext is found wherever a program has put it, and no block of a file can ask for more than there is."""

import binascii
import io
import struct
import time
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from contract.errors import InvalidInput
from studio.metadata.image_texts import picture_texts
from studio.metadata.other_programs import best_infotext
from studio.uploads.exif import Exif, read_exif
from studio.uploads.png_text import read_text
from tests.support.images import SIGNATURE, chunk, encoded, png

TEXT = "桜の木, a barn\nNegative prompt: blurry\nSteps: 30, Sampler: Euler, CFG scale: 6.5, Seed: 123, Size: 64x64"
SMALL = Image.new("RGB", (16, 16), "teal")


def tiff(
    fields: dict[int, tuple[int, bytes]], inside: dict[int, tuple[int, bytes]] | None = None, order: str = ">"
) -> bytes:
    """EXIF by hand: `fields` in IFD0, `inside` in the Exif IFD."""
    inside = inside or {}
    fields = dict(fields) | ({0x8769: (4, b"")} if inside else {})
    place = 8
    ends = []
    for table in (fields, inside):
        ends.append(place)
        place += 6 + 12 * len(table) if table else 0
    if inside:
        fields[0x8769] = (4, struct.pack(order + "I", ends[1]))
    directories, values = b"", b""
    for table in filter(None, (fields, inside)):
        entries = b""
        for tag, (kind, raw) in sorted(table.items()):
            count = len(raw) // {3: 2, 4: 4}.get(kind, 1)
            held = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(order + "I", place + len(values))
            values += raw if len(raw) > 4 else b""
            entries += struct.pack(order + "HHI", tag, kind, count) + held
        directories += struct.pack(order + "H", len(table)) + entries + bytes(4)
    return (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "I", 8) + directories + values


def moved(picture: bytes) -> bytes:
    """The same PNG with its texts behind the picture data, as ImageMagick and lodepng write it."""
    place, kept, texts = 8, [], []
    while place < len(picture):
        length, kind = struct.unpack(">I4s", picture[place : place + 8])
        piece = picture[place : place + 12 + length]
        (texts if kind in (b"tEXt", b"zTXt", b"iTXt") else kept).append(piece)
        place += 12 + length
    return picture[:8] + b"".join([*kept[:-1], *texts, kept[-1]])


def with_chunk(kind: bytes, data: bytes) -> bytes:
    base = png()
    return base[:-12] + chunk(kind, data) + base[-12:]


def comment(coding: str = "utf-16-be", head: bytes = b"UNICODE\0") -> tuple[int, bytes]:
    return (7, head + TEXT.encode(coding))


def jpeg(*segments: tuple[int, bytes]) -> bytes:
    base = encoded(SMALL, "JPEG")
    return (
        base[:2]
        + b"".join(b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments)
        + base[2:]
    )


def gif() -> bytes:
    return encoded(SMALL.convert("P"), "GIF", comment=TEXT.encode())


XMP = (
    '<x:xmpmeta><rdf:Description xmlns:exif="e"><exif:UserComment><rdf:Alt><rdf:li xml:lang="x-default">'
    + TEXT.replace("&", "&amp;")
    + "</rdf:li></rdf:Alt></exif:UserComment></rdf:Description></x:xmpmeta>"
).encode()
PLACES: dict[str, Callable[[], bytes]] = {
    "png before the picture": lambda: png(texts={"parameters": TEXT}),
    "png behind the picture": lambda: moved(png(texts={"parameters": TEXT})),
    "png tEXt in utf-8": lambda: with_chunk(b"tEXt", b"parameters\0" + TEXT.encode()),
    "png zTXt in utf-8": lambda: with_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(TEXT.encode())),
    "png iTXt, packed": lambda: with_chunk(b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(TEXT.encode())),
    "png, another keyword": lambda: with_chunk(b"iTXt", b"Comment\0\0\0\0\0" + TEXT.encode()),
    "png eXIf": lambda: with_chunk(b"eXIf", tiff({}, {0x9286: comment()})),
    "png eXIf, IFD0": lambda: with_chunk(b"eXIf", tiff({0x9286: comment()})),
    "png raw profile": lambda: with_chunk(
        b"zTXt",
        b"Raw profile type exif\0\0"
        + zlib.compress(b"\nexif\n      99\n" + binascii.hexlify(b"Exif\0\0" + tiff({}, {0x9286: comment()})) + b"\n"),
    ),
    "png xmp": lambda: with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    "jpeg exif": lambda: jpeg((0xE1, b"Exif\0\0" + tiff({}, {0x9286: comment()}))),
    "jpeg exif in IFD0": lambda: jpeg((0xE1, b"Exif\0\0" + tiff({0x9286: comment("utf-8", b"ASCII\0\0\0")}))),
    "jpeg exif, little-endian": lambda: jpeg((0xE1, b"Exif\0\0" + tiff({}, {0x9286: comment("utf-16-le")}, "<"))),
    "jpeg exif, the other order": lambda: jpeg((0xE1, b"Exif\0\0" + tiff({}, {0x9286: comment("utf-16-le")}, ">"))),
    "jpeg exif, marked": lambda: jpeg((0xE1, b"Exif\0\0" + tiff({}, {0x9286: comment("utf-16")}, ">"))),
    "jpeg exif, as text": lambda: jpeg((0xE1, b"Exif\0\0" + tiff({}, {0x9286: (2, TEXT.encode())}))),
    "jpeg description": lambda: jpeg((0xE1, b"Exif\0\0" + tiff({0x010E: (2, TEXT.encode() + b"\0")}))),
    "jpeg XPComment": lambda: jpeg((0xE1, b"Exif\0\0" + tiff({0x9C9C: (1, TEXT.encode("utf-16-le"))}))),
    "jpeg comment": lambda: jpeg((0xFE, TEXT.encode())),
    "jpeg xmp": lambda: jpeg((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)),
    "webp exif": lambda: encoded(SMALL, "WEBP", exif=tiff({}, {0x9286: comment()})),
    "webp xmp": lambda: encoded(SMALL, "WEBP", xmp=XMP),
    "avif exif": lambda: encoded(SMALL, "AVIF", exif=tiff({}, {0x9286: comment()})),
    "gif comment": gif,
}


@pytest.mark.parametrize("place", PLACES)
def test_an_infotext_is_found_wherever_it_stands(place: str) -> None:
    assert best_infotext(picture_texts(PLACES[place]())) == TEXT


@pytest.mark.parametrize("text", ["Screenshot", "Created with GIMP", "OLYMPUS DIGITAL CAMERA", "   "])
def test_what_a_camera_or_a_tool_wrote_is_no_prompt(text: str) -> None:
    data = jpeg(
        (0xE1, b"Exif\0\0" + tiff({0x010E: (2, text.encode())}, {0x9286: (7, b"ASCII\0\0\0" + text.encode())})),
        (0xFE, text.encode()),
    )
    assert best_infotext(picture_texts(data)) is None


def test_of_two_texts_with_one_keyword_the_one_that_is_not_empty_counts() -> None:
    data = SIGNATURE + chunk(b"tEXt", b"parameters\0") + chunk(b"tEXt", b"parameters\0a barn") + chunk(b"IEND", b"")
    assert read_text(io.BytesIO(data)) == {"parameters": "a barn"}


def test_texts_that_are_noise_are_left_out() -> None:
    data = with_chunk(b"tEXt", b"parameters\0" + bytes(range(128, 256)) * 4)
    assert best_infotext(picture_texts(data)) is None


def test_a_block_that_names_itself_thousands_of_times_is_read_once() -> None:
    entry = struct.pack(">HHII", 0x9286, 7, 3_000_000, 8)
    data = b"MM\0*" + struct.pack(">I", 8) + struct.pack(">H", 65535) + entry * 65535 + b"x" * 3_000_000
    began = time.thread_time()
    assert read_exif(data).texts.keys() <= {"UserComment"}
    assert time.thread_time() - began < 5


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MM\0*",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40,
        b"MM\0*\0\0\0\x08\0\1\x87\x69\0\4\0\0\0\1\0\0\0\x08",
    ],
)
def test_damaged_exif_says_nothing(data: bytes) -> None:
    assert read_exif(data) == Exif()


def test_too_much_text_behind_the_picture_is_refused() -> None:
    bomb = zlib.compress(b"x" * 20_000_000)
    with pytest.raises(InvalidInput, match="MB of text"):
        picture_texts(with_chunk(b"zTXt", b"parameters\0\0" + bomb))


def test_hostile_xmp_takes_no_time() -> None:
    xmp = b"<exif:UserComment>" * 40_000 + b"<" * 100_000
    began = time.thread_time()
    picture_texts(with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    assert time.thread_time() - began < 5
