"""Jobs side by side: the same images as alone, in fewer evaluations, and nothing of one job in another."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from catalog.batching import batch_key
from contract.tasks import Upscale
from contract.values import ModelKind
from contract.work import (
    WORK_ENDINGS,
    RawImage,
    WorkCancelled,
    WorkDone,
    WorkerEvent,
    WorkFailed,
    WorkImage,
    WorkItem,
    WorkStep,
)
from engine.batching import shape_of
from engine.device.batch_table import BatchTable
from engine.device.devices import Device
from engine.engine import Engine, EngineOptions

Make = Callable[..., Any]
KINDS: tuple[ModelKind, ...] = ("checkpoint", "vae", "lora")
CPU = Device(torch.device("cpu"), "CPU")


def never() -> bool:
    return False


@pytest.fixture(scope="module")
def sharing_engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """One that lets three jobs share a batch, though it runs on a CPU."""
    cache = tmp_path_factory.mktemp("cache")
    return Engine(EngineOptions(device="cpu", threads=1, cache_dir=cache, batch_jobs=3))


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch of each evaluation of a U-Net."""
    from diffusers import UNet2DConditionModel

    seen: list[int] = []
    forward = UNet2DConditionModel.forward

    def counted(self: nn.Module, sample: Tensor, *rest: Any, **named: Any) -> Any:
        seen.append(len(sample))
        return forward(self, sample, *rest, **named)

    monkeypatch.setattr(UNet2DConditionModel, "forward", counted)
    return seen


def run_together(
    engine: Engine,
    first: WorkItem,
    joining: list[tuple[int, WorkItem]],
    is_cancelled: Callable[[str], bool] = lambda job_id: False,
) -> dict[str, list[WorkerEvent]]:
    """The events by job; each other joins when the first has done so many steps."""
    found: dict[str, list[WorkerEvent]] = {first.job_id: [], **{item.job_id: [] for _, item in joining}}
    waiting = list(joining)
    for event in engine.generate(first, lambda: is_cancelled(first.job_id)):
        found[event.job_id].append(event)
        if isinstance(event, WorkStep) and event.job_id == first.job_id:
            for at, item in tuple(waiting):
                if event.index >= at:
                    waiting.remove((at, item))
                    assert engine.join(item, lambda item=item: is_cancelled(item.job_id))
    assert waiting == []
    for events in found.values():
        assert [isinstance(event, WORK_ENDINGS) for event in events] == [False] * (len(events) - 1) + [True]
        steps = [(event.image, event.index) for event in events if isinstance(event, WorkStep)]
        assert steps == sorted(set(steps))
    return found


def image_of(events: list[WorkerEvent]) -> WorkImage:
    (image,) = [event for event in events if isinstance(event, WorkImage)]
    return image


def pixels_of(image: RawImage) -> np.ndarray:
    return np.frombuffer(image.rgb, np.uint8).astype(int)


def alone(engine: Engine, item: WorkItem) -> WorkImage:
    return image_of(list(engine.generate(item, never)))


# A sampler, its steps, a prompt, and how many jobs are in one evaluation at most.
CASES = [
    ("euler", 6, "a dog", 2),
    ("dpmpp_2m_sde", 4, "a dog", 2),
    ("heun", 3, "a dog", 2),
    ("ddim", 5, "a dog, (much:1.3) longer AND a second part", 2),
    ("euler", 4, ", ".join(["two chunks of a prompt"] * 20), 1),
]


@pytest.mark.parametrize("sampler, steps, prompt, batch", CASES)
@pytest.mark.parametrize("model", ["sd1", "sdxl"])
def test_a_job_that_joins_gets_its_own_image(
    model: str,
    sampler: str,
    steps: int,
    prompt: str,
    batch: int,
    sharing_engine: Engine,
    engine: Engine,
    make_recipe: Make,
    make_work_item: Make,
    rows: list[int],
) -> None:
    first = make_work_item(make_recipe(model, sampler="euler_a", steps=6, seed=3), job_id="first")
    other = make_work_item(make_recipe(model, sampler=sampler, steps=steps, prompt=prompt, seed=9), job_id="other")
    expected = {item.job_id: alone(engine, item) for item in (first, other)}
    rows.clear()
    found = run_together(sharing_engine, first, [(2, other)])
    for job_id, events in found.items():
        assert isinstance(events[-1], WorkDone)
        image = image_of(events)
        assert np.abs(pixels_of(image.pixels) - pixels_of(expected[job_id].pixels)).max() <= 1
        assert image.provenance["batch"] == str(batch)
    assert rows[:2] == [2, 2]
    assert (max(rows) > 2 + prompt.count(" AND ") or batch == 1) and (max(rows) == 2 or batch == 2)


def test_one_evaluation_a_step_for_all(
    sharing_engine: Engine, make_recipe: Make, make_work_item: Make, rows: list[int]
) -> None:
    items = [make_work_item(make_recipe(sampler="euler", steps=8, seed=seed), job_id=f"job{seed}") for seed in range(3)]
    run_together(sharing_engine, items[0], [(1, items[1]), (3, items[2])])
    # All three are always in one batch from their first step on: 24 steps in 1 + 8 + 2 evaluations.
    assert sum(rows) == 24 * 2
    assert len(rows) == 11
    assert max(rows) == 6


def test_what_runs_alone_has_the_bits_it_always_had(
    sharing_engine: Engine, engine: Engine, make_recipe: Make, make_work_item: Make
) -> None:
    item = make_work_item(make_recipe(count=2, sampler="euler_a"))
    images = [
        [event.pixels for event in one.generate(item, never) if isinstance(event, WorkImage)]
        for one in (sharing_engine, engine)
    ]
    assert images[0] == images[1]


def test_who_may_not_join(sharing_engine: Engine, make_recipe: Make, make_work_item: Make) -> None:
    def item(name: str, *model: str, **changes: object) -> WorkItem:
        made: WorkItem = make_work_item(make_recipe(*model, steps=4, **changes), job_id=name)
        return made

    assert not sharing_engine.join(item("early"), never)  # nothing runs
    refused = [
        item("other-model", "sd1_other"),
        item("other-size", width=128),
        item("unguided", guidance=1.0),
    ]
    accepted = 0
    for event in sharing_engine.generate(item("first"), never):
        if isinstance(event, WorkStep) and (event.job_id, event.index) == ("first", 1):
            assert [sharing_engine.join(other, never) for other in refused] == [False] * 3
            for number in range(3):
                accepted += sharing_engine.join(item(f"more{number}"), never)
    assert accepted == 2  # three at once are the most
    assert sharing_engine.describe().batch_jobs == 1  # nothing runs


def test_a_hash_that_becomes_known_keeps_nobody_out(make_recipe: Make) -> None:
    from contract.parts import LoraUse
    from contract.tasks import Generate
    from contract.values import ModelRef

    def key(model: str = "one", **changes: Any) -> tuple[object, ...] | None:
        refs = {kind: ModelRef(kind=kind, name=kind, family="sd1", fingerprint=model, **changes) for kind in KINDS}
        recipe = make_recipe().model_copy(
            update={"model": refs["checkpoint"], "vae": refs["vae"], "loras": (LoraUse(model=refs["lora"]),)}
        )
        return batch_key(Generate(recipe=recipe))

    assert key() == key(sha256="a" * 64) != key("two", sha256="a" * 64)
    assert key("", sha256="a" * 64) != key("", sha256="b" * 64)  # then only the hash tells


def test_what_has_no_batch(make_recipe: Make) -> None:
    from contract.tasks import Generate

    recipe = make_recipe()
    assert batch_key(Generate(recipe=recipe)) == batch_key(Generate(recipe=recipe.model_copy(update={"seed": 99})))
    hypernetwork = {"hypernetworks": ("any",)}
    assert batch_key(Generate.model_construct(recipe=recipe.model_copy(update=hypernetwork))) is None
    assert batch_key(Upscale.model_construct()) is None
    assert shape_of(Upscale.model_construct()) == ""


def test_a_canceled_job_leaves_the_others(
    sharing_engine: Engine, engine: Engine, make_recipe: Make, make_work_item: Make
) -> None:
    first = make_work_item(make_recipe(steps=6, seed=1), job_id="first")
    other = make_work_item(make_recipe(steps=6, seed=2), job_id="other")
    expected = alone(engine, other)
    looked = []

    def is_cancelled(job_id: str) -> bool:
        looked.append(job_id)
        return job_id == "first" and looked.count("first") > 5

    found = run_together(sharing_engine, first, [(1, other)], is_cancelled)
    assert isinstance(found["first"][-1], WorkCancelled)
    assert isinstance(found["other"][-1], WorkDone)
    image = image_of(found["other"])
    assert np.abs(pixels_of(image.pixels) - pixels_of(expected.pixels)).max() <= 1


def test_memory_that_does_not_suffice_for_a_batch(
    engine: Engine, make_recipe: Make, make_work_item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import UNet2DConditionModel

    forward = UNet2DConditionModel.forward

    def small(self: nn.Module, sample: Tensor, *rest: Any, **named: Any) -> Any:
        if len(sample) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, sample, *rest, **named)

    monkeypatch.setattr(UNet2DConditionModel, "forward", small)
    sharing = Engine(EngineOptions(device="cpu", threads=1, batch_jobs=2))
    items = [make_work_item(make_recipe(steps=4, seed=seed), job_id=f"job{seed}") for seed in (1, 2)]
    late = make_work_item(make_recipe(steps=4, seed=3), job_id="late")
    statuses = []
    found: dict[str, WorkImage] = {}
    for event in sharing.generate(items[0], never):
        if isinstance(event, WorkStep) and (event.job_id, event.index) == ("job1", 1):
            assert sharing.join(items[1], never)
        if isinstance(event, WorkStep) and event.index == 3:
            statuses.append(sharing.describe().batch_jobs)
            assert not sharing.join(late, never)
        if isinstance(event, WorkImage):
            found[event.job_id] = event
        assert not isinstance(event, WorkFailed)
    assert statuses == [1, 1]  # no more batches in this run
    for item in items:
        assert found[item.job_id].pixels == alone(engine, item).pixels  # each evaluated alone, to the bit
        assert found[item.job_id].provenance["batch"] == "1"


def test_one_job_fails_and_the_other_does_not(
    sharing_engine: Engine, make_recipe: Make, make_work_item: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine import engine as engine_module

    finish = engine_module.finish

    def fail_first(plan: Any, latents: Any) -> Any:
        if plan.recipe.seed == 1:
            raise RuntimeError("the VAE broke")
        return finish(plan, latents)

    monkeypatch.setattr(engine_module, "finish", fail_first)
    items = [make_work_item(make_recipe(steps=3, seed=seed), job_id=f"job{seed}") for seed in (1, 2)]
    found = run_together(sharing_engine, items[0], [(1, items[1])])
    assert isinstance(found["job1"][-1], WorkFailed)
    assert isinstance(found["job2"][-1], WorkDone)


def test_a_job_that_is_given_up_before_its_turn_does_nothing(
    sharing_engine: Engine, make_recipe: Make, make_work_item: Make, rows: list[int]
) -> None:
    events: Iterator[WorkerEvent] = sharing_engine.generate(make_work_item(make_recipe(steps=6), job_id="first"), never)
    for event in events:
        if isinstance(event, WorkStep) and event.index == 2:
            assert sharing_engine.join(make_work_item(make_recipe(steps=6), job_id="other"), never)
            break
    done = len(rows)
    events.close()  # type: ignore[attr-defined]
    assert len(rows) == done
    assert not any(model.in_use for model in sharing_engine.describe().models)


def test_a_run_that_is_given_up_leaves_no_thread_and_no_lease(
    sharing_engine: Engine, make_recipe: Make, make_work_item: Make
) -> None:
    before = threading.active_count()
    events: Iterator[WorkerEvent] = sharing_engine.generate(make_work_item(make_recipe(steps=6), job_id="first"), never)
    for event in events:
        if isinstance(event, WorkStep) and event.index == 2:
            assert sharing_engine.join(make_work_item(make_recipe(steps=6), job_id="other"), never)
        if isinstance(event, WorkStep) and event.job_id == "other":
            break
    events.close()  # type: ignore[attr-defined]
    assert threading.active_count() <= before + 1  # the pool's thread may just be ending
    assert not any(model.in_use for model in sharing_engine.describe().models)
    assert not sharing_engine.join(make_work_item(make_recipe(), job_id="late"), never)


# The table of a device


class Card:
    """A device whose evaluation of n images takes some seconds, and its clock."""

    def __init__(self, seconds: dict[int, float], most: int = 99) -> None:
        self.now, self.sizes = 0.0, []
        self._seconds, self._most = seconds, most

    def evaluate(self, size: int) -> None:
        self.sizes.append(size)
        if size > self._most:
            raise torch.OutOfMemoryError("out of memory")
        self.now += self._seconds[size]

    def clock(self) -> float:
        return self.now


CUDA = Device(torch.device("cuda", 0), "A card", torch.float16)
IDLE = {1: 0.01, 2: 0.011, 4: 0.013, 8: 0.02}
TABLE = [
    (IDLE, 99, 8),
    (IDLE, 4, 4),  # memory for four
    ({1: 0.01, 2: 0.0195, 4: 0.04, 8: 0.08}, 99, 1),  # one fills it
    ({1: 0.01, 2: 0.012, 4: 0.023, 8: 0.05}, 99, 2),
    ({1: 1.0, 2: 1.01, 4: 1.02, 8: 1.03}, 99, 1),  # too slow to try all
]


@pytest.mark.parametrize("seconds, memory, most", TABLE)
def test_the_table_is_measured_once(seconds: dict[int, float], memory: int, most: int, tmp_path: Path) -> None:
    card, table = Card(seconds, memory), BatchTable(CUDA, tmp_path)
    assert table.most("shape") == 1 and not table.knows("shape")
    table.measure("shape", card.evaluate, card.clock)
    assert table.most("shape") == most
    tried = len(card.sizes)
    table.measure("shape", card.evaluate, card.clock)
    BatchTable(CUDA, tmp_path).measure("shape", card.evaluate, card.clock)  # at the next start
    assert len(card.sizes) == tried
    assert BatchTable(CUDA, tmp_path).most("shape") == most
    assert not BatchTable(CUDA, tmp_path).knows("another")


def test_an_error_of_a_batch_ends_the_measuring_and_nothing_else(tmp_path: Path) -> None:
    def evaluate(size: int) -> None:
        if size > 1:
            raise RuntimeError("no kernel for this batch")

    table = BatchTable(CUDA, tmp_path)
    table.measure("shape", evaluate, iter(range(1000)).__next__)
    assert table.knows("shape") and table.most("shape") == 1


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"shape": "many"}', '{"shape": 3}'])
def test_a_damaged_table_is_measured_again(content: str, tmp_path: Path) -> None:
    card = Card(IDLE)
    BatchTable(CUDA, tmp_path).measure("shape", card.evaluate, card.clock)
    (file,) = tmp_path.iterdir()
    file.write_text(content, "utf-8")
    assert BatchTable(CUDA, tmp_path).most("shape") == 1
    table = BatchTable(CUDA, tmp_path)
    table.measure("shape", card.evaluate, card.clock)
    assert table.most("shape") == 8


def test_a_cpu_has_no_batches_unless_they_are_asked_for() -> None:
    assert BatchTable(CPU).knows("shape") and BatchTable(CPU).most("shape") == 1
    assert BatchTable(CPU, forced=4).most("shape") == 4
    assert BatchTable(CUDA, forced=1).most("shape") == 1


def test_a_shape_is_measured_with_its_first_image(
    make_recipe: Make, make_work_item: Make, monkeypatch: pytest.MonkeyPatch, rows: list[int]
) -> None:
    """As on a card: the first job runs alone and is measured while it still holds its model; later ones may join."""
    monkeypatch.setattr(BatchTable, "is_measured", property(lambda self: True))
    engine = Engine(EngineOptions(device="cpu", threads=1))
    events = engine.generate(make_work_item(make_recipe(steps=2)), never)
    for event in events:
        if isinstance(event, WorkImage):
            assert max(rows) == 2
    assert max(rows) >= 4  # sizes that were tried after it
    expected = engine._side_by_side._table.most(shape_of(make_work_item(make_recipe()).task))
    assert expected in (1, 2, 4, 8)
    tried = len(rows)
    list(engine.generate(make_work_item(make_recipe(steps=2)), never))
    assert len(rows) == tried + 2
