"""SDXL: two text encoders whose embeddings are concatenated, a pooled one, and the image's size as inputs."""

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from catalog.families import sdxl
from contract.parts import SizeConditioning
from engine.checkpoints.component import Config
from engine.device.evaluations import Evaluate, Outputs
from engine.families.family import Encoded, Onload, hidden_layer
from engine.families.stable_diffusion import BUILDERS, StableDiffusion, hidden_states


def build_projecting_text_encoder(config: Config) -> nn.Module:
    """Token ids (B, tokens) -> hidden states (B, tokens, width) and text_embeds (B, width)."""
    module: nn.Module = CLIPTextModelWithProjection(CLIPTextConfig.from_dict(dict(config)))
    return module


def projected_states(encoder: nn.Module, ids: Tensor) -> Outputs:
    """text_embeds, (1, width), and the hidden states as `hidden_states` has them."""
    output = encoder(ids, output_hidden_states=True)
    return (output.text_embeds, *output.hidden_states)


class StableDiffusionXL(StableDiffusion):
    """Both encoders are read at the layer before their last, without the final norm."""

    __slots__ = ()

    def encode(self, onload: Onload, ids: tuple[Tensor, ...], clip_skip: int, evaluate: Evaluate) -> Encoded:
        """Clip skip 1 is the layer before the last, as trained; each more goes one further back."""
        first = evaluate("text_encoder", hidden_states, ids[0])
        text_embeds, *second = evaluate("text_encoder_2", projected_states, ids[1])
        first_layer = hidden_layer(first, clip_skip + 1)
        second_layer = hidden_layer(tuple(second), clip_skip + 1)
        widths = (first_layer.shape[-1], second_layer.shape[-1])
        return Encoded(torch.cat([first_layer, second_layer], dim=-1), text_embeds, widths)

    def added(self, pooled: Tensor | None, told: SizeConditioning, is_guided: bool) -> dict[str, Tensor]:
        """text_embeds (batch, width) and time_ids (batch, 6): original size, crop, target size."""
        assert pooled is not None
        names = ("original_height", "original_width", "crop_top", "crop_left", "target_height", "target_width")
        sizes = torch.tensor([[getattr(told, name) for name in names]], dtype=pooled.dtype)
        return {"text_embeds": pooled, "time_ids": sizes.repeat(pooled.shape[0], 1).to(pooled.device)}


FAMILY = StableDiffusionXL(
    sdxl.FAMILY, {**BUILDERS, "text_encoder_2": build_projecting_text_encoder}, zeroes_empty_negative=True
)
