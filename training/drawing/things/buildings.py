"""Buildings: each 1 unit tall on its foot at (0, 0); light comes from the left, the color is mostly the roof's."""

from training.drawing.canvas import Brush, Color
from training.drawing.things.palette import BARK, BLACK, GOLD, LIT, WHITE, arc, shade, window


def house(brush: Brush, color: Color, is_dark: bool) -> None:
    """A gabled cottage with a chimney."""
    brush.box(0.22, 0.66, 0.34, 1.0, (0.60, 0.38, 0.32))
    brush.box(-0.55, 0.0, 0.0, 0.52, (0.98, 0.93, 0.82))
    brush.polygon([(-0.55, 0.5), (-0.275, 0.92), (0.0, 0.5)], (0.98, 0.93, 0.82))
    brush.box(0.0, 0.0, 0.60, 0.52, (0.84, 0.76, 0.66))
    brush.polygon([(-0.275, 0.95), (0.42, 0.95), (0.70, 0.46), (0.0, 0.46)], color)
    brush.polygon([(-0.275, 0.97), (-0.64, 0.44), (-0.55, 0.40), (-0.24, 0.86)], shade(color, 0.75))
    brush.box(-0.38, 0.0, -0.17, 0.34, BARK)
    window(brush, 0.16, 0.25, 0.17, is_dark)
    window(brush, 0.43, 0.25, 0.17, is_dark)


def castle(brush: Brush, color: Color, is_dark: bool) -> None:
    """Three towers with pointed roofs, and a wall with a gate."""
    stone = (0.80, 0.76, 0.74)
    brush.box(-0.44, 0.0, 0.44, 0.38, shade(stone, 0.94))
    for x, half, top in ((-0.42, 0.13, 0.56), (0.42, 0.13, 0.56), (0.0, 0.16, 0.68)):
        brush.box(x - half, 0.0, x, top, stone)
        brush.box(x, 0.0, x + half, top, shade(stone, 0.78))
        brush.polygon([(x - half * 1.35, top), (x, top + half * 2.1), (x + half * 1.35, top)], color)
        brush.polygon([(x, top), (x, top + half * 2.1), (x + half * 1.35, top)], shade(color, 0.8))
        window(brush, x, top - 0.14, 0.09, is_dark)
    brush.ellipse(0.0, 0.22, 0.10, 0.10, (0.32, 0.24, 0.22))
    brush.box(-0.10, 0.0, 0.10, 0.22, (0.32, 0.24, 0.22))


def lighthouse(brush: Brush, color: Color, is_dark: bool) -> None:
    """A banded tower on a rock; its lamp shines in the dark."""
    brush.polygon([(-0.46, -0.02), (-0.30, 0.10), (0.0, 0.15), (0.28, 0.10), (0.48, -0.02)], (0.42, 0.38, 0.38))
    for index in range(5):
        low, high = 0.10 + index * 0.13, 0.10 + (index + 1) * 0.13
        a, b = 0.20 - 0.10 * (low - 0.10), 0.20 - 0.10 * (high - 0.10)
        tone = color if index % 2 == 0 else WHITE
        brush.polygon([(-a, low), (a, low), (b, high), (-b, high)], tone)
        brush.polygon([(0.04, low), (a, low), (b, high), (0.04, high)], shade(tone, 0.82))
    brush.box(-0.18, 0.74, 0.18, 0.78, (0.28, 0.28, 0.32))
    brush.box(-0.10, 0.78, 0.10, 0.89, LIT, shine=is_dark)
    brush.polygon([(-0.15, 0.88), (0.0, 1.0), (0.15, 0.88)], shade(color, 0.85))
    if is_dark:
        brush.glow(0.0, 0.84, 0.5, (0.95, 0.80, 0.45))


def windmill(brush: Brush, color: Color, is_dark: bool) -> None:
    """A tapered mill with a cap and four broad sails."""
    brush.polygon([(-0.24, 0.0), (0.24, 0.0), (0.14, 0.56), (-0.14, 0.56)], (0.96, 0.92, 0.84))
    brush.polygon([(0.06, 0.0), (0.24, 0.0), (0.14, 0.56), (0.04, 0.56)], (0.80, 0.74, 0.67))
    brush.polygon([(-0.18, 0.54), (-0.09, 0.72), (0.09, 0.72), (0.18, 0.54)], color)
    brush.box(-0.07, 0.0, 0.07, 0.18, BARK)
    for dx, dy in ((0.7, 0.7), (-0.7, 0.7), (-0.7, -0.7), (0.7, -0.7)):
        px, py = -dy * 0.17, dx * 0.17
        tip, root = (dx * 0.53, 0.62 + dy * 0.53), (dx * 0.10, 0.62 + dy * 0.10)
        brush.polygon([root, tip, (tip[0] + px, tip[1] + py), (root[0] + px, root[1] + py)], WHITE)
        brush.line([(0.0, 0.62), tip], 0.04, BARK)


def church(brush: Brush, color: Color, is_dark: bool) -> None:
    """A white church, its steeple on the left."""
    brush.box(-0.10, 0.0, 0.56, 0.38, (0.90, 0.86, 0.80))
    brush.polygon([(-0.16, 0.36), (0.02, 0.62), (0.48, 0.62), (0.64, 0.36)], color)
    brush.box(-0.44, 0.0, -0.08, 0.60, WHITE)
    brush.polygon([(-0.50, 0.58), (-0.26, 0.94), (-0.02, 0.58)], shade(color, 0.85))
    brush.box(-0.28, 0.90, -0.24, 1.06, GOLD)
    brush.box(-0.33, 0.97, -0.19, 1.01, GOLD)
    brush.box(-0.34, 0.0, -0.18, 0.26, BARK)
    window(brush, -0.26, 0.46, 0.13, is_dark)
    window(brush, 0.12, 0.20, 0.14, is_dark)
    window(brush, 0.38, 0.20, 0.14, is_dark)


def pagoda(brush: Brush, color: Color, is_dark: bool) -> None:
    """A tower of three curved roofs."""
    for index in range(3):
        low, half = index * 0.29, 0.34 - 0.07 * index
        brush.box(-half * 0.75, low, half * 0.75, low + 0.17, (0.96, 0.90, 0.78))
        window(brush, 0.0, low + 0.08, 0.11, is_dark)
        roof = [
            (-half * 1.6, low + 0.20),
            (-half * 0.9, low + 0.15),
            (half * 0.9, low + 0.15),
            (half * 1.6, low + 0.20),
        ]
        brush.polygon([*roof, (half * 0.6, low + 0.30), (-half * 0.6, low + 0.30)], color)
    brush.polygon([(-0.06, 0.86), (0.0, 1.04), (0.06, 0.86)], GOLD)


def igloo(brush: Brush, color: Color, is_dark: bool) -> None:
    """A dome of ice blocks with a round door."""
    ice = (0.90, 0.96, 1.0)
    brush.polygon(arc(-0.08, 0.0, 0.62, 0.80, 0, 180), ice)
    brush.polygon([*arc(-0.08, 0.0, 0.62, 0.80, 0, 55), (0.10, 0.0)], shade(ice, 0.86))
    for y, half in ((0.26, 0.58), (0.50, 0.46)):
        brush.line([(-0.08 - half, y), (-0.08 + half, y)], 0.025, (0.58, 0.74, 0.88))
    for x, low, high in ((-0.36, 0.26, 0.50), (0.16, 0.26, 0.50), (-0.14, 0.50, 0.78), (-0.52, 0.0, 0.26)):
        brush.line([(x, low), (x, high)], 0.025, (0.58, 0.74, 0.88))
    brush.polygon(arc(0.30, 0.0, 0.34, 0.46, 0, 180), (0.97, 0.99, 1.0))
    brush.polygon(arc(0.32, 0.0, 0.20, 0.32, 0, 180), LIT if is_dark else (0.30, 0.38, 0.48), shine=is_dark)


def tent(brush: Brush, color: Color, is_dark: bool) -> None:
    """A ridge tent, lit from inside when it is dark."""
    brush.polygon([(-0.62, 0.0), (-0.05, 0.92), (0.40, 0.0)], color, shine=is_dark)
    brush.polygon([(-0.05, 0.92), (0.40, 0.0), (0.78, 0.12), (0.36, 0.86)], shade(color, 0.68))
    brush.polygon([(-0.28, 0.0), (-0.06, 0.66), (0.12, 0.0)], LIT if is_dark else BLACK, shine=is_dark)
    if is_dark:
        brush.glow(-0.05, 0.35, 0.7, (0.70, 0.45, 0.18))


def pyramid(brush: Brush, color: Color, is_dark: bool) -> None:
    """A great pyramid with a lit and a shaded face."""
    brush.polygon([(-0.80, 0.0), (-0.06, 0.92), (0.26, -0.02)], (0.98, 0.82, 0.48))
    brush.polygon([(-0.06, 0.92), (0.26, -0.02), (0.78, 0.06)], (0.66, 0.48, 0.28))
    for y in (0.24, 0.48):
        brush.line([(-0.80 + y * 0.80, y), (0.26 - y * 0.34, y)], 0.02, (0.82, 0.64, 0.36))
