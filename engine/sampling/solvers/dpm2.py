"""DPM-Solver-2: the slope in the middle of the step, by log sigma; and its ancestral kind.

Source: Lu et al. 2022 (arXiv 2206.00927), algorithm 1 with r1 = 1/2, in the letters of Karras et al. 2022.
"""

from itertools import pairwise

from torch import Tensor

from engine.sampling.solvers.added_noise import Churn, split_ancestral
from engine.sampling.solvers.protocol import Model, Solution, StepNoise


def sample_dpm_2(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, **churn: float) -> Solution:
    """Order 2: two evaluations a step, one in the last."""
    churned = Churn(**churn)
    for sigma, sigma_next in pairwise(sigmas):
        x, sigma_hat = churned.add(x, sigma, len(sigmas) - 1, noise)
        d = (x - model(x, sigma_hat)) / sigma_hat
        if sigma_next == 0:
            yield x + d * (sigma_next - sigma_hat), sigma_next
            return
        sigma_mid = (sigma_hat * sigma_next) ** 0.5
        x_mid = yield x + d * (sigma_mid - sigma_hat), sigma_mid
        d = (x_mid - model(x_mid, sigma_mid)) / sigma_mid
        x = yield x + d * (sigma_next - sigma_hat), sigma_next


def sample_dpm_2_ancestral(
    model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Solution:
    """The same down to sigma_down, then noise up to the next level."""
    for sigma, sigma_next in pairwise(sigmas):
        sigma_down, sigma_up = split_ancestral(sigma, sigma_next, eta)
        d = (x - model(x, sigma)) / sigma
        if sigma_down == 0:
            yield x + d * (sigma_down - sigma), sigma_next
            return
        sigma_mid = (sigma * sigma_down) ** 0.5
        x_mid = yield x + d * (sigma_mid - sigma), sigma_mid
        d = (x_mid - model(x_mid, sigma_mid)) / sigma_mid
        x = x + d * (sigma_down - sigma)
        x = yield x + noise(x, sigma, sigma_next) * (s_noise * sigma_up), sigma_next
