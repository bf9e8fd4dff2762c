"""Guidance away from a prediction whose self-attention is disturbed, in the middle block of the U-Net."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from engine.sampling.guidance.attention import (
    attend,
    attentions,
    gaussian_blur,
    grid_of,
    project_out,
    replaced_attention,
    split_heads,
)
from engine.sampling.guidance.protocol import Evaluation, Guide, Prediction

_INFINITE_BLUR = 9999.0


@dataclass(frozen=True, slots=True)
class PerturbedAttention:
    """PAG: the attention map is the identity. Source: Ahn et al. 2024 (arXiv 2403.17377), eq. 14 and section 4.2.

    Attributes:
        adaptive: What is taken from the scale for each timestep of the training that is done, as in diffusers.
    """

    scale: float
    adaptive: float
    unet: Any

    def __call__(self, evaluation: Evaluation, guide: Guide) -> Prediction:
        """Add the direction away from the perturbed prediction."""
        table, timestep = evaluation.sampling.table, float(evaluation.level.timestep)
        if table.is_edm:
            timestep = float(table.places_at(evaluation.sigma.numpy()))
        done = table.train_steps - timestep
        scale = max(0.0, self.scale - self.adaptive * done)
        return _guided_away(evaluation, guide, scale, self.unet, attend_to_itself)


@dataclass(frozen=True, slots=True)
class SmoothedEnergy:
    """SEG: the queries are blurred. Source: Hong 2024 (arXiv 2408.00760), eq. 11 and algorithm 1.

    Attributes:
        blur: Standard deviation of the blur, in places of the feature map; from 9999 on the mean of all places.
    """

    scale: float
    blur: float
    unet: Any

    def __call__(self, evaluation: Evaluation, guide: Guide) -> Prediction:
        """Add the direction away from the smoothed prediction."""
        return _guided_away(evaluation, guide, self.scale, self.unet, BlurredQueries(self.blur, evaluation.x))


def _guided_away(evaluation: Evaluation, guide: Guide, scale: float, unet: Any, processor: Any) -> Prediction:
    """guided + scale * (cond - disturbed cond)."""
    prediction = guide(evaluation)
    prompts = evaluation.conditions.prompts()
    with replaced_attention(attentions(unet.mid_block, "attn1"), processor):
        each = evaluation.predict(evaluation.x, evaluation.level, prompts)
    cond = prediction.each[-len(prompts.weights) :]
    return replace(prediction, guided=prediction.guided + scale * _composed(prompts.weights, cond - each))


def _composed(weights: tuple[float, ...], each: Tensor) -> Tensor:
    """The weighted sum of what several prompts give, (n, C, h, w) -> (1, C, h, w)."""
    return sum((weight * one for weight, one in zip(weights, each.split(1), strict=True)), start=0 * each[:1])


def attend_to_itself(attn: Any, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
    """Self-attention of which every place sees itself alone; (B, tokens, width)."""
    return project_out(attn, attn.to_v(hidden_states))


@dataclass(frozen=True, slots=True)
class BlurredQueries:
    """Self-attention with blurred queries.

    Attributes:
        latents: By whose height and width the tokens are places.
    """

    sigma: float
    latents: Tensor = field(repr=False)

    def __call__(self, attn: Any, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        """Attend; (B, tokens, width)."""
        query = split_heads(attn, attn.to_q(hidden_states))
        if self.sigma >= _INFINITE_BLUR:
            query = query.mean(dim=2, keepdim=True).expand_as(query)
        elif self.sigma > 0:
            size = 2 * math.ceil(3 * self.sigma) + 1
            places = query.transpose(2, 3).unflatten(3, grid_of(query.shape[2], self.latents))
            blurred = gaussian_blur(places.flatten(0, 1), self.sigma, size)
            query = blurred.unflatten(0, query.shape[:2]).flatten(3).transpose(2, 3)
        return project_out(attn, attend(attn, query, hidden_states))
