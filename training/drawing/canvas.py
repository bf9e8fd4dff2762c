"""Soft painting with numpy and hard shapes with Pillow, for the drawn scenes.

Colors are RGB floats from 0 to 1. A `Canvas` paints whole fields (skies, water, ridges); a `Brush`
draws one thing in its own units. Neither knows what a scene is: see `scenes.py`.
"""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

Array = np.ndarray
Color = tuple[float, float, float]


def mix(first: Iterable[float], second: Iterable[float], amount: float) -> Array:
    """Blend two colors; amount 0 gives the first, 1 the second."""
    a, b = np.asarray(first, np.float32), np.asarray(second, np.float32)
    return a + (b - a) * np.float32(amount)


def smoothstep(low: float, high: float, values: Array) -> Array:
    """A soft threshold from 0 (below low) to 1 (above high)."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Array:
    """Smooth noise from 0 to 1.

    Args:
        shape: (height, width) in pixels.
        cells: (rows, columns) of the random grid that is upscaled.
    """
    grid = rng.random((cells[0] + 1, cells[1] + 1), dtype=np.float32)
    picture = Image.fromarray(grid).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(picture), 0, 1)


def fractal(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Array:
    """Three octaves of `noise`, the finer ones weaker; about 0 to 1."""
    rows, columns = cells
    total = 0.57 * noise(rng, shape, cells)
    total = total + 0.29 * noise(rng, shape, (rows * 2, columns * 2))
    return total + 0.14 * noise(rng, shape, (rows * 4, columns * 4))


class Canvas:
    """A picture in the making: `pixels` is (H, W, 3) float32; x and y run in units of the shorter side.

    `depth` (H, W) is how near each pixel is, from 0 for the sky to 1: what is painted leaves the nearness that `near`
    has then. In a `mirrored` picture the land's own shapes swap left and right; things and lights stay where they are
    asked for.
    """

    def __init__(self, width: int, height: int, horizon: float, rng: np.random.Generator) -> None:
        self.rng = rng
        self.shape = (height, width)
        self.unit = min(width, height)
        self.pixels = np.zeros((height, width, 3), np.float32)
        self.depth = np.zeros((height, width), np.float32)
        self.near: Array | float = 0.0
        self.mirrored = False
        self.x = (np.arange(width, dtype=np.float32)[None, :] + 0.5) / self.unit
        self.y = (np.arange(height, dtype=np.float32)[:, None] + 0.5) / self.unit
        self.width, self.height = width / self.unit, height / self.unit
        self.horizon = horizon * self.height

    def blend(self, mask: Array | float, color: Array | Color) -> None:
        """Paint a color (one, or one a pixel) where the mask (H, W, 0..1) lets it."""
        mask = np.broadcast_to(np.asarray(mask, np.float32), self.shape)
        self.pixels += mask[..., None] * (np.asarray(color, np.float32) - self.pixels)
        if np.any(self.near):
            self.depth = np.where(mask > 0.5, self.near, self.depth)

    def glow(self, mask: Array, color: Array | Color) -> None:
        """Add light: a screen blend, so that it never clips hard."""
        light = np.broadcast_to(mask, self.shape)[..., None] * np.asarray(color, np.float32)
        self.pixels = 1 - (1 - self.pixels) * (1 - np.clip(light, 0, 1))

    def below(self, edge: Array | float) -> Array:
        """Mask (H, W) of what lies under an edge: one height, or one a column, in units."""
        return np.clip((self.y - edge) * self.unit + 0.5, 0, 1) + 0 * self.x

    def distance(self, x: float, y: float) -> Array:
        """Distance (H, W) in units from a point."""
        return np.hypot(self.x - x, self.y - y)

    def disc(self, x: float, y: float, radius: float) -> Array:
        """Mask (H, W) of a disc with a smooth edge."""
        return np.clip((radius - self.distance(x, y)) * self.unit + 0.5, 0, 1)

    def across(self, share: float) -> float:
        """Where a share of the width lies, in units; from the right in a mirrored picture."""
        return (1 - share if self.mirrored else share) * self.width

    def ridge(self, height: float, swing: float, bumps: float, rng: np.random.Generator | None = None) -> Array:
        """A wavy line, one y a column (1, W), around `height`.

        Args:
            swing: Half the range of its waves, in units.
            bumps: Waves a unit of width.
            rng: Decides the waves: the picture's own where none is given, one of a fixed seed for a land that keeps its
                shape.
        """
        rng = rng or self.rng
        line = np.zeros_like(self.x)
        for _ in range(2):
            frequency = bumps * rng.uniform(0.6, 1.4) * 2 * np.pi
            line += np.sin(self.x * frequency + rng.uniform(0, 6.3)) * 0.5
        return height + (line[:, ::-1] if self.mirrored else line) * swing

    def dome(self, foot: float, share: float, high: float, half: float) -> Array:
        """The upper edge (1, W) of a round hill that stands at `foot`.

        Args:
            share: Its middle, as a share of the width.
            high: Its height, in units.
            half: Half its width, in units.
        """
        away = np.clip(np.abs(self.x - self.across(share)) / half, 0, 1)
        return foot - high * np.cos(away * np.pi / 2)

    def image(self, reduce: int) -> Image.Image:
        """The finished picture, reduced by a whole factor."""
        data = (np.clip(self.pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
        return Image.fromarray(data).reduce(reduce)


class Brush:
    """Draws one thing in its own units: (0, 0) is the middle of its foot, y goes up, 1 is its height.

    Colors are multiplied by the ambient light of the scene unless they `shine`.
    """

    def __init__(self, canvas: Canvas, foot: tuple[float, float], size: float, ambient: Array) -> None:
        height, width = canvas.shape
        self.layer = Image.new("RGBA", (width, height), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.layer)
        self._foot = (foot[0] * canvas.unit, foot[1] * canvas.unit)
        self.scale = size * canvas.unit
        self._ambient = ambient
        self.glows: list[tuple[float, float, float, Color]] = []

    def _points(self, points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(self._foot[0] + x * self.scale, self._foot[1] - y * self.scale) for x, y in points]

    def _color(self, color: Iterable[float], shine: bool) -> tuple[int, int, int, int]:
        lit = np.clip(np.asarray(color) * (1 if shine else self._ambient), 0, 1) * 255
        return int(lit[0]), int(lit[1]), int(lit[2]), 255

    def polygon(self, points: Iterable[tuple[float, float]], color: Iterable[float], shine: bool = False) -> None:
        """Fill a polygon."""
        self._draw.polygon(self._points(points), fill=self._color(color, shine))

    def box(
        self, left: float, bottom: float, right: float, top: float, color: Iterable[float], shine: bool = False
    ) -> None:
        """Fill an upright rectangle."""
        self.polygon([(left, bottom), (right, bottom), (right, top), (left, top)], color, shine)

    def ellipse(self, x: float, y: float, rx: float, ry: float, color: Iterable[float], shine: bool = False) -> None:
        """Fill an ellipse around (x, y)."""
        (ax, ay), (bx, by) = self._points([(x - rx, y + ry), (x + rx, y - ry)])
        self._draw.ellipse([min(ax, bx), min(ay, by), max(ax, bx), max(ay, by)], fill=self._color(color, shine))

    def line(self, points: Iterable[tuple[float, float]], width: float, color: Iterable[float]) -> None:
        """Draw a line of a width in the thing's units, with round joints."""
        thick = max(2, round(width * self.scale))
        self._draw.line(self._points(points), fill=self._color(color, False), width=thick, joint="curve")

    def glow(self, x: float, y: float, radius: float, color: Color) -> None:
        """Ask for a soft light at a point; the painter adds it after the thing."""
        ((px, py),) = self._points([(x, y)])
        self.glows.append((px, py, radius * self.scale, color))

    def finish(self) -> Array:
        """The thing as (H, W, 4) floats from 0 to 1."""
        return np.asarray(self.layer, np.float32) / 255
