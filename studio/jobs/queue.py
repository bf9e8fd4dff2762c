"""The queue of jobs: rows in SQLite, their order in memory (`fairness.py`), caps, recovery after a crash.

Each queue has an order and caps of its own: a job in one delays none in another.
States: queued -> running -> done, failed, cancelled or interrupted. Runs nothing: `dispatcher.py` does.
"""

import json
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from contract.errors import NotFound, QueueFull, StudioError
from contract.model_tasks import QUEUE_NAMES, QueueName
from contract.records import JobRecord, JobState, StoredUpload
from contract.tasks import Task, read_task, task_json
from contract.work import path_key
from studio.jobs.costs import Rates, billed, cost
from studio.jobs.durations import about
from studio.jobs.fairness import FairOrder, Waiting
from studio.storage.database import Database
from studio.storage.ids import IdSource

RUNS_BEFORE_INTERRUPTED = 2
KEPT_S = 30 * 86_400.0  # rows of ended jobs; their pictures stay
_INTERRUPTED = (
    "interrupted",
    "The program ended under this job, twice.",
    "Run it again; if the program ends again, its log says why.",
)
_UPLOAD = re.compile(r'\{"sha256":"([0-9a-f]{64})"')  # an ImageRef or a StoredUpload; a ModelRef begins otherwise
_UNKNOWN_WAIT_S = 30.0
_LOOK_S = 0.25  # between two looks whether a job that waits for another worker is this one's now
NewJob = tuple[Task, Sequence[tuple[str, str]]]  # with its notices: code and sentence
_NAMING = (("jobs", "task"), ("jobs", "prepared"), ("images", "recipe"), ("images", "upscale"))


class JobQueue:
    """Jobs of all owners.

    Attributes:
        workers: How many jobs of each queue run at a time.
    """

    def __init__(
        self,
        database: Database,
        ids: IdSource,
        rates: Rates,
        *,
        most_per_owner: int,
        most: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._ids = ids
        self._rates = rates
        self._most_per_owner = most_per_owner
        self._most = most
        self._clock = clock
        self._lock = threading.RLock()
        self._orders = {queue_name: FairOrder() for queue_name in QUEUE_NAMES}
        self._at_worker: dict[str, tuple[QueueName, str]] = {}  # job -> its queue, the worker that has it
        self.workers: dict[QueueName, int] = dict.fromkeys(QUEUE_NAMES, 1)
        self._late_ends: dict[str, tuple[object, ...]] = {}
        self._changed = threading.Condition(self._lock)

    def recover(self) -> tuple[JobRecord, ...]:
        """Load the waiting jobs; jobs that ran when the program died are put back once, then interrupted.

        Returns:
            The jobs that were interrupted.
        """
        interrupted = []
        with self._lock, self._database.change() as connection:
            for row in connection.execute("SELECT * FROM jobs WHERE state = 'running'").fetchall():
                if row["starts"] < RUNS_BEFORE_INTERRUPTED:
                    connection.execute(
                        "UPDATE jobs SET state = 'queued', attempt = attempt + 1 WHERE id = ?", (row["id"],)
                    )
                else:
                    connection.execute(
                        "UPDATE jobs SET state = 'interrupted', finished_at = ?, error_code = ?, "
                        "error_message = ?, error_hint = ? WHERE id = ?",
                        (self._clock(), *_INTERRUPTED, row["id"]),
                    )
                    interrupted.append(row["id"])
            for row in connection.execute("SELECT * FROM jobs WHERE state = 'queued'").fetchall():
                task = _task_of(row)
                if task is None:  # it must not block the others
                    connection.execute(
                        "UPDATE jobs SET state = 'failed', finished_at = ?, error_code = 'job_unreadable', "
                        "error_message = 'The job can''t be read any more.', "
                        "error_hint = 'Ask for it again.' WHERE id = ?",
                        (self._clock(), row["id"]),
                    )
                    continue
                self._orders[task.queue_name].add(_waiting(row, task))
            self._changed.notify_all()
        return tuple(self.record(job_id) for job_id in interrupted if _task_of(self.row(job_id)))

    def add(self, asked: Sequence[NewJob], owner: str, session: str | None) -> tuple[JobRecord, ...]:
        """Put jobs into one queue, all or none.

        Raises:
            QueueFull: the owner, or everyone together, has too many waiting.
        """
        with self._lock:
            order = self._orders[asked[0][0].queue_name]
            mine = order.count_of(owner)
            if mine + len(asked) > self._most_per_owner:
                wait_s = self._wait_until_start(order, order.of(owner)[0].id) if mine else 0.0
                message = f"You have {mine} jobs waiting, the most allowed."
                if len(asked) > 1:
                    most = f"{self._most_per_owner} may wait"
                    message = f"Each of the {len(asked)} pictures is a job; you have {mine} waiting, and {most}."
                raise QueueFull(
                    message,
                    f"Cancel one or wait about {about(wait_s)}." if mine else "Ask for fewer pictures.",
                    retry_after_s=max(1, round(wait_s)),
                )
            if len(order) + len(asked) > self._most:
                wait_s = self._wait_until_start(order, order.order()[0].id) if len(order) else 0.0
                raise QueueFull(
                    f"{len(order)} jobs wait already, and this studio accepts {self._most}.",
                    f"Try again in about {about(wait_s)}.",
                    retry_after_s=max(1, round(wait_s)),
                )
            now, added, values = self._clock(), [], []
            for task, notices in asked:
                job_id, job_cost = self._ids.new(), cost(task)
                rank = float(int(job_id[:12], 16))
                added.append(Waiting(rank, job_id, owner, job_cost, billed(task), _model_keys(task)))
                noted = json.dumps(list(notices))
                values += [job_id, owner, session, task_json(task), job_cost, rank, now, noted]
            rows = ", ".join(["(?, ?, ?, 'queued', ?, ?, ?, ?, ?)"] * len(added))
            columns = "id, owner, session, state, task, cost, rank, created_at, notices"
            self._database.write(f"INSERT INTO jobs ({columns}) VALUES {rows}", values)
            for waiting in added:
                order.add(waiting)
            self._changed.notify_all()
        return tuple(
            JobRecord(id=one.id, owner=owner, session=session, state="queued", task=task, created_at=now)
            for one, (task, _) in zip(added, asked, strict=True)
        )

    def _wait_until_start(self, order: FairOrder, job_id: str) -> float:
        """Seconds, roughly: the jobs before it and half of those that run, shared among the workers."""
        seconds = 0.0
        workers = next(self.workers[name] for name, known in self._orders.items() if known is order)
        for row in self._database.rows("SELECT * FROM jobs WHERE state = 'running'"):
            task = _task_of(row)
            if task and self._orders[task.queue_name] is order:
                seconds += 0.5 * self._predict(_waiting(row, task))
        for job in order.order():
            if job.id == job_id:
                break
            seconds += self._predict(job)
        return seconds / max(1, workers) or _UNKNOWN_WAIT_S

    def _predict(self, job: Waiting) -> float:
        return self._rates.predict(job.model, job.cost) or 0.0

    def next(
        self, timeout_s: float, queue_name: QueueName, choose: Callable[[Sequence[Waiting]], str | None]
    ) -> JobRecord | None:
        """The job that a worker is to take, which stays where it is; None if there was none within the time.

        Args:
            choose: Given the waiting jobs in the order of their turns, the id of the one to take, or None. Called with
                the queue locked.
        """
        with self._changed:
            order = self._orders[queue_name].order()
            job_id = choose(order)
            if job_id is None:
                self._changed.wait(min(timeout_s, _LOOK_S) if order else timeout_s)
                job_id = choose(self._orders[queue_name].order())
        return self.record(job_id) if job_id else None

    def take(self, job_id: str, queue_name: QueueName, worker: str) -> JobRecord | None:
        """Mark a waiting job as running on a worker; None if it waits no more."""
        with self._lock:
            job = self._orders[queue_name].take(job_id)
            if job is None:
                return None
            try:
                self._database.write("UPDATE jobs SET state = 'running', starts = starts + 1 WHERE id = ?", (job.id,))
            except StudioError:
                self._orders[queue_name].give_back(job)
                raise
            self._at_worker[job.id] = queue_name, worker
        return self.record(job.id)

    def hand_over(self, job_id: str) -> None:
        """Let a running job wait again, before its owner's others, for a worker that has not failed with it."""
        row = self.row(job_id)
        task = _task_of(row)
        assert row is not None and task is not None
        with self._changed:
            self.put_back(job_id)
            self._at_worker.pop(job_id, None)
            self._orders[task.queue_name].give_back(_waiting(row, task))
            self._changed.notify_all()

    def put_back(self, job_id: str) -> None:
        """Queue a job again that a regular shutdown interrupts, as if it had not started."""
        self._database.write(
            "UPDATE jobs SET state = 'queued', starts = MAX(0, starts - 1) WHERE id = ? AND state = 'running'",
            (job_id,),
        )

    def leave_worker(self, job_id: str, worker: str) -> None:
        """A job has left a worker, unless another has it by now: saving it delays no other."""
        with self._changed:
            if self.worker_of(job_id) == worker:
                del self._at_worker[job_id]
            self._changed.notify_all()

    def at_worker(self, worker: str) -> list[JobRecord]:
        """The jobs that a worker has, oldest first: they keep others waiting."""
        with self._lock:
            job_ids = [job_id for job_id, (_, name) in self._at_worker.items() if name == worker]
        return [self.record(job_id) for job_id in job_ids]

    def worker_of(self, job_id: str) -> str | None:
        """The worker that has a job; None if none has."""
        _, worker = self._at_worker.get(job_id, ("", None))
        return worker

    def running(self, queue_name: QueueName) -> int:
        """How many jobs of a queue workers have."""
        return sum(known == queue_name for known, _ in list(self._at_worker.values()))

    def wake(self) -> None:
        """Let a waiting next() return."""
        with self._changed:
            self._changed.notify_all()

    def withdraw(self, job_id: str, owner: str) -> bool:
        """Cancel a waiting job; False if it does not wait."""
        with self._lock:
            for order in self._orders.values():
                if order.remove(job_id, owner):
                    self.finish(job_id, "cancelled")
                    return True
            return False

    def finish(
        self, job_id: str, state: JobState, *, seconds: float | None = None, error: tuple[str, str, str] | None = None
    ) -> None:
        """Record how a job ended. error: code, message, hint.

        Raises:
            StudioError: it can't be written now; it counts all the same and `record_late` writes it.
        """
        end = (state, self._clock(), seconds, *(error or (None, None, None)))
        with self._lock:
            self._late_ends[job_id] = end
            self.record_late()

    def record_late(self) -> None:
        """Write the ends that could not be written when they came. Raises StudioError if they still can't."""
        with self._lock:
            for job_id, end in tuple(self._late_ends.items()):
                self._database.write(
                    "UPDATE jobs SET state = ?, finished_at = ?, seconds = ?, error_code = ?, "
                    "error_message = ?, error_hint = ? WHERE id = ?",
                    (*end, job_id),
                )
                del self._late_ends[job_id]

    def set_attempt(self, job_id: str, attempt: int) -> None:
        """Record that a job is tried again."""
        self._database.write("UPDATE jobs SET attempt = ? WHERE id = ?", (attempt, job_id))

    def add_prepared(self, job: JobRecord, made: StoredUpload) -> None:
        """Record a control map that a job made, so that it is kept as long as the job is remembered."""
        maps = [upload.model_dump() for upload in dict.fromkeys((*job.prepared, made))]
        text = json.dumps(maps, separators=(",", ":"))
        self._database.write("UPDATE jobs SET prepared = ? WHERE id = ?", (text, job.id))

    def save_log(self, job_id: str, log: str) -> None:
        """Keep the event log of an ended job, compact (see `event_log.py`)."""
        self._database.write("UPDATE jobs SET log = ? WHERE id = ?", (log, job_id))

    def forget_old(self) -> None:
        """Drop the rows of jobs that ended a month ago."""
        oldest = self._clock() - KEPT_S
        if self._database.value("SELECT 1 FROM jobs WHERE finished_at < ? LIMIT 1", (oldest,)):
            self._database.write("DELETE FROM jobs WHERE finished_at < ?", (oldest,))

    def named_uploads(self) -> frozenset[str]:
        """sha256 of the uploads that a job or an image names."""
        named: set[str] = set()
        for table, column in _NAMING:
            for row in self._database.rows(f"SELECT {column} FROM {table} WHERE {column} LIKE '%{{\"sha256\":%'"):
                named.update(_UPLOAD.findall(row[column]))
        return frozenset(named)

    def move_up(self, job_id: str, owner: str) -> None:
        """Exchange a waiting job with the one before it of the same owner; the first stays.

        Raises:
            NotFound: it does not wait, or is not the owner's.
        """
        with self._lock:
            order, mine, index = self._find(job_id, owner)
            if index == 0:
                return
            before, job = mine[index - 1], mine[index]
            if index == 1:
                rank = before.rank - 1
            else:
                lowest = mine[index - 2].rank
                rank = (lowest + before.rank) / 2
                if not lowest < rank < before.rank:
                    rank = self._renumber(order, mine, index)
            order.remove(job_id, owner)
            order.add(replace(job, rank=rank))
            self._database.write("UPDATE jobs SET rank = ? WHERE id = ?", (rank, job_id))

    def _find(self, job_id: str, owner: str) -> tuple[FairOrder, tuple[Waiting, ...], int]:
        for order in self._orders.values():
            mine = order.of(owner)
            for index, job in enumerate(mine):
                if job.id == job_id:
                    return order, mine, index
        raise NotFound("This job does not wait any more.", "It runs or has ended.")

    def _renumber(self, order: FairOrder, mine: Sequence[Waiting], index: int) -> float:
        """Make room between equal ranks: 2, 4, 6, …; returns the rank before `index - 1`."""
        first = mine[0].rank
        with self._database.change() as connection:
            for number, job in enumerate(mine):
                rank = first + 2.0 * number
                order.remove(job.id, job.owner)
                order.add(replace(job, rank=rank))
                connection.execute("UPDATE jobs SET rank = ? WHERE id = ?", (rank, job.id))
        return first + 2.0 * (index - 1) - 1.0

    def has(self, task: Task) -> bool:
        """Whether an equal task waits or runs, whoever asked for it."""
        query = "SELECT 1 FROM jobs WHERE state IN ('queued', 'running') AND task = ?"
        return bool(self._database.value(query, (task_json(task),)))

    def waiting(self, queue_name: QueueName = "engine") -> list[Waiting]:
        """All waiting jobs of a queue in the order they will run."""
        with self._lock:
            return self._orders[queue_name].order()

    def record(self, job_id: str, owner: str | None = None) -> JobRecord:
        """One job.

        Args:
            owner: If given, only this owner's.

        Raises:
            NotFound: there is none, or it is another's.
        """
        row = self.row(job_id)
        if row is None or owner not in (None, row["owner"]) or _task_of(row) is None:
            raise NotFound("There is no such job.", "It may have been made with another browser.")
        return self._as_record(row)

    def row(self, job_id: str) -> sqlite3.Row | None:
        """The raw row, for the event log and the drawer."""
        return self._database.row("SELECT * FROM jobs WHERE id = ?", (job_id,))

    def seconds_of(self, job_id: str) -> float | None:
        """The duration of an ended job."""
        row = self.row(job_id)
        return row["seconds"] if row else None

    def notices(self, job_id: str) -> list[tuple[str, str]]:
        """The notices of when the job was submitted: (code, sentence)."""
        row = self.row(job_id)
        if row is None:
            return []
        return [(code, message) for code, message in json.loads(row["notices"])]

    def records(self, where: str, values: Sequence[Any]) -> tuple[JobRecord, ...]:
        """Jobs by a condition written in this package (never from outside), oldest first."""
        rows = self._database.rows(f"SELECT * FROM jobs WHERE {where} ORDER BY id", values)
        return tuple(self._as_record(row) for row in rows if _task_of(row))

    def _as_record(self, row: sqlite3.Row) -> JobRecord:
        images = self._database.rows(
            "SELECT id FROM images WHERE job_id = ? AND deleted_at IS NULL ORDER BY job_image", (row["id"],)
        )
        ending = (row["state"], row["finished_at"], None, row["error_code"], row["error_message"], row["error_hint"])
        state, finished_at, _, code, message, hint = self._late_ends.get(row["id"]) or ending
        return JobRecord.model_validate(
            {
                "id": row["id"],
                "owner": row["owner"],
                "session": row["session"],
                "state": state,
                "task": read_task(row["task"]),
                "created_at": row["created_at"],
                "finished_at": finished_at,
                "attempt": row["attempt"],
                "image_ids": tuple(image["id"] for image in images),
                "error_code": code,
                "error_message": message,
                "error_hint": hint,
                "prepared": tuple(StoredUpload(**fields) for fields in json.loads(row["prepared"])),
            }
        )


def _task_of(row: sqlite3.Row | None) -> Task | None:
    """The task of a row; None if it can't be read (a newer version wrote it, or it is damaged)."""
    if row is None:
        return None
    try:
        return read_task(row["task"])
    except ValidationError:
        return None


def _waiting(row: sqlite3.Row, task: Task) -> Waiting:
    return Waiting(row["rank"], row["id"], row["owner"], row["cost"], billed(task), _model_keys(task))


def _model_keys(task: Task) -> tuple[str, ...]:
    return tuple(map(path_key, task.models)) if task.queue_name == "engine" else ()
