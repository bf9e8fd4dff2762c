"""Skip-layer guidance: away from what a transformer predicts without some of its layers.

Source: Stability AI's program for SD 3.5 medium (sd3.5, `SkipLayerCFGDenoiser`), as diffusers has it; the idea is that
of spatio-temporal skip guidance, Hyung et al. 2024 (arXiv 2411.18664).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from engine.sampling.guidance.protocol import Evaluation, Guide, Prediction


@dataclass(frozen=True, slots=True)
class SkippedLayers:
    """guided + scale * (cond - cond without the layers), in some of the steps.

    Attributes:
        start, end: Shares of the steps between which it acts, both left out.
        layers: Numbers of the transformer's blocks.
    """

    scale: float
    start: float
    end: float
    unet: Any
    layers: tuple[int, ...]

    def __call__(self, evaluation: Evaluation, guide: Guide) -> Prediction:
        """Add the direction away from the prediction of fewer layers."""
        prediction = guide(evaluation)
        if not self.start * evaluation.steps < evaluation.step < self.end * evaluation.steps:
            return prediction
        prompts = evaluation.conditions.prompts()
        with _without(self.unet.transformer_blocks, self.layers):
            each = evaluation.predict(evaluation.x, evaluation.level, prompts)
        directions = (prediction.each[-len(prompts.weights) :] - each).split(1)
        guided = prediction.guided
        for weight, direction in zip(prompts.weights, directions, strict=True):
            guided = guided + self.scale * weight * direction
        return replace(prediction, guided=guided)


@contextmanager
def _without(blocks: Sequence[Any], layers: Sequence[int]) -> Iterator[None]:
    """While it lasts, these blocks give what they are given."""
    skipped = [blocks[number] for number in layers if number < len(blocks)]

    def pass_on(hidden_states: Tensor, encoder_hidden_states: Tensor, **_: object) -> tuple[Tensor, Tensor]:
        return encoder_hidden_states, hidden_states

    try:
        for block in skipped:
            block.forward = pass_on
        yield
    finally:
        for block in skipped:
            block.__dict__.pop("forward", None)
