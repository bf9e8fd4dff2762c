"""Events travel as JSON and come back as the same kind. Their order is tested in tests/studio/test_event_log.py."""

import pytest

from contract.events import (
    ENDINGS,
    JOB_EVENT,
    Cancelled,
    Done,
    Failed,
    Interrupted,
    JobEvent,
    Loading,
    Notice,
    Queued,
    Step,
    is_ending,
)

EVENTS: tuple[JobEvent, ...] = (
    Queued(job_id="j", at=1.0, position=2, wait_s=3.0),
    Loading(job_id="j", at=1.0, what="Starter", fraction=0.5),
    Step(job_id="j", at=1.0, image=0, index=1, total=4),
    Notice(job_id="j", at=1.0, code="c", message="m"),
    Done(job_id="j", at=1.0, seconds=2.0),
    Failed(job_id="j", at=1.0, code="c", message="m"),
    Cancelled(job_id="j", at=1.0),
    Interrupted(job_id="j", at=1.0),
)


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: e.type)
def test_an_event_survives_json(event: JobEvent) -> None:
    assert JOB_EVENT.validate_json(event.model_dump_json()) == event
    assert is_ending(event) == isinstance(event, ENDINGS)


def test_every_kind_has_its_own_name() -> None:
    assert len({event.type for event in EVENTS}) == len(EVENTS)
