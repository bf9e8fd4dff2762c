"""One press, one action: held keys, double clicks, and what Undo covers; the bar that offers it."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser_site import Profiles, Site, Visitor
from tests.support.browser_uploads import painted

HELD = 15  # times that a key repeats in half a second


@pytest.fixture(scope="module")
def painter(profiles: Profiles, site: Site) -> Iterator[Visitor]:
    with profiles.visiting(site) as visitor:
        visitor.ask("four to hold", steps="2")
        visitor.wait_for("done")
        visitor.page.evaluate("""() => Promise.all(Array.from({ length: 6 }, (_, at) => fetch("/api/v1/jobs", { method: "POST",
          headers: { "Content-Type": "application/json" }, body: JSON.stringify({ prompt: `held ${at}`, steps: 1 }) })))""")
        yield visitor


def hold(page: Page, key: str, times: int = HELD) -> None:
    """Playwright sends what a keyboard repeats as a keydown with `repeat`."""
    *modifiers, last = key.split("+")
    for modifier in modifiers:
        page.keyboard.down(modifier)
    for _ in range(times):
        page.keyboard.down(last)
    page.keyboard.up(last)
    for modifier in modifiers:
        page.keyboard.up(modifier)


def jobs(site: Site, prompt: str) -> int:
    return sum(recipe.prompt == prompt for recipe in painted(site))


def tiles(page: Page) -> int:
    return page.locator(".tile").count()


def test_delete_held_deletes_one_and_undo_brings_back_all_that_its_bar_says(painter: Visitor) -> None:
    page = painter.page
    page.wait_for_function(
        "fetch('/api/v1/images').then((answer) => answer.json()).then(({ images }) => images.length >= 7)"
    )
    page.reload()  # the six came by the API: a gallery that was filled before them does not know of them
    page.get_by_role("tab", name="Gallery").click()
    page.wait_for_function("document.querySelectorAll('.tile').length >= 7")
    before = tiles(page)
    bar = page.locator(".undo-bar")
    # Its six seconds do not run meanwhile: on a busy computer two presses are further apart.
    page.evaluate("window.realInterval = setInterval; window.setInterval = () => 0")
    page.locator(".tile").first.focus()
    hold(page, "Delete")
    expect(bar.locator("> .words")).to_have_text("Deleted 1 picture.")
    assert tiles(page) == before - 1
    for count in (2, 3):
        page.keyboard.press("Delete")
        expect(bar.locator("> .words")).to_have_text(f"Deleted {count} pictures.")
    assert tiles(page) == before - 3
    # In the loupe, too: a double click on its button takes one.
    page.locator(".tile").first.click()
    page.locator(".lightbox-bar button[aria-label=Delete]").dblclick()
    expect(bar.locator("> .words")).to_have_text("Deleted 4 pictures.")
    page.keyboard.press("Escape")
    bar.get_by_role("button", name="Undo").click()
    page.evaluate("window.setInterval = realInterval")
    page.wait_for_function(f"document.querySelectorAll('.tile').length === {before}")
    page.locator(".tile").first.focus()
    hold(page, "f")
    expect(page.locator(".tile.favorite")).to_have_count(1)
    hold(page, "ArrowRight", 3)
    assert page.evaluate("[...document.querySelectorAll('.tile')].indexOf(document.activeElement)") == 3


def test_generate_held_or_double_clicked_queues_one(painter: Visitor) -> None:
    page, site = painter.page, painter.site
    page.get_by_role("tab", name="Text to image").click()
    page.fill("textarea[name=prompt]", "held generate")
    page.locator("textarea[name=prompt]").focus()
    hold(page, "Control+Enter")
    painter.wait_for("done")
    assert jobs(site, "held generate") == 1
    for way in ("dblclick", "Enter"):
        page.fill("textarea[name=prompt]", f"pressed {way}")
        if way == "dblclick":
            page.dblclick("#generate")
        else:
            page.focus("#generate")
            hold(page, "Enter")
        page.wait_for_function(
            f"darkroom.job.view.get().recipe?.prompt === 'pressed {way}' && !darkroom.job.isActive()"
        )
        assert jobs(site, f"pressed {way}") == 1
    # Two presses are two jobs, and a text is typed by holding.
    page.fill("textarea[name=prompt]", "two presses")
    page.keyboard.press("Control+Enter")
    page.keyboard.press("Control+Enter")
    page.wait_for_function("darkroom.job.waiting.get().length === 0 && !darkroom.job.isActive()")
    assert jobs(site, "two presses") == 2
    page.fill("textarea[name=prompt]", "")
    hold(page, "a", 5)
    expect(page.locator("textarea[name=prompt]")).to_have_value("aaaaa")
    hold(page, "Backspace", 3)
    expect(page.locator("textarea[name=prompt]")).to_have_value("aa")


def test_escape_held_cancels_one_job(painter: Visitor) -> None:
    page = painter.page
    painter.site.worker.gate.clear()
    for prompt in ("first [slow]", "second [slow]", "third [slow]"):
        painter.ask(prompt, steps="40")
    page.wait_for_function("darkroom.job.view.get().id && darkroom.job.waiting.get().length === 2")
    first = painter.view()["id"]
    page.locator("textarea[name=prompt]").focus()
    hold(page, "Escape")
    painter.site.worker.gate.set()
    page.wait_for_function(f"darkroom.job.view.get().id && darkroom.job.view.get().id !== '{first}'")
    hold(page, "Escape", 2)
    page.wait_for_function("!darkroom.job.isActive() || darkroom.job.waiting.get().length === 0", timeout=20_000)
    ended = page.evaluate("fetch('/api/v1/queue').then((answer) => answer.json())")["rows"]
    assert [row["state"] for row in ended if "[slow]" in (row["prompt"] or "")].count("cancelled") <= 2
    page.evaluate("darkroom.job.cancel()")


def test_a_toast_covers_no_strip_and_leaves_after_six_seconds(painter: Visitor) -> None:
    page = painter.page
    page.get_by_role("tab", name="Text to image").click()
    page.wait_for_function("!darkroom.job.isActive()")
    bar = page.locator(".undo-bar")
    for width in (1440, 1024, 390):
        page.set_viewport_size({"width": width, "height": 900 if width > 400 else 780})
        if width == 390:
            page.clock.install()
        painter.ask(f"a toast at {width}", steps="1")
        page.wait_for_function("darkroom.job.view.get().recipe?.prompt.includes('toast') && !darkroom.job.isActive()")
        page.locator(".actions [data-action=delete]").evaluate("one => one.click()")
        expect(bar).to_be_visible()
        mine = bar.bounding_box()
        assert mine
        for selector in (".recent-strip", ".status-row", "#generate-bar"):
            other = page.locator(selector).first
            if other.is_visible() and (box := other.bounding_box()):
                apart = (
                    mine["y"] + mine["height"] <= box["y"]
                    or box["y"] + box["height"] <= mine["y"]
                    or mine["x"] + mine["width"] <= box["x"]
                    or box["x"] + box["width"] <= mine["x"]
                )
                assert apart, (width, selector, mine, box)
        if width != 390:
            bar.get_by_role("button", name="Close").click()
    bar.dispatch_event("pointerenter")  # of a pointer that rests where the bar came to stand
    page.clock.run_for(4500)
    expect(bar).to_be_visible()
    page.clock.run_for(3000)
    expect(bar).to_be_hidden()
