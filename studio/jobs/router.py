"""Asks what a plan needs to know (`routing.py`): what each worker has and does, and how long jobs and loads take.

One for all queues: those of model tasks have one worker each, named like the queue.
"""

import logging
import math
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from catalog.batching import batch_key
from contract.errors import StudioError
from contract.model_tasks import QueueName
from contract.records import EngineStatus, JobRecord
from contract.tasks import Generate
from contract.work import Prefetch, path_key
from studio.jobs.costs import Rates, billed, cost
from studio.jobs.engine_pool import EnginePool
from studio.jobs.fairness import Waiting
from studio.jobs.progress import JobProgress
from studio.jobs.queue import JobQueue
from studio.jobs.routing import Route, Seat, Wanted, plan_routes
from studio.jobs.run import Run
from studio.library.model_list import ModelList

logger = logging.getLogger(__name__)
_START_S = 10.0  # of a worker that starts or starts again
_READ_S_PER_BYTE = 1 / 300_000_000  # before a load was measured
_UNREAD = {"device": 0.0, "memory": 0.1, "coming": 0.5}  # share of a load that is left, by where a model is


class Router:
    """Plans the queues.

    Args:
        progress: Of a running job.
    """

    def __init__(
        self,
        queue: JobQueue,
        pool: EnginePool,
        models: ModelList,
        rates: Rates,
        progress: Callable[[str], JobProgress | None],
    ) -> None:
        self._queue, self._pool, self._models, self._rates, self._progress = queue, pool, models, rates, progress
        self._lock = threading.Lock()
        self._passed_at: dict[str, float] = {}  # when a free worker left a waiting job to another for the first time
        self._failed: dict[str, tuple[str, Run]] = {}  # jobs that another worker is to try: who failed, how far it is
        self._patches: dict[str, tuple[str, ...]] = {}  # by worker, of its last job: LoRAs and the like
        self._sizes: tuple[int, dict[str, int]] = (-1, {})

    def routes(self, queue_name: QueueName) -> tuple[Route, ...]:
        """Where and when each waiting job of a queue will run, in the order of their turns."""
        return self._plan(queue_name, self._queue.waiting(queue_name))

    def choose(self, worker: str, queue_name: QueueName, order: Sequence[Waiting]) -> str | None:
        """The job that a worker without work is to take; None if all are others' or none waits."""
        now = time.monotonic()
        for route in self._plan(queue_name, order):
            if route.is_now and route.seat == worker:
                return route.job_id
            if not route.is_now:
                with self._lock:
                    self._passed_at.setdefault(route.job_id, now)
        return None

    def on_taken(self, worker: str, job: JobRecord) -> Run | None:
        """A worker has taken a job. Returns its run, if another worker began it."""
        with self._lock:
            self._passed_at.pop(job.id, None)
            self._patches[worker] = tuple(path_key(ref) for ref in job.task.models if ref.kind != "checkpoint")
            _, run = self._failed.pop(job.id, ("", None))
        return run

    def forget(self, job_id: str) -> None:
        """A waiting job was withdrawn."""
        with self._lock:
            self._passed_at.pop(job_id, None)
            self._failed.pop(job_id, None)

    def hand_over(self, worker: str, run: Run) -> bool:
        """Let another worker try a job with which this one failed. Returns False if there is and will be no other."""
        has_other = bool(self._usable().keys() - {worker}) or self._pool.replaces_lost
        if not has_other or run.job.task.queue_name != "engine":
            return False
        with self._lock:
            self._failed[run.job.id] = worker, run
        try:
            self._queue.hand_over(run.job.id)
        except StudioError as error:
            logger.warning("job %s is tried again where it failed: %s", run.job.id, error.message)
            self.forget(run.job.id)
            return False
        return True

    def prefetch(self, worker: str) -> Prefetch | None:
        """The checkpoint of the job that this worker takes next, unless the one that it runs has it.

        If something is wrong with it, that job will say so itself.
        """
        following = self._following(worker)
        if following is None or not isinstance(following.task, Generate):
            return None
        wanted = following.task.recipe.model
        for running in self._queue.at_worker(worker):
            if isinstance(running.task, Generate) and running.task.recipe.model.fingerprint == wanted.fingerprint:
                return None
        entry = self._models.as_it_is_now(wanted.name)
        if entry is None or entry.problem or entry.ref.fingerprint != wanted.fingerprint:
            return None
        return Prefetch(entry.ref, str(entry.path))

    def joining(self, worker: str, count: int) -> JobRecord | None:
        """The job that this worker takes next, if it may run beside the `count` that it runs.

        Only that one: a job that can't join is not overtaken by those behind it.
        """
        status = self._pool.statuses().get(worker)
        if status is None or status.batch_jobs <= count or not self._queue.waiting():
            return None
        following = self._following(worker)
        if following is None:
            return None
        key = batch_key(following.task)
        running = {batch_key(job.task) for job in self._queue.at_worker(worker)}
        return following if key is not None and running == {key} else None

    def _following(self, worker: str) -> JobRecord | None:
        """The job that a worker takes next, as things are."""
        job_id = next((route.job_id for route in self.routes("engine") if route.seat == worker), None)
        return None if job_id is None else self._queue.record(job_id)

    def seat_for(self, key: str) -> str | None:
        """The worker that would run a job with this model (by `path_key`) now; None if there is no worker."""
        statuses = self._usable()
        wanted = Wanted("", math.inf, {key: self._load_s((key,), statuses)[key]})
        routes = plan_routes((wanted,), self._seats("engine", statuses))
        return routes[0].seat if routes else None

    def _plan(self, queue_name: QueueName, order: Sequence[Waiting]) -> tuple[Route, ...]:
        if not order:
            return ()
        statuses = self._usable() if queue_name == "engine" else {}
        load_s = self._load_s({key for waiting in order for key in waiting.models}, statuses)
        now, jobs = time.monotonic(), []
        for waiting in order:
            seconds = self._rates.predict(waiting.model, waiting.cost) if queue_name == "engine" else None
            avoid, _ = self._failed.get(waiting.id, ("", None))
            jobs.append(
                Wanted(
                    waiting.id,
                    math.inf if seconds is None else seconds,
                    {key: load_s[key] for key in waiting.models},
                    now - self._passed_at.get(waiting.id, now),
                    avoid,
                )
            )
        return plan_routes(jobs, self._seats(queue_name, statuses))

    def _usable(self) -> dict[str, EngineStatus]:
        """The workers that are not stopped; all, if all are for good: the next job says so."""
        statuses = self._pool.statuses()
        usable = {name: status for name, status in statuses.items() if status.state != "stopped"}
        return usable if usable or self._pool.replaces_lost else statuses

    def _seats(self, queue_name: QueueName, statuses: Mapping[str, EngineStatus]) -> list[Seat]:
        if queue_name != "engine":
            return [Seat(queue_name, *self._left(queue_name))]
        seats = []
        for name, status in statuses.items():
            is_free, free_in_s = self._left(name)
            if status.state in ("starting", "restarting"):
                free_in_s += _START_S
            unread = dict.fromkeys(self._patches.get(name, ()), 0.0)
            for model in status.models:
                unread[f"{model.kind}/{model.name}"] = _UNREAD[model.place]
            held_bytes = sum(model.bytes for model in status.models)
            seats.append(Seat(name, is_free, free_in_s, unread, held_bytes))
        return seats

    def _left(self, worker: str) -> tuple[bool, float]:
        """Whether a worker has no job, and the seconds that its jobs still take; inf where nobody knows."""
        jobs = self._queue.at_worker(worker)
        left_s = 0.0
        for job in jobs:
            progress = self._progress(job.id)
            seconds = progress.left_s if progress else None
            if seconds is None and job.task.queue_name == "engine":
                seconds = self._rates.predict(billed(job.task), cost(job.task))
            left_s = max(left_s, math.inf if seconds is None else seconds)
        return not jobs, left_s

    def _load_s(self, keys: Sequence[str] | set[str], statuses: Mapping[str, EngineStatus]) -> dict[str, float]:
        """Seconds that reading each of these models takes, by the loads that were measured."""
        measured = []
        for status in statuses.values():
            measured += [model.load_s / model.bytes for model in status.models if model.load_s and model.bytes]
        s_per_byte = statistics.median(measured) if measured else _READ_S_PER_BYTE
        generation, sizes = self._sizes
        if generation != self._models.generation:
            sizes = {path_key(entry.ref): entry.size_bytes for entry in self._models.listed()}
            self._sizes = self._models.generation, sizes
        return {key: sizes.get(key, 0) * s_per_byte for key in keys}
