"""Methods of guidance that diffusers has too: final latents as its pipelines'."""

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch

from catalog.models import ModelEntry
from contract.recipe import Recipe
from engine.adapters.prompt_encoder import EmbeddingCache, encode_prompts
from engine.families.unet import predict_with
from engine.models.manager import ModelManager
from engine.pipeline import first_noise, sampling_of
from engine.sampling.denoise import denoise
from engine.sampling.guidance.protocol import make_guide
from engine.sampling.noise import OwnNoise
from tests.engine.conftest import CPU
from tests.parity.test_stock_pipelines import STEPS, TOLERANCE, Pipes, pipes, stock_latents, stock_scheduler

__all__ = ["pipes"]
PAG = {"sd1": "StableDiffusionPAGPipeline", "sdxl": "StableDiffusionXLPAGPipeline"}
FREEU = {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}
CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "rescale": ([{"id": "cfg_rescale", "values": {"phi": 0.7}}], {"guidance_rescale": 0.7}),
    "freeu": ([{"id": "freeu", "values": FREEU}], {}),
    "pag": ([{"id": "pag", "values": {"scale": 2.5}}], {"pag_scale": 2.5}),
    "pag fading": (
        [{"id": "pag", "values": {"scale": 2.5, "adaptive": 0.003}}],
        {"pag_scale": 2.5, "pag_adaptive_scale": 0.003},
    ),
    "pag, rescale and freeu": (
        [{"id": "cfg_rescale", "values": {"phi": 0.5}}, {"id": "freeu"}, {"id": "pag"}],
        {"pag_scale": 3.0, "guidance_rescale": 0.5},
    ),
    "sag": ([{"id": "sag"}], {"sag_scale": 0.75}),
}
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def our_latents(recipe: Recipe, entry: ModelEntry) -> torch.Tensor:
    with ModelManager(CPU).lease(entry.ref, str(entry.path)) as bundle:
        sampling = sampling_of(recipe, bundle)
        told = encode_prompts(recipe, bundle, EmbeddingCache())
        noise = first_noise(recipe, OwnNoise(torch.Generator().manual_seed(recipe.seed)))
        predict = predict_with(bundle.onload, torch.float32)
        guide = make_guide(recipe.guidance_methods, sampling, bundle.modules["unet"])
        *_, last = denoise(lambda _: predict, told.at, sampling, noise, recipe.guidance, guide=guide)
        return last.latents


@pytest.mark.parametrize(
    ("kind", "case", "guidance"),
    # diffusers has no SAG for SDXL.
    [(kind, case, 5.0) for kind in ("sd1", "sd2", "sdxl") for case in CASES if (kind, case) != ("sdxl", "sag")]
    + [("sd1", "pag", 1.0), ("sd2", "sag", 1.0)],
)
def test_final_latents_equal_diffusers(
    kind: str,
    case: str,
    guidance: float,
    entries: dict[str, ModelEntry],
    pipes: Pipes,
    make_recipe: Callable[..., Recipe],
) -> None:
    methods, options = CASES[case]
    sampler = "ddim" if case == "sag" else "euler"
    recipe = make_recipe(
        kind,
        sampler=sampler,
        schedule="uniform",
        steps=STEPS,
        guidance=guidance,
        guidance_methods=tuple(methods),
        height=96,
    )
    pipe, config = pipes[kind]
    pipe.scheduler, steps = stock_scheduler(sampler, "uniform", config)
    if "pag_scale" in options:
        pipe = getattr(diffusers, PAG["sdxl" if kind == "sdxl" else "sd1"])(**pipe.components)
    elif "sag_scale" in options:
        pipe = diffusers.StableDiffusionSAGPipeline(**pipe.components)
    pipe.set_progress_bar_config(disable=True)
    if "freeu" in case:
        pipe.enable_freeu(**FREEU)
    try:
        theirs = stock_latents(recipe, pipe, {**(steps or {}), **options})
    finally:
        pipe.unet.disable_freeu()
    assert (our_latents(recipe, entries[kind]) - theirs).abs().max() <= TOLERANCE
    without = recipe.model_copy(update={"guidance_methods": ()})
    assert (our_latents(without, entries[kind]) - theirs).abs().max() > TOLERANCE
