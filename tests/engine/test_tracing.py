"""A U-Net is traced in idle time, where that is of use; what it makes stays the same, bit for bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contract.recipe import Recipe
from contract.work import WorkImage, WorkItem
from engine.device import tracing
from engine.device.evaluations import Call, Evaluation, Evaluations, Outputs
from engine.engine import Engine


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models and a busy machine: a trace counts as quick enough, whatever its time."""
    monkeypatch.setattr(tracing, "_LONGEST_S", 1000.0)
    monkeypatch.setattr(tracing, "_LEAST_GAIN", 1000.0)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x))


def call(module: nn.Module, x: Tensor) -> Outputs:
    return (module(x),)


def traced(module: nn.Module, x: Tensor, by: Call = call, eager_s: float = 0.0) -> Any:
    evaluations = Evaluations()
    evaluations.run(module, "unet", by, (x,), "", True)
    (wanted,) = evaluations.wanted.values()
    wanted.seconds = eager_s
    return tracing.trace(wanted)


def test_a_trace_sees_weights_that_are_swapped_or_changed(always: None) -> None:
    module, x = Small(), torch.randn(2, 4)
    trace = traced(module, x)
    for weight in (torch.randn(4, 4), torch.zeros(4, 4)):
        module.layer.weight.data = weight  # as a swap and a LoRA do on a CPU
        assert torch.equal(trace(x)[0], module(x))
    module.layer.weight.data.copy_(torch.ones(4, 4))
    assert torch.equal(trace(x)[0], module(x))


def test_what_gives_other_bits_is_not_used(always: None) -> None:
    """The same module never evaluates to the same twice: no trace of it is equal."""
    assert traced(Small(), torch.randn(2, 4), by=lambda module, x: (module(x) + torch.rand(()),)) is None


def test_what_can_not_be_traced_is_not_used(always: None) -> None:
    def broken(module: nn.Module, x: Tensor) -> Outputs:
        if torch.jit.is_tracing():
            raise RuntimeError("not like this")
        return (module(x),)

    assert traced(Small(), torch.randn(2, 4), by=broken) is None


@pytest.mark.parametrize(
    ("eager_s", "traced_s", "is_used"), [(0.1, 0.05, True), (0.1, 0.099, False), (0.1, 0.2, False), (9.0, 1.0, False)]
)
def test_only_what_is_quicker_is_used(
    eager_s: float, traced_s: float, is_used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(evaluate: Any, inputs: Any, times: int) -> float:
        return traced_s if isinstance(evaluate, torch.jit.ScriptModule) else eager_s

    monkeypatch.setattr(tracing, "seconds_of", seconds)
    assert (traced(Small(), torch.randn(2, 4), eager_s=eager_s) is not None) == is_used


def test_a_long_evaluation_is_not_repeated_in_idle_time() -> None:
    calls = []

    def counted(module: nn.Module, x: Tensor) -> Outputs:
        calls.append(x)
        return (module(x),)

    assert traced(Small(), torch.randn(2, 4), by=counted, eager_s=20.0) is None
    assert len(calls) == 1  # a job that comes in idle time would wait for more


def pixels(engine: Engine, work_item: WorkItem) -> bytes:
    (image,) = [event for event in engine.generate(work_item, lambda: False) if isinstance(event, WorkImage)]
    return image.pixels.rgb


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])  # float and whole timesteps
def test_jobs_make_the_same_images_before_and_after(
    sampler: str,
    always: None,
    engine: Engine,
    make_recipe: Callable[..., Recipe],
    make_work_item: Callable[..., WorkItem],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[bool] = []
    find = Evaluations.find

    def counted(self: Evaluations, component: str, *what: Any) -> Evaluation | None:
        found = find(self, component, *what)
        if component == "unet":
            used.append(found is not None)
        return found

    monkeypatch.setattr(Evaluations, "find", counted)
    first, other = (make_work_item(make_recipe(model, sampler=sampler, width=72)) for model in ("sd1", "sd1_other"))
    before = pixels(engine, first), pixels(engine, other)
    used.clear()
    while engine.tidy():
        pass
    assert (pixels(engine, first), pixels(engine, other)) == before
    assert used and all(used)
