"""Regions as a person sets them: drawn, moved, laid out and painted on the canvas, with words of their own."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from contract.regions import MAX_REGIONS, Region, Regions
from tests.browser.test_layout import check
from tests.support.browser_site import Site, Visitor
from tests.support.browser_uploads import painted, picture_bytes
from tests.support.model_folders import make_lora

Visit = Callable[..., Visitor]
Box = tuple[float, float, float, float]


@pytest.fixture
def there(visitor: Visitor) -> Visitor:
    """A visitor with the section open."""
    return opened(visitor)


def opened(visitor: Visitor) -> Visitor:
    visitor.page.locator("#regions-section summary").first.click()
    expect(visitor.page.locator(".region-canvas")).to_be_visible()
    return visitor


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """On the canvas, in parts of the picture."""
    canvas = page.locator(".region-canvas")
    canvas.evaluate("one => one.scrollIntoView({ block: 'center' })")  # not below the Generate bar
    box = canvas.bounding_box()
    assert box
    (x, y), (to_x, to_y) = ((box["x"] + at * box["width"], box["y"] + to * box["height"]) for at, to in (start, end))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(to_x, to_y, steps=4)
    page.mouse.up()


def boxes(page: Page) -> list[Box]:
    """Those of the form, in hundredths."""
    found: list[Box] = page.evaluate(
        """darkroom.form.get()["regions.regions"].map(({ box }) =>
          [box.left, box.top, box.width, box.height].map((part) => Math.round(100 * part)))"""
    )
    return [tuple(box) for box in found]  # type: ignore[misc]


def prompt_of(page: Page, number: int) -> Locator:
    return page.get_by_label(f"Prompt of region {number}")


def made(visitor: Visitor) -> Regions:
    visitor.page.click("#generate")
    visitor.wait_for("done")
    regions = painted(visitor.site)[-1].regions
    assert regions
    return regions


def places(regions: Regions) -> list[tuple[str, Box]]:
    return [(one.prompt, _hundredths(one)) for one in regions.regions]


def _hundredths(region: Region) -> Box:
    assert region.box
    left, top, width, height = (
        round(100 * part) for part in (region.box.left, region.box.top, region.box.width, region.box.height)
    )
    return left, top, width, height


GEOMETRY = """async () => {
  const { drawn, moved, resized, linesOf, LAYOUTS } = await import("/regions/boxes.js");
  const round = (box) => box && [box.left, box.top, box.width, box.height].map((part) => Math.round(1e4 * part) / 1e4);
  const box = { left: 0.2, top: 0.2, width: 0.3, height: 0.4 };
  const lines = linesOf([{ left: 0.6, top: 0, width: 0.4, height: 1 }]);
  return { moved: round(moved(box, 0.113, 0.5)), beyond: round(moved(box, -5, -5)), near: round(moved(box, 0.09, 0, lines)),
    thinner: round(resized(box, { x: 1, y: 0 }, -1, 0)), wider: round(resized(box, { x: -1, y: -1 }, -9, 0.1)),
    drawn: round(drawn({ x: 0.7, y: 0.31 }, { x: 0.11, y: 1.4 }, lines)), dot: drawn({ x: 0.1, y: 0.1 }, { x: 0.12, y: 0.9 }, lines),
    layouts: Object.fromEntries(LAYOUTS.map(({ id, boxes }) => [id, boxes.map(round)])),
    most: Math.max(...LAYOUTS.flatMap(({ boxes }) => boxes.flatMap((one) => [one.left + one.width, one.top + one.height]))) };
}"""


def test_boxes_stay_on_the_picture_keep_a_size_and_go_to_lines_that_are_near(module: Page) -> None:
    found: dict[str, Any] = module.evaluate(GEOMETRY)
    assert found == {
        "moved": [0.31, 0.6, 0.3, 0.4],
        "beyond": [0, 0, 0.3, 0.4],
        "near": [0.3, 0.2, 0.3, 0.4],  # its right edge to the other's left
        "thinner": [0.2, 0.2, 0.04, 0.4],
        "wider": [0, 0.3, 0.5, 0.3],
        "drawn": [0.11, 0.31, 0.59, 0.69],
        "dot": None,
        "layouts": {
            "columns": [[0, 0, 0.5, 1], [0.5, 0, 0.5, 1]],
            "rows": [[0, 0, 1, 0.5], [0, 0.5, 1, 0.5]],
            "thirds": [[0, 0, 0.3333, 1], [0.3333, 0, 0.3334, 1], [0.6667, 0, 0.3333, 1]],
        },
        "most": 1,
    }


def test_regions_are_drawn_moved_and_resized_and_go_into_the_job_and_back(there: Visitor) -> None:
    page = there.page
    summary = page.locator("#regions-section summary .summary").first
    expect(summary).to_have_text("")
    drag(page, (0.1, 0.1), (0.4, 0.9))
    drag(page, (0.55, 0.3), (0.85, 0.7))
    expect(summary).to_have_text("2 regions")
    drag(page, (0.7, 0.5), (0.77, 0.6))  # by its middle
    drag(page, (0.4, 0.9), (0.3, 0.7))  # by its corner
    assert boxes(page) == [(10, 10, 20, 60), (62, 40, 30, 40)]
    prompt_of(page, 1).fill("a lighthouse")
    prompt_of(page, 2).fill("a sailboat")
    page.locator(".region details summary").nth(1).click()
    weight = page.locator(".region").nth(1).locator("input.number")
    weight.fill("1.5")
    page.locator(".region").nth(1).get_by_label("Negative prompt").fill("blurry")
    page.fill("[data-field='regions.base'] input.number", "0.3")
    page.get_by_role("switch", name="Common words first").click()
    page.fill("textarea[name=prompt]", "at sea")
    regions = made(there)
    assert places(regions) == [("a lighthouse", (10, 10, 20, 60)), ("a sailboat", (62, 40, 30, 40))]
    assert [(one.weight, one.negative_prompt) for one in regions.regions] == [(1.0, None), (1.5, "blurry")]
    assert (regions.base, regions.common) == (0.3, False)

    page.reload()
    page.wait_for_selector(".region-canvas")
    assert boxes(page) == [(10, 10, 20, 60), (62, 40, 30, 40)]
    expect(prompt_of(page, 2)).to_have_value("a sailboat")

    page.fill("[data-field='regions.base'] input.number", "0.9")
    page.get_by_role("button", name="Remove region 1").click()
    page.get_by_role("button", name="Remove region 1").click()
    expect(summary).to_have_text("")
    page.get_by_role("button", name="Use settings").click()
    expect(prompt_of(page, 1)).to_have_value("a lighthouse")
    again = made(there)
    assert again == regions

    page.get_by_role("tab", name="Gallery").click()
    page.locator(".tile").first.click()
    recipe = page.locator("dl.recipe")
    expect(recipe).to_contain_text("Region 1a lighthouse; left 10%, top 10%, 20% × 60%")
    expect(recipe).to_contain_text("Region 2a sailboat; not blurry; left 62%, top 40%, 30% × 40%; weight 1.5")
    expect(recipe).to_contain_text("Base share30%")


def test_the_keyboard_alone_adds_moves_resizes_removes_and_undoes(there: Visitor) -> None:
    page = there.page
    add = page.get_by_role("button", name="Add a region")
    add.focus()
    page.keyboard.press("Enter")
    region = page.get_by_role("button", name="Region 1: no prompt")
    expect(region).to_be_focused()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowDown", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    assert boxes(page) == [(32, 29, 39, 41)]
    expect(page.locator("#heard")).to_have_text("Region 1: left 32%, top 29%, 39% × 41%.")
    expect(region).to_have_attribute("aria-label", "Region 1: no prompt; left 32%, top 29%, 39% × 41%")
    page.keyboard.press("Control+z")  # the moves with Shift
    assert boxes(page) == [(32, 29, 40, 40)]
    page.keyboard.press("Control+z")  # and those without
    assert boxes(page) == [(30, 30, 40, 40)]
    page.keyboard.press("Control+Shift+z")
    assert boxes(page) == [(32, 29, 40, 40)]
    page.keyboard.press("Enter")
    expect(prompt_of(page, 1)).to_be_focused()
    page.keyboard.type("a fox")
    page.get_by_role("button", name="Region 1: a fox").focus()
    page.keyboard.press("Delete")
    expect(add).to_be_focused()
    assert boxes(page) == []
    page.locator(".undo-bar").get_by_role("button", name="Undo").click()
    expect(prompt_of(page, 1)).to_have_value("a fox")


def test_a_layout_places_the_regions_that_are_there_and_undo_brings_back_where_they_were(there: Visitor) -> None:
    page = there.page
    tools = page.get_by_role("group", name="Layouts")
    page.get_by_role("button", name="Three columns").click()
    for number, words in enumerate(("a cat", "a dog", "a hen"), 1):
        prompt_of(page, number).fill(words)
    page.get_by_role("button", name="Two rows").click()
    assert boxes(page) == [(0, 0, 100, 50), (0, 50, 100, 50)]
    expect(prompt_of(page, 2)).to_have_value("a dog")
    expect(page.locator(".undo-bar")).to_contain_text("Two rows: the other regions were removed.")
    prompt_of(page, 2).fill("a wolf")
    tools.get_by_role("button", name="Undo").click()
    assert boxes(page) == [(0, 0, 33, 100), (33, 0, 33, 100), (67, 0, 33, 100)]
    expect(prompt_of(page, 2)).to_have_value("a wolf")  # what was written meanwhile stays
    expect(prompt_of(page, 3)).to_have_value("a hen")
    tools.get_by_role("button", name="Redo").click()
    assert len(boxes(page)) == 2


def test_no_more_can_be_drawn_than_the_contract_allows_and_that_is_said(there: Visitor) -> None:
    page = there.page
    add = page.get_by_role("button", name="Add a region")
    for number in range(MAX_REGIONS):
        page.locator(".region-box").nth(number - 1).press("ArrowDown") if number else None
        add.click()
    expect(add).to_be_hidden()
    expect(page.locator(".region-hint")).to_have_text(
        f"{MAX_REGIONS} regions are the most. Remove one to draw another."
    )
    drag(page, (0.02, 0.02), (0.2, 0.2))
    assert len(boxes(page)) == MAX_REGIONS


def test_a_mask_is_painted_from_its_box_takes_the_pictures_shape_and_comes_back(there: Visitor) -> None:
    page = there.page
    drag(page, (0, 0), (0.5, 1))
    prompt_of(page, 1).fill("a barn")
    page.get_by_role("button", name="Paint a mask instead").click()
    dialog = page.get_by_role("region", name="Region mask")
    expect(dialog).to_contain_text("Paint where region 1 is.")
    clear = dialog.get_by_role("button", name="Clear")
    expect(clear).to_have_attribute("aria-disabled", "false")  # it begins with the box
    clear.click()
    dialog.get_by_role("button", name="Use the mask").click()
    expect(dialog.get_by_role("alert")).to_have_text("Nothing is painted. Paint where the region is, or put this away.")
    dialog.get_by_role("button", name="Undo").click()
    dialog.get_by_role("button", name="Use the mask").click()
    expect(page.get_by_role("button", name="Region 1: a barn; painted")).to_be_visible()
    (region,) = made(there).regions
    assert region.mask and not region.box
    page.get_by_role("radio", name="Wide").click()
    width, height = page.evaluate("[darkroom.form.get().width, darkroom.form.get().height].map(Number)")
    assert width > height
    (stretched,) = made(there).regions
    assert stretched.mask and stretched.mask != region.mask
    sizes: list[list[int]] = page.evaluate(
        """Promise.all(["MASK", "WIDE"].map(async (sha256) => {
          const image = await createImageBitmap(await (await fetch(`api/v1/uploads/${sha256}`)).blob());
          return [image.width, image.height]; }))""".replace("MASK", region.mask.sha256).replace(
            "WIDE", stretched.mask.sha256
        )
    )
    assert sizes[0][0] == sizes[0][1] and sizes[1] == [width, height]
    page.get_by_role("button", name="Use a box").click()
    assert boxes(page) == [(0, 0, 50, 100)]
    page.get_by_role("button", name="Use settings").click()
    expect(page.get_by_role("button", name="Region 1: a barn; painted")).to_be_visible()
    assert made(there).regions == (stretched,)


def test_a_value_that_is_wrong_is_said_at_its_field(there: Visitor) -> None:
    page = there.page
    page.get_by_role("button", name="Two columns").click()
    page.locator(".region details summary").nth(1).click()
    weight = page.locator(".region").nth(1).locator("input.number")
    weight.fill("5")
    page.locator(".region details summary").nth(1).click()
    there.ask("a barn")
    expect(weight).to_be_focused()
    expect(page.locator(".region").nth(1).locator(".problem:visible")).to_have_text(
        "Region weight is 5. Use a number, 0 to 2."
    )
    weight.fill("1")
    page.fill("[data-field='regions.base'] input.number", "2")
    page.click("#generate")
    expect(page.locator("[data-field='regions.base'] .problem")).to_have_text("Base share is 2. Use a number, 0 to 1.")
    page.fill("[data-field='regions.base'] input.number", "0.2")
    prompt_of(page, 2).fill("a barn <lora:zebra:1>")
    page.click("#generate")
    expect(page.locator(".region").nth(1).locator(".field > .problem:visible")).to_contain_text("zebra")
    expect(prompt_of(page, 2)).to_be_focused()


@pytest.fixture
def lora(site: Site) -> Iterator[str]:
    path = make_lora(site.studio.settings.model_dirs[-1] / "loras", "ink", words="ink wash")
    site.studio.models(fresh=True)
    yield "ink"
    path.unlink()
    site.studio.models(fresh=True)


def test_a_regions_prompt_is_helped_as_the_prompt_is_and_its_lora_acts_there(there: Visitor, lora: str) -> None:
    page = there.page
    page.get_by_role("button", name="Two columns").click()
    prompt = prompt_of(page, 2)
    prompt.click()
    prompt.press_sequentially("a (barn <lora:in")
    options = page.locator(".region .completion:not([hidden]) .option")
    expect(options.first).to_contain_text("ink")
    prompt.press("Enter")
    expect(prompt).to_have_value(f"a (barn <lora:{lora}:1>")
    row = page.locator(".region").nth(1)
    expect(row.locator(".note")).to_contain_text("“(” is never closed")
    row.get_by_role("button", name="Close it").click()
    expect(row.locator(".count")).to_contain_text("tokens")
    prompt.fill(f"a barn <lora:{lora}:te=0.4:unet=0.8>")
    there.ask("at noon")
    there.wait_for("done")
    recipe = painted(there.site)[-1]
    assert recipe.regions and not recipe.loras
    first, second = recipe.regions.regions
    assert first.loras == () and second.prompt == "a barn"
    assert [(one.model.name, one.weight, one.text_weight) for one in second.loras] == [(lora, 0.8, 0.4)]
    prompt_of(page, 1).fill("{a cat|a dog}")
    expect(page.locator(".region").first.locator(".note")).to_have_text("One of its choices is drawn.")
    assert made(there).regions[0].prompt in ("a cat", "a dog")
    prompt.fill("")
    page.get_by_role("button", name="Use settings").click()
    expect(prompt_of(page, 2)).to_have_value(f"a barn <lora:{lora}:te=0.4:unet=0.8>")
    again = made(there).regions[1]
    assert (again.prompt, [(one.weight, one.text_weight) for one in again.loras]) == ("a barn", [(0.8, 0.4)])


def test_the_canvas_has_the_pictures_shape_and_shows_the_start_picture_as_it_will_lie(there: Visitor) -> None:
    page = there.page

    def ratio() -> float:
        box = page.locator(".region-canvas").bounding_box()
        assert box
        return box["width"] / box["height"]

    page.get_by_role("button", name="Two columns").click()
    page.get_by_role("radio", name="Custom").click()
    page.locator("#size-field").get_by_label("Width", exact=True).fill("192")
    page.locator("#size-field").get_by_label("Height", exact=True).fill("96")
    assert ratio() == pytest.approx(2, abs=0.02)
    assert boxes(page) == [(0, 0, 50, 100), (50, 0, 50, 100)]  # parts of the picture, whatever its shape
    page.get_by_role("tab", name="Image to image").click()
    page.set_input_files(
        "#init-image-section input[type=file] >> nth=0",
        {"name": "tall.png", "mimeType": "image/png", "buffer": picture_bytes(64, 128)},
    )
    start = page.locator(".region-start")
    expect(start).to_be_visible()
    assert ratio() == pytest.approx(0.5, abs=0.02)
    page.get_by_role("tab", name="Inpaint").click()
    page.get_by_role("radio", name="Extend").click()
    page.fill("[data-field='init_image.outpaint.right'] input", "64")
    assert ratio() == pytest.approx(1, abs=0.02)
    canvas, picture = page.locator(".region-canvas").bounding_box(), start.bounding_box()
    assert canvas and picture and picture["x"] == pytest.approx(canvas["x"], abs=1.5)
    assert picture["width"] == pytest.approx(canvas["width"] / 2, abs=1.5)
    page.get_by_role("tab", name="Text to image").click()
    expect(start).to_be_hidden()


@pytest.mark.parametrize(("width", "touch"), [(1280, False), (390, True)])
def test_nothing_moves_by_itself_or_sticks_out_and_every_control_has_room(
    visit: Visit, width: int, touch: bool
) -> None:
    visitor = opened(visit(width=width, touch=touch))
    page = visitor.page
    page.wait_for_function("document.fonts.status === 'loaded'")
    before = page.locator(".region-canvas").bounding_box()
    page.evaluate("window.shifts.length = 0")
    canvas = page.locator(".region-canvas")
    drag(page, (0.1, 0.1), (0.6, 0.6))
    page.locator(".region-box").press("ArrowRight")
    assert page.evaluate("window.shifts") == []
    after = canvas.bounding_box()
    assert before and after and (before["width"], before["height"]) == (after["width"], after["height"])
    page.locator(".region details summary").first.click()
    page.get_by_role("button", name="Add a region").click()
    check(page, touch)


def test_a_finger_draws_on_the_canvas(visit: Visit) -> None:
    visitor = opened(visit(width=390, height=844, touch=True))
    page = visitor.page
    canvas = page.locator(".region-canvas")
    canvas.evaluate("one => one.scrollIntoView({ block: 'center' })")
    box = canvas.bounding_box()
    assert box
    points = [(box["x"] + at * box["width"], box["y"] + at * box["height"]) for at in (0.2, 0.4, 0.7)]
    session = visitor.context.new_cdp_session(page)
    for kind, (x, y) in zip(("touchStart", "touchMove", "touchMove"), points, strict=True):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator(".region-box")).to_be_focused()  # and no keyboard comes up
    assert boxes(page) == [(20, 20, 50, 50)]
