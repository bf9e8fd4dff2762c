"""Samplers against a reference written here from the papers, on a mixture whose denoiser is known exactly."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from catalog.samplers import SAMPLERS, resolve_schedule, schedules_for
from contract.errors import InvalidRecipe, ModelProblem
from engine.sampling.samplers import Sampling, sampling_for

CPU = torch.device("cpu")
BASE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ALPHAS = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
LEVELS = ((1 - ALPHAS) / ALPHAS) ** 0.5
MEANS = np.array([[-1.0, 0.5, 0.2, -0.4], [0.8, -0.6, 0.1, 0.9], [0.1, 1.2, -0.9, 0.0]])
SPREAD = 0.3
SIGMA_SPACE = ("euler", "euler_a", "heun")
STEPS = 20


def clean(x: np.ndarray, sigma: float) -> np.ndarray:
    """The exact denoiser of the mixture: E[x0 | x0 + sigma n = x]; x: (points, 4)."""
    variance = SPREAD**2 + sigma**2
    logits = -((x[:, None] - MEANS[None]) ** 2).sum(-1) / (2 * variance)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return (weights[..., None] * (SPREAD**2 * x[:, None] + sigma**2 * MEANS[None]) / variance).sum(1)


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


def euler(x: np.ndarray, sigmas: np.ndarray, noise: Callable[[], np.ndarray]) -> np.ndarray:
    for now, then in itertools.pairwise(sigmas):
        x = x + (x - clean(x, now)) / now * (then - now)
    return x


def euler_a(x: np.ndarray, sigmas: np.ndarray, noise: Callable[[], np.ndarray]) -> np.ndarray:
    for now, then in itertools.pairwise(sigmas):
        up = min(then, (then**2 * (now**2 - then**2) / now**2) ** 0.5)
        down = (then**2 - up**2) ** 0.5
        x = x + (x - clean(x, now)) / now * (down - now) + noise() * up
    return x


def heun(x: np.ndarray, sigmas: np.ndarray, noise: Callable[[], np.ndarray]) -> np.ndarray:
    for now, then in itertools.pairwise(sigmas):
        slope = (x - clean(x, now)) / now
        ahead = x + slope * (then - now)
        if then > 0:
            slope = (slope + (ahead - clean(ahead, then)) / then) / 2
        x = x + slope * (then - now)
    return x


def dpmpp_2m(x: np.ndarray, sigmas: np.ndarray, noise: Callable[[], np.ndarray]) -> np.ndarray:
    before, h_before = None, None
    for now, then in itertools.pairwise(sigmas):
        x0 = clean(x, now)
        if then == 0:
            return x0
        h = np.log(now / then)
        slope = x0 if before is None else x0 + (x0 - before) * h / (2 * h_before)
        x = then / now * x - np.expm1(-h) * slope
        before, h_before = x0, h
    return x


def dpmpp_2m_sde(x: np.ndarray, sigmas: np.ndarray, noise: Callable[[], np.ndarray]) -> np.ndarray:
    before, h_before = None, None
    for now, then in itertools.pairwise(sigmas):
        x0 = clean(x, now)
        if then == 0:
            return x0
        h = np.log(now / then)
        x = then / now * np.exp(-h) * x - np.expm1(-2 * h) * x0
        if before is not None:
            x = x - 0.5 * np.expm1(-2 * h) * (x0 - before) * h / h_before
        x = x + noise() * then * (-np.expm1(-2 * h)) ** 0.5
        before, h_before = x0, h
    return x


REFERENCES = {"euler": euler, "euler_a": euler_a, "heun": heun, "dpmpp_2m": dpmpp_2m, "dpmpp_2m_sde": dpmpp_2m_sde}


def set_up(sampler: str, schedule: str, steps: int = STEPS, **config: object) -> Sampling:
    return sampling_for(sampler, schedule, steps, {**BASE, **config}, CPU)


def level(sampling: Sampling, evaluation: int) -> float:
    if hasattr(sampling.scheduler, "sigmas"):
        return float(sampling.scheduler.sigmas[evaluation])
    alpha = max(float(sampling.scheduler.alphas_cumprod[sampling.timesteps[evaluation]]), 1e-18)
    return ((1 - alpha) / alpha) ** 0.5


def run(sampling: Sampling, sampler: str, start: np.ndarray, seed: int) -> np.ndarray:
    """Our sampler on the mixture, asked for noise as a U-Net would be."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(start).double() * sampling.init_noise_sigma
    for evaluation, t in enumerate(sampling.timesteps):
        sampling.scheduler.scale_model_input(x, t)
        sigma = level(sampling, evaluation)
        scale = 1.0 if sampler in SIGMA_SPACE else (sigma**2 + 1) ** 0.5
        noisy = x.numpy() * scale
        x = sampling.advance(torch.from_numpy((noisy - clean(noisy, sigma)) / sigma), evaluation, x, generator)
    return x.double().numpy()


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a - b) ** 2).mean() ** 0.5)


@pytest.fixture
def start() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((64, 4))


@pytest.mark.parametrize("schedule", ["uniform", "karras", "exponential", "sgm_uniform", "simple", "beta"])
@pytest.mark.parametrize("sampler", REFERENCES)
def test_solver_is_the_one_people_mean(sampler: str, schedule: str, start: np.ndarray) -> None:
    sampling = set_up(sampler, schedule)
    sigmas = sampling.scheduler.sigmas.double().numpy()
    sigmas = np.append(sigmas[:1], sigmas[1::2]) if sampler == "heun" else sigmas
    generator = torch.Generator().manual_seed(5)

    def noise() -> np.ndarray:
        kind = torch.float32 if sampler == "dpmpp_2m_sde" else torch.float64
        return torch.randn(64, 4, generator=generator, dtype=kind).double().numpy()

    first = start * sigmas[0] if sampler in SIGMA_SPACE else start * (sigmas[0] ** 2 + 1) ** 0.5
    theirs = REFERENCES[sampler](first, sigmas, noise)
    assert rms(run(sampling, sampler, start, seed=5), theirs) <= 1e-4


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
    ours = set_up(sampler, schedule).scheduler.sigmas.double().numpy()
    ours = np.append(ours[:1], ours[1::2]) if sampler == "heun" else ours
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
    ours = set_up(sampler, schedule).scheduler.sigmas.double().numpy()
    np.testing.assert_allclose(ours, reference_levels(schedule, STEPS), rtol=tolerance, atol=0)


def test_unipc_and_ddim_follow_the_same_flow(start: np.ndarray) -> None:
    sigmas = reference_levels("karras", 400)
    exact = heun(start * (sigmas[0] ** 2 + 1) ** 0.5, sigmas, lambda: start)
    errors = {
        (name, schedule): rms(run(set_up(name, schedule), name, start, 0), exact)
        for name, schedule in (("unipc", "karras"), ("euler", "karras"), ("ddim", "uniform"), ("euler", "uniform"))
    }
    assert errors["unipc", "karras"] < errors["euler", "karras"] / 2
    assert errors["ddim", "uniform"] < errors["euler", "uniform"] * 1.5


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_clean_estimate_of_a_known_answer_is_that_answer(sampler: str, zero_snr: bool, predicts: str) -> None:
    if zero_snr and predicts == "epsilon":
        return  # at zero signal, noise alone says nothing of the picture: there are no such models
    answer = torch.tensor([[[[0.7, -1.3], [0.2, 0.9]]]])
    for schedule in schedules_for(SAMPLERS[sampler], zero_snr=zero_snr):
        resolved = resolve_schedule(SAMPLERS[sampler], schedule, zero_snr=zero_snr)
        sampling = set_up(sampler, resolved, 7, prediction_type=predicts, rescale_betas_zero_snr=zero_snr)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(answer.shape, generator=generator) * sampling.init_noise_sigma
        assert len(sampling.timesteps) == SAMPLERS[sampler].evaluations(7)
        for evaluation, t in enumerate(sampling.timesteps):
            unit = sampling.scheduler.scale_model_input(x, t)
            sigma = level(sampling, evaluation)
            alpha = 1 / (sigma**2 + 1) ** 0.5
            noise = (unit - alpha * answer) / (sigma * alpha)
            said = {"epsilon": noise, "sample": answer, "v_prediction": alpha * noise - sigma * alpha * answer}
            c_skip, c_out = sampling.c_skip[evaluation], sampling.c_out[evaluation]
            estimate = c_skip * x + c_out * said[predicts]
            assert (estimate - answer).abs().max() < 2e-3, (schedule, evaluation)
            x = sampling.advance(said[predicts], evaluation, x, generator)
        leftover = 0.15 if sampler == "ddim" else 2e-3  # DDIM ends at the first training step, by its definition
        assert (x - answer).abs().max() < leftover, schedule


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_offered_pair_is_finite_at_any_number_of_steps(sampler: str) -> None:
    for predicts, zero_snr in (("epsilon", False), ("v_prediction", False), ("v_prediction", True)):
        for schedule in schedules_for(SAMPLERS[sampler], zero_snr=zero_snr):
            resolved = resolve_schedule(SAMPLERS[sampler], schedule, zero_snr=zero_snr)
            for steps in (1, 2, 5, 61, 150):  # 61: where diffusers' own trailing gives one step too many
                sampling = set_up(sampler, resolved, steps, prediction_type=predicts, rescale_betas_zero_snr=zero_snr)
                times = sampling.timesteps
                assert len(times) == SAMPLERS[sampler].evaluations(steps)
                assert times.min() >= 0
                assert (times.diff() <= 0).all()
                assert torch.isfinite(torch.tensor([sampling.c_skip, sampling.c_out])).all()
                if sampler != "ddim":
                    assert times[0] >= 890
                if hasattr(sampling.scheduler, "sigmas") and sampler != "lcm":
                    assert sampling.scheduler.sigmas[-1] == 0


@pytest.mark.parametrize("zero_snr", [False, True])
def test_schedules_of_a_sampler_are_distinct(zero_snr: bool) -> None:
    for sampler in SAMPLERS.values():
        grids = set()
        offered = [name for name in schedules_for(sampler, zero_snr=zero_snr) if name != "automatic"]
        for schedule in offered:
            sampling = set_up(sampler.id, schedule, rescale_betas_zero_snr=zero_snr, prediction_type="v_prediction")
            sigmas = getattr(sampling.scheduler, "sigmas", sampling.timesteps)
            grids.add(tuple(sampling.timesteps.tolist() + sigmas.tolist()))
        assert len(grids) == len(offered), sampler.id


def test_one_step_begins_at_the_noisiest_level() -> None:
    for sampler in SAMPLERS.values():
        for schedule in schedules_for(sampler):
            sampling = set_up(sampler.id, resolve_schedule(sampler, schedule), 1)
            assert sampling.timesteps.tolist()[0] >= 998


def test_zero_snr_models_begin_at_zero_signal() -> None:
    for sampler in SAMPLERS.values():
        for schedule in schedules_for(sampler, zero_snr=True):
            resolved = resolve_schedule(sampler, schedule, zero_snr=True)
            sampling = set_up(sampler.id, resolved, 10, rescale_betas_zero_snr=True, prediction_type="v_prediction")
            assert sampling.timesteps[0] == 999


def test_unknown_names_are_refused_by_name() -> None:
    with pytest.raises(InvalidRecipe, match="“plms”"):
        set_up("plms", "uniform")
    with pytest.raises(InvalidRecipe, match="“turbo”"):
        set_up("euler", "turbo")


@pytest.mark.parametrize(
    "config",
    [{"beta_schedule": "none"}, {"beta_start": "low"}, {"prediction_type": "magic"}, {"num_train_timesteps": -3}],
)
def test_bad_scheduler_configuration_is_a_model_problem(config: dict[str, object]) -> None:
    with pytest.raises(ModelProblem):
        set_up("euler", "uniform", **config)
