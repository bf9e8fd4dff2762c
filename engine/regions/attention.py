"""Cross-attention that reads a prompt of its own in each region ("attention couple"), for some evaluations.

    out = Σᵢ shareᵢ · attention(x, promptᵢ)        the shares of each place sum up to 1 (`places.py`)

Each prompt is read by whatever processor the layer has (SDPA, xformers, sliced, an IP-Adapter's), only at the places
where it counts: what a place reads depends on no other place. Source: the idea of Latent Couple and of "attention
couple" (laksjdjf 2023), which is that of Prompt-to-Prompt (Hertz et al. 2022, arXiv 2208.01626): layout is decided in
cross-attention.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.regions.loras import RegionalLoras
from engine.regions.places import RegionPlaces
from engine.sampling.denoise import Conditions, ControlResiduals, Predict
from engine.sampling.guidance.attention import attentions


@dataclass(frozen=True, slots=True)
class RegionalAttention:
    """A layer's own processor, once for each prompt.

    Attributes:
        prompt_embeds: Of each region, (batch, tokens, width).
    """

    processor: Any
    prompt_embeds: Sequence[Tensor]
    places: RegionPlaces
    loras: RegionalLoras

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Any, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Attend; (batch, places, width)."""
        # An IP-Adapter's image embeds stand behind the prompt, and act at all places.
        own, *images = encoder_hidden_states if isinstance(encoder_hidden_states, tuple) else (encoder_hidden_states,)
        mixed = torch.zeros_like(hidden_states)
        for number, acting in enumerate(self.places.prompts_on(hidden_states.shape[1])):
            if acting is None:
                continue
            prompt_embeds = own if number == 0 else self.prompt_embeds[number - 1].to(own.dtype)
            context = (prompt_embeds, *images) if images else prompt_embeds
            queries = hidden_states if acting.indices is None else hidden_states[:, acting.indices]
            with self.loras.reading(number - 1 if number else None):
                attended = self.processor(attn, queries, context, *args, **kwargs)
            attended = attended * acting.shares.to(attended.dtype)
            if acting.indices is None:
                mixed += attended
            else:
                mixed.index_add_(1, acting.indices, attended)
        return mixed


@dataclass(frozen=True, slots=True)
class Regional:
    """What makes a pass regional beside its conditions."""

    places: RegionPlaces
    loras: RegionalLoras

    def predict_with(self, predict: Predict, unet: nn.Module) -> Predict:
        """The same model, which reads the conditions' regions at their places; nothing may stand in for it."""

        def predict_by_regions(
            latents: Tensor, t: Tensor, conditions: Conditions, residuals: ControlResiduals | None
        ) -> Tensor:
            with self._attached(unet, conditions.regions):
                return predict(latents, t, conditions, residuals)

        return predict_by_regions

    @contextmanager
    def _attached(self, unet: nn.Module, prompt_embeds: Sequence[Tensor]) -> Iterator[None]:
        crossing = attentions(unet, "attn2")
        originals = [module.processor for module in crossing]
        self.loras.places = self.places
        try:
            for module, original in zip(crossing, originals, strict=True):
                module.set_processor(RegionalAttention(original, prompt_embeds, self.places, self.loras))
            yield
        finally:
            self.loras.places = None
            for module, original in zip(crossing, originals, strict=True):
                module.set_processor(original)
