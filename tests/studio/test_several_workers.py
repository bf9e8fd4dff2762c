"""Several workers at one queue: each runs a job, one that fails costs its own, and the engine says one sentence."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from contract import events
from contract.records import EngineStatus, ResidentModel
from contract.work import Evict, Prefetch, Worker, WorkerEvent, Workers, WorkFailed, WorkItem
from studio.jobs.engine_pool import summarize
from studio.studio import Studio
from studio.workers.cards import OtherCards
from studio.workers.process import ProcessWorker
from tests.studio.conftest import ME, YOU, draft, finish, settings_for, wait_until
from tests.studio.test_process_worker import FACTORY
from tests.support.fakes import FakeWorker
from tests.support.model_folders import make_model


class Mortal(FakeWorker):
    """A worker that fails as a process does that has died, or as a node that is lost for good."""

    def __init__(self, *, is_lost: bool = False) -> None:
        super().__init__()
        self.is_lost = is_lost

    def run(self, work_items: Sequence[WorkItem]) -> Iterator[WorkerEvent]:
        self.work_items += work_items
        if self.is_lost:
            self.say("stopped", "Engine stopped")
        for work_item in work_items:
            yield WorkFailed(work_item.job_id, "worker_died", "The engine stopped.")


class Crew:
    """What looks for workers, as a test wants it."""

    replaces_lost = True

    def start(self, add: Callable[[Worker], None], remove: Callable[[Worker], None]) -> None:
        self.add, self.remove = add, remove

    def status(self) -> EngineStatus:
        return EngineStatus(state="starting", text="Nobody yet")

    def on_statuses(self, statuses: object) -> None:
        self.statuses = statuses

    def stop(self) -> None:
        pass


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Studio]]:
    started: list[Studio] = []

    def begin(*workers: Worker, more: Workers | None = None) -> Studio:
        studio = Studio(settings_for(tmp_path), *workers, more=more)
        started.append(studio)
        studio.start()
        studio.models(fresh=True)
        return studio

    yield begin
    for studio in started:
        studio.stop()


def held(count: int) -> list[FakeWorker]:
    """Workers that stop in mid-step."""
    workers = [FakeWorker() for _ in range(count)]
    for worker in workers:
        worker.gate.clear()
    return workers


def state_of(studio: Studio, job_id: str) -> str:
    return studio.job(job_id, ME).job.state


def test_each_worker_runs_a_job_and_the_next_waits_for_the_first_that_is_free(make: Callable[..., Studio]) -> None:
    first, second = held(2)
    studio = make(first, second)
    jobs = [studio.submit(draft(), ME).id for _ in range(3)]
    wait_until(lambda: [state_of(studio, job) for job in jobs] == ["running", "running", "queued"])
    assert [row.position for row in studio.queue(ME)] == [0, 0, 2]
    wait_until(lambda: studio.engine().text == "2 engines working")
    second.gate.set()
    for job in {t.job_id for t in second.work_items} | {jobs[2]}:
        assert isinstance(finish(studio, job)[-1], events.Done)
    first.gate.set()
    for job in jobs:
        finish(studio, job)
    assert (len(first.work_items), len(second.work_items)) == (1, 2)
    assert first.most_at_once == second.most_at_once == 1


def test_a_job_is_cancelled_where_it_runs(make: Callable[..., Studio]) -> None:
    first, second = held(2)
    studio = make(first, second)
    jobs = [studio.submit(draft(), ME).id for _ in range(2)]
    wait_until(lambda: [state_of(studio, job) for job in jobs] == ["running", "running"])
    wait_until(lambda: bool(first.work_items and second.work_items))
    studio.cancel(second.work_items[0].job_id, ME)
    assert isinstance(finish(studio, second.work_items[0].job_id)[-1], events.Cancelled)
    assert state_of(studio, first.work_items[0].job_id) == "running"
    first.gate.set()
    assert isinstance(finish(studio, first.work_items[0].job_id)[-1], events.Done)


def test_a_job_goes_where_its_model_is_and_that_worker_reads_ahead(make: Callable[..., Studio], tmp_path: Path) -> None:
    make_model(settings_for(tmp_path).model_dirs[0], "other", seed=1)
    first, second = FakeWorker(), FakeWorker()
    studio = make(first, second)
    other = studio.model("other")
    second.tell(Prefetch(other.ref, str(other.path)))
    second.memory.obey(Evict("checkpoint/starter"))
    for model, worker in (("starter", first), ("other", second), ("starter", first), ("other", second)):
        job = studio.submit(draft(model=model), ME).id
        finish(studio, job)
        assert worker.work_items[-1].job_id == job
    second.commands.clear()
    studio.pin("other", is_pinned=True)
    studio.prefetch("starter")
    assert [len(worker.commands) for worker in (first, second)] == [2, 1]  # all hear of a pin, one reads ahead


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["another worker makes it", "it is cancelled meanwhile"])
def test_a_job_whose_worker_died_is_tried_once_by_another(make: Callable[..., Studio], is_cancelled: bool) -> None:
    mortal, (other,) = Mortal(), held(1)
    mortal.memory.obey(Evict("checkpoint/starter"))
    studio = make(mortal, other)
    busy = studio.submit(draft(), YOU).id  # where the model is
    wait_until(lambda: bool(other.work_items))
    job = studio.submit(draft(), ME).id
    wait_until(lambda: bool(mortal.work_items) and state_of(studio, job) == "queued")
    assert mortal.work_items[0].attempt == 1
    if is_cancelled:
        studio.cancel(job, ME)
        assert isinstance(finish(studio, job)[-1], events.Cancelled)
    other.gate.set()
    finish(studio, busy, YOU)
    if is_cancelled:
        return
    heard = finish(studio, job)
    assert isinstance(heard[-1], events.Done) and heard[-1].attempt == 2
    assert [event.code for event in heard if isinstance(event, events.Notice)] == ["engine_restarted"]
    assert [event.attempt for event in heard] == sorted(event.attempt for event in heard)
    assert [(item.job_id, item.attempt) for item in other.work_items] == [(busy, 1), (job, 2)]
    assert len(mortal.work_items) == 1


def test_processes_of_several_cards_and_one_that_is_killed_in_mid_job(make: Callable[..., Studio]) -> None:
    made: list[ProcessWorker] = []

    def process(device: str, count: int) -> ProcessWorker:
        made.append(ProcessWorker({"step_s": 0.02, "cards": 2 if device == "auto" else 1}, factory=FACTORY))
        return made[-1]

    studio = make(process("auto", 0), more=OtherCards(process))
    wait_until(lambda: studio.engine().text == "2 engines ready", 30)
    jobs = [studio.submit(draft(steps=60), ME).id for _ in range(2)]
    wait_until(lambda: all(studio.job(job, ME).step > 1 for job in jobs), 30)
    child = made[1]._child
    assert child is not None
    child.kill()
    endings = [finish(studio, job, timeout_s=30)[-1] for job in jobs]
    assert all(isinstance(ending, events.Done) for ending in endings)
    assert sorted(ending.attempt for ending in endings) == [1, 2]
    wait_until(lambda: studio.engine().text == "2 engines ready", 30)
    assert len(made) == 2


def test_two_deaths_are_one_too_many(make: Callable[..., Studio]) -> None:
    studio = make(Mortal(), Mortal())
    job = studio.submit(draft(), ME).id
    ending = finish(studio, job)[-1]
    assert isinstance(ending, events.Failed) and (ending.code, ending.attempt) == ("worker_died", 2)


def test_workers_join_and_leave(make: Callable[..., Studio]) -> None:
    crew = Crew()
    studio = make(more=crew)
    job = studio.submit(draft(), ME).id
    assert studio.engine().text == "Nobody yet" and studio.job(job, ME).position == 0
    first, second = FakeWorker(), FakeWorker()
    crew.add(first)
    assert isinstance(finish(studio, job)[-1], events.Done)
    crew.add(second)
    assert studio.engine().text == "2 engines ready" and len(crew.statuses) == 2  # type: ignore[arg-type]
    crew.remove(first)
    assert studio.engine().text == "Starter ready" and studio.engine().devices == ()
    job = studio.submit(draft(), ME).id
    finish(studio, job)
    assert second.work_items[-1].job_id == job


def test_a_worker_that_leaves_in_mid_job_leaves_it_to_another(make: Callable[..., Studio]) -> None:
    crew, (leaver,), heir = Crew(), held(1), FakeWorker()
    studio = make(leaver, more=crew)
    job = studio.submit(draft(), ME).id
    wait_until(lambda: bool(leaver.work_items))
    crew.remove(leaver)
    wait_until(lambda: state_of(studio, job) == "queued")
    crew.add(heir)
    ending = finish(studio, job)[-1]
    assert isinstance(ending, events.Done) and (ending.attempt, len(heir.work_items)) == (2, 1)


def test_a_cancel_in_the_moment_of_a_hand_over_is_not_lost(
    make: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    crew, (leaver,), heir = Crew(), held(1), FakeWorker()
    studio = make(leaver, more=crew)
    job = studio.submit(draft(), ME).id
    wait_until(lambda: bool(leaver.work_items))
    withdraw = studio._queue.withdraw

    def withdraw_before_it_waits_again(job_id: str, owner: str) -> bool:
        monkeypatch.undo()
        was_waiting = withdraw(job_id, owner)
        crew.remove(leaver)
        wait_until(lambda: state_of(studio, job) == "queued")
        return was_waiting

    monkeypatch.setattr(studio._queue, "withdraw", withdraw_before_it_waits_again)
    studio.cancel(job, ME)
    crew.add(heir)
    assert isinstance(finish(studio, job)[-1], events.Cancelled) and heir.work_items == []


def test_a_job_waits_for_who_replaces_its_lost_worker(make: Callable[..., Studio]) -> None:
    crew, mortal, heir = Crew(), Mortal(is_lost=True), FakeWorker()
    studio = make(mortal, more=crew)
    job = studio.submit(draft(), ME).id
    wait_until(lambda: bool(mortal.work_items) and state_of(studio, job) == "queued")
    crew.remove(mortal)
    crew.add(heir)
    ending = finish(studio, job)[-1]
    assert isinstance(ending, events.Done) and (ending.attempt, len(mortal.work_items)) == (2, 1)


def test_no_job_waits_for_its_models_worker_longer_than_reading_them_takes(
    make: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs there takes longer than predicted, or hangs, while another worker is free."""
    first, second = FakeWorker(), FakeWorker()
    second.memory.obey(Evict("checkpoint/starter"))
    studio = make(first, second)
    monkeypatch.setattr(studio._tracker.router, "_load_s", lambda keys, statuses: dict.fromkeys(keys, 1.0))
    second.say("ready", "Engine ready")
    finish(studio, studio.submit(draft(), ME).id)  # from now on it is known to take a moment
    first.gate.clear()
    running, waiting = (studio.submit(draft(), ME).id for _ in range(2))
    began = time.monotonic()
    wait_until(lambda: bool(second.work_items))
    assert time.monotonic() - began > 0.9 and second.work_items[0].job_id == waiting
    first.gate.set()
    assert isinstance(finish(studio, running)[-1], events.Done)


def test_a_stopped_worker_gets_no_job_while_another_works(make: Callable[..., Studio]) -> None:
    first, second = FakeWorker(), FakeWorker()
    studio = make(first, second)
    first.say("stopped", "Engine stopped")
    for _ in range(3):
        finish(studio, studio.submit(draft(), ME).id)
    assert (len(first.work_items), len(second.work_items)) == (0, 3)
    assert studio.engine().text == "1 of 2 engines ready, 1 stopped"


def test_waits_are_predicted_for_all_workers(make: Callable[..., Studio]) -> None:
    first, second = FakeWorker(), FakeWorker()
    studio = make(first, second)
    finish(studio, studio.submit(draft(), ME).id)
    for worker in (first, second):
        worker.gate.clear()
    jobs = [studio.submit(draft(), ME).id for _ in range(6)]
    wait_until(lambda: [state_of(studio, job) for job in jobs].count("running") == 2)
    waits = [row.starts_in_s for row in studio.queue(ME) if row.state == "queued"]
    one = waits[0]
    assert one is not None and waits == [one, one, pytest.approx(2 * one, abs=0.2), pytest.approx(2 * one, abs=0.2)]
    for worker in (first, second):
        worker.gate.set()


def test_the_program_stops_under_several_jobs_and_takes_them_up_again(tmp_path: Path) -> None:
    workers = held(2)
    studio = Studio(settings_for(tmp_path), *workers)
    studio.start()
    jobs = [studio.submit(draft(), ME).id for _ in range(3)]
    wait_until(lambda: [state_of(studio, job) for job in jobs] == ["running", "running", "queued"])
    began = time.monotonic()
    studio.stop()
    assert time.monotonic() - began < 5.0
    again = Studio(settings_for(tmp_path), FakeWorker(), FakeWorker())
    again.start()
    try:
        for job in jobs:
            assert isinstance(finish(again, job)[-1], events.Done)
    finally:
        again.stop()


def one(state: str, text: str = "", card: int | None = None, **more: object) -> EngineStatus:
    return EngineStatus.model_validate({"state": state, "text": text, "device_bytes": card, **more})


SENTENCES = {
    "2 cards ready": ("ready", [one("ready", card=8), one("ready", card=8)]),
    "2 engines ready": ("ready", [one("ready"), one("ready")]),
    "1 of 2 cards working": ("working", [one("working", card=8), one("ready", card=8)]),
    "3 engines working": ("working", [one("working")] * 3),
    "Loading Dream, 40%": ("loading", [one("ready"), one("loading", "Loading Dream, 40%")]),
    "Starting, about 8 s": ("starting", [one("starting", "Starting, about 8 s")] * 2),
    "1 of 2 engines ready, 1 restarting": ("ready", [one("ready"), one("restarting", "Engine restarting")]),
    "1 of 3 engines not responding": ("ready", [one("ready"), one("ready"), one("ready", "Not responding for 6 s")]),
    "Not responding for 6 s": ("ready", [one("ready", "Not responding for 6 s")] * 2),
    "2 engines stopped": ("stopped", [one("stopped", "Engine stopped")] * 2),
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_the_pill_sums_up(sentence: str) -> None:
    state, statuses = SENTENCES[sentence]
    summary = summarize({str(number): status for number, status in enumerate(statuses)})
    assert summary is not None and (summary.text, summary.state) == (sentence, state)
    assert [device.name for device in summary.devices] == [str(number) for number in range(len(statuses))]


def test_the_sums_and_the_nearest_place_of_each_model() -> None:
    here = ResidentModel(name="a", kind="checkpoint", bytes=5, place="device")
    far = ResidentModel(name="a", kind="checkpoint", bytes=5, place="memory")
    statuses = {
        "1": one("ready", card=8, device="H200", device_free_bytes=3, budget_bytes=10, models=(far,), resident=("a",)),
        "2": one("ready", card=8, device="H200", device_free_bytes=1, budget_bytes=10, models=(here,), resident=("a",)),
    }
    summary = summarize(statuses)
    assert summary is not None and (summary.device, summary.resident, summary.models) == ("2 × H200", ("a",), (here,))
    assert (summary.device_bytes, summary.device_free_bytes, summary.budget_bytes) == (16, 4, 20)
    assert summarize({"1": statuses["1"]}) == statuses["1"] and summarize({}) is None
