"""ControlNet-XS against the stock pipelines: final latents within 1e-4 of their size in float32."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from diffusers import ControlNetXSAdapter, UNet2DConditionModel
from torch import nn

from catalog.models import ModelEntry, describe
from contract.errors import InvalidRecipe
from contract.recipe import Recipe
from engine.models.manager import ModelManager
from tests.engine.conftest import CPU
from tests.parity.test_controls import HINT, HINT_REF, OTHER_REF, START_REF, our_latents
from tests.parity.test_start_pictures import set_scheduler
from tests.parity.test_stock_pipelines import TOLERANCE

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
Latents = Callable[..., tuple[torch.Tensor, Recipe, Any]]
LEARNS = {"learn_time_embedding": True, "time_embedding_mix": 0.4}


@pytest.fixture(scope="module")
def models_with_xs(entries: dict[str, ModelEntry], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelEntry]:
    """Models whose U-Nets have two layers a block, the only ones that there are adapters for, and their adapters."""
    root, found = tmp_path_factory.mktemp("xs"), {}
    for kind in ("sd1", "sdxl"):
        folder = root / kind
        shutil.copytree(entries[kind].path, folder)
        config = UNet2DConditionModel.load_config(str(folder / "unet"))
        torch.manual_seed(11)
        unet = UNet2DConditionModel.from_config({**config, "layers_per_block": 2})
        unet.save_pretrained(folder / "unet", safe_serialization=True)
        found[kind] = describe(folder, f"{kind}_two")
        for name, more in {"xs": {}, "xs learns": {**LEARNS, "conditioning_channel_order": "bgr"}}.items():
            adapter = ControlNetXSAdapter.from_unet(
                unet, size_ratio=0.5, conditioning_embedding_out_channels=(4, 8, 8, 8), **more
            )
            for weight in adapter.parameters():  # zero convolutions say something here
                if not weight.detach().any():
                    nn.init.normal_(weight, std=0.2)
            adapter.save_pretrained(root / f"{name} {kind}", safe_serialization=True)
            entry = describe(root / f"{name} {kind}", f"{name} {kind}")
            assert (entry.problem, entry.detail) == (None, "ControlNet-XS")
            # Models as small as these can't be told by their widths.
            found[f"{name} {kind}"] = replace(entry, ref=entry.ref.model_copy(update={"family": kind}))
    return found


@pytest.fixture(scope="module")
def latents(models_with_xs: dict[str, ModelEntry], make_recipe: Callable[..., Recipe]) -> Latents:
    models = ModelManager(CPU)

    def made(kind: str, *units: dict[str, object], **more: object) -> tuple[torch.Tensor, Recipe, Any]:
        named = [
            {**unit, "model": models_with_xs[f"{unit['model']} {kind}"].ref} if "model" in unit else unit
            for unit in units
        ]
        controls = tuple({"image": HINT_REF, **unit} for unit in named)
        entry = models_with_xs[kind]
        recipe = make_recipe(kind, **{"controls": controls, "guidance": 2.0, "steps": 2, **more})
        recipe = recipe.model_copy(update={"model": entry.ref})
        return (*our_latents(recipe, entry, models_with_xs, models)[:1], recipe, entry)

    return made


MODES: dict[str, tuple[str, dict[str, object], dict[str, Any]]] = {
    "one": ("sd1", {"model": "xs", "weight": 0.7}, {"controlnet_conditioning_scale": 0.7}),
    "time embedding, channels the other way": ("sd1", {"model": "xs learns"}, {}),
    "in a span": (
        "sd1",
        {"model": "xs", "end": 0.6},
        {"control_guidance_end": 0.6},
    ),
    "SDXL": ("sdxl", {"model": "xs learns"}, {}),
}


@pytest.mark.parametrize("name", MODES)
def test_latents_are_the_stock_pipelines(name: str, latents: Latents, models_with_xs: dict[str, ModelEntry]) -> None:
    kind, unit, told = MODES[name]
    ours, recipe, entry = latents(kind, unit)
    xl = "XL" if kind == "sdxl" else ""
    base = getattr(diffusers, f"StableDiffusion{xl}Pipeline")
    parts = base.from_pretrained(str(entry.path), local_files_only=True).components
    kept = {part: value for part, value in parts.items() if part not in ("image_encoder", "feature_extractor")}
    if not xl:
        kept |= {"safety_checker": None, "feature_extractor": None}
    adapter = ControlNetXSAdapter.from_pretrained(str(models_with_xs[f"{unit['model']} {kind}"].path))
    pipe = getattr(diffusers, f"StableDiffusion{xl}ControlNetXSPipeline")(**kept, controlnet=adapter)
    pipe.set_progress_bar_config(disable=True)
    pipe.first_config = dict(pipe.scheduler.config)
    set_scheduler(pipe, recipe, None)
    theirs = pipe(
        recipe.prompt,
        negative_prompt=recipe.negative_prompt,
        image=HINT,
        guidance_scale=recipe.guidance,
        num_inference_steps=recipe.steps,
        generator=torch.Generator().manual_seed(recipe.seed),
        output_type="latent",
        **{"controlnet_conditioning_scale": 1.0, **told},
    ).images
    assert (ours - theirs).abs().max() <= TOLERANCE * max(1.0, float(theirs.std()))
    if name == "one":
        assert (ours - latents(kind)[0]).abs().max() > 1e-2


def test_it_acts_on_the_prompt_alone_beside_others_and_leaves_nothing(latents: Latents) -> None:
    unit = {"model": "xs"}
    plain = latents("sd1")[0]
    made = [latents("sd1", {**unit, "mode": mode})[0] for mode in ("balanced", "control")]
    made.append(latents("sd1", unit, {**unit, "image": OTHER_REF})[0])
    made.append(latents("sd1", unit, {"preprocessor": "reference_only"})[0])
    start = {"init_image": {"image": START_REF, "strength": 1.0}}
    made.append(latents("sd1", unit, **start)[0])
    assert all(torch.isfinite(one).all() for one in made)
    assert not any(torch.equal(one, other) for number, one in enumerate(made) for other in (plain, *made[:number]))
    assert torch.equal(latents("sd1", {**unit, "weight": 0.0})[0], plain)
    assert torch.equal(latents("sd1")[0], plain)


def test_one_for_another_u_net_is_refused(
    latents: Latents, entries: dict[str, ModelEntry], models_with_xs: dict[str, ModelEntry]
) -> None:
    """The tiny U-Nets of other tests have one layer a block."""
    with pytest.raises(InvalidRecipe, match="layers_per_block is 2 and the model's 1") as caught:
        ref = models_with_xs["xs sd1"].ref
        recipe = latents("sd1", steps=1)[1].model_copy(update={"model": entries["sd1"].ref})
        unit = {"model": ref, "image": HINT_REF}
        recipe = Recipe.model_validate({**dict(recipe), "controls": (unit,)})
        our_latents(recipe, entries["sd1"], models_with_xs, ModelManager(CPU))
    assert caught.value.field == "controls.model"
