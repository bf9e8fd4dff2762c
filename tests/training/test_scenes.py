"""Drawn scenes and their words."""

import re

import numpy as np
import pytest

from training.captions import canonical_caption, caption, vocabulary
from training.scenes import LANDS, Scene, draw, random_scene
from training.things import DRAWERS, THING_COLORS


def test_a_scene_is_the_same_picture_each_time() -> None:
    scene = random_scene(np.random.default_rng(4))
    first, second = np.asarray(draw(scene, 64, 64)), np.asarray(draw(scene, 64, 64))
    assert (first == second).all()


def test_scenes_of_one_generator_differ() -> None:
    rng = np.random.default_rng(5)
    assert len({random_scene(rng) for _ in range(50)}) == 50


@pytest.mark.parametrize("size", [(128, 128), (160, 96), (96, 160)])
def test_scenes_fill_any_shape(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(6)
    for _ in range(3):
        picture = draw(random_scene(rng), *size)
        assert picture.size == size
        assert np.asarray(picture).std() > 3


@pytest.mark.parametrize("thing", sorted(DRAWERS))
def test_each_thing_can_be_seen(thing: str) -> None:
    land = next(land for land, (_, things) in LANDS.items() if thing in things)
    color = THING_COLORS.get(thing, ("",))[0]
    with_it = draw(Scene("noon", "clear", land, thing=thing, color=color, seed=3), 64, 64)
    without = draw(Scene("noon", "clear", land, seed=3), 64, 64)
    changed = np.abs(np.asarray(with_it, int) - np.asarray(without, int)).max(axis=2) > 40
    assert changed.mean() > 0.01


def test_night_is_darker_than_noon() -> None:
    noon, night = (np.asarray(draw(Scene(time, "clear", "sea", seed=2), 64, 64)).mean() for time in ("noon", "night"))
    assert night < noon / 2


def test_captions_hold_only_known_words() -> None:
    known, rng = set(vocabulary()), np.random.default_rng(7)
    for _ in range(2000):
        scene = random_scene(rng)
        for text in (caption(scene, rng), canonical_caption(scene)):
            assert set(re.findall(r"[a-z]+", text.lower())) <= known, text
            assert "{" not in text


def test_a_canonical_scene_forgets_its_jitter_and_keeps_its_words() -> None:
    scene = random_scene(np.random.default_rng(8))
    assert scene.canonical() == scene.canonical().canonical()
    assert canonical_caption(scene) == canonical_caption(scene.canonical())
