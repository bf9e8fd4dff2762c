"""What the browser must know before it can draw the form: ranges, names, pairs, the chosen model.

Everything comes from contract/ and catalog/, so that no label or limit is written a second time in
JavaScript. Models are not listed here: the page holds one, and asks /api/v1/models when the picker opens.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from catalog.families import FAMILIES
from catalog.models import ModelEntry, default_model
from catalog.samplers import SAMPLERS, SCHEDULES, schedules_for
from contract.parts import (
    CONTROL_RESOLUTION,
    EXTENSION,
    HIRES_SCALE,
    IMAGE_GUIDANCE,
    MASK_BLUR,
    MASKED_FROM,
    MAX_CONTROLS,
    MAX_HYPERNETWORKS,
    MAX_IP_ADAPTERS,
    MAX_LORAS,
    OVERLAP,
    PADDING,
    ControlDraft,
    Hires,
    HypernetworkDraft,
    InitImage,
    IpAdapterDraft,
    LoraDraft,
    Mask,
    Outpaint,
)
from contract.recipe import (
    CLIP_SKIP,
    COUNT,
    GUIDANCE,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    SIDE,
    SIDE_MULTIPLE,
    STEPS,
)
from contract.sizes import MASKED_ROOM, ROOM
from contract.tasks import TILE, TILE_OVERLAP, UPSCALE, Upscale
from contract.validation import LABELS, range_hint
from contract.values import BACKGROUND
from studio.resolve.vocabulary import LEAST_LETTERS, STOP_WORDS
from studio.studio import Studio
from studio.uploads.file_kinds import MAX_BYTES
from tabs.words import EXPLAIN

COUNTS = (1, 2, 4, 8)
LOOPS = (1, 100)
_FRACTION = (0, 1)
_WEIGHT = (-10, 10)
_PARTS: Mapping[str, type[BaseModel]] = {
    "init_image": InitImage,
    "init_image.outpaint": Outpaint,
    "mask": Mask,
    "controls": ControlDraft,
    "ip_adapters": IpAdapterDraft,
    "loras": LoraDraft,
    "hypernetworks": HypernetworkDraft,
    "hires": Hires,
    "upscale": Upscale,
}


def page_config(studio: Studio) -> dict[str, Any]:
    """The configuration as plain JSON values; its size does not grow with models or pictures."""
    return {
        "limits": {
            "steps": STEPS,
            "guidance": GUIDANCE,
            "clip_skip": CLIP_SKIP,
            "count": COUNT,
            "side": SIDE,
            "side_multiple": SIDE_MULTIPLE,
            "max_seed": str(MAX_SEED),
            "prompt_characters": MAX_PROMPT_CHARACTERS,
            "least_letters": LEAST_LETTERS,
            "controls": MAX_CONTROLS,
            "ip_adapters": MAX_IP_ADAPTERS,
            "loras": MAX_LORAS,
            "hypernetworks": MAX_HYPERNETWORKS,
            "loops": LOOPS,
            "upload_bytes": MAX_BYTES,
            "size_room": ROOM,
            "masked_room": MASKED_ROOM,
            "max_pixels": studio.settings.max_pixels,
            "masked_from": MASKED_FROM,
            **_part_limits(),
        },
        "defaults": _part_defaults(),
        "labels": {**LABELS, "loops": "Rounds"},
        "hints": {
            **{field: range_hint(field) for field in LABELS},
            "loops": f"Use a whole number, {LOOPS[0]} to {LOOPS[1]}.",
        },
        "explain": dict(EXPLAIN),
        "counts": COUNTS,
        "background": BACKGROUND,
        "samplers": [
            {
                "id": sampler.id,
                "label": sampler.label,
                "schedules": sampler.schedules,
                "zero_snr_schedules": schedules_for(sampler, zero_snr=True),
            }
            for sampler in SAMPLERS.values()
        ],
        "schedules": {schedule.id: schedule.label for schedule in SCHEDULES.values()},
        "families": {family.id: family.label for family in FAMILIES.values()},
        "common_words": sorted(STOP_WORDS),
        "model": _default_model(studio.models()),
        "folders": _folders(studio),
    }


def _part_limits() -> dict[str, tuple[float, float]]:
    """Ranges of the numbers in the recipe's parts, by the path that labels and refusals use."""
    sides = {f"init_image.outpaint.{side}": EXTENSION for side in ("left", "right", "up", "down")}
    spans = {f"{part}.{end}": _FRACTION for part in ("controls", "ip_adapters") for end in ("start", "end")}
    return {
        "init_image.strength": _FRACTION,
        "init_image.image_guidance": IMAGE_GUIDANCE,
        **sides,
        "init_image.outpaint.overlap": OVERLAP,
        "mask.blur": MASK_BLUR,
        "mask.padding": PADDING,
        **spans,
        "controls.weight": _WEIGHT,
        "ip_adapters.weight": _WEIGHT,
        "loras.weight": _WEIGHT,
        "loras.text_weight": _WEIGHT,
        "hypernetworks.weight": _WEIGHT,
        "controls.resolution": CONTROL_RESOLUTION,
        "hires.scale": HIRES_SCALE,
        "hires.steps": STEPS,
        "hires.strength": _FRACTION,
        "hires.guidance": GUIDANCE,
        "upscale.scale": UPSCALE,
        "upscale.tile": TILE,
        "upscale.overlap": TILE_OVERLAP,
    }


def _part_defaults() -> dict[str, Any]:
    """What a fresh form holds for the parts, by the same paths: plain values only."""
    return {
        f"{part}.{name}": field.default
        for part, kind in _PARTS.items()
        for name, field in kind.model_fields.items()
        if not field.is_required() and (field.default is None or isinstance(field.default, (str, int, float)))
    }


def _default_model(entries: tuple[ModelEntry, ...]) -> dict[str, Any] | None:
    """The studio's default; where no model works, the first, which says why."""
    return describe_model(default_model(entries) or entries[0]) if entries else None


def describe_model(entry: ModelEntry) -> dict[str, Any]:
    """One model as the page holds it; the same names as in GET /api/v1/models."""
    defaults = entry.defaults
    return {
        "name": entry.ref.name,
        "title": entry.title,
        "family": entry.ref.family,
        "size_bytes": entry.size_bytes,
        "description": entry.description,
        "sizes": {name: list(size) for name, size in entry.sizes.items()},
        "defaults": {
            "sampler": defaults.sampler,
            "schedule": defaults.schedule,
            "steps": defaults.steps,
            "guidance": defaults.guidance,
            "width": defaults.width,
            "height": defaults.height,
        },
        "examples": list(entry.examples),
        "zero_snr": entry.zero_snr,
        "variant": entry.variant,
        "token_limit": entry.token_limit,
        "words": sorted(entry.words),
        "has_preview": entry.preview_path is not None,
        "problem": entry.problem,
        "hint": entry.hint,
    }


def _folders(studio: Studio) -> dict[str, str]:
    settings = studio.settings
    others = len(settings.model_dirs) - 1
    more = f" and {others} more folder{'s' if others > 1 else ''}" if others else ""
    # Where things are on the disk is for the person at this machine alone.
    is_shared = settings.lan or settings.space_host is not None
    show = (lambda folder: folder.name) if is_shared else str
    return {
        "pictures": show(settings.outputs_dir),
        "models": ", ".join(show(folder) for folder in settings.model_dirs),
        "models_short": f"{settings.model_dirs[0].name}/{more}",
    }
