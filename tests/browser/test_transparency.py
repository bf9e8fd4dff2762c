"""What is transparent in a picture looks on the page as the engine takes it: on one background, named once."""

import hashlib
import io
from pathlib import Path

import pytest
from PIL import Image, ImageColor
from playwright.sync_api import Page, expect

from contract.recipe import ImageRef
from contract.values import BACKGROUND
from engine.images.image_io import open_input
from studio.gallery.thumbnails import Thumbnails
from tests.browser.test_inpaint import brought, open_canvas, spot, stroke
from tests.support.browser_site import Visitor
from tests.support.browser_uploads import bring

COLOR = ImageColor.getrgb(BACKGROUND)


def glass(width: int = 96, height: int = 64) -> bytes:
    """A picture of which only a green stripe on the left is there."""
    picture = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    picture.paste((20, 120, 40, 255), (0, 0, width // 4, height))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def glass_file(tmp_path: Path) -> Path:
    path = tmp_path / "glass.png"
    path.write_bytes(glass())
    return path


def seen(page: Page, selector: str, x: float = 0.8, y: float = 0.5) -> tuple[int, ...]:
    """The color on the screen at a place of an element."""
    place = page.locator(selector).first
    expect(place).to_be_visible()
    page.wait_for_function("(one) => document.querySelector(one).complete !== false", arg=selector)
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    assert box
    clip = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"], "width": 1.0, "height": 1.0}
    shot = Image.open(io.BytesIO(page.screenshot(clip=clip, animations="disabled")))  # type: ignore[arg-type]
    pixel = shot.convert("RGB").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel


def test_the_engine_takes_it_on_the_same_background() -> None:
    data = glass()
    sha256 = hashlib.sha256(data).hexdigest()
    assert open_input(ImageRef(sha256=sha256), {sha256: data}).getpixel((80, 30)) == COLOR


@pytest.mark.parametrize("dark", [False, True])
def test_a_transparent_picture_lies_on_the_background_wherever_it_is_shown(visit, glass_file: Path, dark: bool) -> None:  # type: ignore[no-untyped-def]
    visitor: Visitor = visit(dark=dark)
    page = visitor.page
    page.get_by_role("tab", name="Image to image").click()
    bring(page, "init-image-section", glass_file)
    assert seen(page, "#init-image-section .area-full img") == COLOR
    visitor.ask("a boat")
    visitor.wait_for("done")
    page.get_by_role("button", name="Compare").click()
    page.locator("input.divider").fill("100")
    assert seen(page, "img.before") == COLOR
    page.get_by_role("tab", name="ControlNet").click()
    bring(page, "control-section", glass_file)
    assert seen(page, "#control-section .area-full img") == COLOR
    page.get_by_role("tab", name="Inpaint").click()
    assert seen(page, ".workspace .mask-editor-picture") == COLOR
    page.get_by_role("radio", name="Extend").click()
    page.get_by_role("button", name="Right: 64 px").click()
    assert seen(page, ".extend-frame img") == COLOR


def test_the_wall_beside_a_picture_is_no_background(visitor: Visitor, glass_file: Path) -> None:
    page = visitor.page
    page.get_by_role("tab", name="Image to image").click()
    bring(page, "init-image-section", glass_file)
    page.get_by_role("radio", name="Square").click()
    page.get_by_role("radio", name="Fill").click()
    visitor.ask("a boat")
    visitor.wait_for("done")
    page.get_by_role("button", name="Compare").click()
    page.locator("input.divider").fill("100")
    assert seen(page, "img.before") == COLOR
    assert seen(page, "img.before", 0.8, 0.05) != COLOR


def test_a_color_is_picked_and_a_sketch_is_sent_as_it_is_seen(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page, glass(384, 256))
    page.get_by_role("tab", name="Image to image").click()
    page.get_by_role("button", name="Sketch on it").click()
    page.get_by_role("button", name="Pick a color").click()
    page.mouse.click(*spot(page, 300, 100))
    expect(page.locator(".any-color")).to_have_value(BACKGROUND.lower())
    page.get_by_role("button", name="Blue").click()
    stroke(page, (200, 60), (300, 60))
    page.get_by_role("button", name="Use the sketch").click()
    page.wait_for_function("darkroom.form.get()['init_image.image'].name === 'sketch'")
    sketch = brought(visitor, page.evaluate("darkroom.form.get()['init_image.image'].sha256"))
    assert sketch.convert("RGBA").getpixel((300, 200)) == (*COLOR, 255)


def test_a_thumbnail_of_a_file_with_transparent_parts_lies_on_it_too(tmp_path: Path) -> None:
    (tmp_path / "worked-on.png").write_bytes(glass())
    small = Image.open(Thumbnails(tmp_path / "small").ensure("0" * 22, tmp_path / "worked-on.png"))
    pixel = small.convert("RGB").getpixel((80, 30))
    assert isinstance(pixel, tuple) and all(abs(one - other) < 4 for one, other in zip(pixel, COLOR, strict=True))


def test_the_page_has_it_from_the_server(visitor: Visitor) -> None:
    assert (
        visitor.page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--picture-background')")
        == BACKGROUND
    )
