"""What a picture was made with goes into the form and out again whole; what can't is said."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from pydantic import BaseModel

from contract.parts import (
    Control,
    Hires,
    InitImage,
    IpAdapter,
    LoraUse,
    Mask,
    NoiseSettings,
    Outpaint,
    SamplerSettings,
)
from contract.recipe import Recipe, RecipeDraft
from tests.support.browser_site import Site, Visitor
from tests.support.browser_uploads import painted, picture_bytes
from tests.support.model_folders import make_lora

FILL = Path(__file__).parents[2] / "tabs" / "page" / "form/recipe_fill.js"
WORDS = {
    "prompt": "a barn",
    "negative_prompt": "blurry",
    "sampler": "dpmpp_2m",
    "schedule": "sgm_uniform",
    "steps": 7,
    "guidance": 5.5,
    "clip_skip": 2,
    "emphasis": "comfyui",
    "tiling": "y",
    "width": 128,
    "height": 192,
    "seed": 2**60 + 1,
    "count": 2,
}
HIRES = {
    "scale": 1.5,
    "upscaler": "lanczos",
    "steps": 3,
    "strength": 0.35,
    "sampler": "euler",
    "schedule": "simple",
    "guidance": 4.5,
    "guidance_methods": ({"id": "pag", "values": {"scale": 2.0}},),
    "prompt": "a barn, finer",
    "negative_prompt": "dull",
}
START = {"strength": 0.6, "resize": "fill"}
MASK = {"blur": 9, "invert": False, "content": "noise", "area": "masked", "padding": 40, "soft": True}
CONTROL = {
    "model": "canny-small",
    "preprocessor": "canny",
    "resolution": 256,
    "low": 60.0,
    "high": 180.0,
    "resize": "fill",
    "weight": 0.7,
    "mode": "control",
    "start": 0.1,
    "end": 0.8,
    "pixel_perfect": False,
}
SAMPLING = {
    "eta": 0.5,
    "s_churn": 3.0,
    "s_tmin": 0.1,
    "s_tmax": 9.5,
    "s_noise": 1.003,
    "sigma_min": 0.05,
    "sigma_max": 13.0,
    "rho": 5.5,
    "discard_penultimate": True,
}
NOISE = {
    "source": "nv",
    "eta_seed_delta": 31337,
    "variation_seed": 2**60 + 3,
    "variation_strength": 0.25,
    "walk_from": 0.05,
    "resize_width": 128,
    "resize_height": 64,
}
LORA = {"weight": 0.7, "text_weight": 0.4, "blocks": [0.5] * 12}
# What the form keeps apart: pictures, models, what is found again by itself, or has a test of its own (`test_sizes.py`).
APART = {
    "schema_",
    "model",
    "init_image.image",
    "init_image.depth",
    "init_image.image_guidance",
    "init_image.outpaint",
    "mask.image",
    "mask.keep_size",
    "controls.image",
    "controls.control_type",
    "embeddings",
    "refiner",  # test_refiner.py
    "size_conditioning",
    "extras",
    "vae",
    "hypernetworks",
    "guidance_methods",  # test_guidance.py
    "regions",  # test_regions.py
    "ip_adapters",
    "loras.model",
    "prompt_2",  # for families with two text encoders: a test of its own
    "negative_prompt_2",
    "parent",
    "template",
}


def test_every_field_of_a_recipe_has_its_row_here() -> None:
    """A new field fails here until the form has a place for it, or says that it has none."""
    parts: Mapping[str, tuple[type[BaseModel], Mapping[str, Any]]] = {
        "hires": (Hires, HIRES),
        "sampling": (SamplerSettings, SAMPLING),
        "noise": (NoiseSettings, NOISE | {"batch_index": 0}),  # which goes with ComfyUI's noise alone
        "init_image": (InitImage, START),
        "mask": (Mask, MASK),
        "controls": (Control, CONTROL),
        "loras": (LoraUse, LORA),
    }
    missing = {name for name in Recipe.model_fields if name not in WORDS and name not in parts and name not in APART}
    for part, (kind, values) in parts.items():
        missing |= {
            f"{part}.{name}" for name in kind.model_fields if name not in values and f"{part}.{name}" not in APART
        }
    assert not missing
    assert set(Outpaint.model_fields) == {"left", "right", "up", "down", "overlap", "content"}
    assert set(IpAdapter.model_fields) == {"image", "weight", "model", "start", "end"}
    known = set(re.findall(r'"(\w+)"', FILL.read_text("utf-8").split("const KNOWN")[1].split("]);")[0]))
    known |= {
        "prompt",
        "negative_prompt",
        "sampler",
        "schedule",
        "steps",
        "guidance",
        "clip_skip",
        "emphasis",
        "width",
        "height",
    }
    assert {name.rstrip("_") for name in RecipeDraft.model_fields} == known


@pytest.fixture
def lora(site: Site) -> Iterator[str]:
    path = make_lora(site.studio.settings.model_dirs[-1] / "loras", "ink")
    site.studio.models(fresh=True)
    yield "ink"
    path.unlink()
    site.studio.models(fresh=True)


def fill(page: Page, recipe: Mapping[str, Any]) -> None:
    """Let the page read a picture of which the server says that it was made so."""
    page.route(
        "**/api/v1/recipes/read",
        lambda route: route.fulfill(
            json={
                "draft": {**recipe, "seed": str(recipe["seed"])},
                "infotext": None,
                "unknown": [],
                "notices": ["A notice."],
            }
        ),
    )
    page.get_by_text("More", exact=True).click()
    page.locator("#more-section input[type=file]").set_input_files(
        {"name": "barn.png", "mimeType": "image/png", "buffer": picture_bytes()}
    )
    expect(page.locator(".undo-bar")).to_contain_text("Settings of barn.png are in the form. A notice.")


def sent(visitor: Visitor) -> Recipe:
    before = len(painted(visitor.site))
    visitor.page.click("#generate")
    visitor.page.wait_for_function("darkroom.job.view.get().phase === 'done'")
    assert len(painted(visitor.site)) == before + 1
    return painted(visitor.site)[-1]


def test_words_numbers_and_a_hires_pass_come_out_as_they_went_in(visitor: Visitor) -> None:
    fill(visitor.page, {**WORDS, "hires": HIRES})
    made = sent(visitor).model_dump()
    assert {name: made[name] for name in WORDS} == WORDS
    assert made["hires"] == HIRES


def test_only_a_model_with_two_text_encoders_shows_second_prompts(visitor: Visitor) -> None:
    page, second = visitor.page, {"prompt_2": "oil", "negative_prompt_2": "(dull:1.2)"}
    fill(page, {**WORDS, **second})
    prompt = page.locator("#more-section [data-field=prompt_2] input")
    expect(prompt).to_be_hidden()
    assert sent(visitor).prompt_2 is None
    page.evaluate(
        "darkroom.form.set({ ...darkroom.form.get(), model: { ...darkroom.form.get().model, family: 'sdxl' } })"
    )
    expect(prompt).to_have_value("oil")
    expect(page.locator("#more-section .summary").first).to_contain_text("second prompt")
    prompt.fill("")
    page.click("#generate")
    refusal = page.locator("#more-section [data-field=negative_prompt_2] .problem")
    expect(refusal).to_contain_text("has one text encoder")  # the model's own family is SD 1.x


@pytest.mark.parametrize(
    ("sampler", "schedule", "names"),
    [
        ("euler", "simple", ("s_churn", "s_tmin", "s_tmax", "s_noise")),
        ("euler_a", "simple", ("eta", "s_noise", "discard_penultimate")),
    ],
)
def test_settings_and_noise_come_out_as_they_went_in(
    sampler: str, schedule: str, names: tuple[str, ...], visitor: Visitor
) -> None:
    sampling = {name: SAMPLING[name] for name in names}
    noise = {**NOISE, "variation_seed": str(NOISE["variation_seed"])}
    fill(visitor.page, {**WORDS, "sampler": sampler, "schedule": schedule, "sampling": sampling, "noise": noise})
    made = sent(visitor)
    assert made.sampling == SamplerSettings(**sampling)  # type: ignore[arg-type]
    assert made.noise == NoiseSettings(**NOISE)  # type: ignore[arg-type]


def test_comfyuis_place_in_the_batch_comes_out_as_it_went_in(visitor: Visitor) -> None:
    fill(visitor.page, {**WORDS, "noise": {"source": "comfyui", "batch_index": 3}})
    assert sent(visitor).noise == NoiseSettings(source="comfyui", batch_index=3)


def bring(page: Page, size: tuple[int, int] = (128, 192), shade: str = "") -> str:
    """A picture that this visitor brought, by its sha256."""
    sha256: str = page.evaluate(
        """async ([bytes]) => (await (await fetch("/api/v1/uploads", { method: "POST",
      body: new Blob([new Uint8Array(bytes)], { type: "image/png" }) })).json()).sha256""",
        [list(picture_bytes(*size))],
    )
    return sha256


def test_a_start_picture_a_mask_and_a_lora_come_out_as_they_went_in(visitor: Visitor, lora: str) -> None:
    page = visitor.page
    image = {"image": {"sha256": bring(page)}}
    words = {name: value for name, value in WORDS.items() if name != "tiling"}  # of a masked area there is none
    fill(page, {**words, "init_image": START | image, "mask": MASK | image, "loras": [{**LORA, "model": lora}]})
    expect(page.get_by_role("tab", name="Inpaint")).to_have_attribute("aria-selected", "true")
    page.wait_for_function("!document.querySelector('.workspace-busy')")
    made = sent(visitor).model_dump()
    assert {name: made[name] for name in words} == words
    assert {name: made["init_image"][name] for name in START} == START and made["init_image"]["image"] == image["image"]
    assert {name: made["mask"][name] for name in MASK} == MASK
    (one,) = made["loras"]
    assert {**one, "blocks": list(one["blocks"]), "model": one["model"]["name"]} == {**LORA, "model": lora}


def test_a_control_comes_out_as_it_went_in(visitor: Visitor) -> None:
    page = visitor.page
    image = {"image": {"sha256": bring(page)}}
    fill(page, {**WORDS, "controls": [CONTROL | image]})
    expect(page.get_by_role("tab", name="ControlNet")).to_have_attribute("aria-selected", "true")
    (made,) = sent(visitor).model_dump()["controls"]
    assert {name: made[name] for name in CONTROL if name != "model"} == {
        n: v for n, v in CONTROL.items() if n != "model"
    }
    assert made["image"] == image["image"]


def test_what_the_form_has_no_place_for_is_said(visitor: Visitor) -> None:
    page = visitor.page
    fill(
        page,
        {
            **WORDS,
            "schedule": "exponential",
            "extras": {"grain": {"a": 1}},
            "tomorrow": 1,
        },
    )
    for words in (
        "Exponential does not go with DPM++ 2M on this model; Automatic is used.",
        "settings of grain",
        "Not in the form: tomorrow.",
    ):
        expect(page.locator(".undo-bar")).to_contain_text(words)


def test_a_form_that_a_browser_kept_under_the_names_of_before_is_taken_over(visit: Callable[..., Visitor]) -> None:
    visitor = visit(in_new_profile=True)
    former = {
        "start.strength": "0.35",
        "start.extend.left": "64",
        "mask.feather": "11",
        "references": [{"model": "", "image": None, "weight": "0.6", "begin": "0.2", "end": "1"}],
        "controls": [
            {"model": "", "image": None, "map": None, "weight": "1", "begin": "0.1", "end": "0.9", "shows": "pose"}
        ],
        "prompt": "a barn",
    }
    visitor.context.add_init_script(
        f"sessionStorage.removeItem('darkroom.form'); localStorage.setItem('darkroom.form', {json.dumps(json.dumps(former))});"
    )
    page = visitor.window()
    page.wait_for_function("Boolean(darkroom.form?.get?.().prompt)")
    form = page.evaluate("darkroom.form.get()")
    assert (form["prompt"], form["init_image.strength"], form["init_image.outpaint.left"]) == ("a barn", "0.35", "64")
    assert form["mask.blur"] == "11"
    (control,), (ip_adapter,) = form["controls"], form["ip_adapters"]
    assert (control["start"], control["end"], control["control_type"]) == ("0.1", "0.9", "pose")
    assert (ip_adapter["start"], ip_adapter["weight"]) == ("0.2", "0.6")
    assert not {"begin", "shows"} & {*control, *ip_adapter}
    assert not [name for name in form if name.startswith("start.")] and "references" not in form
