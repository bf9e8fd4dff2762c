"""What SD 1.x, 2.x and SDXL share: a U-Net, a KL autoencoder, CLIP text encoders, files with LDM keys."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from catalog.families.family import Family
from catalog.files.headers import TensorInfo
from contract.parts import SizeConditioning
from engine.checkpoints.component import Builder, Config
from engine.checkpoints.single_file import ldm_components, ldm_vae
from engine.device.evaluations import Evaluate, Outputs
from engine.families.family import Encoded, FileComponent, Onload, hidden_layer
from engine.families.unet import predict_with

if TYPE_CHECKING:
    from engine.sampling.denoise import Predict


def build_text_encoder(config: Config) -> nn.Module:
    """Token ids (B, tokens) -> hidden states (B, tokens, width)."""
    module: nn.Module = CLIPTextModel(CLIPTextConfig.from_dict(dict(config)))
    return module


def build_unet(config: Config) -> nn.Module:
    """Noisy latents (B, C, h, w), timestep, prompt embeddings -> the prediction, (B, 4, h, w)."""
    module: nn.Module = UNet2DConditionModel.from_config(dict(config))
    return module


def build_vae(config: Config) -> nn.Module:
    """Images (B, 3, H, W), -1..1 <-> latents (B, 4, H/8, W/8)."""
    module: nn.Module = AutoencoderKL.from_config(dict(config))
    return module


BUILDERS: Mapping[str, Builder] = MappingProxyType(
    {"text_encoder": build_text_encoder, "unet": build_unet, "vae": build_vae}
)


def hidden_states(encoder: nn.Module, ids: Tensor) -> Outputs:
    """The embeddings of tokens and the output of each layer, (1, tokens, width) each."""
    states: Outputs = encoder(ids, output_hidden_states=True).hidden_states
    return states


@dataclass(frozen=True, slots=True)
class StableDiffusion:
    """One CLIP text encoder, whose last (or an earlier) layer is normalized and read."""

    facts: Family
    builders: Mapping[str, Builder] = field(default_factory=lambda: BUILDERS)
    zeroes_empty_negative: bool = False

    def read_file(self, file: Path, header: Mapping[str, TensorInfo]) -> dict[str, FileComponent]:
        """The components of a checkpoint with LDM keys."""
        return ldm_components(file, header, self.facts)

    def read_vae_file(self, file: Path, header: Mapping[str, TensorInfo]) -> FileComponent:
        """A VAE with LDM or diffusers' keys."""
        return ldm_vae(file, header, self.facts)

    def encode(self, onload: Onload, ids: tuple[Tensor, ...], clip_skip: int, evaluate: Evaluate) -> Encoded:
        """Clip skip 1 reads the last layer; every layer passes the final norm, as in training."""
        states = evaluate("text_encoder", hidden_states, ids[0])
        encoder: Any = onload("text_encoder")
        return Encoded(encoder.final_layer_norm(hidden_layer(states, clip_skip)))

    def added(self, pooled: Tensor | None, told: SizeConditioning, is_guided: bool) -> dict[str, Tensor] | None:
        """Nothing."""
        return None

    def predict(
        self, onload: Onload, dtype: torch.dtype, *, in_float32: bool = False, evaluate: Evaluate | None = None
    ) -> "Predict":
        """The U-Net as the loop calls it."""
        return predict_with(onload, dtype, in_float32=in_float32, evaluate=evaluate)
