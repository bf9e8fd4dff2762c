"""The denoising loop: noise in, one LatentStep after another out; the caller decides when to stop.

Text to image, image to image and inpainting differ by `mask_blend`, ControlNet by `controls`, prompt editing
and AND by `conditioning`, a refiner by `model`: optional parts of one path. Knows no recipe and no file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.sampling.mask_blend import MaskBlend
from engine.sampling.samplers import Sampling

Span = tuple[float, float]  # the share of a run, 0..1, that one model evaluation covers


@dataclass(frozen=True, slots=True)
class Conditions:
    """The prompt embeddings of one step.

    Attributes:
        prompt_embeds: (n, tokens, width), or (1 + n, tokens, width) with guidance; then row 0 is the negative prompt.
        weights: One for each of the n conditions (several: composed by AND).
        is_guided: Whether row 0 is the unconditional prompt of classifier-free guidance.
        added: Further inputs of the U-Net, with the same batch (SDXL: text_embeds, time_ids).
    """

    prompt_embeds: Tensor
    weights: tuple[float, ...] = (1.0,)
    is_guided: bool = False
    added: dict[str, Tensor] | None = None

    def apply_cfg(self, prediction: Tensor, guidance: float) -> Tensor:
        """Combine the predictions of a batch into one, (1, C, h, w).

        Source: Ho and Salimans 2022 (arXiv 2207.12598); several conditions as in Liu et al. 2022 (arXiv 2206.01714).
        """
        if self.is_guided and len(self.weights) == 1:
            uncond, cond = prediction.chunk(2)
            return uncond + guidance * self.weights[0] * (cond - uncond)
        if self.is_guided:
            uncond, conds = prediction[:1], prediction[1:].split(1)
            directions = [weight * (cond - uncond) for weight, cond in zip(self.weights, conds, strict=True)]
            return uncond + guidance * sum(directions)
        if len(self.weights) == 1:
            return prediction
        total = sum(self.weights) or 1.0
        conds = prediction.split(1)
        shares = [weight / total * cond for weight, cond in zip(self.weights, conds, strict=True)]
        return sum(shares)


@dataclass(frozen=True, slots=True)
class ControlResiduals:
    """What controls add to one evaluation of the U-Net, with the batch of its latents.

    Attributes:
        down_block: Of ControlNets: one residual for each skip connection.
        mid_block: Of ControlNets: the residual of the middle block.
        adapter_features: Of T2I-Adapters: one feature map for each down block.
        image_embeds: Of IP-Adapters, in the order in which they were loaded into the U-Net: (batch, 1, …) each.
    """

    down_block: tuple[Tensor, ...] = ()
    mid_block: Tensor | None = None
    adapter_features: tuple[Tensor, ...] = ()
    image_embeds: tuple[Tensor, ...] = ()


Predict = Callable[[Tensor, Tensor, Conditions, ControlResiduals | None], Tensor]
ModelAt = Callable[[int], Predict]  # by step, so that a refiner can take over
ConditionsAt = Callable[[int], Conditions]  # by the number of steps run, skipped ones not counted
Controls = Callable[[Tensor, Tensor, Conditions, Span], ControlResiduals | None]


@dataclass(frozen=True, slots=True)
class LatentStep:
    """Step `index` of `total` is done (1-based).

    Attributes:
        latents: After the step, (1, C, h, w), float32, in the sampler's space.
        noisy: Before its last model evaluation, same shape.
        prediction: The guided output of that evaluation, same shape.
        c_skip, c_out: Its factors in the denoised estimate, c_skip * noisy + c_out * prediction.
    """

    index: int
    total: int
    latents: Tensor
    noisy: Tensor
    prediction: Tensor
    c_skip: float
    c_out: float

    @property
    def denoised(self) -> Tensor:
        """The denoised estimate x0, in VAE latent units; computed only when asked for."""
        return self.c_skip * self.noisy + self.c_out * self.prediction


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
    """Denoise, step by step.

    Args:
        noise: Unit noise, (1, C, h, w), float32, on the model's device.
        guidance: The CFG scale; unused where the conditions are not guided.
        generator: Seeded for this image, on the CPU; stochastic samplers draw their noise from it.
    """
    order = sampling.order
    count = len(sampling.timesteps)
    first_step = mask_blend.first_step if mask_blend else 0
    first = first_step * order
    if first >= count:
        return  # strength 0 keeps the init image
    sampling.start_at(first)
    if mask_blend:
        latents = mask_blend.begin()
    else:
        latents = noise * sampling.init_noise_sigma
    for evaluation in range(first, count):
        step = evaluation // order
        conditions = conditioning(step - first_step)
        t = sampling.device_timesteps[evaluation]
        model_input = sampling.scheduler.scale_model_input(latents, sampling.timesteps[evaluation])
        batch = torch.cat([model_input] * conditions.prompt_embeds.shape[0])
        residuals = None
        if controls:
            span = ((evaluation - first) / (count - first), (evaluation + 1 - first) / (count - first))
            residuals = controls(batch, t, conditions, span)
        predictions = model(step)(batch, t, conditions, residuals).float()
        prediction = conditions.apply_cfg(predictions, guidance)
        noisy = latents
        latents = sampling.advance(prediction, evaluation, noisy, generator)
        if mask_blend:
            latents = mask_blend.blend(latents, evaluation)
        is_last_of_step = evaluation % order == order - 1 or evaluation == count - 1
        if is_last_of_step:
            c_skip, c_out = sampling.c_skip[evaluation], sampling.c_out[evaluation]
            yield LatentStep(step + 1, sampling.steps, latents, noisy, prediction, c_skip, c_out)
