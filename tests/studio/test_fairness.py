"""Turns are shared by cost, whoever clicks more often."""

import random

from studio.jobs.fairness import FairOrder, Waiting


def jobs(owner: str, costs: list[float], first: int = 0) -> list[Waiting]:
    return [Waiting(float(first + n), f"{owner}{first + n:04d}", owner, cost) for n, cost in enumerate(costs)]


def drain(order: FairOrder) -> list[Waiting]:
    served = []
    while (job := order.take()) is not None:
        served.append(job)
    return served


def test_one_owner_is_served_in_order() -> None:
    order = FairOrder()
    mine = jobs("a", [3.0, 1.0, 2.0])
    for job in reversed(mine):
        order.add(job)
    assert drain(order) == mine


def test_who_queues_eight_does_not_hold_up_who_queues_one() -> None:
    order = FairOrder()
    for job in jobs("a", [1.0] * 8):
        order.add(job)
    assert order.take().owner == "a"  # type: ignore[union-attr]
    for owner in "bcde":
        order.add(jobs(owner, [1.0])[0])
    assert [job.owner for job in drain(order)][:5] in (list("abcde"), list("bcdea"))


def test_long_jobs_count_for_more_than_short_ones() -> None:
    order = FairOrder()
    for job in (*jobs("big", [10.0] * 4), *jobs("small", [1.0] * 30)):
        order.add(job)
    served = drain(order)
    first = served[: next(n for n, job in enumerate(served) if [j.owner for j in served[:n]].count("big") == 3)]
    small = sum(job.cost for job in first if job.owner == "small")
    assert 15 <= small <= 30


def test_shares_are_equal_over_a_long_time() -> None:
    chance, order, number = random.Random(1), FairOrder(), 0
    done = dict.fromkeys("abcd", 0.0)
    for _ in range(2000):
        for owner in done:
            while order.count_of(owner) < 2:
                number += 1
                order.add(Waiting(float(number), f"{number:06d}", owner, chance.choice([1.0, 2.0, 8.0])))
        job = order.take()
        assert job is not None
        done[job.owner] += job.cost
    total = sum(done.values())
    jain = total**2 / (len(done) * sum(x * x for x in done.values()))
    assert jain > 0.99


def test_an_idle_owner_saves_up_no_turns() -> None:
    order = FairOrder()
    for job in jobs("a", [1.0] * 50):
        order.add(job)
    for _ in range(40):
        order.take()
    for job in jobs("b", [1.0] * 10):
        order.add(job)
    served = [job.owner for job in drain(order)][:10]
    assert 4 <= served.count("a") <= 6


def test_the_foretold_order_is_the_order_that_comes() -> None:
    chance, order = random.Random(2), FairOrder()
    for owner in "abcde":
        for job in jobs(owner, [chance.uniform(0.1, 9.0) for _ in range(chance.randint(1, 9))]):
            order.add(job)
    order.take()
    assert order.order() == drain(order)


def test_a_job_served_ahead_of_others_costs_its_owner_the_turn_and_no_one_else_theirs() -> None:
    order = FairOrder()
    for job in (*jobs("a", [5.0, 5.0]), *jobs("b", [1.0] * 3)):
        order.add(job)
    assert order.take("b0001") == jobs("b", [1.0] * 3)[1]  # a's turn: it waits for its worker
    assert order.take("b0001") is None and len(order) == 4
    order.add(jobs("c", [1.0])[0])  # begins at the turn that a still has
    assert [job.id for job in drain(order)] == ["a0000", "c0000", "b0000", "b0002", "a0001"]


def test_a_job_that_is_given_back_is_its_owners_next_and_cost_no_turn() -> None:
    order = FairOrder()
    for job in (*jobs("a", [5.0, 5.0]), *jobs("b", [1.0])):
        order.add(job)
    before = [job.id for job in order.order()]
    taken = order.take()
    assert taken is not None
    order.give_back(taken)
    assert [job.id for job in order.order()] == before
