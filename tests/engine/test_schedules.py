"""Schedules alone, against the field's functions, and every sampler's levels against diffusers' own schedulers."""

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from scipy import stats

from catalog.samplers import SAMPLERS, grid_of
from engine.sampling import schedules
from engine.sampling.noise_table import make_noise_table
from engine.sampling.samplers import Sampling, sampling_for

BASE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ALPHAS = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
LEVELS = ((1 - ALPHAS) / ALPHAS) ** 0.5
ALL = ("uniform", "karras", "exponential", "sgm_uniform", "simple", "beta")
STEPS = 20


def reference_levels(schedule: str, steps: int) -> np.ndarray:
    """Noise levels as the field's functions give them, ending in 0."""
    first, last = LEVELS[-1], LEVELS[0]
    ramp = np.linspace(0, 1, steps)
    if schedule == "karras":
        made = (first ** (1 / 7) + ramp * (last ** (1 / 7) - first ** (1 / 7))) ** 7
    elif schedule == "exponential":
        made = np.exp(np.linspace(np.log(first), np.log(last), steps))
    elif schedule == "beta":
        made = last + stats.beta.ppf(1 - ramp, 0.6, 0.6) * (first - last)
    elif schedule == "simple":
        made = np.array([LEVELS[999 - int(i * 1000 / steps)] for i in range(steps)])
    else:
        times = np.linspace(999, 0, steps) if schedule == "uniform" else np.linspace(999, 0, steps + 1)[:-1]
        made = np.exp(np.interp(times, np.arange(1000), np.log(LEVELS)))
    return np.append(made, 0.0)


def set_up(sampler: str, schedule: str, steps: int = STEPS, **config: object) -> Sampling:
    return sampling_for(sampler, schedule, steps, {**BASE, **config}, torch.device("cpu"))


@pytest.mark.parametrize(
    ("schedule", "tolerance"),
    [
        ("uniform", 5e-5),
        ("karras", 5e-5),
        ("exponential", 5e-5),
        ("sgm_uniform", 2e-3),
        ("simple", 1e-5),
        ("beta", 5e-5),
    ],
)
@pytest.mark.parametrize("sampler", ["euler", "euler_a", "heun"])
def test_levels_are_the_ones_people_mean(sampler: str, schedule: str, tolerance: float) -> None:
    ours = set_up(sampler, schedule).sigmas.numpy()
    np.testing.assert_allclose(ours, reference_levels(schedule, STEPS), rtol=tolerance, atol=0)


@pytest.mark.parametrize(
    ("schedule", "tolerance"),
    [
        ("uniform", 0.01),
        ("karras", 5e-5),
        ("exponential", 5e-5),
        ("sgm_uniform", 0.01),
        ("simple", 1e-5),
        ("beta", 5e-5),
    ],
)
@pytest.mark.parametrize("sampler", ["dpmpp_2m", "dpmpp_2m_sde", "unipc"])
def test_levels_on_whole_timesteps_are_close(sampler: str, schedule: str, tolerance: float) -> None:
    ours = set_up(sampler, schedule).sigmas.numpy()
    np.testing.assert_allclose(ours, reference_levels(schedule, STEPS), rtol=tolerance, atol=0)


@pytest.mark.parametrize("n", [1, 2, 7, 150])
@pytest.mark.parametrize("name", ["karras", "exponential", "beta"])
def test_sigmas_fall_from_the_largest_to_the_smallest(name: str, n: int) -> None:
    sigmas = getattr(schedules, name)(n, 0.03, 14.6)
    assert sigmas.shape == (n,) and np.isclose(sigmas[0], 14.6)
    assert n == 1 or (np.isclose(sigmas[-1], 0.03) and (np.diff(sigmas) < 0).all())


def test_karras_and_exponential_are_even_in_what_they_say() -> None:
    seventh_roots = schedules.karras(9, 0.03, 14.6) ** (1 / 7)
    assert np.allclose(np.diff(seventh_roots), np.diff(seventh_roots)[0])
    cubic_roots = schedules.karras(9, 0.03, 14.6, rho=3) ** (1 / 3)
    assert np.allclose(np.diff(cubic_roots), np.diff(cubic_roots)[0])
    logs = np.log(schedules.exponential(9, 0.03, 14.6))
    assert np.allclose(np.diff(logs), np.diff(logs)[0])


@pytest.mark.parametrize(
    ("name", "timesteps"),
    [
        ("uniform", [99, 66, 33, 0]),
        ("sgm_uniform", [99, 74.25, 49.5, 24.75]),
        ("simple", [99, 74, 49, 24]),
        ("leading", [76, 51, 26, 1]),
        ("distilled", [99, 75, 49, 25]),
    ],
)
def test_timesteps_are_even(name: str, timesteps: list[float]) -> None:
    assert np.allclose(getattr(schedules, name)(4, 100), timesteps)
    assert getattr(schedules, name)(1, 100).tolist() == [99]


def test_every_schedule_of_every_sampler_has_its_function() -> None:
    for sampler in SAMPLERS.values():
        for schedule in sampler.schedules:
            grid = grid_of(sampler, schedule)
            assert schedule == "automatic" or grid.tables or callable(getattr(schedules, grid.id))


def stock_scheduler(sampler: str, schedule: str, steps: int, config: dict[str, Any]) -> Any:
    """The scheduler of diffusers with its option for a schedule; None where it has none."""
    curve = {f"use_{schedule}_sigmas": True} if schedule in ("karras", "exponential", "beta") else {}
    spacing = "trailing" if steps == 1 or schedule == "simple" else "linspace"
    if sampler in ("euler", "heun"):
        cls = diffusers.EulerDiscreteScheduler if sampler == "euler" else diffusers.HeunDiscreteScheduler
    elif sampler in ("dpmpp_2m", "unipc"):
        cls = diffusers.DPMSolverMultistepScheduler if sampler == "dpmpp_2m" else diffusers.UniPCMultistepScheduler
        if schedule not in ("karras", "exponential", "beta", "simple"):
            return None
    elif sampler == "ddim":
        cls, spacing = diffusers.DDIMScheduler, "leading" if schedule == "uniform" and steps > 1 else "trailing"
    else:
        return None
    if schedule == "sgm_uniform" and sampler != "ddim":
        return None
    offset = {"steps_offset": 1} if sampler == "ddim" else {}
    made = cls(**config, **curve, **offset, timestep_spacing=spacing)
    made.set_timesteps(steps)
    return made


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize(
    ("sampler", "schedule"),
    [(sampler, schedule) for sampler in ("euler", "heun", "dpmpp_2m", "unipc") for schedule in ALL]
    + [("ddim", "uniform"), ("ddim", "sgm_uniform")],
)
def test_levels_are_diffusers_own_where_it_has_the_option(sampler: str, schedule: str, zero_snr: bool) -> None:
    """Bit for bit, at any number of steps."""
    if sampler == "heun" and zero_snr:
        return  # HeunDiscrete knows no rescale_betas_zero_snr
    config = {**BASE, "rescale_betas_zero_snr": True} if zero_snr else dict(BASE)
    for steps in (*range(1, 31), 49, 50, 51, 61, 100, 103, 121, 122, 149, 150):
        stock = stock_scheduler(sampler, schedule, steps, config)
        if stock is None:
            return
        if len(stock.timesteps) not in (steps, 2 * steps - 1):
            assert schedule in ("simple", "sgm_uniform") and steps in (61, 103, 121, 122)  # diffusers' own slip
            continue
        ours = set_up(sampler, schedule, steps, **config)
        theirs = stock.timesteps
        if sampler == "heun":
            theirs = torch.cat([theirs[:1], theirs[1::2]])
        assert torch.equal(ours.timesteps, theirs), steps
        if sampler == "ddim":
            alphas = stock.alphas_cumprod[theirs]
            sigmas = (((1 - alphas) / alphas) ** 0.5).tolist()
        else:
            sigmas = stock.sigmas.tolist()
            sigmas = sigmas[:1] + sigmas[1::2] if sampler == "heun" else sigmas
        assert ours.sigmas[:steps].tolist() == sigmas[:steps], steps


def test_consistency_models_take_the_stock_schedulers_timesteps() -> None:
    for steps in (*range(1, 17), 25, 49, 50):
        stock = diffusers.LCMScheduler(**BASE)
        stock.set_timesteps(steps)
        assert torch.equal(set_up("lcm", "sgm_uniform", steps).timesteps, stock.timesteps)


@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_table_is_the_stock_schedulers(beta_schedule: str, zero_snr: bool) -> None:
    config = {**BASE, "beta_schedule": beta_schedule, "rescale_betas_zero_snr": zero_snr}
    alphas = diffusers.EulerDiscreteScheduler(**config).alphas_cumprod
    assert torch.equal(torch.from_numpy(make_noise_table(config).sigmas), ((1 - alphas) / alphas) ** 0.5)


def test_timesteps_and_sigmas_of_a_table_are_inverse() -> None:
    table = make_noise_table(BASE)
    timesteps = np.array([999.0, 500.0, 12.0, 0.0])
    assert np.allclose(table.timesteps_at(table.sigmas_at(timesteps)), timesteps, atol=1e-3)
    assert table.timesteps_at(np.array([1e-9, 1e9])).tolist() == [0.0, 999.0]
