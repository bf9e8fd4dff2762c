"""SDXL: two text encoders side by side, a pooled embedding, and the picture's size as an input."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from engine.families.family import Config, Encoded, hidden_layer
from engine.families.sd import SD1


def _projecting_encoder(config: Config) -> nn.Module:
    return CLIPTextModelWithProjection(CLIPTextConfig.from_dict(dict(config)))


@dataclass(frozen=True, slots=True)
class StableDiffusionXL:
    """Both encoders are read at the layer before their last, without the final norm."""

    builders: Mapping[str, Callable[[Config], nn.Module]] = field(
        default_factory=lambda: {**SD1.builders, "text_encoder_2": _projecting_encoder}
    )
    tokenizers: tuple[str, ...] = ("tokenizer", "tokenizer_2")
    zeroes_empty_negative: bool = True

    def encode(self, parts: Mapping[str, nn.Module], ids: tuple[Tensor, ...], clip_skip: int) -> Encoded:
        """Clip skip 1 is the layer before the last, as trained; each more goes one further back."""
        first = parts["text_encoder"](ids[0], output_hidden_states=True)
        second = parts["text_encoder_2"](ids[1], output_hidden_states=True)
        layers = [hidden_layer(states.hidden_states, clip_skip + 1) for states in (first, second)]
        return Encoded(torch.cat(layers, dim=-1), second.text_embeds, tuple(layer.shape[-1] for layer in layers))

    def added(self, pooled: Tensor | None, width: int, height: int) -> dict[str, Tensor]:
        """text_embeds (rows, width) and time_ids (rows, 6): original size, crop, target size."""
        assert pooled is not None
        sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=pooled.dtype)
        return {"text_embeds": pooled, "time_ids": sizes.repeat(pooled.shape[0], 1).to(pooled.device)}


SDXL = StableDiffusionXL()
