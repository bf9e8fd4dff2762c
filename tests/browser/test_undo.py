"""The browser's own undo takes back whatever the page put into a text field, step by step."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser_site import Visitor

PROMPT = "textarea[name=prompt]"
_LISTS = """() => {
  const answers = { lora: [{ name: "ink-wash", title: "Ink wash", kind: "lora", family: "sd1", size_bytes: 9, problem: "", hint: "", trigger_words: ["inkstyle"] }],
    embedding: [{ name: "soft-light", title: "Soft light", kind: "embedding", family: "sd1", size_bytes: 9, problem: "", hint: "" }] };
  const real = window.fetch;
  window.fetch = async (address, ...rest) => {
    const kind = /models\\?kind=(\\w+)/.exec(String(address))?.[1];
    return answers[kind] ? new Response(JSON.stringify({ models: answers[kind] }), { headers: { "content-type": "application/json" } }) : real(address, ...rest);
  };
}"""


def type_prompt(page: Page, text: str, selector: str = PROMPT) -> None:
    page.locator(selector).click()
    page.keyboard.type(text)
    expect(page.locator(selector)).to_have_value(text)


def undone(page: Page, selector: str = PROMPT) -> str:
    """What stands in a field after one more undo."""
    page.locator(selector).focus()
    page.keyboard.press("Control+z")
    return page.locator(selector).input_value()


def complete(page: Page) -> None:
    page.keyboard.type(", <lora:in")
    page.wait_for_selector(".completion:not([hidden]) .option")
    page.keyboard.press("Enter")


def complete_embedding(page: Page) -> None:
    page.keyboard.type(", embedding:so")
    page.wait_for_selector(".completion:not([hidden]) .option")
    page.keyboard.press("Tab")


def click_trigger(page: Page) -> None:
    page.evaluate(
        "darkroom.form.set({ ...darkroom.form.get(), loras: [{ model: 'ink-wash', weight: '1', text_weight: '', blocks: [] }] })"
    )
    page.locator("#lora-section details > summary").first.click()
    page.get_by_role("button", name="inkstyle").click()


def weigh(page: Page) -> None:
    page.keyboard.press("Control+ArrowUp")


def fill_by_recipe(page: Page) -> None:
    page.evaluate("darkroom.form.set({ ...darkroom.form.get(), prompt: 'a lake, two boats' })")


WAYS: list[tuple[Callable[[Page], None], str]] = [
    (complete, "a lake, <lora:ink-wash:1>"),
    (complete_embedding, "a lake, embedding:soft-light"),
    (click_trigger, "a lake, inkstyle"),
    (weigh, "a (lake:1.1)"),
    (fill_by_recipe, "a lake, two boats"),
]


@pytest.mark.parametrize(("act", "made"), WAYS, ids=lambda one: getattr(one, "__name__", ""))
def test_undo_takes_back_what_the_page_wrote_and_then_what_was_typed(
    visitor: Visitor, act: Callable[[Page], None], made: str
) -> None:
    page = visitor.page
    page.evaluate(_LISTS)
    type_prompt(page, "a lake")
    act(page)
    expect(page.locator(PROMPT)).to_have_value(made)
    assert page.evaluate("darkroom.form.get().prompt") == made
    before = undone(page)
    assert before.startswith("a lake") and len(before) < len(made), before
    assert page.evaluate("darkroom.form.get().prompt") == before, "the form follows the browser's undo"
    page.keyboard.press("Control+Shift+z")
    expect(page.locator(PROMPT)).to_have_value(made)
    for _ in range(30):
        if not undone(page):
            break
    expect(page.locator(PROMPT)).to_have_value("")


def test_an_example_prompt_is_taken_back_by_the_browser_too(visitor: Visitor) -> None:
    page = visitor.page
    type_prompt(page, "a lake")
    example = page.locator(".notice .chip").first  # each visitor is a person who has no pictures yet
    words = example.inner_text()
    example.click()
    expect(page.locator(PROMPT)).to_have_value(words)
    assert undone(page) == "a lake"


def test_a_negative_prompt_has_the_same_undo(visitor: Visitor) -> None:
    page = visitor.page
    page.evaluate(_LISTS)
    negative = "textarea[name=negative_prompt]"
    type_prompt(page, "blurry", negative)
    complete_embedding(page)
    expect(page.locator(negative)).to_have_value("blurry, embedding:soft-light")
    assert undone(page, negative).startswith("blurry, embedding:so") and undone(page, negative).startswith("blurry")


def test_words_that_came_while_another_tab_was_shown_are_taken_back_as_well(visitor: Visitor) -> None:
    page = visitor.page
    type_prompt(page, "a lake")
    page.get_by_role("tab", name="Models").click()
    fill_by_recipe(page)
    page.get_by_role("tab", name="Text to image").click()
    expect(page.locator(PROMPT)).to_have_value("a lake, two boats")
    expect(page.get_by_role("tab", name="Text to image")).to_be_focused()
    assert undone(page) == "a lake"


def test_settings_of_a_picture_are_taken_back_in_the_prompt(visitor: Visitor) -> None:
    page = visitor.page
    visitor.ask("a harbor at night")
    visitor.wait_for("done")
    page.fill(PROMPT, "")
    type_prompt(page, "a lake")
    page.get_by_role("button", name="Use settings").click()
    expect(page.locator(PROMPT)).to_have_value("a harbor at night")
    assert undone(page) == "a lake"


def test_writing_moves_neither_the_focus_nor_a_half_of_a_character(visitor: Visitor) -> None:
    page = visitor.page
    type_prompt(page, "one 🌊 two")
    page.locator("#explain-switch .switch").focus()
    page.evaluate("darkroom.form.set({ ...darkroom.form.get(), prompt: 'one 🌋 two' })")
    expect(page.locator("#explain-switch .switch")).to_be_focused()
    expect(page.locator(PROMPT)).to_have_value("one 🌋 two")
    assert undone(page) == "one 🌊 two"
