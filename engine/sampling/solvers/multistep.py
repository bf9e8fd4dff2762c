"""Methods that reuse the slopes of the last steps: Adams and Bashforth's in several measures of time.

d is the slope dx/dsigma of the probability flow (Karras et al. 2022, arXiv 2206.00364), which is also the noise that
the model sees; ds holds the last ones, the newest first.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from engine.sampling.solvers.adams import adams_weights
from engine.sampling.solvers.heun import mean_slope
from engine.sampling.solvers.protocol import Model, Solution, StepNoise

# For even steps, by order.
_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
# The time in which DEIS interpolates: that of a variance-preserving process whose sigma is 0.002 at 0.001 and 80 at 1.
_LOG_VARIANCES = (np.log(0.002**2 + 1), np.log(80.0**2 + 1))
_EPSILON = 1e-3
_BETA_D = 2 * (_LOG_VARIANCES[0] / _EPSILON - _LOG_VARIANCES[1]) / (_EPSILON - 1)
_BETA_MIN = _LOG_VARIANCES[1] - 0.5 * _BETA_D


def sample_lms(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, order: int = 4) -> Solution:
    """The linear multistep method: Adams and Bashforth's in sigma, with steps of any length."""
    levels = sigmas.tolist()
    ds: list[Tensor] = []
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        ds = [(x - model(x, sigma)) / sigma, *ds[: order - 1]]
        nodes = levels[step + 1 - len(ds) : step + 1][::-1]
        x = yield x + _weighted(adams_weights(nodes, levels[step], levels[step + 1]), ds), sigma_next


def sample_ipndm(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, order: int = 4) -> Solution:
    """Improved PNDM: the weights of even steps, on a schedule of any; begins with lower orders.

    Source: Zhang and Chen 2022 (arXiv 2204.13902), section 3.3; Liu et al. 2022 (arXiv 2202.09778), eq. 12.
    """
    ds: list[Tensor] = []
    for sigma, sigma_next in pairwise(sigmas):
        denoised = model(x, sigma)
        ds = [(x - denoised) / sigma, *ds[: order - 1]]
        x_next = x + (sigma_next - sigma) * _weighted(_BASHFORTH[len(ds) - 1], ds)
        x = yield (x_next if sigma_next > 0 else denoised), sigma_next


def sample_ipndm_v(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, order: int = 4) -> Solution:
    """The same with weights for steps of uneven length, as its authors' program and ComfyUI have them.

    Up to order 3 they are those of Adams and Bashforth where the steps are even, and near them elsewhere; those of
    order 4 are near them. (`sample_lms` is exact.)
    Source: Zhou et al. 2024 (arXiv 2312.00094), the program beside it.
    """
    ds: list[Tensor] = []
    lengths: list[float] = []  # the newest first
    for sigma, sigma_next in pairwise(sigmas):
        denoised = model(x, sigma)
        ds = [(x - denoised) / sigma, *ds[: order - 1]]
        lengths = [float(sigma_next - sigma), *lengths[: order - 1]]
        x_next = x + (sigma_next - sigma) * _weighted(_uneven_weights(lengths[: len(ds)]), ds)
        x = yield (x_next if sigma_next > 0 else denoised), sigma_next


def sample_plms(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise) -> Solution:
    """Pseudo linear multistep: as IPNDM, but the first step is one of Heun's, of two evaluations.

    Source: Liu et al. 2022 (arXiv 2202.09778), algorithm 2 with its second-order start (S-PNDM), as in latent
    diffusion's PLMS.
    """
    ds: list[Tensor] = []
    for sigma, sigma_next in pairwise(sigmas):
        denoised = model(x, sigma)
        d = (x - denoised) / sigma
        slope = _weighted(_BASHFORTH[min(len(ds), 3)], [d, *ds[:3]])
        if not ds and sigma_next > 0:
            ahead = yield x + (sigma_next - sigma) * d, sigma_next
            slope = mean_slope(model, x, d, ahead, model(ahead, sigma_next), sigma, sigma_next)
        ds = [d, *ds[:2]]
        x = yield (x + (sigma_next - sigma) * slope if sigma_next > 0 else denoised), sigma_next


def sample_deis(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, order: int = 3) -> Solution:
    """DEIS, tAB: a polynomial in the time of a variance-preserving process, integrated over sigma.

    Source: Zhang and Chen 2022 (arXiv 2204.13902), eq. 14 and 15.
    """
    times = [_deis_time(sigma) for sigma in sigmas.tolist()]
    ds: list[Tensor] = []
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = model(x, sigma)
        ds = [(x - denoised) / sigma, *ds[: order - 1]]
        if sigma_next == 0:
            yield denoised, sigma_next
            return
        nodes = times[step + 1 - len(ds) : step + 1][::-1]
        x = yield x + _weighted(adams_weights(nodes, times[step], times[step + 1], _deis_density), ds), sigma_next


def sample_gradient_estimation(
    model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, gamma: float = 2.0
) -> Solution:
    """Euler's step along a slope that is extrapolated from the last one.

    Source: Permenter and Yuan 2024 (arXiv 2306.04848), algorithm 2; gamma is theirs.
    """
    last: Tensor | None = None
    for sigma, sigma_next in pairwise(sigmas):
        denoised = model(x, sigma)
        d = (x - denoised) / sigma
        d_bar = d if last is None else gamma * d + (1 - gamma) * last
        last = d
        x = yield (x + d_bar * (sigma_next - sigma) if sigma_next > 0 else denoised), sigma_next


def _weighted(weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    total = torch.zeros_like(slopes[0])
    for weight, slope in zip(weights, slopes, strict=True):
        total = total + weight * slope
    return total


def _uneven_weights(lengths: Sequence[float]) -> list[float]:
    """lengths: of this step and the last ones, the newest first; as many as there are slopes."""
    if len(lengths) == 1:
        return [1.0]
    h, h1 = lengths[:2]
    weights = [1 + h / h1 / 2, -h / h1 / 2, 0.0, 0.0]
    if len(lengths) > 2:
        h2 = lengths[2]
        third = (1 - h / (3 * (h + h1)) * (h * (h + h1)) / (h1 * (h1 + h2))) / 2
        weights = [weights[0] + third, weights[1] - (1 + h1 / h2) * third, third * h1 / h2, 0.0]
    if len(lengths) > 3:
        h3 = lengths[3]
        fourth = (1 - h / (3 * (h + h1))) / 2 + (1 - h / (2 * (h + h1))) * h / (6 * (h + h1 + h2))
        fourth *= h * (h + h1) * (h + h1 + h2) / (h1 * (h1 + h2) * (h1 + h2 + h3))
        ratio = h1 * (h1 + h2) / (h2 * (h2 + h3))
        weights[0] += fourth
        weights[1] -= (1 + h1 / h2 + ratio) * fourth
        weights[2] += (h1 / h2 + ratio * (1 + h2 / h3)) * fourth
        weights[3] -= fourth * ratio * h1 / h2
    return weights[: len(lengths)]


def _deis_time(sigma: float) -> float:
    return float((np.sqrt(_BETA_MIN**2 + 2 * _BETA_D * np.log(sigma**2 + 1)) - _BETA_MIN) / _BETA_D)


def _deis_density(times: np.ndarray) -> np.ndarray:
    """dsigma/dt."""
    variance = np.exp(0.5 * _BETA_D * times**2 + _BETA_MIN * times)
    density: np.ndarray = (_BETA_D * times + _BETA_MIN) * variance / (2 * np.sqrt(variance - 1))
    return density
