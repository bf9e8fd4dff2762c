"""What of a picture is painted: the start picture and its mask brought to the painted size, and the way back.

Three frames: the whole picture, only the masked area of it, and a canvas that is larger than it. Pixels that
the mask leaves out come back bit for bit. Knows no latents; those are `init_latents.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torch.nn import functional

from contract.errors import InvalidInput
from contract.parts import MASKED_FROM
from contract.recipe import InitImage, Mask, Outpaint, Recipe
from contract.sizes import Size, inner_size
from engine.images.image_io import Shares, blend, fill_in, fit, open_input

_BLACK_OR_WHITE = [0] * MASKED_FROM + [255] * (256 - MASKED_FROM)
_SURE = 4  # times as many pixels: what is upscaled so much keeps even a dot
_BLUR_REACH = 3  # deviations; beyond them a blur changes no 8-bit pixel
Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class InpaintRegion:
    """A picture to begin from.

    Attributes:
        picture: RGB, at the painted size (at its own where its latents are to be stretched).
        mask: Where to paint, at the painted size: 0 or 1, or between where it is soft. None: everywhere.
        is_soft: Gray is painted later and less.
        content: What lies under the mask to begin with: "original" (as in `picture`), "noise", "nothing".
        back: From the painted picture, at the painted size, to the result.
        view: Another picture as the frame shows it, by its resize mode: cut to the same area, at the painted
            size. None: all of it is shown.
        notice: What of the picture is cut off, in a sentence; "" where nothing is.
    """

    picture: Image.Image
    mask: Shares | None
    is_soft: bool
    content: str
    back: Callable[[Image.Image], Image.Image]
    view: Callable[[Image.Image, str], Image.Image] | None = None
    notice: str = ""


def inpaint_region_of(recipe: Recipe, images: Mapping[str, bytes]) -> InpaintRegion | None:
    """The frame that a recipe asks for; None without a start picture.

    Raises:
        InvalidInput: a picture is not there, or the mask is empty.
    """
    if recipe.init_image is None:
        return None
    picture = open_input(recipe.init_image.image, images)
    mask = _mask(recipe.mask, images, picture.size) if recipe.mask else None
    size = (recipe.width, recipe.height)
    if recipe.init_image.outpaint:
        region = _extended(recipe.init_image.outpaint, picture, mask, size)
        return replace(region, notice=_lost(picture.size, inner_size(picture.size), "sides are multiples of 8"))
    if recipe.mask and mask and (recipe.mask.area == "masked" or recipe.mask.keep_size):
        return _area(recipe.mask, picture, mask, size)
    region = (
        _whole(recipe.init_image, recipe.mask, picture, mask, size)
        if recipe.mask and mask
        else _unmasked(recipe.init_image, picture, size)
    )
    return replace(
        region,
        notice=_lost(picture.size, _shown_by_crop(picture.size, size), f"the result is {size[0]} × {size[1]}")
        if recipe.init_image.resize == "crop"
        else "",
    )


def _shown_by_crop(picture: Size, size: Size) -> Size:
    """How much of a picture "crop" shows at a size, in pixels of the picture."""
    ratio = max(size[0] / picture[0], size[1] / picture[1])
    return min(picture[0], round(size[0] / ratio)), min(picture[1], round(size[1] / ratio))


def _lost(whole: Size, shown: Size, cause: str) -> str:
    if shown == whole:
        return ""
    return f"Of the picture, {whole[0]} × {whole[1]}, the part of {shown[0]} × {shown[1]} is used: {cause}."


def _mask(asked: Mask, images: Mapping[str, bytes], size: Size) -> Image.Image:
    """The mask at the picture's size (L), without its feather; black and white unless it is soft."""
    gray = open_input(asked.image, images, "black").convert("L")  # what is not drawn is not painted
    gray = gray.resize(size, Image.Resampling.BILINEAR) if gray.size != size else gray
    gray = ImageOps.invert(gray) if asked.invert else gray
    gray = gray if asked.soft else gray.point(_BLACK_OR_WHITE)
    if gray.getbbox() is None:
        raise InvalidInput(
            "The mask is empty: nothing would be repainted.",
            "Paint over what is to change, or invert the mask.",
            field="mask",
        )
    return gray


def _shares(gray: Image.Image) -> Shares:
    return np.asarray(gray, dtype=np.float32) / 255


def _gray(share: Shares) -> Image.Image:
    return Image.fromarray(np.rint(share * 255).astype(np.uint8))


def _feathered(share: Shares, asked: Mask) -> Shares:
    """How much of each painted pixel shows: the mask with a blurred edge; of a soft mask all but the faintest."""
    shown = np.minimum(share * 8, 1) if asked.soft else share
    if not asked.blur:
        return shown
    blurred = _shares(_gray(shown).filter(ImageFilter.GaussianBlur(asked.blur)))
    return np.where(_is_blurred_away(blurred, asked.blur), np.maximum(blurred, shown / 2), blurred)


def _is_blurred_away(blurred: Shares, reach: int) -> np.ndarray:
    """Where no pixel near by shows even half: a dot or a line thinner than the blur. (H, W), bool."""
    blocks = functional.max_pool2d(torch.from_numpy(blurred)[None, None], reach, ceil_mode=True)
    near = functional.max_pool2d(blocks, 3, stride=1, padding=1)[0, 0].numpy().repeat(reach, 0).repeat(reach, 1)
    return near[: blurred.shape[0], : blurred.shape[1]] < 0.5


def _unmasked(start: InitImage, picture: Image.Image, size: Size) -> InpaintRegion:
    if start.resize != "latent":
        picture = fit(picture, size, start.resize)
    return InpaintRegion(picture, None, False, "original", lambda painted: painted)


def _whole(start: InitImage, asked: Mask, picture: Image.Image, gray: Image.Image, size: Size) -> InpaintRegion:
    picture = fit(picture, size, start.resize)
    mask = _painted(
        gray, asked, _shares(fit(gray, size, start.resize)), lambda resample: fit(gray, size, start.resize, resample)
    )
    if not mask.any():
        raise InvalidInput(
            f"All that is masked lies in the part of the picture that {size[0]} × {size[1]} cuts off.",
            "Use the picture's shape, or the resize mode stretch or fill.",
            field="mask",
        )
    shown = _feathered(mask, asked)
    return InpaintRegion(
        _under(picture, mask, asked),
        mask,
        asked.soft,
        _latent_content(asked.content),
        lambda painted: blend(picture, painted, shown),
    )


def _painted(
    gray: Image.Image, asked: Mask, mask: Shares, resized: Callable[[Image.Resampling], Image.Image]
) -> Shares:
    """The mask at the painted size. Resizing makes grays, which mean something in a soft mask only; but what is thinner
    than a pixel is then does not vanish.

    Args:
        gray: The mask at its own size.
        mask: The same, resized.
        resized: Resizes it in another way.
    """
    if asked.soft:
        return mask
    hard = mask >= 0.5
    if mask.shape[::-1] != gray.size and mask.size < _SURE * gray.width * gray.height:
        near = np.asarray(Image.fromarray(hard.astype(np.uint8)).filter(ImageFilter.MaxFilter(3))) > 0
        hard |= (np.asarray(resized(Image.Resampling.BOX)) > 0) & ~near
    return hard.astype(np.float32)


def _area(asked: Mask, picture: Image.Image, gray: Image.Image, size: Size) -> InpaintRegion:
    """Everything is worked out within the box, however large the picture around it is."""
    whole = (0, 0, *picture.size)
    box = whole if asked.area == "whole" else _box_around(gray, asked.padding + _BLUR_REACH * asked.blur, size)
    cut, inside = picture.crop(box), gray.crop(box)
    shown = _feathered(_shares(inside), asked)
    inner = _painted(
        inside,
        asked,
        _shares(inside.resize(size, Image.Resampling.BILINEAR)),
        lambda resample: inside.resize(size, resample),
    )

    def back(painted: Image.Image) -> Image.Image:
        whole = picture.copy()
        patch = painted.resize(cut.size, Image.Resampling.LANCZOS)
        whole.paste(blend(cut, patch, shown), box[:2])
        return whole

    def view(other: Image.Image, resize: str) -> Image.Image:
        return fit(other, picture.size, resize).crop(box).resize(size, Image.Resampling.LANCZOS)

    crop = _under(cut.resize(size, Image.Resampling.LANCZOS), inner, asked)
    return InpaintRegion(crop, inner, asked.soft, _latent_content(asked.content), back, view)


def _under(picture: Image.Image, mask: Shares, asked: Mask) -> Image.Image:
    """Masked content "fill" is what surrounds the mask, continued into it."""
    return fill_in(picture, mask < 0.5) if asked.content == "fill" else picture


def _latent_content(content: str) -> str:
    return content if content in ("noise", "nothing") else "original"


def _box_around(gray: Image.Image, padding: int, size: Size) -> Box:
    """The masked area with its padding, grown to the painted shape as far as the picture goes."""
    (width, height), bounds = gray.size, gray.getbbox()
    assert bounds is not None
    left, right = max(0, bounds[0] - padding), min(width, bounds[2] + padding)
    top, bottom = max(0, bounds[1] - padding), min(height, bounds[3] + padding)
    if (right - left) * size[1] < (bottom - top) * size[0]:
        left, right = _grown(left, right, round((bottom - top) * size[0] / size[1]), width)
    else:
        top, bottom = _grown(top, bottom, round((right - left) * size[1] / size[0]), height)
    return left, top, right, bottom


def _grown(begin: int, end: int, length: int, limit: int) -> tuple[int, int]:
    length = max(end - begin, min(length, limit))
    begin = min(max(0, begin - (length - (end - begin)) // 2), limit - length)
    return begin, begin + length


def _extended(extend: Outpaint, picture: Image.Image, gray: Image.Image | None, size: Size) -> InpaintRegion:
    """A larger canvas; the picture lies on it unscaled (its last 7 pixels may be cut for a multiple of 8)."""
    inner = (size[0] - extend.left - extend.right, size[1] - extend.up - extend.down)
    extended = Image.new("RGB", size)
    extended.paste(picture.crop((0, 0, *inner)), (extend.left, extend.up))
    known = np.zeros((size[1], size[0]), dtype=bool)
    known[extend.up : extend.up + inner[1], extend.left : extend.left + inner[0]] = True
    share = _border(extend, inner, size)
    if gray is not None:
        share[known] = np.maximum(share[known], _shares(gray)[: inner[1], : inner[0]].ravel())
    filled = fill_in(extended, known)
    content = "original" if extend.content == "fill" else extend.content
    return InpaintRegion(filled, share, True, content, lambda painted: blend(filled, painted, share))


def _border(extend: Outpaint, inner: Size, size: Size) -> Shares:
    """1 in the new area, falling to 0 over the overlap with the picture."""
    across = np.maximum(
        _edge(extend.left, min(extend.overlap, inner[0]), size[0]),
        _edge(extend.right, min(extend.overlap, inner[0]), size[0])[::-1],
    )
    down = np.maximum(
        _edge(extend.up, min(extend.overlap, inner[1]), size[1]),
        _edge(extend.down, min(extend.overlap, inner[1]), size[1])[::-1],
    )
    ramp = np.maximum(across[None, :], down[:, None])
    return ramp * ramp * (3 - 2 * ramp)


def _edge(added: int, overlap: int, length: int) -> np.ndarray:
    if not added:
        return np.zeros(length, dtype=np.float32)
    places = np.arange(length, dtype=np.float32) + 0.5
    return np.clip((added + overlap - places) / max(overlap, 1), 0, 1) if overlap else (places < added) * np.float32(1)
