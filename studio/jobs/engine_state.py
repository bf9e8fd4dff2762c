"""The newest state of the engine, for any number of listeners."""

import threading
from collections.abc import Callable

from contract.records import EngineStatus
from contract.work import Worker


class EngineState:
    """The worker's status, and who is notified of changes."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._lock = threading.Lock()
        self._wakes: dict[object, Callable[[], None]] = {}

    def set(self, status: EngineStatus) -> None:
        """The worker's on_status; called from any thread."""
        with self._lock:
            wakes = tuple(self._wakes.values())
        for wake in wakes:
            wake()

    def now(self) -> EngineStatus:
        """The newest state."""
        return self._worker.status()

    def is_busy(self) -> bool:
        """Whether it starts, loads or works."""
        return self.now().state in ("starting", "loading", "working")

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` after each change; returns a function that ends it."""
        key = object()
        with self._lock:
            self._wakes[key] = wake

        def unsubscribe() -> None:
            with self._lock:
                self._wakes.pop(key, None)

        return unsubscribe
