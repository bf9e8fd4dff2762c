"""What a card is not waited for: previews come with a later step, numbers that are no picture are found a step later."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from contract.work import WorkDone, WorkFailed, WorkImage, WorkItem, WorkStep
from engine.device.host_copy import HostCopy
from engine.engine import Engine, EngineOptions
from engine.images import previews
from engine.images.previews import PreviewMaker
from engine.pipeline import Progress
from engine.sampling.denoise import LatentStep
from engine.step_watch import RateLimit, StepWatch

Make = Callable[..., Any]


class LateCopy(HostCopy):
    """There at the second look."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.looks = 0

    def is_done(self) -> bool:
        self.looks += 1
        return self.looks > 1


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "HostCopy", LateCopy)
    monkeypatch.setattr("engine.step_watch.HostCopy", LateCopy)


def steps(engine: Engine, work_item: Any) -> list[WorkStep]:
    engine._preview_interval_s = 0.0
    events = list(engine.generate(work_item, lambda: False))
    assert isinstance(events[-1], WorkDone)
    return [event for event in events if isinstance(event, WorkStep)]


def test_elsewhere_it_is_there_at_once() -> None:
    copy = HostCopy(torch.sum, torch.ones(3))
    assert copy.is_done()
    assert copy.value() == 3


def test_a_preview_comes_with_a_later_step(make_recipe: Make, make_work_item: Make, late: None) -> None:
    engine = Engine(EngineOptions(device="cpu", threads=1))
    made = steps(engine, make_work_item(make_recipe(steps=6), wants_previews=True))
    assert [step.preview is not None for step in made] == [False, True, False, True, False, False]


def test_without_delay_each_step_has_its_own(make_recipe: Make, make_work_item: Make) -> None:
    engine = Engine(EngineOptions(device="cpu", threads=1))
    made = steps(engine, make_work_item(make_recipe(steps=4), wants_previews=True))
    assert [step.preview is not None for step in made] == [True, True, True, False]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_what_is_no_picture_is_found_though_nobody_waits(
    count: int, make_recipe: Make, make_work_item: Make, late: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(EngineOptions(device="cpu", threads=1))
    monkeypatch.setattr("engine.sampling.denoise.Conditions.apply_cfg", lambda self, p, _: p[:1] * float("nan"))
    events = list(engine.generate(make_work_item(make_recipe(steps=count)), lambda: False))
    assert isinstance(events[-1], WorkFailed)
    assert "at the first step" in events[-1].message
    assert not [event for event in events if isinstance(event, WorkImage)]


def test_python_is_one_step_ahead_of_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that all steps of a job would be reported, and past canceling, before the card has done the first."""
    done: list[str] = []

    class Event:
        count = 0

        def __init__(self, *, blocking: bool) -> None:
            assert blocking, "waiting takes no processor"

        def record(self, stream: str) -> None:
            Event.count += 1
            self.step = Event.count
            done.append(f"{self.step} launched on {stream}")

        def synchronize(self) -> None:
            done.append(f"{self.step} over")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: "main")
    monkeypatch.setattr("engine.step_watch.HostCopy", lambda *_: HostCopy(torch.sum, torch.ones(1)))
    work_item = WorkItem("job", 1, None, wants_previews=False)  # type: ignore[arg-type]
    watch = StepWatch(work_item, Any, PreviewMaker(), RateLimit(0.0), {}, Any)  # type: ignore[arg-type]
    for index in (1, 2, 3):
        step = LatentStep(index, 3, torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8))
        assert watch.look(Progress(step, index, 3)) is None
    assert done == ["1 launched on main", "2 launched on main", "1 over", "3 launched on main", "2 over"]


@pytest.mark.gpu
def test_on_a_card_it_comes_when_the_card_is_there() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    stream, source = torch.cuda.Stream(device), torch.full((2**20,), 2.0, device=device)
    copies = [HostCopy(lambda one: one * 3, source * number, stream) for number in range(20)]
    for number, copy in enumerate(copies):
        value = copy.value()
        assert value.is_pinned() and copy.is_done()
        assert torch.equal(value, torch.full((2**20,), 6.0 * number))


@pytest.mark.gpu
@pytest.mark.parametrize("sampler", ["euler", "euler_a", "dpmpp_2m"])
def test_on_a_card_no_step_waits_for_it(sampler: str, make_recipe: Make, make_work_item: Make) -> None:
    """Once all is loaded, recorded and fitted, the steps of a job launch their work and go on."""
    engine = Engine(EngineOptions(device="cuda"))
    work_item = make_work_item(make_recipe(steps=12, sampler=sampler), wants_previews=True)
    steps(engine, work_item)
    seen = 0
    try:
        for event in engine.generate(work_item, lambda: False):
            if isinstance(event, WorkStep):
                seen = event.index
                torch.cuda.set_sync_debug_mode("error" if 2 <= seen < 11 else "default")
            assert not isinstance(event, WorkFailed), event
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert seen == 12
