"""CFG-Zero*. Source: Fan et al. 2025 (arXiv 2503.18886), eq. 8 and algorithm 1."""

from dataclasses import dataclass, replace

import torch

from engine.sampling.guidance.protocol import Evaluation, Guide, Prediction


@dataclass(frozen=True, slots=True)
class ZeroStar:
    """The unconditional prediction, scaled to its best fit to the conditional one.

    Attributes:
        zero_steps: Steps at the beginning whose prediction is 0. The paper has it for models of rectified flow.
    """

    zero_steps: float

    def __call__(self, evaluation: Evaluation, guide: Guide) -> Prediction:
        """Guide from the scaled unconditional prediction."""
        prediction = guide(evaluation)
        if evaluation.step < self.zero_steps:
            return replace(prediction, guided=torch.zeros_like(prediction.guided))
        if prediction.uncond is None:
            return prediction
        cond, uncond = prediction.cond, prediction.uncond
        s_star = (cond * uncond).sum() / (uncond**2).sum()
        scaled = s_star * uncond
        return replace(prediction, guided=scaled + evaluation.scale * (cond - scaled))
