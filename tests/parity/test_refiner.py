"""The SDXL refiner against diffusers: alone on a picture, and as the second half of an ensemble.

Latents within 1e-4 of their size in float32. diffusers' refiner begins with a fresh solver, ours goes on with the one
there is: so the ensemble is compared with Euler and DDIM, which remember nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline

from catalog.models import ModelEntry
from contract.recipe import Recipe
from engine.adapters.prompt_encoder import EmbeddingCache
from engine.job_models import SecondModel
from engine.models.manager import ModelManager
from engine.pipeline import PassInputs, Progress, first_noise, plan_image, run_pass
from engine.sampling.noise import OwnNoise
from tests.engine.conftest import CPU
from tests.parity.test_start_pictures import IMAGES, PICTURE, PICTURE_REF, no_enlarging
from tests.parity.test_stock_pipelines import TOLERANCE, stock_scheduler

STEPS = 6
TOLD = {
    "original_width": 512,
    "original_height": 384,
    "crop_left": 16,
    "crop_top": 40,
    "target_width": 128,
    "target_height": 96,
    "aesthetic_score": 7.5,
    "negative_aesthetic_score": 1.5,
}
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("most_likely_latents"),
]
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def pipes(entries: dict[str, ModelEntry]) -> Iterator[dict[str, Any]]:
    made = {}
    for kind, cls in (("sdxl", StableDiffusionXLPipeline), ("sdxl_refiner", StableDiffusionXLImg2ImgPipeline)):
        made[kind] = cls.from_pretrained(str(entries[kind].path), local_files_only=True)
        made[kind].set_progress_bar_config(disable=True)
        made[kind].first_config = dict(made[kind].scheduler.config)
    yield made


@pytest.fixture(scope="module")
def lender() -> ModelManager:
    return ModelManager(CPU)


def our_latents(recipe: Recipe, entries: dict[str, ModelEntry], models: ModelManager) -> torch.Tensor:
    entry = entries[recipe.model.name]
    with models.lease(entry.ref, str(entry.path)) as bundle, ExitStack() as leases:
        second = None
        if recipe.refiner:
            refiner = entries[recipe.refiner.model.name]
            second = SecondModel((refiner.ref, str(refiner.path)), bundle, models, False, leases)
        inputs = PassInputs(IMAGES, EmbeddingCache(), no_enlarging, second_model=second)
        *_, last = run_pass(plan_image(recipe, bundle, inputs), recipe, inputs)
        assert isinstance(last, Progress)
        return last.step.latents


def differs(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1))


def call(pipe: Any, recipe: Recipe, sampler: str, told: dict[str, Any], **more: Any) -> torch.Tensor:
    pipe.scheduler, _ = stock_scheduler(sampler, recipe.schedule, pipe.first_config)
    sizes = {}
    if told:
        sizes = {
            "original_size": (told["original_height"], told["original_width"]),
            "crops_coords_top_left": (told["crop_top"], told["crop_left"]),
            "target_size": (told["target_height"], told["target_width"]),
        }
        for name in ("original_size", "crops_coords_top_left", "target_size"):
            sizes[f"negative_{name}"] = sizes[name]
        if "image" in more:
            sizes |= {name: told[name] for name in ("aesthetic_score", "negative_aesthetic_score")}
    latents: torch.Tensor = pipe(
        recipe.prompt,
        negative_prompt=recipe.negative_prompt or None,
        guidance_scale=recipe.guidance,
        output_type="latent",
        generator=torch.Generator().manual_seed(recipe.seed),
        num_inference_steps=recipe.steps,
        **sizes,
        **more,
    ).images
    return latents


@pytest.mark.parametrize(("negative", "told"), [("dog", {}), ("", TOLD)], ids=["as it is", "told"])
def test_a_picture_refined_alone(
    negative: str, told: dict[str, Any], entries: Any, pipes: Any, lender: ModelManager, make_recipe: Make
) -> None:
    more = {"schedule": "uniform", "steps": STEPS, "negative_prompt": negative, "size_conditioning": told or None}
    start = {"image": PICTURE_REF, "strength": 0.5}
    recipe = make_recipe("sdxl_refiner", init_image=start, **more)
    theirs = call(pipes["sdxl_refiner"], recipe, "euler", told, image=PICTURE, strength=0.5)
    ours = our_latents(recipe, entries, lender)
    assert differs(ours, theirs) < TOLERANCE
    if told:
        plain = recipe.model_copy(update={"size_conditioning": None})
        assert differs(our_latents(plain, entries, lender), theirs) > TOLERANCE


@pytest.mark.parametrize(
    ("sampler", "schedule", "at", "told"),
    [("euler", "uniform", 0.5, {}), ("euler", "karras", 0.8, TOLD), ("ddim", "uniform", 0.25, {})],
)
def test_an_ensemble_switches_at_a_noise_level(
    sampler: str, schedule: str, at: float, told: Any, entries: Any, pipes: Any, lender: ModelManager, make_recipe: Make
) -> None:
    refiner = {"model": entries["sdxl_refiner"].ref, "at": at}
    recipe = make_recipe(
        "sdxl",
        sampler=sampler,
        schedule=schedule,
        steps=STEPS,
        refiner=refiner,
        size_conditioning=told or None,
    )
    noise = first_noise(recipe, OwnNoise(torch.Generator().manual_seed(recipe.seed)))
    size = {"width": recipe.width, "height": recipe.height}
    halfway = call(pipes["sdxl"], recipe, sampler, told, latents=noise, denoising_end=at, **size)
    theirs = call(pipes["sdxl_refiner"], recipe, sampler, told, image=halfway, denoising_start=at)
    assert differs(our_latents(recipe, entries, lender), theirs) < TOLERANCE
    alone = our_latents(recipe.model_copy(update={"refiner": None}), entries, lender)
    assert differs(alone, theirs) > TOLERANCE
