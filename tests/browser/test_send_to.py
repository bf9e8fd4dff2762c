"""A picture goes on to something else: by the menu, by dragging, by dropping, and upscaled."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from contract.tasks import Upscale
from tests.browser.test_layout import WIDTHS, check
from tests.support.browser_site import Visitor
from tests.support.browser_uploads import picture_bytes, picture_file

Visit = Callable[..., Visitor]
_DROP = """([bytes, over, on]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], "hills.png", { type: "image/png" }));
  for (const [selector, type] of [[over, "dragover"], [on, "dragover"], [on, "drop"]]) {
    const there = [...document.querySelectorAll(selector)].find((one) => one.checkVisibility());
    there.dispatchEvent(new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }
}"""
_PASTE = """(bytes) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], "pasted.png", { type: "image/png" }));
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }));
}"""


@pytest.fixture
def done(visitor: Visitor) -> Visitor:
    """A visitor with a finished picture."""
    visitor.ask("a lighthouse")
    visitor.wait_for("done")
    return visitor


def send(page: Page, place: str) -> None:
    page.get_by_role("button", name="Send to").click()
    page.get_by_role("menuitem", name=place).click()


def newest(page: Page) -> str:
    identity: str = page.evaluate(
        "fetch('/api/v1/images?limit=1').then((answer) => answer.json()).then((page) => page.images[0].id)"
    )
    return identity


def test_the_menu_works_by_keys_and_gives_the_focus_back(done: Visitor) -> None:
    page = done.page
    opener = page.get_by_role("button", name="Send to")
    opener.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("menuitem", name="Image to image")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("menuitem", name="Inpaint")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("dialog.menu")).to_be_hidden()
    expect(opener).to_be_focused()
    assert done.view()["phase"] == "done"


@pytest.mark.parametrize(
    ("place", "section"), [("Image to image", "init-image-section"), ("ControlNet", "control-section")]
)
def test_a_result_becomes_the_picture_of_another_tab(done: Visitor, place: str, section: str) -> None:
    page = done.page
    send(page, place)
    expect(page.get_by_role("tab", name=place)).to_have_attribute("aria-selected", "true")
    expect(page.locator(f"#{section} .area-name").first).to_have_text("From the gallery")


def test_what_is_made_from_a_result_names_it_and_leads_back_to_it(done: Visitor) -> None:
    page = done.page
    parent = newest(page)
    send(page, "Image to image")
    expect(page.locator("#init-image-section .area-full")).to_be_visible()
    done.ask("a lighthouse in a storm")
    page.wait_for_function(
        f"darkroom.job.view.get().phase === 'done' && darkroom.job.view.get().cells[0].id !== '{parent}'"
    )
    page.evaluate(f"location.hash = '#/gallery/{newest(page)}'")
    page.get_by_role("link", name="another picture").click()
    expect(page.locator("dd.prompt")).to_have_text("a lighthouse")
    assert page.evaluate("location.hash") == f"#/gallery/{parent}"


def test_the_loupe_sends_on_too(done: Visitor) -> None:
    page = done.page
    page.evaluate(f"location.hash = '#/gallery/{newest(page)}'")
    expect(page.locator(".lightbox")).to_be_visible()
    send(page, "Image to image")
    expect(page.locator("#init-image-section .area-full")).to_be_visible()


def test_a_finished_picture_is_enlarged_and_told_apart_in_the_gallery(done: Visitor) -> None:
    page = done.page
    parent = newest(page)
    page.get_by_role("button", name="Upscale", exact=True).click()
    dialog = page.get_by_role("dialog", name="Upscale")
    expect(dialog.get_by_label("Upscaler")).to_have_value("lanczos")
    assert "latent" not in dialog.get_by_label("Upscaler").inner_text().lower()
    dialog.get_by_role("radio", name="3×").click()
    expect(dialog.locator(".dialog-foot .hint")).to_have_text("128\u00a0×\u00a0128 becomes 384\u00a0×\u00a0384.")
    dialog.get_by_role("button", name="Upscale", exact=True).click()
    page.wait_for_function("darkroom.job.view.get().phase === 'done' && darkroom.job.view.get().width === 384")
    task = done.site.worker.work_items[-1].task
    assert isinstance(task, Upscale) and (task.scale, task.parent) == (3, parent)
    expect(page.locator(".status")).to_contain_text("Upscale 3×")
    page.evaluate(f"location.hash = '#/gallery/{newest(page)}'")
    expect(page.get_by_role("link", name="another picture")).to_be_visible()
    expect(page.locator("dl.recipe")).to_contain_text("Upscaled")
    page.get_by_role("button", name="Use settings").click()
    expect(page.locator("textarea[name=prompt]")).to_have_value("a lighthouse")


def test_a_picture_from_outside_is_enlarged_without_a_parent(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.page
    page.get_by_text("More", exact=True).click()
    page.get_by_role("button", name="Enlarge a picture").click()
    dialog = page.get_by_role("dialog", name="Upscale")
    dialog.get_by_role("button", name="Upscale", exact=True).click()
    expect(dialog.locator(".problem").last).to_have_text(
        "Upscaling needs a picture. Drop one, paste it, or choose a file."
    )
    dialog.locator("input[type=file]").set_input_files(picture_file(tmp_path))
    dialog.get_by_role("button", name="Upscale", exact=True).click()
    page.wait_for_function("darkroom.job.view.get().phase === 'done' && darkroom.job.view.get().width === 384")
    task = visitor.site.worker.work_items[-1].task
    assert isinstance(task, Upscale) and task.parent is None


def test_a_dropped_picture_offers_two_halves(visitor: Visitor) -> None:
    page = visitor.page
    page.evaluate(_DROP, [list(picture_bytes()), ".result-pane", ".half[data-act=start]"])
    expect(page.get_by_role("tab", name="Image to image")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#init-image-section .area-name")).to_have_text("hills.png")


def test_a_pasted_picture_asks_and_esc_leaves_everything(visitor: Visitor) -> None:
    page = visitor.page
    page.evaluate(_PASTE, list(picture_bytes()))
    expect(page.get_by_role("button", name="Read its recipe")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("dialog.drop-overlay")).to_be_hidden()
    page.evaluate(_PASTE, list(picture_bytes()))
    page.get_by_role("button", name="Start from it").click()
    expect(page.locator("#init-image-section .area-name")).to_have_text("pasted.png")


def test_a_result_is_dragged_to_the_place_for_the_start_picture(done: Visitor) -> None:
    page = done.page
    page.get_by_role("tab", name="Image to image").click()
    page.locator(".cell").first.drag_to(page.locator("#init-image-section .area-choose"))
    expect(page.locator("#init-image-section .area-name")).to_have_text("From the gallery")
    expect(page.locator("dialog.drop-overlay")).to_be_hidden()


def test_a_recent_picture_dropped_on_the_frame_gives_its_settings(done: Visitor) -> None:
    page = done.page
    page.fill("textarea[name=prompt]", "other words")
    page.locator(".slot").first.hover()
    page.mouse.down()
    frame = page.locator(".frame").bounding_box()
    assert frame
    for x in (0.5, 0.25):  # the first move lets the halves appear, the second is on one of them
        page.mouse.move(frame["x"] + x * frame["width"], frame["y"] + frame["height"] / 2, steps=3)
    expect(page.locator(".half.over strong")).to_have_text("Read its recipe")
    page.mouse.up()
    expect(page.locator("textarea[name=prompt]")).to_have_value("a lighthouse")


@pytest.mark.parametrize("width", WIDTHS)
def test_menu_dialog_halves_and_lineage_fit_every_width(visit: Visit, width: int) -> None:
    touch = width < 860
    visitor = visit(width=width, height=800, touch=touch)
    page = visitor.page
    visitor.ask("a lighthouse")
    visitor.wait_for("done")
    page.get_by_role("button", name="Send to").click()
    check(page, touch)
    page.get_by_role("menuitem", name="Upscale").click()
    expect(page.locator("dialog.dialog-box .area-full")).to_be_visible()
    check(page, touch)
    page.locator("dialog.dialog-box .filled").click()
    page.wait_for_function("darkroom.job.view.get().phase === 'done' && darkroom.job.view.get().width === 256")
    check(page, touch)
    page.evaluate(_PASTE, list(picture_bytes()))
    check(page, touch)
    page.keyboard.press("Escape")
    page.evaluate(f"location.hash = '#/gallery/{newest(page)}'")
    expect(page.get_by_role("link", name="another picture")).to_be_visible()
    check(page, touch)


def test_a_result_of_the_inpaint_tab_sent_to_it_shows_the_canvas(done: Visitor) -> None:
    page = done.page
    send(page, "Inpaint")
    mask = page.get_by_role("application", name="Mask")
    expect(mask).to_be_visible()
    page.get_by_role("button", name="Show the result").click()
    expect(mask).to_be_hidden()
    send(page, "Inpaint")
    expect(mask).to_be_visible()
    expect(mask).to_be_focused()
    page.get_by_role("button", name="Show the result").click()
    page.locator(".slot").first.hover()
    page.evaluate(_DROP, [list(picture_bytes()), ".result-pane", ".half[data-act=start]"])
    expect(mask).to_be_visible()
    page.evaluate(f"location.hash = '#/gallery/{newest(page)}'")
    expect(page.locator(".lightbox")).to_be_visible()
    send(page, "Inpaint")
    expect(mask).to_be_visible()


@pytest.mark.parametrize(
    ("place", "field"), [("Image to image", "init_image.image"), ("ControlNet", "controls.image-0")]
)
@pytest.mark.parametrize(("width", "touch"), [(1440, False), (390, True)])
def test_on_its_own_tab_a_sent_picture_comes_into_sight(
    visit: Visit, place: str, field: str, width: int, touch: bool
) -> None:
    visitor = visit(width=width, height=700, touch=touch)
    page = visitor.page
    visitor.ask("a lighthouse")
    visitor.wait_for("done")
    page.get_by_role("tab", name=place).click()
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    page.get_by_role("button", name="Send to").dispatch_event("click")
    page.get_by_role("menuitem", name=place).dispatch_event("click")  # on a phone its button was scrolled away
    box = f"[data-field='{field}'] .area-full"
    expect(page.locator(box)).to_be_visible()
    page.wait_for_function(
        """(selector) => { const box = document.querySelector(selector).getBoundingClientRect();
      return box.top >= 0 && box.bottom <= innerHeight + 1; }""",
        arg=box,
    )


def test_where_every_control_unit_has_a_picture_the_page_says_so(done: Visitor) -> None:
    page = done.page
    page.evaluate("""() => { const now = darkroom.form.get(); const image = { sha256: "0".repeat(64), width: 64, height: 64, name: "x" };
      darkroom.form.set({ ...now, controls: Array.from({ length: 8 }, () => ({ model: "", preprocessor: "none", resolution: "", low: "", high: "", image })) }); }""")
    send(page, "ControlNet")
    expect(page.locator(".undo-bar")).to_contain_text("All 8 units of ControlNet have a picture. Remove one first.")
