"""Parses JSON to a draft or a task, or raises one sentence that names the field and the remedy.

pydantic finds the problem; this module words the error. Nothing is clamped or repaired.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from contract.errors import InvalidRecipe, code_of
from contract.fields import LABELS, MODEL_TASK_LABELS, RANGES, SEVERAL
from contract.recipe import RecipeDraft
from contract.tasks import Preprocess, Upscale
from contract.values import SIDE, SIDE_MULTIPLE, Frozen, Rule

Read = TypeVar("Read", bound=Frozen)
Location = tuple[int | str, ...]
_MEMBERS = ("ModelRef", "str", "float")  # pydantic's names for the members of a union
_OBJECT, _LIST = "an object", "a list"
# The kind of JSON value that a field needs, by pydantic's error type.
_CONTAINERS: Mapping[str, str] = {
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dict_type": _OBJECT,
    "tuple_type": _LIST,
    "list_type": _LIST,
}


def parse_draft(raw: str | bytes) -> RecipeDraft:
    """Read a draft from JSON text.

    Raises:
        InvalidRecipe: with code invalid_<field>, a sentence with the value, and a hint.
    """
    return _parse(RecipeDraft, raw, "recipe")


def parse_upscale(raw: str | bytes) -> Upscale:
    """Read an upscale from JSON text. Raises InvalidRecipe as `parse_draft`."""
    return _parse(Upscale, raw, "task")


def parse_preprocess(raw: str | bytes) -> Preprocess:
    """Read a preprocessor's preview from JSON text. Raises InvalidRecipe as `parse_draft`."""
    return _parse(Preprocess, raw, "task")


def parse_request(kind: type[Read], raw: str | bytes) -> Read:
    """Read a model task, or another small request, from JSON text. Raises InvalidRecipe as `parse_draft`."""
    return _parse(kind, raw, "request")


def _parse(kind: type[Read], raw: str | bytes, name: str) -> Read:
    try:
        return kind.read(raw) if issubclass(kind, RecipeDraft) else kind.model_validate_json(raw)
    except ValidationError as error:
        raise _half_character(raw) or _worded(error, kind, name) from None
    except UnicodeError:
        raise InvalidRecipe(f"The {name} is not UTF-8 text.", "Send JSON as UTF-8.") from None


def _worded(error: ValidationError, kind: type[Frozen], name: str) -> InvalidRecipe:
    problem = _main_problem(error)
    location: Location = problem["loc"]
    rule = problem.get("ctx", {}).get("error")
    if isinstance(rule, Rule):
        return _broken_rule(rule, location)
    if problem["type"] == "json_invalid":
        cause = problem["msg"].removeprefix("Invalid JSON: ")[:120]
        return InvalidRecipe(f"The {name} is not JSON: {cause}.", "Send UTF-8 JSON.")
    if not location:
        required = [field for field, facts in kind.model_fields.items() if facts.is_required()]
        return InvalidRecipe(f"The {name} is not a JSON object.", f'Send {{"{required[0]}": …}} at least.')
    field = _dotted_path(location)
    shown = ".".join(str(part) for part in location if part not in _MEMBERS)[:120]
    if problem["type"] == "extra_forbidden":
        return InvalidRecipe(
            f"“{shown}” is not a field of a {name}.", "Leave it out.", code="unknown_field", field=field
        )
    code = code_of(field)[:130]
    if problem["type"] == "missing":
        return InvalidRecipe(f"“{shown}” is missing.", "Add it.", code=code, field=field)
    message, hint = _message_and_hint(field, problem)
    value = problem["input"]
    is_side = field in ("width", "height") and type(value) is int
    if not is_side or not SIDE[0] < value < SIDE[1]:
        return InvalidRecipe(message, hint, code=code, field=field)
    lower = value // SIDE_MULTIPLE * SIDE_MULTIPLE
    higher = lower + SIDE_MULTIPLE
    hint = f"Use a multiple of {SIDE_MULTIPLE}: {lower} or {higher}."
    return InvalidRecipe(message, hint, code=code, field=field, fix={field: higher})


def _main_problem(error: ValidationError) -> Any:
    """The first problem; for a union that got an object, the one of its object and not of its text."""
    problems = error.errors(include_url=False)
    first = problems[0]
    if not isinstance(first["input"], dict) or first["type"] != "string_type":
        return first
    union = first["loc"][:-1]
    for other in problems:
        if other["loc"][: len(union)] == union and "ModelRef" in other["loc"]:
            return other
    return first


def _message_and_hint(field: str, problem: Mapping[str, Any]) -> tuple[str, str]:
    path, value = _without_indexes(field), problem["input"]
    if problem["type"] == "too_long":
        limits = problem["ctx"]
        return (
            f"{limits['actual_length']} {SEVERAL.get(path, 'entries')} are asked for.",
            f"Use at most {limits['max_length']}.",
        )
    message = f"{_numbered_label(field)} is {_short_value(value)}."
    if problem["type"] == "too_short":
        message = f"“{path}” is an empty list."
    if problem["type"] in _CONTAINERS:
        wanted = _CONTAINERS[problem["type"]]
        message = f"{_numbered_label(field)} has to be {wanted} in the request, and is {_short_value(value)}."
    while path and path not in RANGES:  # a field without a hint has that of the part around it
        path = path.rpartition(".")[0]
    return message, RANGES.get(path, "Leave it out.")


def _half_character(raw: str | bytes) -> InvalidRecipe | None:
    """The refusal of a text with half a surrogate pair, which JSON can't carry; it names the field with the text."""
    try:
        found = next(_broken_texts(json.loads(raw), ()), None)
    except (ValueError, RecursionError):
        return None
    if found is None:
        return None
    location, at = found
    field = _dotted_path(location)
    label = _numbered_label(field) if field else "The request"
    return InvalidRecipe(
        f"{label} has half of a character at place {at + 1}: it was cut in two.",
        "Delete it there and type it again.",
        code=code_of(field)[:130] if field else None,
        field=field,
    )


def _broken_texts(value: object, location: Location) -> Iterator[tuple[Location, int]]:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            yield location, error.start
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _broken_texts(name, location)
            yield from _broken_texts(inner, (*location, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _broken_texts(inner, (*location, index))


def _broken_rule(rule: Rule, location: Location) -> InvalidRecipe:
    path = _dotted_path(location)
    field = ".".join(filter(None, (path, rule.field)))
    message = rule.message
    indexes = [place for place, part in enumerate(location) if isinstance(part, int)]
    if indexes:  # a member of a list: "LoRA 2: it has 3 block weights."
        member = _numbered_label(_dotted_path(location[: indexes[-1] + 1]))
        message = f"{member}: {message[0].lower()}{message[1:]}"
    return InvalidRecipe(message, rule.hint, code=code_of(field), field=field)


def _dotted_path(location: Sequence[int | str]) -> str:
    """A dotted path with its indexes, without pydantic's names for the members of a union."""
    names = []
    for part in location:
        is_name = isinstance(part, str) and part.isidentifier() and part.isascii() and part not in _MEMBERS
        if is_name or isinstance(part, int):
            names.append(str(part))
    return ".".join(names)[:120]


def _without_indexes(field: str) -> str:
    """The path as labels and ranges have it."""
    return ".".join(name for name in field.split(".") if not name.isdigit())


def _label(path: str) -> str:
    """The page's label of a field; a picture's sha256 has that of the field around it, others their path."""
    if path in LABELS or path in MODEL_TASK_LABELS:
        return LABELS.get(path) or MODEL_TASK_LABELS[path]
    if path.endswith((".sha256", ".image")):
        return _label(path.rpartition(".")[0])
    return f"“{path[:60]}”"


def _numbered_label(field: str) -> str:
    """The label, with the number of the part where the field is a member of a list: "LoRA 2"."""
    label = _label(_without_indexes(field))
    last = field.rpartition(".")[2]
    return f"{label} {int(last) + 1}" if last.isdigit() else label


def _short_value(value: object) -> str:
    if isinstance(value, str):
        return f"{len(value):,} characters long" if len(value) > 40 else f"“{value}”"
    if isinstance(value, list):
        return _LIST
    if isinstance(value, dict):
        return _OBJECT
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if len(text) <= 30 else f"{text[:12]}… ({len(text)} digits)"
