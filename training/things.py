"""Draws the things that stand in a scene, each 1 unit tall on its foot at (0, 0), facing right, sun on the left."""

from collections.abc import Callable

from training.canvas import Brush, Color

WHITE: Color = (0.96, 0.95, 0.92)
COLORS: dict[str, Color] = {
    "white": WHITE,
    "red": (0.88, 0.22, 0.20),
    "yellow": (0.98, 0.80, 0.25),
    "blue": (0.22, 0.46, 0.85),
    "orange": (0.96, 0.54, 0.18),
    "green": (0.26, 0.60, 0.32),
    "pink": (0.96, 0.62, 0.74),
    "golden": (0.92, 0.62, 0.18),
}
_WINDOW: Color = (1.0, 0.85, 0.45)
_BARK: Color = (0.40, 0.28, 0.20)


def _shade(color: Color, amount: float) -> Color:
    return color[0] * amount, color[1] * amount, color[2] * amount


def _window(brush: Brush, x: float, y: float, size: float, is_dark: bool) -> None:
    glass = _WINDOW if is_dark else (0.35, 0.48, 0.60)
    brush.box(x - size / 2, y - size / 2, x + size / 2, y + size / 2, glass, shine=is_dark)
    if is_dark:
        brush.glow(x, y, size * 2.2, (0.55, 0.38, 0.15))


def sailboat(brush: Brush, color: Color, is_dark: bool) -> None:
    """A boat with a mainsail in the color and a paler jib."""
    brush.line([(0.02, 0.1), (0.02, 1.0)], 0.025, _BARK)
    brush.polygon([(0.05, 0.20), (0.05, 0.97), (0.30, 0.62), (0.44, 0.20)], color)
    brush.polygon([(0.05, 0.20), (0.30, 0.62), (0.44, 0.20)], _shade(color, 0.90))
    brush.polygon([(-0.02, 0.22), (-0.02, 0.84), (-0.34, 0.22)], tuple(0.5 + c * 0.5 for c in color))
    brush.polygon([(-0.42, 0.15), (0.48, 0.15), (0.34, 0.0), (-0.30, 0.0)], (0.50, 0.30, 0.20))
    brush.polygon([(-0.42, 0.15), (0.48, 0.15), (0.45, 0.11), (-0.39, 0.11)], WHITE)


def house(brush: Brush, color: Color, is_dark: bool) -> None:
    """A gabled cottage; the color is its roof's."""
    brush.box(0.22, 0.66, 0.34, 1.0, (0.60, 0.38, 0.32))
    brush.box(-0.55, 0.0, 0.0, 0.52, (0.98, 0.93, 0.82))
    brush.polygon([(-0.55, 0.5), (-0.275, 0.92), (0.0, 0.5)], (0.98, 0.93, 0.82))
    brush.box(0.0, 0.0, 0.60, 0.52, (0.82, 0.74, 0.64))
    brush.polygon([(-0.275, 0.95), (0.42, 0.95), (0.70, 0.46), (0.0, 0.46)], color)
    brush.polygon([(-0.275, 0.95), (-0.62, 0.44), (-0.55, 0.42), (-0.24, 0.88)], _shade(color, 0.75))
    brush.box(-0.36, 0.0, -0.19, 0.34, (0.45, 0.28, 0.20))
    _window(brush, 0.17, 0.25, 0.15, is_dark)
    _window(brush, 0.43, 0.25, 0.15, is_dark)
    _window(brush, -0.275, 0.58, 0.12, is_dark)


def castle(brush: Brush, color: Color, is_dark: bool) -> None:
    """Three towers with pointed roofs in the color, and a wall."""
    stone = (0.76, 0.73, 0.72)
    brush.box(-0.42, 0.0, 0.42, 0.36, _shade(stone, 0.94))
    for x, half, top in ((-0.40, 0.11, 0.58), (0.40, 0.11, 0.58), (0.0, 0.14, 0.72)):
        brush.box(x - half, 0.0, x, top, stone)
        brush.box(x, 0.0, x + half, top, _shade(stone, 0.78))
        brush.polygon([(x - half * 1.3, top), (x, top + half * 2.2), (x + half * 1.3, top)], color)
        brush.polygon([(x, top), (x, top + half * 2.2), (x + half * 1.3, top)], _shade(color, 0.8))
        _window(brush, x, top - 0.12, 0.08, is_dark)
    brush.ellipse(0.0, 0.2, 0.08, 0.08, (0.32, 0.24, 0.22))
    brush.box(-0.08, 0.0, 0.08, 0.2, (0.32, 0.24, 0.22))


def lighthouse(brush: Brush, color: Color, is_dark: bool) -> None:
    """A banded tower on a rock; its lamp shines at night."""
    brush.polygon([(-0.42, -0.04), (-0.28, 0.10), (0.0, 0.14), (0.26, 0.09), (0.44, -0.04)], (0.42, 0.38, 0.38))
    for index in range(5):
        low, high = 0.12 + index * 0.13, 0.12 + (index + 1) * 0.13
        a, b = 0.15 - 0.06 * (low - 0.12) / 0.65, 0.15 - 0.06 * (high - 0.12) / 0.65
        tone = color if index % 2 == 0 else WHITE
        brush.polygon([(-a, low), (a, low), (b, high), (-b, high)], tone)
        brush.polygon([(0.02, low), (a, low), (b, high), (0.02, high)], _shade(tone, 0.82))
    brush.box(-0.12, 0.77, 0.12, 0.80, (0.30, 0.30, 0.34))
    brush.box(-0.07, 0.80, 0.07, 0.90, _WINDOW, shine=is_dark)
    brush.polygon([(-0.11, 0.90), (0.0, 1.0), (0.11, 0.90)], color if color != WHITE else (0.3, 0.3, 0.35))
    if is_dark:
        brush.glow(0.0, 0.85, 0.5, (0.95, 0.80, 0.45))


def windmill(brush: Brush, color: Color, is_dark: bool) -> None:
    """A tapered mill with a cap and four sails."""
    brush.polygon([(-0.20, 0.0), (0.20, 0.0), (0.12, 0.56), (-0.12, 0.56)], (0.95, 0.91, 0.84))
    brush.polygon([(0.04, 0.0), (0.20, 0.0), (0.12, 0.56), (0.03, 0.56)], (0.78, 0.72, 0.66))
    brush.polygon([(-0.15, 0.55), (-0.08, 0.69), (0.08, 0.69), (0.15, 0.55)], color)
    brush.box(-0.05, 0.0, 0.05, 0.15, (0.42, 0.28, 0.22))
    _window(brush, 0.0, 0.36, 0.08, is_dark)
    for dx, dy in ((0.64, 0.77), (-0.77, 0.64), (-0.64, -0.77), (0.77, -0.64)):
        px, py = -dy * 0.10, dx * 0.10
        tip = (dx * 0.42, 0.60 + dy * 0.42)
        root = (dx * 0.08, 0.60 + dy * 0.08)
        brush.polygon([root, tip, (tip[0] + px, tip[1] + py), (root[0] + px, root[1] + py)], WHITE)
        brush.line([(0.0, 0.60), tip], 0.022, _BARK)


def tree(brush: Brush, color: Color, is_dark: bool) -> None:
    """A round broadleaf tree; the color is its leaves'."""
    brush.polygon([(-0.07, 0.0), (0.08, 0.0), (0.04, 0.5), (-0.03, 0.5)], _BARK)
    for x, y, r, tone in ((0.20, 0.50, 0.22, 0.72), (-0.20, 0.52, 0.22, 0.92), (0.06, 0.62, 0.27, 0.82),
                          (0.0, 0.76, 0.24, 0.98), (-0.12, 0.66, 0.21, 1.08), (-0.09, 0.81, 0.13, 1.18)):  # fmt: skip
        brush.ellipse(x, y, r, r * 0.92, _shade(color, tone))


def pine(brush: Brush, color: Color, is_dark: bool) -> None:
    """A conifer of four tiers."""
    brush.box(-0.04, 0.0, 0.04, 0.16, _BARK)
    for index in range(4):
        low, half = 0.12 + index * 0.20, 0.32 - index * 0.065
        top = min(1.0, low + 0.34)
        brush.polygon([(-half, low), (0.0, top), (half, low)], (0.16, 0.42 + 0.03 * index, 0.27))
        brush.polygon([(0.02, low + 0.02), (0.0, top), (half, low)], (0.11, 0.32 + 0.03 * index, 0.23))


def palm(brush: Brush, color: Color, is_dark: bool) -> None:
    """A leaning palm with seven fronds."""
    brush.line([(-0.10, 0.0), (-0.05, 0.25), (0.01, 0.5), (0.09, 0.74)], 0.055, (0.52, 0.38, 0.26))
    for tip, bend, tone in (((-0.36, 0.62), (-0.18, 0.90), 0.85), ((0.52, 0.58), (0.36, 0.88), 0.75), ((-0.26, 0.90), (-0.08, 0.96), 1.05),
                            ((0.44, 0.86), (0.26, 0.96), 0.95), ((0.14, 1.0), (0.06, 0.90), 1.1), ((0.26, 0.46), (0.26, 0.76), 0.7),
                            ((-0.16, 0.46), (-0.08, 0.74), 0.8)):  # fmt: skip
        brush.polygon([(0.06, 0.72), bend, tip, (bend[0] + 0.03, bend[1] - 0.12), (0.12, 0.75)], _shade((0.28, 0.58, 0.28), tone))


def cactus(brush: Brush, color: Color, is_dark: bool) -> None:
    """A saguaro with two arms."""
    for width, tone, dx in ((0.17, 0.80, 0.02), (0.10, 1.12, -0.01)):
        green = _shade((0.30, 0.55, 0.30), tone)
        brush.line([(dx, 0.0), (dx, 0.94)], width, green)
        brush.ellipse(dx, 0.94, width / 2, width / 2, green)
        for side, low, high in ((-1, 0.38, 0.70), (1, 0.50, 0.80)):
            brush.line([(dx, low), (side * 0.26 + dx, low), (side * 0.26 + dx, high)], width * 0.75, green)
            brush.ellipse(side * 0.26 + dx, high, width * 0.37, width * 0.37, green)


def balloon(brush: Brush, color: Color, is_dark: bool) -> None:
    """A hot-air balloon with stripes of the color and white."""
    for x in (-0.10, 0.10):
        brush.line([(x, 0.14), (x * 2.4, 0.42)], 0.014, _BARK)
    brush.polygon([(-0.35, 0.56), (0.35, 0.56), (0.11, 0.24), (-0.11, 0.24)], color)
    brush.ellipse(0.0, 0.64, 0.38, 0.36, color)
    brush.polygon([(-0.21, 0.50), (0.21, 0.50), (0.07, 0.24), (-0.07, 0.24)], WHITE)
    brush.ellipse(0.0, 0.64, 0.23, 0.36, WHITE)
    brush.polygon([(-0.09, 0.50), (0.09, 0.50), (0.03, 0.24), (-0.03, 0.24)], color)
    brush.ellipse(0.0, 0.64, 0.10, 0.36, _shade(color, 1.06))
    brush.box(-0.10, 0.0, 0.10, 0.14, (0.55, 0.36, 0.22))
    if is_dark:
        brush.glow(0.0, 0.45, 0.45, (0.75, 0.45, 0.15))


def bird(brush: Brush, color: Color, is_dark: bool) -> None:
    """A gull in flight with raised wings."""
    body, under = (0.97, 0.97, 0.98), (0.66, 0.70, 0.78)
    brush.polygon([(-0.04, 0.52), (-0.28, 0.98), (-0.86, 1.0), (-0.42, 0.76), (-0.26, 0.50)], under)
    brush.ellipse(0.0, 0.48, 0.34, 0.12, body)
    brush.ellipse(0.34, 0.55, 0.11, 0.09, body)
    brush.polygon([(-0.26, 0.50), (-0.58, 0.40), (-0.26, 0.42)], body)
    brush.polygon([(0.14, 0.50), (0.18, 1.0), (0.70, 1.06), (0.40, 0.82), (-0.10, 0.50)], body)
    brush.polygon([(0.43, 0.57), (0.55, 0.53), (0.43, 0.51)], (0.95, 0.65, 0.20))


def _legs(brush: Brush, spots: tuple[float, ...], top: float, width: float, color: Color) -> None:
    for index, x in enumerate(spots):
        brush.line([(x, top), (x + (0.02 if index % 2 else -0.02), 0.0)], width, color)


def horse(brush: Brush, color: Color, is_dark: bool) -> None:
    """A brown horse that stands and looks right."""
    brown, dark = (0.56, 0.33, 0.19), (0.30, 0.17, 0.11)
    _legs(brush, (-0.36, 0.20), 0.46, 0.08, _shade(brown, 0.7))
    _legs(brush, (-0.27, 0.29), 0.46, 0.085, brown)
    brush.polygon([(-0.40, 0.62), (-0.50, 0.55), (-0.54, 0.20), (-0.46, 0.24), (-0.38, 0.52)], dark)
    brush.ellipse(-0.04, 0.54, 0.41, 0.17, brown)
    brush.polygon([(0.14, 0.66), (0.36, 0.96), (0.48, 0.86), (0.38, 0.48)], brown)
    brush.polygon([(0.34, 0.98), (0.46, 0.94), (0.68, 0.72), (0.60, 0.64), (0.40, 0.80)], brown)
    brush.polygon([(0.10, 0.68), (0.34, 1.0), (0.40, 0.92), (0.24, 0.66)], dark)


def deer(brush: Brush, color: Color, is_dark: bool) -> None:
    """A stag with antlers that looks right."""
    brown = (0.66, 0.44, 0.26)
    _legs(brush, (-0.28, 0.14), 0.34, 0.05, _shade(brown, 0.7))
    _legs(brush, (-0.21, 0.21), 0.34, 0.055, brown)
    brush.ellipse(-0.04, 0.42, 0.31, 0.12, brown)
    brush.polygon([(0.10, 0.46), (0.24, 0.72), (0.34, 0.68), (0.27, 0.40)], brown)
    brush.polygon([(0.20, 0.74), (0.30, 0.76), (0.46, 0.64), (0.42, 0.59), (0.26, 0.63)], brown)
    brush.ellipse(-0.34, 0.46, 0.05, 0.05, WHITE)
    for sign, x in ((-1, 0.22), (1, 0.29)):
        brush.line([(x, 0.74), (x + 0.10 * sign, 0.86), (x + 0.08 * sign, 1.0)], 0.032, (0.45, 0.33, 0.22))
        brush.line([(x + 0.09 * sign, 0.86), (x + 0.22 * sign, 0.95)], 0.03, (0.45, 0.33, 0.22))


def camel(brush: Brush, color: Color, is_dark: bool) -> None:
    """A camel with one hump that looks right."""
    sand = (0.74, 0.54, 0.32)
    _legs(brush, (-0.32, 0.16), 0.46, 0.06, _shade(sand, 0.72))
    _legs(brush, (-0.24, 0.24), 0.46, 0.065, sand)
    brush.ellipse(-0.04, 0.54, 0.36, 0.13, sand)
    brush.polygon([(-0.26, 0.60), (-0.14, 0.82), (0.0, 0.86), (0.10, 0.78), (0.20, 0.58)], sand)
    brush.line([(0.26, 0.54), (0.40, 0.58), (0.44, 0.88)], 0.10, sand)
    brush.ellipse(0.52, 0.90, 0.13, 0.07, sand)
    brush.box(-0.14, 0.60, 0.04, 0.74, (0.80, 0.25, 0.25))


def tent(brush: Brush, color: Color, is_dark: bool) -> None:
    """A ridge tent, lit from inside when it is dark."""
    brush.polygon([(-0.62, 0.0), (-0.05, 1.0), (0.40, 0.0)], color, shine=is_dark)
    brush.polygon([(-0.05, 1.0), (0.40, 0.0), (0.82, 0.12), (0.36, 0.94)], _shade(color, 0.72))
    brush.polygon([(-0.22, 0.0), (-0.06, 0.72), (0.10, 0.0)], _WINDOW if is_dark else (0.28, 0.22, 0.22), shine=is_dark)
    if is_dark:
        brush.glow(-0.05, 0.35, 0.8, (0.70, 0.45, 0.18))


def pyramid(brush: Brush, color: Color, is_dark: bool) -> None:
    """A great pyramid with a lit and a shaded face."""
    brush.polygon([(-0.95, 0.0), (-0.12, 1.0), (0.30, -0.03)], (0.95, 0.78, 0.48))
    brush.polygon([(-0.12, 1.0), (0.30, -0.03), (0.85, 0.06)], (0.66, 0.50, 0.32))


DRAWERS: dict[str, Callable[[Brush, Color, bool], None]] = {
    "sailboat": sailboat, "house": house, "castle": castle, "lighthouse": lighthouse, "windmill": windmill,
    "tree": tree, "pine": pine, "palm": palm, "cactus": cactus, "balloon": balloon, "bird": bird,
    "horse": horse, "deer": deer, "camel": camel, "tent": tent, "pyramid": pyramid,
}  # fmt: skip
# The colors a thing comes in; things that are not here have their own.
THING_COLORS: dict[str, tuple[str, ...]] = {
    "sailboat": ("white", "red", "yellow", "blue", "orange"),
    "house": ("red", "blue", "orange", "green"),
    "castle": ("blue", "red", "green"),
    "lighthouse": ("red", "blue", "white"),
    "windmill": ("red", "blue", "orange"),
    "tree": ("green", "golden", "pink", "red"),
    "balloon": ("red", "yellow", "blue", "orange", "pink"),
    "tent": ("orange", "red", "yellow", "blue", "green"),
}
