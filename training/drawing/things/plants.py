"""Plants: each 1 unit tall on its foot at (0, 0)."""

from math import cos, radians, sin

from training.drawing.canvas import Brush, Color
from training.drawing.things.palette import BARK, LEAF, WHITE, arc, pale, shade


def tree(brush: Brush, color: Color, is_dark: bool) -> None:
    """A round broadleaf tree; the color is its leaves'."""
    brush.polygon([(-0.08, 0.0), (0.09, 0.0), (0.05, 0.5), (-0.04, 0.5)], BARK)
    for x, y, r, tone in ((0.20, 0.52, 0.23, 0.70), (-0.20, 0.54, 0.23, 0.90), (0.06, 0.64, 0.29, 0.82),
                          (0.0, 0.76, 0.24, 0.98), (-0.12, 0.68, 0.22, 1.08), (-0.09, 0.82, 0.14, 1.18)):  # fmt: skip
        brush.ellipse(x, y, r, r * 0.92, shade(color, tone))


def pine(brush: Brush, color: Color, is_dark: bool) -> None:
    """A conifer of four tiers."""
    brush.box(-0.05, 0.0, 0.05, 0.16, BARK)
    for index in range(4):
        low, half = 0.12 + index * 0.20, 0.36 - index * 0.07
        top = min(1.0, low + 0.34)
        brush.polygon([(-half, low), (0.0, top), (half, low)], (0.14, 0.44 + 0.03 * index, 0.26))
        brush.polygon([(0.02, low + 0.02), (0.0, top), (half, low)], (0.09, 0.32 + 0.03 * index, 0.22))


def palm(brush: Brush, color: Color, is_dark: bool) -> None:
    """A leaning palm with broad fronds."""
    brush.line([(-0.14, 0.0), (-0.08, 0.25), (0.0, 0.5), (0.09, 0.74)], 0.075, (0.58, 0.40, 0.24))
    fronds = (
        ((-0.44, 0.56), (-0.22, 0.92), 0.85),
        ((0.62, 0.54), (0.42, 0.90), 0.75),
        ((-0.32, 0.92), (-0.10, 1.0), 1.10),
        ((0.52, 0.90), (0.30, 1.0), 1.0),
        ((0.30, 0.40), (0.32, 0.76), 0.7),
        ((-0.20, 0.40), (-0.10, 0.76), 0.8),
    )
    for tip, bend, tone in fronds:
        brush.polygon([(0.04, 0.70), bend, tip, (bend[0] + 0.04, bend[1] - 0.17), (0.13, 0.74)], shade(LEAF, tone))
    for x in (0.04, 0.13):
        brush.ellipse(x, 0.70, 0.05, 0.05, BARK)


def cactus(brush: Brush, color: Color, is_dark: bool) -> None:
    """A saguaro with two arms."""
    for width, tone, dx in ((0.22, 0.80, 0.02), (0.12, 1.15, -0.01)):
        green = shade((0.28, 0.58, 0.30), tone)
        brush.line([(dx, 0.0), (dx, 0.90)], width, green)
        brush.ellipse(dx, 0.90, width / 2, width / 2, green)
        for side, low, high in ((-1, 0.36, 0.68), (1, 0.48, 0.78)):
            brush.line([(dx, low), (side * 0.32 + dx, low), (side * 0.32 + dx, high)], width * 0.75, green)
            brush.ellipse(side * 0.32 + dx, high, width * 0.37, width * 0.37, green)


def sunflower(brush: Brush, color: Color, is_dark: bool) -> None:
    """A sunflower with a dark heart."""
    brush.line([(0.0, 0.0), (0.0, 0.60)], 0.07, LEAF)
    brush.polygon([(0.0, 0.16), (-0.34, 0.38), (-0.10, 0.14)], LEAF)
    brush.polygon([(0.0, 0.22), (0.34, 0.44), (0.10, 0.18)], shade(LEAF, 0.8))
    for angle in range(0, 360, 30):
        brush.ellipse(0.25 * cos(radians(angle)), 0.70 + 0.25 * sin(radians(angle)), 0.11, 0.11, (0.99, 0.80, 0.14))
    brush.ellipse(0.0, 0.70, 0.20, 0.20, (0.42, 0.24, 0.12))
    brush.ellipse(0.0, 0.70, 0.10, 0.10, (0.30, 0.16, 0.08))


def tulip(brush: Brush, color: Color, is_dark: bool) -> None:
    """A tulip with two long leaves."""
    brush.line([(0.0, 0.0), (0.0, 0.60)], 0.07, LEAF)
    brush.polygon([(0.0, 0.02), (-0.30, 0.56), (-0.04, 0.26)], LEAF)
    brush.polygon([(0.0, 0.02), (0.30, 0.50), (0.04, 0.26)], shade(LEAF, 0.8))
    brush.polygon(
        [(-0.27, 0.98), (-0.12, 0.84), (0.0, 1.02), (0.12, 0.84), (0.27, 0.98), *arc(0.0, 0.72, 0.27, 0.24, 0, -180)],
        color,
    )
    brush.polygon([(0.0, 1.02), (-0.13, 0.78), (0.0, 0.50), (0.13, 0.78)], pale(color, 0.25))


def mushroom(brush: Brush, color: Color, is_dark: bool) -> None:
    """A toadstool with white dots."""
    brush.polygon([(-0.16, 0.0), (0.16, 0.0), (0.12, 0.5), (-0.12, 0.5)], (0.97, 0.92, 0.82))
    brush.polygon([(0.04, 0.0), (0.16, 0.0), (0.12, 0.5), (0.04, 0.5)], (0.82, 0.76, 0.66))
    brush.polygon(arc(0.0, 0.42, 0.54, 0.56, 0, 180), color)
    brush.ellipse(0.0, 0.42, 0.54, 0.08, shade(color, 0.7))
    for x, y, r in ((-0.28, 0.60, 0.09), (0.02, 0.80, 0.09), (0.28, 0.60, 0.09), (0.0, 0.56, 0.07)):
        brush.ellipse(x, y, r, r * 0.9, WHITE)
