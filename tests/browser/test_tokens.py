"""The page counts a prompt's tokens and chunks as the engine makes them, where it knows the words."""

import pytest
from playwright.sync_api import Page

from contract.prompt import parse_prompt
from engine.adapters.prompt_chunks import split_in_chunks
from tests.support.tiny import WORDS, make_tokenizer

TOKENIZER = make_tokenizer()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a cat",
        "a (cat:1.2), ((dog",
        "a cat # a dog\nsea",
        "# a dog",
        "cat <lora:ink:0.8> dog",
        r"\(cat\) dog\,",
        "cat " * 75,
        "cat " * 76,
        "cat," * 37 + "cat",
        "cat," * 38,
        "cat, " * 90,
        "cat,dog " * 26,
        "a cat BREAK the dog",
        "BREAK cat",
        "cat BREAK",
        "cat BREAK BREAK dog",
        "cat " * 55 + ", " + "dog " * 30,
        "cat " * 54 + ", " + "dog " * 30,
        "cat " * 75 + ", dog",
        "(cat:-0.5) [dog] (sea: 2.)",
        "cat)",
        "the red sun: sea",
        "cat] dog",
        "a:1.2) cat",
        "sun: 10",
        "cat | dog",
        "((cat) dog",
    ],
    ids=str,
)
def test_tokens_and_chunks_are_the_engines(text: str, module: Page) -> None:
    counted = module.evaluate(
        """async ([text, words]) => {
        const { countTokens } = await import("/prompt/tokens.js");
        return countTokens(text, { words, token_limit: 77 });
    }""",
        [text, list(WORDS)],
    )
    (part,) = parse_prompt(text, 20).at(0)
    chunks = split_in_chunks(part.pieces, TOKENIZER, 75).chunks
    assert (counted["used"], counted["chunks"]) == (sum(len(chunk.tokens) for chunk in chunks), len(chunks))
    assert counted["isExact"] and counted["room"] == 75


@pytest.mark.parametrize("text", ["[cat|dog]", "cat AND dog", "[cat:dog:0.5]", "a zebra"])
def test_where_it_can_not_know_it_says_about(text: str, module: Page) -> None:
    counted = module.evaluate(
        """async ([text, words]) => {
        const { countTokens } = await import("/prompt/tokens.js");
        return countTokens(text, { words, token_limit: 77 });
    }""",
        [text, list(WORDS)],
    )
    assert not counted["isExact"]


@pytest.mark.parametrize(
    ("text", "by", "expected"),
    [
        ("(cat:1.2)", "ArrowUp", "(cat:1.3)"),
        ("(cat:-.5)", "ArrowUp", "(cat:-0.4)"),
        ("(cat:-1)", "ArrowDown", "(cat:-1)"),
        ("(cat:2.)", "ArrowDown", "(cat:1.9)"),
        ("(cat:12)", "ArrowDown", "(cat:11.9)"),
        ("(cat:12)", "ArrowUp", "(cat:12)"),
        ("(cat:0.1)", "ArrowDown", "(cat:0)"),
        ("(cat:1.1)", "ArrowDown", "cat"),
    ],
)
def test_weight_keys_read_every_weight(text: str, by: str, expected: str, module: Page) -> None:
    module.evaluate(
        """async (text) => {
        const { listenForWeights } = await import("/prompt/weight_keys.js");
        const area = document.body.appendChild(document.createElement("textarea"));
        area.value = text;
        listenForWeights(area);
        area.focus();
        area.setSelectionRange(2, 2);
    }""",
        text,
    )
    module.keyboard.press(f"Control+{by}")
    assert module.evaluate("document.activeElement.value") == expected
