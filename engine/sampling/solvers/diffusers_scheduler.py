"""Any scheduler of diffusers as a solver: configured for a model that predicts x0, it steps from the denoised estimate.

Its options stand in the sampler's row, its timesteps and sigmas are those of the run. The row says whether it works
in latents at unit variance, as most do. One that draws noise has to take ours as `variance_noise`.
"""

from itertools import pairwise
from typing import Any

import diffusers
from torch import Tensor

from engine.checkpoints.foreign_config import blame_config
from engine.sampling.samplers import Sampling
from engine.sampling.solvers.protocol import Model, Solution, StepNoise


def sample_with_scheduler(
    model: Model,
    x: Tensor,
    sigmas: Tensor,
    noise: StepNoise,
    *,
    scheduler: str,
    eta: float = 0.0,
    **options: Any,
) -> Solution:
    """Step by a scheduler.

    Args:
        scheduler: The name of its class in diffusers.
        eta: Of DDIM (Song et al. 2020, arXiv 2010.02502, eq. 16).
        options: Of that class.
    """
    sampling = model.sampling
    stepper = _make_scheduler(sampling, scheduler, options)
    first_step = sampling.steps + 1 - len(sigmas)
    if hasattr(stepper, "set_begin_index"):
        stepper.set_begin_index(first_step)
    more: dict[str, Any] = {"eta": eta} if eta else {}
    for step, (sigma, sigma_next) in enumerate(pairwise(sigmas), first_step):
        denoised = model(x, sigma)
        if sampling.sampler.is_stochastic or eta:
            more["variance_noise"] = noise(x, sigma, sigma_next)
        x = stepper.step(denoised, stepper.timesteps[step], x, return_dict=False, **more)[0]
        x = yield x, sigma_next


def _make_scheduler(sampling: Sampling, name: str, options: dict[str, Any]) -> Any:
    """A scheduler on the noise levels of the run."""
    with blame_config("The model's scheduler_config.json can't be used", "Download the model again."):
        made = getattr(diffusers, name)(**sampling.table.config, **options, prediction_type="sample")
        made.set_timesteps(sampling.steps)
    made.timesteps = sampling.timesteps
    if hasattr(made, "sigmas"):
        made.sigmas = sampling.sigmas
    return made
