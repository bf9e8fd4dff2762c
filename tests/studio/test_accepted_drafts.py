"""What a file gives back can be posted, whatever stands in it; what was replaced or left out is said."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from contract.hooks import hookimpl
from contract.recipe import Recipe, RecipeDraft
from studio.metadata.image_files import KEYWORD, PictureFacts
from studio.studio import Studio
from tests.studio.conftest import ME
from tests.support.images import png
from tests.support.model_folders import make_lora, make_model


@pytest.fixture
def studio(make_studio: Callable[..., Studio], tmp_path: Any) -> Studio:
    make_model(tmp_path / "models", "zero", zero_snr=True)
    make_model(tmp_path / "models", "starter")
    make_lora(tmp_path / "models" / "loras", "ink")
    make_lora(tmp_path / "models" / "loras", "ink_xl", width=2048)
    (tmp_path / "models" / "loras" / "broken.safetensors").write_bytes(b"x" * 40)
    return make_studio()


def posted(studio: Studio, texts: dict[str, str]) -> tuple[dict[str, Any], str]:
    """The draft that a picture gives, posted as it is; and all that was said."""
    found = studio.read_recipe(png(texts=texts), ME)
    assert found.draft is not None
    studio.submit(RecipeDraft.model_validate_json(json.dumps(found.draft)), ME)
    return found.draft, " ".join(found.notices)


@pytest.mark.parametrize(
    ("pairs", "words", "fields"),
    [
        (
            "Sampler: Euler, Schedule type: Karras, Model: zero",
            "Automatic is used.",
            {"sampler": "euler", "schedule": "automatic"},
        ),
        (
            "Sampler: DPM++ 2M Karras, Model: zero",
            "Automatic is used.",
            {"sampler": "dpmpp_2m", "schedule": "automatic"},
        ),
        ("Sampler: DDIM, Schedule type: Uniform, Model: zero", "Automatic is used.", {"sampler": "ddim"}),
        ("Sampler: LCM, Schedule type: Karras", "does not go with LCM; Automatic is used", {"schedule": "automatic"}),
        ("Hires upscale: 2, Hires sampler: Euler, Hires schedule type: Karras, Model: zero", "hires pass", {}),
        ("Hires upscale: 2, Hires sampler: LCM, Hires schedule type: Karras", "hires pass", {}),
        ("Hires upscale: 8, Hires upscaler: Lanczos", "is used", {}),
        ("Hires upscale: 1.5, Hires steps: 900", "Hires steps is 900", {}),
        ("Hires upscale: 1.5, Hires CFG Scale: 99", "99", {}),
        ("Steps: 999", "Steps is 999", {}),
        ("CFG scale: 35", "Guidance is 35", {}),
        ("Sampler: LCM Karras", "Schedule “Karras” does not go with LCM", {"sampler": "lcm"}),
        ("Clip skip: 12", "Clip skip is 12", {}),
        ("Clip skip: False", "", {}),
        ("Sampler: Undefined", "Undefined", {}),
        ("Seed: -1", "Seed", {}),
        ("Size: 500x500", "496 × 496", {"width": 496}),
        ("Size: 5000x100", "2048", {}),
        ("Size: 2048x2048", "", {}),
        ("Size: 8x8", "Width", {}),
        ("VAE: gone.safetensors", "gone", {}),
        ("VAE: ink", "VAE “ink” is not here", {}),
        ("Hypernet: gone", "gone", {}),
        ("Model: ink", "not here", {}),
        ("Model: broken", "not here", {}),
        ("Refiner: x [abc], Refiner switch at: 0.8", "Refiner “x” is not here", {}),
        ("Refiner: zero, Refiner switch at: 0.6", "", {"refiner": {"model": "zero", "at": 0.6}}),
    ],
)
def test_what_an_infotext_gives_is_accepted(studio: Studio, pairs: str, words: str, fields: dict[str, Any]) -> None:
    first = "" if "Size" in pairs else ", Size: 512x512"
    draft, said = posted(studio, {"parameters": f"a barn\nENSD: 1, RNG: CPU{first}, {pairs}"})
    assert words in said and fields.items() <= draft.items()


@pytest.mark.parametrize(
    ("prompt", "kept", "words"),
    [
        ("a barn <lora:ink:0.5>", "a barn <lora:ink:0.5>", ""),
        ("a barn <lora:gone:0.5>, oil", "a barn, oil", "LoRA “gone” is not here"),
        ("a <lora:ink_xl:1> barn", "a barn", "is for SDXL"),
        ("a barn <lora:broken:1>", "a barn", "out of the prompt"),
        ("a barn <lora:ink:99>", "a barn", "weight"),
        ("a barn <lora:ink:abc>", "a barn", "weight"),
        ("a barn <lora:ink:1:2:3:4>", "a barn", "not known"),
        ("a barn <lora:ink:1:lbw=1,2>", "a barn", "block weights"),
        ("a barn <hypernet:gone:1>", "a barn", "Hypernetwork “gone”"),
        ("a barn <lora:../../etc/passwd:1>", "a barn", "not here"),
        ("<lora:ink_xl:1><lora:broken:1>a barn<lora:ink:1>", "a barn<lora:ink:1>", "SDXL"),
    ],
)
def test_tags_that_would_be_refused_are_taken_out(studio: Studio, prompt: str, kept: str, words: str) -> None:
    for key in ("prompt", "negative"):
        body = f"{prompt}\n" if key == "prompt" else f"x\nNegative prompt: {prompt}\n"
        draft, said = posted(studio, {"parameters": f"{body}Steps: 4, Seed: 1, Size: 64x64"})
        assert draft["prompt" if key == "prompt" else "negative_prompt"] == kept and words in said


@pytest.mark.parametrize(
    "text",
    [
        "(a barn:" + "9" * 400 + ")",
        "(((a:1e3) barn:" + "9" * 200 + "):" + "9" * 200 + ")",
        "(" * 9000 + "barn",
        "[a:(barn:" + "9" * 400 + "):2]",
    ],
)
def test_weights_beyond_every_number_are_taken_out_and_said(studio: Studio, text: str) -> None:
    for body, name in ((text, "prompt"), (f"x\nNegative prompt: {text}", "negative_prompt")):
        draft, said = posted(studio, {"parameters": f"{body}\nSteps: 4, Seed: 1, Size: 64x64"})
        assert "barn" in draft[name] and "taken out" in said
    draft, said = posted(
        studio, {"parameters": f"a\nSteps: 4, Seed: 1, Size: 64x64, Hires upscale: 2, Hires prompt: {json.dumps(text)}"}
    )
    assert "barn" in draft["hires"]["prompt"] and "taken out" in said


def test_an_extension_that_fails_takes_nothing_out_of_what_was_read(studio: Studio) -> None:
    def adjust_recipe(draft: RecipeDraft) -> RecipeDraft:
        raise ValueError("no")

    studio.extensions.register(type("Odd", (), {"adjust_recipe": staticmethod(hookimpl(adjust_recipe))}), "odd")
    found = studio.read_recipe(
        png(texts={"parameters": "a barn\nSteps: 4, Sampler: Euler, CFG scale: 5, Seed: 1, Size: 64x64"}), ME
    )
    assert {"steps", "sampler", "guidance", "seed", "width"} <= (found.draft or {}).keys() and found.notices == ()


GONE = {"sha256": "0" * 64}


def ref(name: str, kind: str = "checkpoint") -> dict[str, str]:
    return {"kind": kind, "name": name, "family": "sd1"}


@pytest.mark.parametrize(
    ("parts", "left_out"),
    [
        ({"init_image": {"image": GONE}}, ["init_image"]),
        ({"init_image": {"image": GONE}, "mask": {"image": GONE}}, ["init_image", "mask"]),
        ({"controls": [{"model": ref("canny", "controlnet"), "image": GONE}]}, ["controls"]),
        ({"ip_adapters": [{"model": ref("eye", "ip_adapter"), "image": GONE}]}, ["ip_adapters"]),
        ({"refiner": {"model": ref("zero")}}, []),
        ({"refiner": {"model": ref("starter")}}, ["refiner"]),
        ({"vae": ref("gone", "vae")}, ["vae"]),
        ({"hires": {"upscaler": ref("gone", "upscaler")}}, []),
        ({"sampler": "tomorrow"}, ["sampler"]),
        ({"schedule": "tomorrow"}, []),
        ({"model": ref("zero"), "schedule": "karras"}, []),
        ({"loras": [{"model": ref("ink_xl", "lora")}, {"model": ref("ink", "lora")}]}, []),
        ({"loras": [{"model": ref("broken", "lora")}]}, ["loras"]),
        ({"hypernetworks": [{"model": ref("ink", "hypernetwork")}]}, ["hypernetworks"]),
    ],
)
def test_what_our_own_chunk_gives_is_accepted(studio: Studio, parts: dict[str, Any], left_out: list[str]) -> None:
    recipe = Recipe.model_validate_json(
        json.dumps(
            {
                "prompt": "a barn",
                "model": ref("starter"),
                "sampler": "euler",
                "schedule": "uniform",
                "steps": 4,
                "guidance": 7.0,
                "width": 64,
                "height": 64,
                "seed": 1,
                **parts,
            }
        )
    )
    facts = PictureFacts(
        id="0" * 22, job_id="0" * 22, job_image=0, created_at=1.0, owner_key="x", recipe=recipe, width=64, height=64
    )
    draft, said = posted(studio, {KEYWORD: facts.to_json()})
    assert not set(left_out) & set(draft) and draft["prompt"] == "a barn" and (said or "refiner" in draft)


def test_without_any_model_the_draft_is_given_as_it_is(make_studio: Callable[..., Studio], tmp_path: Any) -> None:
    empty = tmp_path / "none"
    empty.mkdir()
    found = make_studio(model_dirs=(empty,)).read_recipe(png(texts={"parameters": "a barn"}), ME)
    assert found.draft == {"prompt": "a barn"}
