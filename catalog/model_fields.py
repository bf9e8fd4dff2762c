"""One model as JSON values, for the API and the page: the one serializer of `ModelEntry`.

Nothing here names a place on this machine.
"""

from dataclasses import asdict
from typing import Any

from catalog.detect.entries import ModelEntry
from catalog.families import clip_skip_read, label_of
from contract.values import PREDICTIONS


def model_fields(entry: ModelEntry) -> dict[str, Any]:
    """A model's fields without its notes, which may be long."""
    distilled = entry.distilled
    return {
        "name": entry.ref.name,
        "kind": entry.ref.kind,
        "title": entry.title,
        "alias": entry.alias,
        "family": entry.ref.family,
        "family_label": label_of(entry.ref.family),
        "detail": entry.detail,
        "format": entry.format,
        "folder": entry.folder,
        "size_bytes": entry.size_bytes,
        "modified": entry.modified,
        "short_hash": entry.short_hash,
        "description": entry.description,
        "sizes": dict(entry.sizes),
        "defaults": asdict(entry.defaults) if entry.ref.kind == "checkpoint" else {},
        "examples": entry.examples,
        "trigger_words": entry.trigger_words,
        "advice": _advice(entry),
        "distilled": {**asdict(distilled), "summary": distilled.summary} if distilled else None,
        "zero_snr": entry.is_zero_snr,
        "is_edm": entry.is_edm,
        "prediction": entry.ref.prediction,
        "variant": entry.variant,
        "has_vae": entry.has_vae,
        "token_limit": entry.token_limit,
        "words": tuple(sorted(entry.words)),
        "control_type": entry.control_type,
        "has_preview": entry.preview_path is not None,
        "problem": entry.problem,
        "hint": entry.hint,
        "warnings": entry.warnings,
    }


def about_fields(entry: ModelEntry) -> dict[str, Any]:
    """What only a model's details show, beside its notes."""
    about = entry.about
    names = ("version", "base_model", "author", "license", "link")
    said = {name: getattr(about, name) for name in names if getattr(about, name)}
    return {"about": said, "predictions": tuple(PREDICTIONS) if entry.has_prediction_choice else ()}


def _advice(entry: ModelEntry) -> dict[str, str | int | float]:
    """Values that its notes advise, for the form to begin with; by the names of a recipe, and a LoRA's `weight`."""
    about, advice = entry.about, dict[str, str | int | float]()
    if entry.ref.kind == "checkpoint" and about.clip_skip is not None:
        advice["clip_skip"] = clip_skip_read(about.clip_skip, entry.ref.family)
    if about.negative_text:
        advice["negative_prompt"] = about.negative_text
    if about.preferred_weight is not None:
        advice["weight"] = about.preferred_weight
    return advice
