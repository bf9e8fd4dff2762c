"""A refiner and size conditioning on the page: seen only where they can act, and in and out of the form whole."""

import json
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from contract.recipe import SizeConditioning
from tests.browser.test_recipe_fill import WORDS, fill, sent
from tests.support.browser_site import Site, Visitor
from tests.support.model_folders import make_model, write_safetensors

TOLD = {
    "original_width": 512,
    "original_height": 384,
    "crop_left": 0,
    "crop_top": 40,
    "target_width": 2048,
    "target_height": 1536,
    "aesthetic_score": 7.25,
    "negative_aesthetic_score": 1.5,
}


@pytest.fixture
def xl_models(site: Site) -> Iterator[tuple[str, str]]:
    """Two SDXL models; nothing reads their weights here."""
    folders = []
    for name in ("xl", "xl-finisher"):
        folder = make_model(site.studio.settings.model_dirs[-1], name)
        write_safetensors(folder / "text_encoder_2" / "model.safetensors")
        (folder / "unet/config.json").write_text(json.dumps({"in_channels": 4, "cross_attention_dim": 2048}))
        encoders = {name: ["transformers", "CLIPTextModel"] for name in ("text_encoder", "text_encoder_2")}
        index = {"_class_name": "StableDiffusionXLPipeline", **encoders}
        (folder / "model_index.json").write_text(json.dumps(index))
        folders.append(folder)
    site.studio.models(fresh=True)
    yield "xl", "xl-finisher"
    for folder in folders:
        shutil.rmtree(folder)
    site.studio.models(fresh=True)


def test_a_refiner_is_chosen_and_taken_away(xl_models: tuple[str, str], visitor: Visitor) -> None:
    page = visitor.page
    part = page.locator("#refiner-section")
    expect(page.locator("#hires-section details")).to_be_visible()
    expect(part.locator("details")).to_be_hidden()  # nothing here could refine the starter
    fill(page, {**WORDS, "model": {"name": "xl", "family": "sdxl"}})
    part.locator("summary").click()
    expect(part.locator("[data-field='refiner.at']")).to_be_hidden()
    part.get_by_role("button", name="Refiner: None. Choose another").click()
    cards = page.locator("dialog[open] .card")
    expect(cards).to_have_count(1)  # neither the model itself nor one of other latents
    cards.click()
    expect(part.locator(".summary")).to_have_text("Xl-finisher from 0.8")
    share = part.get_by_role("textbox", name="Switch at")
    share.fill("1.5")
    share.blur()
    expect(part.locator("[data-field='refiner.at'] .problem")).to_be_visible()
    share.fill("0.6")
    made = sent(visitor)
    assert made.refiner is not None and (made.refiner.model.name, made.refiner.at) == ("xl-finisher", 0.6)
    part.get_by_role("button", name="No refiner").click()
    expect(part.locator(".summary")).to_have_text("")
    assert sent(visitor).refiner is None


def test_refiner_and_size_conditioning_come_out_as_they_went_in(xl_models: tuple[str, str], visitor: Visitor) -> None:
    page = visitor.page
    refiner = {"model": {"name": "xl-finisher", "family": "sdxl"}, "at": 0.35}
    model = {"name": "xl", "family": "sdxl"}
    fill(page, {**WORDS, "model": model, "refiner": refiner, "size_conditioning": TOLD})
    made = sent(visitor)
    assert made.refiner is not None and (made.refiner.model.name, made.refiner.at) == ("xl-finisher", 0.35)
    assert made.size_conditioning == SizeConditioning(**TOLD)  # type: ignore[arg-type]
    part = page.locator("#more-section details details")
    expect(part.locator(".summary")).to_have_text("8 set")
    part.locator("summary").click()
    expect(part.get_by_label("Crop top")).to_have_value("40")
    for name in TOLD:
        part.locator(f"[data-field='size_conditioning.{name}'] input").fill("")
    assert sent(visitor).size_conditioning is None


def test_what_no_model_here_is_told_is_not_shown(visitor: Visitor) -> None:
    page = visitor.page
    fill(page, {**WORDS, "size_conditioning": TOLD})
    expect(page.locator("#more-section details details")).to_be_hidden()
    assert sent(visitor).size_conditioning is None
