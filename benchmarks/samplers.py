"""What a step of our solvers costs beside diffusers' schedulers that solve the same; nothing is predicted.

Called by `overhead.py`. The latents are SD 1.5's at 512², guided, for 20 steps on the CPU: all that is timed is what
stands between two evaluations of a model.
"""

from collections.abc import Callable, Iterator
from typing import Any

import diffusers
import torch

from benchmarks.measure import Figure, figure
from engine.sampling.denoise import Conditions, denoise
from engine.sampling.noise import OwnNoise
from engine.sampling.samplers import sampling_for

STEPS, RUNS = 20, 10
BETAS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
# Ours, and the scheduler of diffusers with the options that make it the same solver. DPM++ 3M SDE has none: diffusers'
# draws white noise, and has a sign wrong.
PAIRS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("euler", "EulerDiscreteScheduler", {}),
    ("euler_a", "EulerAncestralDiscreteScheduler", {}),
    ("heun", "HeunDiscreteScheduler", {}),
    ("dpm_2", "KDPM2DiscreteScheduler", {}),
    ("dpm_2_a", "KDPM2AncestralDiscreteScheduler", {}),
    ("lms", "LMSDiscreteScheduler", {}),
    ("dpmpp_2m", "DPMSolverMultistepScheduler", {}),
    ("dpmpp_2m_sde", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("dpmpp_sde", "DPMSolverSDEScheduler", {"noise_sampler_seed": 1}),
    ("deis", "DEISMultistepScheduler", {"solver_order": 3}),
    ("unipc_bh1", "UniPCMultistepScheduler", {"solver_order": 3}),
    ("sa_solver", "SASolverScheduler", {"predictor_order": 3, "corrector_order": 4}),
    ("lcm", "LCMScheduler", {}),
    ("tcd", "TCDScheduler", {}),
)
NOISE = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(1))
GUIDED = Conditions(torch.zeros(2, 2, 3), is_guided=True)


def predict(rows: torch.Tensor, *_: object) -> torch.Tensor:
    """In place of a U-Net: the same rows."""
    return rows


def ours(name: str) -> Callable[[], None]:
    """Our loop."""

    def run() -> None:
        for _ in range(RUNS):
            sampling = sampling_for(name, "sgm_uniform", STEPS, BETAS, torch.device("cpu"))
            source = OwnNoise(torch.Generator().manual_seed(1))
            for _step in denoise(lambda _: predict, lambda _: GUIDED, sampling, NOISE, 7.0, source):
                pass

    return run


def stock(scheduler: str, options: dict[str, Any]) -> Callable[[], None]:
    """A bare loop of diffusers."""
    made = getattr(diffusers, scheduler)(**BETAS, **options)
    takes_generator = "generator" in made.step.__code__.co_varnames

    @torch.inference_mode()
    def run() -> None:
        for _ in range(RUNS):
            made.set_timesteps(STEPS)
            more = {"generator": torch.Generator().manual_seed(1)} if takes_generator else {}
            latents = NOISE * made.init_noise_sigma
            for t in made.timesteps:
                uncond, cond = predict(made.scale_model_input(torch.cat([latents] * 2), t)).chunk(2)
                latents = made.step(uncond + 7.0 * (cond - uncond), t, latents, return_dict=False, **more)[0]

    return run


def solver_steps(rounds: int) -> Iterator[Figure]:
    """A figure for each pair."""
    for name, scheduler, options in PAIRS:
        yield figure(
            "samplers",
            f"20 steps, {name}",
            stock(scheduler, options),
            ours(name),
            peer=f"diffusers' {scheduler}",
            goal=1.0,
            limit=1.1,
            rounds=rounds,
        )
