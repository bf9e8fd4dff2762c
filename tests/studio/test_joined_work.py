"""Work items that join one that runs in a spawned process: each ends for itself, whatever happens to the others."""

from collections.abc import Iterator

import pytest

from contract.work import WORK_ENDINGS, WorkCancelled, WorkDone, WorkerEvent, WorkFailed, WorkItem, WorkStep
from tests.studio.conftest import wait_until
from tests.studio.test_process_worker import Engine, work_item


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = Engine(step_s=0.01, hang_s=1.0, cancel_s=0.5, batch_jobs=2)
    made.wait_ready()
    yield made
    made.worker.stop()


def run_joined(engine: Engine, first: WorkItem, *joining: WorkItem) -> dict[str, list[WorkerEvent]]:
    """The events by job; the others are sent with the first step of the first."""
    found: dict[str, list[WorkerEvent]] = {item.job_id: [] for item in (first, *joining)}
    waiting = list(joining)
    for event in engine.worker.run([first]):
        found[event.job_id].append(event)
        while waiting and isinstance(event, WorkStep):
            assert engine.worker.join(waiting.pop(0))
    for events in found.values():
        assert [isinstance(event, WORK_ENDINGS) for event in events] == [False] * (len(events) - 1) + [True]
    return found


def test_each_gets_its_own_events_and_its_own_end(engine: Engine) -> None:
    assert not engine.worker.join(work_item("early"))  # nothing runs
    found = run_joined(engine, work_item("a", steps=30), work_item("b", steps=4, count=2), work_item("late", steps=3))
    assert [type(events[-1]) for events in found.values()] == [WorkDone] * 3  # the third ran after the two
    assert max(event.index for event in found["b"] if isinstance(event, WorkStep)) == 4
    wait_until(lambda: any(status.batch_jobs == 2 for status in engine.said))
    wait_until(lambda: engine.worker.status().state == "ready")
    assert engine.worker.status().batch_jobs == 1


def test_one_is_canceled_and_the_other_goes_on(engine: Engine) -> None:
    found: dict[str, list[WorkerEvent]] = {"a": [], "b": []}
    for event in engine.worker.run([work_item("a", steps=60)]):
        found[event.job_id].append(event)
        if isinstance(event, WorkStep) and len(found["a"]) == 2:
            assert engine.worker.join(work_item("b", steps=20))
        if event.job_id == "b" and isinstance(event, WorkStep):
            engine.worker.cancel("a")
    assert isinstance(found["a"][-1], WorkCancelled) and isinstance(found["b"][-1], WorkDone)
    assert max(event.index for event in found["a"] if isinstance(event, WorkStep)) < 60
    assert isinstance(run_joined(engine, work_item("a", attempt=2))["a"][-1], WorkDone)  # the cancel is over


@pytest.mark.parametrize("word, code", [("[die]", "worker_died"), ("[hang]", "worker_hung")])
def test_when_the_process_fails_all_fail(word: str, code: str, engine: Engine) -> None:
    found = run_joined(engine, work_item("a", steps=80), work_item("b", prompt=word))
    for events in found.values():
        ending = events[-1]
        assert isinstance(ending, WorkFailed) and ending.code == code and "started again" in ending.message
    assert isinstance(run_joined(engine, work_item("c"))["c"][-1], WorkDone)


def test_a_canceled_job_that_hangs_is_over_and_takes_the_process_with_it(engine: Engine) -> None:
    """Its step does not end: the process is killed, and what ran beside it has died with it."""
    found: dict[str, list[WorkerEvent]] = {"a": [], "b": []}
    for event in engine.worker.run([work_item("a", steps=150)]):
        found[event.job_id].append(event)
        if isinstance(event, WorkStep) and len(found["a"]) == 2:
            assert engine.worker.join(work_item("b", prompt="[hang]"))
        if event.job_id == "b" and isinstance(event, WorkStep) and event.index == 2:
            engine.worker.cancel("b")
    assert isinstance(found["b"][-1], WorkCancelled)
    ending = found["a"][-1]
    assert isinstance(ending, WorkFailed) and ending.code in ("worker_died", "worker_hung")
    assert isinstance(run_joined(engine, work_item("c"))["c"][-1], WorkDone)
