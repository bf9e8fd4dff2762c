"""SA-Solver: stochastic Adams methods, a predictor and a corrector that share one evaluation and one noise.

Source: Xue et al. 2023 (arXiv 2309.05019), algorithm 1 and eq. 14 to 19, in its words: lambda is -log sigma here, h
the step in lambda, tau the noise of the SDE, b the weights of the last estimates.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from engine.sampling.solvers.adams import adams_weights
from engine.sampling.solvers.added_noise import is_fresh
from engine.sampling.solvers.protocol import Model, Solution, StepNoise

_PREDICTOR_ORDER, _CORRECTOR_ORDER = 3, 4
_NOISY_SHARE = (0.2, 0.8)  # of the training timesteps, where tau is eta; elsewhere it is 0


def sample_sa_solver(
    model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Solution:
    """Orders 3 and 4, lower in the first steps and the last."""
    sampling = model.sampling
    quietest, noisiest = sampling.sigmas_at(np.array(_NOISY_SHARE) * (sampling.table.train_steps - 1))
    estimates: list[Tensor] = []  # the newest first
    steps = len(sigmas) - 1
    x_last, added, tau = x, torch.zeros_like(x), 0.0
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        kept = _CORRECTOR_ORDER - 1
        if step and is_fresh(model, tau, float((sigmas[step - 1] / sigma).log())):
            kept = 0
        estimates = [model(x, sigma), *estimates[:kept]]
        if sigma_next == 0:
            yield estimates[0], sigma_next
            return
        if step:
            order = min(_CORRECTOR_ORDER, steps - step + 1, len(estimates))
            levels = sigmas[step + 1 - order : step + 1].flip(0).tolist()
            x_last = _advance(x_last, sigmas[step - 1], sigma, tau, levels, estimates) + added
        tau = eta if quietest <= sigma_next <= noisiest else 0.0
        order = min(_PREDICTOR_ORDER, steps - step, len(estimates))
        levels = sigmas[step + 1 - order : step + 1].flip(0).tolist()
        h = (sigma / sigma_next).log()
        added = noise(x, sigma, sigma_next) * (s_noise * sigma_next * (-torch.expm1(-2 * tau**2 * h)) ** 0.5)
        x = yield _advance(x_last, sigma, sigma_next, tau, levels, estimates) + added, sigma_next


def _advance(
    x: Tensor, sigma: Tensor, sigma_next: Tensor, tau: float, levels: Sequence[float], estimates: Sequence[Tensor]
) -> Tensor:
    """Eq. 14 without its noise. levels: the sigmas of the first of the estimates, which are interpolated."""
    rate = 1 + tau**2
    start, end = -float(sigma.log()), -float(sigma_next.log())
    weights = adams_weights(
        [-float(np.log(level)) for level in levels], start, end, lambda at: rate * np.exp(-rate * (end - at))
    )
    x = (sigma_next / sigma) ** rate * x
    for b, estimate in zip(weights, estimates, strict=False):
        x = x + b * estimate
    return x
