"""Converts foreign images to sRGB by their color profile (Adobe RGB, Display P3, CMYK, gamma of a PNG).

A profile that is damaged, too large or for other channels is ignored, with a notice. A profile that is sRGB in all but
name costs nothing: it is recognized by what it does to a few colors. Nothing else of an image is looked at.
Source: ICC.1:2001-04, 6.1; PNG specification (third edition), 4.3 and 11.3.2; ITU-T H.273.
"""

import io
import itertools
import struct
import zlib
from collections.abc import Mapping
from types import MappingProxyType

from PIL import Image, ImageCms

from studio.uploads.matrix_profiles import DISPLAY_P3, REC_2020, SRGB, Points, matrix_profile

MAX_PROFILE_BYTES = 4_000_000
_LEAST_PROFILE_BYTES = 132
_SPACES: Mapping[bytes, str] = MappingProxyType({b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"})
_CHANNELS: Mapping[str, str] = MappingProxyType({"RGB": "RGB", "L": "gray", "CMYK": "CMYK"})
_CLASSES = (b"mntr", b"scnr", b"prtr", b"spac")
_COLOR_CHUNKS = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")
_SAME = 2  # of 255: no eye sees it
_SRGB_GAMMA = 1 / 2.2
_GAMMA_TOLERANCE = 0.01
# The numbers of ITU-T H.273 in a PNG's cICP.
_PRIMARIES = MappingProxyType({1: SRGB, 9: REC_2020, 12: DISPLAY_P3})
_TRANSFERS: Mapping[int, float | None] = MappingProxyType(
    {1: 1 / 2.4, 4: 1 / 2.2, 6: 1 / 2.4, 8: 1.0, 13: None, 14: 1 / 2.4}
)
IGNORED = ("profile_ignored", "The picture's color profile {}, so it was not used; its colors can differ.")
Note = tuple[str, str]


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, Note | None]:
    """A picture in sRGB: RGB, or RGBA where it has transparency.

    Args:
        image: Loaded; of 8 bits a channel.
        profile: What its values mean; None: sRGB already.
    Returns:
        The picture, and a notice (code, sentence) if its profile could not be used.
    """
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    mode = "RGBA" if has_alpha else "RGB"
    if not profile:
        return image.convert(mode), None
    problem = _profile_problem(profile)
    if problem:
        return image.convert(mode), _ignored(problem)
    space = _SPACES[profile[16:20]]
    base = "RGB"
    if image.mode in ("L", "LA", "1", "I", "F") or image.mode.startswith("I;"):
        base = "L"
    elif image.mode == "CMYK":
        base = "CMYK"
    if base != space and not (base == "L" and space == "RGB"):
        return image.convert(mode), _ignored(f"is for {_CHANNELS[space]}, and the picture is {_CHANNELS[base]}")
    alpha = image.convert("RGBA").getchannel("A") if has_alpha else None
    try:
        converted = _convert_to_srgb(image.convert(space), profile)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image.convert(mode), _ignored("is damaged")
    if alpha is not None:
        converted.putalpha(alpha)
    return converted, None


def _ignored(problem: str) -> Note:
    """The notice that a profile is not used. problem: "is damaged"."""
    code, sentence = IGNORED
    return code, sentence.format(problem)


def _profile_problem(profile: bytes) -> str:
    """Why a profile can't be used, seen from its header; "" if it can."""
    if len(profile) > MAX_PROFILE_BYTES:
        return f"is larger than {MAX_PROFILE_BYTES // 10**6} MB"
    if len(profile) < _LEAST_PROFILE_BYTES or profile[36:40] != b"acsp":
        return "is damaged"
    if struct.unpack(">I", profile[:4])[0] > len(profile):
        return "is cut off"
    if profile[16:20] not in _SPACES or profile[12:16] not in _CLASSES:
        return "is of a kind that pictures don't have"
    return ""


def _convert_to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Through the profile to sRGB, relative to the paper's white, black to black."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    target = ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(
        source, target, image.mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    )
    if image.mode != "CMYK" and _is_as_srgb(transform, image.mode):
        return image.convert("RGB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # None only for in-place transforms
    return converted


def _is_as_srgb(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether a transform leaves colors as they are: a grid of them goes through it."""
    steps = range(0, 256, 15)
    if mode == "L":
        probe = Image.frombytes("L", (len(steps), 1), bytes(steps))
    else:
        few = range(0, 256, 51)
        colors = itertools.product(few, repeat=3)
        probe = Image.frombytes("RGB", (len(few) ** 2, len(few)), bytes(itertools.chain.from_iterable(colors)))
    after = ImageCms.applyTransform(probe, transform)
    assert after is not None
    pairs = zip(probe.convert("RGB").tobytes(), after.tobytes(), strict=True)
    return all(abs(one - other) <= _SAME for one, other in pairs)


def png_profile(data: bytes) -> tuple[bytes | None, Note | None]:
    """The profile of a PNG by its chunks: cICP, iCCP, sRGB, gAMA with cHRM, in this order.

    Returns:
        None for sRGB or if the file declares none; and a notice if its profile could not be used.
    """
    chunks: dict[bytes, bytes] = {}
    place = 8
    while place + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        if kind == b"IDAT":
            break
        if kind in _COLOR_CHUNKS:
            chunks.setdefault(kind, data[place + 8 : place + 8 + length])
        place += 12 + length
    coding = chunks.get(b"cICP", b"")
    if len(coding) >= 4:
        primaries, transfer = _PRIMARIES.get(coding[0]), coding[1]
        if primaries is None or transfer not in _TRANSFERS or coding[2] != 0:
            return None, _ignored("is of a film")
        if primaries == SRGB and transfer in (1, 6, 13, 14):
            return None, None
        return matrix_profile(primaries, _TRANSFERS[transfer]), None
    if b"iCCP" in chunks:
        chunk = chunks[b"iCCP"]
        packed = chunk.partition(b"\0")[2][1:]
        try:
            profile = zlib.decompressobj().decompress(packed, MAX_PROFILE_BYTES + 1)
        except zlib.error:
            return None, _ignored("is damaged")
        return profile, None
    if b"sRGB" in chunks or b"gAMA" not in chunks or len(chunks[b"gAMA"]) != 4:
        return None, None
    gamma = struct.unpack(">I", chunks[b"gAMA"])[0] / 100_000
    points = SRGB
    if len(chunks.get(b"cHRM", b"")) == 32:
        points = tuple(value / 100_000 for value in struct.unpack(">8I", chunks[b"cHRM"]))
    is_usual = abs(gamma - _SRGB_GAMMA) < _GAMMA_TOLERANCE
    if is_usual and max(abs(one - other) for one, other in zip(points, SRGB, strict=True)) < 0.005:
        return None, None
    if not 0.1 <= gamma <= 5 or not _are_colors(points):
        return None, _ignored("is damaged")
    return matrix_profile(points, None if is_usual else gamma), None


def _are_colors(points: Points) -> bool:
    """Whether white and primaries span a triangle."""
    (red_x, red_y, green_x, green_y, blue_x, blue_y) = points[2:]
    area = (green_x - red_x) * (blue_y - red_y) - (blue_x - red_x) * (green_y - red_y)
    is_white = all(0 < value < 1 for value in points[:2])
    return is_white and min(points) >= 0 and max(points) <= 1.2 and abs(area) > 0.01
