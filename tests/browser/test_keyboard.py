"""The whole way without a mouse."""

from playwright.sync_api import expect

from tests.support.browser_site import Visitor


def test_a_picture_is_made_found_and_used_by_keyboard_alone(visitor: Visitor) -> None:
    page = visitor.page
    press = page.keyboard.press
    press("Tab")
    expect(page.get_by_text("To the result")).to_be_focused()
    for _ in range(12):
        press("Tab")
        if page.evaluate("document.activeElement.name") == "prompt":
            break
    expect(page.locator("textarea[name=prompt]")).to_be_focused()
    page.keyboard.type("a castle on a hill")
    press("Control+ArrowUp")
    expect(page.locator("textarea[name=prompt]")).to_have_value("a castle on a (hill:1.1)")
    press("Control+Enter")
    visitor.wait_for("done")
    expect(page.locator("textarea[name=prompt]")).to_be_focused()
    page.locator("#tab-txt2img-button").focus()
    press("ArrowRight")
    expect(page.get_by_role("tab", name="Image to image")).to_be_focused()
    press("End")
    expect(page.get_by_role("tab", name="Models")).to_be_focused()
    press("ArrowLeft")
    page.wait_for_selector(".tile")
    expect(page.get_by_role("tab", name="Gallery")).to_be_focused()
    press("/")
    expect(page.get_by_role("searchbox", name="Search pictures")).to_be_focused()
    for _ in range(4):
        press("Tab")
        if "tile" in page.evaluate("document.activeElement.className"):
            break
    press("f")
    expect(page.locator(".tile.favorite")).to_have_count(1)
    press("Enter")
    expect(page.locator(".lightbox")).to_be_visible()
    press("Escape")
    expect(page.locator(".tile").first).to_be_focused()
    press("u")
    expect(page.locator("textarea[name=prompt]")).to_have_value("a castle on a (hill:1.1)")
    assert page.evaluate("location.hash") == "#/txt2img"


def test_escape_closes_the_top_layer_first_and_cancels_only_then(visitor: Visitor) -> None:
    page = visitor.page
    visitor.ask("meadow [slow]", steps="120")
    visitor.wait_for("running")
    visitor.site.worker.gate.clear()
    page.locator(".model-row").click()
    page.wait_for_selector("dialog.picker[open]")
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    expect(page.locator(".model-row")).to_be_focused()
    page.keyboard.press("Escape")
    assert visitor.view()["phase"] == "running", "half a second after a layer was closed Esc does nothing"
    page.wait_for_timeout(600)
    page.keyboard.press("Escape")
    visitor.wait_for("cancelled")
    page.locator("#explain-switch .switch").focus()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()


def test_choices_are_one_tab_stop_and_arrows_move_and_choose(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_role("radio", name="Square").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Tall")).to_be_focused()
    expect(page.get_by_role("radio", name="Tall")).to_be_checked()
    assert page.locator("[data-field=width] [role=radio][tabindex='0']").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SELECT"


def test_escape_in_the_search_field_is_for_the_field_and_not_for_the_job(visitor: Visitor) -> None:
    page = visitor.page
    visitor.ask("meadow [slow]", steps="120")
    visitor.wait_for("running")
    visitor.site.worker.gate.clear()
    page.get_by_role("tab", name="Gallery").click()
    search = page.get_by_role("searchbox", name="Search pictures")
    search.fill("fox")
    search.press("Escape")
    expect(search).to_have_value("")
    search.press("Escape")
    visitor.site.worker.gate.set()
    before = visitor.view()["index"]
    page.wait_for_function(f"darkroom.job.view.get().index > {before + 4} || !darkroom.job.isActive()")
    assert visitor.view()["phase"] == "running"
    search.blur()
    page.keyboard.press("Escape")
    page.wait_for_function("darkroom.job.view.get().phase === 'cancelled'")
