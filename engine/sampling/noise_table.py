"""The noise levels that a model was trained on: sigma by timestep, and timestep by sigma.

A model of the variance-preserving kind takes a timestep of its training grid; one of rectified flow its sigma; one of
EDM the logarithm of its sigma.
How the levels of a run are chosen among them is `schedules.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler

from engine.sampling.schedules import karras

NO_SIGNAL = 1000.0  # a sigma that only the pure noise of models of zero terminal SNR exceeds
FLOW_PREDICTION = "flow_prediction"
# What a checkpoint's scheduler configuration may say of its table; everything else is the sampler's business.
_TABLE_KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
)
_SMALLEST_SIGNAL = 2.0**-24  # alpha² where the last timestep holds none, so that sigma is finite; as in diffusers


@dataclass(frozen=True, slots=True, eq=False)
class NoiseTable:
    """Sigma of each training timestep.

    Attributes:
        config: What the table was made from; diffusers' schedulers take the same.
        sigmas: Noise over signal (of flow: the share of noise), rising; (train steps,), float32.
        is_flow: Of rectified flow: noisy latents are (1 - sigma) * x0 + sigma * noise (Liu et al. 2022, arXiv
            2209.03003).
        sigma_data: Of EDM: the deviation of the data (Karras et al. 2022, arXiv 2206.00364), whose levels were drawn
            from a range without a grid; the table spreads it as the paper does. 0 of all others.
    """

    config: Mapping[str, Any]
    sigmas: np.ndarray
    is_flow: bool = False
    sigma_data: float = 0.0

    @property
    def train_steps(self) -> int:
        """Timesteps that the model was trained on."""
        return len(self.sigmas)

    @property
    def is_zero_snr(self) -> bool:
        """Whether the last timestep is noise alone, at a sigma that stands for infinity (Lin et al. 2023)."""
        return not self.is_flow and bool(self.sigmas[-1] > NO_SIGNAL)

    @property
    def is_edm(self) -> bool:
        """Whether it is one of EDM."""
        return self.sigma_data > 0

    @property
    def has_timesteps(self) -> bool:
        """Whether the model was trained on the timesteps of a grid, and not on any noise level."""
        return not self.is_flow and not self.is_edm

    def places_at(self, sigmas: np.ndarray) -> np.ndarray:
        """Where in the table these sigmas of EDM are, float64: what timesteps are to other models."""
        places: np.ndarray = np.interp(sigmas, self.sigmas, np.arange(self.train_steps))
        return places

    def sigmas_at(self, timesteps: np.ndarray) -> np.ndarray:
        """Sigmas at timesteps of the table, which may lie between two of them; float64."""
        sigmas: np.ndarray = np.interp(timesteps, np.arange(self.train_steps), self.sigmas)
        return sigmas

    def timesteps_at(self, sigmas: np.ndarray) -> np.ndarray:
        """The timesteps that the model takes at these sigmas, float64: interpolated in log sigma, not rounded."""
        timesteps: np.ndarray
        if self.is_edm:
            timesteps = 0.25 * np.log(sigmas)  # c_noise of the paper's table 1
            return timesteps
        if self.is_flow:
            timesteps = sigmas * self.train_steps
            return timesteps
        log_table, log_sigmas = np.log(self.sigmas), np.log(np.maximum(sigmas, 1e-10))
        below = np.searchsorted(log_table, log_sigmas, side="right") - 1
        below = below.clip(0, self.train_steps - 2)
        low, high = log_table[below], log_table[below + 1]
        share = np.clip((low - log_sigmas) / (low - high), 0, 1)
        timesteps = (1 - share) * below + share * (below + 1)
        return timesteps


def exploding(shares: np.ndarray) -> np.ndarray:
    """Noise over signal at these shares of noise of rectified flow; of pure noise a finite number, as for zero SNR."""
    sigmas: np.ndarray = shares / np.maximum(1 - shares, _SMALLEST_SIGNAL**0.5)
    return sigmas


def make_noise_table(config: Mapping[str, Any], *, takes_pure_noise: bool = False) -> NoiseTable:
    """The table of a checkpoint's scheduler configuration.

    Args:
        takes_pure_noise: Leave sigma infinite at the last timestep of a model of zero terminal SNR (Lin et al. 2023,
            arXiv 2305.08891).
    Raises:
        Exception: any, when the configuration is none of a diffusion model.
    """
    if config.get("prediction_type") == FLOW_PREDICTION:
        return _make_flow_table(config)
    if config.get("sigma_data"):
        count = int(config["num_train_timesteps"])
        sigmas = karras(count, config["sigma_min"], config["sigma_max"])[::-1].astype(np.float32)
        return NoiseTable({}, sigmas, sigma_data=float(config["sigma_data"]))
    known = {key: config[key] for key in _TABLE_KEYS if config.get(key) is not None}
    alphas_cumprod = DDIMScheduler(**known).alphas_cumprod.clone()
    if alphas_cumprod[-1] == 0 and not takes_pure_noise:
        alphas_cumprod[-1] = _SMALLEST_SIGNAL
    levels: torch.Tensor = ((1 - alphas_cumprod) / alphas_cumprod) ** 0.5
    return NoiseTable(known, levels.numpy())


def _make_flow_table(config: Mapping[str, Any]) -> NoiseTable:
    """Sigmas of rectified flow, shifted towards noise; Esser et al. 2024 (arXiv 2403.03206), section 5.3.2."""
    train_steps, shift = int(config.get("num_train_timesteps", 1000)), float(config.get("shift", 1.0))
    even = np.arange(1, train_steps + 1) / train_steps
    sigmas = shift * even / (1 + (shift - 1) * even)
    known = {"num_train_timesteps": train_steps, "shift": shift}
    return NoiseTable(known, sigmas.astype(np.float32), is_flow=True)
