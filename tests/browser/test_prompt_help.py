"""What the page says of a prompt while it is written, and what it offers: marks, fixes, completion."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from contract.prompt import parse_prompt
from contract.values import Emphasis
from engine.adapters.prompt_chunks import split_in_chunks
from tests.support.browser_site import Site, Visitor
from tests.support.model_folders import make_lora
from tests.support.tiny import WORDS, make_tokenizer

LORAS = [
    {"kind": "lora", "name": "ink", "title": "ink", "family": "sd1"},
    {"kind": "lora", "name": "ink_xl", "title": "ink_xl", "family": "sdxl"},
]
LINT = """async ([values, known]) => {
    const { lint } = await import("/prompt/lint.js");
    const list = (items) => ({ items, isKnown: true });
    const { config } = await import("/core/config.js");
    config.families ??= { sd1: "SD 1.x", sdxl: "SDXL" };
    return lint({ prompt: "", negative_prompt: "", emphasis: "original", ...values },
      { loras: list(known.loras), hypernetworks: list([]), embeddings: list(known.embeddings), isPasted: known.isPasted });
}"""


def notes_on(module: Page, *, is_pasted: bool = False, **values: object) -> list[dict[str, Any]]:
    values = {"model": {"title": "Starter", "family": "sd1", "token_limit": 77}, **values}
    known = {"loras": LORAS, "embeddings": [{"name": "sunny"}], "isPasted": is_pasted}
    found: list[dict[str, Any]] = module.evaluate(LINT, [values, known])
    return found


@pytest.mark.parametrize(
    ("prompt", "marked", "said", "fix", "fixed"),
    [
        ("a (cat, dog", "(", "“(” is never closed: it acts on all that follows.", "Close it", "a (cat), dog"),
        ("a [cat, dog", "[", "“[” is never closed: it acts on all that follows.", "Remove it", "a cat, dog"),
        ("a cat), dog", ")", "“)” closes nothing.", "Remove it", "a cat, dog"),
        (
            "<lora:inc:0.8>, sea",
            "<lora:inc:0.8>",
            "<lora:inc> is not here. Near: ink.",
            "Use ink",
            "<lora:ink:0.8>, sea",
        ),
        ("sea, <lora:zebra:1>", "<lora:zebra:1>", "<lora:zebra> is not here.", "Remove it", "sea"),
        ("<lora:zebra:1>, sea", "<lora:zebra:1>", "<lora:zebra> is not here.", "Remove it", "sea"),
        (
            "<lora:ink:3> sea",
            "<lora:ink:3>",
            "ink has weight 3: beyond 2 it mostly spoils the picture.",
            "Use 1",
            "<lora:ink:1> sea",
        ),
        (
            "sea, embedding:sunn",
            "embedding:sunn",
            "Embedding “sunn” is not here. Near: sunny.",
            "Use sunny",
            "sea, embedding:sunny",
        ),
        (
            "a (cat:3.5) b",
            "(cat:3.5)",
            "“cat” has weight 3.5: beyond 2 it mostly spoils the picture.",
            "Use 1.5",
            "a (cat:1.5) b",
        ),
        ("a cat++, sea", "cat++", "“cat++” is a weight as InvokeAI writes it.", "Translate", "a (cat:1.21), sea"),
        (
            "(a red cat)1.3 (sea)--",
            "(a red cat)1.3",
            "“(a red cat)1.3” is a weight as InvokeAI writes it.",
            "Translate",
            "(a red cat:1.3) (sea:0.81)",
        ),
        ("((a)++ cat)-", "(a)++", "“(a)++” is a weight as InvokeAI writes it.", "Translate", "((a:1.21) cat:0.9)"),
    ],
)
def test_each_problem_is_marked_said_and_fixed_at_one_press(
    prompt: str, marked: str, said: str, fix: str, fixed: str, module: Page
) -> None:
    (note,) = notes_on(module, prompt=prompt)
    assert (prompt[note["from"] : note["to"]], note["text"]) == (marked, said)
    patches = {one["label"]: one["patch"] for one in note["fixes"]}
    assert patches[fix] == {"prompt": fixed}
    assert notes_on(module, prompt=fixed) == []


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        r"\(a cat, dog\)",
        "a (cat:1.2) [dog] [a|b] [a:b:12], C++, 18+, wide-angle, T-shirt -- yes",
        "# (a\n<lora:ink:0.8>",
        "<lora:ink:-0.5:0.9> embedding:sunny",
        "(a (b:1.2) c:1.3)",
    ],
)
def test_of_what_is_right_nothing_is_said(prompt: str, module: Page) -> None:
    assert notes_on(module, prompt=prompt) == []


def test_a_lora_of_another_family_and_an_idle_emphasis(module: Page) -> None:
    (note,) = notes_on(module, prompt="<lora:ink_xl:1>")
    assert note["text"].startswith("LoRA “ink_xl” is for ")
    assert notes_on(module, prompt="(cat", emphasis="none") == []
    assert notes_on(module, prompt="(cat:5)", emphasis="ignore") == []
    assert [note["text"] for note in notes_on(module, prompt="[cat", emphasis="comfyui")] == []


def test_what_is_wanted_and_not_wanted_is_said_at_the_negative_prompt(module: Page) -> None:
    (note,) = notes_on(module, prompt="a cat, (Blurry:1.2), sea", negative_prompt="dull, blurry")
    assert (note["field"], note["text"]) == ("negative_prompt", "“blurry” is wanted and not wanted.")
    assert [fix["patch"] for fix in note["fixes"]] == [{"negative_prompt": "dull"}, {"prompt": "a cat, sea"}]


def test_a_phrase_that_a_chunk_cuts_and_what_is_never_read(module: Page) -> None:
    model = {"title": "Tiny", "family": "sd1", "token_limit": 77, "words": list(WORDS)}
    words = "cat " * 40 + ", " + "dog " * 40
    (note,) = notes_on(module, prompt=words, model=model)
    assert "The first 75 tokens end within" in note["text"] and note["isMild"]
    fixed = note["fixes"][0]["patch"]["prompt"]
    assert fixed == "cat " * 40 + ", BREAK " + "dog " * 40 and notes_on(module, prompt=fixed, model=model) == []
    long = "cat, " * 800
    note = notes_on(module, prompt=long, model=model)[0]
    assert note["text"] == "What is behind 1500 tokens is not read." and note["to"] == len(long)
    assert (
        module.evaluate(
            "([a, m]) => import('/prompt/tokens.js').then((t) => t.countTokens(a, m).chunks)",
            [note["fixes"][0]["patch"]["prompt"], model],
        )
        == 20
    )


@pytest.mark.parametrize(
    "text",
    [
        "cat " * 80,
        "cat, " * 50,
        "cat " * 60 + ", " + "dog " * 30,
        "(cat:1.2), " * 40 + "[dog] " * 30,
        "a cat BREAK " + "dog " * 90,
    ],
)
def test_chunks_begin_where_the_engines_do(text: str, module: Page) -> None:
    """The words from one break to the next are as many as the engine puts into the chunk."""
    model = {"words": list(WORDS), "token_limit": 77}
    counted = module.evaluate("([a, m]) => import('/prompt/tokens.js').then((t) => t.countTokens(a, m))", [text, model])
    (part,) = parse_prompt(text, 20).at(0)
    sizes = [len(chunk.tokens) for chunk in split_in_chunks(part.pieces, make_tokenizer(), 75).chunks]
    starts = [0, *(found["at"] for found in counted["breaks"]), len(text)]
    pieces = [text[a:b] for a, b in pairwise(starts)]
    if "BREAK" in text:
        pieces[:1] = pieces[0].split("BREAK")
    assert [
        len(
            piece.replace("(", " ")
            .replace(":1.2)", " ")
            .replace("[", " ")
            .replace("]", " ")
            .replace(",", " , ")
            .split()
        )
        for piece in pieces
    ] == sizes


@pytest.mark.parametrize(
    "text", ["(a (b:1.2) c:1.3)", "x ((a:1.5) b) y", "(a [d] (b (c:0.5):1.4):2)", r"(\(a\) (b:1.2))"]
)
def test_comfyui_weights_are_offered_and_mean_the_same_here(text: str, module: Page) -> None:
    def weighed(text: str, emphasis: Emphasis) -> list[tuple[str, float]]:
        (part,) = parse_prompt(text, 20, emphasis=emphasis).at(0)
        return [(mark, round(piece.weight, 3)) for piece in part.pieces if piece for mark in piece.text if mark.strip()]

    (note,) = notes_on(module, prompt=text, is_pasted=True)
    assert "in ComfyUI the inner one counts" in note["text"]
    translated = note["fixes"][0]["patch"]["prompt"]
    assert weighed(translated.replace("[", r"\[").replace("]", r"\]"), "original") == weighed(text, "comfyui")
    assert notes_on(module, prompt=text) == []


# In the page itself


@pytest.fixture(scope="module")
def ink(site: Site) -> Iterator[None]:
    path = make_lora(site.studio.settings.model_dirs[-1] / "loras", "ink", words="ink wash, brush")
    site.studio.models(fresh=True)
    yield
    path.unlink()
    site.studio.models(fresh=True)


def test_the_line_below_says_the_first_and_the_carets_and_fixes_it(ink: None, visitor: Visitor) -> None:
    page = visitor.page
    asked: list[str] = []
    prompt = page.locator("textarea[name=prompt]")
    note = page.locator("#prompt-note")
    page.fill("textarea[name=prompt]", "a barn, <lora:inkk:1>, (a cat")
    expect(note).to_have_text("<lora:inkk> is not here. Near: ink.")
    expect(page.locator(".prompts .marks mark")).to_have_count(2)
    page.on("request", lambda request: asked.append(request.url))
    prompt.click()
    page.keyboard.press("Control+End")
    page.keyboard.type(" on a roof")
    for _ in range(len("a cat on a roof")):
        page.keyboard.press("ArrowLeft")
    expect(note).to_have_text("“(” is never closed: it acts on all that follows.")
    # 25 keys. The list of tags and the embeddings are asked for, and lists anew every 20 s.
    assert len([url for url in asked if not url.endswith("/engine")]) <= 6, asked
    page.keyboard.press("Tab")  # to the negative prompt
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Close it")).to_be_focused()
    page.keyboard.press("Enter")
    expect(prompt).to_have_value("a barn, <lora:inkk:1>, (a cat on a roof)")
    expect(prompt).to_be_focused()
    page.get_by_role("button", name="Use ink").click()
    expect(prompt).to_have_value("a barn, <lora:ink:1>, (a cat on a roof)")
    expect(page.locator(".prompts .marks mark")).to_have_count(0)
    page.keyboard.press("Control+z")
    expect(prompt).to_have_value("a barn, <lora:inkk:1>, (a cat on a roof)")
    assert page.evaluate("window.shifts.reduce((sum, { value }) => sum + value, 0)") < 0.02


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
def test_marks_lie_under_their_words(width: int, dark: bool, visit: Callable[..., Visitor]) -> None:
    page = visit(width=width, dark=dark).page
    page.fill("textarea[name=negative_prompt]", "dull, two boats on a very wide river that breaks the line in two")
    page.fill("textarea[name=prompt]", "two boats on a very wide river that breaks the line in two, " + "sea, " * 60)
    for name, over in (("prompt", 0), ("negative_prompt", 1)):
        area = page.locator(f"textarea[name={name}]").bounding_box()
        copy = page.locator(".prompts .marks").nth(over).bounding_box()
        assert area and copy and (abs(area["y"] - copy["y"]), abs(area["height"] - copy["height"])) < (1, 1)
        heights = page.evaluate(
            "(name) => { const area = document.querySelector(`textarea[name=${name}]`);"
            " return [area.scrollHeight, document.querySelectorAll('.prompts .marks')[name === 'prompt' ? 0 : 1].scrollHeight]; }",
            name,
        )
        assert abs(heights[0] - heights[1]) <= 1, heights  # the lines break where the area's do
    expect(page.locator(".prompts .chunk-end")).not_to_have_count(0)
    expect(page.locator(".prompts .marks mark")).to_have_count(1)


def test_tags_are_offered_and_taken_only_where_chosen(visitor: Visitor) -> None:
    page = visitor.page
    prompt = page.locator("textarea[name=prompt]")
    options = page.locator(".completion:not([hidden]) .option")
    prompt.click()
    page.keyboard.type("a barn, golden h")
    expect(options.first).to_contain_text("golden hour")
    page.keyboard.press("Enter")  # none is chosen yet
    expect(prompt).to_have_value("a barn, golden h\n")
    page.keyboard.press("Backspace")
    page.keyboard.press("ArrowDown")
    expect(options.first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Tab")
    expect(prompt).to_have_value("a barn, golden hour")
    page.keyboard.type(", gold")
    expect(options.first).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.type("en")
    expect(options).to_have_count(0)


def test_tags_of_a_dropped_file_come_first_with_their_other_names(site: Site, visitor: Visitor) -> None:
    folder = site.studio.settings.data_dir / "tags"
    folder.mkdir(exist_ok=True)
    file = folder / "booru.csv"
    file.write_text('goldfinch_(bird),0,9001,"golden_finch,distelfink"\n', "utf-8")
    try:
        page = visitor.page
        page.click("textarea[name=prompt]")
        page.keyboard.type("distel")
        option = page.locator(".completion:not([hidden]) .option").first
        expect(option).to_contain_text("goldfinch (bird) (distelfink)")
        option.click()
        expect(page.locator("textarea[name=prompt]")).to_have_value(r"goldfinch \(bird\)")
    finally:
        file.unlink()
