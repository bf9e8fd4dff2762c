"""A sampler and a schedule by their catalog ids, set for one model and one image: the noise levels of the run.

What is peculiar to a sampler is in its row (`catalog/samplers.py`), how it steps in its solver (`solvers/`); there is
no branch by name here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from catalog.samplers import SAMPLERS, SCHEDULES, Sampler, grid_of
from contract.errors import InvalidRecipe, ModelProblem
from engine.checkpoints.foreign_config import blame_config
from engine.sampling import schedules
from engine.sampling.noise_levels import NoiseLevel, Space, make_noise_levels
from engine.sampling.noise_table import NoiseTable, make_noise_table

_PREDICTION_TYPES = tuple({name: None for sampler in SAMPLERS.values() for name in sampler.predictions})


@dataclass(frozen=True, slots=True)
class Sampling:
    """A sampler that is set for one image.

    Attributes:
        sampler: Its row.
        table: What the model was trained on.
        space: How its noisy latents are made of x0 and noise.
        prediction_type: What the model predicts, by diffusers' name.
        sigmas: The noise level before each step, falling, and the 0 behind the last; (steps + 1,), on the CPU.
        timesteps: The model's input at each but the last; (steps,), on the CPU.
        levels: The model at those sigmas; their timesteps are on its device.
        init_noise_sigma: What unit noise is multiplied by to start from.
    """

    sampler: Sampler
    table: NoiseTable
    space: Space
    prediction_type: str
    sigmas: Tensor
    timesteps: Tensor
    levels: Mapping[float, NoiseLevel]
    init_noise_sigma: Tensor

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return len(self.sigmas) - 1

    def level(self, sigma: Tensor) -> NoiseLevel:
        """The model at a sigma, which a solver may choose between two of the schedule's."""
        known = self.levels.get(float(sigma))
        if known is not None:
            return known
        times = self.table.timesteps_at(sigma[None].numpy())
        if self.sampler.whole_timesteps:
            times = np.round(times)
        device = next(iter(self.levels.values())).timestep.device
        timestep = torch.from_numpy(times).to(self.timesteps.dtype).to(device)
        return make_noise_levels(sigma[None], timestep, self.space, self.prediction_type)[0]

    def add_noise(self, latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Noise-free latents at a noise level of this run, in its space; all (1, C, h, w)."""
        alpha, share = self.space.alpha_and_sigma(sigma.double())  # rounded once
        return alpha.float() * latents + share.float() * noise


def sampling_for(sampler: str, schedule: str, steps: int, config: Mapping[str, Any], device: torch.device) -> Sampling:
    """Set a sampler for one image.

    Args:
        schedule: An id of catalog.samplers.SCHEDULES other than "automatic".
        config: The checkpoint's scheduler configuration.
    Raises:
        InvalidRecipe: no such sampler or schedule.
        ModelProblem: the configuration is not one of a diffusion model.
    """
    if sampler not in SAMPLERS:
        raise InvalidRecipe(f"There is no sampler “{sampler}”.", "Choose one of the list of samplers.", field="sampler")
    if schedule not in SCHEDULES or schedule == "automatic":
        raise InvalidRecipe(
            f"There is no schedule “{schedule}”.", "Choose one of the list of schedules.", field="schedule"
        )
    row = SAMPLERS[sampler]
    prediction_type = config.get("prediction_type") or "epsilon"
    if prediction_type not in _PREDICTION_TYPES:
        raise ModelProblem(
            f"The model predicts “{prediction_type}”, which no sampler here knows.",
            "Correct prediction_type in scheduler/scheduler_config.json.",
        )
    if prediction_type not in row.predictions:
        labels = [other.label for other in SAMPLERS.values() if prediction_type in other.predictions]
        raise InvalidRecipe(
            f"{row.label} does not go with a model that predicts “{prediction_type}”.",
            f"Use {' or '.join(labels)}.",
            field="sampler",
        )
    with blame_config("The model's scheduler_config.json can't be used", "Download the model again."):
        table = make_noise_table(config, takes_pure_noise=row.takes_pure_noise)
        sigmas, timesteps = _spread(row, schedule, steps, table)
    space = _space(row, table)
    levels = make_noise_levels(sigmas, timesteps.to(device), space, prediction_type)
    return Sampling(
        row,
        table,
        space,
        prediction_type,
        torch.cat([sigmas, torch.zeros(1)]),
        timesteps,
        dict(zip(sigmas.tolist(), levels, strict=True)),
        init_noise_sigma=torch.ones(()) if space is Space.VARIANCE_PRESERVING else sigmas[0],
    )


def _space(row: Sampler, table: NoiseTable) -> Space:
    if table.is_flow:
        return Space.FLOW
    return Space.VARIANCE_PRESERVING if row.is_variance_preserving else Space.VARIANCE_EXPLODING


def _spread(row: Sampler, schedule: str, steps: int, table: NoiseTable) -> tuple[Tensor, Tensor]:
    """The sigma of each step, float32, and the timestep that the model takes there; falling, (steps,)."""
    grid = grid_of(row, schedule)
    spread = getattr(schedules, grid.id)
    if grid.is_even_in_time:
        timesteps = spread(steps, table.train_steps)
        if row.whole_timesteps:
            timesteps = np.round(timesteps)
        sigmas = table.sigmas_at(timesteps.astype(np.float32))
        if table.is_flow:
            timesteps = table.timesteps_at(sigmas)
    else:
        sigmas = spread(steps, float(table.sigmas[0]), float(table.sigmas[-1]))
        timesteps = table.timesteps_at(sigmas)
        if row.whole_timesteps:
            timesteps = np.floor(timesteps) if grid.is_floored else np.round(timesteps)
    times = timesteps.astype(np.int64 if row.whole_timesteps else np.float32)
    return torch.from_numpy(sigmas.astype(np.float32)), torch.from_numpy(times)
