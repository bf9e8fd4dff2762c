"""What a method of guidance is: a function around the ones within it.

    def __call__(self, evaluation, guide):
        prediction = guide(evaluation)
        return replace(prediction, guided=...)

It may change what it passes on (latents, noise level, scale), what comes back, or make evaluations of its own. The
innermost guide is `classifier_free`.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from torch import Tensor, nn

from catalog.families.family import Family
from catalog.guidance import GUIDANCE_METHODS, active_methods
from contract.errors import InvalidRecipe
from contract.parts import GuidanceMethod
from engine.sampling.noise_levels import NoiseLevel

if TYPE_CHECKING:
    from engine.sampling.denoise import Conditions
    from engine.sampling.samplers import Sampling


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation of the guided model, as a solver asks for it.

    Attributes:
        x: Latents in the sampler's space, (1, C, h, w), float32.
        level: The noise level that the model is told.
        sigma: The sampler's, a scalar on the CPU.
        guidance: The scale of classifier-free guidance; at 1 or less the negative prompt is not evaluated.
        step: Of the run, 0-based, those that are left out counted.
        sampling: The whole run.
        predict: Evaluates the model: latents, level, conditions -> a prediction for each of them, (n, C, h, w).
    """

    x: Tensor
    level: NoiseLevel
    sigma: Tensor
    conditions: "Conditions"
    guidance: float
    step: int
    sampling: "Sampling"
    predict: Callable[[Tensor, NoiseLevel, "Conditions"], Tensor]

    @property
    def scale(self) -> float:
        """That of classifier-free guidance as it is computed with: samplers of CFG++ count it from 0 to 1."""
        return self.guidance * self.sampling.sampler.guidance_factor

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.sampling.steps


@dataclass(frozen=True, slots=True)
class Prediction:
    """What an evaluation gave, in the model's own prediction type.

    Attributes:
        evaluation: As it was made: with the latents and the noise level that the model was given.
        conditions: Those that were evaluated.
        each: For each of the conditions, (n, C, h, w).
        guided: Their combination, (1, C, h, w).
    """

    evaluation: Evaluation
    conditions: "Conditions"
    each: Tensor
    guided: Tensor

    @property
    def uncond(self) -> Tensor | None:
        """Of the negative prompt; None where it was not evaluated."""
        return self.each[:1] if self.conditions.is_guided else None

    @property
    def cond(self) -> Tensor:
        """Of the prompt; several are composed, as guidance of scale 1 would."""
        if len(self.conditions.weights) == 1 and self.conditions.weights[0] == 1.0:
            return self.each[-1:]
        return self.conditions.apply_cfg(self.each, 1.0)

    @property
    def denoised(self) -> Tensor:
        """The estimate of x0 by the guided prediction."""
        return self.as_denoised(self.guided)

    def as_denoised(self, prediction: Tensor) -> Tensor:
        """The estimate of x0 by a prediction."""
        return self.evaluation.level.denoised(self.evaluation.x, prediction)

    def with_denoised(self, denoised: Tensor) -> "Prediction":
        """The same, guided to an estimate of x0."""
        return replace(self, guided=self.evaluation.level.prediction(self.evaluation.x, denoised))


Guide = Callable[[Evaluation], Prediction]


class Method(Protocol):
    """A class of this folder, made with the values of its row; it may remember what it saw of one image's pass."""

    def __call__(self, evaluation: Evaluation, guide: Guide) -> Prediction:
        """Guide by what is within, and in this method's own way."""
        ...


def classifier_free(evaluation: Evaluation) -> Prediction:
    """Guide by the difference of two predictions, or predict by the prompt alone where the scale is 1 or less."""
    conditions = evaluation.conditions
    if evaluation.guidance <= 1.0:
        conditions = conditions.prompts()
    each = evaluation.predict(evaluation.x, evaluation.level, conditions)
    return Prediction(evaluation, conditions, each, conditions.apply_cfg(each, evaluation.scale))


def make_guide(
    used: Sequence[GuidanceMethod], sampling: "Sampling", unet: nn.Module | None, family: Family | None = None
) -> Guide:
    """The guide of one image's pass: classifier-free guidance within the recipe's methods.

    Args:
        unet: The denoiser, of methods that change it; they restore it after each evaluation.
        family: The model's; None takes a U-Net.
    Raises:
        InvalidRecipe: a method doesn't go with what the model predicts, or there is no such method here.
    """
    guide: Guide = classifier_free
    unknown = [one.id for one in used if one.id not in GUIDANCE_METHODS]
    if unknown:
        raise InvalidRecipe(
            f"There is no guidance method “{unknown[0]}”.", "Leave it out.", field="guidance_methods.id"
        )
    kind = family.denoiser if family else "unet"
    for method, values in active_methods(used):
        is_apt = sampling.prediction_type in method.predictions and kind in method.denoisers
        if not is_apt or (method.changes_unet and unet is None):
            raise InvalidRecipe(
                f"{method.label} does not go with a model that predicts “{sampling.prediction_type}”.",
                "Remove it, or use another model.",
                field="guidance_methods.id",
            )
        module, _, name = method.maker.partition(":")
        make = getattr(importlib.import_module(f"engine.sampling.guidance.{module}"), name)
        given: dict[str, Any] = {"unet": unet} if method.changes_unet else {}
        if method.skips_layers:
            given["layers"] = family.skipped_layers if family else ()
        made = cast(Method, make(**values, **given))
        guide = partial(made, guide=guide)
    return guide
