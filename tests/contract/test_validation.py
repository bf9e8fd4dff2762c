"""Every bad value gives one sentence that names the field, the value and what to use."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errands import Download, MergeDraft
from contract.errors import InvalidRecipe
from contract.recipe import RecipeDraft
from contract.tasks import Preprocess, Upscale
from contract.validation import _ERRAND_LABELS, _RANGES, LABELS, parse_draft, parse_upscale

KINDS = (RecipeDraft, Upscale, Preprocess, Download, MergeDraft)


def refusal(body: str | bytes) -> InvalidRecipe:
    with pytest.raises(InvalidRecipe) as refused:
        parse_draft(body)
    return refused.value


def field(**fields: object) -> InvalidRecipe:
    return refusal(json.dumps({"prompt": "x"} | fields))


@pytest.mark.parametrize(("fields", "code", "message", "hint"), [
    ({"steps": 999}, "invalid_steps", "Steps is 999.", "Use a whole number, 1 to 150."),
    ({"width": 500}, "invalid_width", "Width is 500.", "Use a multiple of 8: 496 or 504."),
    ({"height": 5000}, "invalid_height", "Height is 5000.", "Use 64 to 2048, a multiple of 8."),
    ({"guidance": "7"}, "invalid_guidance", "Guidance is “7”.", "Use a number, 0 to 30."),
    ({"steps": True}, "invalid_steps", "Steps is true.", "Use a whole number, 1 to 150."),
    ({"count": []}, "invalid_count", "Pictures is a list.", "Use a whole number, 1 to 16."),
    ({"clip_skip": -3}, "invalid_clip_skip", "Clip skip is -3.", "Use 1 to 4."),
    ({"stepz": 3}, "unknown_field", "“stepz” is not a field of a recipe.", "Leave it out.")])
def test_the_field_the_value_and_the_remedy_are_named(
        fields: dict[str, object], code: str, message: str, hint: str) -> None:
    error = field(**fields)
    assert (error.code, error.message, error.hint) == (code, message, hint)


SHA = "0" * 64
START: dict[str, object] = {"image": {"sha256": SHA}}


@pytest.mark.parametrize(("fields", "code", "message", "hint"), [
    ({"start": START | {"strength": 2}}, "invalid_start_strength", "Strength is 2.", "Use a number, 0 to 1."),
    ({"start": {"image": {"sha256": "x"}}}, "invalid_start_image_sha256", "Start picture is “x”.",
     'Use {"sha256": …} as POST /api/v1/inputs gave it.'),
    ({"start": START | {"extend": {"left": 3}}}, "invalid_start_extend_left", "Left is 3.",
     "Use 0 to 1984, a multiple of 8."),
    ({"mask": START}, "invalid_mask", "A mask needs a start picture, and there is none.",
     "Add one, or leave the mask out."),
    ({"controls": [START | {"model": "canny"}, START | {"model": "canny", "begin": 0.8, "end": 0.2}]},
     "invalid_controls_end", "ControlNet 2: it begins at 0.8 of the steps and ends at 0.2.",
     "Let it begin before it ends."),
    ({"controls": [START | {"model": "canny", "weight": 99}]}, "invalid_controls_weight", "Control weight is 99.",
     "Use a number, -10 to 10."),
    ({"controls": [START | {"model": 3}]}, "invalid_controls_model", "Control model is 3.",
     "Use the name of a ControlNet or T2I-Adapter from GET /api/v1/models."),
    ({"loras": [{"model": "ink", "weight": 11}]}, "invalid_loras_weight", "LoRA weight is 11.",
     "Use a number, -10 to 10."),
    ({"loras": [{"model": "ink"}, {"model": "oil", "blocks": [1.0] * 5}]}, "invalid_loras_blocks",
     "LoRA 2: it has 5 block weights.", "Use 12 or 20 (SDXL), 17 or 26 (SD 1.x and 2.x), or none."),
    ({"loras": [{"model": "ink"}] * 33}, "invalid_loras", "LoRA is a list.", "Use a list of at most 32."),
    ({"hypernetworks": [{"model": "bend", "weight": "1"}]}, "invalid_hypernetworks_weight",
     "Hypernetwork weight is “1”.", "Use a number, -10 to 10."),
    ({"hires": {"scale": 16}}, "invalid_hires_scale", "Upscale by is 16.", "Use more than 1, at most 8."),
    ({"start": START | {"bend": 1}}, "unknown_field", "“start.bend” is not a field of a recipe.", "Leave it out."),
    ({"start": {}}, "invalid_start_image", "“start.image” is missing.", "Add it.")])
def test_a_value_of_a_part_is_named_too(fields: dict[str, object], code: str, message: str, hint: str) -> None:
    error = field(**fields)
    assert (error.code, error.message, error.hint) == (code, message, hint)


@pytest.mark.parametrize(("body", "code", "message"), [
    ({"image": {"sha256": SHA}, "scale": 9}, "invalid_scale", "Upscale by is 9."),
    ({}, "invalid_image", "“image” is missing."), ([], "invalid_recipe", "The task is not a JSON object.")])
def test_an_upscale_is_judged_with_the_same_words(body: object, code: str, message: str) -> None:
    with pytest.raises(InvalidRecipe) as refused:
        parse_upscale(json.dumps(body))
    assert (refused.value.code, refused.value.message) == (code, message)


def test_every_label_and_range_is_of_a_field() -> None:
    """A name that a field no longer has would never be shown."""
    for path in {*LABELS, *_RANGES, *_ERRAND_LABELS}:
        first, *rest = path.split(".")
        kinds = [kind for kind in KINDS if first in kind.model_fields]
        assert kinds, path
        assert all(f'"{name}"' in json.dumps(kinds[0].model_json_schema()) for name in rest), path


@pytest.mark.parametrize(("body", "words"), [
    ("", "not JSON"), ("{", "not JSON"), ("[]", "not a JSON object"), ("null", "not a JSON object"),
    ("[" * 100_000, "not JSON"), (b'{"prompt": "\xff"}', "not JSON"), ("{}", "“prompt” is missing"),
    ('{"prompt": "x", "guidance": NaN}', "Guidance"), ('{"prompt": "x", "steps": 1' + "0" * 400 + "}", "digits"),
    ('{"prompt": "\\ud800"}', "not JSON")])
def test_bodies_that_are_no_draft_are_named_in_short(body: str | bytes, words: str) -> None:
    error = refusal(body)
    assert words in error.message and len(error.message) + len(error.hint) < 400


@settings(max_examples=200, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
                        ["prompt", "steps", "seed", "model", "loras", "start", "extras", "width", "x"]), inner),
                    max_leaves=8))
def test_any_json_is_a_draft_or_one_sentence(value: object) -> None:
    try:
        parse_draft(json.dumps(value))
    except InvalidRecipe as error:
        assert error.message.endswith((".", "?")) and "Traceback" not in error.message
        assert set(error.as_dict()) == {"code", "message", "hint"}
