"""The engine's public entry: events, endings, seeds, cancels, faults."""

import gc
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file

from catalog.models import ModelEntry, describe
from contract.errors import ModelProblem
from contract.recipe import Recipe
from contract.work import (
    WORK_ENDINGS,
    RawImage,
    WorkCancelled,
    WorkDone,
    WorkerEvent,
    WorkFailed,
    WorkImage,
    WorkItem,
    WorkLoading,
    WorkNotice,
    WorkStep,
    path_key,
)
from engine.engine import Engine, EngineOptions
from engine.families import stable_diffusion
from engine.images import previews
from engine.images.taesd import TinyDecoder
from tests.support import tiny

Make = Callable[..., Any]


def never() -> bool:
    return False


def pictures(events: list[WorkerEvent]) -> dict[int, RawImage]:
    return {event.image: event.pixels for event in events if isinstance(event, WorkImage)}


def paint_all(engine: Engine, work_item: WorkItem, is_cancelled: Callable[[], bool] = never) -> list[WorkerEvent]:
    events = list(engine.generate(work_item, is_cancelled))
    assert [isinstance(event, WORK_ENDINGS) for event in events] == [False] * (len(events) - 1) + [True]
    return events


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_each_kind_of_model_paints(kind: str, engine: Engine, make_recipe: Make, make_work_item: Make) -> None:
    events = paint_all(engine, make_work_item(make_recipe(kind, count=2, width=72, height=64)))
    assert isinstance(events[-1], WorkDone)
    steps = [(event.image, event.index, event.total) for event in events if isinstance(event, WorkStep)]
    assert steps == [(image, index, 3) for image in range(2) for index in (1, 2, 3)]
    for image in pictures(events).values():
        assert (image.width, image.height, len(image.rgb)) == (72, 64, 72 * 64 * 3)
    (first, _) = [event for event in events if isinstance(event, WorkImage)]
    assert first.seconds > 0
    assert first.provenance["device"] == "CPU, 1 thread"
    assert first.provenance["dtype"] == "float32"
    assert {"threads", "batch", "torch", "diffusers", "transformers"} <= set(first.provenance)


def test_first_events_say_what_is_loaded(make_recipe: Make, make_work_item: Make) -> None:
    fresh = Engine(EngineOptions(device="cpu", threads=1))
    events = paint_all(fresh, make_work_item(make_recipe()))
    assert events[0] == WorkLoading("job", "sd1", 0.0)
    assert fresh.describe().resident == ("sd1",)
    assert not any(isinstance(event, WorkLoading) for event in paint_all(fresh, make_work_item(make_recipe())))


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde", "heun"])
def test_same_seed_gives_the_same_bits(sampler: str, engine: Engine, make_recipe: Make, make_work_item: Make) -> None:
    recipe = make_recipe(sampler=sampler)
    one = pictures(paint_all(engine, make_work_item(recipe)))
    paint_all(engine, make_work_item(make_recipe("sd1_other", sampler=sampler)))
    assert pictures(paint_all(engine, make_work_item(recipe))) == one
    assert pictures(paint_all(engine, make_work_item(make_recipe(sampler=sampler, seed=8)))) != one


@pytest.mark.parametrize("sampler", ["euler_a", "lcm"])
def test_picture_of_a_job_equals_the_single_one(
    sampler: str, engine: Engine, make_recipe: Make, make_work_item: Make
) -> None:
    many = pictures(paint_all(engine, make_work_item(make_recipe(sampler=sampler, count=4, seed=2**64 - 2))))
    for index, seed in enumerate([2**64 - 2, 2**64 - 1, 0, 1]):
        single = pictures(paint_all(engine, make_work_item(make_recipe(sampler=sampler, seed=seed))))
        assert single[0] == many[index]


def test_finished_pictures_are_not_made_again(engine: Engine, make_recipe: Make, make_work_item: Make) -> None:
    recipe = make_recipe(count=3)
    every = pictures(paint_all(engine, make_work_item(recipe)))
    rest = pictures(paint_all(engine, make_work_item(recipe, finished=frozenset({0, 2}))))
    assert rest == {1: every[1]}


def test_previews_come_with_the_first_step_and_never_with_the_last(
    engine: Engine, make_recipe: Make, make_work_item: Make
) -> None:
    steps = [event for event in paint_all(engine, make_work_item(make_recipe(steps=4))) if isinstance(event, WorkStep)]
    assert steps[0].preview is not None
    assert len(steps[0].preview.rgb) == 3 * steps[0].preview.width * steps[0].preview.height
    assert steps[-1].preview is None
    quiet = paint_all(engine, make_work_item(make_recipe(steps=4), wants_previews=False))
    assert all(event.preview is None for event in quiet if isinstance(event, WorkStep))


@pytest.mark.parametrize(
    ("steps", "decode_rate", "draft_s", "is_shown"),
    [
        (4, 1.0, 0.0, True),  # the VAE takes long, the draft does not
        (8, 1.0, 0.0, True),
        (9, 1.0, 0.0, False),
        (4, 0.0, 0.0, False),  # the VAE takes less than a step
        (4, 1.0, 300.0, False),  # the draft takes more than a quarter of the VAE
        (4, None, 0.0, True),
        (4, None, 300.0, False),
    ],
)
def test_a_few_steps_end_with_a_draft_at_full_size(
    steps: int,
    decode_rate: float | None,
    draft_s: float,
    is_shown: bool,
    engine: Engine,
    make_recipe: Make,
    make_work_item: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder = AutoencoderTiny(latent_channels=4)
    decoder.save_pretrained(tmp_path / "tiny")
    work_item = make_work_item(make_recipe(steps=steps, count=2), preview_decoders=(str(tmp_path / "tiny"),))

    def known(self: object, digest: str) -> float | None:
        return decode_rate

    def as_quick(self: TinyDecoder, latents: torch.Tensor, limit_s: float) -> bool:
        return draft_s <= limit_s

    monkeypatch.setattr(engine, "_decode_rates", type("Known", (dict,), {"get": known})())
    monkeypatch.setattr(TinyDecoder, "is_quick", as_quick)
    monkeypatch.setattr(previews, "_best_decoder", lambda decoders, *_: decoders[0])
    events = paint_all(engine, work_item)
    last = [event for event in events if isinstance(event, WorkStep) and event.index == event.total]
    assert [event.preview is not None for event in last] == [is_shown] * 2
    for event in last:
        assert event.preview is None or (event.preview.width, event.preview.height) == (64, 64)
    kinds = [type(event) for event in events if isinstance(event, (WorkStep, WorkImage))]
    assert kinds.index(WorkImage) == steps  # the draft comes before its image


def test_previews_change_no_picture(engine: Engine, make_recipe: Make, make_work_item: Make) -> None:
    for sampler in ("euler_a", "heun"):
        recipe = make_recipe(sampler=sampler)
        assert pictures(paint_all(engine, make_work_item(recipe))) == pictures(
            paint_all(engine, make_work_item(recipe, wants_previews=False))
        )


def test_cancel_stops_between_steps(engine: Engine, make_recipe: Make, make_work_item: Make) -> None:
    seen: list[WorkerEvent] = []
    job = engine.generate(
        make_work_item(make_recipe(steps=20, count=2)), lambda: sum(isinstance(event, WorkStep) for event in seen) >= 2
    )
    for event in job:
        seen.append(event)
    assert seen[-1] == WorkCancelled("job")
    assert sum(isinstance(event, WorkStep) for event in seen) == 2
    assert isinstance(paint_all(engine, make_work_item(make_recipe()))[-1], WorkDone)


def test_cancel_stops_a_load(make_recipe: Make, make_work_item: Make) -> None:
    fresh = Engine(EngineOptions(device="cpu", threads=1))
    answers = iter([False] * 10)
    events = paint_all(fresh, make_work_item(make_recipe()), lambda: next(answers, True))
    assert events[-1] == WorkCancelled("job")
    assert fresh.describe().resident == ()


def test_job_cancelled_before_it_began_paints_nothing(engine: Engine, make_recipe: Make, make_work_item: Make) -> None:
    events = paint_all(engine, make_work_item(make_recipe()), lambda: True)
    assert events[-1] == WorkCancelled("job")
    assert not any(isinstance(event, WorkStep) for event in events)


def test_abandoned_job_returns_its_lease(engine: Engine, make_recipe: Make, make_work_item: Make) -> None:
    job = engine.generate(make_work_item(make_recipe(steps=20)), never)
    next(event for event in job if isinstance(event, WorkStep))
    job.close()
    engine._models.evict_all()
    assert engine.describe().resident == ()


def test_long_prompt_paints_with_a_notice(engine: Engine, make_recipe: Make, make_work_item: Make) -> None:
    events = paint_all(engine, make_work_item(make_recipe(prompt="cat " * 20_000, steps=1)))
    (notice,) = [event for event in events if isinstance(event, WorkNotice)]
    assert notice.code == "prompt_too_long"
    assert "18,500 words" in notice.message
    assert isinstance(events[-1], WorkDone)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "((((",
        "\x00\u202e👩‍👩‍👧",
        "<|endoftext|>" * 5,
        "BREAK BREAK",
        "a AND",
        "[|]",
        "[cat:dog:0.5] (red:1.4) [sea|sun]",
        "cat AND dog :0.4",
        "(" * 5000,
    ],
)
def test_strange_prompts_paint(prompt: str, engine: Engine, make_recipe: Make, make_work_item: Make) -> None:
    for kind in ("sd1", "sdxl"):
        events = paint_all(engine, make_work_item(make_recipe(kind, prompt=prompt, negative_prompt=prompt, steps=2)))
        assert isinstance(events[-1], WorkDone), events[-1]


def test_a_weight_beyond_every_number_fails_with_its_sentence(
    engine: Engine, make_recipe: Make, make_work_item: Make
) -> None:
    ending = paint_all(engine, make_work_item(make_recipe(prompt=f"(cat:{'9' * 400})")))[-1]
    assert isinstance(ending, WorkFailed)
    assert ending.code == "invalid_prompt"
    assert "“cat”" in ending.message and "beyond every number" in ending.message


def test_a_refiner_without_a_place_is_refused(engine: Engine, make_recipe: Make, make_work_item: Make) -> None:
    refiner = {"model": {"name": "refiner", "family": "sdxl"}}
    ending = paint_all(engine, make_work_item(make_recipe(refiner=refiner)))[-1]
    assert isinstance(ending, WorkFailed)
    assert (ending.code, ending.message) == ("invalid_refiner", "The work item names no place for the model refiner.")


@pytest.mark.parametrize("change", [{"sampler": "magic"}, {"schedule": "fast"}, {"clip_skip": 4}])
def test_unknown_names_fail_with_a_sentence(
    change: dict[str, object], engine: Engine, make_recipe: Make, make_work_item: Make
) -> None:
    ending = paint_all(engine, make_work_item(make_recipe("sd2", **change)))[-1]
    assert isinstance(ending, WorkFailed)
    assert ending.code.startswith("invalid_")
    assert ending.hint


def test_model_without_a_path_fails_with_a_sentence(engine: Engine, make_recipe: Make, make_work_item: Make) -> None:
    work_item = make_work_item(make_recipe())
    ending = paint_all(engine, WorkItem("job", 1, work_item.task))[-1]
    assert isinstance(ending, WorkFailed)
    assert "sd1" in ending.message


def damaged(entry: ModelEntry, folder: Path, part: str, name: str, value: float) -> ModelEntry:
    shutil.copytree(entry.path, folder)
    (path,) = (folder / part).glob("*.safetensors")
    tensors = load_file(path)
    tensors[name].fill_(value)
    save_file(tensors, path)
    return describe(folder, folder.name)


def work_item_for(entry: ModelEntry, recipe: Recipe, make_work_item: Make) -> WorkItem:
    work_item = make_work_item(recipe.model_copy(update={"model": entry.ref}))
    return WorkItem("job", 1, work_item.task, model_paths={path_key(entry.ref): str(entry.path)})


def test_nan_weights_fail_by_name_and_the_next_job_works(
    engine: Engine, make_recipe: Make, make_work_item: Make, entries: dict[str, ModelEntry], tmp_path: Path
) -> None:
    bad = damaged(entries["sd1"], tmp_path / "bad", "unet", "conv_out.bias", float("nan"))
    ending = paint_all(engine, work_item_for(bad, make_recipe(), make_work_item))[-1]
    assert isinstance(ending, WorkFailed)
    assert ending.code == "model_problem"
    assert "conv_out.bias" in ending.message
    assert str(tmp_path) not in ending.message
    assert isinstance(paint_all(engine, make_work_item(make_recipe()))[-1], WorkDone)


@pytest.mark.parametrize(
    ("part", "name", "where"), [("unet", "conv_out.bias", "first step"), ("vae", "decoder.conv_out.weight", "VAE")]
)
def test_numbers_gone_bad_are_no_black_picture(
    part: str,
    name: str,
    where: str,
    engine: Engine,
    make_recipe: Make,
    make_work_item: Make,
    entries: dict[str, ModelEntry],
    tmp_path: Path,
) -> None:
    bad = damaged(entries["sd1"], tmp_path / "bad", part, name, 3e38)
    events = paint_all(engine, work_item_for(bad, make_recipe(guidance=30.0), make_work_item))
    assert isinstance(events[-1], WorkFailed)
    assert events[-1].code == "no_valid_picture"
    assert where in events[-1].message
    assert pictures(events) == {}


@pytest.fixture
def failing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[BaseException], None]]:
    """Makes the step raise an error that a real device would."""

    def arm(error: BaseException) -> None:
        def predict_with(*_: object, **__: object) -> Callable[..., torch.Tensor]:
            def predict(*_: object) -> torch.Tensor:
                raise error

            return predict

        monkeypatch.setattr(stable_diffusion, "predict_with", predict_with)

    yield arm
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
            "out_of_memory",
        ),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), "device_fault"),
        (RuntimeError("CUDA error: device-side assert triggered"), "device_fault"),
        (OSError(5, "Input/output error"), "model_problem"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "engine_failed"),
        (IndexError("list index out of range"), "engine_failed"),
    ],
)
def test_errors_of_the_libraries_become_sentences(
    error: BaseException, code: str, engine: Engine, failing: Make, make_recipe: Make, make_work_item: Make
) -> None:
    failing(error)
    ending = paint_all(engine, make_work_item(make_recipe(width=72)))[-1]
    assert isinstance(ending, WorkFailed)
    assert ending.code == code
    assert ending.message.endswith(".")
    assert ending.hint
    if code == "out_of_memory":
        assert "72×64" in ending.message
        assert "sd1" in ending.message


def test_real_allocation_failure_is_out_of_memory(
    engine: Engine, failing: Make, make_recipe: Make, make_work_item: Make
) -> None:
    try:
        torch.empty(2**60, dtype=torch.uint8)
    except RuntimeError as error:
        failing(error)
    ending = paint_all(engine, make_work_item(make_recipe()))[-1]
    assert isinstance(ending, WorkFailed)
    assert ending.code == "out_of_memory"


def test_interrupts_pass(engine: Engine, failing: Make, make_recipe: Make, make_work_item: Make) -> None:
    failing(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        list(engine.generate(make_work_item(make_recipe()), never))


def test_failed_job_keeps_no_tensors(
    engine: Engine, make_recipe: Make, make_work_item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[weakref.ref[torch.Tensor]] = []

    def predict_with(*_: object, **__: object) -> Callable[..., torch.Tensor]:
        def predict(rows: torch.Tensor, *_: object) -> torch.Tensor:
            big = torch.zeros(1000)
            kept.extend((weakref.ref(rows), weakref.ref(big)))
            raise RuntimeError("CUDA out of memory")

        return predict

    monkeypatch.setattr(stable_diffusion, "predict_with", predict_with)
    events = paint_all(engine, make_work_item(make_recipe()))
    assert isinstance(events[-1], WorkFailed)
    gc.collect()
    assert {ref() for ref in kept} == {None}


def test_many_jobs_leave_no_tensors_behind(engine: Engine, make_recipe: Make, make_work_item: Make) -> None:
    def count() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    work_item = make_work_item(make_recipe(steps=2))
    paint_all(engine, work_item)
    before = count()
    for _ in range(5):
        paint_all(engine, work_item)
    assert count() <= before


def test_warm_loads_ahead_and_says_what_is_wrong(entries: dict[str, ModelEntry], tmp_path: Path) -> None:
    fresh = Engine(EngineOptions(device="cpu", threads=1, cache_dir=tmp_path))
    fresh.warm(str(entries["sd1"].path), entries["sd1"].ref)
    assert fresh.describe().resident == ("sd1",)
    assert list(tmp_path.glob("preview-*.json"))
    with pytest.raises(ModelProblem):
        fresh.warm(str(tmp_path), entries["sd2"].ref)


def test_description_names_device_and_versions(engine: Engine) -> None:
    status = engine.describe()
    assert status.device == "CPU, 1 thread"
    assert {"torch", "diffusers", "transformers"} <= set(status.versions)
