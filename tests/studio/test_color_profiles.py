"""Colors of other spaces arrive as what they look like; a profile that can't be used is said and costs nothing."""

import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from studio.uploads.matrix_profiles import DISPLAY_P3, REC_2020, SRGB, matrix_profile
from studio.uploads.safe_open import read_picture
from studio.uploads.uploads import Uploads
from tests.support.images import chunk, encoded

ADOBE = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
PROPHOTO = (0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)
PROFILES = {
    "adobe rgb": matrix_profile(ADOBE, 1 / 2.19921875),
    "display p3": matrix_profile(DISPLAY_P3, None),
    "prophoto": matrix_profile(PROPHOTO, 1 / 1.8),
    "rec 2020": matrix_profile(REC_2020, 1 / 2.4),
}
# What a color of the space looks like in sRGB, from the definitions (computed apart, in floats).
KNOWN = [
    ("adobe rgb", (100, 150, 100), (66, 151, 97)),
    ("display p3", (200, 100, 100), (215, 93, 97)),
    ("prophoto", (120, 120, 120), (139, 139, 139)),
    ("rec 2020", (120, 120, 120), (113, 113, 113)),
]


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def gray_profile(gamma: float) -> bytes:
    """A gray space of a gamma, of the same parts as an RGB one."""
    rgb = bytearray(matrix_profile(SRGB, 1 / gamma))
    rgb[16:20] = b"GRAY"
    place = rgb.index(b"rTRC")
    rgb[place : place + 4] = b"kTRC"
    return bytes(rgb)


def color(data: bytes) -> tuple[int, ...]:
    picture = read_picture(data).image
    found = picture.getpixel((3, 3))
    assert isinstance(found, tuple)
    return found


def near(one: tuple[int, ...], other: tuple[int, ...], by: int = 4) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= by for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize(("space", "given", "seen"), KNOWN)
def test_colors_of_wider_spaces_arrive_as_they_look(
    kind: str, space: str, given: tuple[int, ...], seen: tuple[int, ...]
) -> None:
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}.get(
        kind, {}
    )
    data = encoded(Image.new("RGB", (8, 8), given), kind, icc_profile=PROFILES[space], **options)
    assert near(color(data), seen), color(data)
    assert read_picture(data).notes == ()


def test_transparency_is_kept() -> None:
    data = encoded(Image.new("RGBA", (8, 8), (100, 150, 100, 77)), "PNG", icc_profile=PROFILES["adobe rgb"])
    assert near(color(data), (66, 151, 97, 77))
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 100, 150, 100])
    data = encoded(palette, "PNG", transparency=0, icc_profile=PROFILES["adobe rgb"])
    assert near(color(data), (66, 151, 97, 255))


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_gray_has_its_gamma(mode: str) -> None:
    value = {"L": 128, "LA": (128, 200), "I;16": 128 * 257}[mode]
    data = encoded(Image.new(mode, (8, 8), value), "PNG", icc_profile=gray_profile(1.0))  # type: ignore[arg-type]
    assert near(color(data)[:3], (188, 188, 188)), color(data)
    assert mode != "LA" or color(data)[3] == 200


def test_srgb_in_all_but_name_is_left_bit_for_bit() -> None:
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    for profile in (srgb_profile(), matrix_profile(SRGB, None)):
        assert read_picture(encoded(noise, "PNG", icc_profile=profile)).image.tobytes() == noise.tobytes()


def cmyk(profile: bytes | None = None, *, is_adobe: bool = True) -> bytes:
    """A JPEG of a CMYK red (no cyan); without Adobe's mark its ink is written as it is."""
    picture = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    data = encoded(picture, "JPEG", quality=100, **({"icc_profile": profile} if profile else {}))
    if is_adobe:
        return data
    place = data.index(b"\xff\xee")
    plain = data[:place] + data[place + 2 + struct.unpack(">H", data[place + 2 : place + 4])[0] :]
    inverted = encoded(Image.new("CMYK", (16, 16), (255, 0, 0, 255)), "JPEG", quality=100)
    return (
        inverted[:place] + inverted[place + 2 + struct.unpack(">H", inverted[place + 2 : place + 4])[0] :]
        if plain
        else b""
    )


def test_cmyk_of_adobe_and_of_others_is_the_same_red() -> None:
    for data in (cmyk(), cmyk(is_adobe=False)):
        assert near(color(data), (254, 0, 0), 6), color(data)


def ink_profile() -> bytes:
    """A CMYK space by a table of its 16 corners (lut8, ICC.1:2001-04, 6.5.8): black, or Lab of a dull red, or paper."""
    corners = b""
    for corner in range(16):
        cyan, magenta, yellow, black = (corner >> shift & 1 for shift in (3, 2, 1, 0))
        lightness = 100 - 20 * cyan - 25 * magenta - 5 * yellow - 60 * black
        corners += bytes(
            (round(max(0, lightness) * 2.55), 128 + 50 * magenta - 30 * cyan, 128 + 40 * yellow - 30 * cyan)
        )
    same = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    table += same * 4 + corners + same * 3
    table += bytes(-len(table) % 4)
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(80),
        b"cprt": b"text\0\0\0\0x\0\0\0",
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061),
        b"A2B0": table,
    }
    head, body, place = b"", b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        head += struct.pack(">4sII", name, place + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    start = struct.pack(">I4sI4s4s4s", place + len(body), bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ")
    start += (
        struct.pack(">6H", 2026, 1, 1, 0, 0, 0)
        + b"acsp"
        + bytes(28)
        + struct.pack(">3i", 63190, 65536, 54061)
        + bytes(48)
    )
    return start + struct.pack(">I", len(tags)) + head + body


def test_cmyk_with_a_profile_is_the_color_of_its_ink() -> None:
    data = cmyk(ink_profile())
    assert read_picture(data).notes == ()
    assert near(color(data), (255, 119, 103), 12), color(data)  # Lab 70, 50, 40
    assert not near(color(data), (254, 0, 0), 60)


BROKEN = {
    "noise": (b"x" * 500, "damaged"),
    "cut off": (PROFILES["adobe rgb"][:400], "cut off"),
    "empty": (b"\0", "damaged"),
    "of CMYK": (PROFILES["adobe rgb"][:16] + b"CMYK" + PROFILES["adobe rgb"][20:], "for CMYK"),
    "of Lab": (PROFILES["adobe rgb"][:16] + b"Lab " + PROFILES["adobe rgb"][20:], "of a kind"),
    "huge": (struct.pack(">I", 5_000_000) + PROFILES["adobe rgb"][4:] + bytes(5_000_000), "larger than 4 MB"),
    "without its tables": (PROFILES["adobe rgb"][:128] + bytes(len(PROFILES["adobe rgb"]) - 128), "damaged"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_profile_that_cant_be_used_is_said_and_the_picture_kept(name: str, tmp_path: Path) -> None:
    profile, words = BROKEN[name]
    data = encoded(Image.new("RGB", (8, 8), (100, 150, 100)), "PNG", icc_profile=profile)
    assert color(data) == (100, 150, 100)
    ((code, sentence),) = read_picture(data).notes
    assert code == "profile_ignored" and words in sentence
    inputs = Uploads(tmp_path)
    stored = inputs.add(data)
    assert stored.notices == (sentence,) and inputs.notes(stored.sha256) == ((code, sentence),)


def with_color(*chunks: bytes) -> bytes:
    base = encoded(Image.new("RGB", (8, 8), (100, 150, 100)), "PNG")
    return base[:33] + b"".join(chunks) + base[33:]


@pytest.mark.parametrize(
    ("chunks", "seen"),
    [
        ([chunk(b"gAMA", struct.pack(">I", 45455))], (100, 150, 100)),
        ([chunk(b"gAMA", struct.pack(">I", 100000))], (168, 202, 168)),
        ([chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 100000))], (100, 150, 100)),
        (
            [
                chunk(b"gAMA", struct.pack(">I", 45455)),
                chunk(b"cHRM", struct.pack(">8I", *(round(point * 100000) for point in ADOBE))),
            ],
            (66, 151, 97),
        ),
        ([chunk(b"cICP", bytes((12, 13, 0, 1)))], (83, 152, 95)),
        ([chunk(b"cICP", bytes((1, 13, 0, 1)))], (100, 150, 100)),
        ([chunk(b"gAMA", b"\0\0\0\0")], (100, 150, 100)),
        ([chunk(b"gAMA", b"\0")], (100, 150, 100)),
        ([chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"cHRM", bytes(32))], (100, 150, 100)),
        ([chunk(b"cICP", bytes((9, 16, 0, 1)))], (100, 150, 100)),
    ],
)
def test_what_a_png_says_of_its_colors_in_numbers_counts(chunks: list[bytes], seen: tuple[int, ...]) -> None:
    assert near(color(with_color(*chunks)), seen, 5), color(with_color(*chunks))


def test_a_profile_that_is_a_bomb_is_never_inflated() -> None:
    bomb = b"p\0\0" + zlib.compress(bytes(80_000_000))
    ((code, _),) = read_picture(with_color(chunk(b"iCCP", bomb))).notes
    assert code == "profile_ignored"


def test_an_animation_gives_its_first_frame_and_says_so() -> None:
    frames = [Image.new("RGB", (8, 8), (n * 20, 0, 0)) for n in range(5)]
    for kind in ("PNG", "WEBP", "AVIF"):
        brought = read_picture(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
        assert brought.notes == (("first_frame", "The picture is an animation of 5 frames; the first one is used."),)
    assert read_picture(encoded(frames[0], "PNG")).notes == ()


def test_orientation_is_followed_wherever_exif_stands() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("PNG", "JPEG", "WEBP", "AVIF"):
        data = encoded(Image.new("RGB", (20, 10)), kind, exif=exif)
        assert read_picture(data).image.size == (10, 20), kind
    assert io.BytesIO(data)
