"""LoRAs and hypernetworks: those a draft lists and those its prompts name in tags, as refs. Knows no weights.

<lora:name:0.8>  <lora:name:0.5:0.8> (text encoders, U-Net)  <lora:name:te=0.5:unet=0.8:lbw=1,0,…>  <hypernet:name:0.5>
The tags leave the prompts; `metadata/infotext.py` writes them back for other programs. <lyco:…> means the same as
<lora:…>.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from catalog.families import FAMILIES
from catalog.models import ModelEntry
from contract.errors import InvalidRecipe
from contract.parts import BLOCK_COUNTS, MAX_HYPERNETWORKS, MAX_LORAS
from contract.prompt import Tag, take_tags
from contract.recipe import HypernetworkUse, LoraUse, ModelKind, ModelRef, RecipeDraft
from contract.regions import Region, RegionDraft
from studio.resolve.model_finder import LABELS, Finder, require_family, require_model

KINDS: Mapping[str, ModelKind] = {"lora": "lora", "lyco": "lora", "hypernet": "hypernetwork"}
_FIELDS: Mapping[ModelKind, str] = {"lora": "loras", "hypernetwork": "hypernetworks"}
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


@dataclass(frozen=True, slots=True)
class _Request:
    """One LoRA or hypernetwork as asked for; `field` names where, for a refusal."""

    kind: ModelKind
    model: str | ModelRef
    weight: float
    text_weight: float | None
    blocks: tuple[float, ...]
    field: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A draft without tags in its prompts, and the networks that it and the tags ask for."""

    draft: RecipeDraft
    loras: tuple[LoraUse, ...]
    hypernetworks: tuple[HypernetworkUse, ...]


def network_ref(
    wanted: str | ModelRef, kind: ModelKind, where: str, finder: Finder, checkpoint: ModelEntry
) -> ModelRef:
    """The ref of a usable LoRA, hypernetwork, embedding or VAE for a checkpoint.

    Raises:
        InvalidRecipe: it is not here, is a path, or is for another family.
        ModelProblem: it can't be used.
    """
    entry = require_model(wanted, (kind,), where, finder)
    require_family(entry, checkpoint, where)
    return finder.ref(entry)


def take_networks(draft: RecipeDraft, finder: Finder, checkpoint: ModelEntry) -> Taken:
    """Take tags out of a draft's prompts and find everything that it asks for.

    Raises:
        InvalidRecipe: names the LoRA or hypernetwork and what is wrong.
        ModelProblem: a file can't be used.
    """
    requests: list[_Request] = []
    for index, lora in enumerate(draft.loras):
        field = f"loras.{index}.model"
        requests.append(_Request("lora", lora.model, lora.weight, lora.text_weight, lora.blocks, field))
    for index, net in enumerate(draft.hypernetworks):
        field = f"hypernetworks.{index}.model"
        requests.append(_Request("hypernetwork", net.model, net.weight, None, (), field))
    without_tags = _take_tags(draft, requests)
    loras, nets = _find_networks(requests, "", finder, checkpoint)
    return Taken(without_tags, loras, nets)


def take_region_networks(region: RegionDraft, path: str, finder: Finder, checkpoint: ModelEntry) -> Region:
    """Take tags out of a region's prompts and find the LoRAs that act in it.

    Args:
        path: Of the region in the draft.
    Raises:
        InvalidRecipe: names the LoRA and what is wrong; or a tag is a hypernetwork's.
        ModelProblem: a file can't be used.
    """
    requests: list[_Request] = []
    for index, lora in enumerate(region.loras):
        field = f"{path}.loras.{index}.model"
        requests.append(_Request("lora", lora.model, lora.weight, lora.text_weight, lora.blocks, field))
    texts: dict[str, str] = {}
    for name in ("prompt", "negative_prompt"):
        text = getattr(region, name)
        if text is not None:
            texts[name], tags = take_tags(text, KINDS)
            requests += [_request_of_tag(tag, f"{path}.{name}") for tag in tags]
    for request in requests:
        if request.kind == "hypernetwork":
            raise InvalidRecipe(
                f"Hypernetwork “{str(request.model)[:80]}” can't act in one region.",
                "Name it in the picture's own prompt.",
                field=request.field,
            )
    loras, _ = _find_networks(requests, f"{path}.", finder, checkpoint)
    return Region(
        prompt=texts["prompt"],
        negative_prompt=texts.get("negative_prompt"),
        weight=region.weight,
        box=region.box,
        mask=region.mask,
        loras=loras,
    )


def _find_networks(
    requests: Sequence[_Request], path: str, finder: Finder, checkpoint: ModelEntry
) -> tuple[tuple[LoraUse, ...], tuple[HypernetworkUse, ...]]:
    """What is asked for as refs, each file once.

    Args:
        path: Of the part that asks, with a dot at its end; empty for the draft itself.
    """
    found: dict[ModelKind, list[tuple[_Request, ModelRef]]] = {"lora": [], "hypernetwork": []}
    for request in requests:
        if (request.blocks or request.kind == "hypernetwork") and FAMILIES[checkpoint.ref.family].unet is None:
            what = "Block weights are" if request.blocks else f"{LABELS[request.kind]}s are"
            raise InvalidRecipe(
                f"{what} for models with a U-Net; {checkpoint.title} has a transformer.",
                "Leave them out.",
                field=request.field,
            )
        ref = network_ref(request.model, request.kind, request.field, finder, checkpoint)
        found[request.kind].append((request, ref))
    added = {kind: _add_weights(pairs, finder.notices) for kind, pairs in found.items()}
    for kind, pairs in added.items():
        if len(pairs) > _MOST[kind]:
            raise InvalidRecipe(
                f"{len(pairs)} {LABELS[kind]}s are asked for.",
                f"Use at most {_MOST[kind]}.",
                field=f"{path}{_FIELDS[kind]}",
            )
    loras: list[LoraUse] = []
    for one, ref in added["lora"]:
        loras.append(LoraUse(model=ref, weight=one.weight, text_weight=one.text_weight, blocks=one.blocks))
    nets = [HypernetworkUse(model=ref, weight=one.weight) for one, ref in added["hypernetwork"]]
    return tuple(loras), tuple(nets)


def _take_tags(draft: RecipeDraft, requests: list[_Request]) -> RecipeDraft:
    """The draft without tags in its prompts; the networks of the tags are added to the requests."""

    def strip(text: str, where: str) -> str:
        kept, tags = take_tags(text, KINDS)
        for tag in tags:
            requests.append(_request_of_tag(tag, where))
        return kept

    changes: dict[str, object] = {}
    for name in ("prompt", "negative_prompt", "prompt_2", "negative_prompt_2"):
        text = getattr(draft, name)
        if text is not None:
            changes[name] = strip(text, name)
    if draft.hires:
        hires_changes: dict[str, object] = {}
        for name in ("prompt", "negative_prompt"):
            text = getattr(draft.hires, name)
            if text is not None:
                hires_changes[name] = strip(text, f"hires.{name}")
        changes["hires"] = draft.hires.model_copy(update=hires_changes)
    return draft.model_copy(update=changes)


def _request_of_tag(tag: Tag, where: str) -> _Request:
    """Parse a tag; of two weights in a row the first is the text encoders', the second the U-Net's."""
    kind = KINDS[tag.kind]
    positional: list[str] = []
    by_name: dict[str, str] = {}
    for argument in tag.arguments:
        if "=" in argument:
            key, value = argument.split("=", 1)
            by_name[key.strip().lower()] = value.strip()
        elif argument:
            positional.append(argument)
    if positional and "," in positional[-1]:
        by_name.setdefault("lbw", positional.pop())
    unknown = [key for key in by_name if key not in ("te", "unet", "lbw")]
    is_too_much = len(positional) > 2
    if kind == "hypernetwork":
        is_too_much = bool(by_name) or len(positional) > 1
    if unknown or is_too_much:
        shown = f"{unknown[0]}=" if unknown else ":".join(tag.arguments)
        hint = "Use <hypernet:name:0.8>."
        if kind == "lora":
            hint = "Use <lora:name:0.8>, <lora:name:te=0.5:unet=0.8> or lbw=."
        raise InvalidRecipe(f"“{shown[:40]}” of {LABELS[kind]} “{tag.name[:80]}” is not known.", hint, field=where)
    first = positional[0] if positional else "1"
    text_encoders = by_name.get("te", first)
    unet = by_name.get("unet", positional[1] if len(positional) > 1 else text_encoders)
    text_weight: float | None = _tag_weight(text_encoders, tag, where)
    weight = _tag_weight(unet, tag, where)
    if text_weight == weight:
        text_weight = None
    blocks: tuple[float, ...] = ()
    if "lbw" in by_name:
        blocks = _block_weights(by_name["lbw"], tag, where)
    return _Request(kind, tag.name, weight, text_weight, blocks, where)


def _tag_weight(text: str, tag: Tag, where: str) -> float:
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


def _block_weights(text: str, tag: Tag, where: str) -> tuple[float, ...]:
    """The block weights of a tag: a preset's name, or numbers with commas between."""
    preset = _PRESETS.get(text.upper())
    if preset:
        return tuple(map(float, preset))
    numbers = [_tag_weight(number.strip(), tag, where) for number in text.split(",")]
    if len(numbers) not in BLOCK_COUNTS:
        raise InvalidRecipe(
            f"LoRA “{tag.name[:80]}” has {len(numbers)} block weights.",
            f"Use {', '.join(map(str, BLOCK_COUNTS[:-1]))} or {BLOCK_COUNTS[-1]} of them, or one of "
            f"{', '.join(_PRESETS)}.",
            field=where,
        )
    return tuple(numbers)


def _add_weights(
    pairs: Sequence[tuple[_Request, ModelRef]], notices: list[tuple[str, str]]
) -> list[tuple[_Request, ModelRef]]:
    """Each file once: the weights of one that is named several times are added, unless its blocks differ."""
    groups: dict[tuple[object, ...], list[tuple[_Request, ModelRef]]] = {}
    for request, ref in pairs:
        groups.setdefault((ref.name, request.blocks), []).append((request, ref))
    added: list[tuple[_Request, ModelRef]] = []
    for group in groups.values():
        first, ref = group[0]
        count = len(group)
        if count == 1:
            added.append((first, ref))
            continue
        weight = text_weight = 0.0
        for request, _ in group:
            weight += request.weight
            text_weight += request.weight if request.text_weight is None else request.text_weight
        weight, text_weight = round(weight, 6), round(text_weight, 6)
        label = LABELS[first.kind]
        if max(abs(weight), abs(text_weight)) > _WEIGHT_LIMIT:
            raise InvalidRecipe(
                f"{label} “{ref.name}” is named {count} times; its weights add up to {weight:g}.",
                f"Use -{_WEIGHT_LIMIT:g} to {_WEIGHT_LIMIT:g} in all.",
                field=first.field,
            )
        times = "twice" if count == 2 else f"{count} times"
        notices.append(("named_twice", f"{label} “{ref.name}” is named {times}: its weights were added to {weight:g}."))
        own_text_weight = None if text_weight == weight else text_weight
        added.append((replace(first, weight=weight, text_weight=own_text_weight), ref))
    return added
