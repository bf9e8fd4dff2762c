"""Normalized attention guidance. Source: Chen et al. 2025 (arXiv 2505.21179), eq. 7 to 10."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.sampling.guidance.attention import attend, attentions, project_out, replaced_attention, split_heads
from engine.sampling.guidance.protocol import Evaluation, Guide, Prediction
from engine.sampling.noise_levels import NoiseLevel

if TYPE_CHECKING:
    from engine.sampling.denoise import Conditions


@dataclass(frozen=True, slots=True)
class NormalizedAttention:
    """Cross-attention to the prompt, away from that to the negative prompt, in every evaluation of the prompt.

    Attributes:
        scale: As in the authors' program: 1 is off.
        tau: How many times its own norm the result may have.
        alpha: The share of the result; the rest is plain attention.
    """

    scale: float
    tau: float
    alpha: float
    unet: Any

    def __call__(self, evaluation: Evaluation, guide: Guide) -> Prediction:
        """Guide with that attention."""
        negative = evaluation.conditions.prompt_embeds[:1]
        crossing = attentions(self.unet, "attn2")

        def predict(x: Tensor, level: NoiseLevel, conditions: "Conditions") -> Tensor:
            first_prompt = len(conditions.prompt_embeds) - len(conditions.weights)
            with replaced_attention(crossing, GuidedAttention(self, negative, first_prompt)):
                return evaluation.predict(x, level, conditions)

        return guide(replace(evaluation, predict=predict))


@dataclass(frozen=True, slots=True)
class GuidedAttention:
    """Cross-attention that is guided for the entries of a batch from `first_prompt` on.

    Attributes:
        negative: Embeddings of the negative prompt, (1, tokens, width).
    """

    method: NormalizedAttention
    negative: Tensor = field(repr=False)
    first_prompt: int = 0

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *_: object, **__: object
    ) -> Tensor:
        """Attend; (B, tokens, width)."""
        query = split_heads(attn, attn.to_q(hidden_states))
        attended = attend(attn, query, encoder_hidden_states)
        own, positive = attended[: self.first_prompt], attended[self.first_prompt :]
        negative = self.negative.to(encoder_hidden_states).expand(len(positive), -1, -1)
        away = attend(attn, query[self.first_prompt :], negative)
        return project_out(attn, torch.cat([own, self.combine(positive, away)]))

    def combine(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Extrapolate, limit the L1 norm of each token, and mix; (B, tokens, width) each."""
        scale, tau, alpha = self.method.scale, self.method.tau, self.method.alpha
        guided = scale * positive - (scale - 1) * negative
        norms = [x.float().norm(p=1, dim=-1, keepdim=True).clamp(min=1e-7) for x in (guided, positive)]
        ratio = norms[0] / norms[1]
        limited = guided * (ratio.clamp(max=tau) / ratio).to(guided.dtype)
        mixed: Tensor = alpha * limited + (1 - alpha) * positive
        return mixed
