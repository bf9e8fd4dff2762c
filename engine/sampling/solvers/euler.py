"""Euler's method, its ancestral kind, and both with CFG++.

Source: Karras et al. 2022 (arXiv 2206.00364), whose d is the slope dx/dsigma of the probability flow.
"""

from itertools import pairwise

from torch import Tensor

from engine.sampling.solvers.added_noise import Churn, split_ancestral
from engine.sampling.solvers.protocol import Model, Solution, StepNoise


def sample_euler(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, **churn: float) -> Solution:
    """Algorithm 2 without the correction; order 1."""
    churned = Churn(**churn)
    for sigma, sigma_next in pairwise(sigmas):
        x, sigma_hat = churned.add(x, sigma, len(sigmas) - 1, noise)
        d = (x - model(x, sigma_hat)) / sigma_hat
        x = yield x + d * (sigma_next - sigma_hat), sigma_next


def sample_euler_ancestral(
    model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Solution:
    """Euler's step down to sigma_down, then noise up to the next level.

    With eta 1 it is the ancestral sampling of Ho et al. 2020 (arXiv 2006.11239), whose posterior has this mean and
    variance. Draws noise once a step, in the last one too, so that what is drawn afterwards stays the same.
    """
    for sigma, sigma_next in pairwise(sigmas):
        sigma_down, sigma_up = split_ancestral(sigma, sigma_next, eta)
        d = (x - model(x, sigma)) / sigma
        x = x + d * (sigma_down - sigma)
        x = yield x + noise(x, sigma, sigma_next) * (s_noise * sigma_up), sigma_next


def sample_euler_cfg_pp(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise) -> Solution:
    """Euler's step from the guided estimate, with the noise that the model sees without the prompt.

    On the grid of DDIM it is its CFG++. Source: Chung et al. 2024 (arXiv 2406.08070), algorithm 2.
    """
    for sigma, sigma_next in pairwise(sigmas):
        denoised = model(x, sigma)
        d = (x - model.uncond()) / sigma
        x = yield denoised + d * sigma_next, sigma_next


def sample_euler_ancestral_cfg_pp(
    model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Solution:
    """The same down to sigma_down, then noise up to the next level."""
    for sigma, sigma_next in pairwise(sigmas):
        sigma_down, sigma_up = split_ancestral(sigma, sigma_next, eta)
        denoised = model(x, sigma)
        d = (x - model.uncond()) / sigma
        x = denoised + d * sigma_down
        x = yield x + noise(x, sigma, sigma_next) * (s_noise * sigma_up), sigma_next
