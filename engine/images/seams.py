"""What works on an image in pieces, or sees no other side of it, made to fit around the axes of a seamless tiling.

The image is continued beyond its ends by its other side, and what was made of it folded back, fading over the overlap.
"""

from collections.abc import Callable
from math import gcd

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from contract.values import Tiling

Sides = tuple[int, int]  # along x, along y


def margins(tiling: str, sides: Sides, target: Sides, least: int) -> tuple[Sides, Sides]:
    """How far to continue, before and after something brings `sides` to `target`: whole numbers of both.

    Args:
        tiling: Axes; there is no margin along others.
        least: Of the margin before; less where a side is shorter.
    """
    before, after = [], []
    for axis, side, goal in zip("xy", sides, target, strict=True):
        step = side // gcd(side, goal)
        margin = min(side, -(-least // step) * step) if axis in tiling else 0
        before.append(margin)
        after.append(margin * goal // side)
    return (before[0], before[1]), (after[0], after[1])


def continued(values: Tensor, margin: Sides) -> Tensor:
    """(…, H, W) with its other side at both ends, so far."""
    for dim, length in zip((-1, -2), margin, strict=True):
        size = values.shape[dim]
        if length:
            values = torch.cat([values.narrow(dim, size - length, length), values, values.narrow(dim, 0, length)], dim)
    return values


def folded(values: Tensor, margin: Sides) -> Tensor:
    """The inverse: what was made beyond the far end fades into the near one, which it is another view of.

    Over half of the margin: at its end is a border again.
    """
    for dim, length in zip((-1, -2), margin, strict=True):
        if not length:
            continue
        size = values.shape[dim] - 2 * length
        beyond = values.narrow(dim, length + size, length)
        share = (2 / length * torch.arange(length, device=values.device)).clamp(max=1.0)
        if dim == -2:
            share = share[:, None]
        near = values.narrow(dim, length, length)
        faded = torch.lerp(beyond.float(), near.float(), share).to(values.dtype)
        values = torch.cat([faded, values.narrow(dim, 2 * length, size - length)], dim)
    return values


def across_seams(
    evaluate: Callable[[Tensor], Tensor], values: Tensor, tiling: Tiling | None, target: Sides, least: int
) -> Tensor:
    """Evaluate what brings values, (…, h, w), to `target`, fitting around the axes of the tiling.

    Args:
        evaluate: Brings other sizes to others by the same factors.
        least: As of `margins`.
    """
    if tiling is None:
        return evaluate(values)
    before, after = margins(tiling, (values.shape[-1], values.shape[-2]), target, least)
    return folded(evaluate(continued(values, before)), after)


def continued_image(image: Image.Image, margin: Sides) -> Image.Image:
    """As `continued`."""
    (wide, high), pixels = margin, np.array(image)
    return Image.fromarray(np.pad(pixels, ((high, high), (wide, wide), (0, 0)), mode="wrap"))


def folded_image(image: Image.Image, margin: Sides) -> Image.Image:
    """As `folded`."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    return Image.fromarray(folded(pixels, margin).round().byte().permute(1, 2, 0).contiguous().numpy())
