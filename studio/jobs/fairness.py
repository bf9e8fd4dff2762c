"""Whose job is next: start-time fair queueing over owners, by cost and not by click.

Every owner has a start tag: the virtual time at which their next job may start. The smallest goes first
and then moves on by the job's cost; an owner who was idle starts at the present virtual time, so that turns
can't be saved up. Source: Goyal, Vin, Cheng 1996, "Start-time Fair Queueing". Knows no database and no clock.
"""

import bisect
import heapq
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, order=True)
class Waiting:
    """A waiting job; among one owner's, the lowest (rank, id) goes first."""

    rank: float
    id: str
    owner: str
    cost: float
    model: str = ""  # for predictions only
    models: tuple[str, ...] = ()  # all that it needs, by `path_key`


class FairOrder:
    """The waiting jobs of all owners. Not safe from several threads; the queue locks."""

    def __init__(self) -> None:
        self._by_owner: dict[str, list[Waiting]] = {}
        self._start: dict[str, float] = {}
        self._now = 0.0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def count_of(self, owner: str) -> int:
        """How many jobs of an owner wait."""
        return len(self._by_owner.get(owner, ()))

    def of(self, owner: str) -> tuple[Waiting, ...]:
        """An owner's waiting jobs, next first."""
        return tuple(self._by_owner.get(owner, ()))

    def add(self, job: Waiting) -> None:
        """Take a job in."""
        jobs = self._by_owner.setdefault(job.owner, [])
        if not jobs:
            self._start[job.owner] = max(self._now, self._start.get(job.owner, 0.0))
        bisect.insort(jobs, job)
        self._count += 1

    def remove(self, job_id: str, owner: str) -> Waiting | None:
        """Take a job out unserved."""
        jobs = self._by_owner.get(owner, [])
        for job in jobs:
            if job.id == job_id:
                jobs.remove(job)
                self._count -= 1
                if not jobs:
                    del self._by_owner[owner]
                return job
        return None

    def take(self, job_id: str | None = None) -> Waiting | None:
        """The job to serve now, or one that is served ahead of others; its owner's tag moves on.

        The virtual time is that of the owner who would have been served, so that nobody's turn is lost by it.
        """
        if not self._by_owner:
            return None
        owner = first = min(self._by_owner, key=lambda o: (self._start[o], self._by_owner[o][0].id))
        job: Waiting | None = self._by_owner[first][0]
        now = self._start[first]
        if job_id is not None:
            job = next((job for jobs in self._by_owner.values() for job in jobs if job.id == job_id), None)
            if job is None:
                return None
            owner = job.owner
        assert job is not None
        self.remove(job.id, owner)
        self._now = now
        self._start[owner] += job.cost
        if len(self._start) > 4 * len(self._by_owner) + 64:
            self._start = {o: tag for o, tag in self._start.items() if tag > self._now or o in self._by_owner}
        return job

    def give_back(self, job: Waiting) -> None:
        """Take a job in again that was taken and not served: it is its owner's next, and the turn was none."""
        first = self._by_owner.get(job.owner)
        rank = min(job.rank, first[0].rank - 1.0) if first else job.rank
        self.add(replace(job, rank=rank))
        self._start[job.owner] = max(0.0, self._start[job.owner] - job.cost)

    def order(self) -> list[Waiting]:
        """All waiting jobs in the order they would be served if nothing else came."""
        heads = [(self._start[owner], jobs[0].id, owner, 0) for owner, jobs in self._by_owner.items()]
        heapq.heapify(heads)
        served: list[Waiting] = []
        while heads:
            start, _, owner, index = heapq.heappop(heads)
            jobs = self._by_owner[owner]
            served.append(jobs[index])
            if index + 1 < len(jobs):
                heapq.heappush(heads, (start + jobs[index].cost, jobs[index + 1].id, owner, index + 1))
        return served
