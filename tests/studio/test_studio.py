"""The facade with a fake worker: from a draft to a picture, owners apart, cancels, caps, positions."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from contract import events
from contract.errors import InvalidRecipe, NotFound, QueueFull, StorageFull
from contract.hooks import hookimpl
from contract.recipe import ImageRef, RecipeDraft
from contract.records import EngineStatus
from contract.tasks import Upscale
from contract.work import Prefetch, RawImage
from studio.extensions import Limits
from studio.jobs.queue import JobQueue
from studio.studio import Studio
from tests.studio.conftest import ME, YOU, draft, finish, run, settings_for, wait_until
from tests.support.fakes import FakeWorker, gradient
from tests.support.model_folders import make_model


def test_a_draft_becomes_pictures_with_their_own_seeds(studio: Studio) -> None:
    said = run(studio, count=3, seed=7)
    saved = [e for e in said if isinstance(e, events.Saved)]
    assert [e.image for e in saved] == [0, 1, 2]
    assert [e.record.recipe.seed for e in saved] == [7, 8, 9]
    assert isinstance(said[0], events.Queued) and isinstance(said[-1], events.Done)
    for event in saved:
        with Image.open(studio.image_file(event.record.id, ME)) as image:
            assert image.tobytes() == gradient(64, 64, event.record.recipe.seed).rgb
        assert event.record.recipe.model.sha256
        assert event.record == studio.image(event.record.id, ME)
    assert [i.id for i in studio.images(ME).images] == [e.record.id for e in reversed(saved)]


def test_the_recipe_of_a_picture_is_a_valid_draft_that_makes_it_again(studio: Studio) -> None:
    first = next(e for e in run(studio, "a “quoted”, odd: prompt\nwith lines", seed=5) if isinstance(e, events.Saved))
    found = studio.read_recipe(studio.image_file(first.record.id, ME).read_bytes())
    assert found.draft is not None and not found.unknown
    again = finish(studio, studio.submit(RecipeDraft.model_validate(found.draft), ME).id)
    second = next(e for e in again if isinstance(e, events.Saved))
    assert second.record.recipe == first.record.recipe
    full = RecipeDraft.model_validate_json(first.record.recipe.canonical_json())
    third = next(e for e in finish(studio, studio.submit(full, ME).id) if isinstance(e, events.Saved))
    assert third.record.recipe.identity == first.record.recipe.identity


def test_the_first_events_have_previews_and_progress(make_studio: Callable[..., Studio]) -> None:
    worker = FakeWorker()
    studio = make_studio(worker)
    worker.gate.clear()
    job = studio.submit(draft(steps=5), ME)
    event_log = studio.event_log(job.id, ME)
    worker.gate.set()
    wait_until(lambda: any(isinstance(e, events.Step) for e in event_log.since(0).events))
    step = next(e for e in event_log.since(0).events if isinstance(e, events.Step))
    assert step.preview is None or step.preview.startswith(b"\xff\xd8")
    finish(studio, job.id)
    assert studio.job(job.id, ME).progress == 1.0


def test_others_see_neither_job_nor_picture(studio: Studio) -> None:
    saved = next(e for e in run(studio) if isinstance(e, events.Saved))
    for call in (
        lambda: studio.job(saved.job_id, YOU),
        lambda: studio.event_log(saved.job_id, YOU),
        lambda: studio.cancel(saved.job_id, YOU),
        lambda: studio.image(saved.record.id, YOU),
        lambda: studio.image_file(saved.record.id, YOU),
        lambda: studio.thumbnail_file(saved.record.id, YOU),
        lambda: studio.delete_image(saved.record.id, YOU),
        lambda: studio.restore_image(saved.record.id, YOU),
        lambda: studio.set_favorite(saved.record.id, YOU, True),
        lambda: studio.retry_save(saved.job_id, YOU),
        lambda: studio.image("../../etc/passwd", ME),
        lambda: studio.job("nothing", ME),
    ):
        with pytest.raises(NotFound):
            call()
    assert studio.images(YOU).total == 0
    assert studio.queue(YOU) == ()
    assert studio.image(saved.record.id, ME).id == saved.record.id


def test_a_queue_row_of_someone_else_says_only_how_long(make_studio: Callable[..., Studio]) -> None:
    worker = FakeWorker()
    studio = make_studio(worker)
    run(studio)  # so that a rate is known
    worker.gate.clear()
    mine = [studio.submit(draft("secret"), ME).id for _ in range(2)]
    wait_until(lambda: studio.job(mine[0], ME).job.state == "running")
    rows = studio.queue(YOU)
    assert [(r.mine, r.state, r.job_id, r.prompt, r.image_ids) for r in rows] == [
        (False, "running", None, None, ()),
        (False, "queued", None, None, ()),
    ]
    assert "secret" not in repr(rows) and all(r.seconds is not None for r in rows)
    assert [(r.state, r.prompt) for r in studio.queue(ME)][:2] == [("running", "secret"), ("queued", "secret")]
    worker.gate.set()


def test_a_job_that_starts_while_the_queue_is_looked_at_is_in_it(
    make_studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = FakeWorker()
    worker.gate.clear()
    studio = make_studio(worker)
    may_start, started = threading.Event(), threading.Event()
    take, records = JobQueue.take, JobQueue.records

    def take_late(queue: JobQueue, *args: Any) -> Any:
        may_start.wait(10)
        job = take(queue, *args)
        started.set()
        return job

    def read_then_let_start(queue: JobQueue, *args: Any) -> Any:
        found = records(queue, *args)
        may_start.set()
        assert started.wait(10)
        return found

    monkeypatch.setattr(JobQueue, "take", take_late)
    monkeypatch.setattr(JobQueue, "records", read_then_let_start)
    job_id = studio.submit(draft("sea"), ME).id
    assert [row.job_id for row in studio.queue(ME)] == [job_id]
    worker.gate.set()


def test_a_waiting_job_is_cancelled_at_once(make_studio: Callable[..., Studio]) -> None:
    worker = FakeWorker()
    studio = make_studio(worker)
    worker.gate.clear()
    first, second = (studio.submit(draft(), ME).id for _ in range(2))
    wait_until(lambda: studio.job(first, ME).job.state == "running")
    studio.cancel(second, ME)
    assert isinstance(finish(studio, second)[-1], events.Cancelled)
    assert studio.job(second, ME).job.state == "cancelled"
    studio.cancel(second, ME)  # again changes nothing
    worker.gate.set()
    assert isinstance(finish(studio, first)[-1], events.Done)
    assert [t.job_id for t in worker.work_items] == [first]


def test_a_running_job_is_cancelled_at_its_next_step_and_keeps_what_was_saved(
    make_studio: Callable[..., Studio],
) -> None:
    worker = FakeWorker(pace_s=0.005)
    studio = make_studio(worker)
    job = studio.submit(draft(count=8, steps=10), ME).id
    wait_until(lambda: len(studio.job(job, ME).job.image_ids) == 1)
    studio.cancel(job, ME)
    said = finish(studio, job)
    assert isinstance(said[-1], events.Cancelled)
    assert 1 <= len(studio.job(job, ME).job.image_ids) < 8
    assert isinstance(run(studio)[-1], events.Done)


def test_a_storm_of_cancels_stops_only_the_owner_s_job(make_studio: Callable[..., Studio]) -> None:
    worker = FakeWorker(pace_s=0.002)
    studio = make_studio(worker)
    mine = studio.submit(draft(steps=50), ME).id
    other = studio.submit(draft(steps=3), YOU).id

    def storm() -> None:
        for _ in range(50):
            for job_id, owner in ((mine, YOU), (other, ME), ("0" * 22, ME)):
                with pytest.raises(NotFound):
                    studio.cancel(job_id, owner)
            studio.cancel(mine, ME)

    threads = [threading.Thread(target=storm) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert isinstance(finish(studio, mine)[-1], events.Cancelled)
    assert isinstance(finish(studio, other, YOU)[-1], events.Done)
    assert worker.most_at_once == 1


def test_the_queue_refuses_more_than_an_owner_may_have(make_studio: Callable[..., Studio]) -> None:
    worker = FakeWorker()
    studio = make_studio(worker, max_jobs_per_owner=3, max_jobs=5)
    worker.gate.clear()
    running = studio.submit(draft(), ME).id
    wait_until(lambda: studio.job(running, ME).job.state == "running")
    mine = [studio.submit(draft(), ME).id for _ in range(3)]
    with pytest.raises(QueueFull, match="You have 3 jobs waiting, the most allowed.") as full:
        studio.submit(draft(), ME)
    assert full.value.hint.startswith("Cancel one or wait about") and full.value.retry_after_s >= 1
    for _ in range(2):
        studio.submit(draft(), YOU)
    with pytest.raises(QueueFull, match="5 jobs wait already"):
        studio.submit(draft(), "third")
    studio.cancel(mine[0], ME)
    studio.submit(draft(), ME)
    worker.gate.set()


def test_the_jobs_of_one_draft_are_queued_all_or_none(make_studio: Callable[..., Studio]) -> None:
    worker = FakeWorker()
    studio = make_studio(worker, max_jobs_per_owner=3, max_jobs=5)
    worker.gate.clear()
    running = studio.submit(draft(), ME).id
    wait_until(lambda: studio.job(running, ME).job.state == "running")
    with pytest.raises(QueueFull, match="Each of the 4 pictures is a job; you have 0 waiting, and 3 may wait.") as full:
        studio.submit(draft("{a|b}", dynamic=True, count=4), ME)
    assert full.value.hint == "Ask for fewer pictures."
    studio.submit(draft(), ME)
    with pytest.raises(QueueFull, match="you have 1 waiting") as full:
        studio.submit(draft("{a|b}", dynamic=True, count=3), ME)
    assert full.value.hint.startswith("Cancel one or wait about")
    assert len([row for row in studio.queue(ME) if row.state == "queued"]) == 1
    studio.submit(draft("{a|b}", dynamic=True, count=2), ME)
    with pytest.raises(QueueFull, match="3 jobs wait already, and this studio accepts 5."):
        studio.submit(draft("{a|b}", dynamic=True, count=3), YOU)
    worker.gate.set()


def test_positions_count_down_and_others_take_turns(make_studio: Callable[..., Studio]) -> None:
    worker = FakeWorker()
    studio = make_studio(worker)
    worker.gate.clear()
    mine = [studio.submit(draft(), ME).id for _ in range(4)]
    wait_until(lambda: studio.job(mine[0], ME).job.state == "running")
    yours = studio.submit(draft(), YOU)
    assert yours.position == 1
    assert [studio.job(j, ME).position for j in mine[1:]] == [2, 3, 4]
    worker.gate.set()
    for job_id in mine:
        finish(studio, job_id)
    said = finish(studio, yours.id, YOU)
    assert [e.position for e in said if isinstance(e, events.Queued)][-1] <= 1
    last = [e.position for e in finish(studio, mine[3]) if isinstance(e, events.Queued)]
    assert last[0] == 3 and last[-1] <= 1
    assert [t.job_id for t in worker.work_items][:2] == [mine[0], yours.id]


def test_own_waiting_jobs_can_be_moved_up(make_studio: Callable[..., Studio]) -> None:
    worker = FakeWorker()
    studio = make_studio(worker)
    worker.gate.clear()
    jobs = [studio.submit(draft(), ME).id for _ in range(5)]
    wait_until(lambda: studio.job(jobs[0], ME).job.state == "running")
    for _ in range(5):
        studio.move_up(jobs[4], ME)
    studio.move_up(jobs[3], ME)
    with pytest.raises(NotFound):
        studio.move_up(jobs[2], YOU)
    with pytest.raises(NotFound):
        studio.move_up(jobs[0], ME)
    worker.gate.set()
    for job_id in jobs:
        finish(studio, job_id)
    assert [t.job_id for t in worker.work_items] == [jobs[0], jobs[4], jobs[1], jobs[3], jobs[2]]


def test_a_window_takes_up_its_own_job_then_one_that_nobody_follows(make_studio: Callable[..., Studio]) -> None:
    worker = FakeWorker()
    studio = make_studio(worker)
    worker.gate.clear()
    assert studio.job_to_follow(ME, "w1") is None
    one = studio.submit(draft(), ME, session="w1").id
    two = studio.submit(draft(), ME, session="w2").id
    wait_until(lambda: studio.job(one, ME).job.state == "running")
    assert [j.id for j in studio.jobs_of_session(ME, "w1")] == [one]
    assert studio.job_to_follow(ME, "w1").id == one  # type: ignore[union-attr]
    assert studio.job_to_follow(ME, "w3").id == two  # type: ignore[union-attr]
    stop = studio.event_log(two, ME).subscribe(lambda: None)
    assert studio.job_to_follow(ME, "w3").id == one  # type: ignore[union-attr]
    stop_one = studio.event_log(one, ME).subscribe(lambda: None)
    assert studio.job_to_follow(ME, "w3") is None
    assert studio.job_to_follow(YOU, "w1") is None
    stop(), stop_one()
    worker.gate.set()


def test_event_logs_of_ended_jobs_leave_memory_and_keep_their_cursors(studio: Studio) -> None:
    job = studio.submit(draft(count=2), ME).id
    live = studio.event_log(job, ME)
    finish(studio, job)
    wait_until(lambda: studio.event_log(job, ME) is not live)
    again, before = studio.event_log(job, ME).since(0), live.since(0)
    assert [e for e in before.events if not isinstance(e, events.Step)] == list(again.events)
    middle = before.cursors[2]
    assert list(studio.event_log(job, ME).since(middle).cursors) == [n for n in again.cursors if n > middle]
    studio.delete_image(again.events[-2].record.id, ME)  # type: ignore[union-attr]
    assert sum(isinstance(e, events.Saved) for e in studio.event_log(job, ME).since(0).events) == 1


def test_a_follower_that_leaves_changes_nothing_and_finds_the_end_later(make_studio: Callable[..., Studio]) -> None:
    worker = FakeWorker(pace_s=0.002)
    studio = make_studio(worker)
    before = threading.active_count()
    job = studio.submit(draft(steps=20), ME).id
    for _ in range(5):
        stop = studio.event_log(job, ME).subscribe(lambda: None)
        stop()
    assert isinstance(finish(studio, job)[-1], events.Done)
    assert threading.active_count() <= before


def test_failures_name_their_cause_and_the_next_job_works(studio: Studio) -> None:
    said = run(studio, "[fail]")
    assert isinstance(said[-1], events.Failed)
    assert (said[-1].code, said[-1].message, said[-1].hint) == (
        "model_problem",
        "The fake failed, as asked.",
        "Ask otherwise.",
    )
    view = studio.job(said[-1].job_id, ME).job
    assert (view.state, view.error_code, view.error_message) == ("failed", "model_problem", said[-1].message)
    assert isinstance(run(studio)[-1], events.Done)


def test_a_worker_that_dies_once_costs_nothing_but_time(studio: Studio, worker: FakeWorker) -> None:
    said = run(studio, "[die] [once]", count=2)
    assert isinstance(said[-1], events.Done) and said[-1].attempt == 2
    assert [e.code for e in said if isinstance(e, events.Notice)] == ["engine_restarted"]
    assert sorted(e.image for e in said if isinstance(e, events.Saved)) == [0, 1]
    assert [t.attempt for t in worker.work_items] == [1, 2]


def test_a_worker_that_dies_twice_fails_the_job_and_no_other(studio: Studio) -> None:
    said = run(studio, "[die]")
    assert isinstance(said[-1], events.Failed) and said[-1].code == "worker_died"
    assert isinstance(run(studio)[-1], events.Done)


class _DiesAfterOnePicture(FakeWorker):
    def _paint(self, work_item):  # type: ignore[no-untyped-def]
        from contract.work import WorkFailed, WorkImage

        for event in super()._paint(work_item):
            yield event
            if isinstance(event, WorkImage) and work_item.attempt == 1:
                yield WorkFailed(work_item.job_id, "worker_died", "The engine stopped.")
                return


def test_the_second_attempt_does_not_make_saved_pictures_again(make_studio: Callable[..., Studio]) -> None:
    worker = _DiesAfterOnePicture()
    studio = make_studio(worker)
    said = run(studio, count=3)
    assert [sorted(t.finished) for t in worker.work_items] == [[], [0]]
    assert sorted(e.image for e in said if isinstance(e, events.Saved)) == [0, 1, 2]
    assert isinstance(said[-1], events.Done)


def test_a_bug_in_the_worker_is_a_named_failure(
    make_studio: Callable[..., Studio],
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(FakeWorker):
        def _paint(self, work_item):  # type: ignore[no-untyped-def]
            if len(self.work_items) == 1:
                raise ZeroDivisionError("x")
            return super()._paint(work_item)

    studio = make_studio(Broken())
    with caplog.at_level(logging.ERROR):
        said = run(studio)
    assert isinstance(said[-1], events.Failed) and said[-1].code == "internal"
    assert "ZeroDivisionError" in said[-1].message and "Traceback" in caplog.text
    assert isinstance(run(studio)[-1], events.Done)


def test_a_model_that_went_away_fails_its_job_by_name(make_studio: Callable[..., Studio]) -> None:
    worker = FakeWorker()
    studio = make_studio(worker)
    folder = make_model(studio.settings.model_dirs[0], "ink", title="Ink")
    make_model(studio.settings.model_dirs[0], "other", title="Other")
    studio.models(fresh=True)
    worker.gate.clear()
    first = studio.submit(draft(model="starter"), ME).id
    gone = studio.submit(draft(model="ink"), ME).id
    changed = studio.submit(draft(model="other"), ME).id
    last = studio.submit(draft(model="starter"), ME).id
    folder.rename(folder.with_name(".ink"))
    make_model(studio.settings.model_dirs[0], "other", title="Other", seed=9)
    worker.gate.set()
    endings = [finish(studio, job_id)[-1] for job_id in (first, gone, changed, last)]
    assert [e.type for e in endings] == ["done", "failed", "failed", "done"]
    assert endings[1].message == "Model “ink” is gone."  # type: ignore[union-attr]
    assert "changed on the disk" in endings[2].message  # type: ignore[union-attr]


def test_notices_of_unknown_words_come_right_after_queued(make_studio: Callable[..., Studio]) -> None:
    studio = make_studio()
    make_model(studio.settings.model_dirs[0], "starter", words=("airplane", "balloon", "red", "barn", "hill"))
    studio.models(fresh=True)
    said = run(studio, "a zeppelin, 3 balloons over the hills near a red barn!")
    assert [e.type for e in said[:3]] == ["queued", "notice", "loading"]
    assert [e.message for e in said if isinstance(e, events.Notice)] == ["Starter does not know “zeppelin”."]
    assert [e.message for e in run(studio, "a baloon") if isinstance(e, events.Notice)] == [
        "Starter does not know “baloon”. Near: balloon."
    ]


def test_a_full_disk_keeps_the_picture_and_a_retry_saves_it(
    make_studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = make_studio()
    full = StorageFull("No space left in outputs/ (0 bytes free).", "Free some.")

    def refuse(*arguments: object) -> str:
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(studio._folder, "save", refuse)
        said = run(studio, count=2)
        assert isinstance(said[-1], events.Failed) and said[-1].code == "storage_full"
        with pytest.raises(StorageFull):
            studio.retry_save(said[-1].job_id, ME)
    job_id = said[-1].job_id
    assert len(studio.retry_save(job_id, ME)) == 2
    assert studio.images(ME).total == 2
    assert studio.job(job_id, ME).job.state == "done"
    later = studio.event_log(job_id, ME).since(0).events
    assert [e.type for e in later if not isinstance(e, events.Loading)] == ["queued", "saved", "saved", "done"]
    assert [e.image for e in later if isinstance(e, events.Saved)] == [0, 1]
    with pytest.raises(NotFound, match="No unsaved picture"):
        studio.retry_save(job_id, ME)


def test_extensions_change_drafts_and_pictures_and_fail_by_name(studio: Studio) -> None:
    class Grain:
        @hookimpl
        def adjust_recipe(self, draft: RecipeDraft) -> RecipeDraft:
            return draft.model_copy(update={"prompt": draft.prompt + ", film grain"})

        @hookimpl
        def finish_image(self, image: RawImage) -> RawImage:
            return RawImage(image.width, image.height, bytes(len(image.rgb)))

    class Broken:
        @hookimpl
        def finish_image(self, image: RawImage) -> RawImage:
            raise KeyError("grain")

        @hookimpl
        def on_event(self, event: object) -> None:
            raise SystemExit(1)

    studio.extensions.register(Grain(), "grain")
    studio.extensions.register(Broken(), "broken")
    for number in range(4):
        said = run(studio, "a barn")
        saved = next(e for e in said if isinstance(e, events.Saved))
        assert saved.record.recipe.prompt == "a barn, film grain"
        notices = [e.message for e in said if isinstance(e, events.Notice)]
        assert len(notices) == (1 if number < 3 else 0)
    with Image.open(studio.image_file(saved.record.id, ME)) as image:
        assert image.getextrema() == ((0, 0),) * 3
    assert studio.extensions.failed == {"broken": "Extension “broken” failed three times and was switched off."}

    class Angry:
        @hookimpl
        def adjust_recipe(self, draft: RecipeDraft) -> RecipeDraft:
            raise ValueError("no")

    studio.extensions.register(Angry(), "angry")
    with pytest.raises(InvalidRecipe, match="Extension “angry” could not change the recipe"):
        studio.submit(draft(), ME)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, RecursionError])
def test_an_extension_that_interrupts_costs_no_picture(studio: Studio, raised: type[BaseException]) -> None:
    class Interrupting:
        @hookimpl
        def finish_image(self, image: RawImage) -> RawImage:
            raise raised

        @hookimpl
        def on_event(self, event: object) -> None:
            raise raised

    studio.extensions.register(Interrupting(), "rude")
    said = run(studio, count=2)
    assert said[-1].type == "done" and len([e for e in said if isinstance(e, events.Saved)]) == 2
    assert [e.message for e in said if isinstance(e, events.Notice)] == [
        "Extension “rude” failed; the picture is saved without it."
    ] * 2


def test_an_extension_that_hangs_costs_no_picture(studio: Studio) -> None:
    released = threading.Event()

    class Hanging:
        @hookimpl
        def finish_image(self, image: RawImage) -> None:
            released.wait(20)

    studio.extensions.register(Hanging(), "slow")
    studio.extensions._limits = Limits(finish_s=0.1)
    try:
        said = run(studio, count=2)
    finally:
        released.set()
    assert said[-1].type == "done" and len([e for e in said if isinstance(e, events.Saved)]) == 2
    assert [e.message for e in said if isinstance(e, events.Notice)] == [
        "Extension “slow” gave no answer within 0.1 s and was switched off."
    ]


def test_what_is_off_is_said_with_the_engine_s_state(studio: Studio) -> None:
    assert studio.engine().extensions_off == ()
    studio.extensions._switch_off("grain", "did not load within 20 s")
    assert studio.engine().extensions_off == ("Extension “grain” did not load within 20 s.",)


def test_prompts_are_looked_at_before_they_are_queued(studio: Studio) -> None:
    said = run(studio, "(a barn:12) | [b:c:0.5]", negative_prompt="x BREAK (y:-20)")
    assert [(e.code, e.message) for e in said if isinstance(e, events.Notice)] == [
        ("prompt_weight", "The prompt gives “a barn” a weight of 12; beyond 10 a picture mostly falls apart."),
        (
            "prompt_not_edited",
            "Nothing in the prompt changes with the steps: it has a “|” outside of [a|b], or a “\\” at "
            "the end of a line. Write \\| for the character.",
        ),
        ("prompt_weight", "The negative prompt gives “y” a weight of -20; beyond 10 a picture mostly falls apart."),
    ]
    with pytest.raises(InvalidRecipe, match="beyond every number") as caught:
        studio.submit(draft(prompt="(a:" + "9" * 400 + ")"), ME)
    assert caught.value.code == "invalid_prompt"


def test_comments_name_nothing(studio: Studio) -> None:
    said = run(studio, "a barn # <lora:nothing:1> (a:" + "9" * 400 + ")")
    assert said[-1].type == "done"


def test_the_engine_state_reaches_listeners(studio: Studio, worker: FakeWorker) -> None:
    heard: list[str] = []
    stop = studio.subscribe_engine(lambda: heard.append(studio.engine().text))
    worker.say("loading", "Loading Starter, 63%", 0.63)
    stop()
    worker.say("ready", "Starter ready")
    assert heard == ["Loading Starter, 63%"] and studio.engine().text == "Starter ready"


def test_fair_turns_under_load(make_studio: Callable[..., Studio]) -> None:
    """L2: A queues eight, B to E one each; nobody waits for more than everyone's one job."""
    worker = FakeWorker(pace_s=0.001)
    studio = make_studio(worker)
    worker.gate.clear()
    many = [studio.submit(draft(), "a").id for _ in range(8)]
    wait_until(lambda: studio.job(many[0], "a").job.state == "running")
    singles = {owner: studio.submit(draft(), owner).id for owner in "bcde"}
    worker.gate.set()
    for owner, job_id in singles.items():
        finish(studio, job_id, owner)
    for job_id in many:
        finish(studio, job_id, "a")
    order = [t.job_id for t in worker.work_items]
    assert max(order.index(job_id) for job_id in singles.values()) <= 5
    assert worker.most_at_once == 1 and len(order) == len(set(order)) == 12


def test_a_recipe_finds_its_model_under_another_name(studio: Studio) -> None:
    saved = next(e for e in run(studio) if isinstance(e, events.Saved))
    data = studio.image_file(saved.record.id, ME).read_bytes()
    root = studio.settings.model_dirs[0]
    (root / "starter").rename(root / "renamed")
    studio.models(fresh=True)
    other = next(e for e in run(studio, seed=1) if isinstance(e, events.Saved))  # so that its hash is known
    assert studio.read_recipe(data).draft["model"] == "renamed"  # type: ignore[index]
    again = RecipeDraft.model_validate_json(saved.record.recipe.canonical_json())
    final = next(e for e in finish(studio, studio.submit(again, ME).id) if isinstance(e, events.Saved))
    assert final.record.recipe.model == other.record.recipe.model


def test_a_job_that_ends_while_it_is_asked_for_has_an_ended_event_log(make_studio: Callable[..., Studio]) -> None:
    studio = make_studio(max_jobs_per_owner=200)
    failures: list[object] = []

    def follow_some(owner: str) -> None:
        for number in range(25):
            said = finish(studio, studio.submit(draft(steps=1 + number % 3), owner).id, owner)
            if not isinstance(said[-1], events.Done) or not isinstance(said[0], events.Queued):
                failures.append(said)

    threads = [threading.Thread(target=follow_some, args=(owner,)) for owner in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    wait_until(lambda: not studio._event_logs._live)
    assert all(studio.images(owner).total == 25 for owner in "abcd")


def test_what_is_kept_in_memory_can_be_chosen(studio: Studio, worker: FakeWorker) -> None:
    name = studio.models()[0].ref.name
    studio.prefetch(name)
    studio.pin(name, is_pinned=True)
    (held,) = [held for held in studio.engine().models if held.name == name]
    assert held.is_pinned
    studio.evict(name)
    assert name not in {held.name for held in studio.engine().models}
    with pytest.raises(NotFound):
        studio.prefetch("nothing of this name")


def test_the_next_jobs_model_is_read_ahead(studio: Studio, worker: FakeWorker) -> None:
    make_model(studio.settings.model_dirs[0], "other", seed=1)
    studio.models(fresh=True)
    worker.gate.clear()
    first = studio.submit(draft(), ME)
    studio.submit(draft(), ME)
    last = studio.submit(draft(model="other"), ME)
    worker.gate.set()
    finish(studio, first.id)
    finish(studio, last.id)
    ahead = [command.ref.name for command in worker.commands if isinstance(command, Prefetch)]
    assert ahead and set(ahead) == {"other"}


def test_an_upscale_and_a_picture_are_made_again_as_they_were(studio: Studio) -> None:
    saved = next(e for e in run(studio, seed=7) if isinstance(e, events.Saved))
    again = next(e for e in finish(studio, studio.rerun(saved.job_id, ME).id) if isinstance(e, events.Saved))
    assert again.record.recipe == saved.record.recipe and again.record.id != saved.record.id
    picture = studio.upload_from_image(saved.record.id, ME)
    task = Upscale(image=ImageRef(sha256=picture.sha256), scale=3.0, parent=saved.record.id)
    first = studio.upscale(task, ME).id
    finish(studio, first)
    larger = next(e for e in finish(studio, studio.rerun(first, ME).id) if isinstance(e, events.Saved))
    assert (larger.record.upscale, larger.record.parent) == (task, saved.record.id)
    with pytest.raises(NotFound):
        studio.rerun(first, YOU)


class CountingWorker(FakeWorker):
    """Counts its starts and stops."""

    def __init__(self) -> None:
        super().__init__()
        self.starts = self.stops = 0

    def start(self, on_status: Callable[[EngineStatus], None]) -> None:
        self.starts += 1
        super().start(on_status)

    def stop(self) -> None:
        self.stops += 1
        super().stop()


def test_a_worker_that_was_started_ahead_is_started_once(tmp_path: Path) -> None:
    worker = CountingWorker()
    studio = Studio(settings_for(tmp_path), worker)
    studio.open()
    studio.start_worker()
    assert studio.engine().state == "ready"
    studio.start()
    studio.stop()
    studio.stop()
    assert (worker.starts, worker.stops) == (1, 1)


def test_a_worker_is_stopped_though_the_studio_never_began(tmp_path: Path) -> None:
    """The page could not be built: the engine that loads beside it ends too."""
    worker = CountingWorker()
    studio = Studio(settings_for(tmp_path), worker)
    studio.open()
    studio.start_worker()
    studio.stop()
    assert (worker.starts, worker.stops) == (1, 1)
