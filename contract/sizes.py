"""The size of a result: the one rule for sides that have to be whole pixels and multiples of 8.

The studio, the engine and the page (`tabs/page/form/size_rule.js`) all use it, so that the page shows the size that is
generated; `tests/browser/test_sizes.py` checks the page. Halves are rounded to the even neighbor, as Python does:
pictures of older recipes keep their sizes. Knows no pixels.
"""

import math

from contract.parts import Outpaint
from contract.values import SIDE, SIDE_MULTIPLE

Size = tuple[int, int]  # width, height
ROOM = 1.5  # a start picture may have this much more pixels than what a model usually makes before it is scaled down
MASKED_ROOM = 4.0  # the same under a mask, where most of the picture is known


def to_multiple(length: float) -> int:
    """The nearest multiple of 8 pixels."""
    return round(length / SIDE_MULTIPLE) * SIDE_MULTIPLE


def hires_size(size: Size, scale: float) -> Size:
    """The size of a hires pass, from that of the first."""
    return to_multiple(size[0] * scale), to_multiple(size[1] * scale)


def upscaled_size(size: Size, scale: float) -> Size:
    """The size of an upscaled picture: to the nearest pixel."""
    return round(size[0] * scale), round(size[1] * scale)


def inner_size(size: Size) -> Size:
    """The part of a picture that outpainting keeps: sides down to multiples of 8, cut at the right and the bottom."""
    return size[0] // SIDE_MULTIPLE * SIDE_MULTIPLE, size[1] // SIDE_MULTIPLE * SIDE_MULTIPLE


def extended_size(size: Size, outpaint: Outpaint) -> Size:
    """The size of an outpainted picture."""
    width, height = inner_size(size)
    return width + outpaint.left + outpaint.right, height + outpaint.up + outpaint.down


def followed_size(size: Size, usual: Size, room: float = ROOM, most: float = math.inf) -> Size:
    """The size at which a start picture is generated: its own, or smaller where it is much larger than usual.

    Args:
        room: How much larger it may be.
        most: Pixels that the studio makes.
    """
    pixels, usually = size[0] * size[1], min(usual[0] * usual[1], most)
    scale = math.sqrt(usually / pixels) if pixels > min(room * usually, most) else 1.0
    width, height = (min(SIDE[1], max(SIDE[0], to_multiple(side * scale))) for side in size)
    return width, height
