"""Pictures that people bring, over HTTP: what is taken, what is refused, and that nothing is believed."""

import io
import struct
import zlib

import pytest
from PIL import Image, PngImagePlugin

from tests.support.serving import Visitor

Refusal = tuple[int, str]


def png(size: tuple[int, int] = (64, 64), mode: str = "RGB", **texts: str) -> bytes:
    out, info = io.BytesIO(), PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    Image.new(mode, size).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def encoded(kind: str, **choices: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(out, kind, **choices)
    return out.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def header_only(width: int, height: int) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [png(), png(mode="RGBA"), png(mode="L"), png(mode="I;16"), png((1, 1)), encoded("JPEG"), encoded("WEBP")],
    ids=["RGB", "RGBA", "L", "16 bit", "1 x 1", "JPEG", "WebP"],
)
def test_a_picture_is_taken_and_named_by_its_content(me: Visitor, data: bytes) -> None:
    answer = me.post("/api/v1/uploads", content=data)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"sha256", "width", "height"} and len(answer.json()["sha256"]) == 64
    assert me.post("/api/v1/uploads", content=data).json() == answer.json()


def test_a_turned_photo_is_set_upright(me: Visitor) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    answer = me.post("/api/v1/uploads", content=encoded("JPEG", exif=exif)).json()
    assert (answer["width"], answer["height"]) == (48, 64)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG",
        b"GIF89a" + b"\0" * 100,
        b"<svg onload=alert(1)></svg>",
        b"%PDF-1.7",
        b"8BPS\0\1",
        b"II*\0" + b"\0" * 99,
        b"%!PS-Adobe-3.0 EPSF",
        b"SIMPLE  =                    T",
        b"DDS " + b"\0" * 124,
        b"\0\0\1\0" + b"\0" * 50,
        b"BM" + b"\0" * 60,
        b"<!doctype html><script>1</script>",
        b"\x80\x04pickle",
        header_only(65_000, 65_000),
        header_only(13_000, 13_000),
        header_only(1, 2**31 - 1),
        png()[:60],
        png()[:-20],
        png((1, 5000)),
        png().replace(b"IHDR", b"IHDX"),
    ],
    ids=lambda data: data[:12].hex() or "empty",
)
def test_what_is_no_picture_is_refused_in_words(me: Visitor, data: bytes) -> None:
    answer = me.post("/api/v1/uploads", content=data, headers={"content-type": "image/png"})
    assert answer.status_code in (413, 422), answer.text
    assert set(answer.json()) - {"field", "fix"} == {"code", "message", "hint"} and len(answer.json()["message"]) < 300
    assert "/" not in answer.json()["message"]


def test_a_form_is_not_a_picture(me: Visitor) -> None:
    answer = me.post("/api/v1/uploads", files={"file": ("", png())})
    assert answer.status_code == 415 and answer.json()["code"] == "unsupported_type"


def test_an_upload_over_the_limit_is_refused(me: Visitor) -> None:
    answer = me.post("/api/v1/uploads", content=b"\0" * 40_000_001)
    assert answer.status_code == 413 and answer.json()["code"] == "too_large"


def test_our_own_picture_gives_its_recipe_back(me: Visitor) -> None:
    data = me.get(f"/api/v1/images/{me.picture('a harbor', seed=2**60 + 1)}").content
    found = me.post("/api/v1/recipes/read", content=data).json()
    assert found["draft"]["prompt"] == "a harbor" and found["draft"]["seed"] == str(2**60 + 1)
    assert me.post("/api/v1/jobs", json=found["draft"]).status_code == 202


def test_a1111_text_gives_a_draft(me: Visitor) -> None:
    text = "sea\nNegative prompt: rain\nSteps: 12, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x64, Model: gone"
    found = me.post("/api/v1/recipes/read", content=png(parameters=text)).json()
    assert found["draft"]["prompt"] == "sea" and found["draft"]["seed"] == "5" and found["draft"]["steps"] == 12
    assert found["infotext"] and found["unknown"] == ["gone"]


@pytest.mark.parametrize(
    "data",
    [
        png(),
        png(parameters=""),
        png(parameters="x" * 2_000_000),
        encoded("JPEG"),
        png(darkroom="{" * 50_000),
        png(darkroom='{"recipe": {"prompt": 1}}'),
    ],
    ids=["none", "empty", "2 MB", "JPEG", "deep", "wrong"],
)
def test_a_picture_without_a_recipe_says_so(me: Visitor, data: bytes) -> None:
    answer = me.post("/api/v1/recipes/read", content=data)
    assert answer.status_code in (200, 422), answer.text
    assert answer.json().get("message") or answer.json()["draft"] is None or answer.json()["infotext"]


def test_text_that_grows_when_it_is_opened_is_not_opened(me: Visitor) -> None:
    bomb = chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a" * 80_000_000, 9))
    data = png()
    answer = me.post("/api/v1/recipes/read", content=data[:33] + bomb + data[33:])
    assert answer.status_code in (200, 413, 422) and len(answer.content) < 1_000_000


def test_reading_a_recipe_keeps_nothing(me: Visitor) -> None:
    me.post("/api/v1/recipes/read", content=png(parameters="sea\nSteps: 4"))
    assert me.get("/api/v1/images").json()["total"] == 0
