"""Euler's method, and its ancestral kind.

Source: Karras et al. 2022 (arXiv 2206.00364), whose d is the slope dx/dsigma of the probability flow.
"""

from itertools import pairwise

import torch
from torch import Tensor

from engine.sampling.solvers.protocol import Model, Solution, noise_like


def sample_euler(model: Model, x: Tensor, sigmas: Tensor, generator: torch.Generator | None) -> Solution:
    """Algorithm 2 without the correction, and without churn; order 1."""
    for sigma, sigma_next in pairwise(sigmas):
        d = (x - model(x, sigma)) / sigma
        x = yield x + d * (sigma_next - sigma), sigma_next


def sample_euler_ancestral(model: Model, x: Tensor, sigmas: Tensor, generator: torch.Generator | None) -> Solution:
    """Euler's step down to sigma_down, then noise up to the next level.

    The two are those of ancestral sampling: Ho et al. 2020 (arXiv 2006.11239), in sigmas. Draws noise once a step,
    in the last one too, so that what is drawn afterwards stays the same.
    """
    for sigma, sigma_next in pairwise(sigmas):
        sigma_up = (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2) ** 0.5
        sigma_down = (sigma_next**2 - sigma_up**2) ** 0.5
        d = (x - model(x, sigma)) / sigma
        x = x + d * (sigma_down - sigma)
        noise = noise_like(x, generator)
        x = yield x + noise * sigma_up, sigma_next
