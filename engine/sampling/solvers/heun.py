"""Heun's method and what is built of it: with weighted slopes (Heun++), and with restarts.

Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 2: Euler's step, corrected by the slope at its end.
"""

from collections.abc import Generator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from engine.sampling.noise_table import NO_SIGNAL
from engine.sampling.schedules import karras
from engine.sampling.solvers.added_noise import Churn
from engine.sampling.solvers.protocol import Model, Solution, StepNoise

_RESTART_BETWEEN = (0.1, 2.0)  # sigmas
_LONG = 3.0  # ratio of the sigmas of a step: up to it no weight of Heun's is above 1
_FEWEST_STEPS_TO_RESTART, _FEWEST_TO_RESTART_TWICE = 20, 36


def sample_heun(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, **churn: float) -> Solution:
    """Order 2: two evaluations a step, one in the last, where there is no slope at sigma 0."""
    churned = Churn(**churn)
    for sigma, sigma_next in pairwise(sigmas):
        x, sigma_hat = churned.add(x, sigma, len(sigmas) - 1, noise)
        x = yield from _step(model, x, sigma_hat, sigma_next)


def sample_restart(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, s_noise: float = 1.0) -> Solution:
    """Heun's method that goes back up from sigma 0.1 to 2, by adding noise, and down again.

    The steps are shared out as in A1111, so that all of them together are as many as were asked for: with fewer than
    20 nothing is gone through again, from 36 on it is twice. Source: Xu et al. 2023 (arXiv 2306.14878), algorithm 1.
    """
    levels = _levels_with_restarts(sigmas)
    at = levels[0][0]
    for sigma, sigma_next in levels:
        if sigma > at:
            x = x + noise(x, at, sigma) * (s_noise * (sigma**2 - at**2) ** 0.5)
        x = yield from _step(model, x, sigma, sigma_next)
        at = sigma_next


def sample_heunpp2(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, **churn: float) -> Solution:
    """Heun++: the slopes of up to three levels, the noisier the less they are below the first one.

    Three evaluations a step; two in the last but one, one in the last. No paper; A1111's extension of that name
    (Carzit, sd-webui-samplers-scheduler).
    """
    churned = Churn(**churn)
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        x, sigma_hat = churned.add(x, sigma, len(sigmas) - 1, noise)
        ahead = sigmas[step + 1 : min(step + 3, len(sigmas) - 1)]  # the levels whose slopes count, too
        d = (x - model(x, sigma_hat)) / sigma_hat
        slopes, x_ahead, level = [d], x, sigma_hat
        for end in ahead:
            x_ahead = yield x_ahead + slopes[-1] * (end - level), end
            slopes.append((x_ahead - model(x_ahead, end)) / end)
            level = end
        weights = [end / ((len(ahead) + 1) * sigmas[0]) for end in ahead]
        slope = (1 - sum(weights)) * d
        for weight, d_ahead in zip(weights, slopes[1:], strict=True):
            slope = slope + weight * d_ahead
        x = yield x + slope * (sigma_next - sigma_hat), sigma_next


def _step(
    model: Model, x: Tensor, sigma: Tensor, sigma_next: Tensor
) -> Generator[tuple[Tensor, Tensor], Tensor, Tensor]:
    """One step of Heun's method; returns the latents behind it."""
    dt = sigma_next - sigma
    d = (x - model(x, sigma)) / sigma
    x_next = yield x + d * dt, sigma_next
    if sigma_next > 0:
        denoised_next = model(x_next, sigma_next)
        x_next = yield x + dt * mean_slope(model, x, d, x_next, denoised_next, sigma, sigma_next), sigma_next
    return x_next


def mean_slope(
    model: Model, x: Tensor, d: Tensor, x_next: Tensor, denoised_next: Tensor, sigma: Tensor, sigma_next: Tensor
) -> Tensor:
    """The slope of Heun's step from d, that at its beginning, and from what the model says at its end.

    The mean of both weighs the second estimate by half the ratio of the sigmas, and the first by about as much below 0:
    hundreds in a step from pure noise. In long steps of such a run (zero terminal SNR) the estimate is a line in log
    sigma instead, of the same order, whose weights are between 0 and 1.
    """
    if not model.sampling.begins_at_noise or sigma <= _LONG * sigma_next:
        return (d + (x_next - denoised_next) / sigma_next) / 2
    left, h = sigma_next / sigma, (sigma / sigma_next).log()
    denoised = x - sigma * d
    solution = left * x + (1 - left) * denoised + (1 - (1 - left) / h) * (denoised_next - denoised)
    return (solution - x) / (sigma_next - sigma)


def _levels_with_restarts(sigmas: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Where each step begins and ends."""
    steps = len(sigmas) - 1
    if steps < _FEWEST_STEPS_TO_RESTART:
        return list(pairwise(sigmas))
    length, times = (9, 1) if steps < _FEWEST_TO_RESTART_TWICE else (steps // 4, 2)
    largest, smallest = float(sigmas[0]), float(sigmas[-2])
    if largest <= NO_SIGNAL:
        levels_of_main = karras(steps - length * times, smallest, largest)
    else:  # Karras' curve would spend half of its steps where there is no signal
        places = np.linspace(0, steps - 1, steps - length * times)
        levels_of_main = np.exp(np.interp(places, np.arange(steps), sigmas[:-1].log().numpy()))
    main = torch.from_numpy(levels_of_main).to(sigmas.dtype)
    low, high = (int((main - level).abs().argmin()) for level in _RESTART_BETWEEN)
    if high >= low:
        return list(pairwise(sigmas))  # it begins below
    again = torch.from_numpy(karras(length + 1, float(main[low]), float(main[high]))).to(sigmas.dtype)
    main = torch.cat([main, main.new_zeros(1)])
    levels = list(pairwise(main))
    return levels[:low] + list(pairwise(again)) * times + levels[low:]
