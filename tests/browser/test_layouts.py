"""Shortcuts on other keyboards: without Latin letters, with AltGr, with dead keys, while an input method composes."""

from collections.abc import Mapping

import pytest
from playwright.sync_api import Page, expect

from tests.browser.test_inpaint import open_canvas, stroke, words
from tests.support.browser_site import Visitor

_PRESS = """([selector, keys]) => {
  const target = selector ? [...document.querySelectorAll(selector)].find((one) => one.checkVisibility()) : document.body;
  return !target.dispatchEvent(new KeyboardEvent("keydown", { bubbles: true, cancelable: true, ...keys }));
}"""
CANVAS = ".workspace .mask-editor-field"
# Undo with Ctrl, then the plain keys B E I and [ as the layout's own characters.
LAYOUTS: Mapping[str, tuple[str, str, str, str, str]] = {
    "Russian": ("я", "и", "у", "ш", "х"),
    "Ukrainian": ("я", "и", "у", "ш", "х"),
    "Greek": ("ζ", "β", "ε", "ι", "["),
    "Hebrew": ("ז", "נ", "ק", "ן", "]"),
    "Arabic": ("ئ", "لا", "ث", "ه", "ج"),
    "Persian": ("ظ", "ذ", "ث", "ه", "ج"),
    "Korean": ("ㅋ", "ㅠ", "ㄷ", "ㅑ", "["),
    "Thai": ("ผ", "ิ", "ำ", "ร", "บ"),
    "Hindi": ("Dead", "न", "ा", "ग", "ड"),
}


def press(page: Page, selector: str = "", **keys: object) -> bool:
    """Whether the page took the key for a shortcut."""
    taken: bool = page.evaluate(_PRESS, [selector, keys])
    return taken


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_canvas_obeys_keys_where_letters_are_not_latin(visitor: Visitor, layout: str) -> None:
    page = visitor.page
    undo, brush, eraser, invert, smaller = LAYOUTS[layout]
    open_canvas(page)
    stroke(page, (100, 100), (200, 100))
    assert "4% of" in words(page)
    assert press(page, CANVAS, key=undo, code="KeyZ", ctrlKey=True)
    assert "Nothing is masked yet." in words(page)
    assert press(page, CANVAS, key=undo, code="KeyZ", ctrlKey=True, shiftKey=True)
    assert "4% of" in words(page)
    assert press(page, CANVAS, key=invert, code="KeyI")
    assert "96% of" in words(page)
    assert press(page, CANVAS, key=eraser, code="KeyE")
    expect(page.get_by_role("button", name="Eraser")).to_have_attribute("aria-pressed", "true")
    assert press(page, CANVAS, key=brush, code="KeyB")
    expect(page.get_by_role("button", name="Brush", exact=True)).to_have_attribute("aria-pressed", "true")
    if layout != "Hebrew":  # its bracket keys are mirrored, and what they write counts
        assert press(page, CANVAS, key=smaller, code="BracketLeft")
        expect(page.locator(".brush-px")).to_have_text("24 px")


def test_pictures_and_searches_obey_them_too(visitor: Visitor) -> None:
    page = visitor.page
    visitor.ask("a lighthouse")
    visitor.wait_for("done")
    page.get_by_role("tab", name="Gallery").click()
    page.wait_for_selector(".tile")
    press(page, ".tile", key="а", code="KeyF")
    expect(page.locator(".tile.favorite")).to_have_count(1)
    press(page, ".tile", key="φ", code="KeyF")
    expect(page.locator(".tile.favorite")).to_have_count(0)
    search = page.get_by_role("searchbox", name="Search pictures")
    for keys in (
        {"key": "/", "code": "Digit7", "shiftKey": True},
        {"key": "/", "code": "Backslash", "shiftKey": True},
        {"key": "/", "code": "KeyQ"},
        {"key": "ظ", "code": "Slash"},
        {"key": "/", "code": "KeyQ", "ctrlKey": True, "altKey": True},
    ):
        assert press(page, ".tile", **keys), keys
        expect(search).to_be_focused()
        search.blur()
    for keys in (
        {"key": "/", "code": "Slash", "ctrlKey": True},
        {"key": "Dead", "code": "KeyQ"},
        {"key": ".", "code": "Slash"},
    ):
        assert not press(page, ".tile", **keys), keys
    press(page, ".tile", key="г", code="KeyU")
    expect(page.locator("textarea[name=prompt]")).to_have_value("a lighthouse")


@pytest.mark.parametrize(
    "keys",
    [
        {"key": "?", "code": "Minus", "shiftKey": True},
        {"key": "؟", "code": "Slash", "shiftKey": True},
        {"key": "?", "code": "Digit7", "shiftKey": True},
        {"key": "?", "code": "KeyW", "modifierAltGraph": True},
        {"key": "?", "code": "KeyW", "ctrlKey": True, "altKey": True},
    ],
)
def test_the_table_of_keys_opens_by_its_character_wherever_it_is(visitor: Visitor, keys: dict[str, object]) -> None:
    assert press(visitor.page, **keys)
    expect(visitor.page.get_by_role("dialog", name="Keyboard")).to_be_visible()


def test_a_character_of_altgr_is_that_character_and_no_command(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page)
    windows = {"ctrlKey": True, "altKey": True}
    linux = {"modifierAltGraph": True}
    for how in (windows, linux):
        assert press(page, CANVAS, key="[", code="Digit8", **how)
        expect(page.locator(".brush-px")).to_have_text("24 px")
        assert press(page, CANVAS, key="]", code="Digit9", **how)
        expect(page.locator(".brush-px")).to_have_text("29 px")
    assert press(page, CANVAS, key="[", code="Digit5", altKey=True), "Option on a Mac"
    expect(page.locator(".brush-px")).to_have_text("24 px")
    stroke(page, (100, 100), (200, 100))
    for keys in (
        {"key": "z", "code": "KeyZ"},
        {"key": "ż", "code": "KeyZ"},
        {"key": "↓", "code": "KeyU"},
        {"key": "ı", "code": "KeyI"},
        {"key": "Enter", "code": "Enter"},
    ):
        for how in (windows, linux):
            assert not press(page, CANVAS, **{**keys, **how}), (keys, how)
    assert not press(page, "textarea[name=prompt]", key="Enter", code="Enter", **windows)
    assert not press(page, "textarea[name=prompt]", key="ArrowUp", code="ArrowUp", **windows)
    assert not press(page, CANVAS, key="∫", code="KeyB", altKey=True), "Option B writes ∫"
    assert visitor.view()["phase"] != "sending" and "masked." in words(page)


def test_latin_letters_of_other_languages_are_not_taken_for_their_places(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page)
    for key, code in (
        ("ü", "BracketLeft"),
        ("é", "Digit2"),
        ("à", "Digit0"),
        ("ı", "KeyI"),
        ("ß", "Minus"),
        ("w", "KeyZ"),
    ):
        assert not press(page, CANVAS, key=key, code=code), key
    stroke(page, (100, 100), (200, 100))
    assert press(page, CANVAS, key="z", code="KeyW", ctrlKey=True), "AZERTY: by its letter, not by its place"
    assert "Nothing is masked yet." in words(page)


def test_what_an_input_method_composes_is_no_shortcut(visitor: Visitor) -> None:
    page = visitor.page
    page.fill("textarea[name=prompt]", "海")
    for keys in (
        {"key": "Process", "code": "Enter", "keyCode": 229},
        {"key": "Enter", "code": "Enter", "isComposing": True},
        {"key": "Enter", "code": "Enter", "keyCode": 229},
        {"key": "ArrowUp", "code": "ArrowUp", "isComposing": True},
    ):
        assert not press(page, "textarea[name=prompt]", ctrlKey=True, **keys), keys
    page.locator(".model-row").click()
    page.wait_for_selector("dialog.picker[open]")
    chosen = page.evaluate("darkroom.form.get().model.name")
    press(page, "dialog.picker input[type=search]", key="Enter", code="Enter", isComposing=True)
    press(page, "dialog.picker input[type=search]", key="Escape", code="Escape", keyCode=229)
    expect(page.locator("dialog.picker[open]")).to_be_visible()
    assert page.evaluate("darkroom.form.get().model.name") == chosen
    assert visitor.view()["phase"] == "idle"
