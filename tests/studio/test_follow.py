"""The async adapter: everything but Steps at once, Steps at most so often, nothing left behind."""

import asyncio
import itertools
import threading

from contract import events
from contract.events import JobEvent
from studio.jobs.event_log import EventLog
from studio.jobs.follow import follow


def step(index: int) -> events.Step:
    return events.Step(job_id="j", at=0.0, image=0, index=index, total=99)


async def heard_of(event_log: EventLog, cursor: int = 0, interval_s: float = 0.02) -> list[tuple[float, JobEvent]]:
    loop = asyncio.get_running_loop()
    return [(loop.time(), event) async for _, event in follow(event_log, cursor, min_interval_s=interval_s)]


def test_steps_are_thinned_and_the_rest_is_not() -> None:
    event_log = EventLog("j")
    event_log.append(events.Queued(job_id="j", at=0.0, position=0))

    def say() -> None:
        pause = threading.Event()
        for index in range(1, 61):
            event_log.append(step(index))
            if index % 20 == 0:
                event_log.append(events.Notice(job_id="j", at=0.0, code="c", message=str(index)))
            pause.wait(0.002)
        event_log.append(events.Done(job_id="j", at=0.0, seconds=1.0))

    thread = threading.Thread(target=say)
    thread.start()
    heard = asyncio.run(asyncio.wait_for(heard_of(event_log), 10))
    thread.join()
    steps = [(at, e.index) for at, e in heard if isinstance(e, events.Step)]
    assert 1 < len(steps) < 40
    assert all(b[0] - a[0] > 0.019 and b[1] > a[1] for a, b in itertools.pairwise(steps))
    assert [e.message for _, e in heard if isinstance(e, events.Notice)] == ["20", "40", "60"]
    assert isinstance(heard[0][1], events.Queued) and isinstance(heard[-1][1], events.Done)
    assert not event_log.is_followed


def test_the_newest_step_comes_even_if_nothing_follows_it() -> None:
    event_log = EventLog("j")
    event_log.append(events.Queued(job_id="j", at=0.0, position=0))

    async def last_index() -> int:
        found = 0
        async for _, event in follow(event_log, min_interval_s=0.02):
            if isinstance(event, events.Queued):
                event_log.append(step(1))
            if isinstance(event, events.Step):
                if event.index == 1:
                    event_log.append(step(2))
                    event_log.append(step(3))
                else:
                    found = event.index
                    break
        return found

    assert asyncio.run(asyncio.wait_for(last_index(), 5)) == 3


def test_a_follower_that_leaves_is_forgotten() -> None:
    event_log = EventLog("j")
    event_log.append(events.Queued(job_id="j", at=0.0, position=0))

    async def leave() -> None:
        followed = follow(event_log)
        await anext(followed)
        assert event_log.is_followed
        await followed.aclose()
        assert not event_log.is_followed

    asyncio.run(leave())


def test_two_hundred_followers_need_no_thread() -> None:
    event_log = EventLog("j")
    event_log.append(events.Queued(job_id="j", at=0.0, position=0))

    async def all_of_them() -> int:
        tasks = [asyncio.create_task(heard_of(event_log)) for _ in range(200)]
        await asyncio.sleep(0)
        before = threading.active_count()
        event_log.append(events.Done(job_id="j", at=0.0, seconds=1.0))
        results = await asyncio.gather(*tasks)
        assert threading.active_count() == before
        return sum(len(r) for r in results)

    assert asyncio.run(asyncio.wait_for(all_of_them(), 10)) == 400


def test_following_an_ended_job_from_its_end_returns() -> None:
    event_log = EventLog("j")
    event_log.append(events.Queued(job_id="j", at=0.0, position=0))
    event_log.append(events.Cancelled(job_id="j", at=0.0))
    assert asyncio.run(asyncio.wait_for(heard_of(event_log, event_log.since(0).cursor), 5)) == []
