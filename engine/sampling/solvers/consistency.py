"""Samplers of distilled models, which jump to the denoised estimate and add noise anew."""

from itertools import pairwise

import numpy as np
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from engine.sampling.solvers.protocol import Model, Solution, StepNoise

_SIGMA_DATA, _TIMESTEP_SCALING = 0.5, 10.0


def sample_lcm(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise) -> Solution:
    """Multistep consistency sampling of latents at unit variance.

    Source: Luo et al. 2023 (arXiv 2310.04378), algorithm 3; c_skip and c_out of its appendix.
    """
    sampling = model.sampling
    timesteps = sampling.timesteps[sampling.steps + 1 - len(sigmas) :]
    alphas = DDIMScheduler(**sampling.table.config).alphas_cumprod[timesteps]
    signals, noises = alphas.sqrt(), (1 - alphas).sqrt()
    scaled = timesteps * _TIMESTEP_SCALING
    c_skip = _SIGMA_DATA**2 / (scaled**2 + _SIGMA_DATA**2)
    c_out = scaled / (scaled**2 + _SIGMA_DATA**2) ** 0.5
    for s, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = c_out[s] * model(x, sigma) + c_skip[s] * x
        if sigma_next == 0:
            yield denoised, sigma_next
            return
        x = yield signals[s + 1] * denoised + noises[s + 1] * noise(x, sigma, sigma_next), sigma_next


def sample_tcd(model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, *, eta: float = 0.3) -> Solution:
    """Trajectory consistency distillation: down to a level below the next, then noise up to that.

    Source: Zheng et al. 2024 (arXiv 2402.19159), algorithm 4, whose gamma is eta.
    """
    sampling = model.sampling
    timesteps = sampling.timesteps[sampling.steps + 1 - len(sigmas) :]
    below = np.floor((1 - eta) * timesteps[1:].double().numpy())
    sigmas_s = torch.from_numpy(sampling.table.sigmas_at(below)).to(sigmas.dtype)
    downs, ups = sigmas_s / sigmas[:-2], (sigmas[1:-1] ** 2 - sigmas_s**2) ** 0.5
    for s, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        denoised = model(x, sigma)
        if sigma_next == 0:
            yield denoised, sigma_next
            return
        x = denoised + downs[s] * (x - denoised)
        x = yield x + noise(x, sigma, sigma_next) * ups[s], sigma_next
