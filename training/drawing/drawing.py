"""Paints a `Scene`: sky, lights, clouds, backdrop, land, things, weather, then the style over all.

`draw` gives the picture, `draw_all` also where its things are and how near everything is. Where a thing stands follows
from its scene's words and seed alone, not from what was painted before it.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from training.drawing import lands, skies
from training.drawing.canvas import Array, Brush, Canvas, mix
from training.drawing.moods import Mood, mood_of
from training.drawing.scenes import WATERS, Scene
from training.drawing.things.palette import COLORS, WHITE
from training.drawing.things.table import THINGS, Thing


@dataclass(frozen=True)
class Placed:
    """A thing where it stands: the middle of its foot (x, y) and its height, in units of the shorter side."""

    name: str
    color: str
    x: float
    y: float
    size: float

    @property
    def thing(self) -> Thing:
        """What it is."""
        return THINGS[self.name]


_SIDES = {"left": 0.25, "middle": 0.5, "right": 0.75}
_HEIGHTS = {"small": 0.27, "": 0.53, "big": 0.74}
_DEPTHS = {"small": 0.26, "": 0.55, "big": 0.84}  # of the ground, from the horizon to the front


def _foot(canvas: Canvas, scene: Scene, thing: Thing, size: float, depth: float) -> float:
    """How low the foot of a thing is, in units."""
    if thing.home == "air":
        return min(canvas.horizon * 0.50 + size / 2, canvas.height * 0.94)
    if scene.land == "table":
        return canvas.height * (0.86 if size > 0.3 else 0.80)
    if scene.land == "island":
        return canvas.horizon + (canvas.height - canvas.horizon) * 0.40
    return canvas.horizon + (canvas.height - canvas.horizon) * depth


def place_things(canvas: Canvas, scene: Scene) -> list[Placed]:
    """Everything that stands in a scene, the first named leftmost."""
    if not scene.thing:
        return []
    rng = np.random.default_rng((scene.seed, 1))
    names = [(scene.thing, scene.color)] * scene.count + ([(scene.second, scene.second_color)] if scene.second else [])
    spots = {1: (_SIDES.get(scene.side, 0.5),), 2: (0.27, 0.73), 3: (0.19, 0.5, 0.81)}[len(names)]
    height, room = {1: (_HEIGHTS[scene.size], 9.0), 2: (0.43, 0.50), 3: (0.33, 0.33)}[len(names)]
    is_free = len(names) == 1 and not scene.side
    placed = []
    for spot, (name, color) in zip(spots, names, strict=True):
        thing = THINGS[name]
        size = min(height * min(1.0, (1.15 / thing.width) ** 0.8), room / thing.width) * rng.uniform(0.95, 1.05)
        x = (spot + rng.uniform(-1, 1) * (0.07 if is_free else 0.025)) * canvas.width
        y = _foot(canvas, scene, thing, size, _DEPTHS[scene.size]) + rng.uniform(-0.015, 0.015)
        placed.append(Placed(name, color or (*thing.colors, "")[0], x, y, size))
    return placed


def _halo(layer: Array, unit: int) -> Array:
    """A soft rim (H, W) around a thing, as the white that a watercolor leaves."""
    alpha = Image.fromarray((layer[..., 3] * 255).astype(np.uint8))
    rim = np.asarray(alpha.filter(ImageFilter.GaussianBlur(unit * 0.018)), np.float32) / 255
    return np.clip(rim * 1.6, 0, 1) * (1 - layer[..., 3])


def _paint_thing(canvas: Canvas, scene: Scene, mood: Mood, placed: Placed) -> Array:
    """Paint one thing with its reflection or shadow; returns its coverage (H, W)."""
    light = mood.ambient + (1 - np.minimum(mood.ambient, 1)) * 0.36  # things stay legible at night
    brush = Brush(canvas, (placed.x, placed.y), placed.size, light)
    placed.thing.draw(brush, COLORS.get(placed.color, WHITE), mood.dark > 0.5)
    layer = brush.finish()
    if scene.land in WATERS and placed.thing.home != "air":
        row = int(placed.y * canvas.unit)
        source = 2 * row - np.arange(canvas.shape[0])
        inside = (source >= 0) & (source < canvas.shape[0]) & (np.arange(canvas.shape[0]) > row)
        flipped = layer[np.clip(source, 0, canvas.shape[0] - 1)] * inside[:, None, None]
        canvas.blend(flipped[..., 3] * 0.36, flipped[..., :3])
    elif placed.thing.home != "air":
        flat = ((canvas.x - placed.x) / (placed.size * 0.55)) ** 2 + ((canvas.y - placed.y) / (placed.size * 0.07)) ** 2
        canvas.blend(np.exp(-flat) * 0.38, mood.ambient * 0.12)
    canvas.blend(_halo(layer, canvas.unit) * 0.42, mix(mood.horizon, (1, 1, 1), 0.5 - 0.4 * mood.dark))
    canvas.blend(layer[..., 3], layer[..., :3])
    for x, y, radius, color in brush.glows:
        away = canvas.distance(x / canvas.unit, y / canvas.unit)
        canvas.glow(np.exp(-((away / (radius / canvas.unit)) ** 2)), color)
    return layer[..., 3]


def _styled(pixels: Array, style: str) -> Array:
    """Change the finished colors (H, W, 3) to a manner of painting."""
    gray = pixels @ np.asarray((0.3, 0.59, 0.11), np.float32)
    if style == "pastel":
        soft = gray[..., None] * 0.35 + pixels * 0.65
        return soft * 0.62 + np.asarray((0.37, 0.35, 0.36), np.float32)
    if style == "poster":
        vivid = gray[..., None] + (pixels - gray[..., None]) * 1.45
        return np.clip(0.5 + (vivid - 0.5) * 1.22, 0, 1)
    if style == "ink":
        return np.clip(0.5 + (gray - 0.45) * 1.2, 0, 1)[..., None] * np.asarray((1.0, 0.99, 0.97), np.float32)
    if style == "vintage":
        return 0.12 + 0.80 * (gray[..., None] * np.asarray((0.72, 0.60, 0.42), np.float32) * 1.25 + pixels * 0.18)
    return pixels


def _paint_lights(canvas: Canvas, scene: Scene, mood: Mood) -> float | None:
    """Sun, moon, stars and the like; returns where it stands over water, in units."""
    if scene.light == "stars":
        skies.paint_bright_stars(canvas)
    rng = np.random.default_rng((scene.seed, 2))
    is_left = scene.side == "right" or (not scene.side and rng.random() < 0.3 and scene.seed != 1)
    at = skies.light_position(canvas, rng, scene.time, scene.light, is_left)
    if scene.light == "sun":
        skies.paint_sun(canvas, mood, at, scene.time in ("dawn", "sunset"))
    elif "moon" in scene.light:
        skies.paint_moon(canvas, at, scene.light == "full moon")
    elif scene.light == "aurora":
        skies.paint_aurora(canvas)
    elif scene.light == "comet":
        skies.paint_comet(canvas, at)
    elif scene.light == "fireworks":
        skies.paint_fireworks(canvas, rng)
    elif scene.light == "rainbow":
        skies.paint_rainbow(canvas)
    elif scene.light == "lightning":
        skies.paint_lightning(canvas, at)
    has_path = "moon" in scene.light or (scene.light == "sun" and scene.time in ("dawn", "sunset", "morning"))
    return at[0] if has_path else None


def _paint_clouds(canvas: Canvas, scene: Scene, mood: Mood) -> None:
    """The clouds of a weather; lights stand before them, so that none is hidden."""
    if scene.sky == "storm":
        skies.paint_storm(canvas, mood)
    elif scene.sky in ("cloudy", "rain"):
        skies.paint_heaps(canvas, mood, scene.sky)


def _paint_fall(canvas: Canvas, scene: Scene, mood: Mood) -> None:
    """What falls, and what it leaves on the land."""
    if scene.sky == "snow":
        skies.paint_cover(canvas, mood)
    skies.paint_falling(canvas, mood, scene.sky)


@dataclass(frozen=True)
class Drawing:
    """A finished drawing.

    Attributes:
        picture: RGB.
        covered: How much of each 8x8 block holds a thing, (height / 8, width / 8), 0 to 1.
        depth: How near each pixel is, (height, width), from 0 for the sky to 1.
    """

    picture: Image.Image
    covered: Array
    depth: Array


def draw_all(scene: Scene, width: int = 128, height: int = 128) -> Drawing:
    """Paint a scene at twice the size and reduce it."""
    rng = np.random.default_rng(scene.seed)
    canvas = Canvas(width * 2, height * 2, scene.horizon, rng)
    canvas.mirrored = scene.seed != 1 and bool(np.random.default_rng((scene.seed, 4)).random() < 0.5)
    mood = mood_of(scene.time, scene.sky, rng)
    skies.paint_gradient(canvas, mood)
    _paint_clouds(canvas, scene, mood)
    light_x = _paint_lights(canvas, scene, mood)
    canvas.near = 0.15
    lands.paint_backdrop(canvas, mood, scene.backdrop, scene.tint)
    canvas.near = 0.2 + 0.6 * np.clip((canvas.y - canvas.horizon) / (canvas.height - canvas.horizon), 0, 1)
    lands.paint_land(canvas, mood, scene.land, scene.tint, light_x)
    canvas.near = 0.0
    if scene.sky == "fog":
        skies.paint_veil(canvas, mood)
    elif scene.sky in ("snow", "rain"):
        _paint_fall(canvas, scene, mood)
    if scene.light == "lanterns":
        skies.paint_lanterns(canvas, np.random.default_rng((scene.seed, 3)))
    covered = np.zeros(canvas.shape, np.float32)
    for placed in place_things(canvas, scene):
        layer = _paint_thing(canvas, scene, mood, placed)
        foot = 0.2 + 0.6 * max(0.0, (placed.y - canvas.horizon) / (canvas.height - canvas.horizon))
        canvas.depth = np.where(layer > 0.5, min(1.0, foot + 0.2), canvas.depth)
        covered = np.maximum(covered, layer)
    canvas.pixels = _styled(np.clip(canvas.pixels, 0, 1), scene.style)
    return Drawing(
        canvas.image(2), covered.reshape(height // 8, 16, width // 8, 16).mean((1, 3)), canvas.depth[::2, ::2]
    )


def draw(scene: Scene, width: int = 128, height: int = 128) -> Image.Image:
    """The picture of a scene, RGB; width and height in pixels, multiples of 8."""
    return draw_all(scene, width, height).picture


def draw_portrait(scene: Scene, size: int = 128) -> Image.Image:
    """The things of a scene alone, large, on a plain ground: what their words look like by themselves."""
    canvas = Canvas(size * 2, size * 2, 0.57, np.random.default_rng(1))
    mood = mood_of("noon", "clear", np.random.default_rng(1))
    canvas.pixels[:] = (0.62, 0.68, 0.74)
    plain = Scene("noon", "clear", "field", thing=scene.thing, color=scene.color, count=scene.count, size="big",
                  second=scene.second, second_color=scene.second_color, seed=1)  # fmt: skip
    for placed in place_things(canvas, plain):
        centered = Placed(placed.name, placed.color, placed.x, 0.5 + placed.size / 2, placed.size)
        _paint_thing(canvas, plain, mood, centered)
    return canvas.image(2)
