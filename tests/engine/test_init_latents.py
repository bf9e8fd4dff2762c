"""Where the loop begins, and what a mask keeps on the way."""

import pytest
import torch
from diffusers import DDPMScheduler, EulerDiscreteScheduler

from catalog.samplers import SAMPLERS
from engine.images.init_latents import InitLatents, first_step, stretch_latents
from engine.sampling.mask_blend import MaskBlend
from engine.sampling.noise import OwnNoise
from engine.sampling.samplers import Sampling, sampling_for
from tests.engine.test_denoise import BETAS, CPU

START = torch.full((1, 4, 4, 4), 2.0)
NOISE = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
HALF = torch.cat([torch.zeros(1, 1, 4, 2), torch.ones(1, 1, 4, 2)], dim=-1)
ALL_SAMPLERS = tuple(SAMPLERS)


def sampling(sampler: str = "euler", steps: int = 10) -> Sampling:
    return sampling_for(sampler, "sgm_uniform", steps, BETAS, CPU)


@pytest.mark.parametrize(
    ("steps", "strength", "first"),
    [(20, 1.0, 0), (20, 0.75, 5), (20, 0.5, 10), (20, 0.01, 19), (20, 0.0, 20), (3, 0.3, 2), (1, 0.5, 0), (10, 0.7, 3)],
)
def test_a_strength_leaves_out_the_first_steps(steps: int, strength: float, first: int) -> None:
    assert first_step(steps, strength) == first


@pytest.mark.parametrize("sampler", ALL_SAMPLERS)
@pytest.mark.parametrize("first", [0, 4, 9])
def test_noise_is_added_as_the_schedulers_do(sampler: str, first: int) -> None:
    plan = sampling(sampler)
    ours = MaskBlend(first, START, NOISE, plan).begin()
    if SAMPLERS[sampler].is_variance_preserving:
        theirs = DDPMScheduler(**BETAS).add_noise(START, NOISE, plan.timesteps[first : first + 1])
    else:
        euler = EulerDiscreteScheduler(**BETAS)
        euler.set_timesteps(timesteps=plan.timesteps.tolist())
        euler.set_begin_index(first)
        theirs = euler.add_noise(START, NOISE, euler.timesteps[first : first + 1])
    assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("sampler", ALL_SAMPLERS)
def test_what_is_masked_out_ends_as_the_start_picture(sampler: str) -> None:
    plan = sampling(sampler)
    mask_blend = MaskBlend(0, START, NOISE, plan, HALF)
    last = mask_blend.blend(torch.zeros_like(START), plan.sigmas[-1], 1.0)
    assert (last[..., :2] == 2).all() and (last[..., 2:] == 0).all()
    first = mask_blend.blend(torch.zeros_like(START), plan.sigmas[1], 0.1)
    assert not torch.allclose(first[..., :2], START[..., :2]) and (first[..., 2:] == 0).all()


def test_a_whole_repaint_of_a_mask_begins_from_noise_alone() -> None:
    plan = sampling()
    assert torch.equal(MaskBlend(0, START, NOISE, plan, HALF).begin(), NOISE * plan.init_noise_sigma)
    assert not torch.equal(MaskBlend(1, START, NOISE, plan, HALF).begin(), NOISE * plan.init_noise_sigma)


@pytest.mark.parametrize(("gray", "changes"), [(0.0, 0), (0.05, 1), (0.35, 4), (0.95, 10), (1.0, 10)])
def test_gray_of_a_soft_mask_changes_in_the_last_steps_only(gray: float, changes: int) -> None:
    plan = sampling()
    mask_blend = MaskBlend(0, START, NOISE, plan, torch.full((1, 1, 4, 4), gray), is_soft=True)
    free = []
    for step in range(1, 11):
        blended = mask_blend.blend(torch.zeros_like(START), plan.sigmas[step], step / 10)
        free.append(bool((blended == 0).all()))
    assert sum(free) == changes and free == sorted(free)


@pytest.mark.parametrize("content", ["noise", "nothing", "original"])
def test_masked_content_replaces_latents_under_the_mask_alone(content: str) -> None:
    plan = sampling()
    init_latents = InitLatents(START, HALF, content=content)
    mask_blend = init_latents.mask_blend(plan, 0.5, NOISE, OwnNoise(torch.Generator().manual_seed(3)))
    assert mask_blend is not None and mask_blend.first_step == 5
    clean = mask_blend.begin() - plan.sigmas[5] * NOISE
    assert torch.allclose(clean[..., :2], START[..., :2], atol=1e-5)
    under = clean[..., 2:]
    if content == "noise":
        assert 0.5 < float(under.std()) < 1.5
    else:
        assert torch.allclose(under, torch.full_like(under, 0.0 if content == "nothing" else 2.0), atol=1e-5)


@pytest.mark.parametrize(
    "upscaler",
    [
        "latent",
        "latent_antialiased",
        "latent_bicubic",
        "latent_bicubic_antialiased",
        "latent_nearest",
        "latent_nearest_exact",
    ],
)
def test_latents_are_stretched_by_every_name(upscaler: str) -> None:
    assert stretch_latents(NOISE, upscaler, (6, 9)).shape == (1, 4, 6, 9)
    assert torch.allclose(stretch_latents(START, upscaler, (8, 8)), torch.full((1, 4, 8, 8), 2.0))
