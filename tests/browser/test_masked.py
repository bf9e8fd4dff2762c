"""What the canvas counts as masked is what the engine takes: the page's layers against the engine's own functions."""

import base64
import hashlib
import io
import json
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from contract.errors import InvalidInput
from contract.parts import MASKED_FROM
from contract.recipe import ModelRef, Recipe
from engine.images.inpaint_region import inpaint_region_of
from tests.browser.test_inpaint import make, open_canvas, problem, spot, stroke, words
from tests.support.browser_site import Visitor
from tests.support.browser_uploads import picture_bytes
from tests.support.page_probe import probe

Visit = Callable[..., Visitor]
SIZE = (96, 64)
_DRAW = """async ([width, height, strokes]) => {
  const layer = probe.makeLayer(width, height, 1);
  for (const [kind, ...given] of strokes) {
    if (kind === "invert") probe.mapMask(layer, probe.wholeOf(layer), (value) => 255 - value);
    else if (kind === "rest") probe.mapMask(layer, probe.wholeOf(layer), (value) => value && given[0]);
    else {
      const [points, size, { erase = false, hardness = 1, strength = 1 }] = given;
      const dabs = points.map(([x, y]) => ({ x, y, size }));
      dabs.forEach((dab, at) => probe.stroke(layer, dabs[Math.max(0, at - 1)], dab, { isErasing: erase, hardness, strength, color: [0, 0, 0] }));
    }
  }
  const blob = await probe.pngOf(layer, width, height);
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return { hard: probe.covered(layer, true), soft: probe.covered(layer, false), png: btoa(String.fromCharCode(...bytes)) };
}"""
S = dict[str, object]
STROKES: dict[str, list[list[object]]] = {
    "a line": [["stroke", [[10, 20], [60, 40]], 9, {}]],
    "a dot in the middle of a pixel": [["stroke", [[20.5, 20.5]], 1, {}]],
    "a dot on a corner": [["stroke", [[20, 20]], 1, {}]],
    "a dot on an edge": [["stroke", [[20, 20.5]], 1, {}]],
    "a dot anywhere": [["stroke", [[20.27, 33.81]], 1, {}]],
    "a dot in the last corner": [["stroke", [[96, 64]], 1, {}]],
    "a thin slope": [["stroke", [[3.3, 4.1], [80.2, 51.7]], 1, {}]],
    "a soft dab of 30%": [["stroke", [[30, 30]], 24, {"hardness": 0.2, "strength": 0.3}]],
    "a soft dab of 49%": [["stroke", [[30, 30]], 24, {"hardness": 1, "strength": 0.49}]],
    "a soft dab of 51%": [["stroke", [[30, 30]], 24, {"hardness": 0.5, "strength": 0.51}]],
    "erased to almost nothing": [
        ["stroke", [[10, 20], [60, 40]], 9, {}],
        ["stroke", [[10, 20], [60, 40]], 9, {"erase": True, "strength": 0.98}],
    ],
    "erased to half": [
        ["stroke", [[10, 20], [60, 40]], 9, {}],
        ["stroke", [[10, 20], [60, 40]], 13, {"erase": True, "strength": 0.49}],
    ],
    "erased the same way": [
        ["stroke", [[10, 20], [60, 40]], 1, {}],
        ["stroke", [[10, 20], [60, 40]], 1, {"erase": True}],
    ],
    "inverted": [["stroke", [[30, 30]], 20, {}], ["invert"]],
    "a soft dab inverted": [["stroke", [[30, 30]], 20, {"strength": 0.3}], ["invert"]],
    "one below the threshold": [["stroke", [[30, 30]], 20, {}], ["rest", MASKED_FROM - 1]],
    "just the threshold": [["stroke", [[30, 30]], 20, {}], ["rest", MASKED_FROM]],
    "a single gray": [["stroke", [[30, 30]], 20, {}], ["rest", 1]],
    "beside the picture": [["stroke", [[-40, 30], [-30, 70]], 12, {}]],
    "over the edge of the picture": [["stroke", [[-4, 30], [20, 70]], 12, {}]],
    "everything": [["invert"]],
    "nothing": [],
}


@pytest.fixture(scope="module")
def layers(browser: Browser) -> dict[str, S]:
    page = probe(
        browser,
        {
            "mask_editor/layer.js": ("covered", "makeLayer", "mapMask", "stroke", "wholeOf"),
            "mask_editor/layer_files.js": ("pngOf",),
        },
        {"limits": {"masked_from": MASKED_FROM}},
    )
    found = {name: page.evaluate(_DRAW, [*SIZE, strokes]) for name, strokes in STROKES.items()}
    page.close()
    return found


def share_in_engine(png: bytes, soft: bool, invert: bool) -> float:
    """What of the picture the engine repaints; 0 where it refuses the mask as empty."""
    start = io.BytesIO()
    Image.new("RGB", SIZE, (9, 9, 9)).save(start, "PNG")
    images = {hashlib.sha256(data).hexdigest(): data for data in (start.getvalue(), png)}
    first, second = ({"sha256": name} for name in images)
    recipe = Recipe(
        prompt="x",
        model=ModelRef(name="m", family="sd1"),
        sampler="euler",
        schedule="automatic",
        steps=4,
        guidance=7.0,
        width=SIZE[0],
        height=SIZE[1],
        seed=1,
    )
    fields = json.loads(recipe.canonical_json()) | {
        "init_image": {"image": first},
        "mask": {"image": second, "soft": soft, "invert": invert, "blur": 0},
    }
    try:
        frame = inpaint_region_of(Recipe.model_validate_json(json.dumps(fields)), images)
    except InvalidInput as error:
        assert error.code == "invalid_mask"
        return 0.0
    assert frame is not None and frame.mask is not None
    return float(frame.mask.mean())


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("name", STROKES)
def test_the_page_counts_what_the_engine_repaints(layers: dict[str, S], name: str, soft: bool, invert: bool) -> None:
    layer = layers[name]
    counted = layer["soft" if soft else "hard"]
    assert isinstance(counted, float | int)
    shown = 1 - counted if invert else counted
    taken = share_in_engine(base64.b64decode(str(layer["png"])), soft, invert)
    assert taken == pytest.approx(shown, abs=1e-6)
    if name.startswith("a dot") and not invert:
        assert taken > 0, "what is set down masks a pixel"
    if name == "erased the same way":
        assert counted == 0


def test_a_faint_dab_counts_only_while_inpainting_is_soft(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page)
    soft = page.get_by_role("switch", name="Soft inpainting")
    soft.click()
    page.get_by_label("Brush strength").fill("30")
    stroke(page, (100, 128), (280, 128))
    assert "% of the picture is masked." in words(page)
    soft.click()
    assert "too faint to count" in words(page)
    page.fill("textarea[name=prompt]", "a boat")
    page.click("#generate")
    expect(problem(page)).to_have_text(
        "What is painted is too faint to count. Turn Soft inpainting on, or paint over it."
    )
    assert pixels_drawn(page) == 0
    soft.click()
    assert pixels_drawn(page) > 0
    recipe = make(visitor)
    assert recipe.mask and recipe.mask.soft


def pixels_drawn(page: Page) -> int:
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    drawn: int = page.evaluate("""() => { const one = document.querySelector(".workspace .mask-editor-field canvas");
      return one.getContext("2d").getImageData(0, 0, one.width, one.height).data.filter((value, at) => at % 4 === 3 && value).length; }""")
    return drawn


def test_a_click_with_the_smallest_brush_masks_and_is_sent(visitor: Visitor) -> None:
    page = visitor.page
    open_canvas(page, picture_bytes(384, 256))
    page.get_by_label("Brush size").first.fill("0")
    expect(page.locator(".brush-px")).to_have_text("1 px")
    page.mouse.click(*spot(page, 100, 100))
    assert "Less than 1% of the picture is masked." in words(page)
    assert make(visitor).mask is not None


@pytest.mark.parametrize("inverted", [False, True])
def test_a_mask_in_the_part_that_is_cut_off_is_refused_before_it_is_sent(visitor: Visitor, inverted: bool) -> None:
    page = visitor.page
    open_canvas(page, picture_bytes(384, 256))
    page.get_by_role("radio", name="Square").click()
    if inverted:
        page.get_by_role("button", name="More ways to mask").click()
        for side, value in (("left", "60"), ("top", "0"), ("width", "270"), ("height", "256")):
            page.locator(f"[data-number={side}]").fill(value)
        page.keyboard.press("Enter")
        page.get_by_role("switch", name="Change what is not painted").click()
    else:
        stroke(page, (10, 40), (10, 200))
    page.fill("textarea[name=prompt]", "a boat")
    page.click("#generate")
    expect(problem(page)).to_contain_text("lies in the part of the picture that is cut off.")
    page.get_by_role("radio", name="Picture", exact=True).click()
    expect(problem(page)).to_have_count(0)
    made = make(visitor).mask
    assert made is not None and made.keep_size and made.invert == inverted


def test_numpy_agrees_with_the_threshold(layers: dict[str, S]) -> None:
    gray = np.asarray(Image.open(io.BytesIO(base64.b64decode(str(layers["a soft dab of 51%"]["png"])))).convert("L"))
    assert (gray >= MASKED_FROM).mean() == pytest.approx(layers["a soft dab of 51%"]["hard"])
