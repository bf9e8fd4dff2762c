"""What stochastic solvers add to the latents: churn before a step, ancestral noise behind it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.sampling.solvers.protocol import Model, StepNoise


@dataclass(frozen=True, slots=True)
class Churn:
    """Noise that is added before each step, so that errors of earlier ones are corrected; none by default.

    Source: Karras et al. 2022 (arXiv 2206.00364), algorithm 2, in its letters.
    """

    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = float("inf")
    s_noise: float = 1.0

    def add(self, x: Tensor, sigma: Tensor, steps: int, noise: StepNoise) -> tuple[Tensor, Tensor]:
        """Latents at a noise level -> latents at a higher one, and that level. steps: of the run."""
        if self.s_churn == 0:
            return x, sigma
        epsilon = noise(x, sigma, sigma) * self.s_noise  # drawn without use, too, so that the others stay the same
        if not self.s_tmin <= sigma <= self.s_tmax:
            return x, sigma
        sigma_hat = sigma * (1 + min(self.s_churn / steps, 2**0.5 - 1))
        return x + epsilon * (sigma_hat**2 - sigma**2) ** 0.5, sigma_hat


def is_fresh(model: Model, eta: float, h: float) -> bool:
    """Whether most of the noise is new behind a step of the SDE, of length h in log sigma, on a run from pure noise.

    Then the estimates before and behind it are of different images, and a polynomial through both extrapolates their
    noise: streaks and halos. Other models' runs are left as they are published.
    """
    return model.sampling.begins_at_noise and 1 - math.exp(-2 * eta**2 * h) > 0.5


def split_ancestral(sigma: Tensor, sigma_next: Tensor, eta: float = 1.0) -> tuple[Tensor, Tensor]:
    """The level to step down to, and the noise that leads up to the next one: sigma_down, sigma_up.

    Source: Ho et al. 2020 (arXiv 2006.11239), in sigmas; eta as in Song et al. 2020 (arXiv 2010.02502), eq. 16.
    """
    sigma_up = eta * (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2) ** 0.5
    sigma_up = torch.minimum(sigma_up, sigma_next)
    return (sigma_next**2 - sigma_up**2) ** 0.5, sigma_up
