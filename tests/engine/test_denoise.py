"""The loop's optional parts, each with the simplest thing that shows it works."""

import numpy as np
import pytest
import torch

from engine.sampling.denoise import Conditions, ControlResiduals, LatentStep, Span, denoise
from engine.sampling.noise import OwnNoise
from engine.sampling.samplers import Sampling, sampling_for

CPU = torch.device("cpu")
BETAS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
NOISE = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
PLAIN = Conditions(torch.zeros(1, 2, 3))
GUIDED = Conditions(torch.zeros(2, 2, 3), is_guided=True)


def sampling(sampler: str = "euler", steps: int = 4) -> Sampling:
    return sampling_for(sampler, "uniform", steps, BETAS, CPU)


def constant(value: float):  # type: ignore[no-untyped-def]
    return lambda rows, t, conditions, residuals: torch.full_like(rows, value)


def last(*arguments: object, **more: object) -> LatentStep:
    *_, step = denoise(*arguments, **more)  # type: ignore[arg-type]
    return step


@pytest.mark.parametrize(("sampler", "steps"), [("euler", 1), ("euler", 4), ("heun", 1), ("heun", 4), ("ddim", 3)])
def test_one_event_a_step_whatever_the_order(sampler: str, steps: int) -> None:
    made = list(denoise(lambda _: constant(0), lambda _: PLAIN, sampling(sampler, steps), NOISE, 1.0))
    assert [(step.index, step.total) for step in made] == [(n + 1, steps) for n in range(steps)]


def test_caller_decides_when_to_stop() -> None:
    calls = []

    def predict(rows: torch.Tensor, *_: object) -> torch.Tensor:
        calls.append(1)
        return rows

    loop = denoise(lambda _: predict, lambda _: PLAIN, sampling(steps=10), NOISE, 1.0)
    next(loop)
    loop.close()
    assert len(calls) == 1


def test_grad_mode_is_the_callers_between_steps() -> None:
    for step in denoise(lambda _: constant(0), lambda _: PLAIN, sampling(), NOISE, 1.0):
        assert not torch.is_inference_mode_enabled()
        assert step.latents.isfinite().all()


def test_guidance_steers_from_the_negative_prompt() -> None:
    prediction = torch.stack([torch.zeros(4, 2, 2), torch.ones(4, 2, 2)])
    assert torch.equal(GUIDED.apply_cfg(prediction, 7.5), torch.full((1, 4, 2, 2), 7.5))
    assert torch.equal(PLAIN.apply_cfg(prediction[1:], 7.5), torch.ones(1, 4, 2, 2))


def test_composed_prompts_add_their_directions() -> None:
    composed = Conditions(torch.zeros(3, 2, 3), weights=(1.0, -0.5), is_guided=True)
    prediction = torch.stack([torch.full((4, 2, 2), value) for value in (1.0, 3.0, 2.0)])
    assert torch.equal(composed.apply_cfg(prediction, 2.0), torch.full((1, 4, 2, 2), 1 + 2 * (1.0 * 2 - 0.5 * 1)))
    unguided = Conditions(torch.zeros(2, 2, 3), weights=(1.0, 3.0))
    assert torch.equal(unguided.apply_cfg(prediction[1:], 1.0), torch.full((1, 4, 2, 2), 0.25 * 3 + 0.75 * 2))


def test_conditions_and_model_are_asked_for_each_step() -> None:
    asked: list[tuple[str, int]] = []

    def model(step: int):  # type: ignore[no-untyped-def]
        asked.append(("model", step))
        return constant(step)

    def conditions(step: int) -> Conditions:
        asked.append(("conditions", step))
        return PLAIN

    last(model, conditions, sampling(), NOISE, 1.0)
    assert asked == [(name, step) for step in range(4) for name in ("conditions", "model")]


def test_second_model_takes_over_on_the_way() -> None:
    def run(switch: int) -> torch.Tensor:
        first, second = constant(0.1), constant(-0.2)
        return last(lambda step: first if step < switch else second, lambda _: PLAIN, sampling(), NOISE, 1.0).latents

    assert not torch.equal(run(2), run(4))
    assert torch.equal(run(4), run(9))


def test_controls_reach_the_model_in_the_span_they_choose() -> None:
    seen = []

    def controls(rows: torch.Tensor, t: torch.Tensor, conditions: Conditions, span: Span) -> ControlResiduals | None:
        return ControlResiduals((rows,), rows) if span[0] >= 0.25 and span[1] <= 0.75 else None

    def predict(rows: torch.Tensor, t: torch.Tensor, conditions: Conditions, residuals: object) -> torch.Tensor:
        seen.append(residuals is not None)
        return rows

    last(lambda _: predict, lambda _: PLAIN, sampling(), NOISE, 1.0, controls=controls)
    assert seen == [False, True, True, False]


class Picture:
    """A mask blend: begins from noise at a step, and keeps the left half as zeros."""

    def __init__(self, first_step: int, sampling: Sampling) -> None:
        self.first_step = first_step
        self.sampling = sampling
        self.kept: list[tuple[float, float]] = []

    def begin(self) -> torch.Tensor:
        return NOISE * self.sampling.sigmas[self.first_step]

    def blend(self, latents: torch.Tensor, sigma: torch.Tensor, done: float) -> torch.Tensor:
        self.kept.append((float(sigma), done))
        return torch.cat([torch.zeros_like(latents[..., :2]), latents[..., 2:]], dim=-1)


def test_mask_blend_begins_later_and_keeps_what_is_masked() -> None:
    plan = sampling(steps=5)
    picture = Picture(2, plan)
    made = list(denoise(lambda _: constant(0.3), lambda _: PLAIN, plan, NOISE, 1.0, mask_blend=picture))
    assert [step.index for step in made] == [3, 4, 5]
    assert picture.kept == [(float(plan.sigmas[step]), share) for step, share in ((3, 1 / 3), (4, 2 / 3), (5, 1.0))]
    assert (made[-1].latents[..., :2] == 0).all()
    assert (made[-1].latents[..., 2:] != 0).any()


def test_what_is_blended_in_after_each_evaluation_is_what_the_next_one_sees() -> None:
    plan = sampling("heun", steps=3)
    picture = Picture(0, plan)
    seen: list[bool] = []

    def predict(rows: torch.Tensor, *_: object) -> torch.Tensor:
        seen.append(bool((rows[..., :2] == 0).all()))
        return torch.full_like(rows, 0.3)

    made = list(denoise(lambda _: predict, lambda _: PLAIN, plan, NOISE, 1.0, mask_blend=picture))
    assert seen == [False, True, True, True, True]
    first, second, third, clean = plan.sigmas.tolist()
    assert [sigma for sigma, _ in picture.kept] == [second, second, third, third, clean]
    assert [step.index for step in made] == [1, 2, 3]
    assert (made[0].latents[..., :2] == 0).all() and first > second


def test_prompts_count_the_steps_that_are_made() -> None:
    asked: list[int] = []
    plan = sampling(steps=5)

    def told(step: int) -> Conditions:
        asked.append(step)
        return PLAIN

    list(denoise(lambda _: constant(0.3), told, plan, NOISE, 1.0, mask_blend=Picture(2, plan)))
    assert asked == [0, 1, 2]


def test_clean_estimate_is_of_the_guided_prediction() -> None:
    def predict(rows: torch.Tensor, *_: object) -> torch.Tensor:
        return torch.stack([torch.zeros(4, 4, 4), torch.ones(4, 4, 4)])

    step = next(denoise(lambda _: predict, lambda _: GUIDED, sampling(), NOISE, 3.0))
    sigma = float(sampling().sigmas[0])
    assert torch.allclose(step.denoised, NOISE * sigma - sigma * 3.0, atol=1e-4)


def test_stochastic_samplers_draw_from_the_pictures_generator() -> None:
    def run(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return last(
            lambda _: constant(0.1), lambda _: PLAIN, sampling("euler_a"), NOISE, 1.0, OwnNoise(generator)
        ).latents

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_a_level_between_two_steps_is_worked_out() -> None:
    for sampler, told in (("euler", 500.4), ("dpmpp_2m", 500.0)):
        plan = sampling(sampler)
        sigma = torch.from_numpy(plan.table.sigmas_at(np.array([500.4])))[0].float()
        level = plan.level(sigma)
        assert abs(float(level.timestep) - told) < 0.01 and level.timestep.dtype == plan.timesteps.dtype
        noise_free = level.denoised(level.alpha * NOISE + level.sigma, torch.ones_like(NOISE))
        assert torch.allclose(noise_free, NOISE, atol=1e-5)


def test_added_noise_is_unaltered_by_what_else_draws() -> None:
    """A stochastic sampler draws once a step and no more, the last step included: later draws of a seed stay."""
    for sampler, draws in (("euler", 0), ("euler_a", 4), ("dpmpp_2m_sde", 4), ("lcm", 3)):
        plan = sampling_for(sampler, "sgm_uniform", 4, BETAS, CPU)
        ours, alike = (torch.Generator().manual_seed(5) for _ in range(2))
        last(lambda _: constant(0.1), lambda _: PLAIN, plan, NOISE, 1.0, OwnNoise(ours))
        for _ in range(draws):
            torch.randn(NOISE.shape, generator=alike)
        assert torch.equal(ours.get_state(), alike.get_state()), sampler
