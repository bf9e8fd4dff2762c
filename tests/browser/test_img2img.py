"""Image to image as a person does it: a picture in, strength, rounds, several files, before and after."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from tests.browser.test_layout import WIDTHS, check
from tests.support.browser_site import Visitor
from tests.support.browser_uploads import bring, painted, picture_file

Visit = Callable[..., Visitor]
_BOXES = """() => Object.fromEntries(["#generate", ".frame", ".status-row", ".actions", "#recipe", "#init-image-section"]
  .map((one) => [one, JSON.stringify(document.querySelector(one).getBoundingClientRect())]))"""


@pytest.fixture
def there(visitor: Visitor) -> Visitor:
    """A visitor on the tab."""
    visitor.page.get_by_role("tab", name="Image to image").click()
    expect(visitor.page.locator("#init-image-section")).to_be_visible()
    return visitor


def test_generate_without_a_picture_goes_to_the_field_and_says_what_it_needs(there: Visitor) -> None:
    page = there.page
    page.click("#generate")
    expect(page.locator("[data-field='init_image.image'] .problem").last).to_have_text(
        "Image to image begins from a picture. Drop one, paste it, or choose a file."
    )
    expect(page.locator("#init-image-section .area-choose")).to_be_focused()
    assert there.view()["phase"] == "idle"


def test_a_picture_is_brought_kept_over_a_reload_and_begun_from(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "init-image-section", picture_file(tmp_path))
    expect(page.locator("#init-image-section .area-name")).to_have_text("hills.png")
    expect(page.locator("#init-image-section .area .hint")).to_have_text("192\u00a0×\u00a0128")
    expect(page.locator("[data-field=width] .label")).to_have_text("Size, 192\u00a0×\u00a0128")
    page.reload()
    expect(page.locator("#init-image-section .area-name")).to_have_text("hills.png")
    page.fill("[data-field='init_image.strength'] input.number", "0,6")
    there.ask("hills in fog")
    there.wait_for("done")
    recipe = painted(there.site)[-1]
    assert recipe.init_image and recipe.init_image.strength == 0.6
    assert (recipe.width, recipe.height) == (192, 128)
    assert there.site.worker.work_items[-1].images[recipe.init_image.image.sha256].startswith(b"\x89PNG")


def test_another_size_than_the_pictures_asks_how_to_fit_it(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "init-image-section", picture_file(tmp_path))
    expect(page.get_by_role("radiogroup", name="Resize mode").first).to_be_hidden()
    page.get_by_role("radio", name="Square").click()
    page.get_by_role("radio", name="Fill").first.click()
    there.ask("hills")
    there.wait_for("done")
    recipe = painted(there.site)[-1]
    assert recipe.init_image and recipe.init_image.resize == "fill" and recipe.width == recipe.height


def test_what_is_no_picture_is_said_in_the_area_and_the_picture_before_stays(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "init-image-section", picture_file(tmp_path))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture at all")
    page.set_input_files("#init-image-section input[type=file]", broken)
    expect(page.locator("#init-image-section [role=alert]")).not_to_be_empty()
    expect(page.locator("#init-image-section .area-name")).to_have_text("hills.png")


def test_removing_the_picture_can_be_undone(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "init-image-section", picture_file(tmp_path))
    page.get_by_role("button", name="Remove: Start picture").click()
    expect(page.locator("#init-image-section .area-choose")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#init-image-section .area-name")).to_have_text("hills.png")


def test_rounds_begin_from_the_result_before_and_say_where_they_are(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "init-image-section", picture_file(tmp_path))
    page.get_by_text("Repeat", exact=True).click()
    page.fill("[data-field=loops] input.number", "3")
    page.fill("[data-field=seed] input", "5")
    before = len(painted(there.site))
    # What the status line says, be it for less time than a test takes to look.
    page.evaluate(
        "window.said = []; new MutationObserver(() => window.said.push(document.querySelector('.status').textContent))"
        ".observe(document.querySelector('.status'), { childList: true })"
    )
    there.ask("hills [slow]", steps="8")
    page.wait_for_function(
        "darkroom.job.view.get().phase === 'done' && darkroom.job.view.get().note === 'round 3 of 3'"
    )
    assert any("round 2 of 3" in text for text in page.evaluate("window.said"))
    made = painted(there.site)[before:]
    assert [recipe.seed for recipe in made] == [5, 6, 7]
    starts = [recipe.init_image.image.sha256 for recipe in made if recipe.init_image]
    assert len(set(starts)) == 3
    newest = page.evaluate("fetch('/api/v1/images?limit=2').then((answer) => answer.json())")["images"]
    assert newest[0]["parent"] == newest[1]["id"]


def test_several_files_are_a_job_each(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    files = [picture_file(tmp_path, f"{width}.png", width, 128) for width in (128, 160)]
    page.get_by_text("Repeat", exact=True).click()
    page.set_input_files("#repeat-section input[type=file]", files)
    expect(page.locator("#repeat-section .summary")).to_have_text("2 files")
    before = len(painted(there.site))
    there.ask("hills")
    page.wait_for_function("darkroom.job.view.get().note === 'file 2 of 2' && darkroom.job.view.get().phase === 'done'")
    assert [recipe.width for recipe in painted(there.site)[before:]] == [128, 160]
    expect(page.locator("#repeat-section .summary")).to_be_empty()


def test_the_result_is_compared_with_its_start_by_keys(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "init-image-section", picture_file(tmp_path))
    there.ask("hills")
    there.wait_for("done")
    page.get_by_role("button", name="Compare").click()
    divider = page.get_by_role("slider", name="Before and after")
    expect(divider).to_be_focused()
    page.keyboard.press("End")
    expect(divider).to_have_attribute("aria-valuetext", "100% before")
    assert (
        page.evaluate("document.querySelector('.before').complete && document.querySelector('.before').naturalWidth")
        == 192
    )
    page.get_by_role("button", name="Compare").click()
    expect(divider).to_be_hidden()


def test_settings_of_its_picture_come_back_with_the_start_picture(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "init-image-section", picture_file(tmp_path))
    page.fill("[data-field='init_image.strength'] input.number", "0.4")
    there.ask("hills at dawn")
    there.wait_for("done")
    page.get_by_role("button", name="Remove: Start picture").click()
    page.get_by_role("tab", name="Text to image").click()
    page.get_by_role("button", name="Use settings").click()
    expect(page.get_by_role("tab", name="Image to image")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#init-image-section .area-full")).to_be_visible()
    expect(page.locator("[data-field='init_image.strength'] input.number")).to_have_value("0.4")


@pytest.mark.parametrize(("width", "touch"), [(1440, False), (390, True)])
def test_nothing_moves_from_the_click_to_the_saved_picture(
    visit: Visit, tmp_path: Path, width: int, touch: bool
) -> None:
    visitor = visit(width=width, height=844 if touch else 900, touch=touch)
    page = visitor.page
    page.get_by_role("tab", name="Image to image").click()
    bring(page, "init-image-section", picture_file(tmp_path))
    page.fill("[data-field=steps] input.number", "20")
    page.wait_for_function("document.fonts.status === 'loaded' && document.querySelector('.area-full img').complete")
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(600)  # a shift within half a second of a key is no shift
    page.evaluate("window.shifts.length = 0")
    before = page.evaluate(_BOXES)
    page.locator("#generate").dispatch_event("click")
    visitor.wait_for("done")
    page.wait_for_selector(".cell .picture.shown")
    assert page.evaluate(_BOXES) == before
    assert sum(shift["value"] for shift in page.evaluate("window.shifts")) == 0, page.evaluate("window.shifts")


@pytest.mark.parametrize("width", WIDTHS)
def test_every_section_fits_every_width(visit: Visit, tmp_path: Path, width: int) -> None:
    touch = width < 860
    visitor = visit(width=width, height=800, touch=touch)
    page = visitor.page
    page.evaluate("location.hash = '#/img2img'")
    page.get_by_role("switch", name="Explain").click()
    for title in ("Repeat", "Hires pass", "ControlNet", "Picture as prompt"):
        page.locator("summary").get_by_text(title, exact=True).click()
    page.get_by_role("switch", name="Paint once more, larger").click()
    page.get_by_role("button", name="Add a picture").click()
    page.get_by_role("button", name="Add a unit").click()
    check(page, touch)
    bring(page, "init-image-section", picture_file(tmp_path))
    page.get_by_role("radio", name="Square").click()
    visitor.ask("hills")
    visitor.wait_for("done")
    expect(page.locator("button.compare")).to_be_visible()
    check(page, touch)


def test_a_broken_connection_keeps_the_files_that_are_left_and_says_so(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    files = [picture_file(tmp_path, f"{width}.png", width, 128) for width in (128, 160)]
    page.get_by_text("Repeat", exact=True).click()
    page.set_input_files("#repeat-section input[type=file]", files)
    sent: list[str] = []

    def first_only(route: Route) -> None:
        sent.append(route.request.url)
        if len(sent) > 1:
            route.abort()
        else:
            route.continue_()

    page.route("**/api/v1/uploads", first_only)
    there.ask("hills")
    expect(page.locator(".undo-bar")).to_contain_text(
        "The connection broke at 160.png, file 2 of 2. It is still chosen: press Generate again."
    )
    expect(page.locator("#repeat-section .summary")).to_have_text("1 file")
    page.unroute("**/api/v1/uploads")
    there.wait_for("done")
