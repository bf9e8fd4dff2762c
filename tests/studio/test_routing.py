"""Which worker a job goes to: where its models are, unless waiting costs more than reading them elsewhere."""

import math
import random

import pytest

from studio.jobs.routing import Route, Seat, Wanted, plan_routes

A, B = "checkpoint/a", "checkpoint/b"
HAS_A, HAS_B = {A: 0.0}, {B: 0.0}


def seat(name: str, free_in_s: float | None = None, unread: dict[str, float] | None = None, held: int = 0) -> Seat:
    """free_in_s None: it is free."""
    return Seat(name, free_in_s is None, free_in_s or 0.0, unread or {}, held)


def wants(model: str, job: str = "j", seconds: float = 5.0, load_s: float = 10.0, **more: object) -> Wanted:
    return Wanted(job, seconds, {model: load_s}, **more)  # type: ignore[arg-type]


CASES = {
    "a free worker with the model": (
        [wants(A)],
        [seat("1", unread=HAS_B), seat("2", unread=HAS_A)],
        [("2", 0.0, True)],
    ),
    "waits where its model is, when that is shorter than reading it": (
        [wants(A)],
        [seat("1"), seat("2", 9.0, HAS_A)],
        [("2", 9.0, False)],
    ),
    "reads it on a free one, when waiting takes longer": (
        [wants(A)],
        [seat("1"), seat("2", 11.0, HAS_A)],
        [("1", 0.0, True)],
    ),
    "nobody knows how long what runs there takes: a free one": (
        [wants(A)],
        [seat("1"), seat("2", math.inf, HAS_A)],
        [("1", 0.0, True)],
    ),
    "a model that waits in the machine's memory is near": (
        [wants(A)],
        [seat("1"), seat("2", unread={A: 0.1})],
        [("2", 0.0, True)],
    ),
    "the emptiest of equals, so that others keep their models": (
        [wants(A)],
        [seat("1", unread=HAS_B, held=5), seat("2")],
        [("2", 0.0, True)],
    ),
    "one that waits lets a later one pass": (
        [wants(A, "first"), wants(B, "second")],
        [seat("1", unread=HAS_B), seat("2", 9.0, HAS_A)],
        [("2", 9.0, False), ("1", 0.0, True)],
    ),
    "the queue before a busy worker counts": (
        [wants(A, "first"), wants(A, "second"), wants(A, "third")],
        [seat("1"), seat("2", 4.0, HAS_A)],
        [("2", 4.0, False), ("2", 9.0, False), ("1", 0.0, True)],
    ),
    "two of one model on two free workers": (
        [wants(A, "first", seconds=30.0), wants(A, "second")],
        [seat("1", unread=HAS_A), seat("2")],
        [("1", 0.0, True), ("2", 0.0, True)],
    ),
    "what was read for the first serves the next": (
        [wants(A, "first"), wants(B, "second"), wants(A, "third")],
        [seat("1"), seat("2")],
        [("1", 0.0, True), ("2", 0.0, True), ("1", 15.0, False)],
    ),
    "passed over for less than its swap: it waits on": (
        [wants(A, passed_s=9.9), wants(B, "second")],
        [seat("1", unread=HAS_B), seat("2", 9.0, HAS_A)],
        [("2", 9.0, False), ("1", 0.0, True)],
    ),
    "passed over for as long as its swap: it takes the first that is free": (
        [wants(A, passed_s=10.0), wants(B, "second")],
        [seat("1", unread=HAS_B), seat("2", 9.0, HAS_A)],
        [("1", 0.0, True), ("1", 15.0, False)],
    ),
    "passed over, and none is free: the first that will be": (
        [wants(A, passed_s=10.0)],
        [seat("1", 1.0), seat("2", 2.0, HAS_A)],
        [("1", 1.0, False)],
    ),
    "not where it failed": (
        [wants(A, avoid="2")],
        [seat("1", 60.0), seat("2", unread=HAS_A)],
        [("1", 60.0, False)],
    ),
    "where it failed, if there is no other": ([wants(A, avoid="1")], [seat("1")], [("1", 0.0, True)]),
    "a worker that still starts is free later": (
        [wants(A)],
        [Seat("1", True, 10.0), Seat("2", True, 0.0)],
        [("2", 0.0, True)],
    ),
    "one worker: the order of turns": (
        [wants(A, "first"), wants(B, "second"), wants(A, "third")],
        [seat("1", 3.0, HAS_B)],
        [("1", 3.0, False), ("1", 18.0, False), ("1", 23.0, False)],
    ),
    "a queue without predictions: one after the other, who knows when": (
        [Wanted("first"), Wanted("second")],
        [seat("1")],
        [("1", 0.0, True), ("1", math.inf, False)],
    ),
    "no worker, no route": ([wants(A)], [], []),
}


@pytest.mark.parametrize("name", CASES)
def test_a_job_gets_its_place(name: str) -> None:
    jobs, seats, expected = CASES[name]
    routes = [Route(job.job_id, *where) for job, where in zip(jobs, expected, strict=False)]
    assert list(plan_routes(jobs, seats)) == routes


def test_no_free_worker_idles_while_a_job_without_a_better_place_waits() -> None:
    """For any queue: each free worker gets a job, or every waiting one begins sooner elsewhere; none has two at once."""
    chance = random.Random(3)
    for _ in range(300):
        seats = []
        for name in "123":
            models = {f"checkpoint/{chance.choice('abc')}": 0.0}
            free_in_s = chance.choice((None, 1.0, 8.0, 40.0))
            seats.append(seat(name, free_in_s, models))
        jobs = []
        for number in range(chance.randrange(1, 7)):
            jobs.append(wants(f"checkpoint/{chance.choice('abc')}", str(number), passed_s=chance.choice((0, 20.0))))
        routes = plan_routes(jobs, seats)
        taken = [route.seat for route in routes if route.is_now]
        assert len(routes) == len(jobs) and len(taken) == len(set(taken))
        idle = [one for one in seats if one.is_free and one.name not in taken]
        for route in routes if idle else ():
            if route.is_now:
                continue
            assert route.starts_in_s <= 10.0  # reading it on the idle one would have taken as long
            assert not next(job for job in jobs if job.job_id == route.job_id).passed_s
