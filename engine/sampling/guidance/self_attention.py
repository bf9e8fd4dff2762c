"""Self-attention guidance. Source: Hong et al. 2022 (arXiv 2210.00939), algorithm 1 and eq. 13 to 16."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from engine.sampling.guidance.attention import (
    attentions,
    gaussian_blur,
    grid_of,
    project_out,
    replaced_attention,
    split_heads,
)
from engine.sampling.guidance.protocol import Evaluation, Guide, Prediction

_KERNEL_SIZE = 9
_SALIENT = 1.0  # attention that a place gets from all others, where each has 1 to give


@dataclass(frozen=True, slots=True)
class SelfAttention:
    """Away from the prediction of latents that are blurred where the middle block's self-attention looks.

    Attributes:
        blur: Standard deviation of the blur, in latents.
    """

    scale: float
    blur: float
    unet: Any

    def __call__(self, evaluation: Evaluation, guide: Guide) -> Prediction:
        """Add the direction away from the degraded prediction, that of the negative prompt where there is guidance."""
        seen = AttentionSeen()
        with replaced_attention(attentions(self.unet.mid_block, "attn1")[:1], seen):
            prediction = guide(evaluation)
        own, conditions = prediction.uncond, evaluation.conditions.uncond()
        if own is None:
            own, conditions = prediction.cond, prediction.conditions
        attention = seen.received[: len(own)].mean(dim=0, keepdim=True)
        level = evaluation.level
        x0 = level.denoised(evaluation.x, own)
        noise = (evaluation.x - level.alpha * x0) / level.sigma
        degraded = level.alpha * _degrade(x0, attention, self.blur) + level.sigma * noise
        each = evaluation.predict(degraded, level, conditions)
        if prediction.uncond is None:
            each = conditions.apply_cfg(each, 1.0)
        return replace(prediction, guided=prediction.guided + self.scale * (own - each))


@dataclass(slots=True)
class AttentionSeen:
    """Plain self-attention that notes how much attention each place receives: (B, tokens), the mean of the heads."""

    received: Tensor = field(default_factory=lambda: torch.zeros(0))

    def __call__(self, attn: Any, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        """Attend; (B, tokens, width)."""
        query, key, value = (split_heads(attn, to(hidden_states)) for to in (attn.to_q, attn.to_k, attn.to_v))
        weights = (query @ key.transpose(2, 3) * attn.scale).softmax(dim=-1)
        self.received = weights.float().mean(dim=1).sum(dim=1)
        return project_out(attn, (weights @ value).transpose(1, 2).flatten(2))


def _degrade(x0: Tensor, attention: Tensor, blur: float) -> Tensor:
    """x0 (1, C, h, w), blurred where places of a coarser map (1, tokens) get more attention than they give."""
    places = (attention > _SALIENT).float().unflatten(1, grid_of(attention.shape[1], x0))
    mask = functional.interpolate(places[:, None], size=x0.shape[-2:])
    return gaussian_blur(x0, blur, _KERNEL_SIZE) * mask + x0 * (1 - mask)
