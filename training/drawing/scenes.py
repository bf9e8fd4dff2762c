"""A `Scene` holds every parameter of a drawn picture, and `random_scene` picks one.

An empty `side`, `size` or `color` means that no caption speaks of it: the thing then stands near the middle, has its
usual size and color. So a caption that leaves something out never stands beside a picture that surprises.
How a scene looks is in `drawing.py`, its words in `captions.py`.
"""

import zlib
from dataclasses import dataclass, replace

import numpy as np

from training.drawing import lands
from training.drawing.things.table import THINGS

TIMES = ("dawn", "morning", "noon", "sunset", "dusk", "night")
SKIES = ("clear", "cloudy", "storm", "rain", "fog", "snow")
SIDES, SIZES = ("left", "middle", "right"), ("small", "big")
STYLES = ("pastel", "poster", "ink", "vintage")
LIGHTS: dict[str, tuple[str, ...]] = {
    "dawn": ("", "sun", "sun", "crescent moon"),
    "morning": ("", "sun", "rainbow"),
    "noon": ("", "sun", "sun", "rainbow"),
    "sunset": ("", "sun", "sun"),
    "dusk": ("full moon", "crescent moon", "stars", "lanterns"),
    "night": ("full moon", "full moon", "crescent moon", "stars", "aurora", "aurora", "lanterns", "fireworks", "comet"),
}
LANDS: dict[str, tuple[str, ...]] = {  # land: what may lie behind it
    "sea": ("", "", "island", "volcano", "mountains"),
    "lake": ("hills", "mountains", "forest", "hills"),
    "river": ("hills", "mountains", "forest"),
    "beach": ("", "", "island", "hills"),
    "island": ("",),
    "desert": ("", "", "mountains"),
    "hills": ("", "mountains", ""),
    "mountains": ("",),
    "meadow": ("hills", "mountains", "forest"),
    "field": ("hills", "mountains", "", "forest"),
    "forest": ("", "mountains", "hills"),
    "canyon": ("",),
    "snow": ("mountains", "hills", "", "forest"),
    "city": ("",),
    "table": ("", "hills", "mountains"),
}
WATERS = ("sea", "lake")
HELD_OUT_SHARE = 10  # one in so many pairs of thing and land


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
    count: int = 1
    side: str = ""
    size: str = ""
    second: str = ""
    second_color: str = ""
    style: str = ""
    horizon: float = 0.57
    seed: int = 0

    def canonical(self) -> "Scene":
        """The same words as one fixed picture, without jitter."""
        return replace(self, horizon=0.57, seed=1)


def fits(thing: str, land: str) -> bool:
    """Whether a thing may stand in a land: ships on water, horses on land, a bird anywhere."""
    home = THINGS[thing].home
    if land == "table":
        return home == "table"
    return home == "air" or (home == "water") == (land in WATERS)


def is_held_out(scene: Scene) -> bool:
    """Whether a scene pairs a thing with a land that training never shows: one pair in ten, by a fixed hash."""
    pairs = [f"{thing}/{scene.land}" for thing in (scene.thing, scene.second) if thing]
    return any(zlib.crc32(pair.encode()) % HELD_OUT_SHARE == 0 for pair in pairs)


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _light(rng: np.random.Generator, time: str, sky: str) -> str:
    """A light that this time and weather can have."""
    light = _pick(rng, LIGHTS[time])
    if sky in ("storm", "snow", "rain"):
        extra = {"storm": ("", "lightning"), "rain": ("", "rainbow"), "snow": ("",)}[sky]
        return _pick(rng, extra) if time not in ("dusk", "night") or sky == "storm" else ""
    return "" if sky == "fog" and light not in ("sun", "lanterns") else light


def _color(rng: np.random.Generator, thing: str) -> str:
    colors = THINGS[thing].colors
    return _pick(rng, colors) if colors and rng.random() < 0.6 else ""


def random_things(rng: np.random.Generator, land: str) -> dict[str, str | int]:
    """What stands in a land: one thing (with a side or a size, or neither), two or three alike, or two different."""
    able = tuple(name for name in THINGS if fits(name, land))
    thing = _pick(rng, able)
    chosen: dict[str, str | int] = {"thing": thing, "color": _color(rng, thing)}
    chance = rng.random()
    if chance < 0.13:
        return {**chosen, "count": 2 if chance < 0.07 else 3}
    if chance < 0.30:
        second = _pick(rng, tuple(name for name in able if name != thing))
        return {**chosen, "second": second, "second_color": _color(rng, second)}
    if rng.random() < 0.45:
        chosen["side"] = _pick(rng, ("left", "left", "right", "right", "middle"))
    if rng.random() < 0.30:
        chosen["size"] = _pick(rng, SIZES)
    return chosen


def any_scene(rng: np.random.Generator, thing_share: float = 0.86, clear_share: float = 0.56) -> Scene:
    """A scene whose parts go together (no sun at night, no horse at sea), held-out pairs included.

    `clear_share` is how often the sky is clear.
    """
    time = _pick(rng, (*TIMES, "night", "sunset", "noon"))
    sky = "clear" if rng.random() < clear_share else _pick(rng, ("cloudy", "cloudy", *SKIES[1:]))
    land = _pick(rng, (*LANDS, "table", "sea", "lake", "sea", "lake"))
    backdrop = _pick(rng, LANDS[land])
    tint = _pick(rng, tuple(lands.GROUND_COLORS[land])) if land in lands.GROUND_COLORS else ""
    if not tint and backdrop in ("hills", "forest"):
        tint = _pick(rng, ("green", "green", "golden"))
    things = random_things(rng, land) if rng.random() < thing_share else {}
    style = _pick(rng, STYLES) if rng.random() < 0.16 else ""
    return Scene(
        time=time, sky=sky, land=land, backdrop=backdrop, tint=tint, light=_light(rng, time, sky), style=style,
        horizon=float(rng.uniform(0.52, 0.62)), seed=int(rng.integers(2**31)), **things,
    )  # fmt: skip


def random_scene(rng: np.random.Generator, thing_share: float = 0.86, clear_share: float = 0.56) -> Scene:
    """A scene for training: any but the held-out pairs."""
    while is_held_out(scene := any_scene(rng, thing_share, clear_share)):
        pass
    return scene


def held_out_scene(rng: np.random.Generator) -> Scene:
    """A scene with a pair that training never shows."""
    while not is_held_out(scene := any_scene(rng)):
        pass
    return scene
