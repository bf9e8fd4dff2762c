"""Methods that change how much noise the model is told of, or how much is taken away."""

import math
from dataclasses import dataclass, replace

from engine.sampling.guidance.protocol import Evaluation, Guide, Prediction

_LARGEST_SIGMA = 100.0


@dataclass(frozen=True, slots=True)
class EpsilonScaling:
    """The noise that is predicted, divided by a constant: against the bias that errors of earlier steps add.

    Left alone where there is hardly any signal, as in the first steps of a model of zero SNR.
    Source: Ning et al. 2023 (arXiv 2308.15321), eq. 15, with one lambda for all steps.
    """

    scale: float

    def __call__(self, evaluation: Evaluation, guide: Guide) -> Prediction:
        """Scale a prediction of noise."""
        prediction = guide(evaluation)
        level = prediction.evaluation.level
        if level.alpha * _LARGEST_SIGMA < level.sigma:
            return prediction
        denoised = prediction.denoised
        noise = prediction.evaluation.x / level.alpha - denoised  # times sigma / alpha
        return prediction.with_denoised(denoised + (1 - 1 / self.scale) * noise)


@dataclass(frozen=True, slots=True)
class Detail:
    """The model is told a lower noise level than there is, and so leaves more of the noise, as details.

    Source: "Detail Daemon" (muerrilla), an extension of A1111: its values by their names, and its rule
    sigma * (1 - 0.1 * amount * guidance) for both predictions together.

    Attributes:
        amount: At the peak, which lies at `bias` of the way from `start` to `end`, shares of the run.
        exponent: Of the rise and the fall.
        start_offset, end_offset: The amount before the start and behind the end.
        fade: A share that is taken from all of it.
        smooth: "smooth" for a rise and a fall along a cosine, else straight.
    """

    amount: float
    start: float
    end: float
    bias: float
    exponent: float
    start_offset: float
    end_offset: float
    fade: float
    smooth: str

    def amount_at(self, step: int, steps: int) -> float:
        """The amount at one step of a run, 0-based."""
        begin = min(self.start, self.end)
        peak = begin + self.bias * (self.end - begin)
        first, middle, last = (round(share * (steps - 1)) for share in (begin, peak, self.end))
        if step < first:
            return self.start_offset * (1 - self.fade)
        if step > last:
            return self.end_offset * (1 - self.fade)
        offset, length = (self.start_offset, middle - first) if step < middle else (self.end_offset, last - middle)
        nearness = 1 - abs(step - middle) / length if length else 1.0
        if self.smooth == "smooth":
            nearness = (1 - math.cos(math.pi * nearness)) / 2
        return (offset + (self.amount - offset) * math.pow(nearness, self.exponent)) * (1 - self.fade)

    def __call__(self, evaluation: Evaluation, guide: Guide) -> Prediction:
        """Evaluate at the lower noise level; latents at unit variance are scaled to it."""
        scale = evaluation.guidance if evaluation.conditions.is_guided else 1.0
        factor = max(1e-6, 1 - 0.1 * self.amount_at(evaluation.step, evaluation.steps) * scale)
        if factor == 1.0 or evaluation.sigma.isinf():
            return guide(evaluation)
        level = evaluation.sampling.level(evaluation.sigma * factor)
        x = evaluation.x
        if evaluation.level.prediction_type != "flow_prediction":
            x = x * (level.alpha / evaluation.level.alpha)
        return guide(replace(evaluation, x=x, level=level))
