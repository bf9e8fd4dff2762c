"""A1111's infotext, which other programs read from images: written and parsed, never executed.

Source: the layout as AUTOMATIC1111 and Forge write and read it (specs/compatibility.md 4a): prompt, a
`Negative prompt:` part, and one last line of `Key: value` pairs; values with a comma, colon or line break
are JSON-quoted. What a recipe's parts are called is in `infotext_parts.py`, what the pairs mean for a form in
`import_recipe.py`.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from catalog.families import clip_skip_written
from contract.recipe import Recipe
from contract.tasks import Upscale
from contract.values import EMPHASES
from studio import VERSION
from studio.metadata.guidance_texts import guidance_pairs, hires_guidance_pairs
from studio.metadata.infotext_parts import (
    NEGATIVE_PROMPT_2,
    PROMPT_2,
    format_number,
    lora_tags,
    model_hash,
    noise_pairs,
    part_pairs,
    sampler_label,
    schedule_label,
    upscaler_label,
    with_tags,
)
from studio.metadata.region_texts import region_pairs

MAX_CHARACTERS = 500_000
_NEGATIVE = "Negative prompt:"
_KEY = re.compile(r"\w[\w \-/]{1,80}")
_HEX = re.compile(r"[0-9A-Fa-f]{1,64}")
_FIRST_KEY = re.compile(r"Steps: \d+,")
_LAST_PART = re.compile(r"\sSteps: \d{1,5}, ")
_NAMES = re.compile(r'\s*("((?:[^"\\\x00-\x1f]|\\["\\/bfnrt])*)"(?=\s*(?:,|$))|[^,]+)')
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
    """The infotext of one image's recipe (count 1, its own seed)."""
    pairs: dict[str, object] = {
        "Steps": recipe.steps,
        "Sampler": sampler_label(recipe.sampler),
        "Schedule type": schedule_label(recipe.schedule),
        "CFG scale": format_number(recipe.guidance),
        "Seed": recipe.seed,
        "Size": f"{recipe.width}x{recipe.height}",
    }
    digits = model_hash(recipe.model)
    if digits:
        pairs["Model hash"] = digits
    pairs["Model"] = recipe.model.name
    if recipe.vae:
        vae_digits = model_hash(recipe.vae)
        if vae_digits:
            pairs["VAE hash"] = vae_digits
        pairs["VAE"] = recipe.vae.name
    if recipe.clip_skip > 1:
        pairs["Clip skip"] = clip_skip_written(recipe.clip_skip, recipe.model.family)
    if recipe.emphasis != "original":
        pairs["Emphasis"] = EMPHASES[recipe.emphasis]
    if recipe.tiling:  # A1111 knows both axes alone
        pairs["Tiling"] = True if recipe.tiling == "xy" else recipe.tiling
    template = recipe.template
    if template:
        if template.styles:
            names = [json.dumps(name, ensure_ascii=False) if "," in name else name for name in template.styles]
            pairs["Styles"] = ", ".join(names)
        if template.prompt != recipe.prompt:
            pairs["Template"] = template.prompt
        if template.negative_prompt != recipe.negative_prompt:
            pairs["Negative Template"] = template.negative_prompt
    for key, text in ((PROMPT_2, recipe.prompt_2), (NEGATIVE_PROMPT_2, recipe.negative_prompt_2)):
        if text is not None:
            pairs[key] = text
    pairs |= noise_pairs(recipe)
    pairs |= part_pairs(recipe) | region_pairs(recipe)
    pairs |= guidance_pairs(recipe.guidance_methods) | hires_guidance_pairs(recipe.hires)
    of_regions = [use.model for region in recipe.regions.regions for use in region.loras] if recipe.regions else []
    # By these hashes other programs and sites recognize LoRAs and embeddings.
    for key, refs, length in (
        ("Lora hashes", list(dict.fromkeys([*(use.model for use in recipe.loras), *of_regions])), 10),
        ("TI hashes", recipe.embeddings, 12),
    ):
        hashes = ", ".join(f"{ref.name}: {ref.sha256[:length]}" for ref in refs if ref.sha256)
        if hashes:
            pairs[key] = hashes
    pairs["Version"] = f"Darkroom {VERSION}"
    tags = [lora_tags(recipe.loras)] if recipe.loras else []
    for net in recipe.hypernetworks:
        tags.append(f"<hypernet:{net.model.name}:{format_number(net.weight)}>")
    lines = [with_tags(recipe.prompt, " ".join(tags))]
    if recipe.negative_prompt:
        lines.append(f"{_NEGATIVE} {recipe.negative_prompt}")
    last_line: list[str] = []
    for key, value in pairs.items():
        text = str(value)
        last_line.append(key if key == text else f"{key}: {_quote(text)}")
    lines.append(", ".join(last_line))
    return "\n".join(lines)


def parse_names(text: str) -> list[str]:
    """`name, "a name, with a comma"` as a list; names with a comma are JSON texts."""
    names = [match[1] if match[2] is None else json.loads(match[1]) for match in _NAMES.finditer(text)]
    return [name for name in map(str.strip, names) if name]


def parse_hashes(text: str) -> dict[str, str]:
    """`name: hash, name: hash` as a table; names may hold commas and colons. A name without a hash is left out."""
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


def _quote(text: str) -> str:
    """A value as JSON, if it could be mistaken for several pairs; else as it is."""
    has_mark = any(mark in text for mark in ",:\n\r")
    if has_mark or text != text.strip() or text.startswith(('"', "{")):
        return json.dumps(text, ensure_ascii=False)
    return text


def write_upscale(upscale: Upscale) -> str:
    """The text that A1111's Extras tab writes under “postprocessing”."""
    name = upscale.upscaler if isinstance(upscale.upscaler, str) else upscale.upscaler.name
    label = _quote(upscaler_label(name))
    return f"Postprocess upscale by: {format_number(upscale.scale)}, Postprocess upscaler: {label}"


def parse_infotext(text: str) -> Infotext:
    """Take an infotext apart. Never raises; time is linear in the length.

    The last line counts as parameters only if it yields three pairs or more, else it is prompt. Lines that sites and
    extensions add behind one that begins with "Steps" belong to it.
    """
    text = _restore_lines(text[:MAX_CHARACTERS].strip())
    body, _, last = text.rpartition("\n")
    pairs = parse_pairs(last)
    if not _FIRST_KEY.match(last):
        lines = text.rsplit("\n", _MAX_LINES_BEHIND)
        for index in range(len(lines) - 1, 0, -1):
            if _FIRST_KEY.match(lines[index]):
                body, pairs = "\n".join(lines[:index]), parse_pairs(", ".join(lines[index:]))
                break
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


def _restore_lines(text: str) -> str:
    """An infotext whose line breaks some tool has replaced by spaces; another text as it is."""
    if "\n" in text:
        return text
    last = _LAST_PART.search(text)
    if last is None or len(parse_pairs(text[last.start() :])) < _LEAST_PAIRS:
        return text
    prompt, mark, negative = text[: last.start()].partition(f" {_NEGATIVE} ")
    lines = [prompt]
    if mark:
        lines.append(f"{_NEGATIVE} {negative}")
    lines.append(text[last.start() + 1 :])
    return "\n".join(lines)


def parse_pairs(line: str) -> dict[str, str]:
    """`Key: value, Key: "quoted, value", Key: {"a": 1}` as a table; fields without a key are left out."""
    pairs: dict[str, str] = {}
    position, end, tables = 0, len(line), 0
    while position < end:
        comma = _find_comma(line, position)
        colon = line.find(":", position, comma)
        key = line[position:colon].strip() if colon >= 0 else ""
        if not _KEY.fullmatch(key):
            position = comma + 1
            continue
        start = colon + 1
        while start < end and line[start] == " ":
            start += 1
        opening = line[start : start + 1]
        table_end = quote_end = 0
        if opening == '"':
            quote_end = _quote_end(line, start)
        elif opening in ("[", "{"):
            tables += 1
            if tables <= _MAX_TABLES:  # reading many that never end would take too long
                # A list or an object as JSON, which some write without quotes.
                with suppress(ValueError, RecursionError):
                    table_end = json.JSONDecoder().raw_decode(line, start)[1]
        if table_end and not line[table_end : _find_comma(line, table_end)].strip():
            value = line[start:table_end]
            comma = _find_comma(line, table_end)
        elif quote_end:
            value = line[start + 1 : quote_end - 1]
            with suppress(ValueError):
                unquoted = json.loads(line[start:quote_end])
                value = unquoted if isinstance(unquoted, str) else value
            comma = _find_comma(line, quote_end - 1)
        else:
            comma = _find_comma(line, start)
            value = line[start:comma].strip()
        pairs.setdefault(key, value)
        position = comma + 1
    return pairs


def _find_comma(line: str, start: int) -> int:
    """The position of the next comma, or of the line's end."""
    comma = line.find(",", start)
    return comma if comma >= 0 else len(line)


def _quote_end(line: str, start: int) -> int:
    """The position behind the quote that closes the one at `start`; 0 if none does."""
    position = start + 1
    while True:
        quote = line.find('"', position)
        if quote < 0:
            return 0
        backslashes = 0
        while line[quote - 1 - backslashes] == "\\" and quote - 1 - backslashes > start:
            backslashes += 1
        if backslashes % 2 == 0:
            return quote + 1
        position = quote + 1
