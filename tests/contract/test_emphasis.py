"""What brackets and weights mean in each emphasis mode, against a reading written in another way."""

import math
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import InvalidRecipe
from contract.prompt import parse_prompt
from contract.values import EMPHASES, Emphasis

Weighed = list[tuple[str, float]]


def read(text: str, emphasis: Emphasis) -> Weighed:
    (part,) = parse_prompt(text, 10, emphasis=emphasis).at(0)
    return [(piece.text, round(piece.weight, 9)) if piece else ("BREAK", math.inf) for piece in part.pieces]


def characters(weighed: Weighed) -> Weighed:
    return [(character, weight) for text, weight in weighed for character in text]


def reference(text: str, weight: float = 1.0) -> Weighed:
    """ComfyUI's rule by recursion, one character after the other, for balanced brackets without escapes."""
    found: Weighed = []
    depth, start = 0, 0
    for index, mark in enumerate(text):
        if mark == "(":
            if depth == 0:
                start = index + 1
            depth += 1
        elif mark == ")":
            depth -= 1
            if depth == 0:
                inner = text[start:index]
                head, colon, number = inner.rpartition(":")
                own = weight * 1.1
                if colon and head:
                    with suppress(ValueError):
                        inner, own = head, float(number)
                found += reference(inner, own)
        elif depth == 0:
            found.append((mark, round(weight, 9)))
    return found


@pytest.mark.parametrize(
    ("emphasis", "text", "expected"),
    [
        ("ignore", "a (cat:1.5) [dog]", [("a cat dog", 1.0)]),
        ("ignore", r"\(a\) BREAK ((b))", [("(a) ", 1.0), ("BREAK", math.inf), (" b", 1.0)]),
        ("none", r"a (cat:1.5) [dog] \( BREAK", [(r"a (cat:1.5) [dog] \( BREAK", 1.0)]),
        ("no_norm", "a (cat:1.5) [dog]", [("a ", 1.0), ("cat", 1.5), (" ", 1.0), ("dog", round(1 / 1.1, 9))]),
        ("comfyui", "a [cat] (dog)", [("a [cat] ", 1.0), ("dog", 1.1)]),
        ("comfyui", "(a (b:1.2) c:1.3)", [("a ", 1.3), ("b", 1.2), (" c", 1.3)]),  # A1111: 1.3 × 1.2
        ("comfyui", "((a))", [("a", 1.21)]),
        ("comfyui", "(a:b:1.2)", [("a:b", 1.2)]),
        ("comfyui", "(:1.2)", [(":1.2", 1.1)]),
        ("comfyui", "(a:big)", [("a:big", 1.1)]),
        ("comfyui", r"\(a\) (b\):2)", [("(a) ", 1.0), ("b)", 2.0)]),
        ("comfyui", "a) (b:2) ((c:2)", [("a) (b:2) (", 1.0), ("c", 2.0)]),
        ("comfyui", "(a:2) (b (c:3)", [("a", 2.0), (" (b (c:3)", 1.0)]),
        ("comfyui", "(a BREAK b:1.2)", [("a ", 1.2), ("BREAK", math.inf), (" b", 1.2)]),
        ("comfyui", "a\\b", [("a\\b", 1.0)]),
    ],
)
def test_each_mode_reads_brackets_its_own_way(emphasis: Emphasis, text: str, expected: Weighed) -> None:
    assert read(text, emphasis) == expected


balanced = st.recursive(
    st.text("ab .:12", max_size=6),
    lambda inner: st.lists(inner.map(lambda text: f"({text})") | inner, max_size=4).map("".join),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(balanced)
def test_weights_in_comfyui_brackets_are_those_of_its_rule(text: str) -> None:
    assert characters(read(text, "comfyui")) == reference(text)


@settings(max_examples=200, deadline=None)
@given(st.text("ab ()[]:.12\\|", max_size=30))
def test_ignore_and_no_norm_read_the_same_words_as_original(text: str) -> None:
    original = read(text, "original")
    assert read(text, "no_norm") == original
    assert "".join(word for word, _ in read(text, "ignore")) == "".join(word for word, _ in original)
    assert {weight for _, weight in read(text, "ignore")} <= {1.0}


@pytest.mark.parametrize("number", ["inf", "nan", "1e999"])
def test_weights_beyond_every_number_are_refused(number: str) -> None:
    with pytest.raises(InvalidRecipe, match="beyond every number"):
        parse_prompt(f"(cat:{number})", 10, emphasis="comfyui")


@pytest.mark.parametrize("emphasis", EMPHASES)
@pytest.mark.parametrize("text", ["(" * 50_000, ")" * 50_000, "(" * 25_000 + "a" + ")" * 25_000, "(a:1)" * 20_000])
def test_hostile_brackets_take_no_time(emphasis: Emphasis, text: str) -> None:
    try:
        parse_prompt(text, 10, emphasis=emphasis)
    except InvalidRecipe as error:
        assert "beyond every number" in error.message
