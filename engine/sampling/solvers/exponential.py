"""Exponential integrators of the denoised estimate, over log sigma (RES) and over sigma with more noise (ER-SDE)."""

from itertools import pairwise

import torch
from torch import Tensor

from engine.sampling.solvers.protocol import Model, Solution, StepNoise

_POINTS = 200  # of the sums that stand for ER-SDE's integrals, in its authors' program too


def sample_res_multistep(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise) -> Solution:
    """The refined exponential solver of order 2, multistep; the first step and the last are of order 1.

    Source: Zhang et al. 2023 (arXiv 2308.02157), table 2 for order 2 and section 4 for the phi, with -log sigma as
    time: c2 is the last step's length in units of this one, counted backwards.
    """
    last: Tensor | None = None
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = model(x, sigma)
        if sigma_next == 0:
            yield denoised, sigma_next
            return
        h = (sigma / sigma_next).log()
        phi_1 = -torch.expm1(-h) / h
        x_next = sigma_next / sigma * x + h * phi_1 * denoised
        if last is not None:
            phi_2 = (1 - phi_1) / h
            c2 = -(sigmas[step - 1] / sigma).log() / h
            x_next = x_next + h * phi_2 / c2 * (last - denoised)
        last = denoised
        x = yield x_next, sigma_next


def sample_er_sde(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, s_noise: float = 1.0) -> Solution:
    """ER-SDE-Solver-3, with the noise of its authors' choice.

    Source: Cui et al. 2023 (arXiv 2309.06169), algorithm 3 for variance exploding, whose phi is the noise scale; D_d
    and D_u are the first and second differences of the estimates.
    """
    last: Tensor | None = None
    D_d_last: Tensor | None = None
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = model(x, sigma)
        if sigma_next == 0:
            yield denoised, sigma_next
            return
        dt = sigma_next - sigma
        scale = _noise_scale(sigma_next)
        r = scale / _noise_scale(sigma)
        x_next = r * x + (1 - r) * denoised
        levels = sigma_next - torch.arange(_POINTS, dtype=sigmas.dtype) * dt / _POINTS
        if last is not None:
            D_d = (denoised - last) / (sigma - sigmas[step - 1])
            integral = (1 / _noise_scale(levels)).sum() * -dt / _POINTS
            x_next = x_next + (dt + scale * integral) * D_d
            if D_d_last is not None:
                D_u = (D_d - D_d_last) / ((sigma - sigmas[step - 2]) / 2)
                integral = ((levels - sigma) / _noise_scale(levels)).sum() * -dt / _POINTS
                x_next = x_next + (dt**2 / 2 + scale * integral) * D_u
            D_d_last = D_d
        last = denoised
        added = (sigma_next**2 - sigma**2 * r**2).clamp(min=0) ** 0.5
        x = yield x_next + noise(x, sigma, sigma_next) * (s_noise * added), sigma_next


def _noise_scale(sigma: Tensor) -> Tensor:
    """phi of ER-SDE 5, table 1."""
    return sigma * ((sigma**0.3).exp() + 10)
