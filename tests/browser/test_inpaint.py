"""The canvas under real strokes: what is painted is what is shown, kept, undone and sent."""

import base64
import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from contract.recipe import Recipe
from contract.tasks import Generate
from tests.browser.test_layout import WIDTHS, check
from tests.support.browser_site import Visitor

Visit = Callable[..., Visitor]
WIDTH, HEIGHT = 384, 256
_BRING = """async (data) => {
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  const answer = await fetch("/api/v1/uploads", { method: "POST", body: new Blob([bytes], { type: "image/png" }) });
  darkroom.form.set({ ...darkroom.form.get(), "init_image.image": { ...await answer.json(), name: "scene.png" } });
}"""
_GROUND = """() => { const all = [...document.querySelectorAll(".workspace .mask-editor-ground")];
  const box = all.find((one) => one.checkVisibility({ visibilityProperty: true })).getBoundingClientRect();
  return [box.x, box.y, box.width, box.height]; }"""


def png(width: int = WIDTH, height: int = HEIGHT, color: tuple[int, int, int] = (60, 90, 120)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), color).save(file, "PNG")
    return file.getvalue()


def open_canvas(page: Page, picture: bytes | None = None) -> None:
    page.get_by_role("tab", name="Inpaint").click()
    page.evaluate(_BRING, base64.b64encode(picture or png()).decode())
    expect(page.get_by_role("application", name="Mask")).to_be_visible()
    page.wait_for_function("document.querySelector('.workspace .mask-editor-picture').complete")


def spot(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a point of the picture, given in its pixels, is on the screen."""
    left, top, width, height = page.evaluate(_GROUND)
    return left + x * width / WIDTH, top + y * height / HEIGHT


def stroke(page: Page, *points: tuple[float, float]) -> None:
    page.mouse.move(*spot(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*spot(page, *point), steps=6)
    page.mouse.up()


def words(page: Page) -> str:
    return page.locator(".workspace-words").inner_text().replace("\u00a0", " ")


def problem(page: Page) -> Locator:
    """What is said against a field now."""
    return page.locator(".problem:visible")


def last_recipe(visitor: Visitor) -> Recipe:
    task = visitor.site.worker.work_items[-1].task
    assert isinstance(task, Generate)
    return task.recipe


def make(visitor: Visitor, prompt: str = "a boat") -> Recipe:
    visitor.ask(prompt)
    visitor.wait_for("done")
    return last_recipe(visitor)


def brought(visitor: Visitor, sha256: str) -> Image.Image:
    answer = visitor.page.request.get(f"{visitor.site.url}api/v1/uploads/{sha256}")
    assert answer.ok
    return Image.open(io.BytesIO(answer.body()))


def test_a_stroke_masks_and_undo_redo_invert_and_clear_say_so(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page)
    assert words(page) == "Paint what should change. Nothing is masked yet."
    stroke(page, (100, 100), (200, 100))
    # A brush of 29 px over 100 px: 29 · 100 + π · 14.5² of 98,304 px.
    assert words(page) == "Paint what should change. 4% of the picture is masked."
    page.keyboard.press("Control+z")
    assert "Nothing is masked yet." in words(page)
    page.keyboard.press("Control+Shift+z")
    assert "4% of" in words(page)
    page.keyboard.press("i")
    assert "96% of" in words(page)
    page.get_by_role("button", name="Clear").click()
    assert "Nothing is masked yet." in words(page)
    page.get_by_role("button", name="Undo").first.click()
    assert "96% of" in words(page)
    page.keyboard.press("Control+z")
    page.keyboard.press("e")
    expect(page.get_by_role("button", name="Eraser")).to_have_attribute("aria-pressed", "true")
    stroke(page, (100, 100), (200, 100))
    assert "Nothing is masked yet." in words(page)


def test_brush_sizes_and_zoom_go_by_keys_and_only_with_the_canvas_in_use(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page)
    size, zoom = page.locator(".brush-px"), page.locator(".zoom")
    fitted = zoom.inner_text()
    page.fill("textarea[name=prompt]", "0 + [ ] b e i")
    expect(size).to_have_text("29 px")
    page.mouse.move(*spot(page, 190, 120))
    page.mouse.wheel(0, -300)
    expect(zoom).to_have_text(fitted)
    page.locator(".workspace .mask-editor-field").focus()
    page.keyboard.press("]")
    expect(size).to_have_text("35 px")
    page.keyboard.press("[")
    expect(size).to_have_text("29 px")
    page.mouse.wheel(0, -300)
    expect(zoom).not_to_have_text(fitted)
    before = spot(page, 0, 0)
    page.keyboard.down("Space")
    page.mouse.down()
    page.mouse.move(*spot(page, 210, 140), steps=4)
    page.mouse.up()
    page.keyboard.up("Space")
    assert spot(page, 0, 0) != before
    assert "Nothing is masked yet." in words(page)
    page.keyboard.press("0")
    expect(zoom).to_have_text(fitted)


def test_generate_sends_the_start_picture_and_the_mask_that_was_painted(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page)
    page.get_by_role("radio", name="Noise").click()
    page.fill("[data-field='mask.blur'] input.number", "8")
    stroke(page, (100, 100), (200, 100))
    recipe = make(visitor)
    assert recipe.init_image is not None and recipe.mask is not None
    assert recipe.mask.content == "noise" and recipe.mask.blur == 8 and recipe.mask.area == "whole"
    assert brought(visitor, recipe.init_image.image.sha256).size == (WIDTH, HEIGHT)
    mask = brought(visitor, recipe.mask.image.sha256).convert("L")
    assert mask.size == (WIDTH, HEIGHT)
    assert [mask.getpixel(at) for at in ((150, 100), (101, 88), (199, 112), (88, 100))] == [255] * 4
    assert [mask.getpixel(at) for at in ((150, 83), (150, 117), (83, 100), (217, 100), (0, 0))] == [0] * 5
    expect(page.locator(".workspace")).to_be_hidden()
    page.get_by_role("button", name="Back to the canvas").click()
    assert "4% of" in words(page)
    again = make(visitor, "a ship")
    assert again.mask == recipe.mask


def test_settings_of_a_picture_bring_its_mask_back(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page)
    page.get_by_role("radio", name="Masked area only").click()
    stroke(page, (100, 100), (200, 100))
    recipe = make(visitor)
    page.get_by_role("button", name="Back to the canvas").click()
    page.get_by_role("button", name="Clear", exact=True).click()
    page.get_by_role("radio", name="Whole picture").click()
    page.get_by_role("button", name="Show the result").click()
    page.get_by_role("button", name="Use settings").first.click()
    expect(page.get_by_role("radio", name="Masked area only")).to_be_checked()
    page.wait_for_function("darkroom.form.get()['init_image.image']")
    page.get_by_role("button", name="Back to the canvas").click()
    expect(page.locator(".workspace-words")).to_contain_text("4% of")
    assert make(visitor).mask == recipe.mask


def test_generate_with_nothing_masked_says_so_and_goes_there(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_role("tab", name="Inpaint").click()
    page.click("#generate")
    expect(problem(page)).to_have_text("Inpaint begins from a picture. Drop one, paste it, or choose a file.")
    open_canvas(page)
    page.click("#generate")
    expect(problem(page)).to_have_text("Nothing is masked. Paint the area to change, or use Image to image.")
    expect(page.get_by_role("button", name="Brush")).to_be_focused()
    assert visitor.view()["phase"] == "idle"
    stroke(page, (100, 100), (200, 100))
    expect(problem(page)).to_have_count(0)


def test_the_mask_stays_with_its_picture_over_tabs_reloads_and_other_pictures(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page)
    stroke(page, (100, 100), (200, 100))
    page.get_by_role("tab", name="Gallery").click()
    page.get_by_role("tab", name="Inpaint").click()
    assert "4% of" in words(page)
    page.wait_for_timeout(400)  # kept once nothing more is painted
    page.reload()
    expect(page.locator(".workspace-words")).to_contain_text("4% of")
    open_canvas(page, png(color=(9, 9, 9)))
    assert "Nothing is masked yet." in words(page)
    open_canvas(page)
    expect(page.locator(".workspace-words")).to_contain_text("4% of")


def test_a_picture_that_was_swept_is_said_to_be_gone(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_role("tab", name="Inpaint").click()
    page.evaluate("""darkroom.form.set({ ...darkroom.form.get(),
      "init_image.image": { sha256: "0".repeat(64), width: 64, height: 64, name: "old.png" } })""")
    expect(page.locator(".workspace-words")).to_have_text("The picture is not here any more. Choose it again.")
    page.get_by_role("button", name="Change picture").click()
    expect(page.get_by_role("button", name="Drop a picture, paste it, or choose a file").last).to_be_visible()


def test_a_mask_can_be_made_by_numbers_by_file_and_as_everything(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page)
    opener = page.get_by_role("button", name="More ways to mask")
    opener.press("Enter")
    for side, value in (("left", "96"), ("top", "64"), ("width", "192"), ("height", "500")):
        page.locator(f"[data-number={side}]").fill(value)
    page.keyboard.press("Enter")
    expect(problem(page)).to_have_text("Height is 500. Use 1 to 192.")
    page.locator("[data-number=height]").fill("128")
    page.keyboard.press("Enter")
    assert "25% of" in words(page)
    expect(opener).to_be_focused()
    opener.click()
    page.get_by_role("button", name="Mask everything").click()
    assert "The whole picture is masked." in words(page)
    half = Image.new("L", (WIDTH, HEIGHT))
    half.paste(255, (0, 0, WIDTH // 2, HEIGHT))
    file = io.BytesIO()
    half.save(file, "PNG")
    opener.click()
    chooser = page.locator(".mask-editor-panel input[type=file]")
    chooser.set_input_files({"name": "tall.png", "mimeType": "image/png", "buffer": png(64, 128)})
    expect(problem(page)).to_contain_text("tall.png is 64 × 128; the picture is 384 × 256.")
    chooser.set_input_files({"name": "mask.png", "mimeType": "image/png", "buffer": file.getvalue()})
    expect(page.locator(".workspace-words")).to_contain_text("50% of")


def test_a_soft_brush_paints_grays_into_the_mask(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page)
    page.get_by_role("switch", name="Soft inpainting").click()
    stroke(page, (100, 128), (280, 128))
    recipe = make(visitor)
    assert recipe.mask is not None and recipe.mask.soft
    mask = brought(visitor, recipe.mask.image.sha256).convert("L")
    middle, slope = mask.getpixel((190, 128)), mask.getpixel((190, 139))
    assert middle == 255 and isinstance(slope, int) and 0 < slope < 255


def test_one_finger_paints_two_zoom_and_a_tap_of_two_undoes(visit: Visit) -> None:
    page = visit(width=390, height=844, touch=True).page
    open_canvas(page)
    screen = page.context.new_cdp_session(page)

    def fingers(kind: str, *points: tuple[float, float]) -> None:
        places = [{"x": x, "y": y, "id": at} for at, (x, y) in enumerate(spot(page, *point) for point in points)]
        screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    fingers("touchStart", (100, 100))
    for x in range(110, 210, 10):
        fingers("touchMove", (x, 100))
    fingers("touchEnd")
    assert "4% of" in words(page)
    assert page.evaluate("scrollY") == 0
    zoom = page.locator(".zoom")
    fitted = zoom.inner_text()
    fingers("touchStart", (150, 128))
    fingers("touchStart", (150, 128), (230, 128))
    for apart in (10, 30, 60):
        fingers("touchMove", (150 - apart, 128), (230 + apart, 128))
    fingers("touchEnd")
    expect(zoom).not_to_have_text(fitted)
    assert "4% of" in words(page), "the first finger of two leaves nothing behind"
    page.get_by_role("button", name="Fit").click()
    fingers("touchStart", (150, 128), (230, 128))
    fingers("touchEnd")
    expect(page.locator(".workspace-words")).to_contain_text("Nothing is masked yet.")


def test_a_pen_paints_by_its_pressure_and_a_palm_beside_it_does_not(visit: Visit) -> None:
    page = visit(width=1024, height=768, touch=True).page
    open_canvas(page)
    screen = page.context.new_cdp_session(page)

    def pen(kind: str, x: float, y: float) -> None:
        left, top = spot(page, x, y)
        screen.send(
            "Input.dispatchMouseEvent",
            {
                "type": kind,
                "x": left,
                "y": top,
                "button": "left",
                "buttons": 1,
                "pointerType": "pen",
                "force": 1.0,
                "clickCount": 1,
            },
        )

    def palm(kind: str, *points: tuple[float, float]) -> None:
        places = [{"x": x, "y": y} for x, y in (spot(page, *point) for point in points)]
        screen.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    pen("mousePressed", 100, 100)
    palm("touchStart", (300, 200))
    palm("touchMove", (200, 220))
    pen("mouseMoved", 150, 100)
    palm("touchEnd")
    pen("mouseMoved", 200, 100)
    pen("mouseReleased", 200, 100)
    assert "4% of" in words(page)


def test_extending_sends_the_sides_and_no_size(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page)
    page.get_by_role("radio", name="Extend").click()
    page.click("#generate")
    expect(problem(page)).to_have_text("No side is extended. Give at least one side some pixels.")
    page.get_by_role("button", name="Right: 128 px").click()
    page.get_by_role("slider", name="Extend down, in pixels").press("Shift+ArrowDown")
    expect(page.locator("[data-field='init_image.outpaint.down'] input")).to_have_value("64")
    assert words(page) == "The new frame. 384 × 256 becomes 512 × 320."
    frame, inside = (page.locator(one).bounding_box() for one in (".new-frame", ".new-frame img"))
    assert frame and inside
    assert inside["width"] / frame["width"] == pytest.approx(384 / 512, abs=0.01)
    page.fill("[data-field='init_image.outpaint.down'] input", "60")
    page.click("#generate")
    expect(problem(page)).to_contain_text("Down is 60. Use a multiple of 8: 56 or 64.")
    page.get_by_role("button", name="64", exact=True).last.click()
    recipe = make(visitor)
    assert recipe.init_image is not None and recipe.init_image.outpaint is not None and recipe.mask is None
    assert (recipe.init_image.outpaint.right, recipe.init_image.outpaint.down, recipe.init_image.outpaint.left) == (
        128,
        64,
        0,
    )
    assert (recipe.width, recipe.height) == (512, 320)
    page.get_by_role("button", name="Back to the canvas").click()
    page.get_by_role("button", name="Use the result").click()
    expect(page.locator(".workspace-words")).to_have_text("The new frame. 512 × 320 becomes 640 × 384.")
    again = make(visitor)
    assert (again.width, again.height) == (640, 384)
    page.get_by_role("tab", name="Text to image").click()
    expect(page.locator("#size-field")).to_be_visible()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_width_cuts_the_canvas_or_its_tools(visit: Visit, width: int) -> None:
    touch = width < 860
    page = visit(width=width, height=800, touch=touch, dark=width == 390).page
    page.get_by_role("tab", name="Inpaint").click()
    check(page, touch)
    page.get_by_role("switch", name="Explain").click()
    open_canvas(page)
    check(page, touch)
    page.get_by_role("button", name="More ways to mask").click()
    check(page, touch)
    page.keyboard.press("Escape")
    page.get_by_role("radio", name="Masked area only").click()
    page.get_by_role("switch", name="Soft inpainting").click()
    check(page, touch)
    page.get_by_role("radio", name="Extend").click()
    check(page, touch)


@pytest.mark.parametrize(("width", "touch"), [(1440, False), (390, True)])
def test_nothing_moves_while_a_mask_is_painted_and_used(visit: Visit, width: int, touch: bool) -> None:
    visitor = visit(width=width, height=844, touch=touch)
    page = visitor.page
    open_canvas(page)
    page.wait_for_function("document.fonts.status === 'loaded'")
    boxes: Any = """() => ["#generate", "#recipe", ".result-pane"].map((one) => JSON.stringify(document.querySelector(one).getBoundingClientRect()))"""
    before = page.evaluate(boxes)
    page.evaluate("window.shifts.length = 0")
    stroke(page, (100, 100), (200, 100))
    page.locator("#generate").dispatch_event("click")
    visitor.wait_for("done")
    assert page.evaluate(boxes) == before
    assert sum(shift["value"] for shift in page.evaluate("window.shifts")) == 0, page.evaluate("window.shifts")


def test_a_sketch_becomes_the_start_picture_and_can_be_taken_back(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page)
    page.get_by_role("tab", name="Image to image").click()
    page.get_by_role("button", name="Sketch on it").click()
    page.get_by_role("button", name="White").click()
    stroke(page, (100, 100), (200, 100))
    page.get_by_role("button", name="Use the sketch").click()
    expect(page.locator(".sketch-dialog")).to_have_count(0)
    page.wait_for_function("darkroom.form.get()['init_image.image'].name === 'sketch'")
    sketch = brought(visitor, page.evaluate("darkroom.form.get()['init_image.image'].sha256")).convert("RGB")
    assert sketch.size == (WIDTH, HEIGHT)
    assert sketch.getpixel((150, 100)) == (250, 250, 248) and sketch.getpixel((150, 200)) == (60, 90, 120)
    page.get_by_role("button", name="Undo").last.click()
    assert page.evaluate("darkroom.form.get()['init_image.image'].name") == "scene.png"


def test_a_drawing_of_white_lines_becomes_a_control_picture(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_role("tab", name="ControlNet").click()
    page.get_by_role("button", name="Draw one").first.click()
    field = page.locator(".sketch-dialog .mask-editor-ground").bounding_box()
    assert field
    page.mouse.move(field["x"] + field["width"] / 2, field["y"] + field["height"] / 4)
    page.mouse.down()
    page.mouse.move(field["x"] + field["width"] / 2, field["y"] + field["height"] * 3 / 4, steps=5)
    page.mouse.up()
    page.get_by_role("button", name="Use the drawing").click()
    page.wait_for_function("darkroom.form.get().controls[0]?.image")
    drawing = brought(visitor, page.evaluate("darkroom.form.get().controls[0].image.sha256")).convert("L")
    width, height = drawing.size
    assert drawing.getpixel((width // 2, height // 2)) == 255 and drawing.getpixel((width // 4, height // 2)) == 0


def test_only_the_masked_area_is_painted_and_the_frame_has_the_pictures_shape_throughout(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page)
    page.get_by_role("radio", name="Masked area only").click()
    stroke(page, (100, 100), (200, 100))
    visitor.ask("a boat [slow]", steps="30")
    shape = "(() => { const box = document.querySelector('.cell').getBoundingClientRect(); return box.width / box.height; })()"
    visitor.wait_for("running")
    assert page.evaluate(shape) == pytest.approx(WIDTH / HEIGHT, rel=0.01)
    visitor.site.worker.gate.clear()
    page.reload()
    visitor.wait_for("running")
    assert page.evaluate(shape) == pytest.approx(WIDTH / HEIGHT, rel=0.01)
    visitor.site.worker.gate.set()
    visitor.wait_for("done")
    assert page.evaluate(shape) == pytest.approx(WIDTH / HEIGHT, rel=0.01)
    assert page.evaluate("getComputedStyle(document.querySelector('.cell .picture')).objectFit") == "contain"
    recipe = last_recipe(visitor)
    assert recipe.mask and recipe.mask.area == "masked" and recipe.width == recipe.height
