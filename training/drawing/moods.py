"""What light a scene has: the colors of a sky and its ambient light, by time of day and weather."""

from dataclasses import dataclass

import numpy as np

from training.drawing.canvas import Array, mix

# top, middle, horizon of the sky; ambient light on things; color of the sun or moon; darkness 0..1
_TIMES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "dawn": ((0.42, 0.52, 0.78), (0.93, 0.72, 0.78), (1.0, 0.88, 0.72), (0.84, 0.76, 0.86), (1.0, 0.86, 0.62)),
    "morning": ((0.46, 0.72, 0.84), (0.82, 0.90, 0.80), (1.0, 0.90, 0.56), (1.02, 0.95, 0.76), (1.0, 0.93, 0.62)),
    "noon": ((0.13, 0.45, 0.86), (0.40, 0.70, 0.96), (0.80, 0.92, 0.99), (1.06, 1.06, 1.02), (1.0, 0.98, 0.80)),
    "sunset": ((0.30, 0.26, 0.54), (0.90, 0.42, 0.38), (1.0, 0.74, 0.33), (0.84, 0.60, 0.52), (1.0, 0.80, 0.36)),
    "dusk": ((0.10, 0.11, 0.33), (0.36, 0.27, 0.55), (0.92, 0.50, 0.55), (0.53, 0.42, 0.62), (1.0, 0.92, 0.80)),
    "night": ((0.02, 0.035, 0.13), (0.06, 0.10, 0.27), (0.16, 0.25, 0.45), (0.25, 0.31, 0.50), (0.97, 0.96, 0.86)),
}
_DARK = {"dawn": 0.15, "morning": 0.0, "noon": 0.0, "sunset": 0.25, "dusk": 0.6, "night": 1.0}
# gray the sky goes to, how far, how much distance fades
_WEATHER: dict[str, tuple[tuple[float, float, float], float, float]] = {
    "clear": ((0, 0, 0), 0.0, 0.45),
    "cloudy": ((0.74, 0.78, 0.84), 0.25, 0.5),
    "storm": ((0.25, 0.28, 0.35), 0.78, 0.5),
    "rain": ((0.40, 0.48, 0.57), 0.66, 0.65),
    "fog": ((0.86, 0.87, 0.88), 0.62, 0.95),
    "snow": ((0.64, 0.74, 0.88), 0.66, 0.6),
}


@dataclass(frozen=True)
class Mood:
    """The light of a scene; colors are (3,) float arrays."""

    top: Array
    middle: Array
    horizon: Array
    ambient: Array
    light: Array
    haze: float
    dark: float

    def lit(self, color: Array | tuple[float, float, float], depth: float = 0.0) -> Array:
        """A local color in this light, faded to the horizon by depth (0 near .. 1 far)."""
        near = np.asarray(color, np.float32) * self.ambient
        return mix(near, self.horizon * 0.75 + self.middle * 0.25, depth * self.haze)


def mood_of(time: str, sky: str, rng: np.random.Generator) -> Mood:
    """The light at a time of day in a weather, with a little drawn variation."""
    top, middle, horizon, ambient, light = (np.asarray(c, np.float32) for c in _TIMES[time])
    gray, amount, haze = _WEATHER[sky]
    dark = _DARK[time]
    weather = np.asarray(gray, np.float32) * mix((1, 1, 1), ambient * (1 - 0.35 * dark), 0.85)
    wobble = rng.normal(0, 0.025, 3).astype(np.float32)
    level = np.float32(rng.uniform(0.93, 1.07))

    def weathered(color: Array, share: float) -> Array:
        return np.clip(mix(color, weather, share) * level + wobble * (0.3 + 0.7 * (1 - dark)), 0, 1)

    dim = {"storm": 0.72, "rain": 0.84, "fog": 0.95}.get(sky, 1.0)
    gray_light = mix(ambient, np.full(3, ambient.mean()), amount * 0.5) * dim
    return Mood(
        top=weathered(top, amount),
        middle=weathered(middle, amount),
        horizon=weathered(horizon, amount * 0.8),
        ambient=gray_light,
        light=light,
        haze=haze,
        dark=dark,
    )
