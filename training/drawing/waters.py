"""Paints water: seas and lakes that mirror what is above them, beaches and rivers."""

import numpy as np

from training.drawing.canvas import Array, Canvas, mix, noise, smoothstep
from training.drawing.moods import Mood


def mirrored(canvas: Canvas, line: float) -> Array:
    """The picture (H, W, 3) flipped about a height in units, softened sideways as in moving water."""
    row = int(line * canvas.unit)
    source = np.clip(2 * row - np.arange(canvas.shape[0]), 0, canvas.shape[0] - 1)
    flipped = canvas.pixels[source]
    soft = flipped + np.roll(flipped, 2, 1) + np.roll(flipped, -2, 1) + np.roll(flipped, 3, 0) + np.roll(flipped, -3, 0)
    return soft / 5


def _glitter(canvas: Canvas, mood: Mood, light_x: float, ripple: Array, line: float) -> None:
    """The path of light that a low sun or a moon lays on the water."""
    depth = np.clip((canvas.y - line) / (canvas.height - line), 0, 1)
    path = np.exp(-(((canvas.x - light_x) / (0.045 + 0.17 * depth)) ** 2))
    spark = smoothstep(0.42, 0.72, ripple) * 0.85 + 0.15
    canvas.blend(path * spark * canvas.below(line) * 0.85, mix(mood.light, (1, 1, 1), 0.25))


def paint_water(canvas: Canvas, mood: Mood, land: str, light_x: float | None, start: float = 0.0) -> None:
    """Water from the horizon to the front; a lake mirrors more than a sea."""
    line = canvas.horizon + start
    depth = np.clip((canvas.y - line) / (canvas.height - line), 0, 1)[..., None]
    deep = mood.lit((0.10, 0.40, 0.60)) if land == "sea" else mood.lit((0.16, 0.40, 0.50))
    near_sky = mix(mood.horizon, mood.middle, 0.5)
    water = mix(near_sky, deep, 0.45) * (1 - depth) + deep * depth
    mirror = mirrored(canvas, line)
    share = 0.62 if land == "lake" else 0.26
    ripple = noise(canvas.rng, canvas.shape, (46, 6))
    fine = noise(canvas.rng, canvas.shape, (20, 4))
    wave = 0.6 * ripple + 0.4 * fine
    strength = 0.10 if land == "lake" else 0.24
    tone = (water * (1 - share) + mirror * share) * 0.95 + (wave[..., None] - 0.5) * strength * (
        0.35 + depth
    ) * mood.ambient
    canvas.blend(canvas.below(line), np.clip(tone, 0, 1))
    if land == "sea":
        _crests(canvas, mood, line)
    if light_x is not None:
        _glitter(canvas, mood, light_x, ripple, line)


def _crests(canvas: Canvas, mood: Mood, line: float) -> None:
    """White crests in rows, always in the same places, that grow to the front: a lake has none."""
    for row, share in enumerate((0.10, 0.28, 0.52, 0.82)):
        step, tall = 0.20 + 0.16 * share, 0.010 + 0.020 * share
        y = line + (canvas.height - line) * share
        phase = (canvas.x / step + 0.5 * (row % 2)) % 1 - 0.5
        arc = y + tall * 2.5 * (np.abs(phase) * 2) ** 2
        stroke = np.exp(-(((canvas.y - arc) / (tall * 0.55)) ** 2)) * smoothstep(0.40, 0.30, np.abs(phase))
        canvas.blend(stroke * 0.75, mix(mood.lit((0.95, 0.98, 1.0)), mood.horizon, 0.2))


def paint_beach(canvas: Canvas, mood: Mood, light_x: float | None) -> None:
    """Sea behind, foam in between, sand in front."""
    paint_water(canvas, mood, "sea", light_x)
    shore = canvas.ridge(canvas.horizon + (canvas.height - canvas.horizon) * 0.42, 0.03, 0.7)
    shore = shore + (canvas.x - canvas.width / 2) * canvas.rng.uniform(-0.15, 0.15)
    canvas.blend(np.exp(-(((canvas.y - shore + 0.012) / 0.018) ** 2)) * 0.9, mood.lit((0.97, 0.99, 1.0)))
    depth = np.clip((canvas.y - shore) / 0.4, 0, 1)[..., None]
    canvas.blend(canvas.below(shore), mood.lit((0.93, 0.82, 0.60)) * (0.86 + 0.20 * np.sqrt(depth)))


def paint_river(canvas: Canvas, mood: Mood) -> None:
    """A river that winds from the horizon to the front right, widens on its way and leaves room for a thing."""
    depth = np.clip((canvas.y - canvas.horizon) / (canvas.height - canvas.horizon), 0, 1)
    bend = np.sin(depth**0.6 * canvas.rng.uniform(5, 8) + canvas.rng.uniform(0, 6.3))
    middle = canvas.width * (0.5 + 0.36 * depth) + bend * (0.05 + 0.10 * depth)
    half = 0.022 + 0.20 * depth**1.2
    body = np.clip((half - np.abs(canvas.x - middle)) * canvas.unit / 2, 0, 1) * canvas.below(canvas.horizon + 0.005)
    ripple = noise(canvas.rng, canvas.shape, (30, 5))[..., None] - 0.5
    tone = (
        mix(mood.horizon, mood.middle, 0.5) * 0.9 * (1 - depth[..., None])
        + mood.lit((0.20, 0.48, 0.64)) * depth[..., None]
    )
    bank = np.clip((half + 0.015 - np.abs(canvas.x - middle)) * canvas.unit / 2, 0, 1) * canvas.below(
        canvas.horizon + 0.005
    )
    canvas.blend(bank, mood.lit((0.66, 0.62, 0.42), 0.2))
    canvas.blend(body, tone + ripple * 0.12 * mood.ambient)
