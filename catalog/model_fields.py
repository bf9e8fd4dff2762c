"""One model as JSON values, for the API and the page: the one serializer of `ModelEntry`.

Nothing here names a place on this machine.
"""

from dataclasses import asdict
from typing import Any

from catalog.detect.entries import ModelEntry
from catalog.families import label_of


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
        "distilled": {**asdict(distilled), "summary": distilled.summary} if distilled else None,
        "zero_snr": entry.zero_snr,
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
