"""Colors that things share, and the few shapes that several of them are made of."""

import math

from training.drawing.canvas import Brush, Color

WHITE: Color = (0.97, 0.96, 0.93)
BLACK: Color = (0.12, 0.12, 0.15)
GRAY: Color = (0.60, 0.62, 0.68)
BARK: Color = (0.42, 0.28, 0.19)
LEAF: Color = (0.26, 0.58, 0.28)
GOLD: Color = (0.99, 0.78, 0.22)
GLASS: Color = (0.36, 0.52, 0.68)
LIT: Color = (1.0, 0.86, 0.46)
COLORS: dict[str, Color] = {
    "red": (0.88, 0.20, 0.18),
    "orange": (0.97, 0.55, 0.16),
    "yellow": (0.99, 0.82, 0.22),
    "green": (0.24, 0.60, 0.30),
    "blue": (0.20, 0.44, 0.86),
    "purple": (0.56, 0.32, 0.76),
    "pink": (0.97, 0.58, 0.72),
    "white": WHITE,
    "black": (0.17, 0.16, 0.20),
    "brown": (0.55, 0.34, 0.20),
    "gray": GRAY,
    "golden": (0.95, 0.66, 0.18),
}


def shade(color: Color, amount: float) -> Color:
    """A color made darker (below 1) or brighter."""
    return color[0] * amount, color[1] * amount, color[2] * amount


def pale(color: Color, amount: float) -> Color:
    """A color mixed with white; amount 1 is white."""
    red, green, blue = (c + (1 - c) * amount for c in color)
    return red, green, blue


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> list[tuple[float, float]]:
    """Points on an ellipse around (x, y), counter-clockwise in degrees from the right."""
    angles = [math.radians(start + (end - start) * step / 18) for step in range(19)]
    return [(x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles]


def window(brush: Brush, x: float, y: float, size: float, is_dark: bool) -> None:
    """A square window that is lit when it is dark."""
    brush.box(x - size / 2, y - size / 2, x + size / 2, y + size / 2, LIT if is_dark else GLASS, shine=is_dark)
    if is_dark:
        brush.glow(x, y, size * 2.2, (0.55, 0.38, 0.15))


def eye(brush: Brush, x: float, y: float, size: float = 0.035) -> None:
    """A dark eye with a spark."""
    brush.ellipse(x, y, size, size, BLACK)
    brush.ellipse(x + size * 0.3, y + size * 0.35, size * 0.35, size * 0.35, WHITE)


def legs(brush: Brush, spots: tuple[float, ...], top: float, width: float, color: Color) -> None:
    """Straight legs from a height to the ground."""
    for x in spots:
        brush.box(x - width / 2, 0.0, x + width / 2, top, color)


def wheel(brush: Brush, x: float, radius: float, hub: Color = GRAY) -> None:
    """A wheel that stands on the ground."""
    brush.ellipse(x, radius, radius, radius, BLACK)
    brush.ellipse(x, radius, radius * 0.5, radius * 0.5, hub)
