"""Fruit, crockery, toys and the like: each 1 unit tall on its foot at (0, 0)."""

from math import cos, radians, sin

from training.drawing.canvas import Brush, Color
from training.drawing.things.palette import BARK, BLACK, GOLD, GRAY, LEAF, LIT, WHITE, arc, eye, pale, shade


def _stem(brush: Brush, x: float, low: float, high: float) -> None:
    """A stalk with one leaf."""
    brush.line([(x, low), (x + 0.04, high)], 0.06, BARK)
    brush.polygon(
        [(x + 0.03, high - 0.08), (x + 0.16, high + 0.02), (x + 0.34, high - 0.02), (x + 0.18, high - 0.14)], LEAF
    )


def apple(brush: Brush, color: Color, is_dark: bool) -> None:
    """An apple with a leaf."""
    for x in (-0.17, 0.17):
        brush.ellipse(x, 0.42, 0.30, 0.40, color)
    brush.polygon([*arc(0.17, 0.42, 0.30, 0.40, -90, 70), (0.20, 0.4)], shade(color, 0.82))
    brush.ellipse(-0.22, 0.58, 0.09, 0.12, pale(color, 0.45))
    _stem(brush, 0.0, 0.74, 0.98)


def pear(brush: Brush, color: Color, is_dark: bool) -> None:
    """A yellow-green pear."""
    green = (0.80, 0.82, 0.26)
    brush.ellipse(0.0, 0.32, 0.36, 0.32, green)
    brush.ellipse(0.0, 0.62, 0.21, 0.26, green)
    brush.polygon([(-0.33, 0.44), (-0.20, 0.66), (0.20, 0.66), (0.33, 0.44)], green)
    brush.polygon([*arc(0.0, 0.32, 0.36, 0.32, -90, 30), (0.20, 0.66), (0.14, 0.4)], shade(green, 0.85))
    brush.ellipse(-0.16, 0.40, 0.08, 0.12, pale(green, 0.5))
    _stem(brush, 0.0, 0.84, 1.02)


def banana(brush: Brush, color: Color, is_dark: bool) -> None:
    """One curved banana."""
    yellow = (0.99, 0.84, 0.18)
    brush.polygon([*arc(0.0, 0.80, 0.72, 0.72, 190, 350), *arc(0.0, 1.02, 0.66, 0.58, 340, 200)], yellow)
    brush.polygon([*arc(0.0, 0.80, 0.72, 0.72, 200, 340), *arc(0.0, 0.90, 0.70, 0.66, 340, 200)], shade(yellow, 0.80))
    brush.box(-0.74, 0.66, -0.62, 0.88, (0.42, 0.32, 0.12))
    brush.ellipse(0.69, 0.72, 0.06, 0.06, (0.42, 0.32, 0.12))


def cherries(brush: Brush, color: Color, is_dark: bool) -> None:
    """Two cherries on their stalks."""
    red = (0.80, 0.08, 0.16)
    for x, y in ((-0.28, 0.26), (0.28, 0.22)):
        brush.line([(x, y + 0.2), (0.04, 0.94)], 0.045, (0.35, 0.50, 0.20))
        brush.ellipse(x, y, 0.26, 0.25, red)
        brush.ellipse(x - 0.09, y + 0.09, 0.06, 0.06, (0.99, 0.70, 0.72))
    brush.polygon([(0.04, 0.94), (0.24, 1.04), (0.52, 0.90), (0.26, 0.80)], LEAF)


def strawberry(brush: Brush, color: Color, is_dark: bool) -> None:
    """A strawberry with seeds and a green crown."""
    red = (0.90, 0.14, 0.18)
    brush.polygon(
        [(-0.40, 0.60), (-0.30, 0.30), (0.0, 0.0), (0.30, 0.30), (0.40, 0.60), (0.26, 0.80), (-0.26, 0.80)], red
    )
    brush.polygon([(0.10, 0.12), (0.30, 0.30), (0.40, 0.60), (0.26, 0.80), (0.14, 0.78)], shade(red, 0.82))
    for x, y in ((-0.20, 0.56), (0.0, 0.60), (0.20, 0.56), (-0.10, 0.38), (0.10, 0.38), (0.0, 0.20)):
        brush.ellipse(x, y, 0.03, 0.045, (0.99, 0.88, 0.45))
    for x in (-0.28, -0.10, 0.10, 0.28):
        brush.polygon([(x * 0.4, 0.88), (x - 0.13, 0.74), (x + 0.13, 0.74)], LEAF)
    brush.line([(0.0, 0.82), (0.03, 1.0)], 0.06, LEAF)


def watermelon(brush: Brush, color: Color, is_dark: bool) -> None:
    """A slice of watermelon, its rind below."""
    brush.polygon(arc(0.0, 0.80, 0.80, 0.80, 180, 360), (0.16, 0.50, 0.24))
    brush.polygon(arc(0.0, 0.80, 0.70, 0.70, 180, 360), (0.90, 0.96, 0.80))
    brush.polygon(arc(0.0, 0.80, 0.63, 0.63, 180, 360), (0.93, 0.24, 0.28))
    for x, y in ((-0.36, 0.62), (-0.12, 0.64), (0.12, 0.64), (0.36, 0.62), (-0.20, 0.42), (0.20, 0.42), (0.0, 0.36)):
        brush.ellipse(x, y, 0.04, 0.06, BLACK)


def pumpkin(brush: Brush, color: Color, is_dark: bool) -> None:
    """An orange pumpkin with ribs."""
    orange = (0.96, 0.50, 0.10)
    for x, rx, tone in (
        (-0.36, 0.26, 0.86),
        (0.36, 0.26, 0.70),
        (-0.20, 0.28, 1.0),
        (0.20, 0.28, 0.84),
        (0.0, 0.22, 1.04),
    ):
        brush.ellipse(x, 0.40, rx, 0.40, shade(orange, tone))
    brush.polygon([(-0.08, 0.76), (-0.04, 0.98), (0.12, 1.0), (0.08, 0.76)], (0.34, 0.44, 0.18))


def vase(brush: Brush, color: Color, is_dark: bool) -> None:
    """A vase with three flowers."""
    for x, y, tone in (
        (-0.24, 0.80, (0.98, 0.50, 0.60)),
        (0.24, 0.80, (0.99, 0.80, 0.25)),
        (0.0, 0.90, (0.96, 0.30, 0.30)),
    ):
        brush.line([(0.0, 0.5), (x, y)], 0.04, LEAF)
        for angle in range(0, 360, 60):
            brush.ellipse(x + 0.09 * cos(radians(angle)), y + 0.09 * sin(radians(angle)), 0.07, 0.07, tone)
        brush.ellipse(x, y, 0.05, 0.05, WHITE)
    brush.polygon(
        [
            (-0.12, 0.58),
            (0.12, 0.58),
            (0.09, 0.46),
            (0.26, 0.24),
            (0.16, 0.0),
            (-0.16, 0.0),
            (-0.26, 0.24),
            (-0.09, 0.46),
        ],
        color,
    )
    brush.polygon(
        [(0.05, 0.58), (0.12, 0.58), (0.09, 0.46), (0.26, 0.24), (0.16, 0.0), (0.05, 0.0)], shade(color, 0.80)
    )
    brush.line([(-0.24, 0.24), (0.24, 0.24)], 0.05, pale(color, 0.6))


def teapot(brush: Brush, color: Color, is_dark: bool) -> None:
    """A round teapot, its spout to the right."""
    brush.line(arc(-0.44, 0.44, 0.26, 0.24, 70, 290), 0.08, shade(color, 0.8))
    brush.polygon([(0.34, 0.22), (0.70, 0.74), (0.84, 0.72), (0.48, 0.16)], shade(color, 0.85))
    brush.ellipse(0.0, 0.40, 0.50, 0.40, color)
    brush.polygon(arc(0.0, 0.40, 0.50, 0.40, -60, 30), shade(color, 0.85))
    brush.ellipse(0.0, 0.78, 0.26, 0.07, shade(color, 0.75))
    brush.ellipse(0.0, 0.90, 0.08, 0.08, GOLD)
    brush.ellipse(-0.20, 0.52, 0.10, 0.12, pale(color, 0.55))


def cup(brush: Brush, color: Color, is_dark: bool) -> None:
    """A cup of coffee that steams, on a saucer."""
    for x in (-0.20, 0.0, 0.20):
        brush.line([(x, 0.70), (x + 0.06, 0.82), (x - 0.04, 0.92), (x + 0.02, 1.02)], 0.045, (0.97, 0.97, 0.98))
    brush.ellipse(0.0, 0.06, 0.62, 0.07, pale(color, 0.5))
    brush.line(arc(0.42, 0.40, 0.17, 0.15, -100, 100), 0.07, shade(color, 0.8))
    brush.polygon([(-0.44, 0.62), (0.44, 0.62), (0.30, 0.08), (-0.30, 0.08)], color)
    brush.polygon([(0.14, 0.62), (0.44, 0.62), (0.30, 0.08), (0.12, 0.08)], shade(color, 0.82))
    brush.ellipse(0.0, 0.62, 0.44, 0.08, WHITE)
    brush.ellipse(0.0, 0.61, 0.37, 0.055, (0.36, 0.20, 0.12))


def candle(brush: Brush, color: Color, is_dark: bool) -> None:
    """A lit candle on a dish."""
    brush.ellipse(0.0, 0.06, 0.40, 0.07, GOLD)
    brush.box(-0.16, 0.06, 0.16, 0.62, color)
    brush.box(0.05, 0.06, 0.16, 0.62, shade(color, 0.8))
    brush.ellipse(0.0, 0.62, 0.16, 0.05, pale(color, 0.5))
    brush.line([(0.0, 0.62), (0.0, 0.72)], 0.035, BLACK)
    brush.polygon([(-0.10, 0.78), (0.0, 1.04), (0.10, 0.78), (0.0, 0.68)], (1.0, 0.60, 0.12), shine=True)
    brush.ellipse(0.0, 0.78, 0.06, 0.08, (1.0, 0.93, 0.55), shine=True)
    brush.glow(0.0, 0.82, 0.36, (0.75, 0.50, 0.18))


def book(brush: Brush, color: Color, is_dark: bool) -> None:
    """An open book."""
    brush.polygon([(-0.78, 0.10), (-0.74, 0.66), (0.0, 0.52), (0.74, 0.66), (0.78, 0.10), (0.0, -0.02)], color)
    brush.polygon([(-0.68, 0.18), (-0.64, 0.76), (-0.30, 0.78), (0.0, 0.64), (0.0, 0.08)], WHITE)
    brush.polygon([(0.68, 0.18), (0.64, 0.76), (0.30, 0.78), (0.0, 0.64), (0.0, 0.08)], shade(WHITE, 0.86))
    for y in (0.60, 0.46, 0.32):
        brush.line([(-0.54, y + 0.03), (-0.12, y - 0.05)], 0.035, GRAY)
        brush.line([(0.54, y + 0.03), (0.12, y - 0.05)], 0.035, GRAY)


def clock(brush: Brush, color: Color, is_dark: bool) -> None:
    """An alarm clock with two bells."""
    for sign in (-1, 1):
        brush.line([(0.20 * sign, 0.2), (0.30 * sign, 0.0)], 0.08, BLACK)
        brush.ellipse(0.24 * sign, 0.88, 0.15, 0.12, GOLD)
    brush.ellipse(0.0, 0.46, 0.44, 0.43, color)
    brush.ellipse(0.0, 0.46, 0.34, 0.33, WHITE)
    for angle in range(0, 360, 90):
        brush.ellipse(0.27 * cos(radians(angle)), 0.46 + 0.27 * sin(radians(angle)), 0.035, 0.035, BLACK)
    brush.line([(0.0, 0.46), (0.0, 0.70)], 0.05, BLACK)
    brush.line([(0.0, 0.46), (0.17, 0.40)], 0.05, BLACK)


def guitar(brush: Brush, color: Color, is_dark: bool) -> None:
    """A guitar that stands upright."""
    wood = (0.86, 0.52, 0.20)
    brush.ellipse(0.0, 0.22, 0.30, 0.22, wood)
    brush.ellipse(0.0, 0.46, 0.22, 0.17, wood)
    brush.polygon([*arc(0.0, 0.22, 0.30, 0.22, -90, 40), (0.12, 0.40)], shade(wood, 0.80))
    brush.ellipse(0.0, 0.40, 0.095, 0.095, BLACK)
    brush.box(-0.14, 0.12, 0.14, 0.17, BARK)
    brush.box(-0.045, 0.40, 0.045, 0.90, shade(BARK, 0.8))
    brush.polygon([(-0.08, 0.88), (0.08, 0.88), (0.10, 1.04), (-0.10, 1.04)], BARK)
    brush.box(-0.008, 0.15, 0.008, 0.92, WHITE)


def umbrella(brush: Brush, color: Color, is_dark: bool) -> None:
    """An open umbrella in stripes of the color and white."""
    brush.line([(0.0, 0.5), (0.0, 0.10), (0.06, 0.02), (0.14, 0.08)], 0.05, BARK)
    brush.polygon(arc(0.0, 0.48, 0.64, 0.48, 0, 180), color)
    brush.polygon([(-0.36, 0.48), *arc(0.0, 0.48, 0.36, 0.48, 180, 0)], WHITE)
    brush.polygon([(-0.13, 0.48), *arc(0.0, 0.48, 0.13, 0.48, 180, 0)], color)
    brush.line([(0.0, 0.94), (0.0, 1.04)], 0.05, BARK)


def kite(brush: Brush, color: Color, is_dark: bool) -> None:
    """A four-colored kite with a tail of bows."""
    brush.line([(0.0, 0.36), (-0.12, 0.26), (0.06, 0.14), (-0.10, 0.0)], 0.03, BLACK)
    for x, y in ((-0.08, 0.24), (0.02, 0.12)):
        brush.polygon([(x - 0.10, y + 0.05), (x, y), (x - 0.10, y - 0.05)], color)
        brush.polygon([(x + 0.10, y + 0.05), (x, y), (x + 0.10, y - 0.05)], color)
    brush.polygon([(-0.36, 0.72), (0.0, 1.04), (0.0, 0.72)], color)
    brush.polygon([(0.36, 0.72), (0.0, 1.04), (0.0, 0.72)], pale(color, 0.55))
    brush.polygon([(-0.36, 0.72), (0.0, 0.34), (0.0, 0.72)], pale(color, 0.55))
    brush.polygon([(0.36, 0.72), (0.0, 0.34), (0.0, 0.72)], shade(color, 0.8))


def lantern(brush: Brush, color: Color, is_dark: bool) -> None:
    """A lantern with a handle; its light shines."""
    brush.line(arc(0.0, 0.78, 0.22, 0.24, 0, 180), 0.05, BLACK)
    brush.polygon([(-0.30, 0.70), (-0.14, 0.86), (0.14, 0.86), (0.30, 0.70)], shade(color, 0.8))
    brush.box(-0.26, 0.12, 0.26, 0.72, LIT, shine=True)
    brush.ellipse(0.0, 0.36, 0.11, 0.17, (1.0, 0.62, 0.18), shine=True)
    for x in (-0.26, 0.0, 0.26):
        brush.box(x - 0.03, 0.10, x + 0.03, 0.74, shade(color, 0.8))
    brush.box(-0.34, 0.0, 0.34, 0.13, color)
    brush.glow(0.0, 0.42, 0.55, (0.70, 0.48, 0.18))


def snowman(brush: Brush, color: Color, is_dark: bool) -> None:
    """A snowman with a hat, a carrot and a scarf in the color."""
    snow = (0.98, 0.99, 1.0)
    for x in (-1, 1):
        brush.line([(0.16 * x, 0.44), (0.46 * x, 0.60)], 0.04, BARK)
    for y, r in ((0.24, 0.27), (0.52, 0.20)):
        brush.ellipse(0.0, y, r, r * 0.92, snow)
        brush.polygon(arc(0.0, y, r, r * 0.92, -80, 40), (0.82, 0.88, 0.96))
    brush.ellipse(0.0, 0.74, 0.16, 0.15, snow)
    brush.box(-0.17, 0.58, 0.17, 0.65, color)
    brush.box(0.06, 0.44, 0.14, 0.62, color)
    brush.box(-0.21, 0.84, 0.21, 0.88, BLACK)
    brush.box(-0.13, 0.86, 0.13, 1.04, BLACK)
    brush.polygon([(0.0, 0.77), (0.0, 0.71), (0.22, 0.72)], (0.98, 0.52, 0.12))
    eye(brush, -0.06, 0.79, 0.03)
    eye(brush, 0.07, 0.79, 0.03)
    for y in (0.30, 0.42):
        brush.ellipse(0.0, y, 0.03, 0.03, BLACK)


def ball(brush: Brush, color: Color, is_dark: bool) -> None:
    """A beach ball in slices of the color and white."""
    brush.ellipse(0.0, 0.48, 0.48, 0.48, WHITE)
    for start in (20, 140, 260):
        brush.polygon([(-0.06, 0.56), *arc(0.0, 0.48, 0.48, 0.48, start, start + 60)], color)
    brush.ellipse(-0.06, 0.56, 0.08, 0.08, GOLD)


def gift(brush: Brush, color: Color, is_dark: bool) -> None:
    """A gift box with a golden ribbon."""
    brush.box(-0.42, 0.0, 0.42, 0.56, color)
    brush.box(0.10, 0.0, 0.42, 0.56, shade(color, 0.84))
    brush.box(-0.48, 0.54, 0.48, 0.70, shade(color, 1.06))
    brush.box(-0.09, 0.0, 0.09, 0.70, GOLD)
    for sign in (-1, 1):
        brush.polygon([(0.0, 0.70), (0.34 * sign, 1.0), (0.38 * sign, 0.74)], GOLD)
    brush.ellipse(0.0, 0.74, 0.09, 0.08, shade(GOLD, 0.8))


def cake(brush: Brush, color: Color, is_dark: bool) -> None:
    """A birthday cake with three candles."""
    brush.ellipse(0.0, 0.05, 0.66, 0.06, WHITE)
    brush.box(-0.54, 0.06, 0.54, 0.52, (0.70, 0.42, 0.24))
    brush.box(-0.54, 0.22, 0.54, 0.30, (0.99, 0.92, 0.80))
    brush.box(-0.54, 0.44, 0.54, 0.58, color)
    for x in (-0.44, -0.22, 0.0, 0.22, 0.44):
        brush.ellipse(x, 0.44, 0.11, 0.10, color)
    for x in (-0.30, 0.0, 0.30):
        brush.box(x - 0.04, 0.56, x + 0.04, 0.82, (0.45, 0.70, 0.95))
        brush.polygon([(x - 0.07, 0.86), (x, 1.02), (x + 0.07, 0.86), (x, 0.80)], (1.0, 0.68, 0.15), shine=True)
        brush.glow(x, 0.9, 0.16, (0.6, 0.4, 0.12))
