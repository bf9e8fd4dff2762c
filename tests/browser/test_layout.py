"""Nothing jumps, nothing is cut, everything can be pressed: rectangles measured in the real page."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser_site import Visitor

Visit = Callable[..., Visitor]
WIDTHS = (320, 390, 768, 1024, 1440)
_BOXES = """() => Object.fromEntries(["#generate", ".frame", ".status-row", ".actions", "#recipe"]
  .map((one) => [one, JSON.stringify(document.querySelector(one).getBoundingClientRect())]))"""
_SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# What can be pressed now, with its box and name. A box inside a label or hidden for sighted people does not count.
_TARGETS = """() => [...document.querySelectorAll("button, a[href], input, select, textarea, summary, [role=tab]")]
  .filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.closest(".visually-hidden, .skip, .overflow-menu"))
  .map((one) => { const box = one.getBoundingClientRect(); return { html: one.outerHTML.slice(0, 120),
    width: box.width, height: box.height,
    name: one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.[0]?.textContent.trim() || "" }; })
  .filter((one) => one.width > 1)"""


@pytest.mark.parametrize(("width", "touch"), [(1440, False), (390, True)])
def test_nothing_moves_from_the_click_to_the_saved_picture(visit: Visit, width: int, touch: bool) -> None:
    visitor = visit(in_new_profile=True, width=width, height=844 if touch else 900, touch=touch)
    page = visitor.page
    page.wait_for_function("darkroom.engine.get() && document.fonts.status === 'loaded'")
    loading = sum(shift["value"] for shift in page.evaluate("window.shifts"))
    assert loading <= 0.02, page.evaluate("window.shifts")
    page.fill("textarea[name=prompt]", "sea [slow]")
    page.fill("[data-field=steps] input.number", "20")
    page.evaluate("window.scrollTo(0, 0)")
    page.evaluate("window.shifts.length = 0")
    before = page.evaluate(_BOXES)
    page.locator("#generate").dispatch_event("click")
    visitor.wait_for("running")
    page.wait_for_selector(".cell .preview:not([hidden])")
    assert page.evaluate(_BOXES) == before
    visitor.wait_for("done")
    page.wait_for_selector(".cell .picture.shown")
    page.wait_for_function("!document.querySelector('.slot').disabled")
    assert page.evaluate(_BOXES) == before
    shifts = page.evaluate("window.shifts")
    assert sum(shift["value"] for shift in shifts) == 0, shifts


@pytest.mark.parametrize("width", WIDTHS)
def test_the_header_keeps_its_places_in_every_state_of_the_engine(visit: Visit, width: int) -> None:
    page = visit(width=width, height=800, touch=width < 860).page
    page.wait_for_function("darkroom.engine.get()")
    page.evaluate("void (window.fetch = () => new Promise(() => {}))")  # nobody else tells of the engine from now on
    places = None
    for text in (
        "",
        "Loading Starter",
        "Loading A model with quite a long name, 42%",
        "Working",
        "Starter working",
        "A model with quite a long name ready",
        "Starting, about 8 s",
        "Engine restarting",
        "Engine stopped",
        "Not responding for 12 s",
    ):
        page.evaluate("(text) => darkroom.engine.set({ ...darkroom.engine.get(), text })", text)
        now = page.evaluate("""[...document.querySelectorAll(".brand, .engine-pill, .engine-pill .dot, .queue-button")]
            .map((one) => JSON.stringify(one.getBoundingClientRect()))""")
        places = places or now
        assert now == places, text
        words = page.locator(".engine-pill .pill-words")
        assert words.evaluate(
            "one => one.getBoundingClientRect().right <= one.closest('.pill').getBoundingClientRect().right"
        )
        if "quite a long" not in text and (width > 1000 or "Not responding" not in text):
            assert words.evaluate("one => [...one.children].every((part) => part.scrollWidth <= part.clientWidth)"), (
                text
            )
        assert page.evaluate(_SIDEWAYS) <= 0, text


@pytest.mark.parametrize("width", WIDTHS)
def test_no_width_scrolls_sideways_and_everything_has_a_name_and_a_size(visit: Visit, width: int) -> None:
    touch = width < 860
    visitor = visit(width=width, height=800, touch=touch)
    page = visitor.page
    page.get_by_text("More", exact=True).click()
    page.get_by_role("radio", name="Custom").click()
    page.get_by_role("switch", name="Explain").click()
    visitor.ask("a sailboat")
    visitor.wait_for("done")
    check(page, touch)
    page.evaluate("""darkroom.job.view.set({ ...darkroom.job.view.get(), phase: "failed", cells: [null], code: "out_of_memory",
      message: "The graphics card ran out of memory. 1536 × 1536 needs about 13 GB; 8 GB are free.",
      hint: "Use 1024 × 1024, or turn on tiled decoding.", fix: { width: 1024, height: 1024 } })""")
    expect(page.locator(".actions button")).to_have_count(3)
    check(page, touch)
    for opener in (".model-row", ".queue-button", ".pill"):
        page.locator(opener).first.click()
        page.wait_for_selector("dialog[open]")
        check(page, touch)
        page.keyboard.press("Escape")
        expect(page.locator("dialog[open]")).to_have_count(0)
    page.get_by_role("tab", name="Gallery").click()
    page.wait_for_selector(".tile")
    check(page, touch)
    page.locator(".tile").first.click()
    page.wait_for_selector(".recipe")
    check(page, touch)


def check(page: Page, touch: bool) -> None:
    """No sideways scroll; every control has a name and room for a pointer or a thumb."""
    assert page.evaluate(_SIDEWAYS) <= 0
    targets: list[dict[str, Any]] = page.evaluate(_TARGETS)
    assert targets
    assert not [target for target in targets if not target["name"]]
    least = 44 if touch else 24
    small = {
        f"{target['width']:.0f} × {target['height']:.0f} {target['html'][:70]}"
        for target in targets
        if target["height"] < least - 0.5 or target["width"] < 23.5
    }
    assert not small, "\n".join(sorted(small))


def test_result_and_generate_stay_in_view_while_the_recipe_scrolls(visit: Visit) -> None:
    page = visit(width=1024, height=600).page
    page.get_by_role("switch", name="Explain").click()
    before = page.evaluate(
        """() => [".frame", "#generate"].map((one) => JSON.stringify(document.querySelector(one).getBoundingClientRect()))"""
    )
    page.mouse.move(100, 300)
    page.mouse.wheel(0, 400)
    page.wait_for_function("scrollY > 100")
    after = page.evaluate(
        """() => [".frame", "#generate"].map((one) => JSON.stringify(document.querySelector(one).getBoundingClientRect()))"""
    )
    assert after == before


def test_generate_stays_under_the_thumb_on_a_phone(visit: Visit) -> None:
    page = visit(width=390, height=844, touch=True).page
    before = page.locator("#generate").bounding_box()
    assert before and before["y"] + before["height"] <= 844
    page.evaluate("scrollTo(0, 300)")
    assert page.locator("#generate").bounding_box() == before
    stage, recipe = page.locator(".result-pane").bounding_box(), page.locator("#recipe").bounding_box()
    assert stage and recipe and stage["y"] < recipe["y"]


def test_hooks_on_gradio_are_still_there(visitor: Visitor) -> None:
    page = visitor.page
    for hook in (
        ".gradio-container",
        "#tabs > .tab-wrapper",
        "#tabs .tab-container [role=tab]",
        "#tab-txt2img",
        "#recipe-and-result.block",
        "#recipe-and-result > .html-container",
    ):
        assert page.locator(hook).count() >= 1, f"gradio no longer has {hook}"
    page.get_by_role("tab", name="Gallery").click()
    page.wait_for_selector("#tab-gallery .gallery")
    assert page.locator("footer").count() == 0


def test_nothing_is_asked_of_another_machine_and_the_first_page_is_light(visit: Visit, site: Any) -> None:
    visitor = visit()
    page = visitor.window()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_selector("#generate")
    page.wait_for_function("darkroom.engine.get()")
    assert [url for url in asked if not url.startswith((site.url, "data:", "blob:"))] == []
    assert not [url for url in asked if url.endswith("/api/v1/models")], "the list is asked for when the picker opens"
    pictures = [url for url in asked if "/images?" in url]
    assert len(pictures) == 1 and "limit=12" in pictures[0]


def test_the_engine_panel_offers_what_would_make_it_faster(visit: Visit) -> None:
    page = visit().page
    page.wait_for_function("darkroom.engine.get()")
    offer = "Pictures can be up to twice as fast with OpenVINO: start it with `python3 launch.py --openvino`."
    page.locator(".engine-pill").click()
    panel = page.get_by_role("dialog", name="Engine")
    expect(panel).not_to_contain_text("Speed")
    page.evaluate("(offer) => darkroom.engine.set({ ...darkroom.engine.get(), offer })", offer)
    expect(panel).to_contain_text(offer)
