"""What is in memory, and who decides: pins, evictions by hand, models that are read ahead."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from catalog.models import ModelEntry
from contract.errors import ModelProblem, OutOfMemory
from contract.work import path_key
from engine.device.memory import Memory
from engine.models import loading
from engine.models import manager as models_module
from engine.models.manager import ModelManager
from tests.engine.test_model_manager import CPU, changed, names, poison, weights

MEGABYTE = 1_000_000


def fetch(manager: ModelManager, entry: ModelEntry) -> None:
    manager.prefetch(entry.ref, str(entry.path))
    deadline = time.monotonic() + 60
    while manager.is_fetching() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not manager.is_fetching()


def test_what_is_in_memory_is_told_with_its_size(models: ModelManager, entries: dict[str, ModelEntry]) -> None:
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)):
        (held,) = models.resident()
        assert (held.name, held.kind, held.place, held.in_use, held.is_pinned) == (
            "sd1",
            "checkpoint",
            "device",
            True,
            False,
        )
        assert 0.9 < held.bytes / entries["sd1"].size_bytes < 1.1 and held.load_s is not None
    weights(models, entries["sd1_other"])
    assert [(held.name, held.place, held.in_use) for held in models.resident()] == [
        ("sd1_other", "device", False),
        ("sd1", "memory", False),
    ]


def test_a_pinned_model_stays_and_an_unpinned_one_goes(entries: dict[str, ModelEntry]) -> None:
    manager = ModelManager(CPU, budget_bytes=3 * MEGABYTE)  # two of 1.3 MB
    weights(manager, entries["sd1"])
    manager.pin(path_key(entries["sd1"].ref), True)
    for name in ("sd1_other", "zero_snr", "sd1_other"):
        weights(manager, entries[name])
    assert "sd1" in names(manager)
    manager.pin(path_key(entries["sd1"].ref), False)
    weights(manager, entries["zero_snr"])
    assert names(manager) == ("zero_snr", "sd1_other")


def test_pinned_models_that_leave_no_room_are_named_as_the_way_out(
    entries: dict[str, ModelEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = ModelManager(CPU)
    weights(manager, entries["sd1"])
    manager.pin(path_key(entries["sd1"].ref), True)
    monkeypatch.setattr(models_module, "memory", lambda: Memory(10**9, 10))
    with pytest.raises(OutOfMemory) as caught:
        weights(manager, entries["sd1_other"])
    assert "Unpin" in caught.value.hint and names(manager) == ("sd1",)


def test_evicting_by_hand_spares_what_is_leased(models: ModelManager, entries: dict[str, ModelEntry]) -> None:
    key = path_key(entries["sd1"].ref)
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)):
        models.evict(key)
        assert names(models) == ("sd1",)
    models.evict("lora/sd1")
    assert names(models) == ("sd1",)
    models.evict(key)
    assert names(models) == ()


def test_a_model_read_ahead_is_the_same_and_costs_no_second_reading(
    models: ModelManager, entries: dict[str, ModelEntry]
) -> None:
    expected = weights(models, entries["sd1_other"])
    models.evict_all()
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
        before = bundle.onload("unet").conv_in.weight.clone()
        fetch(models, entries["sd1_other"])
        assert torch.equal(bundle.onload("unet").conv_in.weight, before)
    assert [(held.name, held.place) for held in models.resident()] == [("sd1_other", "memory"), ("sd1", "device")]
    assert list(models.prepare(entries["sd1_other"].ref, str(entries["sd1_other"].path))) == []
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(models, entries["sd1_other"]).items())


@pytest.fixture
def slow_reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Reading stops after the first tensor until the event is set."""
    go_on, fill = threading.Event(), loading.fill

    def slow(*what: object) -> Iterator[int]:
        for size in fill(*what):  # type: ignore[arg-type]
            yield size
            go_on.wait(60)

    monkeypatch.setattr(loading, "fill", slow)
    yield go_on
    go_on.set()


def test_a_job_waits_for_what_is_read_ahead_instead_of_reading_twice(
    models: ModelManager, entries: dict[str, ModelEntry], slow_reading: threading.Event
) -> None:
    entry = entries["sd1"]
    models.prefetch(entry.ref, str(entry.path))
    assert [(held.name, held.place) for held in models.resident()] == [("sd1", "coming")]
    waiting = models.prepare(entry.ref, str(entry.path))
    assert 0 <= next(waiting) < 1
    slow_reading.set()
    list(waiting)
    assert [(held.name, held.place) for held in models.resident()] == [("sd1", "memory")]


def test_another_choice_takes_the_place_of_the_one_before(
    models: ModelManager, entries: dict[str, ModelEntry], slow_reading: threading.Event
) -> None:
    models.prefetch(entries["sd1"].ref, str(entries["sd1"].path))
    threading.Timer(0.1, slow_reading.set).start()
    fetch(models, entries["sd2"])
    assert names(models) == ("sd2",)


def test_nothing_is_read_ahead_without_room_and_a_damaged_file_disturbs_nobody(
    models: ModelManager, entries: dict[str, ModelEntry], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bad = changed(entries["sd1"], tmp_path / "bad", "unet", poison(float("nan")))
    fetch(models, bad)
    assert names(models) == ()
    monkeypatch.setattr(models_module, "memory", lambda: Memory(10**9, 10))
    fetch(models, entries["sd1"])
    assert names(models) == ()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA error: out of memory"), OSError(5, "I/O error")])
def test_a_fault_while_reading_ahead_begins_ends_no_engine(
    error: Exception, models: ModelManager, entries: dict[str, ModelEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    def strike(*_: object) -> None:
        raise error

    monkeypatch.setattr(ModelManager, "_new_buffer", strike)
    fetch(models, entries["sd1"])
    assert names(models) == ()


def test_shelves_of_small_models_go_with_them(models: ModelManager, control_entries: dict[str, ModelEntry]) -> None:
    for name in ("canny", "sketch", "picture"):
        entry = control_entries[name]
        with models.lease(entry.ref, str(entry.path)):
            pass
    assert len(models._slots) == 3
    models.evict_all()
    assert models._slots == []


def test_memory_of_an_evicted_model_is_used_for_the_next_of_its_shape(entries: dict[str, ModelEntry]) -> None:
    manager = ModelManager(CPU, budget_bytes=3 * MEGABYTE)  # two of 1.3 MB
    expected = weights(ModelManager(CPU), entries["zero_snr"])
    for name in ("sd1", "sd1_other"):
        weights(manager, entries[name])
    addresses = {segment.data_ptr() for segment in next(iter(manager._models.values())).buffer.segments}
    ours = weights(manager, entries["zero_snr"])
    assert names(manager) == ("zero_snr", "sd1_other")
    (held,) = [held for held in manager._models.values() if held.ref.name == "zero_snr"]
    assert {segment.data_ptr() for segment in held.buffer.segments} == addresses
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.items())


def test_the_model_that_serves_outlives_a_failed_load_on_a_small_budget(
    entries: dict[str, ModelEntry], tmp_path: Path
) -> None:
    manager = ModelManager(CPU, budget_bytes=2 * MEGABYTE)  # one of 1.3 MB
    before = weights(manager, entries["sd1"])
    bad = changed(entries["sd1_other"], tmp_path / "bad", "vae", poison_last)
    with pytest.raises(ModelProblem):
        weights(manager, bad)
    assert names(manager) == ("sd1",)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(manager, entries["sd1"]).items())
    weights(manager, entries["sd1_other"])
    assert names(manager) == ("sd1_other",)


def poison_last(tensors: dict[str, torch.Tensor]) -> None:
    tensors[sorted(tensors)[-1]].fill_(float("inf"))
