"""Repairs a draft that was read from a file, so that it can be posted: refused values are replaced or left out.

The caller passes the check that posted drafts go through; one field is changed at a time, until the check passes. A
problem that no change solves (there is no model at all) stays.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from contract.errors import StudioError
from contract.recipe import RecipeDraft
from contract.validation import parse_draft

Check = Callable[[RecipeDraft], None]
Draft = dict[str, Any]
_MOST_CHANGES = 64
_SCALES = (4.0, 3.0, 2.0, 1.5, 1.25)
_LISTS = ("loras", "hypernetworks", "controls", "ip_adapters", "embeddings", "guidance_methods")
_PARTS = ("hires", "init_image", "mask", "size_conditioning")
_TEXTS = ("prompt", "negative_prompt", "prompt_2", "negative_prompt_2")
_TAG = re.compile(r"\s?<(?:lora|lyco|hypernet):[^<>\n]{1,800}>", re.IGNORECASE)
_NUMBER = re.compile(r":\s*[+-]?[\d.]+\s*(?=\))")
_BRACKET = re.compile(r"(?<!\\)[()\[\]]")
_REGION = re.compile(r"regions\.regions\.(\d+)\.")
_LEFT_OUT = "It was left out."


def accepted(draft: Draft, check: Check, notices: list[str]) -> Draft:
    """The draft with what the check refuses replaced or left out; a sentence for each goes to the notices.

    Args:
        check: Raises StudioError as posting the draft would.
    """
    problem = _problem(draft, check)
    for _ in range(_MOST_CHANGES):
        if problem is None:
            break
        field, sentence = problem
        for changed, words in _changes(draft, field):
            next_problem = _problem(changed, check)
            if next_problem != problem:
                draft, problem = changed, next_problem
                notices.append(f"{sentence} {words}")
                break
        else:
            break
    return draft


def _problem(draft: Draft, check: Check) -> tuple[str, str] | None:
    """Field ("" for none) and sentence of what the check refuses."""
    try:
        check(parse_draft(json.dumps(draft)))
    except StudioError as error:
        return error.field, error.message
    return None


def _changes(draft: Draft, field: str) -> Iterator[tuple[Draft, str]]:
    """Drafts with one change and the sentence for it, the likeliest first: at the refused field, then anywhere."""
    named, _, inner = field.partition(".")
    if named == "schedule" and draft.get("schedule") != "automatic":
        yield draft | {"schedule": "automatic"}, "Automatic is used."
    if named in ("sampler", "schedule"):
        yield _without(draft, "sampler", "schedule"), "The model's own sampler is used."
    if named in ("width", "height"):
        yield _without(draft, "width", "height"), "The model's own size is used."
    for part in _PARTS:
        if named == part and isinstance(draft.get(part), dict):
            yield from _changes_of_part(draft, part, inner.partition(".")[0])
    for name in _TEXTS:
        if named == name:
            yield from _without_tags(draft, name)
            yield from _without_weights(draft, name)
    for name in _with_first(named, _LISTS):
        for index in range(len(draft.get(name) or ())):
            rest = [*draft[name][:index], *draft[name][index + 1 :]]
            if rest:
                yield draft | {name: rest}, _LEFT_OUT
            else:
                yield _without(draft, name), _LEFT_OUT
    refused = _REGION.match(field)
    if refused:
        rest = [*draft["regions"]["regions"]]
        del rest[int(refused[1])]
        if rest:
            yield draft | {"regions": draft["regions"] | {"regions": rest}}, _LEFT_OUT
    for name in _TEXTS:
        yield from _without_tags(draft, name)
    for name in _with_first(named, tuple(draft)):
        if name == "init_image":
            yield _without(draft, "init_image", "mask"), _LEFT_OUT
        elif name not in ("prompt", "schema"):
            yield _without(draft, name), _LEFT_OUT


def _changes_of_part(draft: Draft, part: str, field: str) -> Iterator[tuple[Draft, str]]:
    inside = draft[part]
    if part == "hires" and field == "scale":
        for scale in _SCALES:
            if isinstance(inside.get("scale"), int | float) and scale < inside["scale"]:
                yield draft | {part: inside | {"scale": scale}}, f"{scale:g} is used."
    if part == "hires" and field in ("schedule", "sampler"):
        yield draft | {part: inside | {"schedule": "automatic"}}, "Automatic is used for the hires pass."
    if part == "hires" and field == "upscaler":
        yield draft | {part: inside | {"upscaler": "latent"}}, "Latent is used."
    for name in _TEXTS:
        if field == name and isinstance(inside.get(name), str):
            for shorter, words in (*_without_tags(inside, name), *_without_weights(inside, name)):
                yield draft | {part: shorter}, words
    if field in inside and field != "image":
        yield draft | {part: _without(inside, field)}, _LEFT_OUT


def _with_first(first: str, names: tuple[str, ...]) -> list[str]:
    """The names, `first` before all others if it is one of them."""
    if first not in names:
        return list(names)
    return [first, *(name for name in names if name != first)]


def _without_tags(fields: Draft, name: str) -> Iterator[tuple[Draft, str]]:
    text = fields.get(name) or ""
    for match in _TAG.finditer(text):
        yield fields | {name: text[: match.start()] + text[match.end() :]}, "Its tag was taken out of the prompt."


def _without_weights(fields: Draft, name: str) -> Iterator[tuple[Draft, str]]:
    text = fields.get(name) or ""
    for pattern, words in ((_NUMBER, "Its weights were taken out."), (_BRACKET, "Its brackets were taken out.")):
        if pattern.search(text):
            text = pattern.sub("", text)
            yield fields | {name: text}, words


def _without(draft: Draft, *names: str) -> Draft:
    changed = copy.copy(draft)
    for name in names:
        changed.pop(name, None)
    return changed
