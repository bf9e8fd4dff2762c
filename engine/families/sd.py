"""SD 1.x and 2.x: one CLIP text encoder, whose last (or an earlier) layer is normalized and read."""

from collections.abc import Mapping
from dataclasses import dataclass

from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from engine.families.family import Builder, Config, Encoded, Onload, hidden_layer


def build_text_encoder(config: Config) -> nn.Module:
    """Token ids (B, tokens) -> hidden states (B, tokens, width)."""
    return CLIPTextModel(CLIPTextConfig.from_dict(dict(config)))


def build_unet(config: Config) -> nn.Module:
    """Noisy latents (B, C, h, w), timestep, prompt embeddings -> the prediction, (B, 4, h, w)."""
    return UNet2DConditionModel.from_config(dict(config))


def build_vae(config: Config) -> nn.Module:
    """Images (B, 3, H, W), -1..1 <-> latents (B, 4, H/8, W/8)."""
    return AutoencoderKL.from_config(dict(config))


@dataclass(frozen=True, slots=True)
class StableDiffusion:
    """SD 1.x and 2.x differ only in their configurations."""

    builders: Mapping[str, Builder]
    tokenizers: tuple[str, ...] = ("tokenizer",)
    zeroes_empty_negative: bool = False

    def encode(self, onload: Onload, ids: tuple[Tensor, ...], clip_skip: int) -> Encoded:
        """Clip skip 1 reads the last layer; every layer passes the final norm, as in training."""
        encoder = onload("text_encoder")
        states = encoder(ids[0], output_hidden_states=True).hidden_states
        return Encoded(encoder.final_layer_norm(hidden_layer(states, clip_skip)))

    def added(self, pooled: Tensor | None, width: int, height: int) -> None:
        """Nothing."""


_BUILDERS = {"text_encoder": build_text_encoder, "unet": build_unet, "vae": build_vae}
SD1 = StableDiffusion(_BUILDERS)
SD2 = StableDiffusion(_BUILDERS)
