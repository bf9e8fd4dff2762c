"""Control maps that need no weights and no detector library: pixels to pixels. Imported at the first use.

Each takes RGB pixels and its thresholds and gives pixels of the same size.
Sources: the preprocessors of the field's ControlNet extensions, whose defaults these are.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np

Pixels = np.ndarray  # (H, W, 3) or (H, W), uint8
MakeMap = Callable[[Pixels, float, float], Pixels]  # pixels, low, high


def scribble_xdog(pixels: Pixels, threshold: float, _: float) -> Pixels:
    """Strokes where a narrow and a wide blur differ (Winnemöller 2011, "XDoG")."""
    floats = pixels.astype(np.float32)
    narrow, wide = cv2.GaussianBlur(floats, (0, 0), 0.5), cv2.GaussianBlur(floats, (0, 0), 5.0)
    darker = (255 - (wide - narrow).min(axis=2)).clip(0, 255).astype(np.uint8)
    return np.where(2.0 * (255 - darker.astype(np.float32)) > threshold, 255, 0).astype(np.uint8)


def threshold(pixels: Pixels, limit: float, _: float) -> Pixels:
    """White where every channel is above the limit."""
    return np.where(pixels.min(axis=2) > limit, 255, 0).astype(np.uint8)


def invert(pixels: Pixels, _: float, __: float) -> Pixels:
    """The negative."""
    return 255 - pixels


def blur_gaussian(pixels: Pixels, radius: float, _: float) -> Pixels:
    """A blur whose deviation is the radius."""
    blurred: Pixels = cv2.GaussianBlur(pixels, (0, 0), max(radius, 0.01))
    return blurred


def tile_resample(pixels: Pixels, factor: float, _: float) -> Pixels:
    """Smaller by the factor and large again: what is left when detail is gone."""
    height, width = pixels.shape[:2]
    small = (max(1, round(width / max(factor, 1))), max(1, round(height / max(factor, 1))))
    if small == (width, height):
        return pixels
    smaller = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    enlarged: Pixels = cv2.resize(smaller, (width, height), interpolation=cv2.INTER_CUBIC)
    return enlarged


def recolor_luminance(pixels: Pixels, gamma: float, _: float) -> Pixels:
    """Lightness as it is seen (the L of CIE Lab)."""
    return _curved(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[..., 0], gamma)


def recolor_intensity(pixels: Pixels, gamma: float, _: float) -> Pixels:
    """The strongest channel (the V of HSV)."""
    return _curved(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)[..., 2], gamma)


def _curved(gray: Pixels, gamma: float) -> Pixels:
    return ((gray.astype(np.float32) / 255) ** gamma * 255).clip(0, 255).astype(np.uint8)


def color_grid(pixels: Pixels, side: float, _: float) -> Pixels:
    """Squares of one color each."""
    height, width = pixels.shape[:2]
    small = (max(1, round(width / max(side, 1))), max(1, round(height / max(side, 1))))
    colors = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    squares: Pixels = cv2.resize(colors, (width, height), interpolation=cv2.INTER_NEAREST)
    return squares


MAPS: Mapping[str, MakeMap] = MappingProxyType(
    {
        made.__name__: made
        for made in (
            scribble_xdog,
            threshold,
            invert,
            blur_gaussian,
            tile_resample,
            recolor_luminance,
            recolor_intensity,
            color_grid,
        )
    }
)
