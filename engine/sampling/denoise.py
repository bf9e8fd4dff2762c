"""The loop: noise in, one LatentStep after another out; the caller decides when to stop.

Text to image, image to image and inpainting differ by `mask_blend`, ControlNet by `controls`, prompt editing
and AND by `conditioning`, a refiner by `model`: optional parts of one path. Knows no recipe, no file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.sampling.mask_blend import MaskBlend
from engine.sampling.samplers import Sampling

Span = tuple[float, float]  # the part of a run, 0..1, that an evaluation is


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the model is told at one step.

    Attributes:
        prompt_embeds: (unguided: n, guided: 1 + n; tokens, width); guided, the first row is the negative prompt.
        weights: One a condition, n of them (several: composed by AND).
        is_guided: Whether row 0 is what to steer away from.
        added: Further inputs of the model with the same rows (SDXL: text_embeds, time_ids).
    """

    prompt_embeds: Tensor
    weights: tuple[float, ...] = (1.0,)
    is_guided: bool = False
    added: dict[str, Tensor] | None = None

    def apply_cfg(self, prediction: Tensor, guidance: float) -> Tensor:
        """Rows of predictions -> one, (1, C, h, w): Ho and Salimans 2022 (arXiv 2207.12598), composed
        as in Liu et al. 2022 (arXiv 2206.01714)."""
        if self.is_guided and len(self.weights) == 1:
            away, toward = prediction.chunk(2)
            return away + guidance * self.weights[0] * (toward - away)
        if self.is_guided:
            away = prediction[:1]
            terms = zip(self.weights, prediction[1:].split(1), strict=True)
            return away + guidance * sum(weight * (toward - away) for weight, toward in terms)
        if len(self.weights) == 1:
            return prediction
        total = sum(self.weights) or 1.0
        terms = zip(self.weights, prediction.split(1), strict=True)
        return sum(weight / total * toward for weight, toward in terms)


@dataclass(frozen=True, slots=True)
class ControlResiduals:
    """What controls add to one evaluation of the model, a row for each row of the latents.

    Attributes:
        down_block, mid_block: Of ControlNets: for each skip connection of the U-Net and for its mid block.
        adapter_features: Of T2I-Adapters: for each of the U-Net's down blocks.
        image_embeds: Of IP-Adapters, in the order they are on the U-Net: (batch, 1, …) each.
    """

    down_block: tuple[Tensor, ...] = ()
    mid_block: Tensor | None = None
    adapter_features: tuple[Tensor, ...] = ()
    image_embeds: tuple[Tensor, ...] = ()


Predict = Callable[[Tensor, Tensor, Conditions, ControlResiduals | None], Tensor]
ModelAt = Callable[[int], Predict]  # by step, so that a refiner can take over
ConditionsAt = Callable[[int], Conditions]  # by the number of steps that are made, those left out not counted
Controls = Callable[[Tensor, Tensor, Conditions, Span], ControlResiduals | None]


@dataclass(frozen=True, slots=True)
class LatentStep:
    """Step `index` of `total` is done. latents: (1, C, h, w), float32, in the sampler's space."""

    index: int
    total: int
    latents: Tensor
    noisy: Tensor
    prediction: Tensor
    clean: tuple[float, float]

    @property
    def denoised(self) -> Tensor:
        """The clean estimate x0, in VAE latent units; worked out only when asked for."""
        of_latents, of_prediction = self.clean
        return of_latents * self.noisy + of_prediction * self.prediction


@torch.inference_mode()
def denoise(
    model: ModelAt,
    conditioning: ConditionsAt,
    sampling: Sampling,
    noise: Tensor,
    guidance: float,
    generator: torch.Generator | None = None,
    *,
    mask_blend: MaskBlend | None = None,
    controls: Controls | None = None,
) -> Iterator[LatentStep]:
    """Develop noise into latents.

    Args:
        noise: Unit noise, (1, C, h, w), float32, on the model's device.
        guidance: Only used where the conditions are guided.
        generator: Of the picture's seed, on the CPU; stochastic samplers draw from it.
    """
    order = sampling.order
    first_step = mask_blend.first_step if mask_blend else 0
    first = first_step * order
    if first >= len(sampling.timesteps):
        return  # strength 0 keeps the start picture
    sampling.start_at(first)
    latents = mask_blend.begin() if mask_blend else noise * sampling.noise_scale
    count = len(sampling.timesteps)
    made = count - first
    for evaluation in range(first, count):
        step = evaluation // order
        conditions = conditioning(step - first_step)
        t = sampling.device_timesteps[evaluation]
        scaled = sampling.scheduler.scale_model_input(latents, sampling.timesteps[evaluation])
        rows = torch.cat([scaled] * conditions.prompt_embeds.shape[0])
        span = ((evaluation - first) / made, (evaluation + 1 - first) / made)
        residuals = controls(rows, t, conditions, span) if controls else None
        raw = model(step)(rows, t, conditions, residuals).float()
        prediction = conditions.apply_cfg(raw, guidance)
        noisy, latents = latents, sampling.advance(prediction, evaluation, latents, generator)
        if mask_blend:
            latents = mask_blend.blend(latents, evaluation)
        if evaluation % order == order - 1 or evaluation == count - 1:
            yield LatentStep(step + 1, sampling.steps, latents, noisy, prediction, sampling.clean[evaluation])
