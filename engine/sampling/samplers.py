"""A sampler and a schedule by their catalog names -> a scheduler with the options people mean by them.

The options are those of the field's measured tables; every spacing is set here, never taken from a
checkpoint's configuration. Where diffusers has no option, the noise levels are worked out here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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

from contract.errors import InvalidRecipe, ModelProblem

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
_CURVES: Mapping[str, Mapping[str, bool]] = {
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},
}
_CLASSES: Mapping[str, tuple[type, Mapping[str, Any]]] = {
    "euler": (EulerDiscreteScheduler, {}),
    "euler_a": (EulerAncestralDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpmpp_2m_sde": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
    "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}),
    "unipc": (UniPCMultistepScheduler, {"solver_type": "bh2", "solver_order": 2}),
    "lcm": (LCMScheduler, {}),
}
_SIGMA_SPACE = ("euler", "euler_a", "heun")  # latents x0 + sigma * noise; the others keep unit variance
_STOCHASTIC = ("euler_a", "dpmpp_2m_sde", "lcm")
_LCM_GRID = 50  # timesteps that latent consistency models were distilled on


@dataclass(frozen=True, slots=True)
class Sampling:
    """A scheduler that is set for one picture, with what the loop needs beside it.

    Attributes:
        timesteps: One a model evaluation, on the CPU (schedulers look there); (evaluations,).
        device_timesteps: The same on the model's device.
        order: Evaluations a step (the last step of Heun takes one).
        levels: Per evaluation (signal, noise): noisy latents are signal * clean + noise * unit noise.
        clean: Per evaluation (a, b): the clean estimate is a * latents + b * prediction.
            Karras et al. 2022 (arXiv 2206.00364), table 1.
        noise_scale: What unit noise is multiplied with to begin.
        is_stochastic: Whether each step draws noise.
    """

    scheduler: Any
    steps: int
    timesteps: torch.Tensor
    device_timesteps: torch.Tensor
    order: int
    levels: tuple[tuple[float, float], ...]
    clean: tuple[tuple[float, float], ...]
    noise_scale: float
    is_stochastic: bool
    takes_noise_only: bool = False  # a clean prediction is turned into noise first

    def start_at(self, evaluation: int) -> None:
        """Say where the loop begins, before the first `advance`; samplers that count their steps need it."""
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(evaluation)

    def advance(
        self, prediction: torch.Tensor, evaluation: int, latents: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        """One evaluation on: latents and guided prediction (B, C, h, w) -> latents, float32."""
        if self.takes_noise_only:
            sigma = float(self.scheduler.sigmas[evaluation])
            prediction = (latents - prediction) / sigma
        chance = {"generator": generator} if self.is_stochastic else {}
        return self.scheduler.step(prediction, self.timesteps[evaluation], latents, return_dict=False, **chance)[0]


def sampling_for(sampler: str, schedule: str, steps: int, config: Mapping[str, Any], device: torch.device) -> Sampling:
    """Set a sampler for one picture.

    Args:
        schedule: An id of catalog.samplers.SCHEDULES other than "automatic".
        config: The checkpoint's scheduler configuration.
    Raises:
        InvalidRecipe: no such sampler or schedule.
        ModelProblem: the configuration is not one of a diffusion model.
    """
    if sampler not in _CLASSES:
        raise InvalidRecipe(f"There is no sampler “{sampler}”.", "Choose one of the list of samplers.", field="sampler")
    if schedule not in ("uniform", "sgm_uniform", "simple", *_CURVES):
        raise InvalidRecipe(
            f"There is no schedule “{schedule}”.", "Choose one of the list of schedules.", field="schedule"
        )
    base = {key: config[key] for key in _FROM_CHECKPOINT if config.get(key) is not None}
    if base.get("prediction_type", "epsilon") not in ("epsilon", "v_prediction", "sample"):
        raise ModelProblem(
            f"The model predicts “{base['prediction_type']}”, which no sampler here knows.",
            "Correct prediction_type in scheduler/scheduler_config.json.",
        )
    try:
        scheduler = _build(sampler, schedule, steps, base)
    except (ValueError, TypeError, RuntimeError, LookupError, ArithmeticError) as error:
        raise ModelProblem(
            f"The model's scheduler_config.json can't be used: {error}.", "Download the model again."
        ) from None
    timesteps = scheduler.timesteps
    is_sigma = sampler in _SIGMA_SPACE
    levels = _levels(scheduler)
    return Sampling(
        scheduler,
        steps,
        timesteps,
        timesteps.to(device),
        scheduler.order,
        tuple((1.0, noise / signal) for signal, noise in levels) if is_sigma else levels,
        _clean_factors(levels, is_sigma, base.get("prediction_type", "epsilon")),
        float(scheduler.init_noise_sigma),
        sampler in _STOCHASTIC,
        sampler == "euler_a" and base.get("prediction_type") == "sample",
    )


def _build(sampler: str, schedule: str, steps: int, base: Mapping[str, Any]) -> Any:
    if sampler in ("ddim", "lcm"):
        return _build_discrete(sampler, schedule, steps, base)
    kind, options = _CLASSES[sampler]
    curve = _CURVES.get(schedule, {})
    # Of one step, linspace would make t = 0: a picture from noise taken for a finished one.
    spacing = "trailing" if steps == 1 or schedule == "simple" else "linspace"
    options = {**options, "timestep_spacing": spacing}
    if sampler == "euler_a":
        return _ancestral(schedule, steps, base, options)
    known = {**base, **options, **curve}
    if sampler == "heun":
        known.pop("rescale_betas_zero_snr", None)
    scheduler = kind(**known)
    if sampler == "heun" and base.get("rescale_betas_zero_snr"):
        scheduler.alphas_cumprod = EulerDiscreteScheduler(**base).alphas_cumprod
    times = _grid(schedule, steps, scheduler.config.num_train_timesteps)
    if curve:
        scheduler.set_timesteps(steps)
    elif sampler == "unipc":
        scheduler.set_timesteps(steps)
        _install(scheduler, np.round(times))
    else:
        is_whole = sampler.startswith("dpmpp")
        scheduler.set_timesteps(timesteps=list(np.round(times) if is_whole else times))
    scheduler.set_begin_index(0)
    return scheduler


def _build_discrete(sampler: str, schedule: str, steps: int, base: Mapping[str, Any]) -> Any:
    """Samplers that step from timestep to timestep of the training grid."""
    kind, options = _CLASSES[sampler]
    if sampler == "lcm":
        scheduler = kind(**base, original_inference_steps=max(_LCM_GRID, steps))
        is_native = schedule == "sgm_uniform" and steps <= _LCM_GRID
    else:
        is_native = schedule == "uniform" and steps > 1
        spacing = "leading" if is_native else "trailing"
        scheduler = kind(**base, **options, timestep_spacing=spacing, steps_offset=1)
    scheduler.set_timesteps(steps)
    if not is_native:
        times = _grid("simple", steps, scheduler.config.num_train_timesteps)
        scheduler.timesteps = torch.from_numpy(times.astype(np.int64))
    return scheduler


def _ancestral(schedule: str, steps: int, base: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """Euler a on Euler's noise levels: its own class offers no curve."""
    levels = _build("euler", schedule, steps, base)
    # Its step knows no "sample"; Sampling.advance turns that into noise.
    known = {**base, "prediction_type": "epsilon"} if base.get("prediction_type") == "sample" else base
    scheduler = EulerAncestralDiscreteScheduler(**known, **options)
    scheduler.set_timesteps(steps)
    scheduler.timesteps, scheduler.sigmas = levels.timesteps, levels.sigmas
    scheduler.set_begin_index(0)
    return scheduler


def _grid(schedule: str, steps: int, train_steps: int) -> np.ndarray:
    """Timesteps of the schedules that are even in time, falling; (steps,)."""
    last = train_steps - 1
    if steps == 1:
        return np.array([float(last)])
    if schedule == "simple":  # trailing; diffusers' own arange gives one too many at 61, 103, 121, 122
        return np.round(train_steps - np.arange(steps) * (train_steps / steps)) - 1
    if schedule == "sgm_uniform":
        return np.linspace(0, last, steps + 1)[::-1][:-1]
    return np.linspace(0, last, steps, dtype=np.float32)[::-1].astype(np.float64)


def _install(scheduler: Any, times: np.ndarray) -> None:
    """Give a scheduler whole timesteps that its own set_timesteps can't make."""
    levels = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt().numpy()
    sigmas = np.interp(times, np.arange(len(levels)), levels)
    scheduler.sigmas = torch.from_numpy(np.append(sigmas, 0.0).astype(np.float32))
    scheduler.timesteps = torch.from_numpy(times.astype(np.int64))


def _levels(scheduler: Any) -> tuple[tuple[float, float], ...]:
    """Per evaluation (signal, noise) of unit variance."""
    if isinstance(scheduler, (DDIMScheduler, LCMScheduler)):
        signals = scheduler.alphas_cumprod[scheduler.timesteps].double().sqrt()
        noises = (1 - signals**2).sqrt()
    else:
        sigmas = scheduler.sigmas[: len(scheduler.timesteps)].double()
        signals = 1 / (sigmas**2 + 1).sqrt()
        noises = sigmas * signals
    return tuple(zip(signals.tolist(), noises.tolist(), strict=True))


def _clean_factors(
    levels: tuple[tuple[float, float], ...], is_sigma: bool, predicts: str
) -> tuple[tuple[float, float], ...]:
    factors = []
    for alpha, noise in levels:
        # Latents of the sigma family are those of unit variance, divided by alpha.
        scale = alpha if is_sigma else 1.0
        if predicts == "sample":
            factors.append((0.0, 1.0))
        elif predicts == "v_prediction":
            factors.append((alpha * scale, -noise))
        else:
            factors.append((scale / alpha if alpha else float("inf"), -noise / alpha if alpha else float("-inf")))
    return tuple(factors)
