"""The configuration that the browser needs to draw the form: ranges, names, pairs, the chosen model.

Everything comes from contract/ and catalog/, so that no label or limit is written a second time in
JavaScript. Models are not listed here: the page holds one, and asks /api/v1/models when the picker opens.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel

from catalog.families import FAMILIES
from catalog.guidance import GUIDANCE_METHODS
from catalog.model_fields import model_fields
from catalog.models import ModelEntry, default_model
from catalog.samplers import SAMPLERS, SCHEDULES, schedules_for
from contract.errors import StorageFull
from contract.fields import LABELS, range_hint
from contract.parts import (
    AESTHETIC_SCORE,
    BATCH,
    CHURN,
    CONTROL_RESOLUTION,
    EXTENSION,
    HIRES_SCALE,
    IMAGE_GUIDANCE,
    MASK_BLUR,
    MASKED_FROM,
    MAX_CONTROLS,
    MAX_GUIDANCE_METHODS,
    MAX_HYPERNETWORKS,
    MAX_IP_ADAPTERS,
    MAX_LORAS,
    NOISE_FACTOR,
    OVERLAP,
    PADDING,
    RHO,
    SIGMA,
    TOLD_PIXELS,
    ControlDraft,
    Hires,
    HypernetworkDraft,
    InitImage,
    IpAdapterDraft,
    LoraDraft,
    Mask,
    NoiseSettings,
    Outpaint,
    RefinerDraft,
    SamplerSettings,
    SizeConditioning,
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
from contract.regions import MAX_REGIONS, REGION_WEIGHT, RegionDraft, RegionsDraft
from contract.sizes import MASKED_ROOM, ROOM
from contract.tasks import TILE, TILE_OVERLAP, UPSCALE, Upscale
from contract.values import BACKGROUND, EMPHASES
from studio.resolve.vocabulary import LEAST_LETTERS, STOP_WORDS
from studio.studio import Studio
from studio.uploads.file_kinds import MAX_BYTES
from tabs.words import EXPLAIN

COUNTS = (1, 2, 4, 8)
LOOPS = (1, 100)
_FRACTION = (0, 1)
_WEIGHT = (-10, 10)
# Ranges of the numbers in the recipe's parts, by the path that labels and refusals use.
_PART_LIMITS: Mapping[str, tuple[float, float]] = {
    "init_image.strength": _FRACTION,
    "init_image.image_guidance": IMAGE_GUIDANCE,
    "init_image.outpaint.left": EXTENSION,
    "init_image.outpaint.right": EXTENSION,
    "init_image.outpaint.up": EXTENSION,
    "init_image.outpaint.down": EXTENSION,
    "init_image.outpaint.overlap": OVERLAP,
    "mask.blur": MASK_BLUR,
    "mask.padding": PADDING,
    "controls.start": _FRACTION,
    "controls.end": _FRACTION,
    "ip_adapters.start": _FRACTION,
    "ip_adapters.end": _FRACTION,
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
    "refiner.at": _FRACTION,
    "size_conditioning.original_width": TOLD_PIXELS,
    "size_conditioning.original_height": TOLD_PIXELS,
    "size_conditioning.crop_left": TOLD_PIXELS,
    "size_conditioning.crop_top": TOLD_PIXELS,
    "size_conditioning.target_width": TOLD_PIXELS,
    "size_conditioning.target_height": TOLD_PIXELS,
    "size_conditioning.aesthetic_score": AESTHETIC_SCORE,
    "size_conditioning.negative_aesthetic_score": AESTHETIC_SCORE,
    "sampling.eta": _FRACTION,
    "sampling.s_churn": CHURN,
    "sampling.s_tmin": (0, SIGMA[1]),
    "sampling.s_tmax": (0, SIGMA[1]),
    "sampling.s_noise": NOISE_FACTOR,
    "sampling.sigma_min": SIGMA,
    "sampling.sigma_max": SIGMA,
    "sampling.rho": RHO,
    "noise.eta_seed_delta": (0, 2**31),
    "noise.variation_strength": _FRACTION,
    "noise.walk_from": _FRACTION,
    "noise.resize_width": SIDE,
    "noise.resize_height": SIDE,
    "noise.batch_index": BATCH,
    "regions.base": _FRACTION,
    "regions.regions.weight": REGION_WEIGHT,
    "upscale.scale": UPSCALE,
    "upscale.tile": TILE,
    "upscale.overlap": TILE_OVERLAP,
}
# The fields of a model that the page holds; the picker asks for the others.
_MODEL_FIELDS = (
    "name",
    "title",
    "family",
    "size_bytes",
    "description",
    "sizes",
    "examples",
    "advice",
    "distilled",
    "zero_snr",
    "is_edm",
    "prediction",
    "variant",
    "token_limit",
    "words",
    "has_preview",
    "problem",
    "hint",
)
_PARTS: Mapping[str, type[BaseModel]] = {
    "init_image": InitImage,
    "init_image.outpaint": Outpaint,
    "mask": Mask,
    "controls": ControlDraft,
    "ip_adapters": IpAdapterDraft,
    "loras": LoraDraft,
    "hypernetworks": HypernetworkDraft,
    "regions": RegionsDraft,
    "regions.regions": RegionDraft,
    "hires": Hires,
    "sampling": SamplerSettings,
    "noise": NoiseSettings,
    "refiner": RefinerDraft,
    "size_conditioning": SizeConditioning,
    "upscale": Upscale,
}


def page_config(studio: Studio) -> dict[str, Any]:
    """The configuration as plain JSON values; its size does not grow with models or pictures."""
    entries = studio.models()
    # The first model says why, where none works.
    model = default_model(entries) or (entries[0] if entries else None)
    part_defaults = {}  # by the same paths as _PART_LIMITS
    for part, kind in _PARTS.items():
        for name, field in kind.model_fields.items():
            is_plain = field.default is None or isinstance(field.default, (str, int, float))
            if is_plain and not field.is_required():
                part_defaults[f"{part}.{name}"] = field.default
    hints = {field: range_hint(field) for field in LABELS}
    hints["loops"] = f"Use a whole number, {LOOPS[0]} to {LOOPS[1]}."
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
            "guidance_methods": MAX_GUIDANCE_METHODS,
            "regions.regions": MAX_REGIONS,
            "loops": LOOPS,
            "upload_bytes": MAX_BYTES,
            "size_room": ROOM,
            "masked_room": MASKED_ROOM,
            "max_pixels": studio.settings.max_pixels,
            "masked_from": MASKED_FROM,
            **_PART_LIMITS,
        },
        "defaults": part_defaults,
        "labels": {**LABELS, "loops": "Rounds"},
        "hints": hints,
        "explain": dict(EXPLAIN),
        "counts": COUNTS,
        "emphases": EMPHASES,
        "background": BACKGROUND,
        "samplers": _samplers(),
        "guidance_methods": _guidance_methods(),
        "schedules": {schedule.id: schedule.label for schedule in SCHEDULES.values()},
        **_family_facts(entries),
        "common_words": sorted(STOP_WORDS),
        "unsaved_codes": sorted(StorageFull.codes),
        "model": describe_model(model) if model else None,
        "folders": _folders(studio),
    }


def _samplers() -> list[dict[str, Any]]:
    return [
        {
            "id": sampler.id,
            "label": sampler.label,
            "schedules": sampler.schedules,
            "zero_snr_schedules": schedules_for(sampler, zero_snr=True),
            "edm_schedules": schedules_for(sampler, is_edm=True),
            "flow_schedules": schedules_for(sampler, is_flow=True),
            "settings": sampler.settings,
            "difference": sampler.difference,
        }
        for sampler in SAMPLERS.values()
    ]


def _guidance_methods() -> list[dict[str, Any]]:
    """Those that go with some family that runs."""
    runs = {family.denoiser for family in FAMILIES.values()}
    methods = []
    for method in GUIDANCE_METHODS.values():
        if runs & set(method.denoisers):
            parameters = [asdict(parameter) for parameter in method.parameters]
            facts = {"id": method.id, "label": method.label, "does": method.does, "denoisers": method.denoisers}
            methods.append({**facts, "parameters": parameters})
    return methods


def _family_facts(entries: Sequence[ModelEntry]) -> dict[str, Any]:
    """What the page shows or leaves out by a model's family."""
    kinds = list(dict.fromkeys(family.latents for family in FAMILIES.values()))
    latents = {family.id: kinds.index(family.latents) for family in FAMILIES.values()}
    usable = [entry for entry in entries if entry.ref.kind == "checkpoint" and not entry.problem]
    counts = Counter(latents[entry.ref.family] for entry in usable if entry.ref.family in latents)
    refined = {latents[family.refines] for family in FAMILIES.values() if family.refines}
    units = {family.id: family.unet for family in FAMILIES.values() if family.unet is not None}
    return {
        "families": {family.id: family.label for family in FAMILIES.values()},
        "latents": latents,
        # By kind: those of families with a refiner of their own, and of which there is more than one checkpoint.
        "refinable": [int(kind in refined or counts[kind] > 1) for kind in range(len(kinds))],
        "told_families": [name for name, unet in units.items() if unet.takes_size],
        "scored_families": [name for name, unet in units.items() if unet.takes_score],
        "second_prompt_families": [family.id for family in FAMILIES.values() if family.takes_second_prompt],
        "denoisers": {family.id: family.denoiser for family in FAMILIES.values()},
        "flow_families": [family.id for family in FAMILIES.values() if family.flow_shift],
    }


def describe_model(entry: ModelEntry) -> dict[str, Any]:
    """One model as the page holds it; the same names as in GET /api/v1/models."""
    fields = model_fields(entry)
    chosen = {name: fields[name] for name in _MODEL_FIELDS}
    return {**chosen, "defaults": asdict(entry.defaults)}


def _folders(studio: Studio) -> dict[str, str]:
    settings = studio.settings
    # Full paths are for the person at this machine alone.
    is_shared = settings.lan or settings.space_host is not None
    folders = (settings.outputs_dir, *settings.model_dirs)
    pictures, *models = [folder.name if is_shared else str(folder) for folder in folders]
    short = f"{settings.model_dirs[0].name}/"
    others = len(models) - 1
    if others:
        short += f" and {others} more folder{'s' if others > 1 else ''}"
    return {"pictures": pictures, "models": ", ".join(models), "models_short": short}
