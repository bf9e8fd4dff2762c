"""What a picture says it was made with: ours, A1111's infotext, or another program's words.

Metadata fills a form; it never runs and never changes settings. What can't be used is named: left out, or replaced by
what comes nearest, so that what is given back can be posted.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from catalog.families import clip_skip_read
from catalog.models import ModelEntry
from contract.errors import InvalidInput, InvalidRecipe
from contract.recipe import MAX_PROMPT_CHARACTERS, Frozen, Recipe
from contract.validation import parse_draft
from studio.library.model_list import ModelList
from studio.metadata import infotext
from studio.metadata.accepted_drafts import Check, accepted
from studio.metadata.image_files import KEYWORD, parse_facts
from studio.metadata.image_texts import picture_texts
from studio.metadata.import_networks import FoundNets
from studio.metadata.import_parts import HIRES_KEYS, hires_fields, number, sampler_fields, size_fields
from studio.metadata.other_programs import Foreign, best_infotext, read_foreign
from studio.metadata.stealth_text import hidden_text
from studio.resolve.model_finder import WithHash
from studio.uploads.file_kinds import sniff
from studio.uploads.safe_open import opened

_MOST_LAYERS = 24  # of a text encoder; what is beyond is no clip skip
_USED_KEYS = frozenset(
    {
        "Steps",
        "Sampler",
        "Schedule type",
        "CFG scale",
        "Seed",
        "Size",
        "Model hash",
        "Model",
        "Clip skip",
        "Version",
        "RNG",
        "ENSD",
        "VAE",
        "VAE hash",
        "Lora hashes",
        "TI",
        "TI hashes",
        "Hypernet",
        "Hypernet strength",
        "Hashes",
        "App",
        "Civitai metadata",
        "Created Date",
    }
)
_NUMBERS: Mapping[str, tuple[str, type]] = MappingProxyType(
    {"Steps": ("steps", int), "CFG scale": ("guidance", float), "Seed": ("seed", int), "Clip skip": ("clip_skip", int)}
)
_NOT_SET = frozenset({"", "0", "false", "none", "null"})  # as some sites write a clip skip that nobody chose
# What SD.Next, Fooocus and Draw Things call the same, in small letters; SD.Next writes "HiRes" in some versions.
_OTHER_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "hires scale": "Hires upscale",
        "hires size": "Hires resize",
        "hires fixed": "Hires resize",
        "scheduler": "Schedule type",
        "base model": "Model",
        "base model hash": "Model hash",
        "guidance scale": "CFG scale",
        **{key.lower(): key for key in HIRES_KEYS},
    }
)
_SAME = "use same"
_SHOWN_KEYS = 12


class FoundRecipe(Frozen):
    """What was found in a picture.

    Attributes:
        draft: Fields for the form (a RecipeDraft's JSON), with only what can be used here.
        infotext: The A1111 text, if there was one; else what another program wrote.
        unknown: Names of models that are not here.
        notices: Sentences to show.
    """

    draft: dict[str, object] | None
    infotext: str | None = None
    unknown: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def read_recipe(data: bytes, models: ModelList, with_hash: WithHash, *, check: Check | None = None) -> FoundRecipe:
    """Find the recipe of a picture.

    Args:
        with_hash: The model whose sha256, or another hash that programs know it by, begins so, whatever its name.
        check: Raises what posting a draft would raise; without it a draft is only known to be well-formed.

    Raises:
        InvalidInput: no picture, no recipe inside, or one that only another program can read.
    """
    texts = picture_texts(data)
    facts = parse_facts(texts[KEYWORD]) if KEYWORD in texts else None
    if facts is not None and facts.recipe is not None:
        found: FoundRecipe | None = _ours(facts.recipe, texts.get("parameters"), models, with_hash)
    else:
        found = _theirs(texts, models, with_hash) or _theirs(_hidden(data), models, with_hash)
    if found is None:
        raise InvalidInput("The picture has no recipe inside.", "It can still be a start picture.", code="no_recipe")
    if check is None or found.draft is None:
        return found
    notices = list(found.notices)
    draft = accepted(found.draft, check, notices)
    return found.model_copy(update={"draft": draft, "notices": tuple(notices)})


def _hidden(data: bytes) -> dict[str, str]:
    """Texts in the lowest bits of the pixels, for programs that put them there."""
    if data[:3] == b"GIF" or sniff(data) not in ("PNG", "WEBP"):
        return {}
    with opened(data) as image:
        text = hidden_text(image)
    try:
        table = json.loads(text) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        return {}
    if isinstance(table, dict):
        return {str(key): value for key, value in table.items() if isinstance(value, str)}
    return {"hidden": text} if text else {}  # it is an infotext, or nothing


def _theirs(texts: Mapping[str, str], models: ModelList, with_hash: WithHash) -> FoundRecipe | None:
    """A1111's infotext if there is one, else what another program wrote.

    Raises:
        InvalidInput: another program wrote it, and it can't be read.
    """
    text = best_infotext(texts, anywhere=False)
    foreign = None if text else read_foreign(texts)
    if foreign is None or foreign.infotext is None:
        text = text or best_infotext(texts)
    if text:
        return _from_infotext(text, models, with_hash)
    if foreign is None:
        return None
    if foreign.infotext is None:
        raise InvalidInput(
            f"The picture was made by {foreign.program}; {foreign.unread} can't be read here yet.",
            "It can still be a start picture.",
            code="foreign_recipe",
        )
    return _from_foreign(foreign, models, with_hash)


def _ours(recipe: Recipe, text: str | None, models: ModelList, with_hash: WithHash) -> FoundRecipe:
    draft = json.loads(recipe.canonical_json())
    nets = FoundNets(models, with_hash)
    nets.put_own(draft, recipe)
    entry = _find_model(recipe.model.name, recipe.model.sha256, models, with_hash)
    if entry is not None:
        draft["model"] = entry.ref.name
        return FoundRecipe(draft=draft, infotext=text, unknown=tuple(nets.unknown), notices=tuple(nets.notices))
    del draft["model"]
    return FoundRecipe(
        draft=draft,
        infotext=text,
        unknown=(recipe.model.name, *nets.unknown),
        notices=(_not_here(recipe.model.name), *nets.notices),
    )


def _from_foreign(foreign: Foreign, models: ModelList, with_hash: WithHash) -> FoundRecipe:
    assert foreign.infotext is not None
    notices = [f"Made by {foreign.program}; what it wrote was translated.", *foreign.notices]
    return _in_words_of_ours(foreign.infotext, foreign.source or None, notices, models, with_hash)


def _from_infotext(text: str, models: ModelList, with_hash: WithHash) -> FoundRecipe:
    notices = []
    if len(text) > infotext.MAX_CHARACTERS:
        notices.append("The picture's text is very long; only its beginning was read.")
        text = text[: infotext.MAX_CHARACTERS]
    return _in_words_of_ours(infotext.parse(text), text, notices, models, with_hash)


def _in_words_of_ours(
    found: infotext.Infotext, text: str | None, notices: list[str], models: ModelList, with_hash: WithHash
) -> FoundRecipe:
    """A draft with what of an infotext can be used here."""
    if len(found.prompt) > MAX_PROMPT_CHARACTERS:
        notices.append(f"The prompt is longer than {MAX_PROMPT_CHARACTERS:,} characters; the rest was left out.")
        found = replace(found, prompt=found.prompt[:MAX_PROMPT_CHARACTERS])
    nets = FoundNets(models, with_hash)
    found = replace(
        found,
        pairs={
            **{_OTHER_KEYS[key.lower()]: value for key, value in found.pairs.items() if key.lower() in _OTHER_KEYS},
            **{key: value for key, value in found.pairs.items() if key.lower() not in _OTHER_KEYS},
        },
    )
    pairs = {
        key: nets.with_known_names(value, found.pairs) if key in ("Hires prompt", "Hires negative prompt") else value
        for key, value in found.pairs.items()
    }
    found = replace(
        found,
        pairs=pairs,
        prompt=nets.with_known_names(found.prompt, pairs),
        negative_prompt=nets.with_known_names(found.negative_prompt, pairs),
    )
    wanted: dict[str, object] = {"negative_prompt": found.negative_prompt} if found.negative_prompt else {}
    for key, (name, kind) in _NUMBERS.items():
        if key in pairs and not (name == "clip_skip" and pairs[key].lower() in _NOT_SET):
            wanted[name] = number(pairs[key], kind)
    wanted_model = pairs.get("Model") or nets.resource_model(pairs) or pairs.get("Model hash")
    digits = pairs.get("Model hash") or nets.hashes(pairs).get("model")
    entry = _find_model(wanted_model, digits, models, with_hash) if wanted_model else None
    wanted |= _clip_skip(wanted.get("clip_skip"), entry, notices)
    size = size_fields(pairs, notices)
    wanted |= size | sampler_fields(pairs, notices)
    wanted |= hires_fields(pairs, _sides(size), models, notices)
    wanted |= nets.of_pairs(pairs)
    notices += nets.notices
    draft = _usable({"prompt": found.prompt}, wanted, notices)
    if ("width" in draft) != ("height" in draft):
        draft = {name: value for name, value in draft.items() if name not in ("width", "height")}
    unknown: tuple[str, ...] = tuple(nets.unknown)
    if wanted_model:
        if entry is None:
            unknown = (wanted_model[:300], *unknown)
            notices.append(_not_here(wanted_model))
        else:
            draft["model"] = entry.ref.name
    used = _USED_KEYS.union(HIRES_KEYS if "hires" in draft else (), nets.used_keys)
    others = [key for key, value in pairs.items() if key not in used and not value.lower().startswith(_SAME)]
    if others:
        notices.append(f"Not used: {', '.join(others[:_SHOWN_KEYS])}{', …' if len(others) > _SHOWN_KEYS else ''}.")
    return FoundRecipe(draft=draft, infotext=text, unknown=unknown, notices=tuple(notices))


def _clip_skip(written: object, entry: ModelEntry | None, notices: list[str]) -> dict[str, object]:
    """By the model's family; where the model is not here, as SD 1.x counts."""
    if not isinstance(written, int) or not 1 < written <= _MOST_LAYERS:
        return {}
    if entry is None:
        notices.append(
            f"Clip skip {written} is as SD 1.x counts; for SD 2.x or SDXL use {clip_skip_read(written, 'sdxl')}."
        )
    return {"clip_skip": clip_skip_read(written, entry.ref.family if entry else "sd1")}


def _sides(size: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = size.get("width"), size.get("height")
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        return width, height
    return None


def _usable(draft: dict[str, object], wanted: Mapping[str, object], notices: list[str]) -> dict[str, object]:
    """Add to a draft the fields that pass its validation; name the others. Of a hires pass what can be used is kept."""
    for name, value in wanted.items():
        while True:
            try:
                parse_draft(json.dumps(draft | {name: value}))
            except InvalidRecipe as error:
                notices.append(f"{error.message} It was left out.")
                inner = error.field.partition(".")[2]
                if isinstance(value, dict) and inner in value and inner != "scale":
                    value = {key: kept for key, kept in value.items() if key != inner}
                    continue
            else:
                draft[name] = value
            break
    return draft


def _find_model(name: str, sha256: str | None, models: ModelList, with_hash: WithHash) -> ModelEntry | None:
    found = models.find(name) or (with_hash(sha256) if sha256 else None)
    return found if found and found.ref.kind == "checkpoint" else None


def _not_here(name: str) -> str:
    return f"Made with “{name[:80]}”, which is not here. The rest is in the form."
