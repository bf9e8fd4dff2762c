"""Noise by every convention: Philox against its published vectors, a card's numbers, Brownian paths, variations."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
import torchsde

from catalog.samplers import SAMPLERS
from contract.parts import NoiseSettings
from contract.recipe import Recipe
from engine.sampling.noise import A1111Noise, BrownianNoise, ComfyUINoise, OwnNoise, noise_source, slerp
from engine.sampling.philox import PhiloxGenerator, philox

SHAPE = (1, 4, 8, 8)
X = torch.zeros(SHAPE)
SIGMAS = torch.tensor([14.6, 7.0, 3.0, 0.5, 0.03, 0.0])
RECIPE = {
    "prompt": "x",
    "model": {"name": "m", "family": "sd1"},
    "sampler": "euler",
    "schedule": "simple",
    "steps": 4,
    "guidance": 5.0,
    "width": 64,
    "height": 64,
    "seed": 10,
}
# What torch.randn of torch.manual_seed(0) gives on CUDA cards.
CARD = [-0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284, -1.0745, -0.3631, -1.6711, 2.2655]


def white(seed: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers_of_its_authors(
    counter: tuple[int, ...], key: tuple[int, int], answer: tuple[int, ...]
) -> None:
    assert tuple(map(int, philox(np.array(counter, np.uint64)[:, None], key)[:, 0])) == answer


def test_a_cards_numbers_are_computed_here() -> None:
    generator = PhiloxGenerator(0)
    assert np.allclose(generator.randn((3, 4)).flatten().tolist(), CARD, atol=6e-5)
    assert not torch.equal(generator.randn((3, 4)), PhiloxGenerator(0).randn((3, 4)))
    many = PhiloxGenerator(2**40 + 3).randn((200_000,))
    assert abs(float(many.mean())) < 0.01 and abs(float(many.std()) - 1) < 0.01
    assert not torch.equal(many[:9], PhiloxGenerator(3).randn((9,)))  # the upper half of a seed counts


def test_a_second_draw_goes_on_as_the_cards_counter_does() -> None:
    """By the formula: the call's number is the counter's first word, the place the third, Box and Muller's sine."""
    generator = PhiloxGenerator(5)
    generator.randn((7,))
    words = philox(np.array([1, 0, 2, 0], np.uint64)[:, None], (5, 0))[:, 0]
    u, angle = (float(words[0]) + 0.5) / 2**32, 2 * math.pi * (float(words[1]) + 0.5) / 2**32
    assert abs(float(generator.randn((3,))[2]) - math.sqrt(-2 * math.log(u)) * math.sin(angle)) < 1e-5


def test_ours_goes_on_with_one_generator_and_a1111s_begins_anew_with_each_pass() -> None:
    euler_a = SAMPLERS["euler_a"]
    draws = torch.Generator().manual_seed(3)
    wanted = [torch.randn(SHAPE, generator=draws) for _ in range(3)]
    ours = noise_source(3, None, 8)
    assert torch.equal(ours.first(SHAPE), wanted[0])
    assert torch.equal(ours.steps(euler_a, SIGMAS)(X, SIGMAS[0], SIGMAS[1]), wanted[1])
    assert torch.equal(ours.first(SHAPE), wanted[2])
    theirs = noise_source(3, NoiseSettings(source="cpu"), 8)
    for _ in range(2):
        assert torch.equal(theirs.first(SHAPE), wanted[0])
        assert torch.equal(theirs.steps(euler_a, SIGMAS)(X, SIGMAS[0], SIGMAS[1]), wanted[1])
        assert torch.equal(theirs.filling(SHAPE), wanted[0])


def test_ensd_changes_the_noise_of_the_steps_alone() -> None:
    for source in ("cpu", "nv"):
        settings = NoiseSettings.model_validate({"source": source, "eta_seed_delta": 31337})
        plain, shifted, other = (
            noise_source(seed, used, 8)
            for seed, used in ((5, NoiseSettings(source=settings.source)), (5, settings), (31342, settings))
        )
        assert torch.equal(plain.first(SHAPE), shifted.first(SHAPE))
        of_step = shifted.steps(SAMPLERS["euler_a"], SIGMAS)(X, SIGMAS[0], SIGMAS[1])
        assert not torch.equal(of_step, plain.steps(SAMPLERS["euler_a"], SIGMAS)(X, SIGMAS[0], SIGMAS[1]))
        assert torch.equal(of_step, other.filling(SHAPE))


def test_nv_is_a_cards_noise_and_comfyuis_begins_on_the_cpu() -> None:
    nv, comfyui = (noise_source(9, NoiseSettings.model_validate({"source": name}), 8) for name in ("nv", "comfyui"))
    card = PhiloxGenerator(9)
    first, second = card.randn(SHAPE), card.randn(SHAPE)
    assert torch.equal(nv.first(SHAPE), first)
    assert torch.equal(nv.steps(SAMPLERS["euler_a"], SIGMAS)(X, SIGMAS[0], SIGMAS[1]), second)
    assert torch.equal(comfyui.first(SHAPE), white(9))
    assert torch.equal(comfyui.steps(SAMPLERS["euler_a"], SIGMAS)(X, SIGMAS[0], SIGMAS[1]), first)


def test_an_image_of_comfyuis_batch_is_that_row_of_its_noise() -> None:
    whole = white(9, (3, *SHAPE[1:]))
    for index in range(3):
        source = ComfyUINoise(9, index)
        assert torch.equal(source.first(SHAPE), whole[index : index + 1])
        rows = PhiloxGenerator(9).randn((3, *SHAPE[1:]))
        assert torch.equal(source.steps(SAMPLERS["euler_a"], SIGMAS)(X, SIGMAS[0], SIGMAS[1]), rows[index : index + 1])


def test_images_of_a_job_differ_by_what_their_convention_counts() -> None:
    def third(noise: dict[str, object] | None) -> Recipe:
        return Recipe.model_validate({**RECIPE, "noise": noise}).for_image(2)

    assert third(None).seed == 12 and third({"source": "nv"}).seed == 12
    varied = third({"variation_seed": 2**64 - 1, "variation_strength": 0.5})
    assert varied.seed == 10 and varied.noise and varied.noise.variation_seed == 1
    batch = third({"source": "comfyui", "batch_index": 4})
    assert batch.seed == 10 and batch.noise and batch.noise.batch_index == 6


def test_a_walk_goes_evenly_from_one_seeds_noise_to_the_others() -> None:
    noise = {"variation_seed": 2, "variation_strength": 1.0, "walk_from": 0.0}
    walk = Recipe.model_validate({**RECIPE, "count": 5, "noise": noise})
    images = [walk.for_image(index) for index in range(5)]
    strengths = [image.noise.variation_strength if image.noise else 0.0 for image in images]
    assert strengths == [0.0, 0.25, 0.5, 0.75, 1.0] and {image.seed for image in images} == {10}
    assert images[0] == Recipe.model_validate(RECIPE)  # the seed's own picture, by the same recipe
    assert all(image.noise.walk_from is None for image in images if image.noise)
    made = [noise_source(image.seed, image.noise, 8).first(SHAPE) for image in images]
    assert torch.equal(made[0], white(10)) and torch.allclose(made[4], white(2), atol=1e-5)
    # Along an arc: no step is much longer than another, and the middle is not flat.
    steps = [float((after - before).norm()) for before, after in itertools.pairwise(made)]
    assert max(steps) / min(steps) < 1.15 and abs(float(made[2].std()) - 1) < 0.1


def test_a_walk_may_begin_and_end_anywhere() -> None:
    noise = {"source": "cpu", "variation_seed": 2, "variation_strength": 0.0, "walk_from": 0.3, "eta_seed_delta": 5}
    walk = Recipe.model_validate({**RECIPE, "count": 4, "noise": noise})
    found = [image.noise for image in map(walk.for_image, range(4))]
    assert [one.variation_strength for one in found if one] == [0.3, 0.2, 0.1, 0.0]
    assert found[3] == NoiseSettings(source="cpu", eta_seed_delta=5)


def test_a_brownian_path_is_torchsdes_and_its_parts_add_up() -> None:
    noise = BrownianNoise(77, SIGMAS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchsde rounds the ends, and warns where they are asked for
        tree = torchsde.BrownianTree(float(SIGMAS[-2]), torch.zeros(SHAPE), float(SIGMAS[0]), entropy=77)
        for high, low in ((SIGMAS[0], SIGMAS[1]), (SIGMAS[1], SIGMAS[3]), (SIGMAS[3], SIGMAS[4])):
            theirs = (tree(float(high)) - tree(float(low))) / (high - low) ** 0.5
            assert torch.allclose(noise(X, high, low), -theirs, atol=1e-5)

    def moved(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
        return noise(X, high, low) * (high - low) ** 0.5

    whole = moved(SIGMAS[0], SIGMAS[3])
    parts = moved(SIGMAS[0], SIGMAS[1]) + moved(SIGMAS[1], SIGMAS[2]) + moved(SIGMAS[2], SIGMAS[3])
    assert torch.allclose(whole, parts, atol=1e-5)
    assert (noise(X, SIGMAS[4], SIGMAS[5]) == 0).all()


def test_brownian_noise_is_unit_noise_and_each_seeds_own() -> None:
    large = torch.zeros(1, 4, 64, 64)
    for draw_of in (None, lambda seed: PhiloxGenerator(seed).randn):
        noise = BrownianNoise(5, SIGMAS, draw_of=draw_of)
        drawn = [noise(large, high, low) for high, low in itertools.pairwise(SIGMAS[:-1])]
        for one in drawn:
            assert abs(float(one.mean())) < 0.04 and abs(float(one.std()) - 1) < 0.03
        assert abs(float((drawn[0] * drawn[1]).mean())) < 0.04
        assert not torch.equal(drawn[0], BrownianNoise(6, SIGMAS, draw_of=draw_of)(large, SIGMAS[0], SIGMAS[1]))
    cpu = BrownianNoise(5, SIGMAS)(large, SIGMAS[0], SIGMAS[1])
    assert not torch.equal(cpu, BrownianNoise(5, SIGMAS, draw_of=draw_of)(large, SIGMAS[0], SIGMAS[1]))


def test_paths_belong_to_those_samplers_whose_rows_say_so() -> None:
    for sampler in SAMPLERS.values():
        for source, is_path in (
            (OwnNoise(torch.Generator().manual_seed(1)), sampler.is_brownian and not sampler.is_white_here),
            (
                A1111Noise(1, NoiseSettings(source="cpu"), 8, lambda seed: lambda shape: white(seed)),
                sampler.is_brownian,
            ),
            (ComfyUINoise(1), sampler.is_brownian),
        ):
            assert isinstance(source.steps(sampler, SIGMAS), BrownianNoise) == is_path, sampler.id


def test_a_variation_turns_from_one_noise_to_the_other() -> None:
    large = (1, 4, 32, 32)

    def first(strength: float, source: str = "darkroom") -> torch.Tensor:
        settings = {"source": source, "variation_seed": 2, "variation_strength": strength}
        return noise_source(1, NoiseSettings.model_validate(settings), 8).first(large)

    assert torch.equal(first(0.0), white(1, large))
    assert torch.allclose(first(1.0), white(2, large), atol=1e-5)
    between = first(0.4)
    assert abs(float(between.std()) - 1) < 0.05
    assert torch.allclose(first(0.4, "cpu"), between) and not torch.allclose(first(0.4, "nv"), between)
    # Each column keeps its angle to both, and its length lies between theirs.
    low, high = white(1, large)[0, 0, :, 3], white(2, large)[0, 0, :, 3]
    angle = torch.acos(torch.dot(low, high) / low.norm() / high.norm())
    wanted = (torch.sin(0.6 * angle) * low + torch.sin(0.4 * angle) * high) / torch.sin(angle)
    assert torch.allclose(between[0, 0, :, 3], wanted, atol=1e-5)


def test_two_noises_that_are_one_are_mixed_along_a_line() -> None:
    noise = white(1)
    assert torch.allclose(slerp(noise, noise, 0.3), noise, atol=1e-6)


@pytest.mark.parametrize(("size", "old"), [((8, 8), (4, 6)), ((4, 6), (8, 8)), ((8, 4), (4, 8))])
def test_a_resized_seed_keeps_its_noise_in_the_middle(size: tuple[int, int], old: tuple[int, int]) -> None:
    shape = (1, 4, *size)
    settings = NoiseSettings(resize_width=old[1] * 8 * 2, resize_height=old[0] * 8 * 2)
    made = noise_source(3, settings, 16).first(shape)
    inner, whole = white(3, (1, 4, *old)), white(3, shape)
    h, w = min(size[0], old[0]), min(size[1], old[1])
    top, left = (size[0] - h) // 2, (size[1] - w) // 2
    old_top, old_left = (old[0] - h) // 2, (old[1] - w) // 2
    expected = whole.clone()
    expected[..., top : top + h, left : left + w] = inner[..., old_top : old_top + h, old_left : old_left + w]
    assert torch.equal(made, expected)
