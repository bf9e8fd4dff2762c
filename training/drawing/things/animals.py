"""Animals in bold silhouette: each 1 unit tall on its foot at (0, 0), facing right."""

from training.drawing.canvas import Brush, Color
from training.drawing.things.palette import BLACK, GOLD, GRAY, WHITE, arc, eye, legs, pale, shade

BEAK: Color = (0.98, 0.60, 0.14)


def horse(brush: Brush, color: Color, is_dark: bool) -> None:
    """A horse that stands, with a dark mane and tail."""
    mane = shade(color, 0.45)
    legs(brush, (-0.36, 0.18), 0.46, 0.10, shade(color, 0.70))
    legs(brush, (-0.24, 0.31), 0.46, 0.10, color)
    brush.polygon([(-0.42, 0.66), (-0.60, 0.52), (-0.62, 0.14), (-0.50, 0.20), (-0.40, 0.50)], mane)
    brush.ellipse(-0.04, 0.54, 0.43, 0.19, color)
    brush.polygon([(0.12, 0.66), (0.34, 0.98), (0.50, 0.84), (0.40, 0.46)], color)
    brush.polygon([(0.32, 1.0), (0.46, 0.96), (0.74, 0.72), (0.64, 0.60), (0.40, 0.78)], color)
    brush.polygon([(0.04, 0.68), (0.30, 1.04), (0.38, 0.94), (0.24, 0.64)], mane)
    eye(brush, 0.48, 0.86)


def deer(brush: Brush, color: Color, is_dark: bool) -> None:
    """A stag with antlers."""
    brown, horn = (0.72, 0.46, 0.24), (0.45, 0.30, 0.18)
    legs(brush, (-0.30, 0.12), 0.34, 0.075, shade(brown, 0.70))
    legs(brush, (-0.20, 0.22), 0.34, 0.075, brown)
    brush.ellipse(-0.04, 0.40, 0.34, 0.14, brown)
    brush.polygon([(0.08, 0.44), (0.22, 0.74), (0.36, 0.70), (0.30, 0.36)], brown)
    brush.polygon([(0.18, 0.76), (0.32, 0.78), (0.52, 0.64), (0.46, 0.56), (0.26, 0.62)], brown)
    brush.ellipse(-0.36, 0.46, 0.07, 0.07, WHITE)
    brush.ellipse(0.02, 0.33, 0.20, 0.06, pale(brown, 0.55))
    for sign, x in ((-1, 0.20), (1, 0.29)):
        brush.line([(x, 0.74), (x + 0.13 * sign, 0.86), (x + 0.11 * sign, 1.04)], 0.045, horn)
        brush.line([(x + 0.12 * sign, 0.86), (x + 0.27 * sign, 0.97)], 0.045, horn)
    eye(brush, 0.32, 0.70)


def camel(brush: Brush, color: Color, is_dark: bool) -> None:
    """A camel with two humps."""
    sand = (0.82, 0.60, 0.34)
    legs(brush, (-0.36, 0.14), 0.46, 0.085, shade(sand, 0.72))
    legs(brush, (-0.25, 0.26), 0.46, 0.085, sand)
    brush.ellipse(-0.05, 0.52, 0.42, 0.16, sand)
    brush.ellipse(-0.22, 0.70, 0.14, 0.19, sand)
    brush.ellipse(0.10, 0.70, 0.14, 0.19, sand)
    brush.line([(0.28, 0.52), (0.46, 0.56), (0.50, 0.90)], 0.13, sand)
    brush.ellipse(0.58, 0.92, 0.16, 0.09, sand)
    brush.polygon([(-0.16, 0.56), (0.04, 0.56), (0.02, 0.66), (-0.13, 0.66)], (0.86, 0.24, 0.24))
    eye(brush, 0.56, 0.94)


def elephant(brush: Brush, color: Color, is_dark: bool) -> None:
    """A gray elephant with its trunk down."""
    skin = (0.56, 0.60, 0.68)
    legs(brush, (-0.38, 0.14), 0.40, 0.19, shade(skin, 0.76))
    legs(brush, (-0.24, 0.28), 0.40, 0.19, skin)
    brush.ellipse(-0.10, 0.60, 0.48, 0.34, skin)
    brush.line([(0.58, 0.66), (0.72, 0.44), (0.70, 0.16), (0.82, 0.08)], 0.15, skin)
    brush.ellipse(0.42, 0.70, 0.27, 0.26, skin)
    brush.polygon([(0.52, 0.48), (0.72, 0.34), (0.58, 0.56)], WHITE)
    brush.ellipse(0.24, 0.68, 0.20, 0.26, shade(skin, 0.80))
    brush.line([(-0.56, 0.66), (-0.64, 0.36)], 0.05, shade(skin, 0.8))
    eye(brush, 0.50, 0.78)


def giraffe(brush: Brush, color: Color, is_dark: bool) -> None:
    """A yellow giraffe with brown spots."""
    coat, spot = (0.98, 0.78, 0.34), (0.62, 0.36, 0.16)
    legs(brush, (-0.30, 0.06), 0.36, 0.07, shade(coat, 0.74))
    legs(brush, (-0.21, 0.15), 0.36, 0.07, coat)
    brush.ellipse(-0.08, 0.40, 0.29, 0.14, coat)
    brush.polygon([(0.00, 0.46), (0.19, 0.34), (0.36, 0.90), (0.22, 0.94)], coat)
    brush.ellipse(0.36, 0.91, 0.17, 0.085, coat)
    brush.line([(0.26, 0.94), (0.23, 1.06)], 0.035, spot)
    patches = (
        (-0.24, 0.42, 0.065),
        (-0.09, 0.46, 0.06),
        (-0.10, 0.34, 0.055),
        (0.08, 0.42, 0.06),
        (0.15, 0.54, 0.05),
        (0.20, 0.68, 0.045),
        (0.26, 0.82, 0.04),
    )
    for x, y, r in patches:
        brush.ellipse(x, y, r, r, spot)
    eye(brush, 0.36, 0.93)


def cow(brush: Brush, color: Color, is_dark: bool) -> None:
    """A white cow with black patches."""
    legs(brush, (-0.40, 0.18), 0.40, 0.12, shade(WHITE, 0.72))
    legs(brush, (-0.27, 0.31), 0.40, 0.12, WHITE)
    brush.ellipse(-0.06, 0.56, 0.50, 0.26, WHITE)
    brush.ellipse(-0.28, 0.62, 0.19, 0.16, BLACK)
    brush.ellipse(0.14, 0.54, 0.15, 0.15, BLACK)
    brush.polygon([(0.40, 0.90), (0.36, 1.04), (0.46, 0.92)], (0.90, 0.84, 0.66))
    brush.polygon([(0.58, 0.90), (0.64, 1.04), (0.52, 0.92)], (0.90, 0.84, 0.66))
    brush.ellipse(0.34, 0.82, 0.10, 0.06, BLACK)
    brush.ellipse(0.50, 0.78, 0.18, 0.17, WHITE)
    brush.ellipse(0.58, 0.67, 0.15, 0.10, (0.97, 0.68, 0.70))
    eye(brush, 0.54, 0.83)


def sheep(brush: Brush, color: Color, is_dark: bool) -> None:
    """A woolly sheep with a dark face."""
    legs(brush, (-0.30, -0.14, 0.12, 0.28), 0.34, 0.09, BLACK)
    for x, y, r in (
        (-0.34, 0.48, 0.21),
        (0.24, 0.48, 0.21),
        (-0.18, 0.66, 0.21),
        (0.10, 0.66, 0.21),
        (-0.05, 0.42, 0.26),
        (-0.04, 0.56, 0.28),
    ):
        brush.ellipse(x, y, r, r, shade(WHITE, 0.90 if y < 0.5 else 1.0))
    brush.ellipse(0.32, 0.70, 0.11, 0.06, BLACK)
    brush.ellipse(0.46, 0.64, 0.15, 0.18, BLACK)
    brush.ellipse(0.38, 0.82, 0.13, 0.10, WHITE)
    brush.ellipse(0.50, 0.67, 0.04, 0.04, WHITE)


def bear(brush: Brush, color: Color, is_dark: bool) -> None:
    """A bear that sits and looks at you."""
    for x in (-0.24, 0.24):
        brush.ellipse(x, 0.10, 0.20, 0.12, shade(color, 0.75))
    brush.ellipse(0.0, 0.36, 0.36, 0.36, color)
    brush.ellipse(0.0, 0.32, 0.22, 0.24, pale(color, 0.40))
    for x in (-0.22, 0.22):
        brush.ellipse(x, 0.94, 0.11, 0.11, color)
        brush.ellipse(x, 0.94, 0.06, 0.06, pale(color, 0.40))
        brush.ellipse(x * 1.45, 0.46, 0.10, 0.18, shade(color, 0.85))
    brush.ellipse(0.0, 0.78, 0.30, 0.26, color)
    brush.ellipse(0.0, 0.70, 0.14, 0.11, pale(color, 0.60))
    brush.ellipse(0.0, 0.75, 0.055, 0.045, BLACK)
    eye(brush, -0.13, 0.84, 0.04)
    eye(brush, 0.13, 0.84, 0.04)


def rabbit(brush: Brush, color: Color, is_dark: bool) -> None:
    """A rabbit that sits, its long ears up."""
    for x in (0.10, 0.28):
        brush.ellipse(x, 0.82, 0.075, 0.22, color)
        brush.ellipse(x, 0.82, 0.035, 0.16, (0.97, 0.66, 0.70))
    brush.ellipse(-0.42, 0.28, 0.11, 0.11, WHITE)
    brush.ellipse(-0.10, 0.30, 0.34, 0.30, color)
    brush.ellipse(-0.16, 0.20, 0.22, 0.19, shade(color, 0.86))
    brush.ellipse(0.04, 0.05, 0.28, 0.06, color)
    brush.ellipse(0.20, 0.56, 0.21, 0.18, color)
    brush.ellipse(0.40, 0.54, 0.04, 0.035, (0.95, 0.50, 0.55))
    eye(brush, 0.26, 0.60, 0.04)


def fox(brush: Brush, color: Color, is_dark: bool) -> None:
    """An orange fox with a white-tipped tail."""
    coat = (0.95, 0.46, 0.12)
    legs(brush, (-0.24, -0.10, 0.14, 0.28), 0.34, 0.085, (0.30, 0.16, 0.12))
    brush.polygon([(-0.28, 0.44), (-0.60, 0.40), (-0.86, 0.62), (-0.84, 0.86), (-0.60, 0.72), (-0.30, 0.56)], coat)
    brush.polygon([(-0.76, 0.56), (-0.86, 0.62), (-0.84, 0.88), (-0.68, 0.78)], WHITE)
    brush.ellipse(0.0, 0.44, 0.38, 0.17, coat)
    brush.polygon([(0.24, 0.72), (0.24, 1.02), (0.40, 0.82)], coat)
    brush.polygon([(0.42, 0.80), (0.54, 1.02), (0.56, 0.72)], coat)
    brush.polygon([(0.18, 0.70), (0.40, 0.86), (0.60, 0.74), (0.78, 0.52), (0.44, 0.42), (0.24, 0.46)], coat)
    brush.polygon([(0.78, 0.52), (0.44, 0.42), (0.34, 0.54), (0.56, 0.58)], WHITE)
    brush.ellipse(0.76, 0.53, 0.045, 0.045, BLACK)
    eye(brush, 0.48, 0.68)


def cat(brush: Brush, color: Color, is_dark: bool) -> None:
    """A cat that sits and looks at you, its tail to the right."""
    brush.line([(0.14, 0.08), (0.44, 0.10), (0.50, 0.30), (0.44, 0.48)], 0.10, shade(color, 0.85))
    brush.ellipse(0.0, 0.28, 0.28, 0.29, color)
    brush.ellipse(0.0, 0.24, 0.14, 0.20, pale(color, 0.45))
    for sign in (-1, 1):
        brush.polygon([(0.27 * sign, 0.70), (0.27 * sign, 1.02), (0.05 * sign, 0.84)], color)
        brush.polygon([(0.23 * sign, 0.76), (0.23 * sign, 0.93), (0.11 * sign, 0.84)], (0.95, 0.62, 0.62))
    brush.ellipse(0.0, 0.68, 0.28, 0.22, color)
    for x in (-0.12, 0.12):
        brush.ellipse(x, 0.71, 0.065, 0.07, (0.55, 0.90, 0.35))
        brush.ellipse(x, 0.71, 0.025, 0.06, BLACK)
    brush.polygon([(-0.04, 0.63), (0.04, 0.63), (0.0, 0.58)], (0.97, 0.55, 0.60))
    for x in (-0.09, 0.09):
        brush.ellipse(x, 0.04, 0.09, 0.05, pale(color, 0.3))


def dog(brush: Brush, color: Color, is_dark: bool) -> None:
    """A dog with a hanging ear, a red collar and its tail up."""
    legs(brush, (-0.30, 0.14), 0.36, 0.10, shade(color, 0.72))
    legs(brush, (-0.19, 0.26), 0.36, 0.10, color)
    brush.line([(-0.32, 0.50), (-0.50, 0.62), (-0.52, 0.84)], 0.08, color)
    brush.ellipse(-0.02, 0.46, 0.38, 0.18, color)
    brush.polygon([(0.12, 0.52), (0.22, 0.78), (0.42, 0.70), (0.36, 0.42)], color)
    brush.line([(0.14, 0.60), (0.40, 0.52)], 0.07, (0.88, 0.18, 0.18))
    brush.ellipse(0.34, 0.80, 0.21, 0.18, color)
    brush.ellipse(0.52, 0.73, 0.16, 0.10, pale(color, 0.35))
    brush.ellipse(0.65, 0.77, 0.05, 0.045, BLACK)
    brush.ellipse(0.20, 0.74, 0.09, 0.19, shade(color, 0.55))
    eye(brush, 0.40, 0.85)


def duck(brush: Brush, color: Color, is_dark: bool) -> None:
    """A yellow duck."""
    yellow = (0.99, 0.82, 0.20)
    brush.polygon([(-0.34, 0.34), (-0.66, 0.56), (-0.40, 0.14)], shade(yellow, 0.88))
    brush.ellipse(-0.04, 0.28, 0.46, 0.28, yellow)
    brush.ellipse(-0.12, 0.32, 0.26, 0.15, shade(yellow, 0.82))
    brush.polygon([(0.42, 0.82), (0.72, 0.74), (0.70, 0.64), (0.42, 0.66)], BEAK)
    brush.ellipse(0.26, 0.74, 0.25, 0.24, yellow)
    eye(brush, 0.32, 0.80, 0.045)


def swan(brush: Brush, color: Color, is_dark: bool) -> None:
    """A white swan with a curved neck."""
    brush.polygon([(-0.40, 0.30), (-0.66, 0.58), (-0.20, 0.48)], shade(WHITE, 0.9))
    brush.ellipse(-0.08, 0.24, 0.48, 0.24, WHITE)
    brush.polygon([(-0.56, 0.46), (-0.40, 0.16), (0.16, 0.18), (0.10, 0.42), (-0.20, 0.52)], (0.84, 0.88, 0.95))
    brush.line([(0.26, 0.22), (0.42, 0.42), (0.30, 0.64), (0.28, 0.84), (0.44, 0.90)], 0.13, WHITE)
    brush.ellipse(0.42, 0.90, 0.13, 0.10, WHITE)
    brush.polygon([(0.52, 0.94), (0.74, 0.84), (0.52, 0.84)], BEAK)
    brush.ellipse(0.52, 0.92, 0.04, 0.04, BLACK)


def penguin(brush: Brush, color: Color, is_dark: bool) -> None:
    """A penguin, black and white."""
    for x in (-0.13, 0.13):
        brush.ellipse(x, 0.03, 0.14, 0.05, BEAK)
    for sign in (-1, 1):
        brush.polygon([(0.22 * sign, 0.66), (0.46 * sign, 0.28), (0.24 * sign, 0.34)], BLACK)
    brush.ellipse(0.0, 0.44, 0.33, 0.42, (0.16, 0.18, 0.26))
    brush.ellipse(0.0, 0.38, 0.24, 0.35, WHITE)
    brush.ellipse(0.0, 0.80, 0.24, 0.21, (0.16, 0.18, 0.26))
    for x in (-0.09, 0.09):
        brush.ellipse(x, 0.80, 0.10, 0.11, WHITE)
        eye(brush, x, 0.82, 0.04)
    brush.polygon([(-0.09, 0.77), (0.09, 0.77), (0.0, 0.65)], BEAK)


def owl(brush: Brush, color: Color, is_dark: bool) -> None:
    """An owl with large round eyes."""
    brown = (0.58, 0.38, 0.22)
    for sign in (-1, 1):
        brush.polygon([(0.10 * sign, 0.86), (0.34 * sign, 1.04), (0.34 * sign, 0.72)], brown)
        brush.ellipse(0.12 * sign, 0.03, 0.10, 0.04, BEAK)
    brush.ellipse(0.0, 0.46, 0.37, 0.44, brown)
    brush.ellipse(0.0, 0.32, 0.24, 0.28, (0.90, 0.76, 0.54))
    for sign in (-1, 1):
        brush.ellipse(0.31 * sign, 0.40, 0.11, 0.25, shade(brown, 0.68))
        brush.ellipse(0.16 * sign, 0.70, 0.17, 0.17, (0.99, 0.93, 0.70))
        brush.ellipse(0.15 * sign, 0.70, 0.085, 0.085, BLACK)
    brush.polygon([(-0.07, 0.62), (0.07, 0.62), (0.0, 0.48)], BEAK)


def bird(brush: Brush, color: Color, is_dark: bool) -> None:
    """A gull in flight with raised wings."""
    under = (0.62, 0.68, 0.80)
    brush.polygon([(0.0, 0.46), (-0.24, 0.92), (-0.84, 1.0), (-0.46, 0.72), (-0.28, 0.44)], under)
    brush.polygon([(-0.26, 0.46), (-0.66, 0.34), (-0.26, 0.34)], WHITE)
    brush.ellipse(0.0, 0.42, 0.38, 0.15, WHITE)
    brush.ellipse(0.38, 0.52, 0.14, 0.12, WHITE)
    brush.polygon([(0.18, 0.44), (0.24, 1.0), (0.80, 1.04), (0.46, 0.76), (-0.12, 0.44)], WHITE)
    brush.polygon([(0.56, 0.92), (0.80, 1.04), (0.62, 0.84)], BLACK)
    brush.polygon([(0.49, 0.56), (0.68, 0.49), (0.49, 0.46)], BEAK)
    brush.ellipse(0.42, 0.55, 0.03, 0.03, BLACK)


def whale(brush: Brush, color: Color, is_dark: bool) -> None:
    """A blue whale that spouts."""
    blue, spray = (0.20, 0.42, 0.74), (0.80, 0.93, 1.0)
    brush.line([(0.24, 0.50), (0.24, 0.82), (0.06, 0.96)], 0.07, spray)
    brush.line([(0.24, 0.50), (0.24, 0.82), (0.44, 0.96)], 0.07, spray)
    brush.polygon(
        [(-0.34, 0.40), (-0.66, 0.56), (-0.96, 0.86), (-0.70, 0.82), (-0.56, 1.0), (-0.46, 0.70), (-0.10, 0.50)], blue
    )
    brush.polygon(
        [(-0.66, 0.16), (-0.40, 0.44), *arc(0.16, 0.22, 0.60, 0.34, 130, -30), (0.60, 0.0), (-0.40, 0.0)], blue
    )
    brush.polygon([(-0.30, 0.0), (-0.10, 0.13), (0.40, 0.17), (0.74, 0.12), (0.62, 0.0)], (0.86, 0.92, 0.97))
    eye(brush, 0.52, 0.28, 0.045)


def fish(brush: Brush, color: Color, is_dark: bool) -> None:
    """A fish with two white stripes that jumps from a splash."""
    for x, y in ((-0.36, 0.06), (-0.14, 0.02), (0.14, 0.04), (0.36, 0.08)):
        brush.ellipse(x, y, 0.12, 0.06, (0.86, 0.95, 1.0))
    brush.polygon([(-0.26, 0.56), (-0.68, 0.90), (-0.58, 0.56), (-0.68, 0.24)], shade(color, 0.85))
    brush.polygon([(-0.10, 0.76), (0.06, 0.98), (0.26, 0.76)], shade(color, 0.85))
    brush.ellipse(0.08, 0.56, 0.46, 0.29, color)
    for x, tall in ((-0.10, 0.25), (0.22, 0.26)):
        brush.box(x - 0.05, 0.56 - tall, x + 0.05, 0.56 + tall, WHITE)
    brush.ellipse(0.38, 0.62, 0.07, 0.07, WHITE)
    brush.ellipse(0.39, 0.62, 0.04, 0.04, BLACK)


def turtle(brush: Brush, color: Color, is_dark: bool) -> None:
    """A turtle with a patterned shell."""
    skin, shell = (0.55, 0.76, 0.36), (0.20, 0.46, 0.28)
    for x in (-0.36, 0.30):
        brush.ellipse(x, 0.10, 0.15, 0.11, skin)
    brush.ellipse(0.66, 0.40, 0.19, 0.16, skin)
    brush.polygon([(0.36, 0.14), (0.44, 0.34), (0.62, 0.44), (0.66, 0.28)], skin)
    brush.polygon([(-0.50, 0.20), (-0.74, 0.12), (-0.50, 0.12)], skin)
    brush.polygon(arc(-0.06, 0.14, 0.56, 0.62, 0, 180), shell)
    brush.box(-0.62, 0.12, 0.50, 0.20, (0.86, 0.74, 0.42))
    for x, y, r in (
        (-0.36, 0.36, 0.11),
        (-0.06, 0.40, 0.13),
        (0.24, 0.36, 0.11),
        (-0.20, 0.60, 0.08),
        (0.10, 0.60, 0.08),
    ):
        brush.ellipse(x, y, r, r * 0.85, (0.42, 0.66, 0.34))
    eye(brush, 0.72, 0.45, 0.04)


def butterfly(brush: Brush, color: Color, is_dark: bool) -> None:
    """A butterfly with its four wings spread."""
    for sign in (-1, 1):
        brush.polygon(
            [(0.03 * sign, 0.50), (0.22 * sign, 0.96), (0.60 * sign, 0.98), (0.66 * sign, 0.66), (0.40 * sign, 0.46)],
            color,
        )
        brush.ellipse(0.32 * sign, 0.28, 0.26, 0.26, shade(color, 0.80))
        brush.ellipse(0.44 * sign, 0.78, 0.11, 0.11, GOLD if color != GOLD else WHITE)
        brush.ellipse(0.32 * sign, 0.26, 0.09, 0.09, WHITE)
        brush.line([(0.0, 0.82), (0.14 * sign, 1.04)], 0.03, BLACK)
    brush.ellipse(0.0, 0.50, 0.06, 0.36, shade(GRAY, 0.3))
