"""Schedules: how the noise levels of a run are spread, each a function of the number of steps, with no sampler in it.

Those of sigmas go from the largest to the smallest; those that are even in time give timesteps of the training grid,
falling, whose sigmas the model's `NoiseTable` knows. Which is which, and by what names, is in `catalog/samplers.py`.
"""

import math

import numpy as np


def karras(n: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> np.ndarray:
    """Even steps of sigma^(1/rho); (n,). Source: Karras et al. 2022 (arXiv 2206.00364), eq. 5."""
    ramp = np.linspace(0, 1, n)
    min_inv_rho, max_inv_rho = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas: np.ndarray = (max_inv_rho + ramp * (min_inv_rho - max_inv_rho)) ** rho
    return sigmas


def exponential(n: int, sigma_min: float, sigma_max: float) -> np.ndarray:
    """Even steps of log sigma; (n,)."""
    sigmas: np.ndarray = np.exp(np.linspace(math.log(sigma_max), math.log(sigma_min), n))
    return sigmas


def beta(n: int, sigma_min: float, sigma_max: float, a: float = 0.6, b: float = 0.6) -> np.ndarray:
    """Quantiles of a beta distribution: denser at both ends; (n,). Source: Lee et al. 2024 (arXiv 2407.12173)."""
    from scipy import stats  # takes half a second, and few ask for this schedule

    quantiles = stats.beta.ppf(1 - np.linspace(0, 1, n), a, b)
    sigmas: np.ndarray = sigma_min + quantiles * (sigma_max - sigma_min)
    return sigmas


def uniform(n: int, train_steps: int) -> np.ndarray:
    """From the last timestep to the first, both included; (n,)."""
    if n == 1:
        return _last(train_steps)  # the first would be an image of pure noise, taken for a finished one
    timesteps: np.ndarray = np.linspace(0, train_steps - 1, n, dtype=np.float32)[::-1].astype(np.float64)
    return timesteps


def sgm_uniform(n: int, train_steps: int) -> np.ndarray:
    """From the last timestep, the step to the first left out; (n,)."""
    if n == 1:
        return _last(train_steps)
    timesteps: np.ndarray = np.linspace(0, train_steps - 1, n + 1)[::-1][:-1]
    return timesteps


def simple(n: int, train_steps: int) -> np.ndarray:
    """Every (train_steps / n)th timestep from the last, rounded; (n,).

    Source: "trailing" in Lin et al. 2023 (arXiv 2305.08891), table 2. diffusers 0.42 makes a timestep too many of it
    for some n, which is why it is not asked.
    """
    timesteps: np.ndarray = np.round(train_steps - np.arange(n) * (train_steps / n)) - 1
    return timesteps


def leading(n: int, train_steps: int) -> np.ndarray:
    """Every (train_steps // n)th timestep from timestep 1 on; (n,). The last one is not among them.

    Source: Song et al. 2020 (arXiv 2010.02502); "leading" in Lin et al. 2023, table 2, with an offset of 1.
    """
    if n == 1:
        return _last(train_steps)
    timesteps: np.ndarray = np.arange(n)[::-1] * float(train_steps // n) + 1
    return timesteps


def distilled(n: int, train_steps: int, distilled_steps: int = 50) -> np.ndarray:
    """Of the timesteps that a consistency model was distilled on, every (distilled_steps / n)th from the last; (n,).

    Source: Luo et al. 2023 (arXiv 2310.04378). More steps than these are taken as in `simple`.
    """
    if n > distilled_steps:
        return simple(n, train_steps)
    trained = np.arange(distilled_steps, 0, -1) * float(train_steps // distilled_steps) - 1
    timesteps: np.ndarray = trained[np.floor(np.linspace(0, distilled_steps, n, endpoint=False)).astype(int)]
    return timesteps


def _last(train_steps: int) -> np.ndarray:
    timesteps: np.ndarray = np.array([train_steps - 1.0])
    return timesteps
