"""Workers on the machines of a Ray cluster: one for each card, or for a share of the cores where there are none.

The studio keeps the queue; a node gets work items and gives back events and pixels. A node that dies costs its job one
more attempt elsewhere; one that joins is used some seconds later. Ray is optional and imported inside functions.
Ray's messages are pickles: whoever reaches a cluster owns it (docs/ray.md).
"""

import importlib.util
import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from contract.errors import Cancelled, ModelProblem, StudioError
from contract.recipe import ModelRef
from contract.records import EngineStatus
from contract.work import WORK_ENDINGS, Command, WorkCancelled, Worker, WorkerEvent, WorkFailed, WorkItem
from studio.jobs.durations import about
from studio.workers.child import DEFAULT_FACTORY, STARTING
from studio.workers.model_lookup import ContentHashes, listing_of
from studio.workers.ray_actor import EngineActor

logger = logging.getLogger(__name__)
PACKAGES = ("contract", "catalog", "engine", "studio")  # what a node needs of the program
_PROJECT = Path(__file__).parents[2]
_LOOK_S = 3.0  # between two looks at the nodes
_JOINING_S = 0.3  # while one starts
_TAKE_S = 1.0  # that an actor waits for news: a sign of life
_QUIET_S = 5.0  # without one, after which the status says so
_LOST_S = 20.0  # after which a node counts as lost
_CANCEL_S = 6.0  # after which a canceled job is over; the actor's own worker needs 4
_OBJECT_STORE_BYTES = 80 * 2**20  # of a local cluster: images on their way
_STOP_S = 3.5
_MOST_CARDS = 64  # of a node
_CALLS_AT_ONCE = 8  # of an actor: begin, take, cancel and tell side by side
_DIED = "The worker on {} is gone.", "Your job failed; others go on."


def ray_here(*, is_client: bool = False) -> Any:
    """The library. is_client: with what reaches a cluster that runs elsewhere.

    Raises:
        StudioError: it is not installed.
    """
    modules = ("ray", "grpc") if is_client else ("ray",)
    if any(importlib.util.find_spec(module) is None for module in modules):
        raise StudioError(
            f"--workers needs {'Ray with its client' if is_client else 'Ray'}, which is not installed.",
            "Install it with .venv/bin/pip install -r requirements-ray.txt, or leave --workers out.",
            code="settings",
        )
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # a call after the end would start a cluster
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)  # how it is connected is said here
    return ray


class RayWorker:
    """One actor, as a worker.

    Args:
        actor: Handle of an `EngineActor`.
        host: The name of its machine.
        lost_s: After so many seconds of silence it counts as lost.
    """

    def __init__(self, actor: Any, host: str, *, lost_s: float = _LOST_S) -> None:
        self.actor, self.host, self._lost_s = actor, host, lost_s
        self._ray = ray_here()
        self._events: queue.SimpleQueue[WorkerEvent | None] = queue.SimpleQueue()  # None: it is lost
        self._hashes = ContentHashes()
        self._canceled_at: dict[str, float] = {}
        self._stopping = threading.Event()
        self._heard_at: float | None = None
        self._status = STARTING
        self._on_status: Callable[[EngineStatus], None] = lambda status: None
        self.is_lost = self.has_joined = False
        self._greeting = actor.pid.remote()

    def is_there(self) -> bool:
        """Whether the actor has begun; it is lost, if it can't."""
        try:
            if not self._ray.wait([self._greeting], timeout=0)[0]:
                return False
            self._ray.get(self._greeting)
        except (self._ray.exceptions.RayError, ConnectionError):
            self.is_lost = True
        return not self.is_lost

    def start(self, on_status: Callable[[EngineStatus], None]) -> None:
        """Listen to the actor, from its start on."""
        self._on_status = on_status
        on_status(self._status)
        threading.Thread(target=self._listen, name=f"ray-{self.host}", daemon=True).start()

    def _listen(self) -> None:
        errors = (self._ray.exceptions.RayError, ConnectionError)
        try:
            while not self._stopping.is_set():
                news = self.actor.take.remote(_TAKE_S)
                while not self._ray.wait([news], timeout=_TAKE_S)[0]:
                    is_silent = self._heard_at is not None and time.monotonic() - self._heard_at > self._lost_s
                    if is_silent or self._stopping.is_set():
                        raise ConnectionError(f"silent for {about(self._lost_s)}")
                status, events = self._ray.get(news)
                self._heard_at = time.monotonic()
                for event in events:
                    self._events.put(event)
                if status != self._status:
                    self._set_status(status)
        except errors as error:
            if not self._stopping.is_set():
                logger.warning("the worker on %s is lost: %s", self.host, str(error).partition("\n")[0])
        self.is_lost = True
        self._set_status(self._status.model_copy(update={"state": "stopped", "text": "Engine stopped", "models": ()}))
        self._events.put(None)

    def _set_status(self, status: EngineStatus) -> None:
        self._status = status
        self._on_status(self.status())

    def run(self, work_items: Sequence[WorkItem]) -> Iterator[WorkerEvent]:
        """Run one work item after the other; one whose node is lost ends with worker_died."""
        for work_item in work_items:
            try:
                self._answer(self.actor.begin.remote(self._as_there(work_item)), work_item.job_id)
                yield from self._follow(work_item.job_id)
            except Cancelled:
                yield WorkCancelled(work_item.job_id)
            except ModelProblem as problem:
                yield WorkFailed(work_item.job_id, problem.code, problem.message, problem.hint)
            except (self._ray.exceptions.RayError, ConnectionError):
                yield WorkFailed(work_item.job_id, "worker_died", _DIED[0].format(self.host), _DIED[1])
            finally:
                self._canceled_at.pop(work_item.job_id, None)

    def _as_there(self, work_item: WorkItem) -> WorkItem:
        """The work item with the paths of its models on the actor's machine.

        Raises:
            ModelProblem: one is not there.
        """
        paths = dict(work_item.model_paths)
        listings = {key: listing_of(Path(path)) for key, path in paths.items()}
        found = self._answer(self.actor.find.remote(paths, listings, {}), work_item.job_id)
        missing = paths.keys() - found.keys()
        if missing:
            sha256 = {key: self._hashes.of(Path(paths[key]), listings[key]) for key in missing}
            found = self._answer(self.actor.find.remote(paths, listings, sha256), work_item.job_id)
        for key in sorted(paths.keys() - found.keys()):
            raise ModelProblem(
                f"Model “{key.partition('/')[2]}” is not on {self.host}.",
                "Copy it into a folder that DARKROOM_MODELS names there, or share its folder at the same path.",
                code="model_not_on_node",
            )
        return replace(work_item, model_paths=found)

    def _answer(self, ref: Any, job_id: str) -> Any:
        """What the actor answers to a job's call. Raises Cancelled, and ConnectionError for a node that is lost."""
        while not self._ray.wait([ref], timeout=_TAKE_S)[0]:
            if self.is_lost:
                raise ConnectionError("the node is lost")
            self._give_up_if_canceled(job_id)
        return self._ray.get(ref)

    def _give_up_if_canceled(self, job_id: str) -> None:
        canceled_at = self._canceled_at.get(job_id)
        if canceled_at is not None and time.monotonic() - canceled_at > _CANCEL_S:
            raise Cancelled

    def _follow(self, job_id: str) -> Iterator[WorkerEvent]:
        while True:
            try:
                event = self._events.get(timeout=_TAKE_S)
            except queue.Empty:
                self._give_up_if_canceled(job_id)
                continue
            if event is None:
                self._events.put(None)  # for the next
                yield WorkFailed(job_id, "worker_died", _DIED[0].format(self.host), _DIED[1])
                return
            if event.job_id == job_id:
                yield event
                if isinstance(event, WORK_ENDINGS):
                    return

    def join(self, work_item: WorkItem) -> bool:
        """Never: a node runs one job at a time, and `status` says so."""
        return False

    def cancel(self, job_id: str) -> None:
        """Stop a job at its next step; it is over soon even if the node does not answer."""
        self._canceled_at.setdefault(job_id, time.monotonic())
        if not self.is_lost:
            self.actor.cancel.remote(job_id)

    def tell(self, command: Command) -> None:
        """Pass a command on."""
        if not self.is_lost:
            self.actor.tell.remote(command)

    def status(self) -> EngineStatus:
        """The newest state, with the name of its machine."""
        device = f"{self._status.device} on {self.host}" if self._status.device else ""
        changes: dict[str, object] = {"device": device, "batch_jobs": 1}
        if self._heard_at is not None and not self.is_lost:
            quiet_s = time.monotonic() - self._heard_at
            if quiet_s > _QUIET_S:
                changes |= {"text": f"Not responding for {about(quiet_s)}", "fraction": None}
        return self._status.model_copy(update=changes)

    def stop(self) -> None:
        """End the actor, and its process with it."""
        self._stopping.set()
        with suppress(self._ray.exceptions.RayError, ConnectionError, ValueError):  # its node or the cluster is gone
            self._ray.kill(self.actor)


class RayWorkers:
    """Looks for machines, and gives each its workers.

    Attributes:
        replaces_lost: A job whose worker is lost waits for another, even if there is none at the moment.

    Args:
        where: "ray" or "ray:N" for a cluster of this machine's own, with N workers; "ray://host:port" for one that
            runs already.
        options, warm, factory: As of `ProcessWorker`.
    """

    replaces_lost = True

    def __init__(
        self,
        where: str,
        options: Mapping[str, object],
        warm: tuple[str, ModelRef] | None = None,
        *,
        factory: str = DEFAULT_FACTORY,
        look_s: float = _LOOK_S,
        lost_s: float = _LOST_S,
    ) -> None:
        self._address = where if where.startswith("ray://") else ""
        self._count = 0 if self._address else int(where.partition(":")[2] or 0)
        self._options, self._warm, self._factory = dict(options), warm, factory
        self._look_s, self._lost_s = look_s, lost_s
        if not self._address:
            keep_to_this_machine()
        self._ray = ray_here(is_client=bool(self._address))
        self._workers: dict[str, list[RayWorker]] = {}  # by node
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._status = STARTING.model_copy(update={"text": "Connecting to Ray"})

    def start(self, add: Callable[[Worker], None], remove: Callable[[Worker], None]) -> None:
        """Connect and look for nodes, in a thread of its own.

        Ray's processes end with the thread that started them; so it is this thread that ends them in good order.
        """
        self._thread = threading.Thread(target=self._watch, args=(add, remove), name="ray-nodes", daemon=True)
        self._thread.start()

    def status(self) -> EngineStatus:
        """Why there is no worker."""
        return self._status

    def on_statuses(self, statuses: Mapping[str, EngineStatus]) -> None:
        """Nothing: it looks by itself."""

    def _watch(self, add: Callable[[Worker], None], remove: Callable[[Worker], None]) -> None:
        while not self._stopping.is_set():
            try:
                if not self._ray.is_initialized():
                    self._connect()
                self._look(add, remove)
            except (self._ray.exceptions.RayError, ConnectionError, RuntimeError, TimeoutError) as error:
                if self._stopping.is_set():
                    break
                where = self._address or "this machine"
                text = f"No Ray cluster at {where}"
                if self._status.text != text:
                    logger.warning("%s: %s", text, str(error).partition("\n")[0])
                self._status = STARTING.model_copy(update={"state": "stopped", "text": text})
                for worker in [worker for workers in self._workers.values() for worker in workers]:
                    remove(worker)
                self._workers.clear()
                self._ray.shutdown()
            is_whole = all(worker.has_joined for workers in self._workers.values() for worker in workers)
            self._stopping.wait(self._look_s if is_whole else _JOINING_S)
        self._ray.shutdown()

    def _connect(self) -> None:
        common: dict[str, Any] = {"namespace": "darkroom", "log_to_driver": False}
        if self._address:
            modules = [str(_PROJECT / package) for package in PACKAGES]
            self._ray.init(self._address, runtime_env={"py_modules": modules}, **common)
        else:
            self._ray.init(
                "local",
                num_cpus=self._count or None,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                configure_logging=False,
                runtime_env={"env_vars": {"PYTHONPATH": str(_PROJECT)}},
                **common,
            )
        self._status = STARTING
        logger.info("connected to Ray at %s", self._address or "a cluster of this machine's own")

    def _look(self, add: Callable[[Worker], None], remove: Callable[[Worker], None]) -> None:
        """Give each node the workers that it lacks; let go of those that are lost."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        has_cards = any(node["Resources"].get("GPU") for node in nodes.values())
        for node_id, workers in self._workers.items():
            for worker in [worker for worker in workers if worker.is_lost or node_id not in nodes]:
                workers.remove(worker)
                worker.stop()
                remove(worker)
        for node_id, node in nodes.items():
            count, resources = self._share(node["Resources"], has_cards)
            options = {**self._options, "device": "auto" if has_cards else "cpu", "sharers": count}
            if not has_cards and options.get("threads") is None:
                options["threads"] = resources["num_cpus"]
            remote = self._ray.remote(EngineActor).options(
                **{"num_cpus": 0, **resources},
                max_concurrency=_CALLS_AT_ONCE,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
            )
            workers = self._workers.setdefault(node_id, [])
            while len(workers) < count and not self._stopping.is_set():
                actor = remote.remote(options, self._warm, self._factory)
                workers.append(RayWorker(actor, node["NodeManagerHostname"], lost_s=self._lost_s))
            for worker in workers:
                if not worker.has_joined and worker.is_there():
                    worker.has_joined = True
                    logger.info("a worker on %s", worker.host)
                    add(worker)

    def _share(self, resources: Mapping[str, float], has_cards: bool) -> tuple[int, dict[str, int]]:
        """How many workers a node gets, and what each takes of it: a card, or its threads."""
        cores, most = max(1, int(resources.get("CPU", 0))), self._count or _MOST_CARDS
        if has_cards:
            return min(int(resources.get("GPU", 0)), most), {"num_gpus": 1}
        threads = self._options.get("threads")
        if self._count:
            return min(cores, self._count), {"num_cpus": 1}
        each = min(cores, threads) if isinstance(threads, int) else cores
        return cores // each, {"num_cpus": each}

    def stop(self) -> None:
        """Leave the cluster; end it, if it is this machine's own."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)


def keep_to_this_machine() -> None:
    """Set what makes Ray listen on 127.0.0.1 alone, ask for a secret, and send nothing. Before Ray is imported."""
    os.environ |= {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # its name for a cluster that goes beyond 127.0.0.1
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
