"""Every bad value gives one sentence that names the field, the value and what to use."""

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from contract.errors import InvalidRecipe, code_of
from contract.fields import LABELS, MODEL_TASK_LABELS, RANGES
from contract.model_tasks import Convert, Download, MergeDraft
from contract.recipe import RecipeDraft
from contract.tasks import Preprocess, Upscale
from contract.validation import parse_draft, parse_request, parse_upscale
from contract.values import Frozen

KINDS = (RecipeDraft, Upscale, Preprocess, Download, MergeDraft)


def refusal(body: str | bytes) -> InvalidRecipe:
    with pytest.raises(InvalidRecipe) as refused:
        parse_draft(body)
    return refused.value


def field(**fields: object) -> InvalidRecipe:
    return refusal(json.dumps({"prompt": "x"} | fields))


@pytest.mark.parametrize(
    ("fields", "code", "message", "hint"),
    [
        ({"steps": 999}, "invalid_steps", "Steps is 999.", "Use a whole number, 1 to 150."),
        ({"width": 500}, "invalid_width", "Width is 500.", "Use a multiple of 8: 496 or 504."),
        ({"height": 5000}, "invalid_height", "Height is 5000.", "Use 64 to 2048, a multiple of 8."),
        ({"guidance": "7"}, "invalid_guidance", "Guidance is “7”.", "Use a number, 0 to 30."),
        ({"steps": True}, "invalid_steps", "Steps is true.", "Use a whole number, 1 to 150."),
        ({"count": []}, "invalid_count", "Pictures is a list.", "Use a whole number, 1 to 16."),
        ({"clip_skip": -3}, "invalid_clip_skip", "Clip skip is -3.", "Use 1 to 4."),
        ({"stepz": 3}, "unknown_field", "“stepz” is not a field of a recipe.", "Leave it out."),
    ],
)
def test_the_field_the_value_and_the_remedy_are_named(
    fields: dict[str, object], code: str, message: str, hint: str
) -> None:
    error = field(**fields)
    assert (error.code, error.message, error.hint) == (code, message, hint)


SHA = "0" * 64
START: dict[str, object] = {"image": {"sha256": SHA}}


@pytest.mark.parametrize(
    ("fields", "code", "message", "hint"),
    [
        (
            {"init_image": START | {"strength": 2}},
            "invalid_init_image_strength",
            "Strength is 2.",
            "Use a number, 0 to 1.",
        ),
        (
            {"init_image": {"image": {"sha256": "x"}}},
            "invalid_init_image_image_sha256",
            "Start picture is “x”.",
            "Use a picture that is here: add it again.",
        ),
        (
            {"init_image": START | {"outpaint": {"left": 3}}},
            "invalid_init_image_outpaint_left",
            "Left is 3.",
            "Use 0 to 1984, a multiple of 8.",
        ),
        (
            {"mask": START},
            "invalid_mask",
            "A mask needs a start picture, and there is none.",
            "Add one, or leave the mask out.",
        ),
        (
            {"controls": [START | {"model": "canny"}, START | {"model": "canny", "start": 0.8, "end": 0.2}]},
            "invalid_controls_end",
            "ControlNet 2: it begins at 0.8 of the steps and ends at 0.2.",
            "Let it begin before it ends.",
        ),
        (
            {"controls": [START | {"model": "canny", "weight": 99}]},
            "invalid_controls_weight",
            "Control weight is 99.",
            "Use a number, -10 to 10.",
        ),
        (
            {"controls": [START | {"model": 3}]},
            "invalid_controls_model",
            "Control model is 3.",
            "Use a ControlNet or a T2I-Adapter that is there.",
        ),
        (
            {"loras": [{"model": "ink", "weight": 11}]},
            "invalid_loras_weight",
            "LoRA weight is 11.",
            "Use a number, -10 to 10.",
        ),
        (
            {"loras": [{"model": "ink"}, {"model": "oil", "blocks": [1.0] * 5}]},
            "invalid_loras_blocks",
            "LoRA 2: it has 5 block weights.",
            "Use 12 or 20 (SDXL), 17 or 26 (SD 1.x and 2.x), or none.",
        ),
        ({"loras": [{"model": "ink"}] * 33}, "invalid_loras", "33 LoRAs are asked for.", "Use at most 32."),
        (
            {"hypernetworks": [{"model": "bend", "weight": "1"}]},
            "invalid_hypernetworks_weight",
            "Hypernetwork weight is “1”.",
            "Use a number, -10 to 10.",
        ),
        ({"hires": {"scale": 16}}, "invalid_hires_scale", "Upscale by is 16.", "Use more than 1, at most 8."),
        (
            {"init_image": START | {"bend": 1}},
            "unknown_field",
            "“init_image.bend” is not a field of a recipe.",
            "Leave it out.",
        ),
        ({"init_image": {}}, "invalid_init_image_image", "“init_image.image” is missing.", "Add it."),
    ],
)
def test_a_value_of_a_part_is_named_too(fields: dict[str, object], code: str, message: str, hint: str) -> None:
    error = field(**fields)
    assert (error.code, error.message, error.hint) == (code, message, hint)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"image": {"sha256": SHA}, "scale": 9}, "invalid_scale", "Upscale by is 9."),
        ({}, "invalid_image", "“image” is missing."),
        ([], "invalid_recipe", "The task is not a JSON object."),
    ],
)
def test_an_upscale_is_judged_with_the_same_words(body: object, code: str, message: str) -> None:
    with pytest.raises(InvalidRecipe) as refused:
        parse_upscale(json.dumps(body))
    assert (refused.value.code, refused.value.message) == (code, message)


def test_every_label_and_range_is_of_a_field() -> None:
    """A name that a field no longer has would never be shown."""
    for path in {*LABELS, *RANGES, *MODEL_TASK_LABELS}:
        first, *rest = path.split(".")
        kinds = [kind for kind in KINDS if {first, f"{first}_"} & set(kind.model_fields)]
        assert kinds, path
        assert all(f'"{name}"' in json.dumps(kinds[0].model_json_schema()) for name in rest), path


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        (b'{"prompt": "\xff"}', "not JSON"),
        ("{}", "“prompt” is missing"),
        ('{"prompt": "x", "guidance": NaN}', "Guidance"),
        ('{"prompt": "x", "steps": 1' + "0" * 400 + "}", "digits"),
        ('{"prompt": "\\ud800"}', "half of a character"),
    ],
)
def test_bodies_that_are_no_draft_are_named_in_short(body: str | bytes, words: str) -> None:
    error = refusal(body)
    assert words in error.message and len(error.message) + len(error.hint) < 400


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["prompt", "steps", "seed", "model", "loras", "init_image", "extras", "width", "x"]),
                inner,
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_is_a_draft_or_one_sentence(value: object) -> None:
    try:
        parse_draft(json.dumps(value))
    except InvalidRecipe as error:
        assert error.message.endswith((".", "?")) and "Traceback" not in error.message
        assert {"code", "message", "hint"} <= set(error.as_dict()) <= {"code", "message", "hint", "field", "fix"}


# Every constraint there is × every field there is


def _fields(kind: type[BaseModel], path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths of all fields of a request, through parts and the first member of lists."""
    for name, facts in kind.model_fields.items():
        here = (*path, facts.alias or name)
        yield here
        for part in _parts(facts.annotation):
            yield from _fields(part, (*here, 0) if "tuple" in str(facts.annotation) else here)


def _parts(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for inner in get_args(annotation) for part in _parts(inner)]


def _body(kind: type[BaseModel], path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """A request that holds the value at the path, and else what is needed to come so far."""
    for step in reversed(path[1:]):
        value = [value] if isinstance(step, int) else {step: value}
    return {**_NEEDED[kind], str(path[0]): value}


_NEEDED: dict[type[BaseModel], dict[str, Any]] = {
    RecipeDraft: {"prompt": "x"},
    Upscale: {"image": {"sha256": SHA}},
    Convert: {"model": "x"},
    Preprocess: {"image": {"sha256": SHA}, "preprocessor": "canny"},
    Download: {"source": "a/b"},
    MergeDraft: {"name": "x", "a": "x", "b": "y"},
}
BAD: dict[str, object] = {
    "bool": True,
    "null": None,
    "text": "no such thing at all, whatever is asked",
    "empty": "",
    "long": "x" * 400_000,
    "negative": -1e9,
    "huge": 10**30,
    "fraction": 2.55,
    "list": [[]],
    "many": [{}] * 200,
    "names": ["ink"] * 99,
    "object": {"x": 1},
    "blank object": {},
    "numbers": [0.5, "x"],
}
EVERY = [(kind, path) for kind in _NEEDED for path in _fields(kind)]
# A word for a thing, "LoRA 2", or the path in quotes; then what is wrong with it.
_SENTENCE = re.compile(r"^(“[\w .]+”|\d+ [a-zA-Z ]+|[A-Z][\w .+-]+)( \d+)?:? .{4,}[.?]$", re.S)


@pytest.mark.parametrize(
    ("kind", "path"), EVERY, ids=[f"{kind.__name__}.{'.'.join(map(str, path))}" for kind, path in EVERY]
)
def test_every_bad_value_of_every_field_is_a_sentence_that_names_it(
    kind: type[Frozen], path: tuple[str | int, ...]
) -> None:
    refused = 0
    for value in BAD.values():
        try:
            parse_request(kind, json.dumps(_body(kind, path, value)))
        except InvalidRecipe as error:
            refused += 1
            words = f"{error.message} {error.hint}"
            assert _SENTENCE.match(error.message) and error.hint.endswith("."), words
            assert not re.search(r"(?i)input should|valid |constrained|function-|pydantic|ModelRef|/api/", words), words
            assert len(words) < 400
            asked = ".".join(map(str, path))
            # What is missing beside it may be named first; it is of the same part.
            assert error.field.startswith(str(path[0])) or error.field in asked or error.code == "unknown_field", (
                asked,
                error.field,
            )
            if re.match(r"\d+ ", error.message):
                assert "at most" in error.hint
            assert len(path) > 1 or not re.match(
                r"(LoRA|ControlNet|Embedding|Hypernetwork|File|Picture as prompt) is", words
            )
    assert refused or path[-1] in ("extras",), path


@pytest.mark.parametrize("kind", list(_NEEDED), ids=lambda kind: kind.__name__)
def test_every_missing_field_is_named(kind: type[Frozen]) -> None:
    """The last required one too: a merge without them was a 500."""
    whole = _NEEDED[kind]
    for name, facts in kind.model_fields.items():
        if facts.is_required():
            with pytest.raises(InvalidRecipe) as refused:
                parse_request(kind, json.dumps({key: value for key, value in whole.items() if key != name}))
            assert refused.value.field == name and name in refused.value.message


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x", "a": "y"}, "b"),
        ({"name": "x", "a": "y", "b": "z", "c": "w"}, "c"),
        ({"a": "y"}, "name"),
        ({"name": "x", "a": "y", "b": "z", "method": "add_difference"}, "c"),
        ({"name": "x/y", "a": "y", "b": "z"}, "name"),
    ],
)
def test_a_merge_that_can_not_be_is_refused_before_it_is_looked_at(body: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRecipe) as refused:
        parse_request(MergeDraft, json.dumps(body))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("fields", "message", "field"),
    [
        ({"loras": [{"model": "ink"}] * 40}, "40 LoRAs are asked for.", "loras"),
        ({"loras": ["ink"]}, "LoRA 1 has to be an object in the request, and is “ink”.", "loras.0"),
        ({"loras": {}}, "LoRA has to be a list in the request, and is an object.", "loras"),
        ({"loras": [{"model": "ink"}, {"model": "ink", "weight": True}]}, "LoRA weight is true.", "loras.1.weight"),
        (
            {"loras": [{"model": "ink", "blocks": [1.0] * 11 + ["x"]}]},
            "LoRA block weights 12 is “x”.",
            "loras.0.blocks.11",
        ),
        ({"controls": [START | {"model": "canny"}] * 9}, "9 ControlNet units are asked for.", "controls"),
        (
            {"controls": [START | {"model": "canny"}, {"model": "canny"}]},
            "“controls.1.image” is missing.",
            "controls.1.image",
        ),
        ({"ip_adapters": [{"image": {"sha256": SHA}, "model": []}]}, "IP-Adapter is a list.", "ip_adapters.0.model"),
        ({"init_image": START, "mask": START | {"soft": 1}}, "Soft inpainting is 1.", "mask.soft"),
        ({"mask": 3}, "Mask has to be an object in the request, and is 3.", "mask"),
        ({"model": {"name": "x"}}, "“model.family” is missing.", "model.family"),
        ({"embeddings": [3]}, "Embedding 1 has to be an object in the request, and is 3.", "embeddings.0"),
        ({"hires": {"sampler": 3}}, "Hires sampler is 3.", "hires.sampler"),
        ({"schema": 3}, "Schema is 3.", "schema"),
        ({"extras": []}, "Extras has to be an object in the request, and is a list.", "extras"),
        (
            {"controls": [START | {"model": "a", "start": 1.0, "end": 0.5}]},
            "ControlNet 1: it begins at 1 of the steps and ends at 0.5.",
            "controls.0.end",
        ),
    ],
)
def test_lists_unions_and_members_are_named_with_their_place(
    fields: dict[str, object], message: str, field: str
) -> None:
    error = refusal(json.dumps({"prompt": "x"} | fields))
    assert (error.message, error.field) == (message, field)
    assert error.code == code_of(field)


@pytest.mark.parametrize(
    ("body", "field", "name"),
    [
        ({"prompt": "a \ud83d b"}, "prompt", "Prompt has half"),
        ({"prompt": "x", "negative_prompt": "\udc00"}, "negative_prompt", "Negative"),
        ({"prompt": "x", "hires": {"prompt": "\ud83d\ud83d"}}, "hires.prompt", "Hires prompt has"),
        ({"prompt": "x", "loras": [{"model": "ok"}, {"model": "a\udfff"}]}, "loras.1.model", "LoRA has"),
        ({"prompt": "x", "\ud800": 1}, "", "The request has"),
    ],
)
def test_half_a_character_is_named_at_its_field(body: dict[str, object], field: str, name: str) -> None:
    error = refusal(json.dumps(body))
    assert error.field == field and error.message.startswith(name) and "half of a character" in error.message
    error.message.encode()


def test_a_side_that_is_no_multiple_brings_its_fix() -> None:
    assert refusal('{"prompt": "x", "width": 500}').as_dict()["fix"] == {"width": 504}
