"""One noise level of a run: timestep and scale of the model's input, and how its output becomes the denoised estimate.

Karras et al. 2022 (arXiv 2206.00364), table 1, for latents in any of three spaces: x0 + sigma * noise (variance
exploding), the same at unit variance (variance preserving), and (1 - sigma) * x0 + sigma * noise (rectified flow).
Sigmas and factors are float32 scalars on the CPU, as in diffusers: so are the latents the same, bit for bit.
"""

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from catalog.samplers import EDM_PREDICTIONS


class Space(Enum):
    """How noisy latents are made of x0 and noise."""

    VARIANCE_EXPLODING = "ve"
    VARIANCE_PRESERVING = "vp"
    FLOW = "flow"

    def alpha_and_sigma(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of x0 and of unit noise in noisy latents, of the sigma's shape.

        Args:
            sigma: Noise over signal, which may be infinite at unit variance; of flow the share of noise, 0 to 1.
        """
        if self is Space.FLOW:
            return 1 - sigma, sigma
        if self is Space.VARIANCE_PRESERVING:
            alpha = 1 / (sigma**2 + 1) ** 0.5
            return alpha, torch.where(sigma.isinf(), 1.0, sigma * alpha)
        return torch.ones_like(sigma), sigma


@dataclass(frozen=True, slots=True)
class NoiseLevel:
    """The model at one noise level, where latents are alpha * x0 + sigma * noise.

    Attributes:
        timestep: The model's input, a scalar on its device.
        scale: What latents are divided by for its input: 1 / c_in.
        variance: Its square.
        prediction_type: What the model predicts, by diffusers' name.
        sigma_data: Of EDM's network: the deviation of the data.
    """

    timestep: Tensor
    alpha: Tensor
    sigma: Tensor
    scale: Tensor
    variance: Tensor
    prediction_type: str
    sigma_data: float = 1.0

    def denoised(self, x: Tensor, prediction: Tensor) -> Tensor:
        """The estimate of x0 from latents and what the model predicts of them; all (1, C, h, w).

        epsilon is the noise, sample x0; v is alpha * noise - sigma * x0 of latents at unit variance (Salimans and
        Ho 2022, arXiv 2202.00512); flow_prediction is noise - x0, of latents over their
        scale. EDM's network F gives c_skip * x + c_out * F; by edm_v the sign of c_out is turned.
        """
        if self.prediction_type == "epsilon":
            return (x - self.sigma * prediction) / self.alpha
        if self.prediction_type == "v_prediction":
            return x * self.alpha / self.variance - self.sigma / self.scale * prediction
        if self.prediction_type == "sample":
            return prediction
        if self.prediction_type in EDM_PREDICTIONS:
            c_skip, c_out = self._edm_factors()
            return c_skip * x + c_out * prediction
        return x / self.scale - self.sigma / self.scale * prediction

    def prediction(self, x: Tensor, denoised: Tensor) -> Tensor:
        """What the model would have to predict of latents for this estimate of x0: the inverse of `denoised`."""
        if self.prediction_type == "v_prediction":
            return (x * self.alpha / self.variance - denoised) * self.scale / self.sigma
        if self.prediction_type == "sample":
            return denoised
        if self.prediction_type == "epsilon":
            return (x - self.alpha * denoised) / self.sigma
        if self.prediction_type in EDM_PREDICTIONS:
            c_skip, c_out = self._edm_factors()
            return (denoised - c_skip * x) / c_out
        return (x - denoised * self.scale) / self.sigma

    def _edm_factors(self) -> tuple[Tensor, Tensor]:
        """c_skip and c_out; Karras et al. 2022, table 1."""
        c_out = self.sigma * self.sigma_data / self.scale
        return self.sigma_data**2 / self.variance, -c_out if self.prediction_type == "edm_v" else c_out


def make_noise_levels(
    sigmas: Tensor, timesteps: Tensor, space: Space, prediction_type: str, sigma_data: float = 1.0
) -> list[NoiseLevel]:
    """The model at each of these sigmas; both (n,), the timesteps on the model's device."""
    alphas, noises = space.alpha_and_sigma(sigmas)
    variances = torch.ones_like(sigmas)
    if space is Space.VARIANCE_EXPLODING:
        is_flow = prediction_type == "flow_prediction"  # which takes latents whose shares of x0 and noise sum up to 1
        variances = (sigmas + 1) ** 2 if is_flow else sigmas**2 + sigma_data**2
    rows = zip(timesteps, alphas, noises, variances**0.5, variances, strict=True)
    return [NoiseLevel(*row, prediction_type, sigma_data) for row in rows]
