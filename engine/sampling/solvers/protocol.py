"""What a solver is, and which one a sampler's row names: a generator over `denoised = model(x, sigma)`.

    def sample_name(model, x, sigmas, generator):
        for sigma, sigma_next in pairwise(sigmas):
            denoised = model(x, sigma)
            x = yield ..., sigma_next

After every evaluation of the model it yields its latents and the noise level that they have; it is sent them back,
perhaps with a part of the init image put back under a mask, and goes on with those.
"""

import importlib
from collections.abc import Generator, Iterable
from typing import Any, Protocol, cast

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from catalog.samplers import SAMPLERS, Sampler
from engine.sampling.samplers import Sampling

Solution = Generator[tuple[Tensor, Tensor], Tensor, None]


class Model(Protocol):
    """The diffusion model as solvers see it.

    Attributes:
        sampling: The whole run, of which a solver is given the sigmas from its first step on.
    """

    sampling: Sampling

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The denoised estimate of latents at a noise level; same shape, float32."""
        ...


class Solver(Protocol):
    """A function of `engine/sampling/solvers/`."""

    def __call__(
        self, model: Model, x: Tensor, sigmas: Tensor, generator: torch.Generator | None, **options: Any
    ) -> Solution:
        """Solve from the first sigma to the last.

        Args:
            x: Latents at the first sigma, (1, C, h, w), float32.
            sigmas: Falling; the last is 0. Scalars on the CPU, of which no device has to wait.
            generator: Seeded for this image; stochastic solvers draw their noise from it.
            options: Those of the sampler's row.
        """
        ...


def noise_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Unit noise of the shape of x, on its device: the bits of diffusers' `randn_tensor`.

    Drawn on the CPU by the image's generator. A card gets it from page-locked memory: neither waits for the other.
    """
    if generator is None or x.device.type != "cuda":
        noise: Tensor = randn_tensor(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return noise
    drawn = torch.randn(x.shape, generator=generator, dtype=x.dtype, pin_memory=True)
    return drawn.to(x.device, non_blocking=True)


def find_solver(sampler: Sampler) -> Solver:
    """The function that a sampler's row names.

    Raises:
        ImportError: there is no such module.
        AttributeError: there is no such function in it.
    """
    module, _, function = sampler.solver.partition(":")
    return cast(Solver, getattr(importlib.import_module(f"engine.sampling.solvers.{module}"), function))


def missing_solvers(samplers: Iterable[Sampler] = tuple(SAMPLERS.values())) -> list[str]:
    """The ids of samplers whose solver does not exist: a slip of the pen in a row."""
    missing = []
    for sampler in samplers:
        try:
            find_solver(sampler)
        except (ImportError, AttributeError):
            missing.append(sampler.id)
    return missing
