"""Adaptive projected guidance. Source: Sadat et al. 2024 (arXiv 2410.02416), algorithm 1 and section 4."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.sampling.guidance.protocol import Evaluation, Guide, Prediction


@dataclass(slots=True)
class AdaptiveProjectedGuidance:
    """Guidance of x0 whose direction is averaged, limited, and freed of what is parallel to the estimate.

    Attributes:
        eta: How much of the parallel part stays.
        threshold: The largest norm of the direction (the paper's r); 0 has none.
        momentum: The share of the steps before (the paper's beta); below 0 it works against them.
    """

    eta: float
    threshold: float
    momentum: float
    _average: Tensor | None = field(default=None, init=False)

    def __call__(self, evaluation: Evaluation, guide: Guide) -> Prediction:
        """Guide by the projected direction."""
        prediction = guide(evaluation)
        if prediction.uncond is None:
            return prediction
        cond = prediction.as_denoised(prediction.cond)
        direction = cond - prediction.as_denoised(prediction.uncond)
        if self._average is not None:
            direction = direction + self.momentum * self._average
        self._average = direction
        if self.threshold > 0:
            direction = direction * torch.clamp(self.threshold / direction.norm(), max=1.0)
        unit = cond.double() / cond.double().norm()
        parallel = ((direction.double() * unit).sum() * unit).to(direction.dtype)
        update = (direction - parallel) + self.eta * parallel
        return prediction.with_denoised(cond + (evaluation.scale - 1) * update)
