"""Words for a scene, as a person might type them: synonyms, clauses in any order, some left out.

`caption` draws a phrasing, `canonical_caption` is always the same, `vocabulary` is every word of both.
"""

import re

import numpy as np

from training.scenes import Scene

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
    "lightning": ("lightning", "a bolt of lightning", "thunder and lightning", "lightning strike"),
}
_LANDS = {
    "sea": ("the sea", "sea", "ocean", "the ocean", "open sea", "waves"),
    "lake": ("a lake", "lake", "the lake", "calm lake", "still water", "a quiet lake"),
    "river": ("a river", "river", "the river", "a winding river", "stream"),
    "beach": ("a beach", "beach", "the beach", "the shore", "the coast", "sandy beach"),
    "desert": ("{} desert", "the {} desert", "{} dunes", "{} sand dunes", "a {} desert"),
    "hills": ("{} hills", "{} hills", "rolling {} hills", "{} hillside", "{} grassy hills"),
    "mountains": ("mountains", "the mountains", "mountain peaks", "snowy mountains", "high mountains", "a mountain"),
    "meadow": ("a meadow", "meadow", "a meadow with flowers", "flowers", "a flower meadow", "grass"),
    "field": ("{} field", "a {} field", "{} fields", "a field of {}", "{} farmland"),
    "forest": ("{} forest", "a {} forest", "the {} forest", "{} woods", "{} trees"),
    "canyon": ("{} canyon", "a {} canyon", "{} cliffs", "the {} canyon", "{} rocks"),
    "snow": ("snow", "a snow field", "snowy land", "winter", "winter landscape", "snow covered land"),
    "city": ("a city", "city", "the city", "city skyline", "skyline", "skyscrapers", "town"),
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
    "mountains": ("mountains behind", "with mountains", "mountains in the background", "mountains", "mountains in the distance"),
    "forest": ("forest behind", "with trees", "trees in the background", "{} trees behind", "{} forest in the distance"),
    "island": ("an island", "island", "with an island", "a small island", "an island in the distance"),
    "volcano": ("a volcano", "volcano", "an erupting volcano", "volcano with lava", "a volcano behind"),
    "city": ("city behind", "a city in the distance"),
}
_THINGS = {
    "sailboat": ("sailboat", "boat", "sailing boat", "ship", "boat with a {} sail", "yacht"),
    "house": ("house", "cottage", "cabin", "house with a {} roof", "small house", "home"),
    "castle": ("castle", "castle with {} roofs", "palace", "fortress", "old castle"),
    "lighthouse": ("lighthouse", "lighthouse on a rock", "striped lighthouse"),
    "windmill": ("windmill", "mill", "old windmill", "dutch windmill"),
    "tree": ("tree", "big tree", "lone tree", "old tree", "tree with {} leaves"),
    "pine": ("pine tree", "pine", "fir tree", "fir", "christmas tree"),
    "palm": ("palm tree", "palm", "palm", "coconut palm"),
    "cactus": ("cactus", "big cactus", "saguaro", "saguaro cactus"),
    "balloon": ("hot air balloon", "balloon", "air balloon", "flying balloon"),
    "bird": ("bird", "seagull", "gull", "flying bird", "white bird", "eagle"),
    "horse": ("horse", "brown horse", "standing horse", "pony"),
    "deer": ("deer", "stag", "deer with antlers", "elk"),
    "camel": ("camel", "camel walking", "brown camel"),
    "tent": ("tent", "camping tent", "camp", "camping"),
    "pyramid": ("pyramid", "great pyramid", "stone pyramid", "ancient pyramid"),
}
_COLORS = {
    "golden": ("golden", "autumn", "orange"),
    "pink": ("pink", "cherry blossom", "blossoming"),
}
_PLACES = {"left": ("on the left", "at the left"), "right": ("on the right", "at the right"), "middle": ("in the middle", "in the center")}
_NEAR = {True: ("close", "in front", "large", "close up"), False: ("far away", "in the distance", "small", "far")}
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
    "beautiful", "landscape", "highly detailed", "masterpiece", "best quality", "digital art", "watercolor", "painting", "scenery",
    "dramatic", "wallpaper", "calm", "peaceful", "photo", "illustration", "nature", "warm light", "quiet", "art",
)  # fmt: skip
_JOINS = (", ", ", ", ", ", " ", " and ", " with ")


def _pick(rng: np.random.Generator | None, options: tuple[str, ...]) -> str:
    return options[0] if rng is None else options[int(rng.integers(len(options)))]


def _tinted(scene: Scene, phrase: str, land: str, rng: np.random.Generator | None, drop: float) -> str:
    """Fill the tint of a land into a phrase, or leave the tint out."""
    word = ""
    if "{}" in phrase and scene.tint and not (rng is not None and rng.random() < drop):
        word = _pick(rng, _TINTS.get((land, scene.tint), (scene.tint,)))
    if "{}" in phrase and not word:
        phrase = phrase.replace(" of {}", "")
    return " ".join(phrase.replace("{}", word).split())


def _thing(scene: Scene, rng: np.random.Generator | None) -> str:
    name = _pick(rng, _THINGS[scene.thing])
    word = _pick(rng, _COLORS.get(scene.color, (scene.color,)))
    if "{}" in name:
        name = name.replace("{}", word)
    elif word and (rng is None or rng.random() < 0.8):
        name = f"{word} {name}"
    article = "an" if name[0] in "aeiou" else "a"
    if rng is None:
        return f"{article} {name}"
    text = f"{article} {name}" if rng.random() < 0.85 else name
    chance = rng.random()
    if chance < 0.14:
        text += " " + _pick(rng, _PLACES[scene.side])
    elif chance < 0.24:
        text += " " + _pick(rng, _NEAR[scene.is_near])
    elif chance < 0.34 and scene.land in ("sea", "lake", "river") and scene.thing == "sailboat":
        text += " " + _pick(rng, ("on the water", f"on the {scene.land}", "sailing"))
    return text


def _clauses(scene: Scene, rng: np.random.Generator) -> list[str]:
    """What is said of a scene, each part left out now and then."""
    land = _tinted(scene, _pick(rng, _LANDS[scene.land]), scene.land, rng, 0.2)
    time = _pick(rng, _TIMES[scene.time])
    parts = [f"{land} {time}" if rng.random() < 0.6 else land, "" if rng.random() < 0.06 else time]
    if parts[0].endswith(time):
        parts[1] = ""
    if scene.sky != "clear" or rng.random() < 0.2:
        parts.append(_pick(rng, _SKIES[scene.sky]))
    if scene.light and rng.random() < (0.45 if scene.light == "sun" else 0.92):
        parts.append(_pick(rng, _LIGHTS[scene.light]))
    if scene.backdrop and rng.random() < 0.75:
        parts.append(_tinted(scene, _pick(rng, _BACKDROPS[scene.backdrop]), scene.backdrop, rng, 0.1))
    if scene.thing:
        parts.append(_thing(scene, rng))
    if scene.style:
        parts.append(_pick(rng, _STYLES[scene.style]))
    return [part for part in parts if part]


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One free phrasing of a scene, 3 to about 25 words."""
    parts = _clauses(scene, rng)
    if rng.random() < 0.7:
        parts = [parts[i] for i in rng.permutation(len(parts))]
    text = parts[0]
    for part in parts[1:]:
        join = _pick(rng, _JOINS)
        text += (" " if part.startswith("with ") else join) + part
    if rng.random() < 0.15:
        text = f"{_pick(rng, _OPENINGS)} {text}"
    while rng.random() < 0.15:
        text += ", " + _pick(rng, _ENDINGS)
    return text


def canonical_caption(scene: Scene) -> str:
    """The plain phrasing that says every part, always in one order."""
    parts = [f"{_tinted(scene, _LANDS[scene.land][0], scene.land, None, 0)} {_TIMES[scene.time][0]}"]
    if scene.sky != "clear":
        parts.append(_SKIES[scene.sky][0])
    if scene.light:
        parts.append(_LIGHTS[scene.light][0])
    if scene.backdrop:
        parts.append(_tinted(scene, _BACKDROPS[scene.backdrop][0], scene.backdrop, None, 0))
    if scene.thing:
        parts.append(_thing(scene, None))
    if scene.style:
        parts.append(_STYLES[scene.style][0])
    return ", ".join(parts)


def vocabulary() -> list[str]:
    """Every word a caption can hold, sorted."""
    tables = (_TIMES, _SKIES, _LIGHTS, _LANDS, _TINTS, _BACKDROPS, _THINGS, _COLORS, _PLACES, _NEAR, _STYLES)
    texts = [text for table in tables for options in table.values() for text in options]
    texts += [*_OPENINGS, *_ENDINGS, *_JOINS, "a an on the water sea lake river sailing", "red yellow blue orange green white purple golden"]
    return sorted(set(re.findall(r"[a-z]+", " ".join(texts))))
