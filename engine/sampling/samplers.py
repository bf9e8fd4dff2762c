"""A sampler and a schedule by their catalog names -> a diffusers scheduler with the options people mean by them.

The options are those of the field's measured tables; every spacing is set here, never taken from a
checkpoint's configuration. Where diffusers has no option, the sigmas are computed here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    UniPCMultistepScheduler,
)

from catalog.samplers import SAMPLERS
from contract.errors import InvalidRecipe, ModelProblem
from engine.checkpoints.foreign_config import blame_config

# What a checkpoint's scheduler configuration may say; everything else is the sampler's business.
_FROM_CHECKPOINT = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)
_PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
_SPACINGS = ("uniform", "sgm_uniform", "simple")  # schedules that are even in time
_SIGMA_OPTIONS: Mapping[str, Mapping[str, bool]] = {
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
}
_LCM_TIMESTEPS = 50  # that latent consistency models were distilled on


@dataclass(frozen=True, slots=True)
class _Scheduler:
    """What a sampler is in diffusers.

    Attributes:
        is_sigma_space: Latents are x0 + sigma * noise; those of the others keep unit variance.
        whole_timesteps: Only integers of the training grid.
    """

    scheduler_class: type
    options: Mapping[str, Any] = field(default_factory=dict)
    is_sigma_space: bool = False
    whole_timesteps: bool = False


_SCHEDULERS: Mapping[str, _Scheduler] = {
    "euler": _Scheduler(EulerDiscreteScheduler, is_sigma_space=True),
    "euler_a": _Scheduler(EulerAncestralDiscreteScheduler, is_sigma_space=True),
    "heun": _Scheduler(HeunDiscreteScheduler, is_sigma_space=True),
    "dpmpp_2m": _Scheduler(
        DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}, whole_timesteps=True
    ),
    "dpmpp_2m_sde": _Scheduler(
        DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}, whole_timesteps=True
    ),
    "ddim": _Scheduler(DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}, whole_timesteps=True),
    "unipc": _Scheduler(UniPCMultistepScheduler, {"solver_type": "bh2", "solver_order": 2}, whole_timesteps=True),
    "lcm": _Scheduler(LCMScheduler, whole_timesteps=True),
}


@dataclass(frozen=True, slots=True)
class Sampling:
    """A scheduler that is set for one image, with what the loop needs beside it.

    Attributes:
        timesteps: One a model evaluation, on the CPU (schedulers look there); (evaluations,).
        device_timesteps: The same on the model's device.
        order: Model evaluations a step (the last step of Heun takes one).
        alphas, sigmas: Per evaluation: noisy latents are alpha * x0 + sigma * unit noise.
        c_skip, c_out: Per evaluation: the denoised estimate is c_skip * latents + c_out * prediction.
            Karras et al. 2022 (arXiv 2206.00364), table 1; here c_in is left to the scheduler.
        init_noise_sigma: What unit noise is multiplied by to start from.
        is_stochastic: Whether each step draws noise.
        takes_epsilon_only: The scheduler's step knows only noise, so that a predicted sample is converted first.
    """

    scheduler: Any
    steps: int
    timesteps: torch.Tensor
    device_timesteps: torch.Tensor
    order: int
    alphas: tuple[float, ...]
    sigmas: tuple[float, ...]
    c_skip: tuple[float, ...]
    c_out: tuple[float, ...]
    init_noise_sigma: float
    is_stochastic: bool
    takes_epsilon_only: bool = False

    def start_at(self, evaluation: int) -> None:
        """Say where the loop starts, before the first `advance`; schedulers that count their steps need it."""
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(evaluation)

    def advance(
        self, prediction: torch.Tensor, evaluation: int, latents: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        """One evaluation on: latents and guided prediction (B, C, h, w) -> latents, float32."""
        if self.takes_epsilon_only:
            sigma = float(self.scheduler.sigmas[evaluation])
            prediction = (latents - prediction) / sigma
        options: dict[str, Any] = {"return_dict": False}
        if self.is_stochastic:
            options["generator"] = generator
        return self.scheduler.step(prediction, self.timesteps[evaluation], latents, **options)[0]


def sampling_for(sampler: str, schedule: str, steps: int, config: Mapping[str, Any], device: torch.device) -> Sampling:
    """Set a sampler for one image.

    Args:
        schedule: An id of catalog.samplers.SCHEDULES other than "automatic".
        config: The checkpoint's scheduler configuration.
    Raises:
        InvalidRecipe: no such sampler or schedule.
        ModelProblem: the configuration is not one of a diffusion model.
    """
    if sampler not in _SCHEDULERS:
        raise InvalidRecipe(f"There is no sampler “{sampler}”.", "Choose one of the list of samplers.", field="sampler")
    if schedule not in _SPACINGS and schedule not in _SIGMA_OPTIONS:
        raise InvalidRecipe(
            f"There is no schedule “{schedule}”.", "Choose one of the list of schedules.", field="schedule"
        )
    base = {key: config[key] for key in _FROM_CHECKPOINT if config.get(key) is not None}
    prediction_type = base.get("prediction_type", "epsilon")
    if prediction_type not in _PREDICTION_TYPES:
        raise ModelProblem(
            f"The model predicts “{prediction_type}”, which no sampler here knows.",
            "Correct prediction_type in scheduler/scheduler_config.json.",
        )
    with blame_config("The model's scheduler_config.json can't be used", "Download the model again."):
        scheduler = _make_scheduler(sampler, schedule, steps, base)
    timesteps = scheduler.timesteps
    alphas, sigmas = _alphas_and_sigmas(scheduler)
    is_sigma_space = _SCHEDULERS[sampler].is_sigma_space
    c_skip, c_out = _denoised_factors(alphas, sigmas, prediction_type, is_sigma_space)
    if is_sigma_space:
        sigmas = tuple(sigma / alpha for alpha, sigma in zip(alphas, sigmas, strict=True))
        alphas = (1.0,) * len(sigmas)
    return Sampling(
        scheduler,
        steps,
        timesteps,
        timesteps.to(device),
        scheduler.order,
        alphas,
        sigmas,
        c_skip,
        c_out,
        init_noise_sigma=float(scheduler.init_noise_sigma),
        is_stochastic=SAMPLERS[sampler].is_stochastic,
        takes_epsilon_only=sampler == "euler_a" and prediction_type == "sample",
    )


def _make_scheduler(sampler: str, schedule: str, steps: int, base: Mapping[str, Any]) -> Any:
    """A diffusers scheduler with its timesteps set."""
    if sampler in ("ddim", "lcm"):
        return _discrete_scheduler(sampler, schedule, steps, base)
    # Of one step, linspace would make t = 0: an image of pure noise, taken for a finished one.
    spacing = "trailing" if steps == 1 or schedule == "simple" else "linspace"
    options = {**_SCHEDULERS[sampler].options, "timestep_spacing": spacing}
    if sampler == "euler_a":
        return _euler_a_scheduler(schedule, steps, base, options)
    sigma_options = _SIGMA_OPTIONS.get(schedule, {})
    config = {**base, **options, **sigma_options}
    if sampler == "heun":
        config.pop("rescale_betas_zero_snr", None)
    scheduler = _SCHEDULERS[sampler].scheduler_class(**config)
    if sampler == "heun" and base.get("rescale_betas_zero_snr"):
        scheduler.alphas_cumprod = EulerDiscreteScheduler(**base).alphas_cumprod
    timesteps = _timesteps(schedule, steps, scheduler.config.num_train_timesteps)
    if _SCHEDULERS[sampler].whole_timesteps:
        timesteps = np.round(timesteps)
    if sigma_options:
        scheduler.set_timesteps(steps)
    elif sampler == "unipc":
        scheduler.set_timesteps(steps)
        # Its own set_timesteps takes no list of timesteps.
        train_sigmas = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt().numpy()
        sigmas = np.interp(timesteps, np.arange(len(train_sigmas)), train_sigmas)
        scheduler.sigmas = torch.from_numpy(np.append(sigmas, 0.0).astype(np.float32))
        scheduler.timesteps = torch.from_numpy(timesteps.astype(np.int64))
    else:
        scheduler.set_timesteps(timesteps=list(timesteps))
    scheduler.set_begin_index(0)
    return scheduler


def _discrete_scheduler(sampler: str, schedule: str, steps: int, base: Mapping[str, Any]) -> Any:
    """Samplers that step from timestep to timestep of the training grid."""
    row = _SCHEDULERS[sampler]
    if sampler == "lcm":
        is_native = schedule == "sgm_uniform" and steps <= _LCM_TIMESTEPS
        scheduler = row.scheduler_class(**base, original_inference_steps=max(_LCM_TIMESTEPS, steps))
    else:
        is_native = schedule == "uniform" and steps > 1
        spacing = "leading" if is_native else "trailing"
        scheduler = row.scheduler_class(**base, **row.options, timestep_spacing=spacing, steps_offset=1)
    scheduler.set_timesteps(steps)
    if not is_native:
        timesteps = _timesteps("simple", steps, scheduler.config.num_train_timesteps)
        scheduler.timesteps = torch.from_numpy(timesteps.astype(np.int64))
    return scheduler


def _euler_a_scheduler(schedule: str, steps: int, base: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """Euler a on Euler's sigmas: its own class has no option for them."""
    euler = _make_scheduler("euler", schedule, steps, base)
    config = dict(base)
    if config.get("prediction_type") == "sample":
        config["prediction_type"] = "epsilon"  # its step knows no "sample"; Sampling.advance converts it
    scheduler = EulerAncestralDiscreteScheduler(**config, **options)
    scheduler.set_timesteps(steps)
    scheduler.timesteps, scheduler.sigmas = euler.timesteps, euler.sigmas
    scheduler.set_begin_index(0)
    return scheduler


def _timesteps(schedule: str, steps: int, train_steps: int) -> np.ndarray:
    """Timesteps of the schedules that are even in time, falling; (steps,)."""
    last = train_steps - 1
    if steps == 1:
        return np.array([float(last)])
    if schedule == "simple":  # trailing; diffusers' own arange gives one too many at 61, 103, 121, 122
        return np.round(train_steps - np.arange(steps) * (train_steps / steps)) - 1
    if schedule == "sgm_uniform":
        return np.linspace(0, last, steps + 1)[::-1][:-1]
    return np.linspace(0, last, steps, dtype=np.float32)[::-1].astype(np.float64)


def _alphas_and_sigmas(scheduler: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per model evaluation, of latents with unit variance: alpha² + sigma² = 1."""
    if isinstance(scheduler, (DDIMScheduler, LCMScheduler)):
        alphas = scheduler.alphas_cumprod[scheduler.timesteps].double().sqrt()
        return tuple(alphas.tolist()), tuple((1 - alphas**2).sqrt().tolist())
    ratios = scheduler.sigmas[: len(scheduler.timesteps)].double()  # sigma / alpha
    alphas = 1 / (ratios**2 + 1).sqrt()
    return tuple(alphas.tolist()), tuple((ratios * alphas).tolist())


def _denoised_factors(
    alphas: tuple[float, ...], sigmas: tuple[float, ...], prediction_type: str, is_sigma_space: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """c_skip and c_out per model evaluation; `alphas` and `sigmas` are those of unit variance."""
    c_skip: list[float] = []
    c_out: list[float] = []
    for alpha, sigma in zip(alphas, sigmas, strict=True):
        # Latents in sigma space are those of unit variance, divided by alpha.
        scale = alpha if is_sigma_space else 1.0
        if prediction_type == "sample":
            factors = (0.0, 1.0)
        elif prediction_type == "v_prediction":
            factors = (alpha * scale, -sigma)
        elif alpha:
            factors = (scale / alpha, -sigma / alpha)
        else:
            factors = (float("inf"), float("-inf"))
        c_skip.append(factors[0])
        c_out.append(factors[1])
    return tuple(c_skip), tuple(c_out)
