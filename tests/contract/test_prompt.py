"""The prompt grammar: what it does with any text. What each text means is a table, `test_prompt_table.py`."""

import math
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import InvalidRecipe
from contract.prompt import MORE, Part, Piece, Tag, parse_prompt, take_tags, without_comments


def pieces(text: str, step: int = 0, steps: int = 10) -> list[tuple[str, float] | None]:
    (part,) = parse_prompt(text, steps).at(step)
    return [piece and (piece.text, round(piece.weight, 4)) for piece in part.pieces]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("", []),
        ("a (cat) b", [("a ", 1.0), ("cat", 1.1), (" b", 1.0)]),
        ("((cat))", [("cat", 1.21)]),
        ("[cat]", [("cat", 0.9091)]),
        ("(cat:1.3)", [("cat", 1.3)]),
        ("(a (cat:2) b:0.5)", [("a ", 0.5), ("cat", 1.0), (" b", 0.5)]),
        ("(cat:-.5)", [("cat", -0.5)]),
        (r"\(cat\) \[b\] \\", [(r"(cat) [b] " + "\\", 1.0)]),
        (r"(\(x\):1.2)", [("(x)", 1.2)]),
        ("(cat:dog)", [("cat:dog", 1.1)]),
        ("time: 10:30", [("time: 10:30", 1.0)]),
        ("a BREAK b", [("a ", 1.0), None, (" b", 1.0)]),
        ("BREAKING ANDY Abba", [("BREAKING ANDY Abba", 1.0)]),
    ],
)
def test_weights_and_escapes(text: str, expected: list[tuple[str, float] | None]) -> None:
    assert pieces(text) == expected


@pytest.mark.parametrize("text", ["a)", "a]", "a:1.2)", ":)", "a|b", "<3", "<lora:>", "10:30"])
def test_what_does_not_parse_is_plain_text(text: str) -> None:
    assert pieces(text) == [(text, 1.0)]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("[a:b:0.5]", {0: "a", 4: "a", 5: "b", 9: "b"}),
        ("[a:b:3]", {2: "a", 3: "b"}),
        ("[b:4]", {3: "", 4: "b"}),
        ("[a::4]", {3: "a", 4: ""}),
        ("[a:b:1.0]", {0: "a", 9: "a"}),
        ("[a|b|c]", {0: "a", 1: "b", 2: "c", 3: "a"}),
        ("[a|]", {0: "a", 1: ""}),
        ("[[a|b]:c:4]", {0: "a", 1: "b", 4: "c"}),
        ("[a:[b|c]:4]", {3: "a", 4: "b", 5: "c"}),
        ("x [a (b) d|e] y", {0: "x a b d y", 1: "x e y"}),
    ],
)
def test_editing_by_step(text: str, at: dict[int, str]) -> None:
    prompt = parse_prompt(text, 10)
    assert not prompt.is_static
    for step, expected in at.items():
        assert "".join(piece.text for part in prompt.at(step) for piece in part.pieces if piece) == expected


def test_and_composes_with_weights() -> None:
    assert parse_prompt("cat AND dog :0.5 AND sea:1.5", 10).at(0) == (
        Part((Piece("cat "),)),
        Part((Piece(" dog"),), 0.5),
        Part((Piece(" sea"),), 1.5),
    )
    assert parse_prompt("cat :0.5", 10).at(0) == (Part((Piece("cat :0.5"),)),)
    assert len(parse_prompt("cat AND dog", 10, composes=False).at(0)) == 1
    assert len(parse_prompt("cat AND  AND ", 10).at(0)) == 3


def test_tags_are_taken_out() -> None:
    prompt = parse_prompt("a <lora:ink v2:0.8> cat <hypernet:x>", 10)
    assert prompt.tags == (Tag("lora", "ink v2", ("0.8",)), Tag("hypernet", "x"))
    assert pieces("a <lora:ink:0.8> cat") == [("a  cat", 1.0)]


@pytest.mark.parametrize(
    ("text", "left", "names"),
    [
        ("a cat", "a cat", []),
        ("a  cat ", "a  cat ", []),
        ("a <lora:ink:0.8> cat", "a cat", ["ink"]),
        ("a cat <lora:ink>, <LORA:oil:1:0.5>", "a cat,", ["ink", "oil"]),
        ("<lora:ink>\na cat", "a cat", ["ink"]),
        ("(a <lora:x:1>:1.2) [b<lora:y:1>|c]", "(a:1.2) [b|c]", ["x", "y"]),
        ("<other:ink> <3", "<other:ink> <3", []),
        ("<lora:>", "<lora:>", []),
        ("a<lora:../../x:1>b", "ab", ["../../x"]),
        ("a # <lora:ink:1>", "a # <lora:ink:1>", []),
        ("# x\n<lora:ink:1> a", "# x\n a", ["ink"]),
        ("a <lora:ink#2:1>", "a", ["ink#2"]),
        ("a (<lora:ink:1>", "a (", ["ink"]),
    ],
)
def test_tags_of_some_kinds_are_taken_out_and_the_rest_stays(text: str, left: str, names: list[str]) -> None:
    kept, tags = take_tags(text, ("lora",))
    assert (kept, [tag.name for tag in tags]) == (left, names)


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("(cat:11)", 11),
        ("(cat:-10.5)", -10.5),
        ("(" * 30 + "cat" + ")" * 30, 1.1**30),
        ("((cat:9):9)", 81),
        ("(cat:" + "9" * 300 + ")", float("9" * 300)),
    ],
)
def test_any_finite_weight_is_read(text: str, weight: float) -> None:
    (part,) = parse_prompt(text, 10).at(0)
    assert [piece.weight for piece in part.pieces if piece] == [pytest.approx(weight)]


@pytest.mark.parametrize(
    "text",
    [
        "(cat:" + "9" * 400 + ")",
        "(" * 8000 + "cat",
        f"((cat:{'9' * 200}):{'9' * 200})",
        "a AND b:" + "9" * 400,
        "(a [x:" + "9" * 400 + ")",
    ],
)
def test_a_weight_beyond_every_number_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        parse_prompt(text, 10)
    assert caught.value.code == "invalid_prompt"
    assert "weight" in caught.value.message and len(caught.value.message) < 120
    assert "-10 to 10" in caught.value.hint


@given(
    st.text(alphabet="()[]:|\\ ab1.5<>lora\nANDBREAK#", max_size=60),
    st.integers(1, 150),
    st.none() | st.integers(1, 150),
)
def test_any_text_parses(text: str, steps: int, after: int | None) -> None:
    prompt = parse_prompt(text, steps, after=after)
    for step in {0, steps // 2, steps - 1}:
        for part in prompt.at(step):
            assert all(piece.text and math.isfinite(piece.weight) for piece in part.pieces if piece)
    assert prompt.at(0) == prompt.at(0)


@given(st.text(alphabet="abc ,.!?é日本\n", max_size=80))
def test_plain_text_is_kept_as_it_is(text: str) -> None:
    assert "".join(piece.text for piece in parse_prompt(text, 10).at(0)[0].pieces if piece) == text


@given(st.text(max_size=80))
def test_escaped_text_is_kept_as_it_is(text: str) -> None:
    text = text.replace("<", "‹").replace("#", "♯")
    quoted = "".join(f"\\{c}" if c in "()[]\\" else c for c in text)
    plain = text
    if "BREAK" not in plain and "AND" not in plain:
        assert "".join(piece.text for piece in parse_prompt(quoted, 10).at(0)[0].pieces if piece) == plain


@settings(max_examples=20)
@given(st.integers(0, 20))
def test_nesting_multiplies(depth: int) -> None:
    assert pieces("(" * depth + "x" + ")" * depth) == [("x", round(MORE**depth, 4))]


@pytest.mark.parametrize(
    "unit", ["(", "[(", "[x]", ":1", "<a:", "[a|b]", "[a:b:", "AND ", "(x:1.", "\\", "# a\n", ": ", "[a:1]", "((a:1)["]
)
def test_hostile_texts_take_linear_time(unit: str) -> None:
    began = time.process_time()
    with suppress(InvalidRecipe):  # a weight beyond every number
        assert parse_prompt(unit * (100_000 // len(unit)), 150).at(1)
    assert time.process_time() - began < 4  # a tenth of it on an idle machine; quadratic would be minutes


def test_deep_nesting_needs_no_recursion() -> None:
    assert parse_prompt("[" * 50_000 + "x" + "]" * 50_000, 10).at(0)
    assert parse_prompt(f"(x:{'1' * 199_000}", 10).at(0)
    assert parse_prompt("[" * 20_000 + "x" + "|y]" * 20_000, 10).at(3)
    with pytest.raises(InvalidRecipe):
        parse_prompt("(" * 50_000 + "x" + ")" * 50_000, 10)


def test_twenty_thousand_words_parse_quickly() -> None:
    began = time.process_time()
    prompt = parse_prompt("word " * 20_000, 20)
    assert time.process_time() - began < 0.5
    assert len(prompt.at(0)[0].pieces) == 1


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a", "a"),
        ("a # b", "a "),
        ("a # b\nc # d\n", "a \nc \n"),
        ("#", ""),
        ("a <lora:x#1:1> # b", "a <lora:x#1:1> "),
        ("a\n# b\n\n#c\nd", "a\n\n\n\nd"),
        ("a #b\r\nc", "a \nc"),
    ],
)
def test_comments_go_to_the_end_of_their_line(text: str, left: str) -> None:
    assert without_comments(text) == left
