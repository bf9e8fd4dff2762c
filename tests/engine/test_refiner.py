"""A second model takes over while an image is made: held beside the first, or in turns with it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from catalog.models import ModelEntry, describe
from contract.work import WorkDone, WorkerEvent, WorkFailed, WorkImage, WorkItem, WorkLoading, WorkStep, path_key
from engine.device.devices import Device
from engine.engine import Engine, EngineOptions
from engine.models.bundle import Bundle
from engine.models.manager import ModelManager
from tests.engine.conftest import CPU

CARD = Device(torch.device("cpu"), "a card", torch.float32, torch.float32, copies_weights=True)
Make = Callable[..., Any]
STEPS = 6


@pytest.fixture(scope="module")
def twin(entries: dict[str, ModelEntry], tmp_path_factory: pytest.TempPathFactory) -> ModelEntry:
    """SDXL's weights under another name."""
    folder = tmp_path_factory.mktemp("twin") / "twin"
    shutil.copytree(entries["sdxl"].path, folder)
    return describe(folder, "twin")


def refined(entry: ModelEntry, at: float = 0.5) -> dict[str, object]:
    return {"refiner": {"model": entry.ref, "at": at}, "steps": STEPS}


def run(engine: Engine, work_item: WorkItem) -> list[WorkerEvent]:
    events = list(engine.generate(work_item, lambda: False))
    assert isinstance(events[-1], WorkDone), events[-1]
    return events


def pictures(events: list[WorkerEvent]) -> list[str]:
    return [sha256(event.pixels.rgb).hexdigest() for event in events if isinstance(event, WorkImage)]


def with_paths(work_item: WorkItem, *entries: ModelEntry) -> WorkItem:
    paths = {path_key(entry.ref): str(entry.path) for entry in entries}
    return replace(work_item, model_paths={**work_item.model_paths, **paths})


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler_a", "heun", "dpm_adaptive"])
def test_a_twin_takes_over_and_nothing_changes(
    sampler: str, twin: ModelEntry, engine: Engine, make_recipe: Make, make_work_item: Make
) -> None:
    """Also what the solver remembers of the steps before goes on."""
    alone = run(engine, make_work_item(make_recipe("sdxl", sampler=sampler, steps=STEPS)))
    recipe = make_recipe("sdxl", sampler=sampler, **refined(twin))
    events = run(engine, with_paths(make_work_item(recipe), twin))
    assert pictures(events) == pictures(alone)
    steps = [event.index for event in events if isinstance(event, WorkStep)]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > STEPS // 2


def test_the_refiner_changes_the_end_and_not_the_beginning(
    entries: dict[str, ModelEntry], engine: Engine, make_recipe: Make, make_work_item: Make
) -> None:
    def made(**deltas: object) -> list[str]:
        return pictures(run(engine, make_work_item(make_recipe("sdxl", **{"steps": STEPS, **deltas}))))

    plain = made()
    assert made(**refined(entries["sdxl_refiner"])) != plain
    assert made(**refined(entries["sdxl_refiner"], at=1.0)) == plain
    # A hires pass is what it finishes; of a first pass that is whole it sees nothing.
    hires: dict[str, object] = {"hires": {"scale": 1.5, "upscaler": "latent", "strength": 0.5}}
    assert made(**hires, **refined(entries["sdxl_refiner"], at=0.9)) != made(**hires)
    assert made(**hires, **refined(entries["sdxl_refiner"], at=1.0)) == made(**hires)


def test_models_of_other_predictions_go_on_with_each_other(
    entries: dict[str, ModelEntry], engine: Engine, make_recipe: Make, make_work_item: Make
) -> None:
    """v-prediction with zero SNR after epsilon: told the same noise in its own timesteps."""
    for first, second in (("sd1", "zero_snr"), ("zero_snr", "sd1")):
        recipe = make_recipe(first, schedule="sgm_uniform", **refined(entries[second]))
        assert len(pictures(run(engine, make_work_item(recipe)))) == 1


def test_a_refiner_from_the_start_is_the_refiner_alone(
    entries: dict[str, ModelEntry], engine: Engine, make_recipe: Make, make_work_item: Make
) -> None:
    refiner = entries["sdxl_refiner"]
    both = make_work_item(make_recipe("sdxl", **refined(refiner, at=0.0)))
    assert pictures(run(engine, both)) == pictures(
        run(engine, make_work_item(make_recipe("sdxl_refiner", steps=STEPS)))
    )


@pytest.fixture
def short_of_memory(entries: dict[str, ModelEntry], tmp_path: Path) -> Iterator[Engine]:
    """An engine whose budget holds one SDXL model, and not its refiner beside it."""
    manager = ModelManager(CPU)
    sizes = []
    for name in ("sdxl", "sdxl_refiner"):
        with manager.lease(entries[name].ref, str(entries[name].path)) as bundle:
            sizes.append(bundle.size)
    budget = max(sizes) + min(sizes) // 2
    yield Engine(EngineOptions(device="cpu", threads=1, cache_dir=tmp_path, memory_budget_bytes=budget))


def test_where_memory_is_short_the_two_take_turns(
    entries: dict[str, ModelEntry], engine: Engine, short_of_memory: Engine, make_recipe: Make, make_work_item: Make
) -> None:
    work_item = make_work_item(make_recipe("sdxl", count=2, **refined(entries["sdxl_refiner"])))
    beside, turns = run(engine, work_item), run(short_of_memory, work_item)
    assert pictures(turns) == pictures(beside) and len(set(pictures(turns))) == 2
    said = [event.what if isinstance(event, WorkLoading) else "." for event in turns]
    after_steps = said[said.index(".") :]
    assert "sdxl_refiner" in after_steps and "sdxl" in after_steps  # each as it comes again
    held = short_of_memory.describe().models
    assert sum(model.bytes for model in held) <= short_of_memory.describe().budget_bytes
    assert pictures(run(short_of_memory, work_item)) == pictures(beside)


def test_a_job_that_is_given_up_in_turns_leaves_all_as_it_was(
    entries: dict[str, ModelEntry], engine: Engine, short_of_memory: Engine, make_recipe: Make, make_work_item: Make
) -> None:
    work_item = make_work_item(make_recipe("sdxl", **refined(entries["sdxl_refiner"])))
    steps = 0

    def is_cancelled() -> bool:
        return steps > STEPS // 2

    for event in short_of_memory.generate(work_item, is_cancelled):
        steps += isinstance(event, WorkStep)
    assert not isinstance(event, WorkDone | WorkFailed) and not [
        model for model in short_of_memory.describe().models if model.in_use
    ]
    plain = make_work_item(make_recipe("sdxl"))
    assert pictures(run(short_of_memory, plain)) == pictures(run(engine, plain))


def on_the_card(bundle: Bundle) -> set[str]:
    return set(bundle._slot.storage)


def test_on_a_card_that_holds_one_of_them_the_other_makes_way(entries: dict[str, ModelEntry]) -> None:
    first, second = entries["sdxl"], entries["sdxl_refiner"]
    with ExitStack() as leases:
        large = ModelManager(replace(CARD, memory_bytes=2**30))
        one = leases.enter_context(large.lease(first.ref, str(first.path)))
        two = leases.enter_context(large.lease(second.ref, str(second.path), rival=one))
        assert "unet" in on_the_card(one) and "unet" in on_the_card(two)
        needed = one.size
    with ExitStack() as leases:
        small = ModelManager(replace(CARD, memory_bytes=int(needed * 1.5)))
        one = leases.enter_context(small.lease(first.ref, str(first.path)))
        assert "unet" in on_the_card(one)
        with small.lease(second.ref, str(second.path), rival=one) as two:
            two.onload("unet")
            assert on_the_card(two) == {"unet"} and not on_the_card(one)
            one.onload("vae")
            assert on_the_card(one) == {"vae"} and not on_the_card(two)
        one.onload("unet")
        assert on_the_card(one) == {"vae", "unet"}


def test_a_parked_model_comes_back_to_the_bit(entries: dict[str, ModelEntry]) -> None:
    entry = entries["sdxl"]
    for device in (CPU, CARD):
        manager = ModelManager(device)
        with manager.lease(entry.ref, str(entry.path)) as bundle:
            name, weight = next(iter(bundle.onload("unet").named_parameters()))
            before = weight.clone()
            other = next(key for key, value in bundle.modules["unet"].named_parameters() if key != name)
            bundle.replace("unet", {other: torch.full_like(bundle.modules["unet"].get_parameter(other), 3.0)})
            manager.park(bundle)
            assert sum(model.bytes for model in manager.resident()) < bundle.size / 2
            bundle.onload("vae")
            assert list(manager.unpark(bundle))[-1] == 1.0 and not list(manager.unpark(bundle))
            unet = bundle.onload("unet")
            assert torch.equal(unet.get_parameter(name), before)
            assert torch.equal(unet.get_parameter(other), torch.full_like(unet.get_parameter(other), 3.0))
            bundle.restore("unet", [other])
            assert not torch.equal(unet.get_parameter(other), torch.full_like(unet.get_parameter(other), 3.0))
            manager.park(bundle)
        assert not manager.resident()  # parked at the end of its lease
