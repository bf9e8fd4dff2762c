"""What a picture says it was made with: ours, or A1111's infotext in a PNG, JPEG or WebP.

Metadata fills a form; it never runs and never changes settings. What can't be used is named, never clamped.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from PIL import Image
from pydantic import ValidationError

from catalog.families import clip_skip_read
from catalog.models import ModelEntry
from catalog.samplers import find_sampler, find_schedule
from catalog.upscalers import find_upscaler
from contract.errors import InvalidInput, InvalidRecipe
from contract.recipe import MAX_PROMPT_CHARACTERS, Frozen, Recipe
from contract.validation import parse_draft
from studio import infotext
from studio.found_nets import FoundNets
from studio.image_files import KEYWORD, parse_facts
from studio.model_finder import WithHash
from studio.model_list import ModelList
from studio.opener import opened, sniff
from studio.png_text import read_text
from studio.sampler_choice import split_old_name

_MOST_LAYERS = 24  # of a text encoder; what is beyond is no clip skip
_EXIF = 0x8769
_USER_COMMENT = 0x9286
_USED_KEYS = frozenset({"Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model hash", "Model",
                        "Clip skip", "Version", "RNG", "ENSD", "VAE", "VAE hash", "Lora hashes", "TI", "TI hashes",
                        "Hypernet", "Hypernet strength"})
_HIRES_KEYS = ("Hires upscale", "Hires upscaler", "Hires steps", "Denoising strength")
_NUMBERS: Mapping[str, tuple[str, type]] = MappingProxyType({
    "Steps": ("steps", int), "CFG scale": ("guidance", float), "Seed": ("seed", int),
    "Clip skip": ("clip_skip", int)})


class FoundRecipe(Frozen):
    """What was found in a picture.

    Attributes:
        draft: Fields for the form (a RecipeDraft's JSON), with only what can be used here.
        infotext: The A1111 text, if there was one.
        unknown: Names of models that are not here.
        notices: Sentences to show.
    """

    draft: dict[str, object] | None
    infotext: str | None = None
    unknown: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def read_recipe(data: bytes, models: ModelList, with_hash: WithHash) -> FoundRecipe:
    """Find the recipe of a picture.

    Args:
        with_hash: The model whose sha256 begins so, whatever its name.

    Raises:
        InvalidInput: no picture, or no recipe inside.
    """
    texts = _texts(data)
    text = texts.get("parameters")
    facts = parse_facts(texts[KEYWORD]) if KEYWORD in texts else None
    if facts is not None and facts.recipe is not None:
        return _ours(facts.recipe, text, models, with_hash)
    if text is None or not text.strip():
        raise InvalidInput("The picture has no recipe inside.", "It can still be a start picture.",
                           code="no_recipe")
    return _from_infotext(text, models, with_hash)


def _texts(data: bytes) -> dict[str, str]:
    with opened(data) as image:
        if sniff(data) == "PNG":
            return read_text(io.BytesIO(data))
        comment = _user_comment(image)
    return {"parameters": comment} if comment else {}


def _user_comment(image: Image.Image) -> str:
    raw = image.getexif().get_ifd(_EXIF).get(_USER_COMMENT, b"")
    if isinstance(raw, str):
        return raw
    if not isinstance(raw, bytes):
        return ""
    head, body = raw[:8], raw[8:]
    if head == b"UNICODE\0":
        is_big = body[:200:2].count(0) >= body[1:200:2].count(0)
        return body.decode("utf-16-be" if is_big else "utf-16-le", "replace").strip("\0")
    return (body if head in (b"ASCII\0\0\0", b"\0" * 8) else raw).decode("utf-8", "replace").strip("\0")


def _ours(recipe: Recipe, text: str | None, models: ModelList, with_hash: WithHash) -> FoundRecipe:
    draft = json.loads(recipe.canonical_json())
    nets = FoundNets(models, with_hash)
    nets.put_own(draft, recipe)
    entry = _find_model(recipe.model.name, recipe.model.sha256, models, with_hash)
    if entry is not None:
        draft["model"] = entry.ref.name
        return FoundRecipe(draft=draft, infotext=text, unknown=tuple(nets.unknown), notices=tuple(nets.notices))
    del draft["model"]
    return FoundRecipe(draft=draft, infotext=text, unknown=(recipe.model.name, *nets.unknown),
                       notices=(_not_here(recipe.model.name), *nets.notices))


def _from_infotext(text: str, models: ModelList, with_hash: WithHash) -> FoundRecipe:
    notices = []
    if len(text) > infotext.MAX_CHARACTERS:
        notices.append("The picture's text is very long; only its beginning was read.")
        text = text[:infotext.MAX_CHARACTERS]
    found = infotext.parse(text)
    if len(found.prompt) > MAX_PROMPT_CHARACTERS:
        notices.append(f"The prompt is longer than {MAX_PROMPT_CHARACTERS:,} characters; the rest was left out.")
        found = replace(found, prompt=found.prompt[:MAX_PROMPT_CHARACTERS])
    nets = FoundNets(models, with_hash)
    found = replace(found, prompt=nets.with_known_tags(found.prompt, found.pairs),
                    negative_prompt=nets.with_known_tags(found.negative_prompt, found.pairs))
    wanted: dict[str, object] = {"negative_prompt": found.negative_prompt} if found.negative_prompt else {}
    for key, (name, kind) in _NUMBERS.items():
        if key in found.pairs:
            wanted[name] = _number(found.pairs[key], kind)
    width, _, height = found.pairs.get("Size", "").partition("x")
    if height:
        wanted |= {"width": _number(width, int), "height": _number(height, int)}
    wanted_model = found.pairs.get("Model") or found.pairs.get("Model hash")
    entry = _find_model(wanted_model, found.pairs.get("Model hash"), models, with_hash) if wanted_model else None
    wanted |= _clip_skip(wanted.get("clip_skip"), entry, notices)
    wanted |= _sampler(found.pairs, notices) | _hires(found.pairs, models) | nets.of_pairs(found.pairs)
    notices += nets.notices
    draft = _usable({"prompt": found.prompt}, wanted, notices)
    unknown: tuple[str, ...] = tuple(nets.unknown)
    if wanted_model:
        if entry is None:
            unknown = (wanted_model[:300], *unknown)
            notices.append(_not_here(wanted_model))
        else:
            draft["model"] = entry.ref.name
    used = _USED_KEYS.union(_HIRES_KEYS if "hires" in draft else ())
    others = [key for key in found.pairs if key not in used]
    if others:
        notices.append(f"Not used: {', '.join(others[:12])}{', …' if len(others) > 12 else ''}.")
    return FoundRecipe(draft=draft, infotext=text, unknown=unknown, notices=tuple(notices))


def _number(text: str, kind: type) -> object:
    """The number, or the text itself, so that the refusal can show it."""
    try:
        return kind(text) if len(text) <= 40 else text
    except ValueError:
        return text


def _clip_skip(written: object, entry: ModelEntry | None, notices: list[str]) -> dict[str, object]:
    """By the model's family; where the model is not here, as SD 1.x counts."""
    if not isinstance(written, int) or not 1 < written <= _MOST_LAYERS:
        return {}
    if entry is None:
        notices.append(f"Clip skip {written} is as SD 1.x counts; for SD 2.x or SDXL use {clip_skip_read(written, 'sdxl')}.")
    return {"clip_skip": clip_skip_read(written, entry.ref.family if entry else "sd1")}


def _sampler(pairs: Mapping[str, str], notices: list[str]) -> dict[str, object]:
    if "Sampler" not in pairs:
        return {}
    name = pairs["Sampler"]
    sampler, schedule = find_sampler(name), find_schedule(pairs.get("Schedule type", "automatic"))
    if sampler is None:
        sampler, old_style = split_old_name(name)
        schedule = old_style or schedule
    if sampler is None:
        notices.append(f"Sampler “{name[:60]}” is not known here; the model's own is used.")
        return {}
    if schedule is None or schedule.id not in sampler.schedules:
        notices.append(f"Schedule “{pairs.get('Schedule type', '')[:60]}” is not known here; Automatic is used.")
        return {"sampler": sampler.id, "schedule": "automatic"}
    return {"sampler": sampler.id, "schedule": schedule.id}


def _hires(pairs: Mapping[str, str], models: ModelList) -> dict[str, object]:
    """A hires pass whose upscaler is here; else none, and its keys are named as not used."""
    name = pairs.get("Hires upscaler", "Latent")
    entry = None if find_upscaler(name) else models.find(name, "upscaler")
    if "Hires upscale" not in pairs or not (entry or find_upscaler(name)):
        return {}
    hires: dict[str, object] = {"scale": _number(pairs["Hires upscale"], float),
                                "upscaler": entry.ref.name if entry else name}
    steps = _number(pairs.get("Hires steps", "0"), int)
    hires |= {"steps": steps} if steps else {}
    if "Denoising strength" in pairs:
        hires["strength"] = _number(pairs["Denoising strength"], float)
    return {"hires": hires}


def _usable(draft: dict[str, object], wanted: Mapping[str, object], notices: list[str]) -> dict[str, object]:
    """Add to a draft the fields that pass its validation; name the others."""
    for name, value in wanted.items():
        try:
            parse_draft(json.dumps(draft | {name: value}))
        except (InvalidRecipe, ValidationError) as error:
            notices.append(f"{getattr(error, 'message', error)} It was left out.")
        else:
            draft[name] = value
    return draft


def _find_model(name: str, sha256: str | None, models: ModelList, with_hash: WithHash) -> ModelEntry | None:
    found = models.find(name) or (with_hash(sha256) if sha256 else None)
    return found if found and found.ref.kind == "checkpoint" else None


def _not_here(name: str) -> str:
    return f"Made with “{name[:80]}”, which is not here. The rest is in the form."
