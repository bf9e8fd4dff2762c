"""Recipes that begin from pictures, through the engine's public entry: sizes, steps, seeds, refusals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from catalog.models import ModelEntry
from catalog.upscalers import UPSCALERS
from contract.work import RawImage, WorkDone, WorkerEvent, WorkFailed, WorkImage, WorkStep
from engine.engine import Engine
from engine.images import vae
from engine.images.vae import decode, encode
from engine.models.manager import ModelManager
from tests.engine.test_image_io import png
from tests.engine.test_inpaint_region import box
from tests.support import tiny

Make = Callable[..., Any]
PICTURE, MASK = Image.effect_noise((96, 80), 60).convert("RGB"), box((96, 80), 16, 16, 64, 48)
(PICTURE_REF, _images), (MASK_REF, _more) = png(PICTURE), png(MASK)
IMAGES = {**_images, **_more}
START = {"image": {"sha256": PICTURE_REF.sha256}}
HOLE = {"image": {"sha256": MASK_REF.sha256}}


@pytest.fixture
def paint(engine: Engine, make_recipe: Make, make_work_item: Make) -> Make:
    def run(kind: str = "sd1", **deltas: object) -> list[WorkerEvent]:
        recipe = make_recipe(kind, **{"width": 96, "height": 80, **deltas})
        return list(engine.generate(make_work_item(recipe, images=IMAGES), lambda: False))

    return run


def pixels(events: list[WorkerEvent], index: int = 0) -> np.ndarray:
    assert isinstance(events[-1], WorkDone), events[-1]
    raw: RawImage = [event.pixels for event in events if isinstance(event, WorkImage)][index]
    return np.frombuffer(raw.rgb, dtype=np.uint8).reshape(raw.height, raw.width, 3)


def steps(events: list[WorkerEvent]) -> list[tuple[int, int]]:
    return [(event.index, event.total) for event in events if isinstance(event, WorkStep)]


def failure(events: list[WorkerEvent]) -> WorkFailed:
    assert isinstance(events[-1], WorkFailed), events[-1]
    return events[-1]


@pytest.mark.parametrize("kind", (*tiny.KINDS, *tiny.VARIANTS))
@pytest.mark.parametrize(
    "mask",
    [None, HOLE, {**HOLE, "soft": True, "content": "noise"}, {**HOLE, "area": "masked", "content": "fill"}],
    ids=["none", "hard", "soft", "area"],
)
def test_every_kind_of_model_begins_from_a_picture(kind: str, mask: dict[str, object] | None, paint: Make) -> None:
    made = pixels(paint(kind, init_image=START, mask=mask, sampler="euler_a"))
    assert made.shape == (80, 96, 3)
    if mask:
        assert (made[72:] == np.asarray(PICTURE)[72:]).all()


@pytest.mark.parametrize("kind", ["sd1", "sdxl", "inpaint"])
def test_an_outpainted_picture_lies_on_the_larger_canvas(kind: str, paint: Make) -> None:
    start = {**START, "outpaint": {"left": 24, "down": 16, "overlap": 8}}
    made = pixels(paint(kind, init_image=start, width=120, height=96))
    assert (made[:72, 32:] == np.asarray(PICTURE)[:72, 8:]).all()


def test_steps_count_what_is_made(paint: Make) -> None:
    assert steps(paint(steps=10, init_image={**START, "strength": 0.3})) == [(1, 3), (2, 3), (3, 3)]
    assert steps(paint(steps=4, init_image={**START, "strength": 0.01})) == [(1, 1)]
    assert steps(paint(steps=4, init_image=START, sampler="heun")) == [(1, 3), (2, 3), (3, 3)]


def test_strength_0_is_the_start_picture_itself(paint: Make) -> None:
    events = paint(init_image={**START, "strength": 0.0})
    assert steps(events) == [] and (pixels(events) == np.asarray(PICTURE)).all()
    assert (pixels(paint(init_image={**START, "strength": 0.0, "resize": "latent"}, width=64, height=64)).shape) == (
        64,
        64,
        3,
    )


def test_a_job_of_several_gives_each_its_own_seed(paint: Make) -> None:
    events = paint(init_image=START, count=2)
    assert (pixels(events, 1) == pixels(paint(init_image=START, seed=8))).all()
    assert (pixels(events, 0) != pixels(events, 1)).any()
    assert (pixels(events, 0) == pixels(paint(init_image=START))).all()


@pytest.mark.parametrize("resize", ["stretch", "crop", "fill", "latent"])
@pytest.mark.parametrize("size", [(64, 64), (128, 72)])
def test_a_start_picture_of_another_shape_is_brought_to_size(resize: str, size: tuple[int, int], paint: Make) -> None:
    made = pixels(paint(init_image={**START, "resize": resize}, width=size[0], height=size[1]))
    assert made.shape == (size[1], size[0], 3)


@pytest.mark.parametrize("upscaler", UPSCALERS)
def test_a_hires_pass_runs_over_the_same_loop(upscaler: str, paint: Make) -> None:
    hires = {"scale": 1.5, "upscaler": upscaler, "strength": 0.5, "steps": 4}
    events = paint(hires=hires)
    assert pixels(events).shape == (120, 144, 3)
    assert steps(events) == [(n, 5) for n in range(1, 6)]
    assert (pixels(paint(hires=hires)) == pixels(events)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"sampler": "dpmpp_2m", "schedule": "karras"},
        {"prompt": "a dog"},
        {"guidance": 9.0},
        {"negative_prompt": "sea"},
        {"steps": 5},
        {"strength": 1.0},
    ],
    ids=str,
)
def test_a_hires_pass_has_its_own_settings(change: dict[str, object], paint: Make) -> None:
    plain = {"scale": 1.5, "strength": 0.7}
    assert (pixels(paint(hires={**plain, **change})) != pixels(paint(hires=plain))).any()


@pytest.mark.parametrize(
    ("edited", "first", "second"),
    [
        ("[cat:dog:0.5] sea", None, "dog sea"),  # 0..1 is the first pass
        ("cat [sea:sun:1.0]", "cat sea", "cat sun"),
        ("cat [sea:sun:1.5]", "cat sea", None),
        ("[sea:1.2] cat", " cat", None),
        ("cat [sea:sun:99]", "cat sea", "cat sea"),
        ("cat [sea:sun:4]", "cat sea", "cat sun"),
        ("[cat:dog:2]", None, "dog"),
        ("cat [sea:sun:5]", "cat sea", None),
    ],
)
def test_a_hires_pass_goes_on_counting(edited: str, first: str | None, second: str | None, paint: Make) -> None:
    """A pass in which the text does not change is the same with the plain text; else it is not."""

    def pictures(prompt: str, hires_prompt: str) -> np.ndarray:
        return pixels(
            paint(prompt=prompt, steps=4, hires={"scale": 1.25, "strength": 0.5, "steps": 4, "prompt": hires_prompt})
        )

    for place, plain in (("first", first), ("second", second)):
        if plain is not None:
            pair = [
                (edited, "red") if place == "first" else ("red", edited),
                (plain, "red") if place == "first" else ("red", plain),
            ]
            assert (pictures(*pair[0]) == pictures(*pair[1])).all(), place


@pytest.mark.parametrize(
    ("edited", "plain"),
    [
        ("[cat:dog:0.5] sea", "cat sea"),
        ("[cat:dog:2] sea", "cat sea"),
        ("[cat:dog:1.0] sea", "cat sea"),
        ("[cat:dog:0.0] sea", "dog sea"),
        ("[cat:dog:0] sea", "dog sea"),
    ],
)
def test_from_a_picture_the_steps_that_are_made_count_from_0(edited: str, plain: str, paint: Make) -> None:
    """Two of four are made: half of the four is never reached, as in A1111."""
    start = {**START, "strength": 0.5}
    whole, other = (pixels(paint(prompt=prompt, steps=4, init_image=start)) for prompt in (edited, plain))
    assert (whole == other).all()
    assert (pixels(paint(prompt="[cat:dog:0.25] sea", steps=4, init_image=start)) != other).any()


@pytest.mark.parametrize("kind", ["sd2", "sdxl", "inpaint"])
def test_a_hires_pass_goes_with_every_family_and_with_a_start(kind: str, paint: Make) -> None:
    assert pixels(paint(kind, hires={}, init_image=START)).shape == (160, 192, 3)
    assert pixels(paint(kind, hires={"upscaler": "lanczos"}, init_image={**START, "strength": 0.0})).shape == (
        160,
        192,
        3,
    )


@pytest.mark.parametrize("kind", ["edit", "depth"])
def test_models_that_need_a_picture_say_so(kind: str, paint: Make) -> None:
    assert failure(paint(kind)).code == "invalid_init_image"
    assert failure(paint(kind, init_image=START, hires={})).code == "invalid_hires"


def test_inpainting_models_paint_from_text_too(paint: Make) -> None:
    assert pixels(paint("inpaint")).shape == (80, 96, 3)


@pytest.mark.parametrize(("change", "differs"), [({"image_guidance": 1.0}, True), ({"strength": 0.3}, False)])
def test_an_editing_model_holds_to_the_picture_by_its_own_strength(
    change: dict[str, float], differs: bool, paint: Make
) -> None:
    plain, changed = pixels(paint("edit", init_image=START)), pixels(paint("edit", init_image={**START, **change}))
    assert (plain != changed).any() == differs


def test_an_editing_model_goes_with_composed_and_edited_prompts(paint: Make) -> None:
    assert pixels(paint("edit", init_image=START, prompt="a cat AND a red dog :0.5")).shape == (80, 96, 3)
    assert pixels(paint("edit", init_image=START, prompt="a [cat:dog:0.5]", guidance=1.0)).shape == (80, 96, 3)


def test_a_picture_that_is_not_in_the_work_item_fails_with_a_sentence(
    engine: Engine, make_recipe: Make, make_work_item: Make
) -> None:
    ending = list(engine.generate(make_work_item(make_recipe(init_image=START)), lambda: False))[-1]
    assert isinstance(ending, WorkFailed) and ending.code == "upload_gone" and ending.hint == "Add it again."
    assert isinstance(list(engine.generate(make_work_item(make_recipe()), lambda: False))[-1], WorkDone)


def test_a_large_picture_goes_through_the_vae_in_tiles(
    models: ModelManager, entries: dict[str, ModelEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In tiles of two thirds of the side the result is nearly the same, and the VAE is left as it was."""
    picture = Image.effect_noise((24, 16), 60).convert("RGB").resize((192, 128), Image.Resampling.BICUBIC)
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
        whole = encode(picture, bundle)
        monkeypatch.setattr(vae, "TILED_FROM", 128 * 128)
        monkeypatch.setattr(vae, "_TILE", 128)
        calls: list[tuple[int, ...]] = []
        decoder = bundle.onload("vae").decoder
        hook = decoder.register_forward_pre_hook(lambda module, given: calls.append(tuple(given[0].shape[-2:])))
        tiled = encode(picture, bundle)
        image, _ = decode(tiled, bundle)
        hook.remove()
        assert (image.width, image.height) == (192, 128) and tiled.shape == whole.shape == (1, 4, 16, 24)
        assert max(side for shape in calls for side in shape) == 16 and len(calls) > 1
        assert float((tiled - whole).abs().mean() / whole.std()) < 0.5
        assert not bundle.onload("vae").use_tiling


def test_the_start_picture_is_encoded_once_a_job(paint: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.images import init_latents

    calls: list[int] = []
    plain = init_latents.encode
    monkeypatch.setattr(init_latents, "encode", lambda *args, **more: calls.append(1) or plain(*args, **more))
    paint(init_image=START, count=3)
    assert calls == [1]


def test_only_a_masked_area_costs_what_the_area_costs(engine: Engine, make_recipe: Make, make_work_item: Make) -> None:
    large = Image.effect_noise((1200, 900), 60).convert("RGB")
    (ref, images), (mask_ref, more) = png(large), png(box((1200, 900), 500, 400, 560, 450))
    seen: list[int] = []
    recipe = make_recipe(
        width=64,
        height=64,
        init_image={"image": {"sha256": ref.sha256}},
        mask={"image": {"sha256": mask_ref.sha256}, "area": "masked"},
    )
    plain = torch.nn.functional.conv2d

    def counted(given: torch.Tensor, *rest: Any, **others: Any) -> torch.Tensor:
        seen.append(given.shape[-1] * given.shape[-2])
        return plain(given, *rest, **others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "conv2d", counted)
        events = list(
            engine.generate(make_work_item(recipe, images=images | more, wants_previews=False), lambda: False)
        )
    assert pixels(events).shape == (900, 1200, 3)
    assert max(seen) <= 66 * 66  # nothing larger than the painted size (and its padding) was ever computed
