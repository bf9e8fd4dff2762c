"""ControlNets of SD 3's transformer: the control image as latents, and a residual for each of the transformer's blocks.

Two kinds: those that see the prompt and have positions of their own (InstantX's, as diffusers trains them), and
Stability's of SD 3.5 large, which start from the transformer's own embedded latents and see no prompt.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from catalog.preprocessors import get_preprocessor
from contract.errors import InvalidRecipe
from contract.recipe import Control
from engine.adapters.control_units import Unit, pad_uncond, uncond_count
from engine.images.vae import encode
from engine.models.bundle import Bundle
from engine.sampling.denoise import Conditions

_LINES = "lines"
_LEAST, _MOST = -1.0, 0.0  # powers of ten: what mode "control" leaves of the first and of the last block's residual
_FADE, _DEEPEST = 0.825, 12  # as mode "prompt" has it of the residuals of a U-Net


def control_latents(
    control: Control, net: nn.Module, image: Image.Image, bundle: Bundle, hidden: Tensor | None = None
) -> Tensor:
    """A control image as the net takes it, in the device's precision.

    Args:
        image: At the size of the pass.
        hidden: (H, W), true where a mask hides the image: of nets that inpaint, which are shown where that is too.
    Returns:
        (1, C, h, w), or with one more channel of 1 where nothing is hidden.
    Raises:
        InvalidRecipe: the pass is larger than the net's table of positions.
    Source: Stability-AI/sd3.5 for the range of edges, which its canny model was trained with; alimama-creative's and
        InstantX's nets as diffusers' pipelines call them.
    """
    config: Any = net.config
    assert control.model is not None
    if config.use_pos_embed:
        most = config.pos_embed_max_size * config.patch_size * bundle.family.facts.latents.factor
        if max(image.size) > most:
            raise InvalidRecipe(
                f"ControlNet “{control.model.name}” was made for at most {most:,} pixels a side.",
                "Ask for a smaller picture.",
                field="width",
            )
    pixels = np.array(image.convert("RGB")).astype(np.float32)
    if not config.use_pos_embed and _shows_lines(control):
        # encode takes 0..255 to -1..1; this is 0..1 taken to 0.5..128.
        pixels = (pixels * 0.5 + 1.5) * 127.5
    if hidden is not None:
        pixels[hidden.numpy()] = 0.0
    latents = encode(pixels, bundle)
    if hidden is None and config.force_zeros_for_pooled_projection:
        # These were trained on latents that are scaled and not shifted.
        vae: Any = bundle.onload("vae").config
        latents = latents + (vae.shift_factor or 0.0) * vae.scaling_factor
    if hidden is not None:
        shown = 1 - functional.interpolate(hidden[None, None].float(), latents.shape[-2:])
        latents = torch.cat([latents, shown.to(latents.device)], dim=1)
    return latents.to(bundle.device.dtype)


def _shows_lines(control: Control) -> bool:
    return (control.control_type or get_preprocessor(control.preprocessor).control_type) == _LINES


@torch.inference_mode()
def joint_residuals(unit: Unit, batch: Tensor, t: Tensor, conditions: Conditions, bundle: Bundle) -> list[Tensor]:
    """What a ControlNet adds behind each block of the transformer: (batch, patches, width) for each.

    Blocks share the residuals of a net of fewer layers, in order.
    """
    net: Any = unit.net
    skipped = uncond_count(unit, batch, conditions)
    assert conditions.added is not None
    latents, pooled = batch[skipped:], conditions.added["pooled_projections"][skipped:]
    hint = unit.hint.expand(latents.shape[0], -1, -1, -1)
    height, width = latents.shape[-2:]
    patch = net.config.patch_size
    missing = (0, -width % patch, 0, -height % patch)
    latents, hint = (functional.pad(one, missing, mode="replicate") for one in (latents, hint))
    transformer: Any = bundle.onload("transformer")
    outputs = net(
        hidden_states=latents if net.config.use_pos_embed else transformer.pos_embed(latents),
        controlnet_cond=hint,
        conditioning_scale=unit.control.weight,
        encoder_hidden_states=None if net.context_embedder is None else conditions.prompt_embeds[skipped:],
        pooled_projections=torch.zeros_like(pooled) if net.config.force_zeros_for_pooled_projection else pooled,
        timestep=t.expand(latents.shape[0]),
        return_dict=False,
    )[0]
    layers, blocks = len(outputs), len(transformer.transformer_blocks)
    fades = torch.ones(layers)
    if unit.control.mode == "control":
        fades = torch.logspace(_LEAST, _MOST, layers)
    elif unit.control.mode == "prompt":
        fades = _FADE ** torch.linspace(_DEEPEST, 0, layers)
    residuals = []
    for block in range(blocks):
        layer = block * layers // blocks
        residuals.append(pad_uncond(outputs[layer] * float(fades[layer]), skipped))
    return residuals
