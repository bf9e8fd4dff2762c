"""The worker without a process: the same words and endings, in the calling thread."""

import logging
from collections.abc import Callable

import pytest

from contract import events
from contract.records import EngineStatus
from contract.work import Evict, Prefetch, WorkCancelled, WorkDone, WorkerEvent, WorkFailed, WorkStep, path_key
from studio.studio import Studio
from studio.workers.inline import InlineWorker
from tests.studio.conftest import run, wait_until
from tests.studio.test_process_worker import FACTORY, REF, work_item


def started(**options: object) -> tuple[InlineWorker, list[EngineStatus]]:
    said: list[EngineStatus] = []
    worker = InlineWorker(options, ("/nowhere/starter", REF), factory=FACTORY)
    worker.start(said.append)
    return worker, said


def test_it_says_what_it_does_and_paints() -> None:
    worker, said = started()
    assert isinstance(list(worker.run([work_item()]))[-1], WorkDone)
    assert [s.text for s in said] == [
        "Starting, about 8 s",
        "Loading starter",
        "starter ready",
        "Loading starter",
        "Working",
        "starter ready",
    ]
    worker.stop()


def test_it_is_cancelled_between_steps() -> None:
    worker, _ = started()
    heard: list[WorkerEvent] = []
    for event in worker.run([work_item(steps=50)]):
        heard.append(event)
        if isinstance(event, WorkStep) and event.index == 3:
            worker.cancel("j1")
    assert isinstance(heard[-1], WorkCancelled) and len(heard) < 10
    assert isinstance(list(worker.run([work_item("j2")]))[-1], WorkDone)
    worker.stop()


def test_an_engine_that_can_not_start_fails_its_jobs_by_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        worker, _said = started(fail_start=True)
        wait_until(lambda: worker.status().state == "stopped")
    ending = list(worker.run([work_item()]))[-1]
    assert isinstance(ending, WorkFailed) and ending.message.startswith("The engine could not be started")
    worker.stop()


def test_it_is_told_what_to_keep_in_memory() -> None:
    worker, _ = started()
    wait_until(lambda: worker.status().state == "ready")
    worker.tell(Evict(path_key(REF)))
    assert worker.status().resident == ()
    for event in worker.run([work_item(steps=4)]):
        if isinstance(event, WorkStep) and event.index == 2:
            worker.tell(Prefetch(REF.model_copy(update={"name": "other"}), "/nowhere/other"))
            assert worker.status().resident == ("starter",)
    assert worker.status().resident == ("starter", "other")
    worker.stop()


def test_a_studio_runs_on_it(make_studio: Callable[..., Studio]) -> None:
    studio = make_studio(InlineWorker({}, None, factory=FACTORY))
    assert isinstance(run(studio, count=2)[-1], events.Done)
