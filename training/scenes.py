"""A `Scene` holds every parameter of a drawn landscape; `random_scene` picks one, `draw` paints it.

Paints by layers: sky, lights, clouds, backdrop, land, thing, weather. Words for it are in
`captions.py`; what each layer looks like in `skies.py`, `lands.py`, `waters.py`, `things.py`.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from training import lands, skies, things
from training.canvas import Array, Brush, Canvas
from training.moods import Mood, mood_of

TIMES = ("dawn", "morning", "noon", "sunset", "dusk", "night")
SKIES = ("clear", "cloudy", "storm", "rain", "fog", "snow")
LIGHTS: dict[str, tuple[str, ...]] = {
    "dawn": ("", "sun", "sun", "crescent moon"),
    "morning": ("", "sun", "rainbow"),
    "noon": ("", "sun", "sun", "rainbow"),
    "sunset": ("", "sun", "sun"),
    "dusk": ("", "full moon", "crescent moon", "stars"),
    "night": ("full moon", "full moon", "crescent moon", "crescent moon", "stars", "aurora", "aurora"),
}
_FLYING = ("balloon", "bird")
_FAR_FOOT = ("house", "castle", "tree", "pine", "tent", "windmill", "deer", "horse")
LANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # land: (backdrops, things)
    "sea": (("", "", "island", "volcano", "mountains"), ("sailboat", "sailboat", "lighthouse", "balloon", "bird")),
    "lake": (("hills", "mountains", "forest", "hills"), ("sailboat", "sailboat", "house", "castle", "bird", "balloon")),
    "river": (("hills", "mountains", "forest"), ("tree", "house", "horse", "windmill", "deer")),
    "beach": (("", "", "island", "hills"), ("palm", "palm", "lighthouse", "bird", "tent", "balloon")),
    "desert": (("", "", "mountains"), ("cactus", "camel", "pyramid", "palm", "balloon", "tent")),
    "hills": (("", "mountains", ""), ("house", "tree", "windmill", "horse", "castle", "balloon", "deer")),
    "mountains": (("",), ("castle", "tent", "deer", "house", "pine", "balloon", "bird")),
    "meadow": (("hills", "mountains", "forest"), ("house", "tree", "horse", "deer", "windmill", "balloon")),
    "field": (("hills", "mountains", "", "forest"), ("windmill", "house", "tree", "balloon", "horse")),
    "forest": (("", "mountains", "hills"), ("deer", "house", "tent", "castle", "balloon")),
    "canyon": (("",), ("cactus", "balloon", "horse", "bird", "tent")),
    "snow": (("mountains", "hills", "", "forest"), ("house", "pine", "deer", "tent", "castle")),
    "city": (("",), ("balloon", "bird", "sailboat")),
}
STYLES = ("", "", "", "", "", "", "", "", "", "pastel", "poster", "ink", "vintage")


@dataclass(frozen=True)
class Scene:
    """Everything that decides a drawing; equal scenes are equal pictures."""

    time: str
    sky: str
    land: str
    backdrop: str = ""
    tint: str = ""
    light: str = ""
    thing: str = ""
    color: str = ""
    side: str = "middle"
    is_near: bool = True
    style: str = ""
    horizon: float = 0.56
    seed: int = 0

    def canonical(self) -> "Scene":
        """The same words as one fixed picture: thing in the middle, no jitter."""
        return replace(self, side="middle", is_near=True, horizon=0.56, seed=1)


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def random_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene whose parts go together (no sun at night, no camel at sea)."""
    time = _pick(rng, (*TIMES, "night", "sunset", "noon"))
    sky = "clear" if rng.random() < 0.48 else _pick(rng, ("cloudy", "cloudy", *SKIES[1:]))
    light = _pick(rng, LIGHTS[time])
    if sky in ("storm", "snow", "rain"):
        extra = {"storm": ("", "lightning"), "rain": ("", "rainbow"), "snow": ("",)}[sky]
        light = _pick(rng, extra) if time not in ("dusk", "night") or sky == "storm" else ""
    if sky == "fog" and light in ("rainbow", "aurora", "stars"):
        light = ""
    land = _pick(rng, (*LANDS, "sea", "lake", "hills", "desert"))
    backdrops, allowed = LANDS[land]
    backdrop = _pick(rng, backdrops)
    tint = _pick(rng, tuple(lands.GROUND_COLORS[land])) if land in lands.GROUND_COLORS else ""
    if not tint and backdrop in ("hills", "forest"):
        tint = _pick(rng, ("green", "green", "golden"))
    thing = _pick(rng, allowed) if rng.random() < 0.62 else ""
    return Scene(
        time=time, sky=sky, land=land, backdrop=backdrop, tint=tint, light=light, thing=thing,
        color=_pick(rng, things.THING_COLORS[thing]) if thing in things.THING_COLORS else "",
        side=_pick(rng, ("left", "middle", "right")), is_near=bool(rng.random() < 0.6), style=_pick(rng, STYLES),
        horizon=float(rng.uniform(0.48, 0.66)), seed=int(rng.integers(2**31)),
    )  # fmt: skip


def _place(canvas: Canvas, scene: Scene) -> tuple[tuple[float, float], float]:
    """The foot (x, y) and the size of the thing, in units."""
    rng = canvas.rng
    share = {"left": (0.20, 0.32), "middle": (0.46, 0.54), "right": (0.68, 0.80)}[scene.side]
    x = rng.uniform(*share) * canvas.width
    size = rng.uniform(0.46, 0.56) if scene.is_near else rng.uniform(0.28, 0.36)
    ground = canvas.height - canvas.horizon
    if scene.thing in _FLYING:
        size *= 0.85 if scene.thing == "balloon" else 0.50
        return (x, canvas.horizon * rng.uniform(0.72, 0.82)), size
    if scene.land == "lake" and scene.thing in _FAR_FOOT:
        return (x, canvas.horizon + 0.015), size * 0.62
    if scene.thing == "pyramid":
        return (x, canvas.horizon + 0.10), size * 0.85
    deep = rng.uniform(0.50, 0.68) if scene.is_near else rng.uniform(0.22, 0.34)
    if scene.thing == "lighthouse" and scene.land == "sea":
        deep *= 0.7
    return (x, canvas.horizon + ground * (max(deep, 0.62) if scene.land == "beach" else deep)), size


def _paint_thing(canvas: Canvas, scene: Scene, mood: Mood) -> None:
    foot, size = _place(canvas, scene)
    brush = Brush(canvas, foot, size, mood.ambient, flip=scene.side == "right")
    color = things.COLORS.get(scene.color, things.WHITE)
    things.DRAWERS[scene.thing](brush, color, mood.dark > 0.5)
    layer = brush.finish()
    on_water = scene.thing == "sailboat" or (scene.land in ("lake", "sea") and scene.thing not in _FLYING)
    if on_water:
        row = int(foot[1] * canvas.unit)
        source = 2 * row - np.arange(canvas.shape[0])
        inside = (source >= 0) & (source < canvas.shape[0]) & (np.arange(canvas.shape[0]) > row)
        flipped = layer[np.clip(source, 0, canvas.shape[0] - 1)] * inside[:, None, None]
        canvas.blend(flipped[..., 3] * 0.42, flipped[..., :3])
    elif scene.thing not in _FLYING:
        flat = ((canvas.x - foot[0]) / (size * 0.55)) ** 2 + ((canvas.y - foot[1]) / (size * 0.07)) ** 2
        canvas.blend(np.exp(-flat) * 0.35, mood.ambient * 0.12)
    canvas.blend(layer[..., 3], layer[..., :3])
    for x, y, radius, color in brush.glows:
        away = canvas.distance(x / canvas.unit, y / canvas.unit)
        canvas.glow(np.exp(-((away / (radius / canvas.unit)) ** 2)), color)


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
    if mood.dark > 0.9 and scene.sky in ("clear", "cloudy"):
        skies.paint_stars(canvas, 26 if scene.light != "stars" else 95)
    elif scene.light == "stars":
        skies.paint_stars(canvas, 55)
    at = skies.light_position(canvas, scene.time, scene.light, scene.side if scene.thing else "middle")
    if scene.light == "sun":
        skies.paint_sun(canvas, mood, at, scene.time in ("dawn", "sunset"))
    elif "moon" in scene.light:
        skies.paint_moon(canvas, mood, at, scene.light == "full moon")
    elif scene.light == "aurora":
        skies.paint_aurora(canvas)
    has_path = "moon" in scene.light or (scene.light == "sun" and scene.time in ("dawn", "sunset", "morning"))
    return at[0] if has_path else None


def draw(scene: Scene, width: int = 128, height: int = 128) -> Image.Image:
    """Paint a scene, RGB, at twice the size and reduced; any width and height in pixels."""
    rng = np.random.default_rng(scene.seed)
    canvas = Canvas(width * 2, height * 2, scene.horizon, rng)
    mood = mood_of(scene.time, scene.sky, rng)
    skies.paint_gradient(canvas, mood)
    light_x = _paint_lights(canvas, scene, mood)
    cover = {"cloudy": rng.uniform(0.34, 0.55), "storm": 0.85, "rain": 0.65}.get(scene.sky, 0.0)
    if scene.sky == "clear" and rng.random() < 0.25:
        cover = 0.12
    if cover:
        skies.paint_clouds(canvas, mood, scene.sky, cover)
    if scene.light == "rainbow":
        skies.paint_rainbow(canvas)
    if scene.light == "lightning":
        skies.paint_lightning(canvas)
    lands.paint_backdrop(canvas, mood, scene.backdrop, scene.tint)
    lands.paint_land(canvas, mood, scene.land, scene.tint, light_x)
    if scene.sky == "fog":
        skies.paint_veil(canvas, mood)
    if scene.thing:
        _paint_thing(canvas, scene, mood)
    if scene.sky in ("snow", "rain"):
        skies.paint_falling(canvas, mood, scene.sky)
    canvas.pixels = _styled(np.clip(canvas.pixels, 0, 1), scene.style)
    return canvas.image(2)
