"""What a solver is, and which one a sampler's row names: a generator over `denoised = model(x, sigma)`.

    def sample_name(model, x, sigmas, noise):
        for sigma, sigma_next in pairwise(sigmas):
            denoised = model(x, sigma)
            x = yield ..., sigma_next

After every evaluation of the model it yields its latents and the noise level that they have; it is sent them back,
perhaps with a part of the init image put back under a mask, and goes on with those.
"""

import importlib
from collections.abc import Generator, Iterable
from typing import Any, Protocol, cast

from torch import Tensor

from catalog.samplers import SAMPLERS, Sampler
from engine.sampling.noise import StepNoise
from engine.sampling.samplers import Sampling

__all__ = ["Model", "Solution", "Solver", "StepNoise", "find_solver", "missing_solvers"]

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

    def uncond(self) -> Tensor:
        """The denoised estimate that the last evaluation gave without the prompt; without guidance its only one."""
        ...


class Solver(Protocol):
    """A function of `engine/sampling/solvers/`."""

    def __call__(self, model: Model, x: Tensor, sigmas: Tensor, noise: StepNoise, **options: Any) -> Solution:
        """Solve from the first sigma to the last.

        Args:
            x: Latents at the first sigma, (1, C, h, w), float32.
            sigmas: Falling; the last is 0. Scalars on the CPU, of which no device has to wait.
            noise: Of this image; stochastic solvers take theirs from it.
            options: Those of the sampler's row, and those of a recipe's settings that the row names.
        """
        ...


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
