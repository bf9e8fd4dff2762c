"""What drives, sails and flies: each 1 unit tall on its foot at (0, 0), facing right."""

from training.drawing.canvas import Brush, Color
from training.drawing.things.palette import BARK, BLACK, GLASS, GOLD, GRAY, LIT, WHITE, arc, pale, shade, wheel


def sailboat(brush: Brush, color: Color, is_dark: bool) -> None:
    """A boat with a mainsail in the color and a paler jib."""
    brush.line([(0.02, 0.1), (0.02, 1.0)], 0.035, BARK)
    brush.polygon([(0.06, 0.22), (0.06, 0.98), (0.34, 0.62), (0.48, 0.22)], color)
    brush.polygon([(-0.03, 0.22), (-0.03, 0.88), (-0.40, 0.22)], pale(color, 0.45))
    brush.polygon([(-0.52, 0.18), (0.58, 0.18), (0.40, -0.01), (-0.36, -0.01)], (0.48, 0.28, 0.18))
    brush.polygon([(-0.52, 0.18), (0.58, 0.18), (0.54, 0.13), (-0.47, 0.13)], WHITE)


def ship(brush: Brush, color: Color, is_dark: bool) -> None:
    """A steamer with two funnels and smoke."""
    for x, y, r in ((-0.30, 0.86, 0.10), (-0.46, 0.94, 0.13), (-0.66, 0.98, 0.11)):
        brush.ellipse(x, y, r, r * 0.7, (0.80, 0.80, 0.84))
    for x in (-0.20, 0.12):
        brush.box(x - 0.08, 0.46, x + 0.08, 0.80, color)
        brush.box(x - 0.08, 0.72, x + 0.08, 0.80, BLACK)
    brush.box(-0.48, 0.26, 0.46, 0.46, WHITE)
    for x in (-0.36, -0.16, 0.04, 0.24):
        brush.box(x - 0.05, 0.32, x + 0.05, 0.40, LIT if is_dark else GLASS, shine=is_dark)
    brush.polygon([(-0.76, 0.28), (0.86, 0.30), (0.62, -0.01), (-0.62, -0.01)], shade(color, 0.55))
    brush.polygon([(-0.65, 0.06), (0.67, 0.06), (0.62, -0.01), (-0.62, -0.01)], color)


def submarine(brush: Brush, color: Color, is_dark: bool) -> None:
    """A round submarine with portholes and a periscope."""
    brush.line([(0.02, 0.6), (0.02, 0.98), (0.18, 0.98)], 0.06, GRAY)
    brush.polygon([(-0.22, 0.5), (-0.16, 0.78), (0.18, 0.78), (0.24, 0.5)], shade(color, 0.86))
    brush.polygon([(-0.55, 0.30), (-0.86, 0.56), (-0.86, 0.02)], shade(color, 0.70))
    brush.ellipse(0.0, 0.30, 0.72, 0.30, color)
    brush.polygon(arc(0.0, 0.30, 0.72, 0.30, 195, 345), shade(color, 0.80))
    for x in (-0.32, 0.02, 0.36):
        brush.ellipse(x, 0.34, 0.11, 0.11, WHITE)
        brush.ellipse(x, 0.34, 0.075, 0.075, LIT if is_dark else GLASS, shine=is_dark)


def car(brush: Brush, color: Color, is_dark: bool) -> None:
    """A small round car."""
    brush.polygon([(-0.48, 0.40), (-0.34, 0.76), (0.22, 0.76), (0.44, 0.40)], color)
    brush.polygon(
        [(-0.38, 0.42), (-0.28, 0.68), (-0.06, 0.68), (-0.06, 0.42)],
        LIT if is_dark else (0.66, 0.84, 0.95),
        shine=is_dark,
    )
    brush.polygon(
        [(0.0, 0.42), (0.0, 0.68), (0.18, 0.68), (0.34, 0.42)], LIT if is_dark else (0.66, 0.84, 0.95), shine=is_dark
    )
    brush.polygon([(-0.72, 0.14), (-0.72, 0.40), (-0.48, 0.46), (0.46, 0.46), (0.78, 0.34), (0.80, 0.14)], color)
    brush.polygon([(-0.72, 0.14), (-0.72, 0.22), (0.80, 0.22), (0.80, 0.14)], shade(color, 0.72))
    brush.ellipse(0.74, 0.32, 0.06, 0.06, LIT, shine=True)
    wheel(brush, -0.40, 0.18)
    wheel(brush, 0.44, 0.18)


def bus(brush: Brush, color: Color, is_dark: bool) -> None:
    """A long bus with four windows."""
    brush.box(-0.80, 0.14, 0.80, 0.90, color)
    brush.box(-0.80, 0.14, 0.80, 0.32, shade(color, 0.74))
    brush.box(-0.80, 0.84, 0.80, 0.90, pale(color, 0.5))
    for x in (-0.58, -0.24, 0.10, 0.52):
        half = 0.20 if x > 0.5 else 0.13
        brush.box(x - half, 0.48, x + half, 0.76, LIT if is_dark else (0.68, 0.86, 0.96), shine=is_dark)
    wheel(brush, -0.46, 0.17)
    wheel(brush, 0.48, 0.17)


def train(brush: Brush, color: Color, is_dark: bool) -> None:
    """A steam engine with a puff of smoke."""
    for x, y, r in ((0.42, 0.98, 0.10), (0.24, 1.06, 0.13), (0.0, 1.08, 0.10)):
        brush.ellipse(x, y, r, r * 0.75, (0.92, 0.92, 0.94))
    brush.box(0.38, 0.50, 0.54, 0.86, BLACK)
    brush.box(-0.20, 0.24, 0.70, 0.62, color)
    brush.ellipse(0.70, 0.43, 0.08, 0.19, shade(color, 0.7))
    brush.box(-0.72, 0.20, -0.18, 0.86, shade(color, 0.86))
    brush.box(-0.80, 0.84, -0.10, 0.93, BLACK)
    brush.box(-0.58, 0.52, -0.32, 0.74, LIT if is_dark else (0.68, 0.86, 0.96), shine=is_dark)
    brush.ellipse(0.10, 0.66, 0.09, 0.09, GOLD)
    brush.polygon([(0.66, 0.20), (0.94, 0.0), (0.66, 0.0)], BLACK)
    wheel(brush, -0.48, 0.21, GOLD)
    wheel(brush, 0.06, 0.16, GOLD)
    wheel(brush, 0.46, 0.16, GOLD)


def tractor(brush: Brush, color: Color, is_dark: bool) -> None:
    """A farm tractor with one large and one small wheel."""
    brush.line([(0.34, 0.5), (0.34, 0.86)], 0.06, BLACK)
    brush.box(-0.02, 0.24, 0.72, 0.56, color)
    brush.box(-0.50, 0.30, 0.02, 0.56, shade(color, 0.8))
    brush.box(-0.46, 0.52, -0.02, 0.94, LIT if is_dark else (0.74, 0.88, 0.96), shine=is_dark)
    brush.box(-0.54, 0.90, 0.06, 0.99, color)
    brush.box(-0.26, 0.52, -0.20, 0.92, shade(color, 0.8))
    wheel(brush, -0.34, 0.32, GOLD)
    wheel(brush, 0.52, 0.20, GOLD)


def airplane(brush: Brush, color: Color, is_dark: bool) -> None:
    """A passenger plane from the side, its fin and wing in the color."""
    brush.polygon([(-0.72, 0.52), (-0.94, 0.94), (-0.70, 0.94), (-0.42, 0.56)], color)
    brush.polygon([(0.16, 0.52), (-0.14, 0.92), (-0.02, 0.92), (0.36, 0.54)], shade(color, 0.7))
    brush.ellipse(0.0, 0.48, 0.84, 0.19, WHITE)
    brush.polygon(arc(0.0, 0.48, 0.84, 0.19, 200, 340), (0.80, 0.84, 0.90))
    brush.polygon([(0.22, 0.46), (-0.36, 0.06), (-0.14, 0.06), (0.44, 0.42)], color)
    for x in (-0.40, -0.20, 0.0, 0.20, 0.40):
        brush.ellipse(x, 0.54, 0.05, 0.05, LIT if is_dark else GLASS, shine=is_dark)
    brush.polygon([(0.60, 0.52), (0.64, 0.61), (0.78, 0.54)], BLACK)


def rocket(brush: Brush, color: Color, is_dark: bool) -> None:
    """A rocket that rises on its flame."""
    brush.polygon([(-0.13, 0.20), (0.0, -0.02), (0.13, 0.20)], (1.0, 0.55, 0.12), shine=True)
    brush.polygon([(-0.07, 0.20), (0.0, 0.06), (0.07, 0.20)], (1.0, 0.92, 0.45), shine=True)
    brush.polygon([(-0.18, 0.46), (-0.38, 0.14), (-0.14, 0.22)], color)
    brush.polygon([(0.18, 0.46), (0.38, 0.14), (0.14, 0.22)], shade(color, 0.75))
    brush.polygon([(-0.15, 0.20), (-0.21, 0.50), (-0.13, 0.78), (0.13, 0.78), (0.21, 0.50), (0.15, 0.20)], WHITE)
    brush.polygon([(0.05, 0.20), (0.07, 0.78), (0.13, 0.78), (0.21, 0.50), (0.15, 0.20)], (0.78, 0.80, 0.86))
    brush.polygon([(-0.14, 0.76), (0.0, 1.02), (0.14, 0.76)], color)
    brush.ellipse(0.0, 0.56, 0.10, 0.10, shade(color, 0.8))
    brush.ellipse(0.0, 0.56, 0.065, 0.065, (0.55, 0.80, 0.96))
    brush.glow(0.0, 0.12, 0.24, (0.8, 0.4, 0.1))


def balloon(brush: Brush, color: Color, is_dark: bool) -> None:
    """A hot-air balloon with stripes of the color and white."""
    for x in (-0.10, 0.10):
        brush.line([(x, 0.14), (x * 2.4, 0.42)], 0.02, BARK)
    brush.polygon([(-0.36, 0.54), (0.36, 0.54), (0.11, 0.24), (-0.11, 0.24)], color)
    brush.ellipse(0.0, 0.64, 0.40, 0.37, color)
    brush.polygon([(-0.22, 0.48), (0.22, 0.48), (0.07, 0.24), (-0.07, 0.24)], WHITE)
    brush.ellipse(0.0, 0.64, 0.25, 0.37, WHITE)
    brush.polygon([(-0.10, 0.48), (0.10, 0.48), (0.03, 0.24), (-0.03, 0.24)], color)
    brush.ellipse(0.0, 0.64, 0.11, 0.37, color)
    brush.box(-0.11, 0.0, 0.11, 0.15, (0.55, 0.36, 0.22))
    if is_dark:
        brush.glow(0.0, 0.45, 0.40, (0.75, 0.45, 0.15))


def ufo(brush: Brush, color: Color, is_dark: bool) -> None:
    """A flying saucer with a beam of light."""
    brush.polygon([(-0.18, 0.42), (0.18, 0.42), (0.44, 0.0), (-0.44, 0.0)], (0.98, 0.96, 0.62), shine=is_dark)
    brush.ellipse(0.0, 0.66, 0.32, 0.30, (0.55, 0.86, 0.92))
    brush.ellipse(-0.09, 0.76, 0.09, 0.09, (0.86, 0.97, 1.0))
    brush.ellipse(0.0, 0.50, 0.74, 0.19, shade(GRAY, 0.8))
    brush.ellipse(0.0, 0.54, 0.74, 0.16, GRAY)
    for x, tone in (
        (-0.46, (0.95, 0.25, 0.25)),
        (-0.16, (0.99, 0.84, 0.25)),
        (0.16, (0.35, 0.85, 0.40)),
        (0.46, (0.95, 0.25, 0.25)),
    ):
        brush.ellipse(x, 0.48, 0.075, 0.075, tone, shine=True)
