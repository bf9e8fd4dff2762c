"""Guidance that is another at each step. The course itself is in `catalog/guidance.py`, which costs are counted by."""

from dataclasses import asdict, dataclass, replace

from catalog.guidance import curve_guidance, interval_guidance
from engine.sampling.guidance.protocol import Evaluation, Guide, Prediction


@dataclass(frozen=True)
class Interval:
    """Guidance in a part of the run alone; elsewhere the negative prompt is not evaluated.

    Source: Kynkäänniemi et al. 2024 (arXiv 2404.07724), eq. 5. Noise levels fall from step to step, so that an interval
    of steps is one of noise levels.
    """

    start: float
    end: float

    def __call__(self, evaluation: Evaluation, guide: Guide) -> Prediction:
        """Guide by the scale of this step."""
        scale = interval_guidance(evaluation.guidance, asdict(self), evaluation.step, evaluation.steps)
        return guide(replace(evaluation, guidance=scale))


@dataclass(frozen=True)
class Curve:
    """A scale for each step, from the recipe's on. Source: Wang et al. 2024 (arXiv 2404.13040), section 4."""

    shape: str
    end: float
    points: str

    def __call__(self, evaluation: Evaluation, guide: Guide) -> Prediction:
        """Guide by the scale of this step."""
        share = evaluation.step / max(1, evaluation.steps - 1)
        return guide(replace(evaluation, guidance=curve_guidance(evaluation.guidance, asdict(self), share)))
