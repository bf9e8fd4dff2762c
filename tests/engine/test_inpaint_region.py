"""Inpaint regions: which part of an image is generated, and how it comes back."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

from contract.errors import InvalidInput
from contract.recipe import Recipe
from engine.images.inpaint_region import InpaintRegion, inpaint_region_of
from tests.engine.test_image_io import png

Make = Callable[..., Recipe]
WHITE = Image.new("RGB", (64, 64), "white")


def noise(size: tuple[int, int]) -> Image.Image:
    """Gray noise, the same in every run: Image.effect_noise goes on where the process last took a random number."""
    levels = np.random.default_rng(0).normal(128, 90, size[::-1]).clip(0, 255).astype(np.uint8)
    return Image.fromarray(levels).convert("RGB")


NOISE = noise((96, 64))


def box(size: tuple[int, int], *area: int, color: object = "white") -> Image.Image:
    mask = Image.new("RGB", size)
    mask.paste(color, area)  # type: ignore[arg-type]
    return mask


def region_of(
    make_recipe: Make,
    picture: Image.Image,
    mask: Image.Image | None = None,
    size: tuple[int, int] = (64, 64),
    start: dict[str, object] | None = None,
    **more: object,
) -> InpaintRegion:
    ref, images = png(picture)
    fields: dict[str, object] = {"init_image": {"image": ref.model_dump(), **(start or {})}}
    if mask is not None:
        mask_ref, more_images = png(mask)
        images |= more_images
        fields["mask"] = {"image": mask_ref.model_dump(), **more}
    plain = json.loads(make_recipe(width=size[0], height=size[1]).canonical_json())
    region = inpaint_region_of(Recipe.model_validate_json(json.dumps(plain | fields)), images)
    assert region is not None
    return region


def test_without_an_init_image_there_is_no_region(make_recipe: Make) -> None:
    assert inpaint_region_of(make_recipe(), {}) is None


@pytest.mark.parametrize("resize", ["stretch", "crop", "fill"])
def test_an_unmasked_picture_is_painted_whole(resize: str, make_recipe: Make) -> None:
    region = region_of(make_recipe, NOISE, start={"resize": resize})
    assert region.image.size == (64, 64) and region.mask is None and region.paste_back(WHITE) is WHITE


def test_latents_are_stretched_later(make_recipe: Make) -> None:
    assert region_of(make_recipe, NOISE, start={"resize": "latent"}).image.size == (96, 64)


@pytest.mark.parametrize("invert", [False, True])
def test_outside_a_hard_mask_every_bit_comes_back(invert: bool, make_recipe: Make) -> None:
    region = region_of(make_recipe, NOISE, box((96, 64), 10, 20, 50, 60), (96, 64), blur=0, invert=invert)
    painted = np.zeros((64, 96), dtype=bool)
    painted[20:60, 10:50] = True
    painted = ~painted if invert else painted
    pixels = np.asarray(region.paste_back(Image.new("RGB", (96, 64), "white")))
    assert (pixels[painted] == 255).all() and (pixels[~painted] == np.asarray(NOISE)[~painted]).all()
    assert region.mask is not None and ((region.mask > 0) == painted).all()


def test_a_blur_softens_the_edge_and_not_the_rest(make_recipe: Make) -> None:
    region = region_of(make_recipe, NOISE, box((96, 64), 0, 0, 48, 64), (96, 64), blur=4)
    shown = np.asarray(region.paste_back(Image.new("RGB", (96, 64), "white"))).astype(int) - np.asarray(NOISE)
    assert (shown[:, 70:] == 0).all() and (np.asarray(region.paste_back(NOISE)) == np.asarray(NOISE)).all()
    assert shown[:, :20].sum() > shown[:, 44:52].sum() > 0


def test_a_mask_of_another_size_is_scaled_to_the_picture(make_recipe: Make) -> None:
    region = region_of(make_recipe, NOISE, box((192, 128), 0, 0, 96, 128), (96, 64), blur=0)
    assert region.mask is not None
    assert (region.mask[:, :47] == 1).all() and (region.mask[:, 49:] == 0).all()


@pytest.mark.parametrize(("color", "invert"), [("black", False), ((100, 100, 100), False), ("white", True)])
def test_an_empty_mask_is_refused_in_a_sentence(color: object, invert: bool, make_recipe: Make) -> None:
    with pytest.raises(InvalidInput, match="The mask is empty"):
        region_of(make_recipe, NOISE, Image.new("RGB", (96, 64), color), invert=invert)  # type: ignore[arg-type]


def test_what_is_transparent_in_a_mask_is_not_painted(make_recipe: Make) -> None:
    drawn = Image.new("RGBA", (96, 64), (255, 255, 255, 0))
    drawn.paste((255, 255, 255, 255), (0, 0, 48, 64))
    region = region_of(make_recipe, NOISE, drawn, (96, 64), blur=0)
    assert region.mask is not None and (region.mask[:, :48] == 1).all() and (region.mask[:, 48:] == 0).all()


def test_a_full_mask_repaints_all(make_recipe: Make) -> None:
    region = region_of(make_recipe, NOISE, Image.new("RGB", (96, 64), "white"), (96, 64))
    assert region.mask is not None and (region.mask == 1).all()
    assert (np.asarray(region.paste_back(Image.new("RGB", (96, 64), "teal"))) == (0, 128, 128)).all()


@pytest.mark.parametrize("content", ["original", "fill", "noise", "nothing"])
def test_masked_content_is_what_lies_under_the_mask(content: str, make_recipe: Make) -> None:
    picture = Image.new("RGB", (64, 64), "green")
    picture.paste("red", (16, 16, 48, 48))
    region = region_of(make_recipe, picture, box((64, 64), 16, 16, 48, 48), content=content)
    assert region.content == ("original" if content == "fill" else content)
    middle = region.image.getpixel((32, 32))
    assert middle == ((0, 128, 0) if content == "fill" else (255, 0, 0))


def test_only_the_masked_area_is_painted_and_the_picture_keeps_its_size(make_recipe: Make) -> None:
    photo = noise((700, 501))
    mask = box((700, 501), 300, 200, 340, 220)
    region = region_of(make_recipe, photo, mask, (64, 64), area="masked", padding=10, blur=0)
    assert region.image.size == (64, 64) and region.mask is not None and region.mask.shape == (64, 64)
    pixels = np.asarray(region.paste_back(WHITE))
    painted = np.asarray(mask)[..., 0] > 0
    assert pixels.shape == (501, 700, 3)
    assert (pixels[painted] == 255).all() and (pixels[~painted] == np.asarray(photo)[~painted]).all()
    # The area with its padding is 60 × 40; it is grown to the painted shape: 60 × 60 at 290, 180.
    expected = photo.crop((290, 180, 350, 240)).resize((64, 64), Image.Resampling.LANCZOS)
    assert region.image.tobytes() == expected.tobytes()


@pytest.mark.parametrize("area", [(0, 0, 5, 5), (695, 496, 700, 501), (0, 250, 700, 252), (3, 0, 4, 501)])
def test_an_area_at_the_edge_stays_in_the_picture(area: tuple[int, ...], make_recipe: Make) -> None:
    photo = noise((700, 501))
    region = region_of(make_recipe, photo, box((700, 501), *area), (128, 64), area="masked", blur=3)
    assert region.paste_back(Image.new("RGB", (128, 64))).size == (700, 501)


def test_a_soft_mask_keeps_its_grays(make_recipe: Make) -> None:
    gray = Image.linear_gradient("L").resize((64, 64)).convert("RGB")
    region = region_of(make_recipe, Image.new("RGB", (64, 64)), gray, soft=True, blur=0)
    assert region.is_soft and region.mask is not None and len(np.unique(region.mask)) > 30
    hard = region_of(make_recipe, Image.new("RGB", (64, 64)), gray, blur=0)
    assert hard.mask is not None and set(np.unique(hard.mask)) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("extend", "size"),
    [
        ({"left": 32}, (128, 64)),
        ({"right": 8}, (104, 64)),
        ({"up": 16}, (96, 80)),
        ({"down": 64}, (96, 128)),
        ({"left": 8, "right": 16, "up": 24, "down": 32}, (120, 120)),
    ],
)
def test_a_canvas_grows_to_the_sides_that_are_named(
    extend: dict[str, int], size: tuple[int, int], make_recipe: Make
) -> None:
    region = region_of(make_recipe, NOISE, size=size, start={"outpaint": {"overlap": 8, **extend}})
    pixels = np.asarray(region.paste_back(Image.new("RGB", size, "white")))
    left, top = extend.get("left", 0), extend.get("up", 0)
    inner = np.s_[top + 8 : top + 56, left + 8 : left + 88]
    assert (pixels[inner] == np.asarray(NOISE)[8:56, 8:88]).all()  # beyond the overlap, bit for bit
    new = np.ones(pixels.shape[:2], dtype=bool)
    new[top : top + 64, left : left + 96] = False
    assert (pixels[new] == 255).all() and region.mask is not None and (region.mask[new] == 1).all()
    assert 0 < region.mask[~new].max() < 1


def test_a_side_that_is_not_extended_is_not_touched(make_recipe: Make) -> None:
    region = region_of(make_recipe, NOISE, size=(128, 64), start={"outpaint": {"right": 32, "overlap": 48}})
    pixels = np.asarray(region.paste_back(Image.new("RGB", (128, 64), "white")))
    assert (pixels[:, :48] == np.asarray(NOISE)[:, :48]).all() and (pixels[:, 96:] == 255).all()
    ramp = pixels[:, 48:96].astype(int) - np.asarray(NOISE)[:, 48:96]
    assert (np.diff(ramp.sum(axis=(0, 2))[::8]) > 0).all()


def test_the_overlap_may_be_none_and_a_mask_may_be_there_too(make_recipe: Make) -> None:
    mask = box((96, 64), 0, 0, 8, 8)
    region = region_of(make_recipe, NOISE, mask, (128, 64), start={"outpaint": {"right": 32, "overlap": 0}})
    expected = np.zeros((64, 128))
    expected[:8, :8], expected[:, 96:] = 1, 1
    assert region.mask is not None and (region.mask == expected).all()


def test_a_picture_of_odd_sides_loses_at_most_seven_pixels(make_recipe: Make) -> None:
    odd = noise((101, 71))
    region = region_of(make_recipe, odd, size=(104, 64), start={"outpaint": {"left": 8, "overlap": 0}})
    assert (np.asarray(region.image)[:, 8:] == np.asarray(odd)[:64, :96]).all()


def dotted(size: tuple[int, int], *points: tuple[int, int]) -> Image.Image:
    mask = Image.new("RGB", size)
    for point in points:
        mask.putpixel(point, (255, 255, 255))
    return mask


@pytest.mark.parametrize("area", ["whole", "masked"])
@pytest.mark.parametrize("blur", [0, 1, 4, 16, 64])
def test_a_dot_is_repainted_whatever_the_blur(area: str, blur: int, make_recipe: Make) -> None:
    region = region_of(
        make_recipe, Image.new("RGB", (96, 64)), dotted((96, 64), (40, 30)), (96, 64), blur=blur, area=area
    )
    assert region.mask is not None and region.mask.any()
    shown = np.asarray(region.paste_back(Image.new("RGB", (96, 64), "white")))
    assert shown[30, 40, 0] >= 127, "at least half of what is painted shows"


@pytest.mark.parametrize("blur", [2, 8])
def test_a_blur_is_as_before_where_the_mask_is_thicker_than_it(blur: int, make_recipe: Make) -> None:
    mask = box((96, 64), 20, 10, 70, 50)
    region = region_of(make_recipe, Image.new("RGB", (96, 64)), mask, (96, 64), blur=blur)
    expected = np.asarray(mask.convert("L").filter(ImageFilter.GaussianBlur(blur)))
    shown = np.asarray(region.paste_back(Image.new("RGB", (96, 64), "white")))[..., 0]
    assert (shown == expected).all()


@pytest.mark.parametrize("resize", ["stretch", "crop", "fill"])
@pytest.mark.parametrize(
    "drawn",
    [
        [(500, 400)],
        [(x, 400) for x in range(300, 700)],
        [(600, y) for y in range(100, 700)],
        [(300 + at, 200 + at) for at in range(300)],
    ],
)
def test_what_is_thinner_than_a_painted_pixel_is_still_repainted(
    resize: str, drawn: list[tuple[int, int]], make_recipe: Make
) -> None:
    photo = Image.new("RGB", (1000, 800))
    region = region_of(make_recipe, photo, dotted((1000, 800), *drawn), (160, 128), start={"resize": resize}, blur=0)
    assert region.mask is not None
    assert region.mask.sum() >= max(1, 0.1 * len(drawn))
    shown = np.asarray(region.paste_back(Image.new("RGB", (160, 128), "white")))
    assert (shown[..., 0] == 255 * region.mask).all()


def test_an_edge_that_is_no_thin_line_lies_where_it_did(make_recipe: Make) -> None:
    mask = box((1000, 800), 203, 101, 751, 600)
    region = region_of(make_recipe, Image.new("RGB", (1000, 800)), mask, (160, 128), blur=0)
    plain = np.asarray(mask.convert("L").resize((160, 128), Image.Resampling.LANCZOS)).astype(np.float32) / 255 >= 0.5
    assert region.mask is not None and (region.mask == plain).all()


@pytest.mark.parametrize("soft", [False, True])
def test_a_mask_that_the_crop_cuts_off_is_refused_in_a_sentence(soft: bool, make_recipe: Make) -> None:
    with pytest.raises(InvalidInput, match="lies in the part of the picture that 64 × 64 cuts off"):
        region_of(make_recipe, Image.new("RGB", (384, 256)), box((384, 256), 0, 0, 20, 256), soft=soft)


@pytest.mark.parametrize(
    ("size", "made", "more", "words"),
    [
        ((96, 64), (96, 64), {}, ""),
        ((192, 128), (96, 64), {}, ""),
        (
            (101, 71),
            (104, 64),
            {"outpaint": {"left": 8}},
            "Of the picture, 101 × 71, the part of 96 × 64 is used: sides are multiples of 8.",
        ),
        ((96, 64), (104, 64), {"outpaint": {"left": 8}}, ""),
        ((256, 192), (64, 64), {}, "Of the picture, 256 × 192, the part of 192 × 192 is used: the result is 64 × 64."),
        ((256, 192), (64, 64), {"resize": "fill"}, ""),
        ((256, 192), (64, 64), {"resize": "stretch"}, ""),
    ],
)
def test_what_of_a_picture_is_cut_off_is_said(
    size: tuple[int, int], made: tuple[int, int], more: dict[str, object], words: str, make_recipe: Make
) -> None:
    assert region_of(make_recipe, Image.new("RGB", size), size=made, start=more).notice == words


@pytest.mark.parametrize(
    ("size", "made"),
    [
        ((256, 192), (256, 192)),
        ((256, 192), (144, 104)),
        ((203, 131), (200, 128)),
        ((50, 40), (64, 64)),
        ((700, 501), (128, 96)),
    ],
)
@pytest.mark.parametrize("blur", [0, 4])
def test_a_picture_that_keeps_its_size_comes_back_bit_for_bit_outside_the_mask(
    size: tuple[int, int], made: tuple[int, int], blur: int, make_recipe: Make
) -> None:
    photo = noise(size)
    mask = box(size, 10, 10, size[0] // 2, size[1] // 2)
    region = region_of(make_recipe, photo, mask, made, keep_size=True, blur=blur)
    assert (
        region.image.size == made and region.mask is not None and region.mask.shape == made[::-1] and not region.notice
    )
    pixels = np.asarray(region.paste_back(Image.new("RGB", made, "white")))
    assert pixels.shape[:2] == size[::-1]
    far = np.asarray(mask.convert("L").filter(ImageFilter.MaxFilter(2 * 3 * blur + 3))) == 0
    assert (pixels[far] == np.asarray(photo)[far]).all()
    added = 255.0 - np.asarray(photo)
    share = ((pixels - np.asarray(photo, np.float32)) / np.maximum(added, 1))[:, :, 0]
    middle = ((10 + size[1] // 2) // 2, (10 + size[0] // 2) // 2)
    assert share[middle] > (0.98 if blur == 0 else 0.5), "the middle of what is painted shows what was made"
