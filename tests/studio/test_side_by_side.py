"""Jobs side by side, in the studio: who joins, in which order, and that each ends for itself."""

from collections.abc import Callable

import pytest

from contract import events
from contract.recipe import RecipeDraft
from studio.studio import Studio
from tests.studio.conftest import ME, YOU, draft, finish, wait_until
from tests.support.fakes import FakeWorker

Make = Callable[..., Studio]


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker(pace_s=0.005, batch_jobs=3)


@pytest.fixture
def studio(make_studio: Make, worker: FakeWorker) -> Studio:
    return make_studio(worker)


def submit(studio: Studio, owner: str = ME, **changes: object) -> str:
    made: RecipeDraft = draft(**{"steps": 20, **changes})
    return studio.submit(made, owner).id


def submit_all(studio: Studio, worker: FakeWorker, *prompts: str, **changes: object) -> list[str]:
    """Jobs of which none makes a step before all are queued, however slow the machine is."""
    worker.gate.clear()
    jobs = [submit(studio, prompt=prompt, **changes) for prompt in prompts]
    worker.gate.set()
    return jobs


def ending(studio: Studio, job_id: str, owner: str = ME) -> events.JobEvent:
    return finish(studio, job_id, owner)[-1]


def test_three_people_get_their_pictures_side_by_side(studio: Studio, worker: FakeWorker) -> None:
    worker.gate.clear()
    jobs = [(submit(studio, owner, seed=seed), owner) for seed, owner in enumerate((ME, YOU, ME, YOU))]
    wait_until(lambda: bool(worker.work_items))
    worker.gate.set()
    for job_id, owner in jobs:
        found = finish(studio, job_id, owner)
        assert isinstance(found[-1], events.Done)
        (saved,) = [event for event in found if isinstance(event, events.Saved)]
        assert saved.record.owner == owner and saved.record.job_id == job_id
        steps = [event.index for event in found if isinstance(event, events.Step)]
        assert steps == sorted(steps)
    assert worker.most_at_once == 3
    assert len(worker.work_items) == 4


def test_who_can_not_join_is_not_overtaken(studio: Studio, worker: FakeWorker) -> None:
    worker.gate.clear()
    first = submit(studio)
    wait_until(lambda: bool(worker.work_items))
    other_size = submit(studio, width=128)
    same_again = submit(studio)
    worker.gate.set()
    for job_id in (first, other_size, same_again):
        assert isinstance(ending(studio, job_id), events.Done)
    assert [item.job_id for item in worker.work_items] == [first, other_size, same_again]
    assert worker.most_at_once == 1


def test_one_is_canceled_and_the_others_go_on(studio: Studio, worker: FakeWorker) -> None:
    jobs = submit_all(studio, worker, "a barn", "a barn [hang]", "a third barn", steps=60)
    wait_until(lambda: worker.most_at_once == 3)
    studio.cancel(jobs[1], ME)  # it can't end before: its [hang] ends with the cancel, and holds the others until then
    assert [type(ending(studio, job_id)) for job_id in jobs] == [events.Done, events.Cancelled, events.Done]


def test_one_fails_and_the_others_go_on(studio: Studio, worker: FakeWorker) -> None:
    jobs = submit_all(studio, worker, "a barn", "a barn [fail]", "a third barn")
    assert [type(ending(studio, job_id)) for job_id in jobs] == [events.Done, events.Failed, events.Done]
    assert worker.most_at_once > 1


def test_those_that_die_together_are_each_tried_once_more(studio: Studio, worker: FakeWorker) -> None:
    jobs = submit_all(studio, worker, *2 * ["a barn [die] [once]"])
    for job_id in jobs:
        found = finish(studio, job_id, ME)
        assert isinstance(found[-1], events.Done)
        assert [event.code for event in found if isinstance(event, events.Notice)] == ["engine_restarted"]
    assert sorted(item.job_id for item in worker.work_items) == sorted(2 * jobs)
    assert worker.most_at_once == 2


def test_a_stop_leaves_all_of_them_to_the_next_start(make_studio: Make, worker: FakeWorker) -> None:
    studio = make_studio(worker)
    worker.pace_s = 0.05
    jobs = [submit(studio, steps=100, seed=seed) for seed in range(2)]
    wait_until(lambda: len(worker.work_items) == 2)
    studio.stop()
    again = make_studio(FakeWorker(batch_jobs=2))
    for job_id in jobs:
        assert isinstance(ending(again, job_id), events.Done)


def test_the_images_of_one_job_keep_their_order(studio: Studio, worker: FakeWorker) -> None:
    jobs = submit_all(studio, worker, *2 * ["a barn"], steps=10, count=3)
    for job_id in jobs:
        found = finish(studio, job_id, ME)
        steps = [(event.image, event.index) for event in found if isinstance(event, events.Step)]
        assert steps == sorted(steps)
        assert [event.image for event in found if isinstance(event, events.Saved)] == [0, 1, 2]
    assert worker.most_at_once == 2
