"""The law of events, as a property: any order of saying and listening."""

import json
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from contract import events
from contract.events import JobEvent
from contract.recipe import ModelRef, Recipe
from contract.records import ImageRecord
from studio.jobs.event_log import EventLog, event_log_from_log

RECIPE = Recipe(
    prompt="x",
    model=ModelRef(name="starter", family="sd1"),
    sampler="euler",
    schedule="uniform",
    steps=4,
    guidance=7.0,
    width=64,
    height=64,
    seed=1,
)


def record(image: int) -> ImageRecord:
    return ImageRecord(
        id=f"{image:022x}",
        path=f"d/{image}.png",
        created_at=1.0,
        width=64,
        height=64,
        recipe=RECIPE,
        job_id="j",
        owner="me",
    )


@st.composite
def job_events(draw: st.DrawFn) -> list[JobEvent]:
    """What a dispatcher may say of one job, in its order."""
    said: list[JobEvent] = [events.Queued(job_id="j", at=0.0, position=3)]
    said += [events.Queued(job_id="j", at=0.0, position=p) for p in range(2, draw(st.integers(0, 2)), -1)]
    for attempt in range(1, draw(st.integers(1, 2)) + 1):
        for image in range(draw(st.integers(0, 3))):
            for index in range(1, draw(st.integers(1, 4)) + 1):
                preview = b"p%d" % index if draw(st.booleans()) else None
                said.append(
                    events.Step(job_id="j", attempt=attempt, at=0.0, image=image, index=index, total=4, preview=preview)
                )
                if draw(st.booleans()):
                    said.append(events.Notice(job_id="j", attempt=attempt, at=0.0, code="c", message=f"{index}"))
            said.append(events.Saved(job_id="j", attempt=attempt, at=0.0, image=image, record=record(image)))
    said.append(
        draw(
            st.sampled_from(
                [
                    events.Done(job_id="j", at=0.0, seconds=1.0),
                    events.Cancelled(job_id="j", at=0.0),
                    events.Failed(job_id="j", at=0.0, code="c", message="m"),
                    events.Interrupted(job_id="j", at=0.0),
                ]
            )
        )
    )
    return said


def without_steps(said: Sequence[JobEvent]) -> list[JobEvent]:
    return [event for event in said if not isinstance(event, events.Step)]


def check_law(said: Sequence[JobEvent], heard: Sequence[JobEvent]) -> None:
    assert isinstance(heard[0], events.Queued)
    assert [events.is_ending(e) for e in heard] == [False] * (len(heard) - 1) + [True]
    assert without_steps(heard) == without_steps(said)
    places = [(e.attempt, e.image, e.index) for e in heard if isinstance(e, events.Step)]
    assert places == sorted(set(places))


@settings(max_examples=200, deadline=None)
@given(job_events(), st.data())
def test_a_follower_of_any_speed_gets_everything_but_superseded_steps(
    said: list[JobEvent], data: st.DataObject
) -> None:
    event_log, heard, cursor = EventLog("j", data.draw(st.sampled_from([0, 10**12]))), [], 0
    for event in said:
        event_log.append(event)
        if data.draw(st.booleans()):
            found = event_log.since(cursor)
            heard += found.events
            assert cursor < found.cursor or not found.events
            assert list(found.cursors) == sorted(set(found.cursors))
            cursor = found.cursor
    found = event_log.since(cursor)
    assert found.ended
    check_law(said, [*heard, *found.events])


@settings(max_examples=100, deadline=None)
@given(job_events())
def test_a_late_follower_gets_the_newest_step_and_all_the_rest(said: list[JobEvent]) -> None:
    event_log = EventLog("j")
    for event in said[:-1]:
        event_log.append(event)
    heard = event_log.since(0).events
    steps = [e for e in said if isinstance(e, events.Step)]
    assert [e for e in heard if isinstance(e, events.Step)][0:1] == [
        heard_step for heard_step in heard if isinstance(heard_step, events.Step)
    ]
    if steps:
        newest = next(e for e in heard if isinstance(e, events.Step))
        assert newest.model_copy(update={"preview": None}) == steps[-1].model_copy(update={"preview": None})
        shown = [s.preview for s in steps if s.preview and (s.attempt, s.image) == (newest.attempt, newest.image)]
        assert newest.preview == (shown[-1] if shown and _is_last_preview(steps, newest) else newest.preview)
    assert without_steps(heard) == without_steps(said[:-1])


def _is_last_preview(steps: list[events.Step], newest: events.Step) -> bool:
    last = [s for s in steps if s.preview][-1]
    return (last.attempt, last.image) == (newest.attempt, newest.image)


@settings(max_examples=100, deadline=None)
@given(job_events(), st.data())
def test_an_event_log_built_again_goes_on_where_a_follower_stopped(said: list[JobEvent], data: st.DataObject) -> None:
    event_log = EventLog("j", 5000)
    for event in said:
        event_log.append(event)
    found = event_log.since(0)
    again = event_log_from_log("j", event_log.compact_log(), lambda image_id: record(int(image_id, 16)))
    place = data.draw(st.integers(0, len(found.events)))
    cursor = found.cursors[place - 1] if place else 0
    rest = again.since(cursor)
    assert rest.ended
    assert list(rest.events) == without_steps(found.events[place:])


def test_of_loadings_of_one_thing_the_newest_is_kept() -> None:
    event_log = EventLog("j")
    event_log.append(events.Queued(job_id="j", at=0.0, position=0))
    for fraction in range(1000):
        event_log.append(events.Loading(job_id="j", at=0.0, what="model", fraction=fraction / 1000))
    cursor = event_log.since(0).cursor
    event_log.append(events.Loading(job_id="j", at=0.0, what="model", fraction=1.0))
    assert [event.type for event in event_log.since(cursor).events] == ["loading"]
    event_log.append(events.Loading(job_id="j", at=0.0, what="another"))
    event_log.append(events.Notice(job_id="j", at=0.0, code="c", message="m"))
    event_log.append(events.Loading(job_id="j", at=0.0, what="another"))
    event_log.append(events.Done(job_id="j", at=0.0, seconds=1.0))
    heard = event_log.since(0).events
    assert [getattr(event, "what", event.type) for event in heard] == [
        "queued",
        "model",
        "another",
        "notice",
        "another",
        "done",
    ]
    assert isinstance(heard[1], events.Loading) and heard[1].fraction == 1.0


def test_nothing_follows_an_ending() -> None:
    event_log = EventLog("j")
    event_log.append(events.Queued(job_id="j", at=0.0, position=0))
    event_log.append(events.Cancelled(job_id="j", at=0.0))
    event_log.append(events.Done(job_id="j", at=0.0, seconds=1.0))
    assert [e.type for e in event_log.since(0).events] == ["queued", "cancelled"]


def test_a_cursor_of_an_event_log_that_is_no_more_starts_from_the_beginning() -> None:
    event_log = EventLog("j")
    event_log.append(events.Queued(job_id="j", at=0.0, position=0))
    assert len(event_log.since(10**15).events) == 1


def test_followers_are_woken_until_they_unsubscribe() -> None:
    event_log, woken = EventLog("j"), []
    stop = event_log.subscribe(lambda: woken.append(1))
    event_log.append(events.Queued(job_id="j", at=0.0, position=0))
    stop()
    stop()
    event_log.append(events.Queued(job_id="j", at=0.0, position=1))
    assert woken == [1] and not event_log.is_followed


def test_the_kept_log_holds_no_picture_data() -> None:
    event_log = EventLog("j")
    for event in (
        events.Queued(job_id="j", at=0.0, position=0),
        events.Step(job_id="j", at=0.0, image=0, index=1, total=4, preview=b"x" * 1000),
        events.Saved(job_id="j", at=0.0, image=0, record=record(0)),
        events.Cancelled(job_id="j", at=0.0),
    ):
        event_log.append(event)
    assert [data["type"] for _, data in json.loads(event_log.compact_log())] == ["queued", "saved", "cancelled"]
    assert len(event_log.compact_log()) < 600
