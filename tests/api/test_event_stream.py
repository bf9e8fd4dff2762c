"""Jobs followed as Server-Sent Events: from the start, late, again after a break, up to the end."""

import asyncio
import base64
import json
import threading
import time
from typing import Any

import pytest

from api.event_stream import stream
from contract.events import Done, Queued
from studio.jobs.event_log import EventLog
from tests.support.serving import Site, Visitor, until

ENDINGS = {"done", "failed", "cancelled", "interrupted"}


def read(text: str) -> list[dict[str, Any]]:
    """The events of a stream as {"id", "event", "data"}."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "data" in fields:
            events.append({**fields, "id": int(fields["id"]), "data": json.loads(fields["data"])})
    return events


def follow(visitor: Visitor, job: str, **choices: Any) -> list[dict[str, Any]]:
    answer = visitor.get(f"/api/v1/jobs/{job}/events", **choices)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
    return read(answer.text)


def test_a_follower_hears_everything_up_to_the_ending(held: Site) -> None:
    me = held.visitor()
    job = me.paint(count=2)
    threading.Timer(0.05, held.worker.gate.set).start()
    events = follow(me, job)
    kinds = [event["event"] for event in events]
    assert kinds[0] == "queued" and kinds[-1] == "done" and kinds.count("saved") == 2
    assert sum(kind in ENDINGS for kind in kinds) == 1
    assert all(event["data"]["type"] == event["event"] and event["data"]["job_id"] == job for event in events)
    assert [event["id"] for event in events] == sorted({event["id"] for event in events})


def test_a_late_follower_hears_the_pictures_and_the_end(me: Visitor) -> None:
    job = me.paint("[notice] sea", count=2)
    me.finish(job)
    events = follow(me, job)
    kinds = [event["event"] for event in events]
    assert kinds.count("saved") == 2 and "notice" in kinds and kinds[-1] == "done"


def test_a_follower_goes_on_after_a_break(me: Visitor) -> None:
    job = me.paint(count=3)
    me.finish(job)
    events = follow(me, job)
    middle = events[len(events) // 2]["id"]
    rest = [event for event in events if event["id"] > middle]
    assert follow(me, job, headers={"Last-Event-ID": str(middle)}) == rest
    assert follow(me, job, params={"cursor": middle}) == rest


@pytest.mark.parametrize("cursor", ["", "abc", "-1", "1e3", "\u0661", "99999999999999999999"])
def test_an_odd_last_event_id_starts_again(me: Visitor, cursor: str) -> None:
    job = me.paint()
    me.finish(job)
    assert follow(me, job, headers={"Last-Event-ID": cursor.encode()})[-1]["event"] == "done"


def test_after_the_ending_a_stream_is_empty_and_ends(me: Visitor) -> None:
    job = me.paint()
    me.finish(job)
    last = follow(me, job)[-1]["id"]
    assert follow(me, job, headers={"Last-Event-ID": str(last)}) == []


def test_previews_are_data_addresses_and_pictures_have_theirs(held: Site) -> None:
    me = held.visitor()
    job = me.paint(seed=2**63)
    threading.Timer(0.05, held.worker.gate.set).start()
    events = follow(me, job)
    previews = [event["data"].get("preview") for event in events if event["event"] == "step"]
    assert previews and all(
        base64.b64decode(p.removeprefix("data:image/jpeg;base64,"))[:2] == b"\xff\xd8" for p in previews if p
    )
    record = next(event["data"]["record"] for event in events if event["event"] == "saved")
    assert record["seed"] == str(2**63) and me.get(record["url"]).status_code == 200 and "owner" not in record


@pytest.mark.parametrize(("prompt", "ending"), [("[fail] sea", "failed"), ("sea", "done")])
def test_every_ending_ends_the_stream(me: Visitor, prompt: str, ending: str) -> None:
    assert follow(me, me.paint(prompt))[-1]["event"] == ending


def test_a_cancelled_job_ends_its_stream(held: Site) -> None:
    me = held.visitor()
    job = me.paint()
    until(lambda: me.state(job) == "running")
    threading.Timer(0.05, lambda: me.delete(f"/api/v1/jobs/{job}")).start()
    assert follow(me, job)[-1]["event"] == "cancelled"


def test_events_come_as_they_happen_and_uncompressed(held: Site) -> None:
    me = held.visitor()
    job = me.paint()
    with me.stream("GET", f"/api/v1/jobs/{job}/events", headers={"Accept-Encoding": "gzip"}) as answer:
        lines = answer.iter_lines()
        assert "content-encoding" not in answer.headers
        assert any(line == "event: queued" for line in lines)
        held.worker.gate.set()
        assert "event: done" in list(lines)


def test_a_follower_that_goes_away_leaves_nothing_behind(held: Site) -> None:
    me = held.visitor()
    job = me.paint()
    owner = held.studio._queue.records("id = ?", (job,))[0].owner
    event_log = held.studio.event_log(job, owner)
    with me.stream("GET", f"/api/v1/jobs/{job}/events") as answer:
        lines = answer.iter_lines()  # held: httpx hangs up when its iterator is dropped
        assert next(lines)
        until(lambda: event_log.is_followed)
    until(lambda: not event_log.is_followed)
    held.worker.gate.set()
    assert me.finish(job)["state"] == "done"


def test_a_quiet_stream_is_kept_alive() -> None:
    async def go() -> list[bytes]:
        event_log = EventLog("job")
        event_log.append(Queued(job_id="job", at=1.0, position=0))
        parts = []
        async for part in stream(event_log, keep_alive_s=0.01):
            parts.append(part)
            if part.startswith(b":"):
                event_log.append(Done(job_id="job", at=2.0, seconds=1.0))
        return parts

    parts = asyncio.run(go())
    assert any(part.startswith(b": ") for part in parts) and b"event: done" in parts[-1]


def test_many_followers_of_one_job_all_hear_its_end(held: Site) -> None:
    me = held.visitor()
    job = me.paint()
    heard: list[str] = []

    def listen() -> None:
        heard.append(follow(me, job)[-1]["event"])

    threads = [threading.Thread(target=listen) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    held.worker.gate.set()
    for thread in threads:
        thread.join(10)
    assert heard == ["done"] * 8
