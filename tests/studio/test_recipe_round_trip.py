"""Every field of a recipe goes through `parameters` and through our own chunk and comes back, or has a reason not to.

The table is held against the contract's own fields: a new one fails here until it has a row.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from catalog.models import ModelEntry
from contract.parts import (
    Control,
    GuidanceMethod,
    Hires,
    HypernetworkUse,
    InitImage,
    IpAdapter,
    LoraUse,
    Mask,
    Outpaint,
    Refiner,
    SamplerSettings,
    SizeConditioning,
)
from contract.recipe import ModelKind, ModelRef, Recipe, RecipeDraft
from contract.regions import Region, Regions
from studio.library.model_list import ModelList
from studio.metadata import infotext
from studio.metadata.image_files import KEYWORD, PictureFacts
from studio.metadata.import_recipe import FoundRecipe, read_recipe
from tests.support.images import png

PICTURE = {"sha256": "0" * 64}
KINDS: dict[str, ModelKind] = {
    "starter": "checkpoint",
    "ink": "lora",
    "oil, pastel": "lora",
    "bend": "hypernetwork",
    "soft": "vae",
    "big": "upscaler",
    "canny": "controlnet",
    "eye": "ip_adapter",
    "style": "embedding",
}


def ref(name: str) -> dict[str, str]:
    return {"kind": KINDS[name], "name": name, "family": "sd1", "sha256": f"{sum(name.encode()):064x}"}


# Field -> a value that is not the default, and what `parameters` gives back where that is another shape.
PLAIN: dict[str, Any] = {
    "prompt": 'a barn, "quoted": (oil:1.2)\nsecond line, 桜 🌾 \\(brackets\\)',
    "negative_prompt": "blurry,\nSize: small",
    "prompt_2": "oil, (thick:1.2),\nPrompt 2: strokes",
    "negative_prompt_2": "",
    "clip_skip": 2,
    "emphasis": "no_norm",
    "tiling": "x",
    "template": {"prompt": "a {barn|fox}", "negative_prompt": "dull,\nSize: small", "styles": ["Ink", 'Soft, "light"']},
    "sampler": "dpmpp_2m",
    "schedule": "karras",
    "steps": 33,
    "guidance": 7.123456789,
    "width": 512,
    "height": 768,
    "seed": 2**64 - 1,
}
HIRES: dict[str, Any] = {
    "scale": 1.3333333333333333,
    "upscaler": "latent_nearest",
    "steps": 11,
    "strength": 0.123456789,
    "sampler": "euler_a",
    "schedule": "exponential",
    "guidance": 4.25,
    "guidance_methods": [{"id": "pag", "values": {"scale": 2.5, "adaptive": 0.001}}],
    "prompt": 'a barn, "finer": yes',
    "negative_prompt": "dull, flat",
}
WHOLE: dict[str, Any] = {
    **PLAIN,
    "schema_": 1,
    "count": 1,
    "model": ref("starter"),
    "vae": ref("soft"),
    "hires": HIRES,
    "extras": {"grain": {"a": 1}},
    "loras": [{"model": ref("ink"), "weight": 0.123456789, "text_weight": 0.5, "blocks": [0.25] * 17}],
    "hypernetworks": [{"model": ref("bend"), "weight": 0.3}],
    "embeddings": [ref("style")],
    "guidance_methods": [
        {"id": "pag", "values": {"scale": 2.123456789, "adaptive": 0.001}},
        {"id": "guidance_curve", "values": {"shape": "points", "end": 2.5, "points": "0:7, 1:2.5"}},
    ],
    "refiner": {"model": ref("starter"), "at": 0.7},
    "regions": {
        "base": 0.35,
        "common": False,
        "regions": [
            {
                "prompt": 'a fox, "quick", (red:1.2)',
                "negative_prompt": "dull, a hen",
                "weight": 0.8,
                "box": {"left": 0.125, "top": 0.25, "width": 0.5, "height": 0.7},
            },
            {"prompt": "a hen", "weight": 1.5, "box": {"left": 0.625, "top": 0.0, "width": 0.375, "height": 1.0}},
        ],
    },
    "size_conditioning": {
        "original_width": 512,
        "original_height": 384,
        "crop_left": 16,
        "crop_top": 40,
        "target_width": 2048,
        "target_height": 1536,
        "aesthetic_score": 7.25,
        "negative_aesthetic_score": 1.125,
    },
    "init_image": {
        "image": PICTURE,
        "strength": 0.4,
        "resize": "fill",
        "image_guidance": 2.5,
        "depth": PICTURE,
        "outpaint": {"left": 8, "right": 16, "up": 24, "down": 32, "overlap": 10, "content": "noise"},
    },
    "sampling": {
        "eta": 0.5,
        "s_churn": 3.0,
        "s_tmin": 0.1,
        "s_tmax": 9.5,
        "s_noise": 1.003,
        "sigma_min": 0.05,
        "sigma_max": 13.0,
        "rho": 5.5,
        "discard_penultimate": False,
    },
    "noise": {
        "source": "nv",
        "eta_seed_delta": 31337,
        "variation_seed": 2**64 - 1,
        "variation_strength": 0.123456789,
        "resize_width": 512,
        "resize_height": 640,
    },
    "mask": {
        "image": PICTURE,
        "blur": 9,
        "invert": True,
        "content": "noise",
        "area": "masked",
        "padding": 40,
        "keep_size": True,
        "soft": True,
    },
    "controls": [
        {
            "model": ref("canny"),
            "image": PICTURE,
            "preprocessor": "canny",
            "resolution": 256,
            "low": 10.0,
            "high": 90.0,
            "pixel_perfect": True,
            "resize": "fill",
            "weight": 0.7,
            "mode": "prompt",
            "control_type": "pose",
            "start": 0.1,
            "end": 0.9,
        }
    ],
    "ip_adapters": [{"model": ref("eye"), "image": PICTURE, "weight": 0.6, "start": 0.2, "end": 0.8}],
}
# Why a field does not come back through `parameters`: it belongs to a picture, which has no name there.
WITHOUT_NAME = {"init_image", "mask", "controls", "ip_adapters"}
BY_WORDS = {"embeddings", "schema_", "count"}  # found again by the prompts; always so in a picture's own recipe
OURS_ALONE = {"extras"}
KINDS_OF_PARTS: dict[str, type[BaseModel]] = {
    "hires": Hires,
    "sampling": SamplerSettings,
    "loras": LoraUse,
    "hypernetworks": HypernetworkUse,
    "guidance_methods": GuidanceMethod,
    "refiner": Refiner,
    "size_conditioning": SizeConditioning,
    "init_image": InitImage,
    "mask": Mask,
    "controls": Control,
    "ip_adapters": IpAdapter,
}
THROUGH = [name for name in Recipe.model_fields if name not in WITHOUT_NAME | BY_WORDS | OURS_ALONE]


def test_every_field_has_a_row_that_is_not_its_default() -> None:
    assert set(WHOLE) == set(Recipe.model_fields)
    for name, kind in KINDS_OF_PARTS.items():
        value = WHOLE[name][0] if isinstance(WHOLE[name], list) else WHOLE[name]
        assert set(value) == set(kind.model_fields), name
        defaults = {field: facts.default for field, facts in kind.model_fields.items() if not facts.is_required()}
        assert not [field for field, default in defaults.items() if value[field] == default], name
    assert set(WHOLE["init_image"]["outpaint"]) == set(Outpaint.model_fields)
    assert set(WHOLE["regions"]) == set(Regions.model_fields)
    region = WHOLE["regions"]["regions"][0]
    # A box or a mask, which has no name there; LoRAs come back as tags of its prompt (test_regions.py).
    assert {*region, "mask", "loras"} == set(Region.model_fields)


@pytest.fixture(scope="module")
def models() -> ModelList:
    entries = tuple(
        ModelEntry(ModelRef(kind=kind, name=name, family="sd1"), Path(name), name) for name, kind in KINDS.items()
    )

    class Library(ModelList):
        def all(self, *, fresh: bool = False) -> tuple[ModelEntry, ...]:
            return entries

    return Library(())


def recipe(**parts: Any) -> Recipe:
    plain = {**PLAIN, "model": ref("starter")}
    if "mask" in parts:
        del plain["tiling"]  # of a masked area there is no other side
    return Recipe.model_validate_json(json.dumps({**plain, **parts}))


def through_parameters(models: ModelList, made: Recipe) -> FoundRecipe:
    found = read_recipe(png(texts={"parameters": infotext.write(made)}), models, lambda sha256: None)
    assert found.draft is not None
    RecipeDraft.model_validate_json(json.dumps(found.draft))
    return found


def through_our_chunk(models: ModelList, made: Recipe) -> dict[str, Any]:
    facts = PictureFacts(
        id="0" * 22, job_id="0" * 22, job_image=0, created_at=1.0, owner_key="x", recipe=made, width=64, height=64
    )
    found = read_recipe(png(texts={KEYWORD: facts.to_json()}), models, lambda sha256: None)
    assert found.draft is not None and found.notices == ()
    RecipeDraft.model_validate_json(json.dumps(found.draft))
    return found.draft


@pytest.mark.parametrize("name", THROUGH)
def test_a_field_comes_back_through_parameters(models: ModelList, name: str) -> None:
    if name == "model":
        assert (through_parameters(models, recipe()).draft or {})["model"] == "starter"
        return
    draft = dict(through_parameters(models, recipe(**{name: WHOLE[name]})).draft or {})
    match name:
        case "vae":
            assert draft["vae"] == "soft"
        case "hires":
            assert draft["hires"] == HIRES
        case "refiner":
            assert draft["refiner"] == {"model": "starter", "at": 0.7}
        case "loras":
            assert str(draft["prompt"]).endswith(f" <lora:ink:0.5:0.123456789:lbw={','.join(['0.25'] * 17)}>")
        case "hypernetworks":
            assert str(draft["prompt"]).endswith(" <hypernet:bend:0.3>")
        case _:
            assert draft[name] == WHOLE[name]


@pytest.mark.parametrize("name", [*HIRES])
def test_each_field_of_a_hires_pass_comes_back_alone(models: ModelList, name: str) -> None:
    made = recipe(hires={name: HIRES[name]})
    draft = through_parameters(models, made).draft or {}
    wanted = json.loads(made.model_dump_json(include={"hires"}))["hires"]
    wanted = {key: value for key, value in wanted.items() if value is not None} | {
        "upscaler": draft["hires"]["upscaler"]
    }  # type: ignore[index]
    assert draft["hires"] == wanted


@pytest.mark.parametrize(("source", "index"), [("cpu", 0), ("comfyui", 3)])
def test_a_source_of_noise_comes_back(models: ModelList, source: str, index: int) -> None:
    noise = {"source": source, **({"batch_index": index} if index else {})}
    assert (through_parameters(models, recipe(noise=noise)).draft or {})["noise"] == noise


@pytest.mark.parametrize("name", sorted(WITHOUT_NAME))
def test_what_belongs_to_a_picture_is_written_and_named_when_it_is_read(models: ModelList, name: str) -> None:
    parts = {"init_image": {**WHOLE["init_image"], "outpaint": None}} if name in ("init_image", "mask") else {}
    found = through_parameters(models, recipe(**parts, **({} if name == "init_image" else {name: WHOLE[name]})))
    key = {
        "init_image": "Denoising strength",
        "mask": "Masked content",
        "controls": "ControlNet 0",
        "ip_adapters": "ControlNet 0",
    }[name]
    assert any("Not used" in notice and key in notice for notice in found.notices)


@pytest.mark.parametrize(
    "name", [name for name in Recipe.model_fields if name not in ("schema_", "embeddings", "model")]
)
def test_a_field_comes_back_through_our_own_chunk(models: ModelList, name: str) -> None:
    parts: dict[str, Any] = {name: WHOLE[name]}
    if name == "mask":
        parts["init_image"] = {**WHOLE["init_image"], "outpaint": None}
    made = recipe(**parts)
    draft = through_our_chunk(models, made)
    again = json.loads(RecipeDraft.model_validate_json(json.dumps(draft)).model_dump_json(by_alias=False))[name]
    wanted = json.loads(made.model_dump_json(by_alias=False))[name]
    assert list(named(again)) == list(named(wanted)), name


def named(value: Any) -> Iterator[str]:
    """A value as JSON lines; a model is its name, however it is told."""
    if isinstance(value, dict) and {"kind", "name"} <= value.keys():
        yield value["name"]
    elif isinstance(value, dict):
        for key in sorted(value):
            yield from (f"{key}.{line}" for line in named(value[key]))
    elif isinstance(value, list):
        for one in value:
            yield from named(one)
    else:
        yield value if isinstance(value, str) else json.dumps(value)


def test_start_and_hires_keep_a_strength_each(models: ModelList) -> None:
    text = infotext.write(recipe(init_image={"image": PICTURE, "strength": 0.4}, hires={"strength": 0.2}))
    assert "Denoising strength: 0.4" in text and "Hires strength: 0.2" in text
    found = read_recipe(png(texts={"parameters": text}), models, lambda sha256: None)
    assert found.draft and found.draft["hires"]["strength"] == 0.2  # type: ignore[index]


@pytest.mark.parametrize(
    "name", ["odd, name", "co:lon", 'quo"te', "桜", " spaced", "new\nline", "a\\b", "[1, 2]", '{"a": 1}', "Steps: 3"]
)
def test_names_with_any_letters_come_back(name: str) -> None:
    made = recipe(
        model={"name": name, "family": "sd1", "sha256": "a" * 64},
        hires={"prompt": name, "negative_prompt": name},
        vae={"kind": "vae", "name": name, "family": "sd1"},
    )
    pairs = infotext.parse_infotext(infotext.write(made)).pairs
    assert pairs["Model"] == pairs["VAE"] == pairs["Hires prompt"] == pairs["Hires negative prompt"] == name


def test_hashes_of_names_with_commas_and_colons_come_back() -> None:
    names = {"oil, pastel": "a" * 10, "co:lon": "b" * 10, "ink": "c" * 10}
    assert infotext.parse_hashes(", ".join(f"{name}: {digits}" for name, digits in names.items())) == names
