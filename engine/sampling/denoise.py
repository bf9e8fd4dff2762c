"""The denoising loop: noise in, one LatentStep after another out; the caller decides when to stop.

Text to image, image to image and inpainting differ by `mask_blend`, ControlNet by `controls`, prompt editing
and AND by `conditioning`, a refiner by `takeover`: optional parts of one path. Knows no recipe and no file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.sampling.guidance.protocol import Evaluation, Guide, Prediction, classifier_free
from engine.sampling.mask_blend import MaskBlend
from engine.sampling.noise import NoiseSource, OwnNoise
from engine.sampling.noise_levels import NoiseLevel
from engine.sampling.samplers import Sampling
from engine.sampling.solvers.protocol import find_solver

Span = tuple[float, float]  # the share of a run, 0..1, that one model evaluation covers


@dataclass(frozen=True, slots=True)
class Conditions:
    """The prompt embeddings of one step.

    Attributes:
        prompt_embeds: (n, tokens, width), or (1 + n, tokens, width) with guidance; then row 0 is the negative prompt.
        weights: One for each of the n conditions (several: composed by AND).
        is_guided: Whether row 0 is the unconditional prompt of classifier-free guidance.
        added: Further inputs of the U-Net, with the same batch (SDXL: text_embeds, time_ids).
        regions: Of regional prompts: what each region reads in place of `prompt_embeds`, with the same batch.
    """

    prompt_embeds: Tensor
    weights: tuple[float, ...] = (1.0,)
    is_guided: bool = False
    added: dict[str, Tensor] | None = None
    regions: tuple[Tensor, ...] = ()

    def prompts(self) -> "Conditions":
        """Those of the prompt alone: without guidance there is no other prediction."""
        return self._rows(slice(1, None), self.weights) if self.is_guided else self

    def uncond(self) -> "Conditions":
        """Those of the negative prompt alone. As it is no prompt, controls treat it as with guidance."""
        return self._rows(slice(0, 1), ())

    def _rows(self, rows: slice, weights: tuple[float, ...]) -> "Conditions":
        added = None if self.added is None else {name: value[rows] for name, value in self.added.items()}
        regions = tuple(prompt_embeds[rows] for prompt_embeds in self.regions)
        return Conditions(self.prompt_embeds[rows], weights, False, added, regions)

    def apply_cfg(self, prediction: Tensor, guidance: float) -> Tensor:
        """Combine the predictions of a batch into one, (1, C, h, w).

        Source: Ho and Salimans 2022 (arXiv 2207.12598); several conditions as in Liu et al. 2022 (arXiv 2206.01714).
        """
        if self.is_guided and len(self.weights) == 1:
            uncond, cond = prediction.chunk(2)
            return uncond + guidance * self.weights[0] * (cond - uncond)
        if self.is_guided:
            uncond, conds = prediction[:1], prediction[1:].split(1)
            direction = torch.zeros_like(uncond)
            for weight, cond in zip(self.weights, conds, strict=True):
                direction = direction + weight * (cond - uncond)
            return uncond + guidance * direction
        if len(self.weights) == 1:
            return prediction
        total = sum(self.weights) or 1.0
        combined = torch.zeros_like(prediction[:1])
        for weight, cond in zip(self.weights, prediction.split(1), strict=True):
            combined = combined + weight / total * cond
        return combined


@dataclass(frozen=True, slots=True)
class ControlResiduals:
    """What controls add to one evaluation of the denoiser, with the batch of its latents.

    Attributes:
        down_block: Of ControlNets: one residual for each skip connection.
        mid_block: Of ControlNets: the residual of the middle block.
        adapter_features: Of T2I-Adapters: one feature map for each down block.
        image_embeds: Of IP-Adapters, in the order in which they were loaded into the U-Net: (batch, 1, …) each.
        joint_blocks: Of ControlNets of a transformer: (batch, patches, width) for each of its blocks.
    """

    down_block: tuple[Tensor, ...] = ()
    mid_block: Tensor | None = None
    adapter_features: tuple[Tensor, ...] = ()
    image_embeds: tuple[Tensor, ...] = ()
    joint_blocks: tuple[Tensor, ...] = ()


Predict = Callable[[Tensor, Tensor, Conditions, ControlResiduals | None], Tensor]
ModelAt = Callable[[int], Predict]  # by step
ConditionsAt = Callable[[int], Conditions]  # by the number of steps run, skipped ones not counted
Controls = Callable[[Tensor, Tensor, Conditions, Span], ControlResiduals | None]


@dataclass(frozen=True, slots=True)
class Refiner:
    """A second model with what is its own; noise levels, steps and solver are those of the run.

    Attributes:
        sampling: The run's noise levels, as this model is told them.
    """

    model: Predict
    conditioning: ConditionsAt
    sampling: Sampling
    guide: Guide = classifier_free


@dataclass(slots=True)
class Takeover:
    """From a step on another model goes on with the latents; the solver keeps what it remembers of the steps before.

    What it remembers are estimates of the same x0, so nothing of it is wrong with another model, as in A1111.

    Attributes:
        first_step: Its first, 0-based, steps that are left out counted.
        refiner: None until it is loaded; the caller sees to that before the step begins.
    """

    first_step: int
    refiner: Refiner | None = None


@dataclass(frozen=True, slots=True)
class LatentStep:
    """Step `index` of `total` is done (1-based).

    Attributes:
        latents: After the step, (1, C, h, w), float32, in the sampler's space.
        denoised: The estimate of x0 by the step's last model evaluation, same shape, in VAE latent units.
    """

    index: int
    total: int
    latents: Tensor
    denoised: Tensor


@dataclass(slots=True)
class Denoiser:
    """The diffusion model as solvers see it, `denoised = model(x, sigma)`, with what a step's number decides.

    Attributes:
        guide: Makes one prediction of the model's, by classifier-free guidance and what is added to it.
        first_step: Steps of the run that are left out.
        takeover: None where there is no second model, or it has taken over.
        done: Evaluations of the model by the solver that are done; methods of guidance may make more.
        steps_done: Steps that are done, of those that are not left out.
        denoised: What the last evaluation said.
    """

    model: ModelAt
    conditioning: ConditionsAt
    controls: Controls | None
    sampling: Sampling
    guidance: float
    guide: Guide
    first_step: int
    takeover: Takeover | None = None
    done: int = 0
    steps_done: int = 0
    denoised: Tensor | None = None
    _ends: tuple[int, ...] = ()
    _last: Prediction | None = None

    def __post_init__(self) -> None:
        self._ends = self.sampling.sampler.step_ends(self.steps)

    @property
    def step(self) -> int:
        """The step of the run that the next evaluation belongs to, 0-based."""
        return self.first_step + self.steps_done

    @property
    def steps(self) -> int:
        """Steps that are not left out."""
        return self.sampling.steps - self.first_step

    def share_done(self, ahead: int = 0) -> float:
        """How much of the run is done, 0..1, or will be so many evaluations ahead.

        By evaluations, or by steps where only the solver knows how many it makes.
        """
        if self._ends:
            return (self.done + ahead) / self._ends[-1]
        return min(1.0, (self.steps_done + ahead) / self.steps)

    def count(self, sigma: Tensor) -> bool:
        """Count the evaluation that is done; returns whether it ends a step.

        Args:
            sigma: The noise level that the solver has come to. It tells the step where the evaluations don't.
        """
        before = self.steps_done
        if not self._ends:
            reached = int((self.sampling.sigmas[self.first_step + 1 :] >= sigma).sum())
            self.steps_done = max(before, reached)
        elif self.done >= self._ends[before]:
            self.steps_done += 1
        return self.steps_done > before

    def uncond(self) -> Tensor:
        """The denoised estimate that the last evaluation gave without the prompt; without guidance its only one."""
        assert self._last is not None
        uncond = self._last.uncond
        return self._last.denoised if uncond is None else self._last.as_denoised(uncond)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Evaluate the guided model once: latents in the sampler's space -> the denoised estimate, (1, C, h, w)."""
        if self.takeover is not None and self.step >= self.takeover.first_step:
            refiner, self.takeover = self.takeover.refiner, None
            assert refiner is not None
            self.conditioning, self.sampling, self.guide = refiner.conditioning, refiner.sampling, refiner.guide
            self.model, self.controls = lambda _: refiner.model, None
        conditions = self.conditioning(self.steps_done)
        level = self.sampling.level(sigma)
        evaluation = Evaluation(x, level, sigma, conditions, self.guidance, self.step, self.sampling, self.predict)
        prediction = self.guide(evaluation)
        self.done += 1
        self.denoised = prediction.denoised
        self._last = prediction
        return self.denoised

    def predict(self, x: Tensor, level: NoiseLevel, conditions: Conditions) -> Tensor:
        """Evaluate the model: a prediction for each entry of the conditions, (n, C, h, w), float32."""
        batch = torch.cat([x / level.scale] * conditions.prompt_embeds.shape[0])
        residuals = None
        if self.controls:
            span = (self.share_done(), self.share_done(ahead=1))
            residuals = self.controls(batch, level.timestep, conditions, span)
        return self.model(self.step)(batch, level.timestep, conditions, residuals).float()


@torch.inference_mode()
def denoise(
    model: ModelAt,
    conditioning: ConditionsAt,
    sampling: Sampling,
    noise: Tensor,
    guidance: float,
    source: NoiseSource | None = None,
    *,
    mask_blend: MaskBlend | None = None,
    controls: Controls | None = None,
    guide: Guide = classifier_free,
    takeover: Takeover | None = None,
) -> Iterator[LatentStep]:
    """Denoise, step by step.

    Args:
        noise: Unit noise, (1, C, h, w), float32, on the model's device.
        guidance: The CFG scale; unused where the conditions are not guided.
        source: Of this image, from which stochastic samplers draw the noise of their steps.
        guide: Of this image and pass alone, where methods of guidance remember what they saw.
        takeover: By a second model, on which the controls don't act.
    """
    first_step = mask_blend.first_step if mask_blend else 0
    if first_step >= sampling.steps:
        return  # strength 0 keeps the init image
    denoiser = Denoiser(model, conditioning, controls, sampling, guidance, guide, first_step, takeover)
    start = mask_blend.begin() if mask_blend else noise * sampling.init_noise_sigma
    sigmas = sampling.sigmas[first_step:]
    source = source or OwnNoise(torch.Generator("cpu"))
    solve = find_solver(sampling.sampler)
    solution = solve(denoiser, start, sigmas, source.steps(sampling.sampler, sigmas), **sampling.options)
    latents, sigma = next(solution)
    while True:
        is_step_done = denoiser.count(sigma)
        if mask_blend:
            latents = mask_blend.blend(latents, sigma, denoiser.share_done())
        if is_step_done:
            assert denoiser.denoised is not None
            yield LatentStep(first_step + denoiser.steps_done, sampling.steps, latents, denoiser.denoised)
        if denoiser.steps_done == denoiser.steps:
            return
        latents, sigma = solution.send(latents)
