"""Where img2img starts and what a mask keeps: the init latents of one image, noised and blended back step by step."""

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.sampling.samplers import Sampling


@dataclass(frozen=True, slots=True)
class MaskBlend:
    """The init latents of one image, as the loop uses them.

    Attributes:
        first_step: Steps that are left out: the init latents stand for what they would have made.
        init_latents: Of the init image, (1, C, h, w), float32, noise-free.
        noise: Of this image's seed, (1, C, h, w).
        mask: Where latents may change, (1, 1, h, w), 0..1; None everywhere.
        is_soft: A gray mask is a differential one: darker grays change later.
        is_blended: Whether the init latents are put back outside the mask at each step.
        masked_content: What to begin from instead of the init latents.
    """

    first_step: int
    init_latents: Tensor
    noise: Tensor
    sampling: Sampling
    mask: Tensor | None = None
    is_soft: bool = False
    is_blended: bool = True
    masked_content: Tensor | None = None

    def begin(self) -> Tensor:
        """The init latents with the noise of the first step; noise alone where a mask is wholly repainted."""
        if self.first_step == 0 and self.mask is not None and not self.is_soft:
            return self.noise * self.sampling.init_noise_sigma
        clean = self.init_latents if self.masked_content is None else self.masked_content
        return self.sampling.add_noise(clean, self.noise, self.sampling.sigmas[self.first_step])

    def blend(self, latents: Tensor, sigma: Tensor, done: float) -> Tensor:
        """Put the init latents back outside the mask.

        A soft mask is differential diffusion: a gray of 0.3 changes in the last 30 % of the steps only.
        Source: Levin and Fried 2023 (arXiv 2306.00950), algorithm 1.

        Args:
            sigma: The noise level that the latents have.
            done: The share of the run's model evaluations that is done, 0 to 1.
        """
        if self.mask is None or not self.is_blended:
            return latents
        kept = self.sampling.add_noise(self.init_latents, self.noise, sigma)
        mask = self.mask
        if self.is_soft:
            mask = (mask > 1 - done).float()
        return torch.lerp(kept, latents, mask)
