"""Pictures people bring: the IM family of the bad inputs, and what good ones become."""

import functools
import io
import os
import resource
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from contract.errors import InvalidInput, OutOfMemory, StorageFull, StudioError, TooLarge
from contract.records import StoredUpload
from studio.uploads.uploads import Uploads
from tests.support.images import SIGNATURE, chunk, encoded, flat_png, header, png, with_chunks


@pytest.fixture
def inputs(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "inputs")


def kept(inputs: Uploads, stored: StoredUpload) -> Image.Image:
    with Image.open(inputs.path(stored.sha256)) as image:
        image.load()
    assert image.format == "PNG" and image.size == (stored.width, stored.height) and not image.info.get("parameters")
    return image


def _photo(**options: object) -> bytes:
    return encoded(Image.effect_noise((60, 40), 50).convert("RGB"), "JPEG", **options)


def _apng() -> bytes:
    frames = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(50)]
    return encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])


GOOD = {
    "png": (png(), "RGB", (255, 0, 0)),
    "im18_apng_first_frame": (_apng(), "RGB", (0, 0, 0)),
    "im20_one_pixel": (png((1, 1)), "RGB", (255, 0, 0)),
    "im23_16_bit": (encoded(Image.new("I;16", (8, 8), 32768), "PNG"), "RGB", (128, 128, 128)),
    "im30_transparent": (png(mode="RGBA", color=(1, 2, 3, 0)), "RGBA", (1, 2, 3, 0)),
    "palette": (encoded(Image.new("RGB", (8, 8), "lime").convert("P"), "PNG"), "RGB", (0, 255, 0)),
    "gray": (png(mode="L", color=7), "RGB", (7, 7, 7)),
    "webp": (encoded(Image.new("RGB", (8, 8), "blue"), "WEBP", lossless=True), "RGB", (0, 0, 255)),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_picture_is_kept_as_rgb(inputs: Uploads, name: str) -> None:
    data, mode, color = GOOD[name]
    image = kept(inputs, inputs.add(data))
    assert image.mode == mode and image.getpixel((0, 0)) == color


def test_cmyk_becomes_rgb(inputs: Uploads) -> None:
    data = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    assert kept(inputs, inputs.add(data)).mode == "RGB"


@pytest.mark.parametrize(("orientation", "size"), [(6, (40, 60)), (3, (60, 40)), (99, (60, 40)), (1, (60, 40))])
def test_im25_it_is_turned_as_its_exif_says(inputs: Uploads, orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = inputs.add(_photo(exif=exif))
    assert (stored.width, stored.height) == size
    assert not kept(inputs, stored).getexif()


def test_the_same_picture_is_kept_once(inputs: Uploads, tmp_path: Path) -> None:
    assert inputs.add(png()) == inputs.add(png(texts={"parameters": "something else"}))
    assert len(list((tmp_path / "inputs").rglob("*.png"))) == 1


@functools.cache
def _foreign() -> dict[str, bytes]:
    gray = Image.new("L", (8, 8))
    return {
        "psd": b"8BPS\0\1" + b"\0" * 40,
        "fits": b"SIMPLE  =                    T" + b" " * 3000,
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
        "pdf": b"%PDF-1.7\n",
        "tiff": encoded(gray, "TIFF"),
        "ico": encoded(gray.resize((16, 16)), "ICO"),
        "dds": b"DDS " + b"\0" * 128,
        "gif": encoded(gray, "GIF"),
        "bmp": encoded(gray, "BMP"),
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>",
        "svg with xml": b"\n<?xml version='1.0'?><svg/>",
        "html": b"<!doctype html><p>",
        "text": b"hello there",
        "im16 script": b"#!/bin/sh\n",
        "zip": b"PK\3\4rest",
        "jpeg2000": b"\0\0\0\x0cjP  \r\n\x87\n",
        "riff": b"RIFF\0\0\0\0AVI LIST",
    }


@pytest.mark.parametrize("name", _foreign())
def test_im15_16_26_other_formats_are_refused_by_content(inputs: Uploads, name: str) -> None:
    with pytest.raises(InvalidInput, match="format") as refused:
        inputs.add(_foreign()[name])
    assert refused.value.hint in ("Use PNG, JPEG, WebP or AVIF.", "Save it as PNG or JPEG, and use that.")


@functools.cache
def _bad() -> dict[str, tuple[bytes, type[StudioError], str]]:
    good = encoded(Image.effect_noise((64, 64), 90).convert("RGB"), "PNG")
    damaged = bytearray(good)
    damaged[len(good) // 2] ^= 255
    return {
        "im01 65000² header only": (header(65000, 65000), TooLarge, "65000 × 65000"),
        "im13 empty": (b"", InvalidInput, "0 bytes"),
        "im10 cut in the data": (good[: len(good) // 2], InvalidInput, "cut off"),
        "cut in the header": (good[:20], InvalidInput, "cut off"),
        "signature only": (SIGNATURE, InvalidInput, "cut off"),
        "im11 bad checksum": (bytes(damaged), InvalidInput, "checksum"),
        "im21 1 × 5000": (png((1, 5000)), InvalidInput, "longer than 32 to 1"),
        "im31 40 MP": (flat_png(8000, 5000), TooLarge, "40 megapixels"),
        "zero wide": (header(0, 8) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""), InvalidInput, "0 × 8"),
        "no data": (header(8, 8) + chunk(b"IEND", b""), InvalidInput, "damaged or cut off"),
        "short data": (
            header(8, 8) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b""),
            InvalidInput,
            "damaged or cut off",
        ),
        "cut jpeg": (_photo()[:300], InvalidInput, "damaged or cut off"),
        "jpeg magic only": (b"\xff\xd8\xff\xe0", InvalidInput, "damaged or cut off"),
        "webp magic only": (b"RIFF\x10\0\0\0WEBPVP8 ", InvalidInput, "damaged or cut off"),
        "too many bytes": (b"\xff\xd8\xff" + bytes(40_000_001), TooLarge, "40 MB"),
        "im05 texts": (with_chunks(png(), *[chunk(b"tEXt", b"a\0" + b"x" * 900_000)] * 20), TooLarge, "MB of text"),
    }


@pytest.mark.parametrize("name", _bad())
def test_bad_pictures_are_refused_with_their_reason(inputs: Uploads, tmp_path: Path, name: str) -> None:
    data, kind, words = _bad()[name]
    with pytest.raises(kind) as refused:
        inputs.add(data)
    said = f"{refused.value.message} {refused.value.hint}"
    assert words in said and len(said) < 400 and "/" not in said.replace("KB/s", "")
    assert not list((tmp_path / "inputs").rglob("*")) and refused.value.hint


def test_im02_a_small_file_of_169_megapixels_is_refused_before_it_is_decoded(inputs: Uploads) -> None:
    data = flat_png(13000, 13000)
    assert len(data) < 600_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLarge, match="13000 × 13000"):
        inputs.add(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_im03_text_bombs_are_never_inflated(inputs: Uploads) -> None:
    bomb = zlib.compress(b"x" * 80_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for kind, head in ((b"zTXt", b"parameters\0\0"), (b"iTXt", b"parameters\0\1\0\0\0"), (b"iCCP", b"profile\0\0")):
        stored = inputs.add(with_chunks(png(), chunk(kind, head + bomb)))
        assert (stored.width, stored.height) == (8, 8)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 3), st.integers(0, 400))
def test_no_bytes_make_it_fall(noise: bytes, kind: int, place: int) -> None:
    from studio.uploads.safe_open import opened, upright_rgb

    base = (png((16, 16)), _photo(), GOOD["webp"][0], b"")[kind]
    place = min(place, len(base))
    try:
        with opened(base[:place] + noise + base[place + len(noise) :]) as image:
            upright_rgb(image)
    except StudioError:
        pass


def test_a_full_disk_is_named(inputs: Uploads, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(path: Path, data: bytes) -> None:
        path.write_bytes(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("studio.uploads.uploads.write_through", full)
    with pytest.raises(StorageFull, match="inputs/"):
        inputs.add(png())
    assert not [path for path in (tmp_path / "inputs").rglob("*") if path.is_file()]


def test_what_nothing_names_is_swept_after_a_day(inputs: Uploads) -> None:
    old, named, new = (inputs.add(png(color=color)).sha256 for color in ("red", "green", "blue"))
    for sha256 in (old, named):
        os.utime(inputs.path(sha256), (1, 1))
    assert inputs.sweep(frozenset({named})) == 1
    assert [inputs.path(s).exists() for s in (old, named, new)] == [False, True, True]


def test_interlaced_and_odd_but_valid_pngs_open(inputs: Uploads) -> None:
    rows = b"".join(b"\0" + bytes([n] * 3) for n in range(1))
    data = header(1, 1) + chunk(b"tIME", struct.pack(">HBBBBB", 2026, 1, 1, 0, 0, 0))
    data += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"") + b"trailing bytes"
    assert inputs.add(data).width == 1
    assert io.BytesIO(data).getvalue()


def test_what_is_there_and_can_not_be_read_is_neither_gone_nor_damaged(inputs: Uploads) -> None:
    sha256 = inputs.add(png()).sha256
    inputs.path(sha256).unlink()
    assert inputs.size(sha256) is None
    with pytest.raises(InvalidInput) as gone:
        inputs.read(sha256)
    assert gone.value.code == "upload_gone"
    inputs.path(sha256).mkdir()  # nobody can read it as a file, the superuser neither
    for look in (inputs.size, inputs.read):
        with pytest.raises(InvalidInput) as refused:
            look(sha256)
        assert refused.value.code == "upload_unreadable"
        assert "can't be read (Is a directory)" in refused.value.message and "damaged" not in refused.value.message


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (MemoryError(), OutOfMemory, "not enough memory"),
        (OSError(5, "Input/output error"), StudioError, "Input/output error"),
        (
            OSError("image file is truncated (7 bytes not processed)"),
            InvalidInput,
            "damaged or cut off (image file is truncated",
        ),
    ],
)
def test_only_a_damaged_picture_is_called_damaged(
    inputs: Uploads, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[StudioError], words: str
) -> None:
    def fail(*given: object, **named: object) -> None:
        raise error

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(kind) as refused:
        inputs.add(_photo())
    assert words in refused.value.message and ("damaged" in refused.value.message) == (kind is InvalidInput)
