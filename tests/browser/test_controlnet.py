"""ControlNet units as a person sets them: model, picture, preprocessor with its preview, when and how strongly."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from contract.tasks import Preprocess
from tests.browser.test_layout import WIDTHS, check
from tests.support.browser_site import Visitor
from tests.support.browser_uploads import bring, painted, picture_file

Visit = Callable[..., Visitor]


@pytest.fixture
def there(visitor: Visitor) -> Visitor:
    """A visitor on the tab."""
    visitor.page.get_by_role("tab", name="ControlNet").click()
    expect(visitor.page.locator(".unit").first).to_be_visible()
    return visitor


def select(page: Page, label: str, unit: int = 0) -> Locator:
    return page.locator(".unit").nth(unit).get_by_label(label, exact=True)


def test_generate_without_a_picture_goes_to_the_unit_and_says_what_it_needs(there: Visitor) -> None:
    page = there.page
    page.click("#generate")
    expect(page.locator("[data-field='controls.image-0'] > .problem")).to_have_text(
        "ControlNet needs a picture that says where things go. Drop one, paste it, or choose a file."
    )
    expect(page.locator(".unit .area-choose").first).to_be_focused()
    assert there.view()["phase"] == "idle"


def test_a_unit_steers_the_job_with_all_it_says(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "control-section", picture_file(tmp_path))
    page.click("#generate")
    expect(page.locator("[data-field='controls.model-0'] .problem")).to_have_text(
        "Choose the model that reads the picture."
    )
    expect(select(page, "Control model")).to_be_focused()
    select(page, "Control model").select_option("canny-small")
    expect(select(page, "Preprocessor")).to_have_value("canny")
    select(page, "Low threshold").fill("60")
    page.fill("[data-field='controls.weight-0'] input.number", "0.8")
    page.get_by_text("Span, mode and fit").click()
    page.fill("[data-field='controls.end-0'] input.number", "0.7")
    page.get_by_role("radio", name="Prompt").click()
    page.get_by_role("switch", name="Pixel perfect").click()
    there.ask("a barn")
    there.wait_for("done")
    (control,) = painted(there.site)[-1].controls
    assert (control.model.name, control.model.kind, control.preprocessor) == ("canny-small", "controlnet", "canny")
    assert (control.low, control.high, control.resolution, control.pixel_perfect) == (60, None, None, True)
    assert (control.weight, control.start, control.end, control.mode) == (0.8, 0, 0.7, "prompt")


def test_the_shipped_model_for_edges_gets_the_preprocessor_that_finds_edges(there: Visitor) -> None:
    expect(select(there.page, "Preprocessor").locator("option[value=canny]")).to_have_count(1)
    select(there.page, "Control model").select_option("starter-edges")
    expect(select(there.page, "Preprocessor")).to_have_value("canny")


def test_a_union_model_is_told_what_the_map_shows(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "control-section", picture_file(tmp_path))
    select(page, "Control model").select_option("canny-small")
    expect(select(page, "What the map shows")).to_be_hidden()
    select(page, "Control model").select_option("union-small")
    select(page, "What the map shows").select_option("depth")
    there.ask("a barn")
    there.wait_for("done")
    assert painted(there.site)[-1].controls[0].control_type == "depth"


def test_a_reference_needs_no_model(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "control-section", picture_file(tmp_path))
    select(page, "Preprocessor").select_option("reference_only")
    expect(select(page, "Control model")).to_be_hidden()
    expect(page.get_by_role("button", name="Preview", exact=True)).to_be_hidden()
    select(page, "Style fidelity").fill("0.8")
    there.ask("a barn")
    there.wait_for("done")
    (control,) = painted(there.site)[-1].controls
    assert (control.model, control.preprocessor, control.low) == (None, "reference_only", 0.8)
    select(page, "Preprocessor").select_option("canny")
    expect(select(page, "Control model")).to_be_visible()


def test_a_model_of_another_family_is_named_before_the_job_is_sent(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "control-section", picture_file(tmp_path))
    select(page, "Control model").select_option("depth-xl")
    page.click("#generate")
    expect(page.locator("[data-field='controls.model-0'] .problem")).to_have_text(
        "“depth-xl” is for SDXL; Starter is SD 1.x. Choose another."
    )


def test_a_span_that_ends_before_it_begins_is_said_at_its_field(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "control-section", picture_file(tmp_path))
    select(page, "Control model").select_option("canny-small")
    page.get_by_text("Span, mode and fit").click()
    page.fill("[data-field='controls.start-0'] input.number", "0.8")
    page.fill("[data-field='controls.end-0'] input.number", "0.5")
    page.click("#generate")
    expect(page.locator("[data-field='controls.end-0'] .problem")).to_have_text(
        "It begins at 0.8 of the steps and ends at 0.5. Let it begin before it ends."
    )


def test_a_preview_is_made_shown_and_used_as_the_input(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "control-section", picture_file(tmp_path))
    select(page, "Preprocessor").select_option("canny")
    page.get_by_role("button", name="Preview", exact=True).click()
    image = page.get_by_role("img", name="Preview of the preprocessor")
    expect(image).to_be_visible()
    page.wait_for_function("document.querySelector('.map img').naturalWidth === 192")
    task = there.site.worker.work_items[-1].task
    assert isinstance(task, Preprocess) and task.preprocessor == "canny"
    assert there.view()["phase"] == "idle", "a preview is shown at its unit and not on the stage"
    page.get_by_role("button", name="Use the preview as input").click()
    expect(image).to_be_hidden()
    expect(select(page, "Preprocessor")).to_have_value("none")
    expect(page.locator(".unit .area-name").first).to_have_text("Map")


def test_preprocessors_that_are_not_installed_say_what_to_put_where(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "control-section", picture_file(tmp_path))
    select(page, "Control model").select_option("canny-small")
    select(page, "Preprocessor").select_option("depth_midas")
    install = page.locator("[data-field='controls.preprocessor-0'] .install")
    expect(install).to_contain_text("Not installed · 493 MB")
    expect(install.get_by_role("button", name="Download")).to_be_visible()
    expect(page.get_by_role("button", name="Preview", exact=True)).to_be_hidden()
    page.click("#generate")
    expect(page.locator("[data-field='controls.preprocessor-0'] .problem")).to_contain_text(
        "Depth, MiDaS is not installed."
    )


def test_units_are_added_removed_and_come_back(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "control-section", picture_file(tmp_path))
    page.get_by_role("button", name="Add a unit").click()
    expect(page.locator(".unit:visible")).to_have_count(2)
    page.get_by_role("button", name="Remove unit 1").click()
    expect(page.locator(".unit:visible")).to_have_count(1)
    expect(page.locator(".unit .area-choose").first).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".unit .area-name").first).to_have_text("hills.png")
    for _ in range(6):
        page.get_by_role("button", name="Add a unit").click()
    expect(page.get_by_role("button", name="Add a unit")).to_be_hidden()


def test_units_are_kept_over_a_reload_and_closed_on_other_tabs(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "control-section", picture_file(tmp_path))
    select(page, "Control model").select_option("canny-small")
    page.reload()
    expect(page.locator(".unit .area-name").first).to_have_text("hills.png")
    expect(select(page, "Control model")).to_have_value("canny-small")
    page.get_by_role("tab", name="Image to image").click()
    expect(page.locator(".unit").first).to_be_hidden()
    expect(page.locator("#control-section .summary")).to_have_text("canny-small")
    page.get_by_role("tab", name="Text to image").click()
    expect(page.locator("#control-section")).to_be_hidden()
    there.ask("a barn")
    there.wait_for("done")
    assert painted(there.site)[-1].controls == ()


def test_settings_of_its_picture_come_back_with_their_units(there: Visitor, tmp_path: Path) -> None:
    page = there.page
    bring(page, "control-section", picture_file(tmp_path))
    select(page, "Control model").select_option("canny-small")
    there.ask("a barn")
    there.wait_for("done")
    page.get_by_role("button", name="Remove unit 1").click()
    page.get_by_role("tab", name="Text to image").click()
    page.get_by_role("button", name="Use settings").click()
    expect(page.get_by_role("tab", name="ControlNet")).to_have_attribute("aria-selected", "true")
    expect(select(page, "Control model")).to_have_value("canny-small")
    expect(select(page, "Preprocessor")).to_have_value("canny")
    expect(page.locator(".unit .area-full").first).to_be_visible()


def test_a_hires_pass_goes_with_the_job(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_text("Hires pass", exact=True).click()
    page.get_by_role("switch", name="Paint once more, larger").click()
    page.get_by_label("Upscaler", exact=True).select_option("lanczos")
    page.fill("[data-field='hires.steps'] input.number", "999")
    page.click("#generate")
    expect(page.locator("[data-field='hires.steps'] .problem")).to_contain_text("Hires steps is 999.")
    page.fill("[data-field='hires.steps'] input.number", "")
    page.fill("[data-field='hires.scale'] input.number", "1,5")
    expect(page.locator("#hires-section .summary")).to_have_text("1.5×, 192\u00a0×\u00a0192")
    visitor.ask("a barn")
    visitor.wait_for("done")
    hires = painted(visitor.site)[-1].hires
    assert hires and (hires.scale, hires.upscaler, hires.steps) == (1.5, "lanczos", None)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_full_unit_fits_every_width(visit: Visit, tmp_path: Path, width: int) -> None:
    touch = width < 860
    visitor = visit(width=width, height=800, touch=touch)
    page = visitor.page
    page.evaluate("location.hash = '#/controlnet'")
    page.get_by_role("switch", name="Explain").click()
    check(page, touch)
    bring(page, "control-section", picture_file(tmp_path))
    select(page, "Control model").select_option("canny-small")
    page.get_by_text("Span, mode and fit").click()
    page.get_by_role("button", name="Preview", exact=True).click()
    expect(page.get_by_role("img", name="Preview of the preprocessor")).to_be_visible()
    check(page, touch)
    select(page, "Preprocessor").select_option("openpose_full")
    check(page, touch)
