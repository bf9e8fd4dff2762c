"""CUDA graphs: what is recorded, when, and what drops it. On the CPU with a recorder that computes again; on a card for real."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from catalog.models import ModelEntry
from contract.recipe import Recipe
from contract.work import WorkDone, WorkImage, WorkItem, WorkNotice, path_key
from engine.device import card_evaluator
from engine.device.cuda_graphs import MOST_GRAPHS, CudaRecorder, Graphs, Recorded
from engine.device.devices import Device
from engine.engine import Engine, EngineOptions
from engine.families.unet import UNetCall
from engine.models.manager import ModelManager
from engine.sampling.denoise import Denoiser
from tests.engine.test_offload import PNG

CARD = Device(torch.device("cpu"), "a card", torch.float32, torch.float32, copies_weights=True, records_graphs=True)
Make = Callable[..., Any]


class CpuRecorder:
    """What a card does, on the CPU: a replay reads the recorded inputs and writes the recorded output."""

    def __init__(self, *_: object) -> None:
        self.recorded = 0
        self.problem: BaseException | None = None
        self.noise = 0.0

    def __call__(self, evaluate: Callable[[], Any]) -> Recorded[Any]:
        if self.problem:
            raise self.problem
        self.recorded += 1
        output = evaluate()

        def replay() -> None:
            for own, computed in zip(tree_leaves(output), tree_leaves(evaluate()), strict=True):
                own.copy_(computed + self.noise)

        return Recorded(replay, output)


def double(x: Tensor, t: Tensor) -> Tensor:
    return x * 2 + t


def inputs(batch: int = 1, value: float = 1.0) -> tuple[Tensor, Tensor]:
    return torch.full((batch, 3), value), torch.tensor(value)


def test_a_graph_is_recorded_at_the_second_use() -> None:
    recorder = CpuRecorder()
    graphs = Graphs(recorder)
    assert graphs.find("a", double, inputs()) is None
    assert recorder.recorded == 0
    graph = graphs.find("a", double, inputs())
    assert graph is not None and recorder.recorded == 1
    assert graphs.find("a", double, inputs(value=5.0)) is graph
    assert recorder.recorded == 1


def test_a_graph_computes_with_new_inputs_and_gives_results_away() -> None:
    graphs = Graphs(CpuRecorder())
    graphs.find("a", double, inputs())
    graph = graphs.find("a", double, inputs())
    assert graph is not None
    first = graph(*inputs(value=2.0))
    second = graph(*inputs(value=3.0))
    assert torch.equal(first, double(*inputs(value=2.0)))
    assert torch.equal(second, double(*inputs(value=3.0)))


@pytest.mark.parametrize(
    "other",
    [
        ("b", inputs()),
        ("a", inputs(batch=2)),
        ("a", (inputs()[0].double(), inputs()[1])),
        ("a", (torch.ones(1, 6)[:, ::2], inputs()[1])),
    ],
)
def test_what_differs_has_a_graph_of_its_own(other: tuple[str, tuple[Tensor, ...]]) -> None:
    recorder = CpuRecorder()
    graphs = Graphs(recorder)
    for kind, given in (("a", inputs()), other):
        assert graphs.find(kind, double, given) is None
        assert graphs.find(kind, double, given) is not None
    assert recorder.recorded == graphs.count == 2


def test_the_least_recently_used_goes_first() -> None:
    graphs = Graphs(CpuRecorder())

    def record(batch: int) -> Any:
        return graphs.find("a", double, inputs(batch)) or graphs.find("a", double, inputs(batch))

    first = record(1)
    for batch in range(2, MOST_GRAPHS + 1):
        record(batch)
    assert record(1) is first
    record(MOST_GRAPHS + 1)
    assert graphs.count == MOST_GRAPHS
    assert graphs.find("a", double, inputs(1)) is first
    assert graphs.find("a", double, inputs(2)) is None


def test_what_can_not_be_recorded_is_evaluated_eagerly() -> None:
    recorder = CpuRecorder()
    recorder.problem = torch.OutOfMemoryError("CUDA out of memory")
    graphs = Graphs(recorder)
    for _ in range(3):
        assert graphs.find("a", double, inputs()) is None
    recorder.problem = None
    assert graphs.find("a", double, inputs()) is None, "it is tried once, not at every step"
    assert graphs.count == 0


def test_a_graph_with_other_bits_is_not_used() -> None:
    recorder = CpuRecorder()
    recorder.noise = 1e-6
    graphs = Graphs(recorder)
    assert [graphs.find("a", double, inputs()) for _ in range(3)] == [None] * 3
    assert recorder.recorded == 1


def test_forgotten_graphs_are_recorded_again() -> None:
    recorder = CpuRecorder()
    graphs = Graphs(recorder)
    for _ in range(2):
        graphs.find("a", double, inputs())
    graphs.forget()
    assert graphs.count == 0
    assert graphs.find("a", double, inputs()) is None
    assert graphs.find("a", double, inputs()) is not None


@pytest.fixture
def on_card(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Engine]:
    """An engine on a device with memory of its own, whose graphs are recorded on the CPU."""
    monkeypatch.setattr(card_evaluator, "CudaRecorder", CpuRecorder)

    def make(**options: Any) -> Engine:
        monkeypatch.setattr("engine.engine.choose_device", lambda *_: CARD)
        return Engine(EngineOptions(**options))

    return make


def images(engine: Engine, work_item: WorkItem) -> list[WorkImage]:
    events = list(engine.generate(work_item, lambda: False))
    assert isinstance(events[-1], WorkDone), events[-1]
    return [event for event in events if isinstance(event, WorkImage)]


def pixels(engine: Engine, work_item: WorkItem) -> bytes:
    return b"".join(image.pixels.rgb for image in images(engine, work_item))


@pytest.mark.parametrize("kind", ["sd1", "sdxl", "sd1 with a ControlNet"])
def test_images_are_the_same_and_say_how_they_were_made(
    kind: str,
    on_card: Callable[..., Engine],
    engine: Engine,
    make_recipe: Callable[..., Recipe],
    make_work_item: Make,
    entries: dict[str, ModelEntry],
    control_entries: dict[str, ModelEntry],
) -> None:
    model, _, has_control = kind.partition(" with ")
    changes: dict[str, Any] = {"hires": {"scale": 1.5, "strength": 0.6}} if model == "sdxl" else {}
    ref = {"sha256": sha256(PNG).hexdigest()}
    if has_control:
        changes["controls"] = ({"model": control_entries["canny"].ref, "image": ref},)
    paths = {path_key(found.ref): str(found.path) for found in (*entries.values(), *control_entries.values())}
    work_item = replace(make_work_item(make_recipe(model, **changes)), images={ref["sha256"]: PNG}, model_paths=paths)
    card, plain = on_card(), on_card(cuda_graphs=False)
    expected = pixels(engine, work_item)
    for _ in range(2):
        (image,) = images(card, work_item)
        # On a processor without AVX-512 a kernel's rounding depends on where its tensors lie: a level at most.
        assert max(abs(a - b) for a, b in zip(image.pixels.rgb, expected, strict=True)) <= 1
        assert image.provenance["evaluated"] == "CUDA graph"
    recorded = [slot.evaluator.graphs.count for slot in card._models._slots if slot.evaluator and slot.evaluator.graphs]
    assert sorted(recorded) == {"sd1": [1], "sdxl": [2], "sd1 with a ControlNet": [1, 1]}[kind]
    (image,) = images(plain, work_item)
    assert image.pixels.rgb == expected
    assert "evaluated" not in image.provenance


def test_graphs_outlive_swaps(
    on_card: Callable[..., Engine], engine: Engine, make_recipe: Make, make_work_item: Make
) -> None:
    card = on_card()
    jobs = [make_work_item(make_recipe(name)) for name in ("sd1", "sd1_other", "sd1")]
    expected = [pixels(engine, job) for job in jobs]
    assert [pixels(card, job) for job in jobs] == expected
    (slot,) = card._models._slots
    assert slot.evaluator is not None and slot.evaluator.graphs is not None
    assert slot.evaluator.graphs.count == 1


def test_graphs_are_dropped_when_weights_move(entries: dict[str, ModelEntry], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_evaluator, "CudaRecorder", CpuRecorder)
    entry, models = entries["sd1"], ModelManager(CARD)
    with models.lease(entry.ref, str(entry.path)) as bundle:
        unet, evaluator = bundle.onload("unet"), bundle.evaluator
        assert evaluator is not None and evaluator.graphs is not None
        given = (torch.ones(2, 4, 8, 8), torch.tensor(1), torch.ones(2, 77, 32))
        for _ in range(2):
            evaluator(unet, UNetCall(), given)
        assert evaluator.graphs.count == 1
        bundle.offloader.set_mode("model")
        assert evaluator.graphs.count == 0
        assert bundle.evaluator is None, "its components come and go"


def test_sliced_attention_is_not_recorded(entries: dict[str, ModelEntry], monkeypatch: pytest.MonkeyPatch) -> None:
    entry, models = entries["sd1"], ModelManager(replace(CARD, attention="sliced"))
    with models.lease(entry.ref, str(entry.path)) as bundle:
        assert bundle.evaluator is None


def test_graphs_are_given_up_before_parts_leave_the_card(
    on_card: Callable[..., Engine],
    engine: Engine,
    make_recipe: Make,
    make_work_item: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work_item, card = make_work_item(make_recipe(steps=4)), on_card()
    pixels(card, work_item)
    call, failures = Denoiser.__call__, iter([torch.OutOfMemoryError("CUDA out of memory")])

    def failing(self: Denoiser, x: Tensor, sigma: Tensor) -> Tensor:
        if self.done == 2:
            for error in failures:
                raise error
        return call(self, x, sigma)

    monkeypatch.setattr(Denoiser, "__call__", failing)
    events = list(card.generate(work_item, lambda: False))
    assert isinstance(events[-1], WorkDone)
    (notice,) = [event for event in events if isinstance(event, WorkNotice)]
    assert "no longer recorded" in notice.message
    (image,) = [event for event in events if isinstance(event, WorkImage)]
    assert image.pixels.rgb == pixels(engine, work_item)
    assert "evaluated" not in image.provenance


class FakeCuda:
    """As much of torch.cuda as a recording touches, and what was done in which stream."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pools, self.done, self.fails = 0, list[str](), False
        self.current: Any = self.Stream("main", self)
        patches = {
            "Stream": lambda _: self.Stream("side", self),
            "current_stream": lambda *_: self.current,
            "stream": self.stream,
            "device": lambda _: nullcontext(),
            "CUDAGraph": self.Graph,
            "graph": self.graph,
            "graph_pool_handle": self.new_pool,
        }
        for name, fake in patches.items():
            monkeypatch.setattr(torch.cuda, name, fake)

    class Stream:
        def __init__(self, name: str, cuda: "FakeCuda") -> None:
            self.name, self.cuda = name, cuda

        def wait_stream(self, other: "FakeCuda.Stream") -> None:
            self.cuda.done.append(f"{self.name} waits for {other.name}")

    class Graph:
        recorded_in = 0

        def pool(self) -> int:
            return self.recorded_in

        def replay(self) -> None:
            raise AssertionError("nothing was asked for")

    def new_pool(self) -> int:
        self.pools += 1
        return self.pools

    @contextmanager
    def stream(self, stream: "FakeCuda.Stream") -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph: Graph, *, pool: int, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        """As torch's: the stream comes back only where the recording succeeds."""
        before, self.current, graph.recorded_in = self.current, stream, pool
        self.done.append(f"recording in pool {pool}, {capture_error_mode}")
        yield
        if self.fails:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        self.current = before


def test_a_recording_warms_up_on_its_stream_and_shares_the_pool_of_living_graphs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCuda(monkeypatch)
    recorder = CudaRecorder(torch.device("cuda", 0))

    def evaluate() -> Tensor:
        cuda.done.append(f"evaluated on {cuda.current.name}")
        return torch.zeros(1)

    first = recorder(evaluate)
    assert cuda.done == [
        "side waits for main",
        "evaluated on side",
        "evaluated on side",
        "main waits for side",
        "recording in pool 1, thread_local",
        "evaluated on side",
    ]
    second = recorder(evaluate)
    assert cuda.done[-2] == "recording in pool 1, thread_local"
    del first, second
    gc.collect()
    recorder(evaluate)
    assert cuda.done[-2] == "recording in pool 2, thread_local", "torch refuses a pool whose graphs are gone"


def test_a_recording_that_fails_gives_the_stream_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    cuda.fails = True
    graphs = Graphs(CudaRecorder(torch.device("cuda", 0)))
    assert [graphs.find("a", double, inputs()) for _ in range(3)] == [None] * 3
    assert cuda.current.name == "main"
    assert cuda.pools == 1


@pytest.fixture
def card() -> Iterator[Engine]:
    """An engine on the machine's card."""
    engine = Engine(EngineOptions(device="cuda"))
    yield engine
    engine._models.evict_all()


@pytest.mark.gpu
def test_on_a_card_graphs_give_the_eager_bits(make_recipe: Make, make_work_item: Make, card: Engine) -> None:
    eager = Engine(EngineOptions(device="cuda", cuda_graphs=False))
    for kind, size in (("sd1", 64), ("sd1_other", 64), ("sdxl", 128), ("sd1", 128)):
        work_item = make_work_item(make_recipe(kind, width=size, height=size, steps=6))
        expected = pixels(eager, work_item)
        (image,) = images(card, work_item)
        assert image.provenance["evaluated"] == "CUDA graph"
        assert image.pixels.rgb == expected


@pytest.mark.gpu
def test_on_a_card_graphs_are_recorded_again_after_all_are_gone() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    graphs = Graphs(CudaRecorder(device))
    for _ in range(3):
        given = tuple(one.to(device) for one in inputs())
        graphs.find("a", double, given)
        graph = graphs.find("a", double, given)
        assert graph is not None
        assert torch.equal(graph(*given), double(*given))
        graphs.forget()
        del graph
