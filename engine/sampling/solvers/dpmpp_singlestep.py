"""DPM-Solver++, singlestep of order 2: a second evaluation within the step, in the middle by lambda.

Source: Lu et al. 2022 (arXiv 2211.01095), algorithm 1 with r = 1/2, in its words: s and t are the step's ends by
lambda, u the middle; lambda is -log sigma here, where alpha is 1.
"""

from itertools import pairwise

from torch import Tensor

from engine.sampling.solvers.added_noise import split_ancestral
from engine.sampling.solvers.protocol import Model, Solution, StepNoise


def sample_dpmpp_2s_ancestral(
    model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Solution:
    """DPM-Solver++(2S) down to sigma_down, then noise up to the next level."""
    for sigma, sigma_next in pairwise(sigmas):
        sigma_down, sigma_up = split_ancestral(sigma, sigma_next, eta)
        denoised = model(x, sigma)
        if sigma_down == 0:
            yield denoised, sigma_next
            return
        sigma_mid = (sigma * sigma_down) ** 0.5
        u = yield denoised + sigma_mid / sigma * (x - denoised), sigma_mid
        denoised = model(u, sigma_mid)
        x = denoised + sigma_down / sigma * (x - denoised)
        x = yield x + noise(x, sigma, sigma_next) * (s_noise * sigma_up), sigma_next


def sample_dpmpp_sde(
    model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Solution:
    """The same with noise in both halves, of one path: what the middle sees is a part of what the whole step sees."""
    for sigma, sigma_next in pairwise(sigmas):
        denoised = model(x, sigma)
        if sigma_next == 0:
            yield denoised, sigma_next
            return
        sigma_mid = (sigma * sigma_next) ** 0.5
        sigma_down, sigma_up = split_ancestral(sigma, sigma_mid, eta)
        u = denoised + sigma_down / sigma * (x - denoised)
        u = yield u + noise(x, sigma, sigma_mid) * (s_noise * sigma_up), sigma_mid
        denoised = model(u, sigma_mid)
        sigma_down, sigma_up = split_ancestral(sigma, sigma_next, eta)
        x = denoised + sigma_down / sigma * (x - denoised)
        x = yield x + noise(x, sigma, sigma_next) * (s_noise * sigma_up), sigma_next
