"""Every file that a recipe names carries its sha256 once it is known."""

import json

from contract.recipe import ImageRef, ModelKind, ModelRef, Recipe
from contract.tasks import Upscale
from contract.work import path_key
from studio.metadata.recipe_hashes import with_hashes, with_upscaler_hash


def ref(kind: ModelKind) -> dict[str, str]:
    return {"kind": kind, "name": f"a {kind}", "family": "sd1"}


def test_every_model_of_a_recipe_gets_its_hash() -> None:
    picture = {"sha256": "0" * 64}
    recipe = Recipe.model_validate_json(
        json.dumps(
            {
                "prompt": "",
                "model": ref("checkpoint"),
                "vae": ref("vae"),
                "sampler": "euler",
                "schedule": "simple",
                "steps": 2,
                "guidance": 2,
                "width": 64,
                "height": 64,
                "seed": 1,
                "loras": [{"model": ref("lora")}],
                "hypernetworks": [{"model": ref("hypernetwork")}],
                "embeddings": [ref("embedding")],
                "controls": [{"image": picture, "model": ref("controlnet")}],
                "ip_adapters": [{"image": picture, "model": ref("ip_adapter")}],
                "hires": {"upscaler": ref("upscaler")},
            }
        )
    )
    known = {path_key(found): f"{number:064}" for number, found in enumerate(recipe.models)}
    assert len(known) == 8
    assert {path_key(found): found.sha256 for found in with_hashes(recipe, known).models} == known
    assert with_hashes(recipe, {}) == recipe


def test_an_enlargement_gets_its_upscalers_hash() -> None:
    model = ModelRef(kind="upscaler", name="esrgan", family="upscaler")
    task = Upscale(image=ImageRef(sha256="0" * 64), upscaler=model)
    made = with_upscaler_hash(task, {path_key(model): "a" * 64})
    assert made.models[0].sha256 == "a" * 64
    built_in = task.model_copy(update={"upscaler": "lanczos"})
    assert with_upscaler_hash(built_in, {path_key(model): "a" * 64}) == built_in
