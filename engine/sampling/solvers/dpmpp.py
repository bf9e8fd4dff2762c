"""DPM-Solver++, multistep of order 2: the denoised estimate as a line in lambda, through this step's and the last's.

Source: Lu et al. 2022 (arXiv 2211.01095), algorithm 2 and section 5, in their words: lambda is log(alpha / sigma), h
the step in lambda, r the last step in units of this one, D0 and D1 the line.
"""

from itertools import pairwise

import torch
from torch import Tensor

from engine.sampling.solvers.protocol import Model, Solution, noise_like


def sample_dpmpp_2m(model: Model, x: Tensor, sigmas: Tensor, generator: torch.Generator | None) -> Solution:
    """DPM-Solver++(2M); the first step and the last are of order 1."""
    alpha, sigma = model.sampling.space.alpha_and_sigma(sigmas)
    lambda_ = torch.log(alpha) - torch.log(sigma)
    D0_last: Tensor | None = None
    for s, t in pairwise(range(len(sigmas))):
        D0 = model(x, sigmas[s])
        h = lambda_[t] - lambda_[s]
        decay = alpha[t] * (torch.exp(-h) - 1)
        x_t = sigma[t] / sigma[s] * x - decay * D0
        if D0_last is not None and sigmas[t] > 0:
            r = (lambda_[s] - lambda_[s - 1]) / h
            D1 = 1 / r * (D0 - D0_last)
            x_t = x_t - 0.5 * decay * D1
        D0_last = D0
        x = yield x_t, sigmas[t]


def sample_dpmpp_2m_sde(model: Model, x: Tensor, sigmas: Tensor, generator: torch.Generator | None) -> Solution:
    """SDE-DPM-Solver++(2M). Draws noise once a step, in the last one too, so that later draws stay the same."""
    alpha, sigma = model.sampling.space.alpha_and_sigma(sigmas)
    lambda_ = torch.log(alpha) - torch.log(sigma)
    D0_last: Tensor | None = None
    for s, t in pairwise(range(len(sigmas))):
        D0 = model(x, sigmas[s])
        h = lambda_[t] - lambda_[s]
        growth = alpha[t] * (1 - torch.exp(-2 * h))
        x_t = sigma[t] / sigma[s] * torch.exp(-h) * x + growth * D0
        if D0_last is not None and sigmas[t] > 0:
            r = (lambda_[s] - lambda_[s - 1]) / h
            D1 = 1 / r * (D0 - D0_last)
            x_t = x_t + 0.5 * growth * D1
        D0_last = D0
        noise = noise_like(x, generator)
        x = yield x_t + sigma[t] * torch.sqrt(1 - torch.exp(-2 * h)) * noise, sigmas[t]
