"""From JSON text to a RecipeDraft, or one sentence that names the field and the remedy.

pydantic finds what is wrong; this page says it in words. Nothing is clamped or repaired.
"""

from collections.abc import Mapping

from pydantic import ValidationError

from contract.errors import InvalidRecipe
from contract.recipe import (
    CLIP_SKIP,
    COUNT,
    GUIDANCE,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    SIDE,
    SIDE_MULTIPLE,
    STEPS,
    RecipeDraft,
)

LABELS: Mapping[str, str] = {
    "prompt": "Prompt",
    "negative_prompt": "Negative prompt",
    "model": "Model",
    "sampler": "Sampler",
    "schedule": "Schedule",
    "steps": "Steps",
    "guidance": "Guidance",
    "clip_skip": "Clip skip",
    "width": "Width",
    "height": "Height",
    "seed": "Seed",
    "count": "Pictures",
}
_RANGES: Mapping[str, str] = {
    "steps": f"Use a whole number, {STEPS[0]} to {STEPS[1]}.",
    "guidance": f"Use a number, {GUIDANCE[0]:g} to {GUIDANCE[1]:g}.",
    "clip_skip": f"Use {CLIP_SKIP[0]} to {CLIP_SKIP[1]}.",
    "width": f"Use {SIDE[0]} to {SIDE[1]}, a multiple of {SIDE_MULTIPLE}.",
    "height": f"Use {SIDE[0]} to {SIDE[1]}, a multiple of {SIDE_MULTIPLE}.",
    "seed": f"Use 0 to {MAX_SEED}, or leave it out for a random one.",
    "count": f"Use a whole number, {COUNT[0]} to {COUNT[1]}.",
    "prompt": f"Use at most {MAX_PROMPT_CHARACTERS:,} characters of plain text.",
    "negative_prompt": f"Use at most {MAX_PROMPT_CHARACTERS:,} characters of plain text.",
    "model": "Use the name of a model from GET /api/v1/models.",
    "sampler": "Use a sampler from GET /api/v1/samplers.",
    "schedule": "Use a schedule from GET /api/v1/samplers.",
}


def range_hint(field: str) -> str:
    """What a field accepts, as the sentence that follows "<Label> is <value>."."""
    return _RANGES[field]


def parse_draft(raw: str | bytes) -> RecipeDraft:
    """Read a draft from JSON text.

    Raises:
        InvalidRecipe: with code invalid_<field>, a sentence with the value, and what to use.
    """
    try:
        return RecipeDraft.model_validate_json(raw)
    except ValidationError as error:
        raise _in_words(error) from None
    except UnicodeError:
        raise InvalidRecipe("The recipe is not UTF-8 text.", "Send JSON as UTF-8.") from None


def _in_words(error: ValidationError) -> InvalidRecipe:
    problem = error.errors(include_url=False, include_context=False)[0]
    location = [str(part) for part in problem["loc"]]
    if problem["type"] == "json_invalid":
        cause = problem["msg"].removeprefix("Invalid JSON: ")[:120]
        return InvalidRecipe(f"The recipe is not JSON: {cause}.", "Send UTF-8 JSON.")
    if not location:
        return InvalidRecipe("The recipe is not a JSON object.", 'Send {"prompt": "…"} at least.')
    field = location[0]
    label = LABELS.get(field, field[:60])
    code = f"invalid_{field}" if field in RecipeDraft.model_fields else "unknown_field"
    if problem["type"] == "extra_forbidden":
        return InvalidRecipe(f"“{'.'.join(location)[:120]}” is not a field of a recipe.",
                             "Leave it out.", code="unknown_field")
    if problem["type"] == "missing":
        path = ".".join(location)[:120]
        return InvalidRecipe(f"“{path}” is missing.", "Add it.", code=code)
    value = _shown(problem["input"])
    hint = _side_hint(problem["input"]) if field in ("width", "height") else None
    return InvalidRecipe(f"{label} is {value}.", hint or _RANGES.get(field, _cause(problem["msg"])),
                         code=code)


def _shown(value: object) -> str:
    if isinstance(value, str):
        text = value.encode("utf-8", "replace").decode()
        return f"{len(text):,} characters long" if len(text) > 40 else f"“{text}”"
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    text = str(value)
    if value is None or isinstance(value, bool):
        text = {"None": "empty", "True": "true", "False": "false"}[text]
    return text if len(text) <= 30 else f"{text[:12]}… ({len(text)} digits)"


def _side_hint(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int) or not SIDE[0] < value < SIDE[1]:
        return None
    low = value // SIDE_MULTIPLE * SIDE_MULTIPLE
    return f"Use a multiple of {SIDE_MULTIPLE}: {low} or {low + SIDE_MULTIPLE}."


def _cause(message: str) -> str:
    return message.removeprefix("Value error, ").rstrip(".")[:200] + "."
