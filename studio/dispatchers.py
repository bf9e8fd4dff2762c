"""A dispatcher for each worker: those known at the start, and those that join and leave while the program runs.

What a dispatcher does is in `jobs/dispatcher.py`.
"""

import threading
import time
from collections.abc import Mapping

from contract.model_tasks import QueueName
from contract.work import Worker, Workers
from studio.jobs.dispatcher import Dispatcher, Runner, Tools
from studio.jobs.engine_pool import EnginePool


class Dispatchers:
    """Starts and stops workers and dispatchers.

    Args:
        tools: The same for all.
        known: The dispatchers by name, as `JobTracker` has them; this class fills it.
        pool: The engine's workers.
        workers: The engine's first.
        more: Finds further ones.
        runners: Of the other queues.
    """

    def __init__(
        self,
        tools: Tools,
        known: dict[str, Dispatcher],
        pool: EnginePool,
        workers: tuple[Worker, ...],
        more: Workers | None,
        runners: Mapping[QueueName, Runner],
    ) -> None:
        self._tools, self._known, self._pool, self._more = tools, known, pool, more
        self._lock = threading.Lock()
        self._indexed: threading.Event | None = None  # set once the dispatchers run
        self._has_workers = False
        self._stopper = threading.Thread(target=self.stop_workers, daemon=True)
        for worker in workers:
            self._make("engine", pool.add(worker), worker)
        for queue_name, runner in runners.items():
            self._make(queue_name, queue_name, runner)

    def _make(self, queue_name: QueueName, name: str, runner: Runner) -> Dispatcher:
        dispatcher = self._known[name] = Dispatcher(self._tools, queue_name, name, runner)
        self._tools.queue.workers["engine"] = len(self._pool.workers)
        return dispatcher

    @property
    def held(self) -> str:
        """Why waiting jobs of the engine don't start, as a sentence; "" if they do."""
        engines = [dispatcher for dispatcher in tuple(self._known.values()) if dispatcher.queue_name == "engine"]
        return next((dispatcher.held for dispatcher in engines if dispatcher.held), "")

    def start_workers(self) -> None:
        """Begin to load the engine. Idempotent."""
        with self._lock:
            if self._has_workers:
                return
            self._has_workers = True
        for worker in self._pool.workers.values():
            worker.start(self._pool.on_status)
        more = self._more
        if more is not None:
            self._pool.subscribe(lambda: more.on_statuses(self._pool.statuses()))
            more.start(self._add, self._remove)

    def start(self, indexed: threading.Event) -> None:
        """Begin to run jobs; the first waits until `indexed` is set."""
        with self._lock:
            self._indexed = indexed
            dispatchers = tuple(self._known.values())
        for dispatcher in dispatchers:
            dispatcher.start(indexed)

    def _add(self, worker: Worker) -> None:
        """Use a worker that was found; nothing while the program stops."""
        with self._lock:
            if not self._has_workers:
                return
            dispatcher = self._make("engine", self._pool.add(worker), worker)
            indexed = self._indexed
        worker.start(self._pool.on_status)
        if indexed is not None:
            dispatcher.start(indexed)

    def _remove(self, worker: Worker) -> None:
        """A worker is lost for good. The job that failed there is another's now."""
        with self._lock:
            name = self._pool.remove(worker)
            if name is None:
                return
            self._known.pop(name).retire()
            self._tools.queue.workers["engine"] = len(self._pool.workers)
        worker.stop()
        self._pool.on_status(self._pool.now())

    def begin_stop(self) -> None:
        """Take no more jobs, and begin to end the engine's workers; the others are to be stopped now."""
        for dispatcher in tuple(self._known.values()):
            dispatcher.begin_stop()
        self._stopper = threading.Thread(target=self.stop_workers, name="worker-stop", daemon=True)
        self._stopper.start()

    def stop(self, timeout_s: float) -> None:
        """End everything within the time; images that are generated are still saved."""
        deadline = time.monotonic() + timeout_s
        for dispatcher in tuple(self._known.values()):
            dispatcher.stop(max(0.1, deadline - time.monotonic()))
        self._stopper.join(max(1.0, deadline - time.monotonic()))

    def stop_workers(self) -> None:
        """End the workers, where they were started."""
        with self._lock:
            had_workers, self._has_workers = self._has_workers, False
            self._indexed = None
        if not had_workers:
            return
        self._pool.stop()
        if self._more is not None:
            self._more.stop()
