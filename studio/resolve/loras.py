"""LoRAs and hypernetworks: those a draft lists and those its prompts name in tags, as refs. Knows no weights.

<lora:name:0.8>  <lora:name:0.5:0.8> (text encoders, U-Net)  <lora:name:te=0.5:unet=0.8:lbw=1,0,…>  <hypernet:name:0.5>
The tags leave the prompts; `metadata/infotext.py` writes them back for other programs. <lyco:…> means the same as
<lora:…>.
"""

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from catalog.detect.entries import a_kind
from catalog.families import FAMILIES
from catalog.models import ModelEntry
from contract.errors import InvalidRecipe, ModelProblem
from contract.parts import BLOCK_COUNTS, MAX_HYPERNETWORKS, MAX_LORAS
from contract.prompt import Tag, take_tags
from contract.recipe import HypernetworkUse, LoraUse, ModelKind, ModelRef, RecipeDraft
from studio.library.model_list import ModelList
from studio.resolve.model_finder import Finder

KINDS: Mapping[str, ModelKind] = {"lora": "lora", "lyco": "lora", "hypernet": "hypernetwork"}
LABELS: Mapping[ModelKind, str] = {
    "lora": "LoRA",
    "hypernetwork": "Hypernetwork",
    "embedding": "Embedding",
    "vae": "VAE",
}
_FIELDS: Mapping[ModelKind, str] = {
    "lora": "loras",
    "hypernetwork": "hypernetworks",
    "embedding": "embeddings",
    "vae": "vae",
}
_MOST: Mapping[ModelKind, int] = {"lora": MAX_LORAS, "hypernetwork": MAX_HYPERNETWORKS}
_WEIGHT_LIMIT = 10.0
# Names that the block weight extension gives to whole orders of 17.
_PRESETS: Mapping[str, tuple[int, ...]] = {
    "NONE": (0,) * 17,
    "ALL": (1,) * 17,
    "INS": (1,) * 3 + (0,) * 14,
    "IND": (1, 0, 0, 0, 1, 1, 1) + (0,) * 10,
    "INALL": (1,) * 7 + (0,) * 10,
    "MIDD": (1, 0, 0, 0) + (1,) * 8 + (0,) * 5,
    "OUTD": (1,) + (0,) * 7 + (1,) * 4 + (0,) * 5,
    "OUTS": (1,) + (0,) * 11 + (1,) * 5,
    "OUTALL": (1,) + (0,) * 7 + (1,) * 9,
}
_PATH = re.compile(r"^[/\\~]|^[A-Za-z]:|\\|(^|/)\.\.?(/|$)|\0")


@dataclass(frozen=True, slots=True)
class Asked:
    """One LoRA or hypernetwork as asked for; `field` names where, for a refusal."""

    kind: ModelKind
    model: str | ModelRef
    weight: float
    text_weight: float | None
    blocks: tuple[float, ...]
    field: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A draft whose prompts hold no more tags, and what it and they asked for."""

    draft: RecipeDraft
    loras: tuple[LoraUse, ...]
    hypernetworks: tuple[HypernetworkUse, ...]


def net_ref(wanted: str | ModelRef, kind: ModelKind, where: str, finder: Finder, checkpoint: ModelEntry) -> ModelRef:
    """The ref of a usable LoRA, hypernetwork, embedding or VAE for a checkpoint.

    Raises:
        InvalidRecipe: it is not here, is a path, or is for another family.
        ModelProblem: it can't be used.
    """
    name = wanted if isinstance(wanted, str) else wanted.name
    entry = finder.find(wanted, (kind,)) or named(name, kind, finder.models, where)
    if entry.problem:
        raise ModelProblem(entry.problem, entry.hint, field=where)
    refuse_other_family(entry, checkpoint, where)
    return finder.ref(entry)


def named(name: str, kind: ModelKind, models: ModelList, where: str) -> ModelEntry:
    """A LoRA, hypernetwork or embedding by its name, with or without its suffix.

    Raises:
        InvalidRecipe: there is none, or the name is a path.
    """
    label = LABELS[kind]
    if _PATH.search(name):
        raise InvalidRecipe(
            f"“{name[:80]}” is a path, not the name of a {label}.",
            f"Use a name from the list of {label}s.",
            field=where,
        )
    entry = models.find(name, kind) or models.find(name.removesuffix(".safetensors"), kind)
    if entry is None and (other := models.other_kind(name, kind)):
        raise InvalidRecipe(f"“{name[:80]}” is {other}, no {label}.", f"Choose {a_kind(kind)}.", field=where)
    if entry is None:
        here = {title: None for other in models.of_kind(kind) for title in (other.ref.name, other.title)}
        near = difflib.get_close_matches(name, here, 2, 0.5)
        hint = f"Near: {', '.join(near)}." if near else f"Put it into models/{_FIELDS[kind]}/, or leave it out."
        raise InvalidRecipe(f"{label} “{name[:80]}” is not here.", hint, field=where)
    return entry


def refuse_other_family(entry: ModelEntry, checkpoint: ModelEntry, where: str) -> None:
    """What changes weights or words fits one family; a file that doesn't show its own is judged in the engine.

    A VAE fits all families whose latents have as many channels.

    Raises:
        InvalidRecipe: names both.
    """
    theirs, ours = entry.ref.family, checkpoint.ref.family
    if theirs == ours or theirs not in FAMILIES:
        return
    if entry.ref.kind == "vae" and FAMILIES[theirs].latent_channels == FAMILIES[ours].latent_channels:
        return
    label, other = FAMILIES[theirs].label, LABELS[entry.ref.kind]
    raise InvalidRecipe(
        f"{other} “{entry.title}” is for {label}; {checkpoint.title} is {FAMILIES[ours].label}.",
        f"Choose {'an' if label.startswith('SD') else 'a'} {label} model or remove it.",
        field=where,
    )


def take_nets(draft: RecipeDraft, finder: Finder, checkpoint: ModelEntry) -> Taken:
    """Take tags out of a draft's prompts and find everything that it asks for.

    Raises:
        InvalidRecipe: names the LoRA or hypernetwork and what is wrong.
        ModelProblem: a file can't be used.
    """
    asked = [
        Asked("lora", lora.model, lora.weight, lora.text_weight, lora.blocks, f"loras.{index}.model")
        for index, lora in enumerate(draft.loras)
    ]
    asked += [
        Asked("hypernetwork", net.model, net.weight, None, (), f"hypernetworks.{index}.model")
        for index, net in enumerate(draft.hypernetworks)
    ]
    without, tags = _without_tags(draft)
    asked += tags
    found: dict[ModelKind, list[tuple[Asked, ModelRef]]] = {"lora": [], "hypernetwork": []}
    for one in asked:
        found[one.kind].append((one, net_ref(one.model, one.kind, one.field, finder, checkpoint)))
    added = {kind: list(_added(pairs, finder.notices)) for kind, pairs in found.items()}
    for kind, pairs in added.items():
        if len(pairs) > _MOST[kind]:
            raise InvalidRecipe(
                f"{len(pairs)} {LABELS[kind]}s are asked for.", f"Use at most {_MOST[kind]}.", field=_FIELDS[kind]
            )
    loras = tuple(
        LoraUse(model=ref, weight=one.weight, text_weight=one.text_weight, blocks=one.blocks)
        for one, ref in added["lora"]
    )
    nets = tuple(HypernetworkUse(model=ref, weight=one.weight) for one, ref in added["hypernetwork"])
    return Taken(without, loras, nets)


def _without_tags(draft: RecipeDraft) -> tuple[RecipeDraft, list[Asked]]:
    asked: list[Asked] = []

    def strip(text: str | None, where: str) -> str | None:
        if text is None:
            return None
        kept, tags = take_tags(text, KINDS)
        asked.extend(_asked(tag, where) for tag in tags)
        return kept

    changes: dict[str, object] = {name: strip(getattr(draft, name), name) for name in ("prompt", "negative_prompt")}
    if draft.hires:
        changes["hires"] = draft.hires.model_copy(
            update={name: strip(getattr(draft.hires, name), f"hires.{name}") for name in ("prompt", "negative_prompt")}
        )
    return draft.model_copy(update=changes), asked


def _asked(tag: Tag, where: str) -> Asked:
    """What a tag says; the field's two orders of weights are text encoders, U-Net."""
    kind = KINDS[tag.kind]
    positional = [argument for argument in tag.arguments if argument and "=" not in argument]
    by_name = dict(argument.split("=", 1) for argument in tag.arguments if "=" in argument)
    by_name = {key.strip().lower(): value.strip() for key, value in by_name.items()}
    if positional and "," in positional[-1]:
        by_name.setdefault("lbw", positional.pop())
    unknown = next((key for key in by_name if key not in ("te", "unet", "lbw")), None)
    if unknown is not None or len(positional) > 2 or (kind == "hypernetwork" and (by_name or len(positional) > 1)):
        shown = f"{unknown}=" if unknown is not None else ":".join(tag.arguments)
        raise InvalidRecipe(
            f"“{shown[:40]}” of {LABELS[kind]} “{tag.name[:80]}” is not known.",
            "Use <lora:name:0.8>, <lora:name:te=0.5:unet=0.8> or lbw=."
            if kind == "lora"
            else "Use <hypernet:name:0.8>.",
            field=where,
        )
    te = by_name.get("te", positional[0] if positional else "1")
    text = _weight(te, tag, where)
    weight = _weight(by_name.get("unet", positional[1] if len(positional) > 1 else te), tag, where)
    return Asked(
        kind, tag.name, weight, None if text == weight else text, _blocks(by_name.get("lbw"), tag, where), where
    )


def _weight(text: str, tag: Tag, where: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not -_WEIGHT_LIMIT <= weight <= _WEIGHT_LIMIT:
        raise InvalidRecipe(
            f"The weight of {LABELS[KINDS[tag.kind]]} “{tag.name[:80]}” is “{text[:40]}”.",
            f"Use a number, -{_WEIGHT_LIMIT:g} to {_WEIGHT_LIMIT:g}.",
            field=where,
        )
    return weight


def _blocks(text: str | None, tag: Tag, where: str) -> tuple[float, ...]:
    if text is None:
        return ()
    if preset := _PRESETS.get(text.upper()):
        return tuple(map(float, preset))
    numbers = tuple(_weight(number.strip(), tag, where) for number in text.split(","))
    if len(numbers) not in BLOCK_COUNTS:
        raise InvalidRecipe(
            f"LoRA “{tag.name[:80]}” has {len(numbers)} block weights.",
            f"Use {', '.join(map(str, BLOCK_COUNTS[:-1]))} or {BLOCK_COUNTS[-1]} of them, or one of "
            f"{', '.join(_PRESETS)}.",
            field=where,
        )
    return numbers


def _added(pairs: Sequence[tuple[Asked, ModelRef]], notices: list[tuple[str, str]]) -> Iterator[tuple[Asked, ModelRef]]:
    """Each file once: the weights of one that is named several times are added, unless its blocks differ."""
    groups: dict[tuple[object, ...], list[tuple[Asked, ModelRef]]] = {}
    for one, ref in pairs:
        groups.setdefault((ref.name, one.blocks), []).append((one, ref))
    for several in groups.values():
        (first, ref), count = several[0], len(several)
        if count == 1:
            yield first, ref
            continue
        weight = round(sum(one.weight for one, _ in several), 6)
        text = round(sum(one.weight if one.text_weight is None else one.text_weight for one, _ in several), 6)
        label = LABELS[first.kind]
        if max(abs(weight), abs(text)) > _WEIGHT_LIMIT:
            raise InvalidRecipe(
                f"{label} “{ref.name}” is named {count} times; its weights add up to {weight:g}.",
                f"Use -{_WEIGHT_LIMIT:g} to {_WEIGHT_LIMIT:g} in all.",
                field=first.field,
            )
        times = "twice" if count == 2 else f"{count} times"
        notices.append(("named_twice", f"{label} “{ref.name}” is named {times}: its weights were added to {weight:g}."))
        yield Asked(first.kind, first.model, weight, None if text == weight else text, first.blocks, first.field), ref
