"""Which worker runs which waiting job, and when: the order of turns, laid out over the workers.

A job goes where its models are, unless waiting for that worker takes longer than reading them on another. Pure: seconds
in, routes out. Where the seconds come from is `router.py`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker, as far as a plan needs to know it.

    Attributes:
        is_free: It has no job and can take one now.
        free_in_s: Until it can begin a job: what runs, or its own start; inf where nobody knows.
        unread: By `path_key`, which share of a model it still has to read: 0 of one that is where it runs.
        held_bytes: Of the models in its memory. Of equal seats the emptiest is taken, so that others keep their models.
    """

    name: str
    is_free: bool = True
    free_in_s: float = 0.0
    unread: Mapping[str, float] = field(default_factory=dict)
    held_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A waiting job.

    Attributes:
        seconds: Predicted, once its models are there; inf where nobody knows.
        load_s: By `path_key`, the seconds that reading each of its models takes.
        passed_s: How long ago a free worker left it to one that has its models, for the first time.
        avoid: A worker that has failed with it: it goes there only if there is no other.
    """

    job_id: str
    seconds: float = math.inf
    load_s: Mapping[str, float] = field(default_factory=dict)
    passed_s: float = 0.0
    avoid: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a waiting job will run. is_now: the worker is free and is to take it; else it waits for it."""

    job_id: str
    seat: str
    starts_in_s: float
    is_now: bool


def plan_routes(jobs: Sequence[Wanted], seats: Sequence[Seat]) -> tuple[Route, ...]:
    """Give every job a seat.

    Each takes the one on which it begins to generate first, after those before it. One that waits for its models'
    worker lets later ones pass, but not for longer than reading its models elsewhere would have taken (what runs there
    may take longer than predicted): then it takes the first worker that is free.

    Args:
        jobs: In the order of their turns.
        seats: None: no job gets a place.
    """
    at_s = {seat.name: seat.free_in_s for seat in seats}
    unread = {seat.name: dict(seat.unread) for seat in seats}
    free = {seat.name for seat in seats if seat.is_free}
    routes = []
    for job in jobs:
        usable = [seat for seat in seats if seat.name != job.avoid] or seats
        if not usable:
            break
        swap_s = {}
        for seat in usable:
            swap_s[seat.name] = sum(load_s * unread[seat.name].get(key, 1.0) for key, load_s in job.load_s.items())
        is_due = 0 < max(swap_s.values()) <= job.passed_s

        def begins(seat: Seat, swap_s: Mapping[str, float] = swap_s, is_due: bool = is_due) -> tuple[float, ...]:
            start_s = at_s[seat.name]
            first = start_s if is_due else start_s + swap_s[seat.name]
            return first, swap_s[seat.name], seat.name not in free, seat.held_bytes

        chosen = min(usable, key=begins).name
        routes.append(Route(job.job_id, chosen, at_s[chosen], chosen in free))
        free.discard(chosen)
        at_s[chosen] += swap_s[chosen] + job.seconds
        unread[chosen].update(dict.fromkeys(job.load_s, 0.0))
    return tuple(routes)
