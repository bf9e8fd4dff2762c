"""Every bad value gives one sentence that names the field, the value and what to use."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import InvalidRecipe
from contract.validation import parse_draft


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
