"""Second copies of weights on a card: where swaps and restored layers come from. Shown on the CPU, by the same code."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from catalog.models import ModelEntry
from engine.device.devices import Device, room_for_copies
from engine.models.bundle import Bundle
from engine.models.manager import ModelManager
from engine.models.module_slot import ModuleSlot

CARD = Device(torch.device("cpu"), "a card", copies_weights=True, keeps_copies=True, memory_bytes=2**30)
NAME = "conv_in.weight"


def lease(manager: ModelManager, entry: ModelEntry) -> Any:
    return manager.lease(entry.ref, str(entry.path))


def weight(bundle: Bundle) -> torch.Tensor:
    found: torch.Tensor = bundle.onload("unet").get_parameter(NAME)
    return found.detach().clone()


def copied(manager: ModelManager) -> list[str]:
    return sorted(model.ref.name for model in manager._models.values() if model.copy)


def spoil(manager: ModelManager) -> None:
    """Write zeros over all weights in host memory: whatever is right from here on came from the card."""
    for model in manager._models.values():
        for segment in model.buffer.segments:
            segment.zero_()


def test_a_swap_and_a_restored_layer_come_from_the_card(entries: dict[str, ModelEntry]) -> None:
    manager = ModelManager(CARD)
    weights = {}
    for name in ("sd1", "sd1_other"):
        with lease(manager, entries[name]) as bundle:
            weights[name] = weight(bundle)
    assert copied(manager) == ["sd1", "sd1_other"]
    assert {held.place for held in manager.resident()} == {"device"}
    spoil(manager)
    for name in ("sd1", "sd1_other", "sd1"):
        with lease(manager, entries[name]) as bundle:
            assert torch.equal(weight(bundle), weights[name])
            bundle.replace("unet", {NAME: weights[name] + 1})
            assert torch.equal(bundle.original("unet", NAME), weights[name])
            bundle.restore("unet", [NAME])
            assert torch.equal(weight(bundle), weights[name])


def test_a_changed_layer_is_not_what_is_copied(entries: dict[str, ModelEntry]) -> None:
    manager = ModelManager(replace(CARD, keeps_copies=False))
    with lease(manager, entries["sd1"]) as bundle:
        plain = weight(bundle)
        bundle.replace("unet", {NAME: plain + 1})
    manager._device = CARD
    with lease(manager, entries["sd1"]) as bundle:
        assert copied(manager) == []
        assert torch.equal(bundle.original("unet", NAME), plain)


@pytest.mark.parametrize(("room", "expected"), [(3.1, ["sd1", "sd1_other"]), (2.1, ["sd1_other"]), (1.1, [])])
def test_older_copies_make_way(room: float, expected: list[str], entries: dict[str, ModelEntry]) -> None:
    """Room on the card for the storage of one model, and copies of two, one or none."""
    with lease(ModelManager(CARD), entries["sd1"]) as bundle:
        size = bundle._slot.layout.size
    manager = ModelManager(CARD)
    for name in ("sd1", "sd1_other"):
        manager._device = replace(CARD, memory_bytes=int((room - 1) * size))
        with lease(manager, entries[name]):
            pass
    assert copied(manager) == expected


def test_copies_make_way_for_another_form_of_model(entries: dict[str, ModelEntry]) -> None:
    manager = ModelManager(CARD)
    with lease(manager, entries["sd1"]) as bundle:
        size = bundle._slot.layout.size
    manager._device = replace(CARD, memory_bytes=int(2.5 * size))
    with lease(manager, entries["sdxl"]):
        assert "sd1" not in copied(manager)
        assert [slot.device_size > 0 for slot in manager._slots] == [True, True], "its storage did not have to go"


def test_copies_are_what_goes_first_when_memory_runs_out(
    entries: dict[str, ModelEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = ModelManager(CARD)
    with lease(manager, entries["sd1"]) as bundle:
        before = weight(bundle)
        assert manager.use_less_device(bundle) == "models that wait were taken off the card"
        assert copied(manager) == []
        assert bundle.offloader.mode == "none"
        assert torch.equal(bundle.original("unet", NAME), before)
        assert manager.use_less_device(bundle) == "the text encoder leaves the card while the picture is painted"
    with lease(manager, entries["sd1"]):
        assert copied(manager) == [], "a model whose parts come and go has none"


def test_a_full_card_has_no_copies_and_no_failure(
    entries: dict[str, ModelEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ModuleSlot, "copy_segments", full)
    manager = ModelManager(CARD)
    with lease(manager, entries["sd1"]) as bundle:
        assert bundle.offloader.mode == "none"
    assert copied(manager) == []


def test_a_copy_is_dropped_where_a_component_finds_no_room(
    entries: dict[str, ModelEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, onload = ModelManager(CARD), ModuleSlot.onload
    with lease(manager, entries["sd1"]):
        pass

    def short(self: ModuleSlot, component: str) -> None:
        if copied(manager):
            raise torch.OutOfMemoryError("CUDA out of memory")
        onload(self, component)

    monkeypatch.setattr(ModuleSlot, "onload", short)
    with lease(manager, entries["sd2"]) as bundle:
        assert bundle.offloader.mode == "none"


def test_small_cards_keep_none() -> None:
    assert room_for_copies(replace(CARD, keeps_copies=False), 0) == 0


@pytest.mark.gpu
def test_on_a_card_swaps_from_copies_and_from_memory_are_equal(entries: dict[str, ModelEntry]) -> None:
    from engine.device.devices import choose_device

    plain = replace(choose_device("cuda"), keeps_copies=False)
    managers = ModelManager(plain), ModelManager(replace(plain, keeps_copies=True))
    for name in ("sd1", "sd1_other", "sd1", "sd1_other"):
        weights = []
        for manager in managers:
            with lease(manager, entries[name]) as bundle:
                weights.append(bundle.onload("unet").state_dict())
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert copied(managers[1]) == ["sd1", "sd1_other"]


@pytest.mark.gpu
def test_on_a_card_a_changed_layer_is_restored_to_the_bit(entries: dict[str, ModelEntry]) -> None:
    from engine.device.devices import choose_device

    for keeps_copies in (False, True):
        manager = ModelManager(replace(choose_device("cuda"), keeps_copies=keeps_copies))
        with lease(manager, entries["sd1"]) as bundle:
            before = weight(bundle)
            bundle.replace("unet", {NAME: before.float() * 1.5})
            assert not torch.equal(weight(bundle), before)
            bundle.restore("unet", [NAME])
            assert torch.equal(weight(bundle), before)
