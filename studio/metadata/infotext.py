"""A1111's infotext: what other programs read from a picture. Written and parsed, never run.

Source: the layout as AUTOMATIC1111 and Forge write and read it (specs/compatibility.md 4a): prompt, a
`Negative prompt:` part, and one last line of `Key: value` pairs; values with a comma, colon or line break
are JSON-quoted. What a recipe's parts are called is in `infotext_parts.py`, what the pairs mean for a form in
`import_recipe.py`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from catalog.families import clip_skip_written
from catalog.upscalers import UPSCALERS
from contract.recipe import Recipe
from contract.tasks import Upscale
from studio import VERSION
from studio.metadata.infotext_parts import model_hash, part_pairs, plain, sampler_label, schedule_label

MAX_CHARACTERS = 500_000
_NEGATIVE = "Negative prompt:"
_KEY = re.compile(r"\w[\w \-/]{1,80}")
_HEX = re.compile(r"[0-9A-Fa-f]{1,64}")
_FIRST_KEY = re.compile(r"Steps: \d+,")
_LAST_PART = re.compile(r"\sSteps: \d{1,5}, ")
_LEAST_PAIRS = 3
_MAX_LINES_BEHIND = 20
_MAX_TABLES = 16


@dataclass(frozen=True, slots=True)
class Infotext:
    """A parsed infotext; values are text as written, unquoted."""

    prompt: str
    negative_prompt: str = ""
    pairs: Mapping[str, str] = field(default_factory=dict)


def write(recipe: Recipe) -> str:
    """The infotext of one picture's recipe (count 1, its own seed)."""
    pairs: dict[str, object] = {
        "Steps": recipe.steps,
        "Sampler": sampler_label(recipe.sampler),
        "Schedule type": schedule_label(recipe.schedule),
        "CFG scale": plain(recipe.guidance),
        "Seed": recipe.seed,
        "Size": f"{recipe.width}x{recipe.height}",
    }
    if digits := model_hash(recipe.model):
        pairs["Model hash"] = digits
    pairs["Model"] = recipe.model.name
    if recipe.vae:
        pairs |= {**({"VAE hash": digits} if (digits := model_hash(recipe.vae)) else {}), "VAE": recipe.vae.name}
    if recipe.clip_skip > 1:
        pairs["Clip skip"] = clip_skip_written(recipe.clip_skip, recipe.model.family)
    pairs |= part_pairs(recipe) | _hashes(recipe)
    pairs["Version"] = f"Darkroom {VERSION}"
    # Behind a comment, tags would be part of it.
    beside = "\n" if "#" in recipe.prompt.rpartition("\n")[2] else " "
    lines = [beside.join(filter(None, (recipe.prompt, " ".join(_tags(recipe)))))]
    if recipe.negative_prompt:
        lines.append(f"{_NEGATIVE} {recipe.negative_prompt}")
    lines.append(
        ", ".join(key if key == str(value) else f"{key}: {_quoted(str(value))}" for key, value in pairs.items())
    )
    return "\n".join(lines)


def _tags(recipe: Recipe) -> Iterator[str]:
    """LoRAs and hypernetworks as the field writes them into the prompt: weights of text encoders, U-Net."""
    for use in recipe.loras:
        weights = [use.weight] if use.text_weight is None else [use.text_weight, use.weight]
        blocks = [f"lbw={','.join(map(plain, use.blocks))}"] if use.blocks else []
        yield f"<lora:{':'.join([use.model.name, *map(plain, weights), *blocks])}>"
    for net in recipe.hypernetworks:
        yield f"<hypernet:{net.model.name}:{plain(net.weight)}>"


def _hashes(recipe: Recipe) -> dict[str, str]:
    """By which other programs and sites know LoRAs and embeddings again."""
    named = {
        "Lora hashes": [(use.model, 10) for use in recipe.loras],
        "TI hashes": [(ref, 12) for ref in recipe.embeddings],
    }
    texts = {
        key: ", ".join(f"{ref.name}: {ref.sha256[:digits]}" for ref, digits in refs if ref.sha256)
        for key, refs in named.items()
    }
    return {key: text for key, text in texts.items() if text}


def parse_hashes(text: str) -> dict[str, str]:
    """`name: hash, name: hash` as a table; names may hold commas and colons. What has no hash is left out."""
    found: dict[str, str] = {}
    name = ""
    for piece in text.split(","):
        name, _, digits = f"{name},{piece}".removeprefix(",").rpartition(":")
        if not name:
            name = digits  # no colon yet: the name goes on behind the comma
        elif _HEX.fullmatch(digits.strip()) and name.strip():
            found[name.strip()] = digits.strip()
            name = ""
        else:
            name = ""
    return found


def _quoted(text: str) -> str:
    if not any(mark in text for mark in ",:\n\r") and text == text.strip() and not text.startswith('"'):
        return text
    return json.dumps(text, ensure_ascii=False)


def write_upscale(upscale: Upscale) -> str:
    """What A1111's Extras write under “postprocessing”."""
    name = upscale.upscaler if isinstance(upscale.upscaler, str) else upscale.upscaler.name
    label = UPSCALERS[name].label if name in UPSCALERS else name
    return f"Postprocess upscale by: {plain(upscale.scale)}, Postprocess upscaler: {_quoted(label)}"


def parse(text: str) -> Infotext:
    """Take an infotext apart. Never raises; time is linear in the length.

    The last line counts as parameters only if it yields three pairs or more, else it is prompt. Lines that sites and
    extensions add behind one that begins with "Steps" belong to it.
    """
    text = _in_lines(text[:MAX_CHARACTERS].strip())
    body, _, last = text.rpartition("\n")
    pairs = parse_pairs(last)
    if not _FIRST_KEY.match(last):
        body, pairs = _with_lines_behind(text) or (body, pairs)
    if len(pairs) < _LEAST_PAIRS:
        body, pairs = text, {}
    prompt: list[str] = []
    negative: list[str] = []
    target = prompt
    for line in body.split("\n"):
        line = line.strip()
        if line.startswith(_NEGATIVE):
            target = negative
            line = line[len(_NEGATIVE) :].strip()
        target.append(line)
    return Infotext("\n".join(prompt).strip(), "\n".join(negative).strip(), pairs)


def _in_lines(text: str) -> str:
    """An infotext whose line breaks some tool has made spaces; another text as it is."""
    last = _LAST_PART.search(text) if "\n" not in text else None
    if last is None or len(parse_pairs(text[last.start() :])) < _LEAST_PAIRS:
        return text
    prompt, mark, negative = text[: last.start()].partition(f" {_NEGATIVE} ")
    return "\n".join((prompt, *([f"{_NEGATIVE} {negative}"] if mark else []), text[last.start() + 1 :]))


def _with_lines_behind(text: str) -> tuple[str, dict[str, str]] | None:
    lines = text.rsplit("\n", _MAX_LINES_BEHIND)
    place = next((place for place in range(len(lines) - 1, 0, -1) if _FIRST_KEY.match(lines[place])), None)
    if place is None:
        return None
    return "\n".join(lines[:place]), parse_pairs(", ".join(lines[place:]))


def parse_pairs(line: str) -> dict[str, str]:
    """`Key: value, Key: "quoted, value", Key: {"a": 1}` as a table; fields without a key are left out."""
    pairs: dict[str, str] = {}
    position, end, tables = 0, len(line), 0
    while position < end:
        comma = line.find(",", position)
        comma = end if comma < 0 else comma
        colon = line.find(":", position, comma)
        key = line[position:colon].strip() if colon >= 0 else ""
        if not _KEY.fullmatch(key):
            position = comma + 1
            continue
        start = colon + 1
        while start < end and line[start] == " ":
            start += 1
        opening = line[start : start + 1]
        close = _closing_quote(line, start) if opening == '"' else -1
        behind = _behind_table(line, start) if opening in ("[", "{") and tables < _MAX_TABLES else 0
        tables += opening in ("[", "{")
        if behind:
            value, following = line[start:behind], line.find(",", behind)
            position = end if following < 0 else following + 1
        elif close > 0:
            value, following = _unquoted(line[start : close + 1]), line.find(",", close)
            position = end if following < 0 else following + 1
        else:
            comma = line.find(",", start)
            comma = end if comma < 0 else comma
            value, position = line[start:comma].strip(), comma + 1
        pairs.setdefault(key, value)
    return pairs


def _closing_quote(line: str, start: int) -> int:
    """Position of the quote that ends the one at `start`, or -1."""
    position = start + 1
    while True:
        quote = line.find('"', position)
        if quote < 0:
            return -1
        backslashes = 0
        while line[quote - 1 - backslashes] == "\\" and quote - 1 - backslashes > start:
            backslashes += 1
        if backslashes % 2 == 0:
            return quote
        position = quote + 1


def _behind_table(line: str, start: int) -> int:
    """The position behind a list or an object as JSON, which some write without quotes; 0 where none begins."""
    try:
        return json.JSONDecoder().raw_decode(line, start)[1]
    except (ValueError, RecursionError):
        return 0


def _unquoted(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return text[1:-1]
    return value if isinstance(value, str) else text[1:-1]
