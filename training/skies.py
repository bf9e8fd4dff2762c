"""Paints the sky of a scene: gradient, sun or moon, stars, aurora, rainbow, clouds, and what falls from it."""

import numpy as np
from PIL import Image, ImageDraw

from training.canvas import Array, Canvas, fractal, mix, noise, smoothstep
from training.moods import Mood

# How high over the horizon the light stands, as a share of the sky: (lowest, highest).
_HEIGHTS = {
    "dawn": (0.06, 0.22), "morning": (0.38, 0.60), "noon": (0.66, 0.84),
    "sunset": (0.05, 0.24), "dusk": (0.35, 0.70), "night": (0.45, 0.76),
}  # fmt: skip


def light_position(canvas: Canvas, time: str, light: str, side: str) -> tuple[float, float]:
    """Where the sun or moon stands, in units; `side` is the side it keeps clear for the thing."""
    low, high = _HEIGHTS[time]
    if "moon" in light:
        low, high = 0.45, 0.76
    share = {"left": (0.58, 0.84), "right": (0.16, 0.42), "middle": (0.2, 0.8)}[side]
    x = canvas.rng.uniform(*share) * canvas.width
    return x, canvas.horizon * (1 - canvas.rng.uniform(low, high))


def paint_gradient(canvas: Canvas, mood: Mood) -> None:
    """Fill the picture with the sky, top to horizon."""
    share = np.clip(canvas.y[:, 0] / canvas.horizon, 0, 1)
    bend = canvas.rng.uniform(0.5, 0.68)
    stops = np.stack([mood.top, mix(mood.top, mood.middle, 0.55), mood.middle, mood.horizon])
    column = np.stack([np.interp(share, [0, bend * 0.5, bend, 1], stops[:, c]) for c in range(3)], -1)
    canvas.pixels[:] = column[:, None, :]


def paint_stars(canvas: Canvas, amount: int) -> None:
    """A few larger and many small stars, denser towards the top."""
    for _ in range(amount):
        x = canvas.rng.uniform(0, canvas.width)
        y = canvas.horizon * canvas.rng.beta(1.0, 1.6) * 0.95
        radius = canvas.rng.uniform(0.5, 1.0) * 0.0085
        column, row = int(x * canvas.unit), int(y * canvas.unit)
        reach = int(radius * canvas.unit * 2) + 2
        box = np.s_[max(0, row - reach) : row + reach, max(0, column - reach) : column + reach]
        away = np.hypot(canvas.x - x, canvas.y[box[0]] - y)[:, box[1]]
        shine = np.exp(-((away / radius) ** 2))[..., None] * canvas.rng.uniform(0.6, 1.0)
        canvas.pixels[box] += shine * (np.asarray((1.0, 0.98, 0.92)) - canvas.pixels[box])


def paint_sun(canvas: Canvas, mood: Mood, at: tuple[float, float], is_low: bool) -> None:
    """The sun's disc and its wide glow."""
    away = canvas.distance(*at)
    radius = canvas.rng.uniform(0.062, 0.085) * (1.3 if is_low else 1.0)
    canvas.glow(np.exp(-((away / (0.55 if is_low else 0.38)) ** 2)) * 0.42, mood.light)
    canvas.glow(np.exp(-((away / (radius * 2.1)) ** 2)) * 0.6, mood.light)
    canvas.blend(canvas.disc(*at, radius), mix(mood.light, (1, 1, 0.94), 0.55))


def paint_moon(canvas: Canvas, mood: Mood, at: tuple[float, float], is_full: bool) -> None:
    """A full moon with soft seas, or a crescent."""
    radius = canvas.rng.uniform(0.080, 0.110)
    strength = 0.35 if is_full else 0.16
    canvas.glow(np.exp(-((canvas.distance(*at) / 0.34) ** 2)) * strength, (0.62, 0.72, 0.95))
    disc = canvas.disc(*at, radius)
    if is_full:
        face = noise(canvas.rng, canvas.shape, (14, 14))[..., None] * 0.13
        canvas.blend(disc, np.asarray((0.99, 0.97, 0.88), np.float32) - face)
        return
    sign = canvas.rng.choice((-1, 1))
    bite = canvas.disc(at[0] + sign * radius * 0.48, at[1] - radius * 0.22, radius * 0.92)
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
        color = mix((0.15, 0.95, 0.55), (0.15, 0.95, 0.55), 0) + violet * np.asarray((0.40, -0.60, 0.30), np.float32)
        canvas.glow(body * streaks * 0.68, color)


def paint_rainbow(canvas: Canvas) -> None:
    """A wide arc that stands on the horizon."""
    x = canvas.rng.uniform(0.3, 0.7) * canvas.width
    radius = canvas.rng.uniform(0.44, 0.60)
    away = np.hypot(canvas.x - x, (canvas.y - canvas.horizon * 1.04) * 1.05)
    hues = [(0.95, 0.25, 0.25), (1.0, 0.62, 0.2), (1.0, 0.93, 0.3), (0.3, 0.85, 0.4), (0.25, 0.55, 1.0), (0.55, 0.3, 0.85)]
    for index, hue in enumerate(hues):
        band = np.exp(-(((away - radius + index * 0.02) / 0.013) ** 2))
        canvas.blend(band * 0.55, hue)


def _cloud_colors(mood: Mood, sky: str) -> tuple[Array, Array]:
    """The lit top and the shaded foot of a cloud."""
    if sky == "storm":
        return mood.lit((0.50, 0.53, 0.60)), mood.lit((0.20, 0.22, 0.28))
    lit = mix(mood.lit((1.0, 1.0, 1.0)), mood.light * (1 - 0.75 * mood.dark), 0.35)
    return lit, mix(mood.lit((0.72, 0.76, 0.86)), mood.middle, 0.45)


def paint_clouds(canvas: Canvas, mood: Mood, sky: str, cover: float) -> None:
    """Drifting clouds; cover 0..1 is the share of the sky they take."""
    height, width = canvas.shape
    field = fractal(canvas.rng, canvas.shape, (max(3, round(5 * height / canvas.unit)), max(3, round(3 * width / canvas.unit))))
    share = np.clip(canvas.y / canvas.horizon, 0, 1.2)
    edge = np.quantile(field, 1 - cover)
    body = smoothstep(edge - 0.03, edge + 0.13, field) * smoothstep(1.02, 0.8, share)
    lift = int(0.035 * canvas.unit)
    shade = np.clip(0.5 + (np.roll(field, -lift, 0) - field) * 5, 0, 1)[..., None]
    lit, foot = _cloud_colors(mood, sky)
    canvas.blend(body * (0.92 if cover > 0.3 else 0.8), foot + (lit - foot) * shade)


def paint_lightning(canvas: Canvas) -> None:
    """One forked bolt from the clouds to the horizon, with its flash."""
    x, y = canvas.rng.uniform(0.2, 0.8) * canvas.width, 0.08
    points = [(x, y)]
    while y < canvas.horizon:
        x, y = x + canvas.rng.uniform(-0.07, 0.07), y + canvas.rng.uniform(0.05, 0.10)
        points.append((x, min(y, canvas.horizon)))
    bolt = Image.new("L", (canvas.shape[1], canvas.shape[0]))
    pixels = [(px * canvas.unit, py * canvas.unit) for px, py in points]
    ImageDraw.Draw(bolt).line(pixels, fill=255, width=max(3, canvas.unit // 64), joint="curve")
    canvas.glow(np.exp(-(((canvas.x - points[1][0]) / 0.22) ** 2)) * 0.30 + 0 * canvas.y, (0.70, 0.72, 1.0))
    canvas.blend(np.asarray(bolt, np.float32) / 255, (1.0, 0.98, 0.92))


def paint_falling(canvas: Canvas, mood: Mood, sky: str) -> None:
    """Snowflakes or streaks of rain over the whole picture."""
    layer = Image.new("L", (canvas.shape[1], canvas.shape[0]))
    draw = ImageDraw.Draw(layer)
    slant = canvas.rng.uniform(-0.25, 0.25)
    for _ in range(85 if sky == "snow" else 90):
        x, y = canvas.rng.uniform(0, canvas.shape[1]), canvas.rng.uniform(0, canvas.shape[0])
        if sky == "snow":
            r = canvas.rng.uniform(0.004, 0.011) * canvas.unit
            draw.ellipse([x - r, y - r, x + r, y + r], fill=225)
        else:
            tall = canvas.rng.uniform(0.05, 0.11) * canvas.unit
            draw.line([x, y, x + slant * tall, y + tall], fill=120, width=max(1, canvas.unit // 128))
    bright = np.asarray((0.96, 0.98, 1.0), np.float32) * (1 - 0.35 * mood.dark)
    canvas.blend(np.asarray(layer, np.float32) / 255, bright)


def paint_veil(canvas: Canvas, mood: Mood) -> None:
    """Fog that lies thickest around the horizon."""
    drift = 0.75 + 0.5 * (noise(canvas.rng, canvas.shape, (6, 3)) - 0.5)
    thick = np.exp(-(((canvas.y - canvas.horizon) / (0.32 * canvas.height)) ** 2))
    canvas.blend(np.clip(thick * drift * 0.85, 0, 0.85), mix(mood.horizon, mood.middle, 0.3))
