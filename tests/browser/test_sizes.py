"""Sizes that are said are sizes that are made: the page's rule and the server's give the same, over many sizes."""

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from contract.parts import CONTROL_RESOLUTION, Outpaint
from contract.sizes import MASKED_ROOM, ROOM, extended_size, followed_size, hires_size, inner_size, upscaled_size
from contract.tasks import Upscale
from contract.values import SIDE, SIDE_MULTIPLE
from engine.images.preprocessors import pixel_perfect_resolution
from tests.browser.test_inpaint import make, open_canvas, stroke
from tests.support.browser_site import Visitor
from tests.support.browser_uploads import bring, painted, picture_bytes, picture_file
from tests.support.page_probe import probe

Visit = Callable[..., Visitor]
MOST = 2048 * 2048
CONFIG = {
    "limits": {
        "side": SIDE,
        "side_multiple": SIDE_MULTIPLE,
        "size_room": ROOM,
        "masked_room": MASKED_ROOM,
        "max_pixels": MOST,
        "controls.resolution": CONTROL_RESOLUTION,
    }
}
RULES = ("hiresSize", "upscaledSize", "innerSize", "extendedSize", "followedSize", "mapResolution")
SCALES = (1.0, 1.05, 1.1, 1.15, 1.25, 1.3, 4 / 3, 1.5, 1.6, 1.75, 1.9, 2.0, 2.25, 2.5, 3.0, 3.3, 4.0)
_RUN = """(cases) => cases.map(([rule, ...given]) => {
  const size = ([width, height]) => ({ width, height });
  const made = { hires: (a, by) => probe.hiresSize(size(a), by), upscaled: (a, by) => probe.upscaledSize(size(a), by),
    inner: (a) => probe.innerSize(size(a)), followed: (a, b, isMasked) => probe.followedSize(size(a), size(b), isMasked), extended: (a, gained) => probe.extendedSize(size(a), gained),
    map: (a, b, resize) => ({ width: probe.mapResolution(size(a), size(b), resize), height: 0 }) }[rule](...given);
  return [made.width, made.height];
})"""


def cases() -> list[tuple[list[object], tuple[int, int]]]:
    """Rule with its arguments, and what the server makes of them."""
    chance = random.Random(13)
    sizes = [
        (112, 112),
        (256, 192),
        (100, 260),
        (387, 259),
        (50, 40),
        (1600, 1200),
        (4000, 3000),
        (2400, 640),
        (64, 2048),
        (1, 1),
        (513, 511),
    ]
    sizes += [(chance.randint(1, 4000), chance.randint(1, 4000)) for _ in range(60)]
    pictures = {size: Image.new("1", size) for size in sizes}
    painted = [(64, 64), (112, 112), (104, 200), (512, 768), (520, 936), (1024, 1024), (2048, 64)]
    found: list[tuple[list[object], tuple[int, int]]] = [
        (["hires", size, scale], hires_size(size, scale)) for size, scale in itertools.product(painted, SCALES)
    ]
    found += [
        (["upscaled", size, scale], upscaled_size(size, scale)) for size, scale in itertools.product(sizes, SCALES)
    ]
    for size, usual in itertools.product(
        sizes, ((64, 64), (128, 128), (512, 512), (768, 768), (1024, 1024), (832, 1216))
    ):
        found.append((["followed", size, usual, False], followed_size(size, usual)))
        found.append((["followed", size, usual, True], followed_size(size, usual, MASKED_ROOM, MOST)))
        for resize in ("crop", "fill", "stretch"):
            found.append((["map", size, usual, resize], (pixel_perfect_resolution(pictures[size], usual, resize), 0)))
    for size in sizes:
        gained = {side: 8 * chance.randint(0, 20) for side in ("left", "right", "up")} | {"down": 8}
        found += [
            (["inner", size], inner_size(size)),
            (["extended", size, gained], extended_size(size, Outpaint(**gained))),
        ]
    return found


def test_page_and_server_give_the_same_size_in_thousands_of_cases(browser: Browser) -> None:
    page = probe(browser, {"form/size_rule.js": RULES}, CONFIG)
    every = cases()
    found = page.evaluate(_RUN, [given for given, _ in every])
    page.close()
    wrong = [
        (given, made, expected) for (given, expected), made in zip(every, found, strict=True) if tuple(made) != expected
    ]
    assert not wrong, (len(wrong), wrong[:5])
    assert len(every) > 2000


@pytest.mark.parametrize(
    ("side", "scale"), [("112", "1.75"), ("104", "1.25"), ("200", "1.1"), ("136", "1.5"), ("72", "3.3")]
)
def test_a_hires_pass_makes_what_its_line_says(visitor: Visitor, side: str, scale: str) -> None:
    page = visitor.page
    page.get_by_role("radio", name="Custom").click()
    for at in (0, 1):
        page.locator(f"[data-field=width] .custom-size input >> nth={at}").fill(side)
    section = page.locator("#hires-section")
    section.locator("summary").click()
    section.get_by_role("switch").first.click()
    section.locator("[data-field='hires.scale'] input.number").fill(scale)
    made = hires_size((int(side), int(side)), float(scale))
    expect(section.locator(".summary")).to_contain_text(f"{made[0]}\u00a0×\u00a0{made[1]}")
    visitor.ask("a boat")
    visitor.wait_for("done")
    assert (visitor.view()["width"], visitor.view()["height"]) == made
    recipe = painted(visitor.site)[-1]
    assert recipe.hires and recipe.hires.scale == float(scale) and recipe.width == int(side)


@pytest.mark.parametrize(("width", "height", "scale"), [(99, 101, "1.5"), (33, 35, "1.5"), (101, 67, "3")])
def test_an_enlarged_picture_is_as_large_as_the_dialog_says(
    visitor: Visitor, tmp_path: Path, width: int, height: int, scale: str
) -> None:
    page = visitor.page
    page.get_by_text("More", exact=True).click()
    page.get_by_role("button", name="Enlarge a picture").click()
    dialog = page.get_by_role("dialog", name="Upscale")
    dialog.locator("input[type=file]").set_input_files(picture_file(tmp_path, width=width, height=height))
    dialog.get_by_role("radio", name=f"{scale}×").click()
    made = upscaled_size((width, height), float(scale))
    expect(dialog.locator(".dialog-foot .hint")).to_contain_text(f"becomes {made[0]}\u00a0×\u00a0{made[1]}.")
    dialog.get_by_role("button", name="Upscale", exact=True).click()
    visitor.wait_for("done")
    cell = visitor.view()["cells"][0]
    assert (cell["width"], cell["height"]) == made
    assert isinstance(visitor.site.worker.work_items[-1].task, Upscale)


def note(page: Page) -> str:
    return page.locator("#size-field [data-field=width] > .hint").inner_text().replace("\u00a0", " ")


def test_inpainting_the_whole_of_a_picture_keeps_its_size_whatever_was_chosen_elsewhere(visitor: Visitor) -> None:
    page = visitor.page
    page.get_by_role("radio", name="Wide").click()
    for tab in ("Text to image", "Image to image"):
        page.get_by_role("tab", name=tab).click()
        page.get_by_role("radio", name="Tall").click()
    for (width, height), made in (
        ((256, 192), (256, 192)),
        ((200, 136), (200, 136)),
        ((203, 130), (200, 128)),
        ((50, 40), (64, 64)),
        ((1600, 1200), None),
    ):
        open_canvas(page, picture_bytes(width, height))
        expect(page.get_by_role("radio", name="Picture", exact=True)).to_be_checked()
        assert f"Size, {width} × {height}" == page.locator("#size-field .field-head").first.inner_text().replace(
            "\u00a0", " "
        )
        keeps = f"The picture is {width} × {height} and keeps its size; it is painted at"
        assert note(page) == "" if made == (width, height) else keeps in note(page)
        stroke(page, (100, 100), (200, 100))
        recipe = make(visitor)
        assert made in (None, (recipe.width, recipe.height)) and recipe.mask is not None and recipe.mask.keep_size
        assert (visitor.view()["width"], visitor.view()["height"]) == (width, height)
        page.get_by_role("button", name="Back to the canvas").click()
    page.get_by_role("button", name="Show the result").click()
    page.get_by_role("button", name="Use settings").click()
    expect(page.get_by_role("radio", name="Picture", exact=True)).to_be_checked()
    page.get_by_role("radio", name="Square").click()
    asked = make(visitor)
    assert asked.mask is not None and not asked.mask.keep_size


@pytest.mark.parametrize(
    ("size", "made", "words"),
    [
        ((184, 128), (184, 128), ""),
        (
            (187, 130),
            (184, 128),
            "The picture is 187 × 130 and is brought to 184 × 128: sides are multiples of 8; what is left over is cut off.",
        ),
        ((50, 40), (64, 64), "sides are 64 to 2048; what is left over is cut off."),
        ((1600, 1200), None, "usually makes"),
        ((92, 260), (96, 256), "multiples of 8"),
    ],
)
def test_what_happens_to_a_picture_of_any_size_is_said_and_done(
    visitor: Visitor, tmp_path: Path, size: tuple[int, int], made: tuple[int, int] | None, words: str
) -> None:
    page = visitor.page
    page.get_by_role("tab", name="Image to image").click()
    bring(page, "init-image-section", picture_file(tmp_path, width=size[0], height=size[1]))
    said = note(page)
    assert words in said if words else said == ""
    title = page.locator("#size-field .field-head").first.inner_text().replace("\u00a0", " ")
    visitor.ask("a boat")
    visitor.wait_for("done")
    recipe = painted(visitor.site)[-1]
    assert made in (None, (recipe.width, recipe.height))
    assert f"Size, {recipe.width} × {recipe.height}" == title and (
        not said or f"{recipe.width} × {recipe.height}" in said
    )


def test_a_size_of_ones_own_says_what_is_cut_off(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.page
    page.get_by_role("tab", name="Image to image").click()
    bring(page, "init-image-section", picture_file(tmp_path, width=256, height=192))
    page.get_by_role("radio", name="Square").click()
    assert "The picture is 256 × 192: what does not fit" in note(page) and "is cut off." in note(page)
    page.get_by_role("radio", name="Fill").click()
    assert note(page) == ""


def test_extending_says_what_is_cut_and_makes_that_size(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page, picture_bytes(203, 133))
    page.get_by_role("radio", name="Extend").click()
    page.get_by_role("button", name="Right: 64 px").click()
    words = page.locator(".workspace-words")
    expect(words).to_contain_text(
        "203\u00a0×\u00a0133 becomes 264\u00a0×\u00a0128. Sides are multiples of 8: 3 px at the right and 5 px at the foot are cut off."
    )
    visitor.ask("a boat")
    visitor.wait_for("done")
    recipe = painted(visitor.site)[-1]
    assert (recipe.width, recipe.height) == (264, 128) == (visitor.view()["width"], visitor.view()["height"])


def test_only_the_masked_area_is_said_to_keep_the_picture(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page, picture_bytes(203, 133))
    page.get_by_role("radio", name="Masked area only").click()
    assert "The picture is 203 × 133 and keeps its size; the masked area is painted at" in note(page)


def test_settings_with_the_pictures_own_size_go_on_following_the_next_picture(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.page
    page.get_by_role("tab", name="Image to image").click()
    bring(page, "init-image-section", picture_file(tmp_path, width=200, height=136))
    visitor.ask("a boat")
    visitor.wait_for("done")
    page.get_by_role("button", name="Use settings").click()
    expect(page.get_by_role("radio", name="Picture", exact=True)).to_be_checked()
    page.get_by_role("radio", name="Square").click()
    visitor.ask("a boat, square")
    visitor.wait_for("done")
    page.get_by_role("button", name="Use settings").click()
    expect(page.get_by_role("radio", name="Square")).to_be_checked()
