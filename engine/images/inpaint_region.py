"""Which part of an image is generated: the init image and its mask at the size of the pass, and the way back.

Three regions: the whole image, only the masked area of it, and an outpainted canvas around it. Pixels that the mask
leaves out come back bit for bit. Knows no latents; those are `init_latents.py`.
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
_ENLARGED_FROM = 4  # times as many pixels: resizing by so much keeps even a dot of the mask
_BLUR_REACH = 3  # standard deviations; beyond them a blur changes no 8-bit pixel
Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class InpaintRegion:
    """An init image, cut and resized for a pass.

    Attributes:
        image: RGB, at the size of the pass (at its own where its latents are to be stretched).
        mask: Where to generate, at the size of the pass: 0 or 1, or between where it is soft. None: everywhere.
        is_soft: Gray changes later and less.
        content: Masked content to begin with: "original" (as in `image`), "noise", "nothing".
        paste_back: From the generated image, at the size of the pass, to the result.
        crop_like: Another image cut to the same area, by its resize mode, at the size of the pass. None: all of it
            is shown.
        notice: What of the init image is cut off, in a sentence; "" where nothing is.
    """

    image: Image.Image
    mask: Shares | None
    is_soft: bool
    content: str
    paste_back: Callable[[Image.Image], Image.Image]
    crop_like: Callable[[Image.Image, str], Image.Image] | None = None
    notice: str = ""


def inpaint_region_of(recipe: Recipe, images: Mapping[str, bytes]) -> InpaintRegion | None:
    """The region that a recipe asks for; None without an init image.

    Raises:
        InvalidInput: an image is missing, or the mask is empty.
    """
    init_image = recipe.init_image
    if init_image is None:
        return None
    image = open_input(init_image.image, images)
    mask = None
    if recipe.mask:
        mask = open_mask(recipe.mask, images, image.size)
    size = (recipe.width, recipe.height)
    if init_image.outpaint:
        region = _outpainted(init_image.outpaint, image, mask, size)
        return replace(region, notice=_cut_off(image.size, inner_size(image.size), "sides are multiples of 8"))

    if recipe.mask and mask and (recipe.mask.area == "masked" or recipe.mask.keep_size):
        return _masked_area(recipe.mask, image, mask, size)
    if recipe.mask and mask:
        region = _whole_image(init_image, recipe.mask, image, mask, size)
    else:
        fitted = image if init_image.resize == "latent" else fit(image, size, init_image.resize)
        region = InpaintRegion(fitted, None, False, "original", lambda generated: generated)
    if init_image.resize != "crop":
        return region
    ratio = max(size[0] / image.width, size[1] / image.height)
    shown = (min(image.width, round(size[0] / ratio)), min(image.height, round(size[1] / ratio)))
    return replace(region, notice=_cut_off(image.size, shown, f"the result is {size[0]} × {size[1]}"))


def open_mask(wanted: Mask, images: Mapping[str, bytes], size: Size) -> Image.Image:
    """The mask at the init image's size (L), without its blur; black and white unless it is soft.

    Raises:
        InvalidInput: it is missing, damaged or empty.
    """
    mask = open_input(wanted.image, images, "black").convert("L")  # what is transparent is not masked
    if mask.size != size:
        mask = mask.resize(size, Image.Resampling.BILINEAR)
    if wanted.invert:
        mask = ImageOps.invert(mask)
    if not wanted.soft:
        mask = mask.point(_BLACK_OR_WHITE)
    if mask.getbbox() is None:
        raise InvalidInput(
            "The mask is empty: nothing would be repainted.",
            "Paint over what is to change, or invert the mask.",
            field="mask",
        )
    return mask


def _cut_off(whole: Size, shown: Size, cause: str) -> str:
    """A notice of what is lost of an image; "" where nothing is."""
    if shown == whole:
        return ""
    return f"Of the picture, {whole[0]} × {whole[1]}, the part of {shown[0]} × {shown[1]} is used: {cause}."


def _whole_image(
    init_image: InitImage, wanted: Mask, image: Image.Image, mask: Image.Image, size: Size
) -> InpaintRegion:
    fitted = fit(image, size, init_image.resize)
    resized = fit(mask, size, init_image.resize)
    generated_mask = _resized_mask(resized, mask, wanted, lambda resample: fit(mask, size, init_image.resize, resample))
    if not generated_mask.any():
        raise InvalidInput(
            f"All that is masked lies in the part of the picture that {size[0]} × {size[1]} cuts off.",
            "Use the picture's shape, or the resize mode stretch or fill.",
            field="mask",
        )
    shown = _blurred_mask(generated_mask, wanted)
    return InpaintRegion(
        _with_masked_content(fitted, generated_mask, wanted),
        generated_mask,
        wanted.soft,
        _latent_content(wanted),
        lambda generated: blend(fitted, generated, shown),
    )


def _masked_area(wanted: Mask, image: Image.Image, mask: Image.Image, size: Size) -> InpaintRegion:
    """Everything is computed within the box, however large the image around it is."""
    box = (0, 0, *image.size)
    if wanted.area != "whole":
        box = _box_around(mask, wanted.padding + _BLUR_REACH * wanted.blur, size)
    cut, cut_mask = image.crop(box), mask.crop(box)
    shown = _blurred_mask(_shares(cut_mask), wanted)
    resized_mask = cut_mask.resize(size, Image.Resampling.BILINEAR)
    generated_mask = _resized_mask(resized_mask, cut_mask, wanted, lambda resample: cut_mask.resize(size, resample))

    def paste_back(generated: Image.Image) -> Image.Image:
        result = image.copy()
        patch = generated.resize(cut.size, Image.Resampling.LANCZOS)
        result.paste(blend(cut, patch, shown), box[:2])
        return result

    def crop_like(other: Image.Image, resize: str) -> Image.Image:
        return fit(other, image.size, resize).crop(box).resize(size, Image.Resampling.LANCZOS)

    resized = cut.resize(size, Image.Resampling.LANCZOS)
    content = _with_masked_content(resized, generated_mask, wanted)
    return InpaintRegion(content, generated_mask, wanted.soft, _latent_content(wanted), paste_back, crop_like)


def _outpainted(outpaint: Outpaint, image: Image.Image, mask: Image.Image | None, size: Size) -> InpaintRegion:
    """A larger canvas; the image lies on it unscaled (its last 7 pixels may be cut for a multiple of 8)."""
    width, height = size[0] - outpaint.left - outpaint.right, size[1] - outpaint.up - outpaint.down
    extended = Image.new("RGB", size)
    extended.paste(image.crop((0, 0, width, height)), (outpaint.left, outpaint.up))
    known = np.zeros((size[1], size[0]), dtype=bool)
    known[outpaint.up : outpaint.up + height, outpaint.left : outpaint.left + width] = True

    # 1 in the new area, falling to 0 over the overlap with the image.
    overlap_x, overlap_y = min(outpaint.overlap, width), min(outpaint.overlap, height)
    left, right = (_edge_ramp(added, overlap_x, size[0]) for added in (outpaint.left, outpaint.right))
    up, down = (_edge_ramp(added, overlap_y, size[1]) for added in (outpaint.up, outpaint.down))
    ramp = np.maximum(np.maximum(left, right[::-1])[None, :], np.maximum(up, down[::-1])[:, None])
    generated_mask = ramp * ramp * (3 - 2 * ramp)
    if mask is not None:
        generated_mask[known] = np.maximum(generated_mask[known], _shares(mask)[:height, :width].ravel())

    filled = fill_in(extended, known)
    content = "original" if outpaint.content == "fill" else outpaint.content
    return InpaintRegion(
        filled, generated_mask, True, content, lambda generated: blend(filled, generated, generated_mask)
    )


def _edge_ramp(added: int, overlap: int, length: int) -> np.ndarray:
    """Along one axis, from the edge where pixels were added: 1 in what is new, down to 0 over the overlap."""
    if not added:
        return np.zeros(length, dtype=np.float32)
    positions = np.arange(length, dtype=np.float32) + 0.5
    if not overlap:
        return (positions < added) * np.float32(1)
    return np.clip((added + overlap - positions) / max(overlap, 1), 0, 1)


def _shares(mask: Image.Image) -> Shares:
    return np.asarray(mask, dtype=np.float32) / 255


def _resized_mask(
    resized: Image.Image, mask: Image.Image, wanted: Mask, resize: Callable[[Image.Resampling], Image.Image]
) -> Shares:
    """The mask at the size of the pass.

    Only a soft mask keeps the grays of resizing; of a hard one, what is thinner than a pixel of the pass stays.

    Args:
        resized: The mask at the size of the pass.
        mask: The same at its own size.
        resize: Resizes it in another way.
    """
    shares = _shares(resized)
    if wanted.soft:
        return shares
    hard = shares >= 0.5
    if resized.size != mask.size and shares.size < _ENLARGED_FROM * mask.width * mask.height:
        near = np.asarray(Image.fromarray(hard.astype(np.uint8)).filter(ImageFilter.MaxFilter(3))) > 0
        hard |= (np.asarray(resize(Image.Resampling.BOX)) > 0) & ~near
    return hard.astype(np.float32)


def _blurred_mask(mask: Shares, wanted: Mask) -> Shares:
    """How much of each generated pixel shows: the mask with a blurred edge; of a soft mask all but the faintest."""
    shown = np.minimum(mask * 8, 1) if wanted.soft else mask
    if not wanted.blur:
        return shown
    gray = Image.fromarray(np.rint(shown * 255).astype(np.uint8))
    blurred = _shares(gray.filter(ImageFilter.GaussianBlur(wanted.blur)))
    # A dot or a line thinner than the blur is blurred away: no pixel near it shows even half.
    reach = wanted.blur
    blocks = functional.max_pool2d(torch.from_numpy(blurred)[None, None], reach, ceil_mode=True)
    near = functional.max_pool2d(blocks, 3, stride=1, padding=1)[0, 0].numpy().repeat(reach, 0).repeat(reach, 1)
    is_blurred_away = near[: blurred.shape[0], : blurred.shape[1]] < 0.5
    return np.where(is_blurred_away, np.maximum(blurred, shown / 2), blurred)


def _with_masked_content(image: Image.Image, mask: Shares, wanted: Mask) -> Image.Image:
    """Masked content "fill" is what surrounds the mask, continued into it."""
    return fill_in(image, mask < 0.5) if wanted.content == "fill" else image


def _latent_content(wanted: Mask) -> str:
    return wanted.content if wanted.content in ("noise", "nothing") else "original"


def _box_around(mask: Image.Image, padding: int, size: Size) -> Box:
    """The masked area with its padding, grown to the shape of the pass as far as the image goes."""
    (width, height), bounds = mask.size, mask.getbbox()
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
