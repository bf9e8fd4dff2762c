"""Pixels: opened, fitted, filled in, blended."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from contract.errors import InvalidInput
from contract.recipe import ImageRef
from engine.images.image_io import as_image, as_raw, blend, fill_in, fit, open_input


def png(image: Image.Image) -> tuple[ImageRef, dict[str, bytes]]:
    out = io.BytesIO()
    image.save(out, "PNG")
    ref = ImageRef(sha256=hashlib.sha256(out.getvalue()).hexdigest())
    return ref, {ref.sha256: out.getvalue()}


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("RGB", "red", (255, 0, 0)),
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 255), (0, 0, 0)),
        ("L", 7, (7, 7, 7)),
    ],
)
def test_a_picture_is_opened_as_rgb_on_white(mode: str, color: object, expected: tuple[int, ...]) -> None:
    image = open_input(*png(Image.new(mode, (3, 2), color)))  # type: ignore[arg-type]
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (3, 2), expected)


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_bytes_that_are_no_png_are_refused_in_a_sentence(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="can't be read"):
        open_input(ImageRef(sha256="0" * 64), {"0" * 64: data})
    with pytest.raises(InvalidInput, match="did not reach the engine"):
        open_input(ImageRef(sha256="0" * 64), {})


def halves(width: int = 100, height: int = 40) -> Image.Image:
    """Left half red, right half blue, with a white dot in the middle."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    image.paste("white", (width // 2 - 3, height // 2 - 3, width // 2 + 3, height // 2 + 3))
    return image


@pytest.mark.parametrize("resize", ["stretch", "crop", "fill"])
@pytest.mark.parametrize("size", [(64, 64), (128, 64), (8, 96), (100, 40)])
def test_a_picture_is_brought_to_any_size(size: tuple[int, int], resize: str) -> None:
    assert fit(halves(), size, resize).size == size


def test_crop_keeps_the_shape_and_the_middle_and_fill_keeps_all() -> None:
    cropped, filled = (np.asarray(fit(halves(), (64, 64), resize)) for resize in ("crop", "fill"))
    assert cropped[32, 32].min() > 200 and filled[32, 32].min() > 100
    assert tuple(cropped[60, 2]) == (255, 0, 0) and tuple(cropped[60, 61]) == (0, 0, 255)
    assert filled[:, 2, 0].min() > 240 and filled[:, 61, 2].min() > 240  # the border goes on in its colors


def test_the_border_of_a_filled_mask_is_not_painted() -> None:
    mask = np.asarray(fit(Image.new("L", (100, 40), 255), (64, 64), "fill"))
    assert mask[32, 32] == 255 and mask[0].max() == 0 == mask[-1].max()


def test_what_is_known_stays_and_the_rest_is_between_its_colors() -> None:
    image = halves()
    known = np.ones((40, 100), dtype=bool)
    known[10:30, 20:80] = False
    pixels = np.asarray(fill_in(image, known))
    assert (pixels[known] == np.asarray(image)[known]).all()
    hole = pixels[10:30, 20:80].astype(int)
    assert hole[:, :5, 0].min() > 200 and hole[:, -5:, 2].min() > 200 and hole[..., 1].max() < 60
    assert np.abs(np.diff(hole[10, :, 0])).max() < 40  # no edge in the middle of it


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (33, 7)])
def test_nothing_known_is_gray_and_one_pixel_fills_all(size: tuple[int, int]) -> None:
    width, height = size
    nothing = np.zeros((height, width), dtype=bool)
    assert set(np.unique(np.asarray(fill_in(Image.new("RGB", size), nothing)))) <= {127, 128}
    nothing[-1, -1] = True
    assert set(np.unique(np.asarray(fill_in(Image.new("RGB", size, (9, 9, 9)), nothing)))) == {9}


def test_a_blend_keeps_what_has_no_share_bit_for_bit() -> None:
    under = Image.effect_noise((16, 16), 90).convert("RGB")
    share = np.zeros((16, 16), dtype=np.float32)
    share[:, 8:] = np.linspace(0.2, 1, 8)
    mixed = np.asarray(blend(under, Image.new("RGB", (16, 16), "white"), share))
    assert (mixed[:, :8] == np.asarray(under)[:, :8]).all()
    assert (mixed[:, 15] == 255).all() and (mixed[:, 8:] >= np.asarray(under)[:, 8:]).all()


def test_raw_pixels_and_images_are_the_same() -> None:
    image = halves()
    assert as_image(as_raw(image)).tobytes() == image.tobytes()
