"""Half of every batch on a second card: with the CPU as both of them, where the logic is the same."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from catalog.models import ModelEntry, describe
from contract.work import WorkDone, WorkImage, WorkItem, path_key
from engine.device import card_evaluator
from engine.device.devices import Device, second_card
from engine.engine import Engine, EngineOptions
from engine.models import second_card as module
from engine.models.manager import ModelManager
from engine.models.module_slot import ModuleSlot
from engine.models.second_card import SecondCard
from tests.engine.test_cuda_graphs import CpuRecorder
from tests.engine.test_offload import PNG
from tests.support.tiny_loras import ATTENTION, chosen, dotted, make

CPU = torch.device("cpu")
CARD = Device(CPU, "a card", copies_weights=True, records_graphs=True)
Make = Callable[..., Any]


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(card_evaluator, "CudaRecorder", CpuRecorder)
    monkeypatch.setattr("engine.engine.choose_device", lambda *_: CARD)
    monkeypatch.setattr("engine.options.second_card", lambda _: CPU)
    return Engine(EngineOptions(cfg_split=True))


def image_of(engine: Engine, work_item: WorkItem) -> WorkImage:
    events = list(engine.generate(work_item, lambda: False))
    assert isinstance(events[-1], WorkDone), events[-1]
    (image,) = [event for event in events if isinstance(event, WorkImage)]
    return image


def apart(one: WorkImage, other: WorkImage) -> int:
    return max(abs(ours - theirs) for ours, theirs in zip(one.pixels.rgb, other.pixels.rgb, strict=True))


@pytest.mark.parametrize("kind", ["sd1", "sdxl", "sd1 with a ControlNet"])
def test_images_are_those_of_one_card_and_say_so(
    kind: str,
    two_cards: Engine,
    engine: Engine,
    entries: dict[str, ModelEntry],
    control_entries: dict[str, ModelEntry],
    make_recipe: Make,
    make_work_item: Make,
) -> None:
    model, _, has_control = kind.partition(" with ")
    ref = {"sha256": sha256(PNG).hexdigest()}
    changes: dict[str, Any] = {}
    if has_control:
        changes["controls"] = ({"model": control_entries["canny"].ref, "image": ref},)
    paths = {path_key(found.ref): str(found.path) for found in (*entries.values(), *control_entries.values())}
    work_item = replace(make_work_item(make_recipe(model, **changes)), images={ref["sha256"]: PNG}, model_paths=paths)
    image = image_of(two_cards, work_item)
    assert apart(image, image_of(engine, work_item)) <= 1
    assert image.provenance["evaluated"] == "CUDA graph, two cards"


def test_what_is_not_guided_computes_on_one(two_cards: Engine, make_recipe: Make, make_work_item: Make) -> None:
    image = image_of(two_cards, make_work_item(make_recipe(guidance=1.0, negative_prompt="")))
    assert "two cards" not in image.provenance.get("evaluated", "")


def test_the_second_has_the_weights_of_swaps_and_loras(
    two_cards: Engine,
    engine: Engine,
    entries: dict[str, ModelEntry],
    make_recipe: Make,
    make_work_item: Make,
    tmp_path: Path,
) -> None:
    unet = UNet2DConditionModel.from_pretrained(str(entries["sd1"].path / "unet"))
    found = describe(make(chosen({"unet": unet}, ATTENTION), dotted).save(tmp_path / "ink.safetensors"), "ink")
    plain, other = make_work_item(make_recipe()), make_work_item(make_recipe("sd1_other"))
    with_lora = make_work_item(make_recipe(loras=({"model": found.ref, "weight": 1.0},)))
    with_lora = replace(with_lora, model_paths={**with_lora.model_paths, path_key(found.ref): str(found.path)})
    assert apart(image_of(engine, plain), image_of(engine, with_lora)) > 4
    for work_item in (plain, with_lora, other, plain):
        assert apart(image_of(two_cards, work_item), image_of(engine, work_item)) <= 1


def test_only_the_slot_in_use_has_a_second_card(entries: dict[str, ModelEntry]) -> None:
    models = ModelManager(replace(CARD, records_graphs=False, second=CPU))
    for name in ("sd1", "sdxl", "sd1"):
        with models.lease(entries[name].ref, str(entries[name].path)) as bundle:
            assert bundle.evaluator is not None
            assert isinstance(bundle.evaluator.elsewhere, SecondCard)
            others = [slot.evaluator for slot in models._slots if slot is not bundle._slot]
            assert [one.elsewhere for one in others if one] == [None] * len(others)


def test_without_room_on_the_second_one_is_enough(
    entries: dict[str, ModelEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = ModelManager(replace(CARD, second=CPU))
    allocate = ModuleSlot.allocate

    def full(self: ModuleSlot, component: str) -> None:
        if self.device.second is None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        allocate(self, component)

    monkeypatch.setattr(module.ModuleSlot, "allocate", full)
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
        assert bundle.evaluator is not None and bundle.evaluator.elsewhere is None


def test_it_is_given_up_when_memory_runs_out(entries: dict[str, ModelEntry]) -> None:
    models = ModelManager(replace(CARD, second=CPU))
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
        assert "no longer recorded" in models.use_less_device(bundle)
        assert bundle.evaluator is not None and bundle.evaluator.elsewhere is None
        assert "text encoder" in models.use_less_device(bundle)


def test_the_second_card_is_another_one_of_the_same_make(monkeypatch: pytest.MonkeyPatch) -> None:
    capabilities = [(9, 0), (7, 5), (9, 0)]
    first = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda one: capabilities[one if isinstance(one, int) else one.index]
    )
    assert second_card(first) == torch.device("cuda", 2)
    capabilities.pop()
    assert second_card(first) is None
    assert second_card(CPU) is None


def test_without_one_the_option_is_said_to_do_nothing(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(EngineOptions(device="cpu", threads=1, cfg_split=True))
    assert engine._device.second is None
    assert "no second card" in caplog.text


@pytest.mark.gpu
def test_on_cards_both_compute(
    entries: dict[str, ModelEntry], make_recipe: Make, make_work_item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one card, that is both of them."""
    first = torch.device("cuda", torch.cuda.current_device())
    monkeypatch.setattr("engine.options.second_card", lambda _: second_card(first) or first)
    split = Engine(EngineOptions(device="cuda", cfg_split=True))
    alone = Engine(EngineOptions(device="cuda", cuda_graphs=False))
    work_item = make_work_item(make_recipe(steps=6))
    image = image_of(split, work_item)
    assert "two cards" in image.provenance["evaluated"]
    assert apart(image, image_of(alone, work_item)) <= 8
