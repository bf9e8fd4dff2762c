"""The workers of the engine: what each reports, their state in one sentence, and who is notified of changes.

Workers may join and leave while the program runs. Which of them gets a job is decided in `router.py`.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from contract.records import DeviceStatus, EngineState, EngineStatus, ResidentModel
from contract.work import Command, Worker, Workers, WorkItem

logger = logging.getLogger(__name__)
_NO_WORKER = EngineStatus(state="starting", text="Looking for workers")
_BY_WEIGHT: tuple[EngineState, ...] = ("working", "loading", "ready", "starting", "restarting", "stopped")
_SILENT = "Not responding"


class EnginePool:
    """All workers by name, in the order they joined; safe from any thread.

    Args:
        more: Finds further ones, and says what is reported as long as there is none.
    Attributes:
        replaces_lost: Another worker will join for one that is lost.
    """

    def __init__(self, more: Workers | None = None) -> None:
        self._lock = threading.Lock()
        self._workers: dict[str, Worker] = {}
        self._joined = 0
        self._more = more
        self.replaces_lost = more is not None and more.replaces_lost
        self._wakes: dict[object, Callable[[], None]] = {}

    def add(self, worker: Worker) -> str:
        """Take a worker in; returns its name."""
        with self._lock:
            self._joined += 1
            name = f"engine-{self._joined}"
            self._workers[name] = worker
        return name

    def remove(self, worker: Worker) -> str | None:
        """Let a worker go that is lost for good; returns its name, None if it is none of these."""
        with self._lock:
            for name, known in self._workers.items():
                if known is worker:
                    del self._workers[name]
                    return name
        return None

    @property
    def workers(self) -> Mapping[str, Worker]:
        """Those of now."""
        with self._lock:
            return dict(self._workers)

    def on_status(self, status: EngineStatus) -> None:
        """The workers' on_status; called from any thread."""
        with self._lock:
            wakes = tuple(self._wakes.values())
        for wake in wakes:
            wake()

    def statuses(self) -> dict[str, EngineStatus]:
        """The newest state of each."""
        return {name: worker.status() for name, worker in self.workers.items()}

    def now(self) -> EngineStatus:
        """The newest state of all."""
        without = self._more.status() if self._more else _NO_WORKER
        return summarize(self.statuses()) or without

    def is_busy(self) -> bool:
        """Whether one starts, loads or works."""
        return self.now().state in ("starting", "loading", "working")

    def tell(self, command: Command, name: str | None = None) -> None:
        """Pass a command on to one worker, or to all."""
        for known, worker in self.workers.items():
            if name in (None, known):
                worker.tell(command)

    def join(self, name: str, work_item: WorkItem) -> bool:
        """Run a work item beside those of a worker; as of `contract.work.Worker`."""
        worker = self.workers.get(name)
        return worker is not None and worker.join(work_item)

    def stop(self) -> None:
        """Stop all, side by side; within the time that the slowest takes."""
        stoppers = []
        for name, worker in self.workers.items():
            stoppers.append(threading.Thread(target=worker.stop, name=f"{name}-stop", daemon=True))
            stoppers[-1].start()
        for stopper in stoppers:
            stopper.join()

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` after each change; returns a function that ends it."""
        key = object()
        with self._lock:
            self._wakes[key] = wake

        def unsubscribe() -> None:
            with self._lock:
                self._wakes.pop(key, None)

        return unsubscribe


def summarize(statuses: Mapping[str, EngineStatus]) -> EngineStatus | None:
    """One status for all workers: one worker's own, or a sentence and the sums; None without a worker."""
    all_of_them = tuple(statuses.values())
    if len(all_of_them) < 2:
        return all_of_them[0] if all_of_them else None
    states = Counter(status.state for status in all_of_them)
    state = next(state for state in _BY_WEIGHT if states[state])
    shown = next(status for status in all_of_them if status.state == state)
    labels = Counter(status.device for status in all_of_them if status.device)
    devices = []
    for name, status in statuses.items():
        shared = status.model_dump(include=set(DeviceStatus.model_fields) - {"name", "models"})
        devices.append(DeviceStatus(name=name, models=status.models, **shared))
    card_bytes = [status.device_bytes for status in all_of_them if status.device_bytes is not None]
    card_free = [status.device_free_bytes for status in all_of_them if status.device_free_bytes is not None]
    return shown.model_copy(
        update={
            "text": _sentence(all_of_them, state, shown),
            "device": "; ".join(f"{count} × {device}" if count > 1 else device for device, count in labels.items()),
            "resident": tuple(dict.fromkeys(name for status in all_of_them for name in status.resident)),
            "models": _nearest(all_of_them),
            "budget_bytes": sum(status.budget_bytes for status in all_of_them),
            "free_bytes": max(status.free_bytes for status in all_of_them),
            "device_bytes": sum(card_bytes) if card_bytes else None,
            "device_free_bytes": sum(card_free) if card_free else None,
            "devices": tuple(devices),
        }
    )


def _sentence(statuses: Sequence[EngineStatus], state: EngineState, shown: EngineStatus) -> str:
    """ "2 cards ready", "1 of 2 cards working", "2 of 3 cards ready, 1 stopped"; else the words of the one shown."""
    count = len(statuses)
    noun = "cards" if all(status.device_bytes is not None for status in statuses) else "engines"
    silent = sum(status.text.startswith(_SILENT) for status in statuses)
    if silent == count:
        return shown.text
    if state in ("loading", "starting", "restarting"):
        return shown.text
    same = sum(status.state == state for status in statuses)
    if state == "ready" and same < count:
        troubled = Counter(status.state for status in statuses if status.state != "ready")
        rest = ", ".join(f"{number} {what}" for what, number in troubled.items())
        return f"{same} of {count} {noun} ready, {rest}"
    if silent:
        return f"{silent} of {count} {noun} not responding"
    return f"{count} {noun} {state}" if same == count else f"{same} of {count} {noun} {state}"


def _nearest(statuses: Sequence[EngineStatus]) -> tuple[ResidentModel, ...]:
    """The models in any memory, each once: as it is where it is nearest to running."""
    found: dict[tuple[str, str], ResidentModel] = {}
    for place in ("device", "memory", "coming"):
        for status in statuses:
            for model in status.models:
                if model.place == place:
                    found.setdefault((model.kind, model.name), model)
    return tuple(found.values())
