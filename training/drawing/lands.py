"""Paints what lies behind the horizon (`paint_backdrop`) and the land in front of it (`paint_land`)."""

import numpy as np

from training.drawing.canvas import Array, Canvas, fractal, mix, noise, smoothstep
from training.drawing.moods import Mood
from training.drawing.waters import paint_beach, paint_river, paint_water

GROUND_COLORS: dict[str, dict[str, tuple[float, float, float]]] = {
    "hills": {"green": (0.40, 0.64, 0.26), "golden": (0.85, 0.66, 0.28), "purple": (0.56, 0.42, 0.66)},
    "meadow": {"green": (0.44, 0.68, 0.30)},
    "field": {"golden": (0.90, 0.73, 0.30), "purple": (0.53, 0.38, 0.72), "green": (0.46, 0.68, 0.28)},
    "desert": {"golden": (0.93, 0.75, 0.46), "red": (0.86, 0.50, 0.32), "white": (0.95, 0.90, 0.80)},
    "canyon": {"red": (0.76, 0.36, 0.24), "orange": (0.88, 0.55, 0.30)},
    "forest": {"green": (0.18, 0.42, 0.24), "golden": (0.86, 0.52, 0.18)},
}


def _layers(canvas: Canvas, mood: Mood, color: Array, rows: int, swing: float, bumps: float) -> None:
    """Soft ridges from the horizon to the front, the far ones faded and the near ones deeper."""
    for index in range(rows):
        share = index / rows
        y = canvas.horizon + (canvas.height - canvas.horizon) * share**1.25 * 0.92
        edge = canvas.ridge(y, swing * (0.45 + 0.55 * share), bumps * (1.25 - 0.45 * share))
        tone = mood.lit(color * (1.10 - 0.28 * share), 0.75 * (1 - share))
        depth = np.clip((canvas.y - edge) / 0.30, 0, 1)[..., None]
        canvas.blend(canvas.below(edge), tone * (1.10 - 0.26 * depth))


def paint_mountains(canvas: Canvas, mood: Mood, foot: float, tall: float, depth: float) -> None:
    """Peaks with a lit and a shaded side and snow on top, nearly always in the same places; heights in units."""
    count = round(4 * canvas.width)
    heights = (0.78, 1.0, 0.66, 0.90)
    peaks = [
        (canvas.across((index + canvas.rng.uniform(0.4, 0.6)) / count), tall * heights[index % 4])
        for index in range(count)
    ]
    rough = (noise(canvas.rng, canvas.shape, (9, 14)) - 0.5) * 0.04
    rock, white = mood.lit((0.46, 0.47, 0.56), depth), mood.lit((0.97, 0.98, 1.0), depth * 0.5)
    for x, high in sorted(peaks, key=lambda peak: peak[1], reverse=True):
        slope = 1.25 / (1 + 0.4 * (canvas.width > 1.3))
        edge = foot - high + np.abs(canvas.x - x) / slope + rough
        body = canvas.below(edge) * (canvas.y < foot + 0.03)
        side = smoothstep(-0.015, 0.02, canvas.x - x + rough * 1.6 + (canvas.y - foot) * 0.18)
        shade = (1.12 - 0.36 * side)[..., None]
        cap = smoothstep(0.02, -0.02, canvas.y - (foot - high * 0.62) + rough * 1.8)[..., None]
        canvas.blend(body, (rock * (1 - cap) + white * cap) * shade)


def paint_volcano(canvas: Canvas, mood: Mood) -> None:
    """One cone with a glowing crater, lava streams and a plume of smoke."""
    x, tall = canvas.rng.uniform(0.35, 0.65) * canvas.width, canvas.rng.uniform(0.30, 0.40)
    top = canvas.horizon - tall
    plume = np.exp(-(((canvas.x - x - (top - canvas.y) * 0.25) / (0.05 + np.clip(top - canvas.y, 0, 1) * 0.3)) ** 2))
    canvas.blend(plume * smoothstep(top + 0.02, top - 0.06, canvas.y) * 0.75, mood.lit((0.42, 0.38, 0.42)))
    away = np.abs(canvas.x - x)
    edge = np.maximum(canvas.horizon - tall * np.exp(-np.clip(away - 0.05, 0, 9) * 4.2), top + 0 * away)
    shade = (1.1 - 0.4 * smoothstep(-0.05, 0.05, canvas.x - x))[..., None]
    cone = canvas.below(edge) * (1 - canvas.below(canvas.horizon + 0.02))
    canvas.blend(cone, mood.lit((0.36, 0.28, 0.32), 0.3) * shade)
    wobble = canvas.ridge(0, 0.02, 2)[0, 0] + 0.025 * np.sin(canvas.y * 22)
    lava = np.exp(-(((canvas.x - x - wobble) / 0.024) ** 2)) * smoothstep(canvas.horizon, top, canvas.y) * cone
    canvas.glow(np.exp(-((canvas.distance(x, top) / 0.15) ** 2)) * 0.8, (1.0, 0.42, 0.12))
    canvas.blend(np.clip(lava * 1.3, 0, 1), (1.0, 0.50, 0.14))


def tree_line(canvas: Canvas, foot: float, tall: float, step: float, is_pine: bool) -> Array:
    """The upper edge (1, W) of a row of trees, the same ones for the same step; heights and steps in units."""
    rng = np.random.default_rng(21)
    edge = np.full_like(canvas.x, foot)
    x = -step
    while x < canvas.width + step:
        high = tall * rng.uniform(0.6, 1.0)
        wide = high * (0.30 if is_pine else 0.42)
        near = np.abs(canvas.x - x) / wide
        crown = 1 - near if is_pine else np.sqrt(np.clip(1 - near**2, 0, 1))
        edge = np.where(near < 1, np.minimum(edge, foot - high * crown), edge)
        x += step * rng.uniform(0.7, 1.3)
    return edge[:, ::-1] if canvas.mirrored else edge


def paint_forest(canvas: Canvas, mood: Mood, color: Array, foot: float, rows: int, tall: float) -> None:
    """Rows of trees from far and pale to near and deep; leaves in fall are round crowns."""
    is_pine = bool(color[1] > color[0])
    for index in range(rows):
        share = (index + 1) / rows
        y = foot + (canvas.height - foot) * 0.62 * (share - 1 / rows)
        edge = tree_line(canvas, y, tall * (0.45 + 0.55 * share), tall * (0.16 + 0.14 * share), is_pine)
        tone = mood.lit(color * canvas.rng.uniform(0.9, 1.1), 0.85 * (1 - share))
        depth = np.clip((canvas.y - edge) / tall, 0, 1)[..., None]
        canvas.blend(canvas.below(edge), tone * (1.18 - 0.45 * depth))


def paint_city(canvas: Canvas, mood: Mood, foot: float, tall: float, depth: float) -> None:
    """Two rows of towers that always stand so; their large windows are lit when it is dark."""
    rng = np.random.default_rng(8)
    for row in range(2):
        fade = depth * (0.8 - 0.5 * row)
        left = -0.04 * (1 - row)
        while left < canvas.width:
            wide = rng.uniform(0.12, 0.18)
            high = tall * rng.uniform(0.40, 1.0) * (1 - 0.25 * row)
            x = canvas.width - left - wide if canvas.mirrored else left
            block = (canvas.x >= x) & (canvas.x < x + wide) & (canvas.y > foot - high) & (canvas.y < foot + 0.01)
            tone = mood.lit(mix((0.40, 0.48, 0.62), (0.64, 0.50, 0.44), rng.random()), fade)
            side = (1.06 - 0.22 * ((canvas.x - x) > wide * 0.6))[..., None]
            canvas.blend(block.astype(np.float32), tone * side)
            inside = (
                np.sin((canvas.x - x) / wide * np.pi * 2) ** 2 * np.sin((canvas.y - foot + high) / 0.075 * np.pi) ** 2
            )
            lit = block * smoothstep(0.25, 0.6, inside) * (canvas.y > foot - high + 0.012)
            glass = (1.0, 0.85, 0.48) if mood.dark > 0.3 else mood.lit((0.80, 0.88, 0.95), fade)
            canvas.blend(lit * (0.9 if mood.dark > 0.3 else 0.5), glass)
            left += wide * rng.uniform(0.9, 1.1)


def paint_island(canvas: Canvas, mood: Mood) -> None:
    """A low round island with a sandy foot."""
    x, wide = canvas.rng.uniform(0.3, 0.7) * canvas.width, canvas.rng.uniform(0.2, 0.3)
    near = np.clip(1 - ((canvas.x - x) / wide) ** 2, 0, 1)
    bumpy = near * (0.13 + (noise(canvas.rng, (1, canvas.shape[1]), (1, 9)) - 0.5) * 0.07)
    body = canvas.below(canvas.horizon + 0.01 - bumpy) * (1 - canvas.below(canvas.horizon + 0.015)) * (near > 0)
    shade = (1.1 - 0.3 * smoothstep(-0.1, 0.15, canvas.x - x))[..., None]
    canvas.blend(body, mood.lit((0.30, 0.54, 0.28), 0.3) * shade)
    sand = np.exp(-(((canvas.y - canvas.horizon - 0.008) / 0.012) ** 2)) * np.clip(near * 6, 0, 1)
    canvas.blend(sand, mood.lit((0.95, 0.84, 0.60), 0.1))


def paint_canyon(canvas: Canvas, mood: Mood, color: Array) -> None:
    """Mesas at the horizon and a steep wall on either side, in bold layers that always lie so."""
    strata = (
        0.84
        + 0.28 * noise(np.random.default_rng(4), (canvas.shape[0], 1), (13, 1))
        + 0.06 * (fractal(canvas.rng, canvas.shape, (8, 4)) - 0.5)
    )
    for index, (middle, wide, high) in enumerate(((0.36, 0.16, 0.15), (0.74, 0.13, 0.23), (0.52, 0.10, 0.12))):
        share, x = index / 2, canvas.across(middle)
        edge = canvas.horizon + 0.02 - high * smoothstep(wide + 0.07, wide, np.abs(canvas.x - x))
        canvas.blend(canvas.below(edge), (mood.lit(color, 0.8 - 0.4 * share) * strata[..., None]))
    canvas.blend(canvas.below(canvas.horizon + 0.03), mood.lit(color * 1.1, 0.25))
    depth = np.clip((canvas.y - canvas.horizon) / (canvas.height - canvas.horizon), 0, 1)
    for sign in (-1, 1):
        for share in (0.0, 1.0):
            reach = (0.27 if (sign < 0) == canvas.mirrored else 0.22) - 0.11 * share + 0.02 * np.sin(canvas.y * 30)
            inner = np.where(sign < 0, canvas.x - reach - depth * 0.12, canvas.width - canvas.x - reach - depth * 0.12)
            top = canvas.horizon - 0.10 - 0.13 * share + canvas.ridge(0, 0.02, 2)
            wall = np.clip(-inner * canvas.unit / 3, 0, 1) * canvas.below(top)
            tone = mood.lit(color * (0.95 - 0.2 * share - 0.08 * sign), 0.35 * (1 - share))
            canvas.blend(wall, tone * strata[..., None])


def paint_rows(canvas: Canvas, mood: Mood, color: Array) -> None:
    """A field of broad crop rows with dark soil between them, which run to one point on the horizon."""
    depth = np.clip((canvas.y - canvas.horizon) / (canvas.height - canvas.horizon), 1e-3, 1)
    point = (0.5 + canvas.rng.uniform(-0.02, 0.02)) * canvas.width
    stripes = smoothstep(0.25, 0.75, 0.5 + 0.5 * np.cos((canvas.x - point) / (depth + 0.09) * 14))[..., None]
    crop, soil = mood.lit(color * 1.08), mood.lit(color * 0.35 + np.asarray((0.13, 0.08, 0.05), np.float32))
    far = mood.lit(color, 0.5)
    near = smoothstep(0.0, 0.16, depth)[..., None] + 0 * stripes
    canvas.blend(canvas.below(canvas.horizon), far + (soil + (crop - soil) * stripes - far) * near)


# The hills of a picture from far to near: how low their foot is as a share of the ground, and each one's middle as a
# share of the width, height and half width. The far ones leave valleys at .22 and .78, where a low sun stands.
_HILLS: tuple[tuple[float, tuple[tuple[float, float, float], ...]], ...] = (
    (0.06, ((0.50, 0.19, 0.26), (-0.02, 0.22, 0.20), (1.03, 0.17, 0.22))),
    (0.34, ((0.24, 0.17, 0.30), (0.82, 0.14, 0.34))),
    (0.66, ((0.60, 0.17, 0.40), (0.02, 0.13, 0.30))),
    (1.04, ((0.14, 0.20, 0.46), (0.94, 0.24, 0.36))),
)


def paint_hills(canvas: Canvas, mood: Mood, color: Array) -> None:
    """Round hills with bushes, one behind the other, always in the same places.

    Each is bright on top and deep at its foot.
    """
    ground = canvas.height - canvas.horizon
    for index, (low, shapes) in enumerate(_HILLS):
        share = index / (len(_HILLS) - 1)
        foot = canvas.horizon + ground * low
        for shape in shapes:
            edge = canvas.dome(foot, *shape)
            depth = np.clip((canvas.y - edge) / 0.20, 0, 1)[..., None]
            tone = mood.lit(color * (1.12 - 0.10 * share), 0.55 * (1 - share) ** 2)
            canvas.blend(canvas.below(edge) * (edge < foot - 0.004), tone * (1.16 - 0.62 * depth))
        canvas.blend(canvas.below(foot), mood.lit(color * (0.62 - 0.06 * share), 0.45 * (1 - share) ** 2))
    for middle, depth in ((0.30, 0.22), (0.72, 0.34), (0.13, 0.52), (0.88, 0.60), (0.42, 0.80)):
        x, y, radius = canvas.across(middle), canvas.horizon + ground * depth, 0.022 + 0.045 * depth
        round_top = canvas.disc(x, y, radius) * np.clip((y + radius * 0.5 - canvas.y) * canvas.unit + 0.5, 0, 1)
        canvas.blend(round_top, mood.lit(color * np.asarray((0.45, 0.62, 0.50), np.float32), 0.2))


def paint_meadow(canvas: Canvas, mood: Mood, color: Array) -> None:
    """Soft grass with large flowers in four colors that grow to the front, always in the same places."""
    _layers(canvas, mood, color, 3, 0.02, 0.8)
    hues = ((0.95, 0.30, 0.36), (1.0, 0.85, 0.25), (0.98, 0.96, 0.95), (0.80, 0.45, 0.88))
    for row, share in enumerate((0.08, 0.26, 0.48, 0.74, 0.97)):
        step = 0.13 + 0.11 * share
        for column in range(int(canvas.width / step) + 2):
            x, y = (column + 0.5 * (row % 2)) * step, canvas.horizon + (canvas.height - canvas.horizon) * share
            canvas.blend(canvas.disc(x, y, 0.013 + 0.018 * share), mood.lit(hues[(column + 2 * row) % 4]))


def paint_dunes(canvas: Canvas, mood: Mood, color: Array) -> None:
    """Dunes, each with a bright windward and a shaded lee side; they always lie so."""
    rng = np.random.default_rng(16)
    for index in range(4):
        share = index / 4
        y = canvas.horizon + (canvas.height - canvas.horizon) * share * 0.9
        edge = canvas.ridge(y, 0.035 + 0.055 * share, 0.9, rng)
        slope = np.gradient(edge[0])[None, :] * canvas.unit
        depth = np.clip((canvas.y - edge) / 0.28, 0, 1)
        lee = smoothstep(0.02, 0.16, slope + 0.05 * depth) * (1 - 0.75 * depth)
        tone = mood.lit(color * (1.04 - 0.10 * share), 0.6 * (1 - share))
        canvas.blend(canvas.below(edge), tone * (1.08 - 0.36 * lee - 0.10 * depth)[..., None])


def paint_snowfield(canvas: Canvas, mood: Mood) -> None:
    """Soft blue-white drifts and a few far pines."""
    edge = tree_line(canvas, canvas.horizon + 0.01, 0.09, 0.07, True)
    canvas.blend(canvas.below(edge), mood.lit((0.24, 0.36, 0.38), 0.6))
    for index in range(3):
        share = index / 3
        edge = canvas.ridge(
            canvas.horizon + 0.015 + (canvas.height - canvas.horizon) * share * 0.85, 0.022 + 0.04 * share, 0.8
        )
        depth = np.clip((canvas.y - edge) / 0.26, 0, 1)[..., None]
        white = mood.lit((0.97, 0.98, 1.0), 0.3 * (1 - share))
        canvas.blend(canvas.below(edge), white * (1 - depth * np.asarray((0.20, 0.14, 0.06), np.float32)))


def paint_great_island(canvas: Canvas, mood: Mood, light_x: float | None) -> None:
    """An island that fills the middle of the sea: a sandy rim and a green top with room for a thing."""
    paint_water(canvas, mood, "sea", light_x)
    ground = canvas.height - canvas.horizon
    for rx, ry, lift, color in (
        (0.46, 0.25, 0.0, (0.95, 0.84, 0.58)),
        (0.40, 0.20, 0.05, (0.42, 0.66, 0.30)),
        (0.30, 0.12, 0.10, (0.50, 0.74, 0.34)),
    ):
        y = canvas.horizon + ground * (0.40 - lift)
        away = np.hypot((canvas.x - canvas.width / 2) / (rx * canvas.width), (canvas.y - y) / (ry * ground * 1.6))
        canvas.blend(
            np.clip((1 - away) * canvas.unit * 0.12, 0, 1),
            mood.lit(color, 0.1) * (1.06 - 0.2 * np.clip(away, 0, 1))[..., None],
        )


def paint_table(canvas: Canvas, mood: Mood) -> None:
    """A wooden table before the view: a soft terrace behind, the board in front."""
    canvas.blend(canvas.below(canvas.horizon), mood.lit((0.62, 0.70, 0.52), 0.3))
    edge = canvas.height * 0.70
    grain = noise(canvas.rng, canvas.shape, (30, 3))[..., None] * 0.10
    depth = np.clip((canvas.y - edge) / (canvas.height - edge), 0, 1)[..., None]
    board = mood.lit((0.74, 0.48, 0.28)) * (1.10 - 0.22 * depth) + (grain - 0.05) * mood.ambient
    canvas.blend(canvas.below(edge), board)
    canvas.blend(np.exp(-(((canvas.y - edge - 0.012) / 0.012) ** 2)) * 0.6, mood.lit((0.96, 0.76, 0.50)))
    canvas.blend(canvas.below(canvas.height * 0.95), mood.lit((0.48, 0.29, 0.17)))


def paint_quay(canvas: Canvas, mood: Mood, light_x: float | None) -> None:
    """A city on a river, and the promenade before it."""
    paint_city(canvas, mood, canvas.horizon + 0.06, 0.36, 0.5)
    canvas.blend(canvas.below(canvas.horizon + 0.06), mood.lit((0.36, 0.40, 0.46), 0.2))
    paint_water(canvas, mood, "lake", light_x, start=0.06)
    edge = canvas.horizon + (canvas.height - canvas.horizon) * 0.40
    depth = np.clip((canvas.y - edge) / 0.3, 0, 1)[..., None]
    canvas.blend(canvas.below(edge), mood.lit((0.66, 0.64, 0.64)) * (0.92 + 0.14 * depth))
    canvas.blend(np.exp(-(((canvas.y - edge - 0.01) / 0.012) ** 2)) * 0.8, mood.lit((0.86, 0.84, 0.80)))


def paint_backdrop(canvas: Canvas, mood: Mood, backdrop: str, tint: str) -> None:
    """What stands behind the land, with its foot at the horizon."""
    if backdrop == "mountains":
        paint_mountains(canvas, mood, canvas.horizon + 0.01, canvas.rng.uniform(0.20, 0.26), 0.55)
    elif backdrop == "hills":
        color = np.asarray(GROUND_COLORS["hills"].get(tint, GROUND_COLORS["hills"]["green"]), np.float32)
        for share in (0.0, 0.5, 1.0):
            edge = canvas.ridge(canvas.horizon - 0.15 + 0.09 * share, 0.05, 1.0)
            depth = np.clip((canvas.y - edge) / 0.2, 0, 1)[..., None]
            canvas.blend(
                canvas.below(edge), mood.lit(color * (1.05 - 0.2 * share), 0.65 - 0.4 * share) * (1.08 - 0.25 * depth)
            )
    elif backdrop == "forest":
        color = np.asarray(GROUND_COLORS["forest"].get(tint, GROUND_COLORS["forest"]["green"]), np.float32)
        paint_forest(canvas, mood, color, canvas.horizon + 0.01, 1, canvas.rng.uniform(0.15, 0.2))
    elif backdrop == "city":
        paint_city(canvas, mood, canvas.horizon + 0.01, canvas.rng.uniform(0.24, 0.36), 0.7)
    elif backdrop == "island":
        paint_island(canvas, mood)
    elif backdrop == "volcano":
        paint_volcano(canvas, mood)


def paint_land(canvas: Canvas, mood: Mood, land: str, tint: str, light_x: float | None) -> None:
    """The land from the horizon to the front.

    Args:
        tint: One of the colors in GROUND_COLORS for this land, or "".
        light_x: Where the sun or moon stands over water, in units; None without one.
    """
    color = np.asarray(GROUND_COLORS.get(land, {}).get(tint, (0.44, 0.66, 0.30)), np.float32)
    if land in ("sea", "lake"):
        paint_water(canvas, mood, land, light_x)
    elif land == "beach":
        paint_beach(canvas, mood, light_x)
    elif land == "river":
        _layers(canvas, mood, color, 3, 0.02, 0.8)
        paint_river(canvas, mood)
    elif land == "desert":
        paint_dunes(canvas, mood, color)
    elif land == "hills":
        paint_hills(canvas, mood, color)
    elif land == "mountains":
        paint_mountains(canvas, mood, canvas.horizon + 0.04, canvas.rng.uniform(0.34, 0.40), 0.4)
        _layers(canvas, mood, np.asarray((0.34, 0.50, 0.30), np.float32), 3, 0.05, 1.0)
    elif land == "meadow":
        paint_meadow(canvas, mood, color)
    elif land == "field":
        paint_rows(canvas, mood, color)
    elif land == "forest":
        canvas.blend(canvas.below(canvas.horizon), mood.lit(color, 0.5))
        paint_forest(canvas, mood, color, canvas.horizon + 0.02, 4, 0.30)
    elif land == "canyon":
        paint_canyon(canvas, mood, color)
    elif land == "snow":
        paint_snowfield(canvas, mood)
    elif land == "city":
        paint_quay(canvas, mood, light_x)
    elif land == "island":
        paint_great_island(canvas, mood, light_x)
    elif land == "table":
        paint_table(canvas, mood)
