"""Schedules: how the noise levels of a run are spread, each a function of the number of steps, with no sampler in it.

Those of sigmas go from the largest to the smallest; those that are even in time give timesteps of the training grid,
falling, whose sigmas the model's `NoiseTable` knows. Which is which, and by what names, is in `catalog/schedules.py`.
"""

import math
from collections.abc import Sequence

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


def polyexponential(n: int, sigma_min: float, sigma_max: float, rho: float = 1.0) -> np.ndarray:
    """Steps of log sigma by a power of the share that is left; (n,). With rho 1 it is `exponential`."""
    left = np.linspace(1, 0, n) ** rho
    sigmas: np.ndarray = np.exp(left * (math.log(sigma_max) - math.log(sigma_min)) + math.log(sigma_min))
    return sigmas


def kl_optimal(n: int, sigma_min: float, sigma_max: float) -> np.ndarray:
    """Even steps of the arc tangent of sigma; (n,). Source: Sabour et al. 2024 (arXiv 2404.14507), section 3.2."""
    ramp = np.linspace(0, 1, n)
    sigmas: np.ndarray = np.tan(ramp * math.atan(sigma_min) + (1 - ramp) * math.atan(sigma_max))
    return sigmas


def linear_quadratic(n: int, sigma_min: float, sigma_max: float) -> np.ndarray:
    """Half of the steps within the noisiest 2.5 %, the others growing as a square; (n,).

    Source: Polyak et al. 2024 (arXiv 2410.13720), section 3.4.2, as in ComfyUI.
    """
    if n == 1:
        return np.array([sigma_max])
    linear, threshold = n // 2, 0.025
    quadratic = n - linear
    left = linear - threshold * n
    a = left / (linear * quadratic**2)
    b = threshold / linear - 2 * left / quadratic**2
    steps = np.arange(linear, n)
    share = np.concatenate([np.arange(linear) * threshold / linear, a * steps**2 + b * steps + a * linear**2])
    sigmas: np.ndarray = sigma_max * (1 - share)
    return sigmas


def bong_tangent(n: int, sigma_min: float, sigma_max: float) -> np.ndarray:
    """Two arc tangents, from the largest sigma to its half and on to 0, which is left out; (n,).

    Source: RES4LYF's scheduler of that name with its own pivots (0.6) and slopes (0.2); no paper.
    """
    if n == 1:
        return np.array([sigma_max])
    points, slope = n + 2, 0.2 / ((n + 2) / 40)
    pivot = int(points * 0.6)
    first = _arc_tangent(pivot, slope, pivot, 1.0, 0.5)[:-1]
    second = _arc_tangent(points - pivot, slope, 0, 0.5, 0.0)[:-1]
    sigmas: np.ndarray = sigma_max * np.concatenate([first, second])
    return sigmas


def _arc_tangent(points: int, slope: float, pivot: int, start: float, end: float) -> np.ndarray:
    curve = np.arctan(-slope * (np.arange(points) - pivot))
    scaled: np.ndarray = end + (start - end) * (curve - curve[-1]) / (curve[0] - curve[-1])
    return scaled


def resampled(n: int, table: Sequence[float]) -> np.ndarray:
    """A table of sigmas at another number of steps, along straight lines in log sigma; (n,).

    Source: Sabour et al. 2024 (arXiv 2404.14507), the authors' quickstart.
    """
    places = np.linspace(0, 1, n) if n > 1 else np.zeros(1)
    sigmas: np.ndarray = np.exp(np.interp(places, np.linspace(0, 1, len(table)), np.log(table)))
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


def turbo(n: int, train_steps: int) -> np.ndarray:
    """Every (train_steps / n)th timestep up to the last; (n,). It is `simple` but for the rounding of halves.

    Source: Sauer et al. 2023 (arXiv 2311.17042), the models' steps, as in Forge.
    """
    timesteps: np.ndarray = np.round(np.arange(n, 0, -1) * (train_steps / n) - 1)
    return timesteps


def beta_comfyui(n: int, train_steps: int, a: float = 0.6, b: float = 0.6) -> np.ndarray:
    """Quantiles of a beta distribution as timesteps, whole ones, the least left out; (n,). ComfyUI's `beta`.

    Source: Lee et al. 2024 (arXiv 2407.12173). Where two are one, as with many steps, the later is the one below.
    """
    from scipy import stats

    quantiles = stats.beta.ppf(1 - np.linspace(0, 1, n, endpoint=False), a, b)
    places = np.arange(n)
    timesteps: np.ndarray = np.minimum.accumulate(np.rint(quantiles * (train_steps - 1)) + places) - places
    return timesteps


def ddim_uniform(n: int, train_steps: int) -> np.ndarray:
    """`leading`, by its name in other programs; (n,). Those make a step more where n does not divide train_steps."""
    return leading(n, train_steps)


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
