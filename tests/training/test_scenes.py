"""Scenes, their drawings and their words."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from training.drawing import skies
from training.drawing.canvas import Canvas
from training.drawing.captions import canonical_caption, caption, vocabulary
from training.drawing.drawing import draw, draw_all, draw_portrait
from training.drawing.moods import mood_of
from training.drawing.scenes import (
    LANDS,
    LIGHTS,
    SIDES,
    SIZES,
    STYLES,
    Scene,
    any_scene,
    fits,
    held_out_scene,
    is_held_out,
    random_scene,
)
from training.drawing.things.names import NAMES, plural
from training.drawing.things.palette import COLORS
from training.drawing.things.table import THINGS


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def difference(first: Scene, second: Scene) -> float:
    """The share of pixels that clearly differ."""
    a, b = (np.asarray(draw(scene, 64, 64), int) for scene in (first, second))
    return float((np.abs(a - b).max(axis=2) > 30).mean())


def test_a_scene_is_the_same_picture_each_time() -> None:
    scene = random_scene(np.random.default_rng(4))
    assert (np.asarray(draw(scene, 64, 64)) == np.asarray(draw(scene, 64, 64))).all()


def test_scenes_of_one_generator_differ() -> None:
    rng = np.random.default_rng(5)
    assert len({random_scene(rng) for _ in range(50)}) == 50


@pytest.mark.parametrize("size", [(128, 128), (160, 96), (96, 160)])
def test_scenes_fill_any_shape(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(6)
    for _ in range(3):
        drawing = draw_all(random_scene(rng), *size)
        assert drawing.picture.size == size and np.asarray(drawing.picture).std() > 3
        assert (
            drawing.covered.shape == (size[1] // 8, size[0] // 8)
            and 0 <= drawing.covered.min() <= drawing.covered.max() <= 1
        )
        assert drawing.depth.shape == size[::-1] and 0 <= drawing.depth.min() <= drawing.depth.max() <= 1


def test_there_are_sixty_things_and_each_has_a_name_and_known_colors() -> None:
    assert len(THINGS) >= 60
    assert NAMES.keys() == THINGS.keys()
    assert {color for thing in THINGS.values() for color in thing.colors} <= COLORS.keys()


def test_no_name_is_used_for_two_things() -> None:
    names = [name for group in NAMES.values() for name in group]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("thing", sorted(THINGS))
def test_each_thing_can_be_seen_in_every_size_and_number(thing: str) -> None:
    land = next(land for land in LANDS if fits(thing, land))
    bare = Scene("noon", "clear", land, seed=3)
    small, usual, big = (difference(bare, replace(bare, thing=thing, size=size)) for size in ("small", "", "big"))
    assert 0.004 < small < usual < big
    assert difference(replace(bare, thing=thing), replace(bare, thing=thing, count=2)) > 0.004


@pytest.mark.parametrize("land", sorted(LANDS))
def test_each_land_takes_what_fits_it(land: str) -> None:
    able = [thing for thing in THINGS if fits(thing, land)]
    assert len(able) >= 12
    for number, thing in enumerate(able):
        scene = Scene("noon", "clear", land, thing=thing, seed=number)
        assert draw_all(scene, 64, 64).covered.max() > 0.3, (land, thing)


@pytest.mark.parametrize("thing", sorted(name for name, thing in THINGS.items() if thing.colors))
def test_each_color_of_a_thing_looks_different(thing: str) -> None:
    portraits = [
        np.asarray(draw_portrait(Scene("noon", "clear", "field", thing=thing, color=color), 64), int)
        for color in THINGS[thing].colors
    ]
    assert all(np.abs(first - second).max() > 40 for first, second in itertools.pairwise(portraits))


@pytest.mark.parametrize("side", SIDES)
def test_a_thing_stands_where_its_side_says(side: str) -> None:
    covered = draw_all(Scene("noon", "clear", "meadow", thing="house", side=side, seed=8)).covered
    middle = (covered.sum(0) * np.arange(16)).sum() / covered.sum()
    assert {"left": 0 <= middle < 5.5, "middle": 6 < middle < 9, "right": 9.5 < middle < 16}[side]


def test_the_first_of_two_things_stands_on_the_left() -> None:
    both = np.asarray(draw(Scene("noon", "clear", "snow", thing="penguin", second="strawberry", seed=8)), int)
    red = (both[..., 0] - both[..., 1] > 90).sum(0)
    assert red[64:].sum() > 10 * max(1, red[:64].sum())


@pytest.mark.parametrize(
    "light", sorted({light for lights in LIGHTS.values() for light in lights if light} | {"lightning"})
)
def test_each_light_can_be_seen(light: str) -> None:
    time = next((time for time, lights in LIGHTS.items() if light in lights), "noon")
    assert difference(Scene(time, "clear", "sea", light=light, seed=3), Scene(time, "clear", "sea", seed=3)) > 0.002


def test_depth_rises_from_the_sky_to_the_front_and_to_the_thing() -> None:
    bare, house = (draw_all(Scene("noon", "clear", "field", thing=thing, seed=2)).depth for thing in ("", "house"))
    assert bare[:20].max() == 0 and bare[80].mean() < bare[100].mean() < bare[127].mean()
    assert (house[88, 55:73] > bare[88, 55:73]).all()


def test_hills_keep_their_shape_or_show_it_mirrored() -> None:
    shapes = [draw_all(Scene("noon", "clear", "hills", seed=seed), 64, 64).depth > 0 for seed in range(2, 12)]
    apart = [float((shape != shapes[0]).mean()) for shape in shapes]
    mirrored = [float((shape != shapes[0][:, ::-1]).mean()) for shape in shapes]
    assert all(min(pair) < 0.01 for pair in zip(apart, mirrored, strict=True))  # a pixel at the edges
    assert max(apart) > 0.015 and max(mirrored) > 0.015


def test_hills_rise_over_the_horizon_and_leave_room_for_a_low_sun() -> None:
    shape = draw_all(Scene("noon", "clear", "hills", seed=1)).depth > 0
    top = shape.argmax(0) / 128  # the first row of land in each column, in units
    assert top[[2, 64]].max() < 0.57 - 0.1 and top[[28, 100]].min() > 0.57 - 0.06


def test_night_is_darker_than_noon() -> None:
    noon, night = (np.asarray(draw(Scene(time, "clear", "sea", seed=2), 64, 64)).mean() for time in ("noon", "night"))
    assert night < noon / 2


def test_captions_hold_only_known_words() -> None:
    known, rng = set(vocabulary()), np.random.default_rng(7)
    for _ in range(2000):
        scene = any_scene(rng)
        for text in (caption(scene, rng), canonical_caption(scene)):
            assert words_of(text) <= known, text
            assert "{" not in text and "  " not in text


def test_captions_always_say_color_number_and_second_thing() -> None:
    rng = np.random.default_rng(9)
    for _ in range(500):
        scene = any_scene(rng)
        said = words_of(caption(scene, rng))
        if scene.color:
            assert said & {scene.color, "autumn", "grey"}
        if scene.count > 1:
            assert said & {"two", "pair", "three"}
        if scene.second:
            names = {word for name in NAMES[scene.second] for word in words_of(name)}
            assert said & names
        if scene.side:
            assert said & ({"middle", "center"} if scene.side == "middle" else {scene.side})


def test_what_no_caption_says_has_its_usual_look() -> None:
    plain = Scene("noon", "clear", "field", thing="car", seed=1)
    assert (
        np.asarray(draw(plain, 64, 64)) == np.asarray(draw(replace(plain, color=THINGS["car"].colors[0]), 64, 64))
    ).all()


@pytest.mark.parametrize(("one", "many"), [
    ("cat", "cats"), ("sheep", "sheep"), ("hot air balloon", "hot air balloons"), ("cup of coffee", "cups of coffee"), ("gift box", "gift boxes"),
    ("vase with flowers", "vases with flowers"), ("snowman", "snowmen"), ("old castle", "old castles")])  # fmt: skip
def test_plurals(one: str, many: str) -> None:
    assert plural(one) == many


def test_a_tenth_of_the_pairs_is_held_out_and_never_drawn_for_training() -> None:
    rng = np.random.default_rng(10)
    pairs = [Scene("noon", "clear", land, thing=thing) for land in LANDS for thing in THINGS if fits(thing, land)]
    assert 0.05 < np.mean([is_held_out(pair) for pair in pairs]) < 0.16
    assert not any(is_held_out(random_scene(rng)) for _ in range(300))
    assert all(is_held_out(held_out_scene(rng)) for _ in range(30))


def test_a_canonical_scene_forgets_its_jitter_and_keeps_its_words() -> None:
    scene = random_scene(np.random.default_rng(8))
    assert scene.canonical() == scene.canonical().canonical()
    assert canonical_caption(scene) == canonical_caption(scene.canonical())


def test_every_style_and_size_has_words() -> None:
    rng = np.random.default_rng(1)
    for style in STYLES:
        assert caption(Scene("noon", "clear", "sea", style=style), rng)
    for size in SIZES:
        assert caption(Scene("noon", "clear", "field", thing="cat", size=size), rng)


@pytest.mark.parametrize("sky", ["snow", "rain"])
def test_what_falls_falls_in_the_same_places_in_every_scene_of_a_size(sky: str) -> None:
    fallen = []
    for seed in (1, 2):
        canvas = Canvas(128, 128, 0.57, np.random.default_rng(seed))
        skies.paint_falling(canvas, mood_of("noon", sky, np.random.default_rng(1)), sky)
        fallen.append(canvas.pixels)
    assert (fallen[0] == fallen[1]).all() and 0.02 < (fallen[0] > 0.3).mean() < 0.3


def test_a_starry_sky_has_more_bright_pixels_than_a_plain_night() -> None:
    night = Scene("night", "clear", "sea", seed=3)
    plain, starry = (
        (np.asarray(draw(replace(night, light=light)), int).min(2) > 150)[:60].mean() for light in ("", "stars")
    )
    assert starry > plain + 0.02
