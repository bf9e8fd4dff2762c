"""Reads the generation parameters of an image: a Darkroom recipe, A1111's infotext, or another program's fields.

Metadata only fills a form: nothing in it is executed and no setting changes. Values that can't be used here are left
out or replaced by the nearest, with a notice, so that the result can be posted.
"""

import json
import re
from collections.abc import Mapping
from types import MappingProxyType

from catalog.families import FAMILIES, OLDEST, clip_skip_read, label_of
from catalog.models import ModelEntry
from contract.errors import InvalidInput, InvalidRecipe
from contract.recipe import MAX_PROMPT_CHARACTERS, Frozen, Recipe
from contract.validation import parse_draft
from contract.values import EMPHASES
from studio.library.model_list import ModelList
from studio.metadata import infotext
from studio.metadata.accepted_drafts import Check, accepted
from studio.metadata.guidance_texts import add_hires_guidance, guidance_fields
from studio.metadata.image_files import KEYWORD, parse_facts
from studio.metadata.image_texts import picture_texts
from studio.metadata.import_networks import FoundNetworks
from studio.metadata.import_parts import (
    HIRES_KEYS,
    NOISE_KEYS,
    TOLD_KEYS,
    hires_fields,
    noise_fields,
    number,
    sampler_fields,
    sampler_notice,
    size_fields,
    told_fields,
)
from studio.metadata.infotext_parts import NEGATIVE_PROMPT_2, PROMPT_2
from studio.metadata.other_programs import best_infotext, read_foreign
from studio.metadata.region_texts import region_fields
from studio.metadata.stealth_text import hidden_text
from studio.resolve.model_finder import WithHash
from studio.uploads.file_kinds import sniff_image_format
from studio.uploads.safe_open import opened

_MOST_LAYERS = 24  # of a text encoder; a larger clip skip is invalid
_USED_KEYS = frozenset(
    {
        *NOISE_KEYS,
        *TOLD_KEYS,
        "Refiner",
        "Refiner switch at",
        "Steps",
        "Sampler",
        "Schedule type",
        "CFG scale",
        "Seed",
        "Size",
        "Model hash",
        "Model",
        "Clip skip",
        "Emphasis",
        "Tiling",
        "Styles",
        "Template",
        "Negative Template",
        PROMPT_2,
        NEGATIVE_PROMPT_2,
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
_NOT_SET = frozenset({"", "0", "false", "none", "null"})  # as some programs write a value that was not set
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
_WITH_HASH = re.compile(r"(?P<name>.*?)(?:\s*\[(?P<digits>[0-9a-f]{3,64})\])?", re.DOTALL)
_SHOWN_KEYS = 12


class FoundRecipe(Frozen):
    """The generation parameters that were found in an image.

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
    """Find the recipe of an image.

    Args:
        with_hash: The model whose sha256, or another hash that programs know it by, begins so, whatever its name.
        check: Raises what posting a draft would raise; without it a draft is only known to be well-formed.

    Raises:
        InvalidInput: no picture, no recipe inside, or one that only another program can read.
    """
    texts = picture_texts(data)
    facts = parse_facts(texts[KEYWORD]) if KEYWORD in texts else None
    found: FoundRecipe | None
    if facts is not None and facts.recipe is not None:
        found = _from_recipe(facts.recipe, texts.get("parameters"), models, with_hash)
    else:
        found = _from_texts(texts, models, with_hash) or _from_texts(_hidden_texts(data), models, with_hash)
    if found is None:
        raise InvalidInput("The picture has no recipe inside.", "It can still be a start picture.", code="no_recipe")
    if check is None or found.draft is None:
        return found
    notices = list(found.notices)
    draft = accepted(found.draft, check, notices)
    return found.model_copy(update={"draft": draft, "notices": tuple(notices)})


def _hidden_texts(data: bytes) -> dict[str, str]:
    """Texts in the lowest bits of the pixels, for programs that put them there."""
    if data[:3] == b"GIF" or sniff_image_format(data) not in ("PNG", "WEBP"):
        return {}
    with opened(data) as image:
        text = hidden_text(image)
    if not text:
        return {}
    table: object = None
    if text.lstrip().startswith("{"):
        try:
            table = json.loads(text)
        except (ValueError, RecursionError):
            return {}
    if isinstance(table, dict):
        return {str(key): value for key, value in table.items() if isinstance(value, str)}
    return {"hidden": text}  # it is an infotext, or nothing


def _from_recipe(recipe: Recipe, text: str | None, models: ModelList, with_hash: WithHash) -> FoundRecipe:
    """A draft of a recipe that Darkroom wrote, with the names that its models have here."""
    draft = json.loads(recipe.canonical_json())
    networks = FoundNetworks(models, with_hash)
    networks.rename_in(draft, recipe)
    if recipe.refiner:
        ref = recipe.refiner.model
        refiner = _find_checkpoint(ref.name, ref.sha256, models, with_hash)
        if refiner is None:
            del draft["refiner"]
            _miss_refiner(ref.name, networks)
        else:
            draft["refiner"]["model"] = refiner.ref.name
    unknown, notices = networks.unknown, networks.notices
    entry = _find_checkpoint(recipe.model.name, recipe.model.sha256, models, with_hash)
    if entry is not None:
        draft["model"] = entry.ref.name
        if entry.defaults.cfg_rescale:
            draft.setdefault("guidance_methods", [])
    else:
        del draft["model"]
        unknown = [recipe.model.name, *unknown]
        notices = [_missing_model_notice(recipe.model.name), *notices]
    return FoundRecipe(draft=draft, infotext=text, unknown=tuple(unknown), notices=tuple(notices))


def _from_texts(texts: Mapping[str, str], models: ModelList, with_hash: WithHash) -> FoundRecipe | None:
    """A1111's infotext if there is one, else what another program wrote; None if there is neither.

    Raises:
        InvalidInput: another program wrote it, and it can't be read.
    """
    text = best_infotext(texts, anywhere=False)
    foreign = None if text else read_foreign(texts)
    if foreign is None or foreign.infotext is None:
        text = text or best_infotext(texts)
    if text:
        notices: list[str] = []
        if len(text) > infotext.MAX_CHARACTERS:
            notices.append("The picture's text is very long; only its beginning was read.")
            text = text[: infotext.MAX_CHARACTERS]
        return _to_draft(infotext.parse_infotext(text), text, notices, models, with_hash)
    if foreign is None:
        return None
    if foreign.infotext is None:
        raise InvalidInput(
            f"The picture was made by {foreign.program}; {foreign.unread} can't be read here yet.",
            "It can still be a start picture.",
            code="foreign_recipe",
        )
    notices = [f"Made by {foreign.program}; what it wrote was translated.", *foreign.notices]
    return _to_draft(foreign.infotext, foreign.source or None, notices, models, with_hash)


def _to_draft(
    found: infotext.Infotext, text: str | None, notices: list[str], models: ModelList, with_hash: WithHash
) -> FoundRecipe:
    """A draft with everything of an infotext that can be used here."""
    prompt = found.prompt
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        notices.append(f"The prompt is longer than {MAX_PROMPT_CHARACTERS:,} characters; the rest was left out.")
        prompt = prompt[:MAX_PROMPT_CHARACTERS]
    own = {key: value for key, value in found.pairs.items() if key.lower() not in _OTHER_KEYS}
    others = {_OTHER_KEYS[key.lower()]: value for key, value in found.pairs.items() if key not in own}
    pairs = others | own  # a key of A1111's own wins
    networks = FoundNetworks(models, with_hash)
    for key, value in pairs.items():
        if key in ("Hires prompt", "Hires negative prompt", PROMPT_2, NEGATIVE_PROMPT_2):
            pairs[key] = networks.rename_in_prompt(value, pairs)
    prompt = networks.rename_in_prompt(prompt, pairs)
    negative_prompt = networks.rename_in_prompt(found.negative_prompt, pairs)
    wanted = _plain_fields(pairs, prompt, negative_prompt)
    model_name = pairs.get("Model") or networks.resource_model(pairs) or pairs.get("Model hash")
    model_hash = pairs.get("Model hash") or networks.hashes(pairs).get("model")
    entry = _find_checkpoint(model_name, model_hash, models, with_hash) if model_name else None
    wanted |= _clip_skip(wanted.get("clip_skip"), entry, notices)
    size = size_fields(pairs, notices)
    first_pass = None
    width, height = size.get("width"), size.get("height")
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        first_pass = (width, height)
    wanted |= size | sampler_fields(pairs, notices) | noise_fields(pairs)
    notices += filter(None, [sampler_notice(pairs)])
    hires = hires_fields(pairs, first_pass, models, notices)
    hires_keys = add_hires_guidance(hires, pairs)
    wanted |= hires | told_fields(pairs)
    wanted |= networks.fields_of(pairs)
    if "Refiner" in pairs:
        wanted |= _refiner_fields(pairs, models, with_hash, networks)
    methods, guidance_keys = guidance_fields(pairs)
    if methods or (entry is not None and entry.defaults.cfg_rescale):
        wanted["guidance_methods"] = methods
    regions, region_keys = region_fields(pairs, lambda text: networks.rename_in_prompt(text, pairs))
    wanted |= regions
    notices += networks.notices
    draft = _add_usable({"prompt": prompt}, wanted, notices)
    if ("width" in draft) != ("height" in draft):
        draft.pop("width", None)
        draft.pop("height", None)
    unknown = list(networks.unknown)
    if entry is not None:
        draft["model"] = entry.ref.name
    elif model_name:
        unknown.insert(0, model_name[:300])
        notices.append(_missing_model_notice(model_name))
    used = _USED_KEYS | networks.used_keys | guidance_keys | region_keys
    if "hires" in draft:
        used |= {*HIRES_KEYS, *hires_keys}
    unused = [key for key, value in pairs.items() if key not in used and not value.lower().startswith(_SAME)]
    if unused:
        more = ", …" if len(unused) > _SHOWN_KEYS else ""
        notices.append(f"Not used: {', '.join(unused[:_SHOWN_KEYS])}{more}.")
    return FoundRecipe(draft=draft, infotext=text, unknown=tuple(unknown), notices=tuple(notices))


def _plain_fields(pairs: Mapping[str, str], prompt: str, negative_prompt: str) -> dict[str, object]:
    """Those that no other pair has a say in."""
    wanted: dict[str, object] = {}
    if negative_prompt:
        wanted["negative_prompt"] = negative_prompt
    for key, name in ((PROMPT_2, "prompt_2"), (NEGATIVE_PROMPT_2, "negative_prompt_2")):
        if key in pairs:
            wanted[name] = pairs[key]
    for key, (name, kind) in _NUMBERS.items():
        is_unset = name == "clip_skip" and pairs.get(key, "").lower() in _NOT_SET
        if key in pairs and not is_unset:
            wanted[name] = number(pairs[key], kind)
    if "Emphasis" in pairs:
        by_label = {label.lower(): name for name, label in EMPHASES.items()}
        wanted["emphasis"] = by_label.get(pairs["Emphasis"].lower(), pairs["Emphasis"])
    tiling = pairs.get("Tiling", "").lower()
    if tiling not in _NOT_SET:
        wanted["tiling"] = "xy" if tiling == "true" else tiling
    if pairs.keys() & {"Styles", "Template", "Negative Template"}:
        wanted["template"] = {
            "prompt": pairs.get("Template", prompt),
            "negative_prompt": pairs.get("Negative Template", negative_prompt),
            "styles": infotext.parse_names(pairs.get("Styles", "")),
        }
    return wanted


def _refiner_fields(
    pairs: Mapping[str, str], models: ModelList, with_hash: WithHash, networks: FoundNetworks
) -> dict[str, object]:
    """The second model; none where it is not here, which is noted."""
    written = _WITH_HASH.fullmatch(pairs["Refiner"])
    assert written is not None
    refiner = _find_checkpoint(written["name"], written["digits"], models, with_hash)
    if refiner is None:
        _miss_refiner(written["name"], networks)
        return {}
    return {"refiner": {"model": refiner.ref.name, "at": number(pairs.get("Refiner switch at", "0.8"), float)}}


def _clip_skip(written: object, entry: ModelEntry | None, notices: list[str]) -> dict[str, object]:
    """By the model's family; where the model is not here, as the oldest family counts."""
    if not isinstance(written, int) or not 1 < written <= _MOST_LAYERS:
        return {}
    family = OLDEST
    if entry is not None:
        family = entry.ref.family
    else:
        others = [name for name in FAMILIES if clip_skip_read(written, name) != clip_skip_read(written, OLDEST)]
        *labels, last = (label_of(name) for name in others if not FAMILIES[name].refines)
        notices.append(
            f"Clip skip {written} is as {label_of(OLDEST)} counts; "
            f"for {', '.join(labels)} or {last} use {clip_skip_read(written, others[0])}."
        )
    return {"clip_skip": clip_skip_read(written, family)}


def _add_usable(draft: dict[str, object], wanted: Mapping[str, object], notices: list[str]) -> dict[str, object]:
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


def _find_checkpoint(name: str, sha256: str | None, models: ModelList, with_hash: WithHash) -> ModelEntry | None:
    found = models.find(name)
    if found is None and sha256:
        found = with_hash(sha256)
    if found is None or found.ref.kind != "checkpoint":
        return None
    return found


def _miss_refiner(name: str, networks: FoundNetworks) -> None:
    networks.unknown.append(name[:300])
    networks.notices.append(f"Refiner “{name[:80]}” is not here; the model paints all steps itself.")


def _missing_model_notice(name: str) -> str:
    return f"Made with “{name[:80]}”, which is not here. The rest is in the form."
