"""The SDXL refiner: SDXL's second text encoder alone, and an aesthetic score in the place of the target size."""

import torch
from torch import Tensor

from catalog.families import sdxl_refiner
from contract.parts import SizeConditioning
from engine.device.evaluations import Evaluate
from engine.families.family import Encoded, Onload, hidden_layer
from engine.families.sdxl import build_projecting_text_encoder, projected_states
from engine.families.stable_diffusion import StableDiffusion, build_unet, build_vae


class StableDiffusionXLRefiner(StableDiffusion):
    """Its encoder is read at the layer before its last, without the final norm, also for an empty negative prompt."""

    __slots__ = ()

    def encode(self, onload: Onload, ids: tuple[Tensor, ...], clip_skip: int, evaluate: Evaluate) -> Encoded:
        """Clip skip as in SDXL."""
        text_embeds, *states = evaluate("text_encoder_2", projected_states, ids[0])
        return Encoded(hidden_layer(tuple(states), clip_skip + 1), text_embeds)

    def added(self, pooled: Tensor | None, told: SizeConditioning, is_guided: bool) -> dict[str, Tensor]:
        """text_embeds (batch, width) and time_ids (batch, 5): original size, crop, aesthetic score."""
        assert pooled is not None
        sizes = [told.original_height, told.original_width, told.crop_top, told.crop_left]
        scores = [told.aesthetic_score] * pooled.shape[0]
        if is_guided:
            scores[0] = told.negative_aesthetic_score
        rows = torch.tensor([[*sizes, score] for score in scores], dtype=pooled.dtype)
        return {"text_embeds": pooled, "time_ids": rows.to(pooled.device)}


FAMILY = StableDiffusionXLRefiner(
    sdxl_refiner.FAMILY, {"text_encoder_2": build_projecting_text_encoder, "unet": build_unet, "vae": build_vae}
)
