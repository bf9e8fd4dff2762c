"""Controls in whole jobs: modes, spans, several sizes, leases; what doesn't fit fails in words and harms nothing."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from catalog.models import ModelEntry
from contract.recipe import ImageRef, Recipe
from contract.tasks import Generate, Preprocess
from contract.work import WorkDone, WorkerEvent, WorkFailed, WorkImage, WorkItem, WorkLoading, WorkNotice, path_key
from engine.adapters import controlnet as subject
from engine.adapters.controlnet import ControlSet, controls_of
from engine.adapters.prompt_encoder import EmbeddingCache
from engine.device.devices import Device
from engine.engine import Engine, EngineOptions
from engine.images.inpaint_region import inpaint_region_of
from engine.images.preprocessors import Preprocessors
from engine.job_models import acquire
from engine.models.manager import ModelManager
from engine.pipeline import PassInputs, plan_image, run_pass
from engine.sampling.denoise import Conditions, ControlResiduals
from tests.engine.conftest import CPU
from tests.parity.test_start_pictures import png, smooth_picture
from tests.support import tiny_controls

PICTURE = smooth_picture(96, 64)
DOT, NARROW = Image.new("RGB", (1, 1), "red"), Image.new("RGB", (1, 5000), "red")
MASK = Image.new("RGB", PICTURE.size)
MASK.paste("white", (20, 16, 60, 48))
IMAGES = {hashlib.sha256(png(image)).hexdigest(): png(image) for image in (PICTURE, DOT, NARROW, MASK)}
PICTURE_REF, DOT_REF, NARROW_REF, MASK_REF = ({"sha256": sha256} for sha256 in IMAGES)
Painter = Callable[..., list[WorkerEvent]]


@pytest.fixture
def paint(
    entries: dict[str, ModelEntry],
    control_entries: dict[str, ModelEntry],
    engine: Engine,
    make_recipe: Callable[..., Recipe],
    make_work_item: Callable[..., WorkItem],
) -> Painter:
    """Paint with controls and ip_adapters; their models by name."""
    paths = {path_key(entry.ref): str(entry.path) for entry in (*entries.values(), *control_entries.values())}

    def run(
        model: str = "sd1",
        controls: tuple[dict[str, object], ...] = (),
        ip_adapters: tuple[dict[str, object], ...] = (),
        **more: object,
    ) -> list[WorkerEvent]:
        parts = {
            name: tuple(
                {"image": PICTURE_REF, **unit, "model": control_entries[str(unit["model"])].ref} for unit in units
            )
            for name, units in (("controls", controls), ("ip_adapters", ip_adapters))
        }
        work_item = make_work_item(make_recipe(model, **parts, **more))
        return list(engine.generate(replace(work_item, images=IMAGES, model_paths=paths), lambda: False))

    return run


def pixels(events: list[WorkerEvent]) -> np.ndarray:
    assert isinstance(events[-1], WorkDone), events[-1]
    (painted,) = [event.pixels for event in events if isinstance(event, WorkImage)]
    return np.frombuffer(painted.rgb, dtype=np.uint8).reshape(painted.height, painted.width, 3).astype(int)


def failure(events: list[WorkerEvent]) -> WorkFailed:
    assert isinstance(events[-1], WorkFailed), events[-1]
    return events[-1]


def test_a_control_of_weight_nothing_changes_nothing(paint: Painter) -> None:
    plain = pixels(paint())
    assert np.array_equal(pixels(paint(controls=({"model": "canny", "weight": 0.0},))), plain)
    assert not np.array_equal(pixels(paint(controls=({"model": "canny"},))), plain)


def test_a_span_that_holds_no_whole_step_changes_nothing(paint: Painter) -> None:
    plain = pixels(paint())
    for unit in ({"model": "canny"}, {"model": "sketch"}):
        assert np.array_equal(pixels(paint(controls=({**unit, "start": 0.4, "end": 0.6},))), plain)
    assert np.array_equal(pixels(paint(ip_adapters=({"model": "picture", "start": 0.4, "end": 0.6},))), plain)


@pytest.mark.parametrize("model", ["canny", "sketch"])
def test_the_three_modes_differ(model: str, paint: Painter) -> None:
    made = [pixels(paint(controls=({"model": model, "mode": mode},))) for mode in ("balanced", "prompt", "control")]
    assert not any(np.array_equal(made[one], made[other]) for one, other in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("model", ["canny", "sketch", "picture"])
def test_the_same_model_twice_acts_twice(model: str, paint: Painter) -> None:
    part = "ip_adapters" if model == "picture" else "controls"
    once = pixels(paint(**{part: ({"model": model},)}))
    twice = pixels(paint(**{part: ({"model": model}, {"model": model})}))
    assert not np.array_equal(once, twice)


def test_a_hires_pass_is_controlled_at_its_own_size(paint: Painter) -> None:
    hires = {"scale": 1.5, "strength": 0.6}
    plain, held = (pixels(paint(controls=units, hires=hires)) for units in ((), ({"model": "canny"},)))
    assert plain.shape == held.shape == (96, 96, 3) and not np.array_equal(plain, held)


@pytest.mark.parametrize("mask", [{"blur": 0}, {"blur": 0, "area": "masked", "padding": 4}], ids=str)
def test_controls_act_within_a_mask_only(mask: dict[str, object], paint: Painter) -> None:
    more = {
        "init_image": {"image": PICTURE_REF, "strength": 1.0},
        "mask": {"image": MASK_REF, **mask},
        "width": 96,
        "height": 64,
    }
    plain = pixels(paint(**more))
    held = pixels(
        paint(controls=({"model": "canny"}, {"model": "sketch"}), ip_adapters=({"model": "picture"},), **more)
    )
    outside = np.asarray(MASK)[..., 0] == 0
    assert np.array_equal(held[outside], np.asarray(PICTURE)[outside]) and not np.array_equal(held, plain)


def test_only_the_masked_area_of_a_control_picture_is_shown(
    make_recipe: Callable[..., Recipe],
    control_entries: dict[str, ModelEntry],
    entries: dict[str, ModelEntry],
    models: ModelManager,
) -> None:
    recipe = make_recipe(
        controls=({"model": control_entries["canny"].ref, "image": MASK_REF},),
        width=64,
        height=64,
        init_image={"image": PICTURE_REF},
        mask={"image": MASK_REF, "area": "masked", "padding": 0, "blur": 0},
    )
    region = inpaint_region_of(recipe, IMAGES)
    assert region is not None and region.crop_like is not None
    with (
        models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle,
        models.lease(control_entries["canny"].ref, str(control_entries["canny"].path)) as loaded,
    ):
        held = ControlSet((loaded.onload("controlnet"),), IMAGES, Preprocessors([], CPU.torch_device))
        (shown,) = held.units(recipe, bundle, region)
        (whole,) = held.units(recipe, bundle)
    assert shown.hint.shape == whole.hint.shape == (1, 3, 64, 64)
    assert shown.hint.mean() > 0.75 > 0.5 > whole.hint.mean()  # the mask itself is the picture: white within


def test_a_preprocessor_is_run_at_the_wanted_resolution(paint: Painter) -> None:
    lined = {"model": "canny", "preprocessor": "canny", "low": 5.0, "high": 10.0}
    made = [
        pixels(paint(controls=({**lined, **more},)))
        for more in ({"resolution": 64}, {"resolution": 256}, {"pixel_perfect": True})
    ]
    assert not np.array_equal(made[0], made[1]) and np.array_equal(made[0], made[2])


def test_a_map_that_a_preprocessor_left_empty_is_said_once(paint: Painter) -> None:
    lined = {"model": "canny", "preprocessor": "canny"}
    for unit, codes in (({**lined, "image": DOT_REF}, ["blank_map"]), ({**lined, "low": 5.0, "high": 10.0}, [])):
        events = paint(controls=(unit,), count=2)
        assert [event.code for event in events if isinstance(event, WorkNotice)] == codes


@pytest.mark.parametrize("mode", ["stretch", "crop", "fill"])
@pytest.mark.parametrize("image", [DOT_REF, NARROW_REF], ids=["1×1", "1×5000"])
def test_extreme_pictures_are_fitted(image: dict[str, str], mode: str, paint: Painter) -> None:
    assert pixels(paint(controls=({"model": "canny", "image": image, "resize": mode},))).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("part", "unit", "code", "words"),
    [
        ("controls", {"model": "canny_xl"}, "invalid_controls_model", "“canny_xl” is for SDXL; “sd1” is SD 1.x."),
        ("controls", {"model": "canny2"}, "invalid_controls_model", "“canny2” is for SD 2.x; “sd1” is SD 1.x."),
        ("controls", {"model": "sketch_xl"}, "invalid_controls_model", "T2I-Adapter “sketch_xl” is for SDXL"),
        ("ip_adapters", {"model": "picture_xl"}, "invalid_ip_adapters_model", "IP-Adapter “picture_xl” is for SDXL"),
        ("controls", {"model": "canny", "preprocessor": "cany"}, "invalid_preprocessor", "“cany”"),
        (
            "controls",
            {"model": "canny", "preprocessor": "inpaint"},
            "invalid_controls_preprocessor",
            "there is no mask",
        ),
        ("controls", {"model": "canny", "preprocessor": "hed"}, "preprocessor_not_installed", "not installed"),
        (
            "controls",
            {"model": "canny", "preprocessor": "canny", "image": NARROW_REF},
            "invalid_controls_image",
            "narrow",
        ),
        ("controls", {"model": "canny", "image": {"sha256": "f" * 64}}, "upload_gone", "did not reach"),
    ],
)
def test_what_cannot_be_done_fails_in_words_and_the_next_job_works(
    part: str, unit: dict[str, object], code: str, words: str, paint: Painter
) -> None:
    before = pixels(paint())
    failed = failure(paint(**{part: (unit,)}))
    assert failed.code == code and words in failed.message and failed.hint
    assert np.array_equal(pixels(paint()), before)


def test_a_preprocessor_that_breaks_fails_the_job_and_not_the_next(
    paint: Painter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise ZeroDivisionError

    before = pixels(paint())
    with monkeypatch.context() as patch:
        patch.setattr(Preprocessors, "annotator", breaks)
        failed = failure(paint(controls=({"model": "canny", "preprocessor": "canny"},)))
    assert failed.code == "preprocessor_failed" and "“Canny” failed on the control picture" in failed.message
    assert np.array_equal(pixels(paint()), before)


def test_a_model_made_otherwise_is_refused_with_what_differs(
    tmp_path: Path,
    paint: Painter,
    control_entries: dict[str, ModelEntry],
    make_recipe: Callable[..., Recipe],
    make_work_item: Callable[..., WorkItem],
    engine: Engine,
) -> None:
    wide = tiny_controls.build_controlnet("sd2", tmp_path / "wide")
    ref = control_entries["canny"].ref.model_copy(update={"name": "wide", "fingerprint": ""})
    work_item = make_work_item(make_recipe(controls=({"model": ref, "image": PICTURE_REF},)))
    work_item = replace(work_item, images=IMAGES, model_paths={**work_item.model_paths, path_key(ref): str(wide)})
    failed = failure(list(engine.generate(work_item, lambda: False)))
    assert "does not fit “sd1”: its cross_attention_dim is 1024 and the model's 32" in failed.message


def test_a_model_without_attention_steers_one_with_it(
    tmp_path: Path,
    control_entries: dict[str, ModelEntry],
    make_recipe: Callable[..., Recipe],
    make_work_item: Callable[..., WorkItem],
    engine: Engine,
) -> None:
    plain = tiny_controls.build_controlnet(
        "sd1", tmp_path / "plain", down_block_types=("DownBlock2D", "DownBlock2D"), mid_block_type="UNetMidBlock2D"
    )
    ref = control_entries["canny"].ref.model_copy(update={"name": "plain", "fingerprint": ""})
    work_item = make_work_item(make_recipe(controls=({"model": ref, "image": PICTURE_REF},)))
    steered, free = (
        pixels(list(engine.generate(job, lambda: False)))
        for job in (
            replace(work_item, images=IMAGES, model_paths={**work_item.model_paths, path_key(ref): str(plain)}),
            make_work_item(make_recipe()),
        )
    )
    assert not np.array_equal(steered, free)


def test_pictures_as_prompt_leave_the_model_as_it_was(
    entries: dict[str, ModelEntry],
    control_entries: dict[str, ModelEntry],
    models: ModelManager,
    make_recipe: Callable[..., Recipe],
) -> None:
    recipe = make_recipe(ip_adapters=({"model": control_entries["picture"].ref, "image": PICTURE_REF},))
    paths = {path_key(control_entries["picture"].ref): str(control_entries["picture"].path)}
    work_item = WorkItem("job", 1, Generate(recipe=recipe), IMAGES, paths)
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
        unet = bundle.onload("unet")
        before, names = {key: value.clone() for key, value in unet.state_dict().items()}, [*unet.attn_processors]
        with pytest.raises(RuntimeError, match="on purpose"):
            with acquire(recipe, work_item, models, Preprocessors([], CPU.torch_device), bundle):
                assert unet.encoder_hid_proj is not None
                raise RuntimeError("on purpose")
        after = unet.state_dict()
        assert unet.encoder_hid_proj is None and unet.config.encoder_hid_dim_type is None
        assert [*unet.attn_processors] == names
        assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_control_models_are_kept_and_evicted_like_checkpoints(
    entries: dict[str, ModelEntry], control_entries: dict[str, ModelEntry]
) -> None:
    models = ModelManager(CPU)
    with (
        models.lease(entries["sd1"].ref, str(entries["sd1"].path)),
        models.lease(control_entries["canny"].ref, str(control_entries["canny"].path)),
        models.lease(control_entries["depth"].ref, str(control_entries["depth"].path)) as second,
        models.lease(control_entries["canny"].ref, str(control_entries["canny"].path)) as again,
    ):
        assert tuple(held.name for held in models.resident()) == ("sd1", "canny", "depth")
        assert second.onload("controlnet") is not again.onload("controlnet")
    models.evict_all()
    assert tuple(held.name for held in models.resident()) == ()


def test_rows_of_the_negative_prompt_get_zeros_in_mode_control(
    entries: dict[str, ModelEntry],
    control_entries: dict[str, ModelEntry],
    models: ModelManager,
    make_recipe: Callable[..., Recipe],
) -> None:
    """Also with two prompts (AND): one row to steer away from, two to steer to."""
    rows, context = torch.randn(3, 4, 8, 8), torch.randn(3, 77, 32)
    conditions = Conditions(context, (1.0, 0.5), True)
    for name in ("canny", "sketch"):
        entry = control_entries[name]
        recipe = make_recipe(controls=({"model": entry.ref, "image": PICTURE_REF, "mode": "control"},))
        with (
            models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle,
            models.lease(entry.ref, str(entry.path)) as loaded,
            torch.inference_mode(),
        ):
            held = ControlSet(tuple(loaded.modules.values()), IMAGES, Preprocessors([], CPU.torch_device))
            called = controls_of(held.units(recipe, bundle), bundle)
            assert called is not None
            residuals = called(rows, torch.tensor(500), conditions, (0.0, 0.1))
        assert isinstance(residuals, ControlResiduals)
        for added in (*residuals.down_block, *residuals.adapter_features):
            assert added.shape[0] == 3 and not added[0].any() and added[1:].any()


@pytest.mark.parametrize(
    ("model", "name", "part"),
    [
        ("sd1", "canny", "controls"),
        ("sdxl", "union", "controls"),
        ("sdxl", "sketch_xl", "controls"),
        ("sd1", "picture", "ip_adapters"),
    ],
)
def test_controls_run_in_the_precision_of_a_card(
    model: str,
    name: str,
    part: str,
    entries: dict[str, ModelEntry],
    control_entries: dict[str, ModelEntry],
    make_recipe: Callable[..., Recipe],
) -> None:
    half = Device(torch.device("cpu"), "CPU", torch.bfloat16, channels_last=True)
    models, entry = ModelManager(half), control_entries[name]
    unit = {"model": entry.ref, "image": PICTURE_REF, **({"control_type": "depth"} if name == "union" else {})}
    recipe = make_recipe(model, **{part: (unit,)})
    work_item = WorkItem("job", 1, Generate(recipe=recipe), IMAGES, {path_key(entry.ref): str(entry.path)})
    with (
        models.lease(entries[model].ref, str(entries[model].path)) as bundle,
        acquire(recipe, work_item, models, Preprocessors([], half.torch_device), bundle) as loaded,
    ):
        inputs = PassInputs(IMAGES, EmbeddingCache(), lambda image, *_: image, loaded)
        *_, last = run_pass(plan_image(recipe, bundle, inputs), recipe, inputs)
        weights = bundle.onload("unet").state_dict()
        assert last.step.latents.isfinite().all() and last.step.latents.dtype == torch.float32
        assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}


def test_prompt_mode_fades_as_the_extension_does() -> None:
    assert pytest.approx(0.0994, abs=1e-4) == subject._FADE**subject._DEEPEST


def test_a_preview_is_a_map(engine: Engine) -> None:
    task = Preprocess(image=ImageRef(**PICTURE_REF), preprocessor="canny", resolution=64, low=5.0, high=10.0)
    *events, ending = engine.generate(WorkItem("job", 1, task, IMAGES), lambda: False)
    (made,) = [event.pixels for event in events if isinstance(event, WorkImage)]
    assert isinstance(ending, WorkDone) and (made.width, made.height) == (128, 64)
    assert set(np.frombuffer(made.rgb, dtype=np.uint8)) == {0, 255}
    failed = failure(
        list(
            engine.generate(WorkItem("job", 1, task.model_copy(update={"preprocessor": "hed"}), IMAGES), lambda: False)
        )
    )
    assert failed.code == "preprocessor_not_installed" and "models/annotators/" in failed.hint


def test_loading_tells_of_every_model(
    control_entries: dict[str, ModelEntry], make_recipe: Callable[..., Recipe], make_work_item: Callable[..., WorkItem]
) -> None:
    fresh = Engine(EngineOptions(device="cpu", threads=1))
    recipe = make_recipe(
        controls=({"model": control_entries["canny"].ref, "image": PICTURE_REF},),
        ip_adapters=({"model": control_entries["picture"].ref, "image": PICTURE_REF},),
    )
    work_item = make_work_item(recipe)
    paths: dict[str, Any] = {
        **work_item.model_paths,
        **{path_key(control_entries[name].ref): str(control_entries[name].path) for name in ("canny", "picture")},
    }
    events = list(fresh.generate(replace(work_item, images=IMAGES, model_paths=paths), lambda: False))
    assert pixels(events).any()
    assert {event.what for event in events if isinstance(event, WorkLoading)} == {
        "sd1",
        "canny",
        "picture",
        "picture/image_encoder",
    }
