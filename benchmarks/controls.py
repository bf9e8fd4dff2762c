"""What a ControlNet's loop costs over a bare diffusers loop with the same ControlNet and picture.

Called by `overhead.py`, with the same subjects. The ControlNet is one of the model's own shape with its weights,
as training would begin with it: what it says does not change what it costs.
"""

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, EulerDiscreteScheduler
from PIL import Image

from benchmarks.measure import Figure, figure
from catalog.models import ModelEntry, describe
from contract.recipe import Control, ImageRef, Recipe
from contract.tasks import Generate
from contract.work import WorkItem, path_key
from engine.adapters.prompt_encoder import EmbeddingCache, encode_prompts
from engine.device.devices import choose_device
from engine.images.preprocessors import Preprocessors
from engine.job_models import acquire
from engine.models.bundle import Bundle
from engine.models.manager import ModelManager
from engine.pipeline import first_noise
from engine.sampling.denoise import Controls
from engine.sampling.noise import OwnNoise

Loop = Callable[[], torch.Tensor]
OurLoop = Callable[[Bundle, Recipe, Controls | None], Loop]


@contextmanager
def controlnet_of(bundle: Bundle) -> Iterator[ModelEntry]:
    """A ControlNet folder of a U-Net's shape, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as name:
        net = ControlNetModel.from_unet(bundle.onload("unet"))
        for weight in (*net.controlnet_down_blocks.parameters(), *net.controlnet_mid_block.parameters()):
            torch.nn.init.constant_(weight, 1e-3)
        net.save_pretrained(name, safe_serialization=True)
        yield describe(Path(name), "control")


def picture(side: int) -> tuple[str, bytes]:
    """The sha256 and the PNG of a control picture."""
    chance = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(chance).save(buffer, "PNG")
    return hashlib.sha256(buffer.getvalue()).hexdigest(), buffer.getvalue()


def bare_loop(bundle: Bundle, recipe: Recipe, net: torch.nn.Module, hint: torch.Tensor) -> Loop:
    """What anyone would write over diffusers: ControlNet, U-Net, guidance, scheduler.step."""
    unet = bundle.onload("unet")
    context = encode_prompts(recipe, bundle, EmbeddingCache()).at(0).prompt_embeds
    noise = first_noise(recipe, OwnNoise(torch.Generator().manual_seed(recipe.seed))).to(bundle.device.torch_device)
    config = {key: value for key, value in bundle.scheduler_config.items() if not key.startswith("_")}
    scheduler = EulerDiscreteScheduler.from_config(config, timestep_spacing="trailing", steps_offset=0)

    @torch.inference_mode()
    def run() -> torch.Tensor:
        scheduler.set_timesteps(recipe.steps, device=bundle.device.torch_device)
        latents, hints = noise * scheduler.init_noise_sigma, torch.cat([hint] * 2)
        for t in scheduler.timesteps:
            rows = scheduler.scale_model_input(torch.cat([latents] * 2), t)
            down, middle = net(rows, t, encoder_hidden_states=context, controlnet_cond=hints, return_dict=False)
            made = unet(
                rows,
                t,
                encoder_hidden_states=context,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
                return_dict=False,
            )[0]
            uncond, cond = made.chunk(2)
            latents = scheduler.step(uncond + recipe.guidance * (cond - uncond), t, latents, return_dict=False)[0]
        return latents

    return run


def control_loop(entry: ModelEntry, recipe: Recipe, name: str, rounds: int, our_loop: OurLoop) -> Figure:
    """Loop time with a ControlNet over the bare loop's."""
    device = choose_device()
    models, sha256_and_png = ModelManager(device), picture(recipe.width)
    with models.lease(entry.ref, str(entry.path)) as bundle, controlnet_of(bundle) as net:
        control = Control(
            model=net.ref.model_copy(update={"family": recipe.model.family}), image=ImageRef(sha256=sha256_and_png[0])
        )
        held = recipe.model_copy(update={"controls": (control,)})
        work_item = WorkItem(
            "bench", 1, Generate(recipe=held), dict([sha256_and_png]), {path_key(control.model): str(net.path)}
        )
        with acquire(held, work_item, models, Preprocessors([], device.torch_device), bundle) as loaded:
            (unit,) = loaded.controls.units(held, bundle)
            bare = bare_loop(bundle, held, unit.net, unit.hint)
            ours = our_loop(bundle, held, loaded.controls_for(held, bundle))
            difference = float((bare() - ours()).abs().max())
            made = figure(
                "control",
                f"loop with a ControlNet, {name}",
                bare,
                ours,
                peer="bare diffusers loop",
                goal=1.01,
                limit=1.03,
                rounds=rounds,
            )
            return replace(made, note=f"{made.note}, latents differ by {difference:.1e}")
