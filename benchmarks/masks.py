"""What an inpainting loop costs over a bare diffusers loop with the same start latents, mask and noise.

Called by `overhead.py`, with the same subjects.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from diffusers import EulerDiscreteScheduler

from benchmarks.measure import Figure, figure
from catalog.models import ModelEntry
from contract.recipe import Recipe
from engine.adapters.prompt_encoder import EmbeddingCache, encode_prompts
from engine.device.devices import choose_device
from engine.families.unet import predict_with
from engine.images.init_latents import InitLatents, first_step
from engine.models.bundle import Bundle
from engine.models.manager import ModelManager
from engine.pipeline import first_noise, sampling_of
from engine.sampling.denoise import denoise
from engine.sampling.noise import OwnNoise

Loop = Callable[[], torch.Tensor]
STRENGTH = 0.75


def bare_loop(bundle: Bundle, recipe: Recipe, start: torch.Tensor, mask: torch.Tensor) -> Loop:
    """What anyone would write over diffusers: U-Net, guidance, scheduler.step, the masked-out part put back."""
    unet = bundle.onload("unet")
    context = encode_prompts(recipe, bundle, EmbeddingCache()).at(0).prompt_embeds
    noise = first_noise(recipe, OwnNoise(torch.Generator().manual_seed(recipe.seed))).to(start.device)
    config = {key: value for key, value in bundle.scheduler_config.items() if not key.startswith("_")}
    scheduler = EulerDiscreteScheduler.from_config(config, timestep_spacing="trailing", steps_offset=0)
    first = first_step(recipe.steps, STRENGTH)

    @torch.inference_mode()
    def run() -> torch.Tensor:
        scheduler.set_timesteps(recipe.steps, device=start.device)
        scheduler.set_begin_index(first)
        times = scheduler.timesteps[first:]
        latents = scheduler.add_noise(start, noise, times[:1])
        for index, t in enumerate(times):
            rows = scheduler.scale_model_input(torch.cat([latents] * 2), t)
            uncond, cond = unet(rows, t, encoder_hidden_states=context, return_dict=False)[0].chunk(2)
            latents = scheduler.step(uncond + recipe.guidance * (cond - uncond), t, latents, return_dict=False)[0]
            kept = start if index + 1 == len(times) else scheduler.add_noise(start, noise, times[index + 1 : index + 2])
            latents = (1 - mask) * kept + mask * latents
        return latents

    return run


def our_loop(bundle: Bundle, recipe: Recipe, start: torch.Tensor, mask: torch.Tensor) -> Loop:
    """The same through `engine/sampling/denoise.py` and `engine/images/init_latents.py`."""
    told = encode_prompts(recipe, bundle, EmbeddingCache())
    source = OwnNoise(torch.Generator().manual_seed(recipe.seed))
    noise = first_noise(recipe, source).to(start.device)
    predict = predict_with(bundle.onload, bundle.device.dtype)

    def run() -> torch.Tensor:
        sampling = sampling_of(recipe, bundle)
        mask_blend = InitLatents(start, mask).mask_blend(sampling, STRENGTH, noise, source)
        *_, last = denoise(lambda _: predict, told.at, sampling, noise, recipe.guidance, mask_blend=mask_blend)
        return last.latents

    return run


def inpaint_loop(entry: ModelEntry, recipe: Recipe, name: str, rounds: int) -> Figure:
    """Loop time with a mask over the bare loop's."""
    with ModelManager(choose_device()).lease(entry.ref, str(entry.path)) as bundle:
        start = first_noise(recipe, OwnNoise(torch.Generator().manual_seed(2))).to(bundle.device.torch_device)
        mask = torch.zeros_like(start[:, :1])
        mask[..., mask.shape[-1] // 2 :] = 1
        bare, ours = bare_loop(bundle, recipe, start, mask), our_loop(bundle, recipe, start, mask)
        difference = float((bare() - ours()).abs().max())
        made = figure(
            "inpaint",
            f"inpaint loop, {name}",
            bare,
            ours,
            peer="bare diffusers loop with the same mask",
            goal=1.01,
            limit=1.03,
            rounds=rounds,
        )
        return replace(made, note=f"{made.note}, latents differ by {difference:.1e}")
