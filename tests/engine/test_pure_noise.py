"""Few steps from pure noise (models of zero terminal SNR): the first step is from a sigma that stands for infinity."""

import contextlib
from typing import Any

import pytest
import torch

from catalog.samplers import SAMPLERS, resolve_schedule
from contract.parts import SamplerSettings
from engine.sampling.samplers import Sampling, sampling_for
from engine.sampling.solvers.heun import mean_slope
from engine.sampling.solvers.protocol import find_solver

ZERO_SNR = {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True}
ZERO_SNR |= {"beta_start": 0.00085, "beta_end": 0.012}
FROM_PURE_NOISE = ("heun", "restart", "plms", "dpmpp_3m_sde", "sa_solver", "dpm_2", "dpm_2_a")


class Estimates:
    """A model of zero SNR that says what it is told: of normal data, or which evaluation this is."""

    def __init__(self, sampling: Sampling, deviation: float | None) -> None:
        self.sampling, self._deviation, self._asked = sampling, deviation, 0

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        if self._deviation is not None:
            return x * self._deviation**2 / (self._deviation**2 + sigma**2)
        estimate = torch.zeros_like(x)
        estimate[..., self._asked] = 1
        self._asked += 1
        return estimate

    def uncond(self) -> torch.Tensor:
        raise AssertionError("no sampler of these asks for it")


def from_pure_noise(name: str, steps: int, deviation: float | None = None) -> list[torch.Tensor]:
    """The latents of each step, from unit noise or, of a model that counts, from none and without added noise."""
    schedule = resolve_schedule(SAMPLERS[name], "automatic", zero_snr=True)
    sampling = sampling_for(name, schedule, steps, ZERO_SNR, torch.device("cpu"))
    assert sampling.table.is_zero_snr and sampling.sigmas[0] > 4000
    drawn = torch.Generator().manual_seed(1)
    x = torch.randn(1, 4, 64, 64, generator=drawn) * sampling.sigmas[0]
    share = 1.0 if deviation else 0.0

    def noise(x: torch.Tensor, *_: object) -> torch.Tensor:
        return share * torch.randn(x.shape, generator=drawn)

    model: Any = Estimates(sampling, deviation)
    solution = find_solver(sampling.sampler)(model, x * share, sampling.sigmas, noise, **sampling.options)
    made, (latents, _) = [], next(solution)
    with contextlib.suppress(StopIteration):
        while True:
            made.append(latents)
            latents, _ = solution.send(latents)
    return made


@pytest.mark.parametrize(("steps", "most"), [(6, 0.25), (10, 0.11), (20, 0.05)])
@pytest.mark.parametrize("name", FROM_PURE_NOISE)
def test_few_steps_from_pure_noise_end_at_the_data(name: str, steps: int, most: float) -> None:
    """Normal data of deviation 0.8, whose denoised estimate is known: the result has nearly that deviation."""
    result = from_pure_noise(name, steps, 0.8)[-1]
    assert abs(float(result.std()) / 0.8 - 1) <= most


@pytest.mark.parametrize("steps", [6, 10, 20])
@pytest.mark.parametrize(
    ("name", "least"),
    [("heun", -0.5), ("restart", -1.0), ("plms", -1.0), ("sa_solver", -0.35)],
)
def test_from_pure_noise_no_estimate_counts_against_the_others(name: str, least: float, steps: int) -> None:
    """The weight of each estimate in the latents of each step: what is far below 0 extrapolates, and is seen as streaks."""
    assert min(float(latents.min()) for latents in from_pure_noise(name, steps)) >= least


def test_other_models_keep_their_published_steps() -> None:
    plain = sampling_for("heun", "uniform", 3, {"prediction_type": "epsilon"}, torch.device("cpu"))
    assert not plain.table.is_zero_snr and plain.sigmas[0] > 3 * plain.sigmas[1]
    long = (torch.tensor(14.0), torch.tensor(1.0))
    d, x, ahead, denoised = (torch.full((1,), value) for value in (2.0, 20.0, 5.0, 1.0))
    assert mean_slope(Estimates(plain, 1.0), x, d, ahead, denoised, *long).item() == (2.0 + 4.0) / 2


def test_no_level_is_left_out_of_a_run_from_pure_noise() -> None:
    """Unless the recipe says so: the levels are even in time, and the last is no small one."""
    for config, settings, same in ((ZERO_SNR, None, True), ({"prediction_type": "epsilon"}, None, False)):
        levels = [
            sampling_for(name, "sgm_uniform", 6, config, torch.device("cpu"), settings).sigmas.tolist()
            for name in ("dpmpp_3m_sde", "res_multistep")
        ]
        assert (levels[0] == levels[1]) == same
    discarding = SamplerSettings(discard_penultimate=True)
    sampling = sampling_for("dpmpp_3m_sde", "sgm_uniform", 6, ZERO_SNR, torch.device("cpu"), discarding)
    assert sampling.sigmas.tolist() != levels[0] and sampling.sigmas[-2] > 0.8
