"""A sampler and a schedule by their catalog ids, set for one model and one image: the noise levels of the run.

What is peculiar to a sampler is in its row (`catalog/samplers.py`), how it steps in its solver (`solvers/`); there is
no branch by name here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from catalog.samplers import SAMPLERS, SCHEDULES, Sampler, grid_of
from contract.errors import InvalidRecipe, ModelProblem
from contract.parts import SamplerSettings
from engine.checkpoints.foreign_config import blame_config
from engine.sampling import schedules
from engine.sampling.noise_levels import NoiseLevel, Space, make_noise_levels
from engine.sampling.noise_table import NoiseTable, exploding, make_noise_table

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
        options: Keyword arguments of the solver.
    """

    sampler: Sampler
    table: NoiseTable
    space: Space
    prediction_type: str
    sigmas: Tensor
    timesteps: Tensor
    levels: Mapping[float, NoiseLevel]
    init_noise_sigma: Tensor
    options: Mapping[str, Any]

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return len(self.sigmas) - 1

    @property
    def begins_at_noise(self) -> bool:
        """Whether the model's first level is noise alone, at a sigma that stands for infinity."""
        return self.table.is_zero_snr or (self.table.is_flow and self.space is Space.VARIANCE_EXPLODING)

    def sigmas_at(self, timesteps: np.ndarray) -> np.ndarray:
        """Noise levels of this run at timesteps of the table; float64."""
        sigmas = self.table.sigmas_at(timesteps)
        return exploding(sigmas) if self.table.is_flow and self.space is Space.VARIANCE_EXPLODING else sigmas

    def level(self, sigma: Tensor) -> NoiseLevel:
        """The model at a sigma, which a solver may choose between two of the schedule's."""
        known = self.levels.get(float(sigma))
        if known is not None:
            return known
        times = self._timesteps_at(self.table, sigma[None])
        device = next(iter(self.levels.values())).timestep.device
        timestep = torch.from_numpy(times).to(self.timesteps.dtype).to(device)
        sigma_data = self.table.sigma_data or 1.0
        return make_noise_levels(sigma[None], timestep, self.space, self.prediction_type, sigma_data)[0]

    def steps_until(self, share: float) -> int:
        """Steps that begin within a share of the noise levels that the model was trained on, from pure noise on.

        Source: diffusers' denoising_end.
        """
        places = self.table.places_at(self.sigmas[:-1].numpy()) if self.table.is_edm else self.timesteps
        return int((places >= round(self.table.train_steps * (1 - share))).sum())

    def told_to(self, config: Mapping[str, Any]) -> "Sampling":
        """The same noise levels as another model is told them, by its scheduler configuration.

        Raises:
            InvalidRecipe, ModelProblem: as of `sampling_for`.
        """
        prediction_type = _prediction_of(config, self.sampler)
        with blame_config("The model's scheduler_config.json can't be used", "Download the model again."):
            table = make_noise_table(config, takes_pure_noise=self.sampler.takes_pure_noise)
        if prediction_type == self.prediction_type and np.array_equal(table.sigmas, self.table.sigmas):
            return self
        sigmas = self.sigmas[:-1]
        times = self._timesteps_at(table, sigmas)
        timesteps = torch.from_numpy(times).to(self.timesteps.dtype)
        device = next(iter(self.levels.values())).timestep.device
        sigma_data = table.sigma_data or 1.0
        levels = make_noise_levels(sigmas, timesteps.to(device), self.space, prediction_type, sigma_data)
        known = dict(zip(sigmas.tolist(), levels, strict=True))
        return replace(self, table=table, prediction_type=prediction_type, timesteps=timesteps, levels=known)

    def _timesteps_at(self, table: NoiseTable, sigmas: Tensor) -> np.ndarray:
        if table.is_flow and self.space is Space.VARIANCE_EXPLODING:
            sigmas = sigmas / (1 + sigmas)
        times = table.timesteps_at(sigmas.numpy())
        return np.round(times) if self.sampler.whole_timesteps and table.has_timesteps else times

    def add_noise(self, latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Noise-free latents at a noise level of this run, in its space; all (1, C, h, w)."""
        alpha, share = self.space.alpha_and_sigma(sigma.double())  # rounded once
        return alpha.float() * latents + share.float() * noise


def sampling_for(
    sampler: str,
    schedule: str,
    steps: int,
    config: Mapping[str, Any],
    device: torch.device,
    settings: SamplerSettings | None = None,
    sigma_table: str = "sd",
) -> Sampling:
    """Set a sampler for one image.

    Args:
        schedule: An id of catalog.samplers.SCHEDULES other than "automatic".
        config: The checkpoint's scheduler configuration.
        settings: The recipe's; those that the sampler or the schedule has no use for are left aside.
        sigma_table: The family's, of schedules that are tables.
    Raises:
        InvalidRecipe: no such sampler or schedule, or the model is of another kind.
        ModelProblem: the configuration is not one of a diffusion model.
    """
    if sampler not in SAMPLERS:
        raise InvalidRecipe(f"There is no sampler “{sampler}”.", "Choose one of the list of samplers.", field="sampler")
    if schedule not in SCHEDULES or schedule == "automatic":
        raise InvalidRecipe(
            f"There is no schedule “{schedule}”.", "Choose one of the list of schedules.", field="schedule"
        )
    row = SAMPLERS[sampler]
    prediction_type = _prediction_of(config, row)
    with blame_config("The model's scheduler_config.json can't be used", "Download the model again."):
        table = make_noise_table(config, takes_pure_noise=row.takes_pure_noise)
        grid = grid_of(row, schedule)
        if (table.is_flow and grid.tables) or (table.is_edm and (grid.tables or grid.is_even_in_time)):
            raise InvalidRecipe(
                f"{SCHEDULES[schedule].label} has no noise levels for a model that predicts “{prediction_type}”.",
                "Use Simple or SGM Uniform." if table.is_flow else "Use Karras or Exponential.",
                field="schedule",
            )
        sigmas, timesteps = _spread(row, schedule, steps, table, settings or SamplerSettings(), sigma_table)
    space = _space(row, table)
    if table.is_flow and space is Space.VARIANCE_EXPLODING:
        sigmas = torch.from_numpy(exploding(sigmas.double().numpy())).float()
    levels = make_noise_levels(sigmas, timesteps.to(device), space, prediction_type, table.sigma_data or 1.0)
    init_noise_sigma = torch.ones(()) if space is Space.VARIANCE_PRESERVING else sigmas[0]
    if table.is_edm:
        init_noise_sigma = (sigmas[0] ** 2 + 1) ** 0.5  # as diffusers begins
    options = dict(row.options)
    for name in row.settings:
        value = getattr(settings, name, None)
        if value is not None:
            options[name] = value
    return Sampling(
        row,
        table,
        space,
        prediction_type,
        torch.cat([sigmas, torch.zeros(1)]),
        timesteps,
        dict(zip(sigmas.tolist(), levels, strict=True)),
        init_noise_sigma=init_noise_sigma,
        options=options,
    )


def _prediction_of(config: Mapping[str, Any], row: Sampler) -> str:
    """What a model predicts. Raises ModelProblem, or InvalidRecipe where that does not go with the sampler."""
    prediction_type: str = config.get("prediction_type") or "epsilon"
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
    return prediction_type


def _space(row: Sampler, table: NoiseTable) -> Space:
    if table.is_flow and row.follows_flow:
        return Space.FLOW
    if row.is_variance_preserving and table.has_timesteps:
        return Space.VARIANCE_PRESERVING
    return Space.VARIANCE_EXPLODING


def _spread(
    row: Sampler, schedule: str, steps: int, table: NoiseTable, settings: SamplerSettings, sigma_table: str
) -> tuple[Tensor, Tensor]:
    """The sigma of each step, float32, and the timestep that the model takes there; falling, (steps,)."""
    grid = grid_of(row, schedule)
    is_whole = row.whole_timesteps and table.has_timesteps
    discards = settings.discard_penultimate
    if discards is None:
        # The levels of a model of zero SNR are even in time: the last is no small one, and few steps can't spare it.
        discards = row.discards_penultimate and not table.is_zero_snr
    count = steps + 1 if discards and steps > 1 else steps
    if grid.is_even_in_time:
        timesteps = getattr(schedules, grid.id)(count, table.train_steps)[:steps]
        if table.is_flow and grid.ends_shifted:
            last = table.train_steps - 1
            timesteps = last - (last - timesteps) * (1 - (table.train_steps * table.sigmas[0] - 1) / last)
        if is_whole:
            timesteps = np.round(timesteps)
        sigmas = table.sigmas_at(timesteps.astype(np.float32))
        if table.is_flow:
            timesteps = table.timesteps_at(sigmas)
    else:
        if grid.tables:
            sigmas = schedules.resampled(count, grid.tables[sigma_table])
        else:
            least, most = settings.sigma_min or float(table.sigmas[0]), settings.sigma_max or float(table.sigmas[-1])
            rho = {"rho": settings.rho} if grid.takes_rho and settings.rho else {}
            sigmas = getattr(schedules, grid.id)(count, least, most, **rho)
        sigmas = sigmas[:steps]
        timesteps = table.timesteps_at(sigmas)
        if is_whole:
            timesteps = np.floor(timesteps) if grid.is_floored else np.round(timesteps)
    times = timesteps.astype(np.int64 if is_whole else np.float32)
    return torch.from_numpy(sigmas.astype(np.float32)), torch.from_numpy(times)
