"""Methods of guidance in whole jobs: each with the other parts of a recipe, and on the bundled model."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from catalog.guidance import GUIDANCE_METHODS
from catalog.models import ModelEntry, describe
from contract.parts import GuidanceMethod
from contract.recipe import ImageRef, Recipe
from contract.tasks import Generate
from contract.work import RawImage, WorkCancelled, WorkDone, WorkerEvent, WorkFailed, WorkImage, WorkItem, path_key
from engine.engine import Engine, EngineOptions
from engine.models.bundle import Bundle
from tests.engine.test_image_io import png

Make = Callable[..., Any]
STARTER = Path(__file__).resolve().parents[2] / "models" / "starter"
METHODS = [method.id for method in GUIDANCE_METHODS.values() if "unet" in method.denoisers]
CHANGES_UNET = [name for name in METHODS if GUIDANCE_METHODS[name].changes_unet]


def used(*ids: str) -> tuple[GuidanceMethod, ...]:
    values: Mapping[str, dict[str, float | str]] = {
        "cfg_zero": {"zero_steps": 1.0},
        "dynamic_thresholding": {"mimic_scale": 2.0},
        "cfg_interval": {"start": 0.0, "end": 0.5},
    }
    return tuple(GuidanceMethod(id=name, values=values.get(name, {})) for name in ids)


def image_of(events: list[WorkerEvent]) -> RawImage:
    assert isinstance(events[-1], WorkDone), events[-1]
    (image,) = [event.pixels for event in events if isinstance(event, WorkImage)]
    return image


@pytest.fixture
def paint(engine: Engine, make_recipe: Make, make_work_item: Make) -> Callable[..., RawImage]:
    def run(model: str = "sd1", images: Mapping[str, bytes] | None = None, **fields: object) -> RawImage:
        item = make_work_item(make_recipe(model, **fields), images=images or {})
        return image_of(list(engine.generate(item, lambda: False)))

    return run


def picture() -> tuple[ImageRef, dict[str, bytes]]:
    return png(Image.linear_gradient("L").resize((64, 64)).convert("RGB"))


@pytest.mark.parametrize("kind", ["sd1", "sd2", "zero_snr", "sdxl"])
def test_every_method_goes_with_every_family_and_not_square(kind: str, paint: Callable[..., RawImage]) -> None:
    plain = paint(kind, width=96, height=64)
    for name in METHODS:
        made = paint(kind, width=96, height=64, guidance_methods=used(name))
        assert made.rgb != plain.rgb, name
    assert paint(kind, width=96, height=64).rgb == plain.rgb


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a red cat AND the sea :0.5"},
        {"mask": True},
        {"hires": {"scale": 1.5, "upscaler": "latent", "steps": 2, "strength": 0.6, "guidance": 3.0}},
        {"sampler": "heun"},
        {"sampler": "dpmpp_2m"},
        {"sampler": "ddim"},
    ],
    ids=lambda fields: next(iter(fields)) + str(fields.get("sampler", "")),
)
def test_methods_act_in_other_modes_too(fields: dict[str, Any], paint: Callable[..., RawImage]) -> None:
    if "mask" in fields:
        ref, images = picture()
        start = {"image": ref, "strength": 0.7}
        fields = {"init_image": start, "mask": {"image": ref, "soft": True}, "images": images}
    plain = paint(**fields)
    for name in METHODS:
        assert paint(**fields, guidance_methods=used(name)).rgb != plain.rgb, name


def test_a_hires_pass_may_have_methods_of_its_own(paint: Callable[..., RawImage]) -> None:
    hires = {"scale": 1.5, "upscaler": "lanczos", "steps": 2, "strength": 0.6}
    plain = paint(hires=hires)
    both = paint(hires=hires, guidance_methods=used("pag"))
    first = paint(hires=hires | {"guidance_methods": ()}, guidance_methods=used("pag"))
    second = paint(hires=hires | {"guidance_methods": used("pag")})
    assert len({plain.rgb, both.rgb, first.rgb, second.rgb}) == 4
    assert paint(hires=hires | {"guidance_methods": used("pag")}, guidance_methods=used("pag")).rgb == both.rgb


def test_an_inpainting_model_takes_every_method(paint: Callable[..., RawImage]) -> None:
    ref, images = picture()
    fields: dict[str, Any] = {"init_image": {"image": ref, "strength": 1.0}, "mask": {"image": ref}, "images": images}
    plain = paint("inpaint", **fields)
    for name in METHODS:
        assert paint("inpaint", **fields, guidance_methods=used(name)).rgb != plain.rgb, name


def test_an_editing_model_takes_what_leaves_its_guidance_alone(paint: Callable[..., RawImage]) -> None:
    ref, images = picture()
    fields: dict[str, Any] = {"init_image": {"image": ref}, "images": images}
    plain = paint("edit", **fields)
    for name in METHODS:
        if GUIDANCE_METHODS[name].suits_edit:
            assert paint("edit", **fields, guidance_methods=used(name)).rgb != plain.rgb, name


@pytest.mark.parametrize(("guidance", "mode"), [(5.0, "control"), (1.0, "balanced")])
def test_controls_and_image_prompts_act_in_the_evaluations_of_a_method(
    guidance: float,
    mode: str,
    engine: Engine,
    control_entries: dict[str, ModelEntry],
    entries: dict[str, ModelEntry],
    make_recipe: Make,
) -> None:
    ref, images = picture()
    paths = {path_key(entry.ref): str(entry.path) for entry in (*entries.values(), *control_entries.values())}
    control = {"model": control_entries["canny"].ref, "image": ref, "mode": mode}
    sketch = {"model": control_entries["sketch"].ref, "image": ref, "mode": mode}
    adapter = {"model": control_entries["picture"].ref, "image": ref, "weight": 0.8}

    def run(**fields: object) -> bytes:
        recipe = make_recipe(guidance=guidance, **fields)
        item = WorkItem("job", 1, Generate(recipe=recipe), model_paths=paths, images=images)
        return image_of(list(engine.generate(item, lambda: False))).rgb

    for name in ("pag", "sag", "nag"):
        controlled = run(controls=(control, sketch), guidance_methods=used(name))
        assert controlled not in (run(controls=(control, sketch)), run(guidance_methods=used(name))), name
        if GUIDANCE_METHODS[name].suits_ip_adapter:
            with_image = run(ip_adapters=(adapter,), guidance_methods=used(name))
            assert with_image not in (run(ip_adapters=(adapter,)), run(guidance_methods=used(name))), name


def test_negative_prompts_act_at_guidance_1_by_nag_alone(paint: Callable[..., RawImage]) -> None:
    def run(negative: str, *methods: str) -> bytes:
        return paint(guidance=1.0, negative_prompt=negative, guidance_methods=used(*methods)).rgb

    assert run("dog") == run("sea")
    assert run("dog", "nag") != run("sea", "nag")


def test_no_trace_is_used_or_wanted_where_the_unet_is_changed(
    engine: Engine, make_recipe: Make, make_work_item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    original = Bundle.evaluate

    def evaluate(bundle: Bundle, component: str, *given: Any) -> Any:
        asked.append(component)
        return original(bundle, component, *given)

    monkeypatch.setattr(Bundle, "evaluate", evaluate)
    for name in METHODS:
        asked.clear()
        image_of(list(engine.generate(make_work_item(make_recipe(guidance_methods=used(name))), lambda: False)))
        assert ("unet" in asked) is (name not in CHANGES_UNET), name


@pytest.mark.parametrize("name", CHANGES_UNET)
def test_a_cancelled_or_failed_job_leaves_the_unet_as_it_was(
    name: str, engine: Engine, make_recipe: Make, make_work_item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = image_of(list(engine.generate(make_work_item(make_recipe()), lambda: False)))
    item = make_work_item(make_recipe(steps=6, guidance_methods=used(name)))
    calls = iter(range(100))
    assert isinstance(list(engine.generate(item, lambda: next(calls) > 3))[-1], WorkCancelled)
    assert image_of(list(engine.generate(make_work_item(make_recipe()), lambda: False))) == plain
    with monkeypatch.context() as patch:
        patch.setattr("engine.sampling.denoise.Conditions.apply_cfg", lambda *_: 1 / 0)
        assert isinstance(list(engine.generate(item, lambda: False))[-1], WorkFailed)
    assert image_of(list(engine.generate(make_work_item(make_recipe()), lambda: False))) == plain


def test_the_bundled_model_paints_with_each() -> None:
    entry = describe(STARTER, "starter")
    engine = Engine(EngineOptions(device="cpu", threads=1))

    def paint(*methods: str) -> np.ndarray:
        recipe = Recipe.model_validate(
            {
                "prompt": "a red house on a green hill",
                "negative_prompt": "snow",
                "model": entry.ref,
                "sampler": "euler",
                "schedule": "uniform",
                "steps": 4,
                "guidance": 6.0,
                "width": 128,
                "height": 128,
                "seed": 3,
                "guidance_methods": used(*methods),
            }
        )
        item = WorkItem("job", 1, Generate(recipe=recipe), model_paths={path_key(entry.ref): str(entry.path)})
        return np.frombuffer(image_of(list(engine.generate(item, lambda: False))).rgb, np.uint8).astype(int)

    plain = paint()
    for name in METHODS:
        change = np.abs(paint(name) - plain).mean()
        assert 0.02 < change < 90, (name, change)  # an engine says itself if the numbers are not finite
    assert np.array_equal(paint(), plain)
