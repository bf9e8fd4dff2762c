"""Heun's method: Euler's step, corrected by the slope at its end.

Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 2 without churn.
"""

from itertools import pairwise

import torch
from torch import Tensor

from engine.sampling.solvers.protocol import Model, Solution


def sample_heun(model: Model, x: Tensor, sigmas: Tensor, generator: torch.Generator | None) -> Solution:
    """Order 2: two evaluations a step, one in the last, where there is no slope at sigma 0."""
    for sigma, sigma_next in pairwise(sigmas):
        dt = sigma_next - sigma
        d = (x - model(x, sigma)) / sigma
        x_next = yield x + d * dt, sigma_next
        if sigma_next > 0:
            d_next = (x_next - model(x_next, sigma_next)) / sigma_next
            x_next = yield x + (d + d_next) / 2 * dt, sigma_next
        x = x_next
