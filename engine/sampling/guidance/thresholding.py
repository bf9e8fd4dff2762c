"""Dynamic thresholding of latents: the contrast of one guidance scale within that of another.

Source: Saharia et al. 2022 (Imagen, arXiv 2205.11487), section 2.3: clamp x0 to a percentile of its values, then bring
it back to the range it should have. Latents have no range of their own; as in A1111's extension of this name, the
estimate at a lower scale, the mimic scale, has it, channel by channel around its mean.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.sampling.guidance.protocol import Evaluation, Guide, Prediction


@dataclass(frozen=True, slots=True)
class DynamicThresholding:
    """Clamp and scale the estimate of x0.

    Attributes:
        mimic_scale: The guidance whose contrast it has afterwards.
        percentile: Of the deviations from the mean, beyond which they are clamped.
        phi: The share of the result; the rest is plain guidance.
        start_point: "mean" clamps and scales around each channel's mean, "zero" scales alone, around 0.
        measure: Of the contrast: "ad" the largest absolute deviation, "std" the standard deviation.
    """

    mimic_scale: float
    percentile: float
    phi: float
    start_point: str
    measure: str

    def __call__(self, evaluation: Evaluation, guide: Guide) -> Prediction:
        """Threshold what guidance made, where there was any."""
        prediction = guide(evaluation)
        if prediction.uncond is None:
            return prediction
        uncond = prediction.as_denoised(prediction.uncond)
        direction = prediction.as_denoised(prediction.cond) - uncond
        guided = prediction.denoised.flatten(2)
        mimic = (uncond + self.mimic_scale * direction).flatten(2)
        mean = guided.mean(dim=2, keepdim=True)
        deviation = guided - mean
        wanted = self._contrast(mimic - mimic.mean(dim=2, keepdim=True), 1.0)
        found = self._contrast(deviation, self.percentile)
        if self.start_point == "zero":
            thresholded = guided * (wanted / found)
        elif self.measure == "std":
            thresholded = mean + deviation * (wanted / found)
        else:
            limit = torch.maximum(wanted, found)
            thresholded = mean + deviation.clamp(-limit, limit) * (wanted / limit)
        mixed = self.phi * thresholded + (1 - self.phi) * guided
        return prediction.with_denoised(mixed.unflatten(2, prediction.guided.shape[2:]))

    def _contrast(self, deviation: Tensor, percentile: float) -> Tensor:
        """Of each channel; deviation (1, C, h * w) -> (1, C, 1)."""
        if self.measure == "std":
            return deviation.std(dim=2, keepdim=True)
        return deviation.abs().quantile(percentile, dim=2, keepdim=True)
