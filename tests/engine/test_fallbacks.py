"""Memory that runs short and half precision that overflows: tried again with what helps, then named."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import SlicedAttnProcessor

from catalog.models import ModelEntry
from contract.work import WorkDone, WorkerEvent, WorkFailed, WorkImage, WorkNotice, WorkStep
from engine.device.devices import Device
from engine.engine import Engine, EngineOptions
from engine.families import stable_diffusion
from engine.images import vae

Make = Callable[..., Any]
CARD = Device(torch.device("cpu"), "a card", torch.float32, torch.float32, copies_weights=True)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[Device], Engine]:
    def make(device: Device) -> Engine:
        monkeypatch.setattr("engine.engine.choose_device", lambda *_: device)
        return Engine(EngineOptions())

    return make


@pytest.fixture
def steps_fail(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], BaseException | None]], list[int]]:
    """Lets evaluations raise: the function is given their number; returns the list of those that were asked."""

    def arm(fault: Callable[[int], BaseException | None]) -> list[int]:
        asked: list[int] = []
        original = stable_diffusion.predict_with

        def predict_with(*what: Any, **more: Any) -> Callable[..., torch.Tensor]:
            predict = original(*what, **more)

            def predicting(*rows: Any) -> torch.Tensor:
                asked.append(len(asked))
                error = fault(asked[-1])
                if error is not None:
                    raise error
                return predict(*rows)

            return predicting

        monkeypatch.setattr(stable_diffusion, "predict_with", predict_with)
        return asked

    return arm


def run(engine: Engine, work_item: Any) -> tuple[list[WorkerEvent], list[str], bytes | None]:
    events = list(engine.generate(work_item, lambda: False))
    pictures = [event.pixels.rgb for event in events if isinstance(event, WorkImage)]
    return events, [event.code for event in events if isinstance(event, WorkNotice)], pictures[0] if pictures else None


def test_a_step_without_memory_is_tried_again_with_parts_that_travel(
    on: Make, engine: Engine, steps_fail: Make, make_recipe: Make, make_work_item: Make
) -> None:
    work_item = make_work_item(make_recipe(steps=4))
    _, _, expected = run(engine, work_item)
    steps_fail(lambda number: torch.OutOfMemoryError("CUDA out of memory") if number in (2, 5) else None)
    events, notices, picture = run(on(CARD), work_item)
    assert isinstance(events[-1], WorkDone) and picture == expected
    assert notices == ["less_memory", "less_memory"]
    told = [event.index for event in events if isinstance(event, WorkStep)]
    assert told == [1, 2, 3, 4]


def test_memory_that_never_suffices_ends_in_a_sentence_and_the_next_job_works(
    on: Make, engine: Engine, steps_fail: Make, make_recipe: Make, make_work_item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_item, card = make_work_item(make_recipe()), on(CARD)
    _, _, expected = run(engine, work_item)
    asked = steps_fail(lambda number: torch.OutOfMemoryError("CUDA out of memory"))
    events, notices, picture = run(card, work_item)
    assert isinstance(events[-1], WorkFailed) and events[-1].code == "out_of_memory" and picture is None
    assert len(notices) == 4 and len(asked) == 5  # encoders, model, group, slices
    monkeypatch.undo()
    assert run(card, work_item)[2] == expected


@pytest.mark.parametrize(
    "place", ["engine.engine.plan_image", "engine.engine.acquire"], ids=["prompt", "LoRAs and controls"]
)
def test_memory_that_runs_short_before_the_first_step_is_found_the_same_way(
    place: str, on: Make, engine: Engine, make_recipe: Make, make_work_item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_item, card = make_work_item(make_recipe(steps=3)), on(CARD)
    _, _, expected = run(engine, work_item)
    module, _, name = place.rpartition(".")
    real, asked = getattr(sys.modules[module], name), list[int]()

    def short(*what: Any) -> Any:
        asked.append(len(asked))
        if len(asked) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*what)

    monkeypatch.setattr(place, short)
    events, notices, picture = run(card, work_item)
    assert isinstance(events[-1], WorkDone) and picture == expected
    assert notices == ["less_memory", "less_memory"] and len(asked) == 3
    monkeypatch.setattr(place, lambda *what: (_ for _ in ()).throw(ValueError("another fault")))
    events, notices, _ = run(card, work_item)
    assert isinstance(events[-1], WorkFailed) and notices == []


def test_the_processor_slices_its_attention_for_one_job(
    engine: Engine, steps_fail: Make, make_recipe: Make, make_work_item: Make, entries: dict[str, ModelEntry]
) -> None:
    work_item = make_work_item(make_recipe())
    _, _, expected = run(engine, work_item)
    kinds: list[set[type]] = []

    def fault(number: int) -> BaseException | None:
        (slot,) = [one for one in engine._models._slots if getattr(one.holds, "ref", None) == entries["sd1"].ref]
        kinds.append({type(processor) for processor in slot.modules["unet"].attn_processors.values()})
        return MemoryError() if number == 0 else None

    steps_fail(fault)
    events, notices, picture = run(engine, work_item)
    assert isinstance(events[-1], WorkDone) and notices == ["less_memory"]
    assert kinds[-1] == {SlicedAttnProcessor} and kinds[0] != kinds[-1]
    assert picture is not None and expected is not None
    assert max(abs(a - b) for a, b in zip(picture, expected, strict=True)) <= 1
    assert run(engine, work_item)[2] == expected


def test_other_errors_are_not_tried_again(
    engine: Engine, steps_fail: Make, make_recipe: Make, make_work_item: Make
) -> None:
    asked = steps_fail(lambda number: RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    events, notices, _ = run(engine, make_work_item(make_recipe()))
    assert isinstance(events[-1], WorkFailed) and asked == [0] and notices == []


@pytest.fixture
def nan_in_half(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """A U-Net whose half-precision numbers overflow."""
    original, in_full = stable_diffusion.predict_with, list[bool]()

    def predict_with(*what: Any, in_float32: bool = False, **more: Any) -> Callable[..., torch.Tensor]:
        predict = original(*what, in_float32=in_float32)
        in_full.append(in_float32)
        return predict if in_float32 else lambda *rows: predict(*rows) * float("nan")

    monkeypatch.setattr(stable_diffusion, "predict_with", predict_with)
    yield in_full


def test_a_unet_that_overflows_in_half_precision_is_run_in_full(
    on: Make, nan_in_half: list[bool], make_recipe: Make, make_work_item: Make
) -> None:
    card = on(replace(CARD, dtype=torch.bfloat16))
    events, notices, picture = run(card, make_work_item(make_recipe(count=2)))
    assert isinstance(events[-1], WorkDone) and picture is not None
    assert notices == ["unet_float32"] and nan_in_half == [False, True, True]


def test_full_precision_computes_what_it_says(
    on: Make, make_recipe: Make, make_work_item: Make, entries: dict[str, ModelEntry]
) -> None:
    from engine.families.unet import predict_with
    from engine.sampling.denoise import Conditions

    card = on(replace(CARD, dtype=torch.bfloat16))
    entry = entries["sd1"]
    rows, t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor(500)
    with card._models.lease(entry.ref, str(entry.path)) as bundle, torch.inference_mode():
        told = Conditions(torch.ones(2, 77, 32), (1.0,))
        wide = predict_with(bundle.onload, torch.bfloat16, in_float32=True)(rows, t, told, None)
        unet = bundle.onload("unet")
        assert unet.dtype == torch.bfloat16 and wide.dtype == torch.float32
        expected = torch.func.functional_call(
            unet,
            {k: v.float() for k, v in unet.state_dict().items()},
            (rows, t),
            {"encoder_hidden_states": told.prompt_embeds, "return_dict": False},
        )[0]
    assert torch.equal(wide, expected)


def test_numbers_that_stay_bad_are_named(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, make_recipe: Make, make_work_item: Make
) -> None:
    original = stable_diffusion.predict_with
    monkeypatch.setattr(
        stable_diffusion,
        "predict_with",
        lambda *what, **more: lambda *rows: original(*what, **more)(*rows) * float("nan"),
    )
    events, notices, picture = run(engine, make_work_item(make_recipe()))
    assert isinstance(events[-1], WorkFailed) and events[-1].code == "no_valid_picture"
    assert notices == [] and picture is None


def test_a_vae_without_memory_works_in_tiles(
    engine: Engine,
    make_recipe: Make,
    make_work_item: Make,
    monkeypatch: pytest.MonkeyPatch,
    entries: dict[str, ModelEntry],
) -> None:
    monkeypatch.setattr(vae, "_TILE", 64)
    work_item = make_work_item(make_recipe(width=128, height=128))
    run(engine, work_item)
    (slot,) = [one for one in engine._models._slots if getattr(one.holds, "ref", None) == entries["sd1"].ref]
    sides: list[int] = []

    def strike(module: object, given: tuple[torch.Tensor, ...]) -> None:
        sides.append(given[0].shape[-1])
        if sides[-1] > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = slot.modules["vae"].decoder.register_forward_pre_hook(strike)
    events, _, picture = run(engine, work_item)
    hook.remove()
    assert isinstance(events[-1], WorkDone) and picture is not None
    assert sides[0] == 16 and max(sides[1:]) == 8
    assert not slot.modules["vae"].use_tiling


def test_a_vae_for_which_there_is_no_room_begins_in_tiles(
    engine: Engine, make_recipe: Make, make_work_item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiled: list[bool] = []
    monkeypatch.setattr(vae, "free_bytes", lambda device: 1000)
    original = vae.in_tiles
    monkeypatch.setattr(vae, "in_tiles", lambda vae: tiled.append(True) or original(vae))
    assert isinstance(run(engine, make_work_item(make_recipe()))[0][-1], WorkDone)
    assert tiled == [True]
