"""DPM-Solver++, multistep: the denoised estimate as a polynomial in lambda, through this step's and the last ones'.

Source: Lu et al. 2022 (arXiv 2211.01095), algorithm 2 and section 5, in their words: lambda is log(alpha / sigma), h
the step in lambda, r the last step in units of this one, D0 and D1 the line. eta scales the noise of the SDE, which
the paper has at 1.
"""

from itertools import pairwise

import torch
from torch import Tensor

from engine.sampling.solvers.added_noise import is_fresh
from engine.sampling.solvers.protocol import Model, Solution, StepNoise


def sample_dpmpp_2m(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise) -> Solution:
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


def sample_dpmpp_2m_sde(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    noise: StepNoise,
    *,
    is_exact: bool = False,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Solution:
    """SDE-DPM-Solver++(2M). Draws noise once a step, in the last one too, so that later draws stay the same.

    Args:
        is_exact: Integrate the line exactly, which k-diffusion calls Heun; else at its middle, as in the paper.
    """
    alpha, sigma = model.sampling.space.alpha_and_sigma(sigmas)
    lambda_ = torch.log(alpha) - torch.log(sigma)
    D0_last: Tensor | None = None
    for s, t in pairwise(range(len(sigmas))):
        D0 = model(x, sigmas[s])
        h = lambda_[t] - lambda_[s]
        growth = alpha[t] * (1 - torch.exp(-(1 + eta) * h))
        decay = torch.exp(-eta * h) if eta else torch.ones_like(h)  # in the last step h is infinite
        x_t = sigma[t] / sigma[s] * decay * x + growth * D0
        if D0_last is not None and sigmas[t] > 0:
            r = (lambda_[s] - lambda_[s - 1]) / h
            D1 = 1 / r * (D0 - D0_last)
            weight = 0.5 * growth
            if is_exact:
                weight = alpha[t] - growth / ((1 + eta) * h)
            x_t = x_t + weight * D1
        D0_last = D0
        share = s_noise * sigma[t] * torch.sqrt(1 - torch.exp(-2 * eta * h)) if eta else torch.zeros_like(h)
        x = yield x_t + share * noise(x, sigmas[s], sigmas[t]), sigmas[t]


def sample_dpmpp_3m_sde(
    model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, eta: float = 1.0, s_noise: float = 1.0
) -> Solution:
    """SDE-DPM-Solver++ with a parabola through the last three estimates.

    Source: the paper's method at one order more, as in k-diffusion, whose parabola bends half as much as the one
    through the estimates: it is of order 2. The phi are those of exponential integrators.
    """
    alpha, sigma = model.sampling.space.alpha_and_sigma(sigmas)
    lambda_ = torch.log(alpha) - torch.log(sigma)
    D0s: list[Tensor] = []  # the newest first
    for s, t in pairwise(range(len(sigmas))):
        D0s = [model(x, sigmas[s]), *D0s[:2]]
        longest = float(torch.diff(lambda_[max(0, s - 1) : t + 1]).max())
        if is_fresh(model, eta**0.5, longest):
            D0s = D0s[:2]
        if sigmas[t] == 0:
            yield D0s[0], sigmas[t]
            return
        h = lambda_[t] - lambda_[s]
        tau = (1 + eta) * h
        phi_1 = -torch.expm1(-tau)
        phi_2 = 1 - phi_1 / tau
        x = sigma[t] / sigma[s] * torch.exp(-eta * h) * x + alpha[t] * phi_1 * D0s[0]
        if len(D0s) > 1:
            r0 = (lambda_[s] - lambda_[s - 1]) / h
            D1 = (D0s[0] - D0s[1]) / r0
        if len(D0s) == 3:
            r1 = (lambda_[s - 1] - lambda_[s - 2]) / h
            D2 = (D1 - (D0s[1] - D0s[2]) / r1) / (r0 + r1)
            D1 = D1 + r0 * D2
            x = x - alpha[t] * (phi_2 / tau - 0.5) * D2
        if len(D0s) > 1:
            x = x + alpha[t] * phi_2 * D1
        share = s_noise * sigma[t] * torch.sqrt(-torch.expm1(-2 * eta * h))
        x = yield x + share * noise(x, sigmas[s], sigmas[t]), sigmas[t]
