"""Every sampler × schedule × kind of model that is offered: final latents as the stock pipeline's.

The stock schedulers are made here, from the field's table of options and not from `catalog/samplers.py`.
Where diffusers has no option (Euler a's curves, UniPC's Uniform), our levels are put into the stock scheduler: then
only the loop and the solver are compared; the levels have their own tests.
"""

from collections.abc import Callable, Iterator
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from catalog.models import ModelEntry
from catalog.samplers import SAMPLERS, resolve_schedule, schedules_for
from contract.recipe import Recipe
from contract.work import WorkImage
from engine.adapters.prompt_encoder import EmbeddingCache, encode_prompts
from engine.engine import Engine
from engine.families.unet import predict_with
from engine.models.manager import ModelManager
from engine.pipeline import first_noise, sampling_of
from engine.sampling.denoise import denoise
from engine.sampling.noise import OwnNoise
from engine.sampling.samplers import Sampling
from tests.engine.conftest import CPU
from tests.support import tiny

STEPS = 3
TOLERANCE = 1e-4
CLASSES = {
    "euler": "EulerDiscrete",
    "euler_a": "EulerAncestralDiscrete",
    "heun": "HeunDiscrete",
    "dpmpp_2m": "DPMSolverMultistep",
    "dpmpp_2m_sde": "DPMSolverMultistep",
    "ddim": "DDIM",
    "unipc": "UniPCMultistep",
    "lcm": "LCM",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "dpmpp_2m": {"algorithm_type": "dpmsolver++", "solver_order": 2},
    "dpmpp_2m_sde": {"algorithm_type": "sde-dpmsolver++"},
    "ddim": {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1},
    "unipc": {"solver_type": "bh2"},
}
NOT_STOCK = {("zero_snr", "heun")}  # HeunDiscrete knows no zero SNR; tests/engine/test_pure_noise.py
SCHEDULES = ("uniform", "karras", "exponential", "sgm_uniform", "simple", "beta")  # that have a stock option
CURVES = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas", "beta": "use_beta_sigmas"}

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
Pipes = dict[str, tuple[Any, dict[str, Any]]]  # a pipeline and its scheduler's first configuration


@pytest.fixture(scope="module")
def pipes(entries: dict[str, ModelEntry]) -> Iterator[Pipes]:
    made = {}
    for kind in tiny.KINDS:
        cls = StableDiffusionXLPipeline if kind == "sdxl" else StableDiffusionPipeline
        pipe = cls.from_pretrained(str(entries[kind].path), local_files_only=True, torch_dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        made[kind] = (pipe, dict(pipe.scheduler.config))
    yield made


@pytest.fixture(scope="module")
def lender() -> ModelManager:
    return ModelManager(CPU)


def stock_scheduler(sampler: str, schedule: str, config: dict[str, Any]) -> tuple[Any, dict[str, Any] | None]:
    """A stock scheduler and the arguments of its set_timesteps, None where it has no such option."""
    options = {**OPTIONS.get(sampler, {}), "timestep_spacing": "trailing" if schedule == "simple" else "linspace"}
    if schedule in CURVES:
        options[CURVES[schedule]] = True
    cls = getattr(diffusers, f"{CLASSES[sampler]}Scheduler")
    steps: dict[str, Any] | None = {"num_inference_steps": STEPS}
    if sampler == "ddim":
        options["timestep_spacing"] = "leading" if schedule == "uniform" else "trailing"
    elif sampler == "lcm":
        options.pop("timestep_spacing")
        steps = steps if schedule == "sgm_uniform" else None
    elif sampler == "euler_a":
        steps = steps if schedule in ("uniform", "simple") else None
    elif sampler.startswith("dpmpp") and schedule == "uniform":
        steps = {"timesteps": np.linspace(999, 0, STEPS).round().astype(int).tolist()}
    elif sampler == "unipc" and schedule == "uniform":
        steps = None
    elif sampler in ("euler", "heun") and schedule == "sgm_uniform":
        steps = {"timesteps": np.linspace(999, 0, STEPS + 1)[:-1].tolist()}
    known = {key: value for key, value in config.items() if not key.startswith("_")}
    return cls.from_config(known, **{"steps_offset": 0, **options}), steps


def pin(scheduler: Any, sampling: Sampling) -> Any:
    """Make a stock scheduler run on given levels, whatever the pipeline asks it for."""
    timesteps, sigmas = sampling.timesteps.clone(), sampling.sigmas.clone()
    if scheduler.order == 2:  # Heun evaluates the model at the end of each step and at the beginning of the next
        timesteps = torch.cat([timesteps[:1], timesteps[1:].repeat_interleave(2)])
        sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    set_timesteps = scheduler.set_timesteps

    def set_pinned(steps: int, device: Any = None) -> None:
        set_timesteps(steps, device=device)
        scheduler.timesteps, scheduler.sigmas = timesteps, sigmas

    scheduler.set_timesteps = set_pinned
    return scheduler


def our_latents(recipe: Recipe, entry: ModelEntry, models: ModelManager) -> tuple[torch.Tensor, Any]:
    with models.lease(entry.ref, str(entry.path)) as bundle:
        sampling = sampling_of(recipe, bundle)
        told = encode_prompts(recipe, bundle, EmbeddingCache())
        generator = torch.Generator().manual_seed(recipe.seed)
        noise = first_noise(recipe, OwnNoise(generator))
        predict = predict_with(bundle.onload, torch.float32)
        *_, last = denoise(lambda _: predict, told.at, sampling, noise, recipe.guidance, OwnNoise(generator))
        return last.latents, sampling_of(recipe, bundle)


def stock_latents(recipe: Recipe, pipe: Any, steps: dict[str, Any], output_type: str = "latent") -> Any:
    generator = torch.Generator().manual_seed(recipe.seed)
    noise = first_noise(recipe, OwnNoise(generator))
    return pipe(
        recipe.prompt,
        negative_prompt=recipe.negative_prompt or None,
        guidance_scale=recipe.guidance,
        width=recipe.width,
        height=recipe.height,
        latents=noise,
        generator=generator,
        output_type=output_type,
        **steps,
    ).images


def offered() -> list[tuple[str, str, str]]:
    return [
        (kind, sampler.id, schedule)
        for kind in tiny.KINDS
        for sampler in SAMPLERS.values()
        for schedule in schedules_for(sampler, zero_snr=kind == "zero_snr")
        if sampler.id in CLASSES and schedule in SCHEDULES and (kind, sampler.id) not in NOT_STOCK
    ]


@pytest.mark.parametrize(("kind", "sampler", "schedule"), offered())
def test_final_latents_equal_the_stock_pipelines(
    kind: str,
    sampler: str,
    schedule: str,
    entries: dict[str, ModelEntry],
    pipes: Pipes,
    lender: ModelManager,
    make_recipe: Callable[..., Recipe],
) -> None:
    recipe = make_recipe(kind, sampler=sampler, schedule=schedule, steps=STEPS)
    ours, sampling = our_latents(recipe, entries[kind], lender)
    resolved = resolve_schedule(SAMPLERS[sampler], schedule, zero_snr=kind == "zero_snr")
    pipe, config = pipes[kind]
    scheduler, steps = stock_scheduler(sampler, resolved, config)
    pipe.scheduler = scheduler if steps is not None else pin(scheduler, sampling)
    theirs = stock_latents(recipe, pipe, steps or {"num_inference_steps": STEPS})
    assert torch.isfinite(ours).all()
    assert (ours - theirs).abs().max() <= TOLERANCE


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"negative_prompt": ""},
        {"guidance": 1.0},
        {"width": 96, "height": 72},
        {"prompt": ""},
        {"prompt": "the night of a red sun at sea " * 8, "negative_prompt": "cat " * 75},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", tiny.KINDS)
def test_pictures_equal_the_stock_pipelines(
    kind: str,
    change: dict[str, object],
    entries: dict[str, ModelEntry],
    pipes: Pipes,
    engine: Engine,
    make_recipe: Callable[..., Recipe],
    make_work_item: Callable[..., Any],
) -> None:
    recipe = make_recipe(kind, **{"sampler": "euler_a", "schedule": "simple", "steps": STEPS, **change})
    pipe, config = pipes[kind]
    pipe.scheduler, _ = stock_scheduler("euler_a", "simple", config)
    (theirs,) = stock_latents(recipe, pipe, {"num_inference_steps": STEPS}, output_type="np")
    (ours,) = [
        event.pixels for event in engine.generate(make_work_item(recipe), lambda: False) if isinstance(event, WorkImage)
    ]
    stock = (theirs * 255).round().astype(int)
    mine = np.frombuffer(ours.rgb, dtype=np.uint8).reshape(stock.shape).astype(int)
    assert np.abs(mine - stock).max() <= 1  # a difference of 1e-7 may round to the next of 256 levels
    assert (mine != stock).mean() < 1e-3


@pytest.mark.parametrize(
    "second",
    [
        {"prompt_2": "the night of a red sun", "negative_prompt_2": "cat"},
        {"prompt_2": "the night"},
        {"negative_prompt_2": "a red sea"},
    ],
    ids=str,
)
def test_second_prompts_give_the_latents_of_the_stock_pipeline(
    second: dict[str, str],
    entries: dict[str, ModelEntry],
    pipes: Pipes,
    lender: ModelManager,
    make_recipe: Callable[..., Recipe],
) -> None:
    recipe = make_recipe("sdxl", sampler="euler", schedule="simple", steps=STEPS, **second)
    ours, _ = our_latents(recipe, entries["sdxl"], lender)
    pipe, config = pipes["sdxl"]
    pipe.scheduler, steps = stock_scheduler("euler", "simple", config)
    theirs = stock_latents(recipe, pipe, {**(steps or {}), **second})
    alike, _ = our_latents(recipe.model_copy(update=dict.fromkeys(second)), entries["sdxl"], lender)
    assert (ours - theirs).abs().max() <= TOLERANCE < (ours - alike).abs().max()


@pytest.mark.parametrize(("kind", "skip"), [("sd1", 1), ("sd1", 2), ("sd2", 1), ("sdxl", 1), ("sdxl", 2)])
def test_embeddings_equal_the_stock_encoders(
    kind: str,
    skip: int,
    entries: dict[str, ModelEntry],
    pipes: Pipes,
    lender: ModelManager,
    make_recipe: Callable[..., Recipe],
) -> None:
    recipe = make_recipe(kind, clip_skip=skip, guidance=1.0)
    with lender.lease(entries[kind].ref, str(entries[kind].path)) as bundle:
        ours = encode_prompts(recipe, bundle, EmbeddingCache()).at(0)
    pipe, _ = pipes[kind]
    with torch.no_grad():
        if kind == "sdxl":  # counts skipped layers from the one before the last
            embeddings, _, pooled, _ = pipe.encode_prompt(
                recipe.prompt, do_classifier_free_guidance=False, clip_skip=skip - 1 or None
            )
            assert ours.added is not None
            assert torch.allclose(ours.added["text_embeds"], pooled, atol=1e-6)
        else:  # the pipeline's own clip_skip fails with transformers 5
            tokens = pipe.tokenizer(recipe.prompt, padding="max_length", max_length=77, return_tensors="pt")
            states = pipe.text_encoder(tokens.input_ids, output_hidden_states=True).hidden_states
            embeddings = pipe.text_encoder.final_layer_norm(states[-skip])
    assert torch.allclose(ours.prompt_embeds, embeddings, atol=1e-6)
