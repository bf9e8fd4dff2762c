"""SD 1.x and 2.x: one CLIP text encoder, whose last (or an earlier) layer is normalised and read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from engine.families.family import Config, Encoded, hidden_layer


def _text_encoder(config: Config) -> nn.Module:
    return CLIPTextModel(CLIPTextConfig.from_dict(dict(config)))


@dataclass(frozen=True, slots=True)
class StableDiffusion:
    """SD 1.x and 2.x differ only in their configurations."""

    builders: Mapping[str, Callable[[Config], nn.Module]] = field(
        default_factory=lambda: {
            "text_encoder": _text_encoder,
            "unet": lambda config: UNet2DConditionModel.from_config(dict(config)),
            "vae": lambda config: AutoencoderKL.from_config(dict(config)),
        }
    )
    tokenizers: tuple[str, ...] = ("tokenizer",)
    zeroes_empty_negative: bool = False

    def encode(self, parts: Mapping[str, nn.Module], ids: tuple[Tensor, ...], clip_skip: int) -> Encoded:
        """Clip skip 1 reads the last layer; every layer passes the final norm, as in training."""
        encoder = parts["text_encoder"]
        states = encoder(ids[0], output_hidden_states=True).hidden_states
        return Encoded(encoder.final_layer_norm(hidden_layer(states, clip_skip)))

    def added(self, pooled: Tensor | None, width: int, height: int) -> None:
        """Nothing."""


SD1 = StableDiffusion()
SD2 = StableDiffusion()
