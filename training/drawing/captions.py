"""Words for a scene, as a person might type them: synonyms, clauses in any order, some left out.

`caption` draws a phrasing, `canonical_caption` is always the same, `vocabulary` is every word of both. A color, a side,
a size or a number that the scene has is always said; time, weather and land now and then are not.
"""

import re

import numpy as np

from training.drawing.lands import GROUND_COLORS
from training.drawing.scenes import Scene
from training.drawing.things.names import NAMES, plural
from training.drawing.things.table import THINGS

_TIMES = {
    "dawn": ("at dawn", "dawn", "at sunrise", "sunrise", "early morning", "daybreak"),
    "morning": ("in the morning", "morning", "morning light", "on a bright morning", "by day"),
    "noon": ("at noon", "noon", "midday", "at midday", "in daylight", "on a sunny day", "day"),
    "sunset": ("at sunset", "sunset", "in the evening", "evening glow", "golden hour", "orange sky"),
    "dusk": ("at dusk", "dusk", "twilight", "after sunset", "at nightfall", "purple sky"),
    "night": ("at night", "night", "in the dark", "midnight", "at midnight", "night sky"),
}
_SKIES = {
    "clear": ("clear sky", "a clear sky", "clear", "no clouds"),
    "cloudy": ("clouds", "cloudy", "cloudy sky", "clouds in the sky", "big clouds", "overcast"),
    "storm": ("storm", "a storm", "stormy", "dark clouds", "stormy sky", "thunderstorm"),
    "rain": ("rain", "in the rain", "rainy", "raining", "a rainy day"),
    "fog": ("fog", "in the fog", "foggy", "mist", "misty", "haze"),
    "snow": ("snowing", "snow falling", "snowfall", "falling snow", "a blizzard"),
}
_LIGHTS = {
    "sun": ("the sun", "sun", "bright sun", "sunshine", "sunlight"),
    "full moon": ("full moon", "a full moon", "the moon", "moon", "moonlight", "big moon"),
    "crescent moon": ("crescent moon", "a crescent moon", "new moon", "half moon", "crescent"),
    "stars": ("stars", "many stars", "starry sky", "starry", "starlight", "a sky full of stars"),
    "aurora": ("aurora", "northern lights", "green aurora", "the northern lights", "aurora in the sky"),
    "rainbow": ("rainbow", "a rainbow", "a rainbow in the sky"),
    "lanterns": ("lanterns in the sky", "floating lanterns", "sky lanterns", "lanterns", "paper lanterns"),
    "fireworks": ("fireworks", "fireworks in the sky", "colorful fireworks"),
    "comet": ("a shooting star", "shooting star", "comet", "a comet", "falling star"),
    "lightning": ("lightning", "a bolt of lightning", "thunder and lightning", "lightning strike"),
}
_LANDS = {
    "sea": ("the sea", "sea", "ocean", "the ocean", "open sea", "waves"),
    "lake": ("a lake", "lake", "the lake", "calm lake", "still water", "a quiet lake"),
    "river": ("a river", "river", "the river", "a winding river", "stream"),
    "beach": ("a beach", "beach", "the beach", "the shore", "the coast", "sandy beach"),
    "desert": ("{} desert", "the {} desert", "{} dunes", "{} sand dunes", "a {} desert"),
    "hills": ("{} hills", "rolling {} hills", "{} hillside", "{} grassy hills"),
    "mountains": ("mountains", "the mountains", "mountain peaks", "snowy mountains", "high mountains", "a mountain"),
    "meadow": ("a meadow", "meadow", "a meadow with flowers", "flowers", "a flower meadow", "grass"),
    "field": ("{} field", "a {} field", "{} fields", "a field of {}", "{} farmland"),
    "forest": ("{} forest", "a {} forest", "the {} forest", "{} woods", "{} trees"),
    "canyon": ("{} canyon", "a {} canyon", "{} cliffs", "the {} canyon", "{} rocks"),
    "snow": ("snow", "a snow field", "snowy land", "winter", "winter landscape", "snow covered land"),
    "city": ("a city", "city", "the city", "city skyline", "skyline", "skyscrapers", "town"),
    "island": ("an island", "a green island", "island", "a tropical island", "small island"),
    "table": ("a table", "still life", "still life on a table", "wooden table", "a wooden table"),
}
_TINTS = {
    ("field", "golden"): ("golden", "wheat", "yellow"),
    ("field", "purple"): ("lavender", "purple", "violet"),
    ("field", "green"): ("green", "grass"),
    ("forest", "golden"): ("autumn", "golden", "fall", "orange"),
    ("forest", "green"): ("green", "pine", "dark green", "evergreen"),
    ("hills", "purple"): ("purple", "heather", "violet"),
    ("hills", "golden"): ("golden", "yellow", "autumn"),
    ("canyon", "red"): ("red",),
    ("desert", "golden"): ("golden", "yellow", "sandy"),
    ("desert", "white"): ("white", "pale"),
}
_BACKDROPS = {
    "hills": ("hills behind", "with hills", "{} hills", "hills in the background", "{} hills in the distance"),
    "mountains": (
        "mountains behind",
        "with mountains",
        "mountains in the background",
        "mountains",
        "mountains in the distance",
    ),
    "forest": (
        "forest behind",
        "with trees",
        "trees in the background",
        "{} trees behind",
        "{} forest in the distance",
    ),
    "island": ("an island", "island", "with an island", "a small island", "an island in the distance"),
    "volcano": ("a volcano", "volcano", "an erupting volcano", "volcano with lava", "a volcano behind"),
    "city": ("city behind", "a city in the distance"),
}
_COLORS = {  # other words for a color, beside its name
    "golden": ("golden", "autumn"),
    "gray": ("gray", "grey"),
}
_SIDES = {
    "left": ("on the left", "at the left", "on the left side"),
    "right": ("on the right", "at the right", "on the right side"),
    "middle": ("in the middle", "in the center"),
}
_SIZES = {
    "small": (("small", "tiny", "little", "far"), ("far away", "in the distance", "small")),
    "big": (("big", "large", "huge", "giant"), ("close up", "near", "up close", "large")),
}
_NUMBERS = {2: ("two", "two", "a pair of"), 3: ("three", "three", "a group of three")}
_WHERE = {  # a land as the place of a thing; {} is its tint
    "sea": ("at sea", "on the sea", "on the ocean"),
    "lake": ("on a lake", "on the lake", "on a calm lake"),
    "river": ("by a river", "by the river"),
    "beach": ("on a beach", "on the beach", "by the sea on the beach"),
    "island": ("on an island", "on a small island"),
    "desert": ("in the {} desert", "in a {} desert", "in the {} dunes"),
    "hills": ("on {} hills", "in the {} hills", "on a {} hill"),
    "mountains": ("in the mountains", "in front of mountains"),
    "meadow": ("in a meadow", "in the grass", "on a meadow with flowers"),
    "field": ("in a {} field", "in the {} field", "in {} fields"),
    "forest": ("in the {} forest", "in a {} forest", "in the {} woods"),
    "canyon": ("in a {} canyon", "in the {} canyon"),
    "snow": ("in the snow", "on snow", "in winter"),
    "city": ("in the city", "in a city", "before a city skyline"),
    "table": ("on a table", "on the table", "on a wooden table"),
}
_STYLES = {
    "pastel": ("pastel", "in pastel colors", "soft pastel", "pale colors"),
    "poster": ("poster", "vivid colors", "vibrant", "vivid poster", "colorful"),
    "ink": ("black and white", "ink drawing", "monochrome", "gray", "ink"),
    "vintage": ("vintage", "sepia", "old photo", "vintage photo", "sepia photo"),
}
_OPENINGS = (
    "a painting of", "painting of", "a picture of", "a photo of", "an illustration of", "a landscape with", "a view of",
    "a drawing of", "beautiful", "a beautiful", "scenic", "peaceful", "a scene of", "watercolor of",
)  # fmt: skip
_ENDINGS = (
    "beautiful", "landscape", "highly detailed", "masterpiece", "best quality", "digital art", "watercolor", "painting",
    "scenery", "dramatic", "wallpaper", "calm", "peaceful", "photo", "illustration", "nature", "warm light", "quiet",
    "art",
)  # fmt: skip
_JOINS = (", ", ", ", ", ", ", ", " ", " with ")


def _pick(rng: np.random.Generator | None, options: tuple[str, ...]) -> str:
    return options[0] if rng is None else options[int(rng.integers(len(options)))]


def _tinted(scene: Scene, phrase: str, land: str, rng: np.random.Generator | None, drop: float = 0.0) -> str:
    """Put the land's tint, or nothing now and then, where the phrase has its {}."""
    if "{}" not in phrase:
        return phrase
    said = rng is None or rng.random() >= drop
    words = _TINTS.get((land, scene.tint), (scene.tint,)) if said else ("",)
    return " ".join(phrase.format(_pick(rng, words)).split())


def _named(name: str, color: str, count: int, size: str, rng: np.random.Generator | None) -> str:
    """One kind of thing with its number, size and color: "two small red boats"."""
    noun = _pick(rng, NAMES[name])
    noun = plural(noun) if count > 1 else noun
    words = [size] if size else []
    if color:
        words.append(_pick(rng, _COLORS.get(color, (color,))))
    text = " ".join([*words, noun])
    if count > 1:
        return f"{_pick(rng, _NUMBERS[count])} {text}"
    if (rng is not None and rng.random() < 0.12) or noun in ("cherries", "coffee"):
        return text
    return f"{'an' if (text[0] in 'aeiou' and not text.startswith('u')) or text.startswith('um') else 'a'} {text}"


def _one_thing(scene: Scene, rng: np.random.Generator | None) -> str:
    size, after = "", ""
    if scene.size:
        before_words, after_words = _SIZES[scene.size]
        if rng is None or rng.random() < 0.7:
            size = _pick(rng, before_words)
        else:
            after = " " + _pick(rng, after_words)
    text = _named(scene.thing, scene.color, scene.count, size, rng) + after
    return f"{text} {_pick(rng, _SIDES[scene.side])}" if scene.side else text


def _two_things(scene: Scene, rng: np.random.Generator | None) -> str:
    """Two different things; the first named stands on the left."""
    first, second = _named(scene.thing, scene.color, 1, "", rng), _named(scene.second, scene.second_color, 1, "", rng)
    chance = 0.0 if rng is None else rng.random()
    if chance < 0.55:
        return f"{first} {_pick(rng, ('and', 'and', 'next to', 'beside'))} {second}"
    if chance < 0.75:
        return f"{first} on the left and {second} on the right"
    if chance < 0.85:
        return f"{second} on the right and {first} on the left"
    return f"{first}, {second}"


def _things(scene: Scene, rng: np.random.Generator | None) -> str:
    return _two_things(scene, rng) if scene.second else _one_thing(scene, rng)


def _land_and_things(scene: Scene, rng: np.random.Generator, is_complete: bool) -> list[str]:
    """The land and what stands in it, in one clause or in two; now and then the things alone."""
    things = _things(scene, rng) if scene.thing else ""
    chance = rng.random()
    if things and chance < 0.25 and THINGS[scene.thing].home == "air":
        preposition = _pick(rng, ("over", "above"))
        land = _tinted(scene, _pick(rng, _LANDS[scene.land]), scene.land, rng, 0.1)
        return [f"{things} {preposition} {land}"]
    if things and chance < 0.50:
        return [f"{things} {_tinted(scene, _pick(rng, _WHERE[scene.land]), scene.land, rng, 0.1)}"]
    land = _tinted(scene, _pick(rng, _LANDS[scene.land]), scene.land, rng, 0.1)
    if things and chance < 0.62 and not is_complete:
        return [things]
    return [land, things] if things else [land]


def _clauses(scene: Scene, rng: np.random.Generator, is_complete: bool) -> list[str]:
    """What is said of a scene, some parts left out now and then."""
    parts = _land_and_things(scene, rng, is_complete)
    if is_complete or rng.random() < 0.9:
        time = _pick(rng, _TIMES[scene.time])
        parts = [f"{parts[0]} {time}", *parts[1:]] if rng.random() < 0.5 else [*parts, time]
    if rng.random() < 0.15 if scene.sky == "clear" else (is_complete or rng.random() < 0.93):
        parts.append(_pick(rng, _SKIES[scene.sky]))
    if scene.light and (is_complete or rng.random() < (0.7 if scene.light == "sun" else 0.95)):
        parts.append(_pick(rng, _LIGHTS[scene.light]))
    if scene.backdrop and rng.random() < 0.6:
        parts.append(_tinted(scene, _pick(rng, _BACKDROPS[scene.backdrop]), scene.backdrop, rng, 0.1))
    if scene.style:
        parts.append(_pick(rng, _STYLES[scene.style]))
    return parts


def caption(scene: Scene, rng: np.random.Generator, is_complete: bool = False) -> str:
    """One free phrasing of a scene, 1 to about 25 words; a complete one leaves nothing out but a clear sky."""
    if not is_complete and rng.random() < 0.06:
        return _things(scene, rng) if scene.thing else _tinted(scene, _pick(rng, _LANDS[scene.land]), scene.land, rng)
    parts = _clauses(scene, rng, is_complete)
    if rng.random() < 0.5:
        parts = [parts[i] for i in rng.permutation(len(parts))]
    text = parts[0]
    for part in parts[1:]:
        text += (" " if part.startswith("with ") else _pick(rng, _JOINS)) + part
    if rng.random() < 0.12:
        text = f"{_pick(rng, _OPENINGS)} {text}"
    while rng.random() < 0.10:
        text += ", " + _pick(rng, _ENDINGS)
    return text


def canonical_caption(scene: Scene) -> str:
    """The plain phrasing that says every part, always in one order."""
    where = _tinted(scene, (_WHERE if scene.thing else _LANDS)[scene.land][0], scene.land, None)
    parts = [f"{_things(scene, None)} {where}" if scene.thing else where, _TIMES[scene.time][0]]
    if scene.sky != "clear":
        parts.append(_SKIES[scene.sky][0])
    if scene.light:
        parts.append(_LIGHTS[scene.light][0])
    if scene.backdrop:
        parts.append(_tinted(scene, _BACKDROPS[scene.backdrop][0], scene.backdrop, None))
    if scene.style:
        parts.append(_STYLES[scene.style][0])
    return ", ".join(parts)


def vocabulary() -> list[str]:
    """Every word a caption can hold, sorted."""
    tables = (_TIMES, _SKIES, _LIGHTS, _LANDS, _TINTS, _BACKDROPS, _COLORS, _SIDES, _STYLES, _WHERE, _NUMBERS, NAMES)
    texts = [text for table in tables for options in table.values() for text in options]
    texts += [text for groups in _SIZES.values() for group in groups for text in group]
    texts += [plural(name) for names in NAMES.values() for name in names]
    texts += [color for thing in THINGS.values() for color in thing.colors]
    texts += [tint for tints in GROUND_COLORS.values() for tint in tints]
    texts += [*_OPENINGS, *_ENDINGS, *_JOINS, "a an and next to beside over above on the left and right"]
    return sorted(set(re.findall(r"[a-z]+", " ".join(texts))))
