"""Paints the sky of a scene: gradient, sun or moon, stars, aurora, rainbow, clouds, and what falls from it."""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from training.drawing.canvas import Array, Canvas, fractal, mix, noise, smoothstep
from training.drawing.moods import Mood

# How high over the horizon the light stands, as a share of the sky: (lowest, highest).
_HEIGHTS = {
    "dawn": (0.06, 0.22), "morning": (0.45, 0.60), "noon": (0.68, 0.80),
    "sunset": (0.06, 0.22), "dusk": (0.35, 0.70), "night": (0.45, 0.76),
}  # fmt: skip


def light_position(
    canvas: Canvas, rng: np.random.Generator, time: str, light: str, is_left: bool
) -> tuple[float, float]:
    """Where the sun or moon stands, in units; on the side that the thing leaves free."""
    low, high = (0.58, 0.74) if "moon" in light or light == "comet" else _HEIGHTS[time]
    x = (0.22 if is_left else 0.78) + rng.uniform(-0.05, 0.05)
    return x * canvas.width, canvas.horizon * (1 - rng.uniform(low, high))


def paint_gradient(canvas: Canvas, mood: Mood) -> None:
    """Fill the picture with the sky, top to horizon."""
    share = np.clip(canvas.y[:, 0] / canvas.horizon, 0, 1)
    bend = canvas.rng.uniform(0.5, 0.68)
    stops = np.stack([mood.top, mix(mood.top, mood.middle, 0.55), mood.middle, mood.horizon])
    column = np.stack([np.interp(share, [0, bend * 0.5, bend, 1], stops[:, c]) for c in range(3)], -1)
    canvas.pixels[:] = column[:, None, :]


def paint_bright_stars(canvas: Canvas) -> None:
    """A sky full of bold stars, always in the same places."""
    rays = Image.new("L", (canvas.shape[1], canvas.shape[0]))
    draw = ImageDraw.Draw(rays)
    for x, y, share in _lattice(canvas, 0.17, seed=7):
        if y > (canvas.horizon - 0.05) * canvas.unit:
            continue
        far, near = (0.030 + 0.022 * share) * canvas.unit, (0.009 + 0.006 * share) * canvas.unit
        corners = [(0, -far), (near, -near), (far, 0), (near, near), (0, far), (-near, near), (-far, 0), (-near, -near)]
        draw.polygon([(x + dx, y + dy) for dx, dy in corners], fill=245)
    canvas.blend(np.asarray(rays, np.float32) / 255, (1.0, 0.97, 0.82))


def paint_sun(canvas: Canvas, mood: Mood, at: tuple[float, float], is_low: bool) -> None:
    """The sun's disc and its wide glow."""
    away = canvas.distance(*at)
    radius = canvas.rng.uniform(0.080, 0.095) * (1.2 if is_low else 1.0)
    canvas.glow(np.exp(-((away / (0.55 if is_low else 0.38)) ** 2)) * 0.42, mood.light)
    canvas.glow(np.exp(-((away / (radius * 2.1)) ** 2)) * 0.6, mood.light)
    canvas.blend(canvas.disc(*at, radius), mix(mood.light, (1, 1, 0.94), 0.55))


def paint_moon(canvas: Canvas, at: tuple[float, float], is_full: bool) -> None:
    """A full moon with soft seas, or a crescent."""
    radius = canvas.rng.uniform(0.100, 0.112) * (1.0 if is_full else 1.4)
    if is_full:
        canvas.glow(np.exp(-((canvas.distance(*at) / 0.34) ** 2)) * 0.35, (0.62, 0.72, 0.95))
    disc = canvas.disc(*at, radius)
    if is_full:
        face = noise(canvas.rng, canvas.shape, (14, 14))[..., None] * 0.13
        canvas.blend(disc, np.asarray((0.99, 0.97, 0.88), np.float32) - face)
        return
    bite = canvas.disc(at[0] + radius * 0.55, at[1] - radius * 0.24, radius * 0.86)
    canvas.blend(disc * (1 - bite), (0.99, 0.95, 0.80))


def paint_aurora(canvas: Canvas) -> None:
    """Two or three curtains of green light that turn violet upwards."""
    streaks = 0.45 + 0.55 * noise(canvas.rng, (1, canvas.shape[1]), (1, 22))
    for _ in range(int(canvas.rng.integers(2, 4))):
        foot = canvas.ridge(canvas.horizon * canvas.rng.uniform(0.42, 0.85), 0.11, 0.75)
        tall = canvas.horizon * canvas.rng.uniform(0.38, 0.62)
        rise = (foot - canvas.y) / tall
        body = np.where(rise > 0, np.exp(-rise * 2.4), np.exp(-((rise * 9) ** 2)))
        violet = smoothstep(0.2, 0.95, rise)[..., None]
        color = np.asarray((0.15, 0.95, 0.55), np.float32) + violet * np.asarray((0.40, -0.60, 0.30), np.float32)
        canvas.glow(body * streaks * 0.68, color)


def paint_rainbow(canvas: Canvas) -> None:
    """A wide arc that stands on the horizon."""
    x = canvas.rng.uniform(0.48, 0.52) * canvas.width
    radius = canvas.rng.uniform(0.49, 0.52)
    away = np.hypot(canvas.x - x, (canvas.y - canvas.horizon * 1.04) * 1.05)
    hues = [
        (0.95, 0.25, 0.25),
        (1.0, 0.62, 0.2),
        (1.0, 0.93, 0.3),
        (0.3, 0.85, 0.4),
        (0.25, 0.55, 1.0),
        (0.55, 0.3, 0.85),
    ]
    for index, hue in enumerate(hues):
        band = np.exp(-(((away - radius + index * 0.030) / 0.020) ** 2))
        canvas.blend(band * 0.75, hue)


def paint_comet(canvas: Canvas, at: tuple[float, float]) -> None:
    """A shooting star that falls inwards, its tail behind it."""
    sign = 1 if at[0] < canvas.width / 2 else -1
    ahead = sign * (canvas.x - at[0])
    beside = canvas.y - at[1] - ahead * 0.5
    tail = np.exp(-((beside / 0.032) ** 2)) * np.clip(1 + ahead / 0.42, 0, 1) * (ahead < 0)
    canvas.glow(tail, (0.70, 0.86, 1.0))
    canvas.glow(np.exp(-((canvas.distance(*at) / 0.065) ** 2)), (1.0, 1.0, 0.95))


def paint_fireworks(canvas: Canvas, rng: np.random.Generator) -> None:
    """Three bursts of colored sparks."""
    hues = ((1.0, 0.35, 0.35), (1.0, 0.82, 0.30), (0.45, 0.75, 1.0))
    for share, height, hue in zip((0.22, 0.52, 0.80), (0.62, 0.80, 0.56), hues, strict=True):
        x, y = (share + rng.uniform(-0.04, 0.04)) * canvas.width, canvas.horizon * (1 - height) + 0.02
        dx, dy = canvas.x - x, canvas.y - y
        away, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
        rays = smoothstep(0.35, 0.9, np.cos(angle * 9 + rng.uniform(0, 6)))
        canvas.glow(
            np.clip(
                rays * smoothstep(0.17, 0.10, away) * smoothstep(0.0, 0.05, away) + np.exp(-((away / 0.03) ** 2)), 0, 1
            ),
            hue,
        )
        canvas.glow(np.exp(-((away / 0.16) ** 2)) * 0.25, hue)


def paint_lanterns(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paper lanterns that float in the sky, large and near or small and far."""
    spots = (
        (0.14, 0.30, 1.0),
        (0.36, 0.62, 0.6),
        (0.52, 0.22, 0.8),
        (0.70, 0.56, 0.7),
        (0.86, 0.26, 1.0),
        (0.24, 0.80, 0.5),
        (0.84, 0.84, 0.5),
    )
    for share, height, scale in spots:
        x, y = (share + rng.uniform(-0.015, 0.015)) * canvas.width, canvas.horizon * (height + rng.uniform(-0.02, 0.02))
        half = 0.048 * scale
        body = np.clip((half - np.abs(canvas.x - x)) * canvas.unit + 0.5, 0, 1) * np.clip(
            (half * 1.3 - np.abs(canvas.y - y)) * canvas.unit + 0.5, 0, 1
        )
        canvas.glow(np.exp(-((canvas.distance(x, y) / (0.10 * scale)) ** 2)) * 0.6, (1.0, 0.55, 0.18))
        bright = np.clip(0.5 + (canvas.y - y) / (half * 2.6), 0, 1)[..., None] + 0 * canvas.pixels
        canvas.blend(
            body,
            np.asarray((1.0, 0.52, 0.16), np.float32) * (1 - bright)
            + np.asarray((1.0, 0.90, 0.52), np.float32) * bright,
        )


_BANK = tuple(
    (share, 0.045, 1.0) for share in (0.0, 0.25, 0.5, 0.75, 1.0)
)  # of clouds: x as a share of the width, y, scale


def _cloud_colors(mood: Mood, sky: str) -> tuple[Array, Array]:
    """The lit top and the shaded foot of a cloud."""
    if sky == "storm":
        return mood.lit((0.50, 0.53, 0.60)), mood.lit((0.20, 0.22, 0.28))
    if sky == "rain":
        return mood.lit((0.62, 0.66, 0.74)), mood.lit((0.36, 0.40, 0.48))
    lit = mix(mood.lit((1.0, 1.0, 1.0)), mood.light * (1 - 0.75 * mood.dark), 0.35)
    return lit, mix(mood.lit((0.72, 0.76, 0.86)), mood.middle, 0.45)


def paint_storm(canvas: Canvas, mood: Mood) -> None:
    """A nearly closed sky of dark drifting clouds."""
    height, width = canvas.shape
    field = fractal(
        canvas.rng, canvas.shape, (max(3, round(5 * height / canvas.unit)), max(3, round(3 * width / canvas.unit)))
    )
    share = np.clip(canvas.y / canvas.horizon, 0, 1.2)
    edge = np.quantile(field, 0.15)
    body = smoothstep(edge - 0.03, edge + 0.13, field) * smoothstep(1.02, 0.8, share)
    lift = int(0.035 * canvas.unit)
    shade = np.clip(0.5 + (np.roll(field, -lift, 0) - field) * 5, 0, 1)[..., None]
    lit, foot = _cloud_colors(mood, "storm")
    canvas.blend(body * 0.92, foot + (lit - foot) * shade)


def paint_heaps(canvas: Canvas, mood: Mood, sky: str) -> None:
    """Heaped clouds with flat feet, nearly always in the same places.

    Some that drift, or for rain one bank along the top.
    """
    spots = (
        ((0.20, 0.21, 1.0), (0.66, 0.13, 0.95), (0.93, 0.31, 0.8), (0.46, 0.38, 0.7), (0.02, 0.43, 0.7))
        if sky == "cloudy"
        else _BANK
    )
    lit, foot = _cloud_colors(mood, sky)
    for share, y, scale in spots:
        x, y = (
            (share + canvas.rng.uniform(-0.03, 0.03)) * canvas.width,
            y * canvas.horizon / 0.57 + canvas.rng.uniform(-0.02, 0.02),
        )
        body = np.zeros(canvas.shape, np.float32)
        for dx, dy, radius in ((-0.13, 0.02, 0.07), (-0.04, -0.03, 0.10), (0.07, -0.01, 0.085), (0.15, 0.03, 0.055)):
            body = np.maximum(body, canvas.disc(x + dx * scale, y + dy * scale, radius * scale))
        body *= np.clip((y + 0.06 * scale - canvas.y) * canvas.unit + 0.5, 0, 1)
        canvas.blend(body * 0.95, foot + (lit - foot) * smoothstep(0.05, -0.07, (canvas.y - y) / scale)[..., None])


def paint_lightning(canvas: Canvas, at: tuple[float, float]) -> None:
    """One jagged bolt from the clouds to the horizon, with its flash."""
    x, y = at[0], 0.06
    points, bend = [(x, y)], -0.07
    while y < canvas.horizon:
        x, y, bend = x + bend, y + 0.12, -0.8 * bend
        points.append((x, min(y, canvas.horizon)))
    bolt = Image.new("L", (canvas.shape[1], canvas.shape[0]))
    pixels = [(px * canvas.unit, py * canvas.unit) for px, py in points]
    ImageDraw.Draw(bolt).line(pixels, fill=255, width=max(3, canvas.unit // 36), joint="curve")
    canvas.glow(np.exp(-(((canvas.x - points[1][0]) / 0.22) ** 2)) * 0.40 + 0 * canvas.y, (0.70, 0.72, 1.0))
    canvas.blend(np.asarray(bolt, np.float32) / 255, (1.0, 0.98, 0.92))


def _lattice(canvas: Canvas, step: float, seed: int) -> Iterator[tuple[float, float, float]]:
    """Spots (x, y) in pixels all over the picture, and how large each is, 0 to 1.

    They are the same for every scene of a size.
    """
    rng = np.random.default_rng(seed)
    rows, columns = (int(np.ceil(length / step)) + 1 for length in (canvas.height, canvas.width))
    for row in range(rows):
        for column in range(columns):
            x = (column + 0.5 * (row % 2) + rng.uniform(-0.28, 0.28)) * step
            y = (row + 0.5 + rng.uniform(-0.28, 0.28)) * step
            yield x * canvas.unit, y * canvas.unit, rng.uniform()


def paint_falling(canvas: Canvas, mood: Mood, sky: str) -> None:
    """Snowflakes or streaks of rain behind the things.

    They are large and always in the same places: a small model blurs everything else away.
    """
    layer = Image.new("L", (canvas.shape[1], canvas.shape[0]))
    draw = ImageDraw.Draw(layer)
    for x, y, share in _lattice(canvas, 0.21, seed=5) if sky == "snow" else _lattice(canvas, 0.25, seed=6):
        if sky == "snow":
            r = (0.026 + 0.012 * share) * canvas.unit
            draw.ellipse([x - r, y - r, x + r, y + r], fill=245)
        else:
            tall = (0.20 + 0.06 * share) * canvas.unit
            draw.line([x, y - tall / 2, x - 0.35 * tall, y + tall / 2], fill=190, width=max(2, canvas.unit // 30))
    bright = np.asarray((0.97, 0.98, 1.0) if sky == "snow" else (0.72, 0.84, 0.98), np.float32) * (1 - 0.3 * mood.dark)
    canvas.blend(np.asarray(layer, np.float32) / 255, bright)


def paint_cover(canvas: Canvas, mood: Mood) -> None:
    """Fresh snow on the land that is painted so far."""
    canvas.blend((canvas.depth > 0) * 0.45, mood.lit((0.97, 0.98, 1.0), 0.2))


def paint_veil(canvas: Canvas, mood: Mood) -> None:
    """Fog that lies thickest around the horizon."""
    drift = 0.9 + 0.2 * noise(canvas.rng, canvas.shape, (6, 3))
    thick = np.exp(-(((canvas.y - canvas.horizon) / (0.36 * canvas.height)) ** 2))
    canvas.blend(np.clip(thick * drift * 0.84, 0, 0.84), mix(mood.horizon, mood.middle, 0.3))
