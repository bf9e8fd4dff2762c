"""Runs the engine in this process, in the thread that calls `run`: for tests and for ZeroGPU.

A hang or a crash of the engine is a hang or a crash of the program; `process.py` has neither.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from contract.errors import StudioError
from contract.recipe import ModelRef
from contract.records import EngineStatus
from contract.work import WORK_ENDINGS, Command, Engine, WorkerEvent, WorkFailed, WorkItem, WorkStep
from studio.workers.child import DEFAULT_FACTORY, STARTING, StatusReporter, make_engine

logger = logging.getLogger(__name__)
_STOP_S = 2.5


class InlineWorker:
    """A worker without a process of its own.

    Args:
        options: Plain values for engine.engine.EngineOptions.
        warm: Model to load ahead of the first job: (path, ref).
        factory: Importable name "module:function" of what makes the engine from the options.
    """

    def __init__(
        self, options: Mapping[str, object], warm: tuple[str, ModelRef] | None = None, *, factory: str = DEFAULT_FACTORY
    ) -> None:
        self._options = dict(options)
        self._warm = warm
        self._factory = factory
        self._engine: Engine | None = None
        self._start_error: StudioError | None = None
        self._cancelled: set[str] = set()
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._status = STARTING
        self._on_status: Callable[[EngineStatus], None] = lambda status: None
        self._begun = threading.Event()
        self._stopping = threading.Event()
        self._running = threading.Lock()
        self._reporter = StatusReporter(self._set_status)

    def start(self, on_status: Callable[[EngineStatus], None]) -> None:
        """Import the engine and load the first model in a thread of its own."""
        self._on_status = on_status
        on_status(self._status)
        threading.Thread(target=self._begin, name="engine-start", daemon=True).start()

    def _begin(self) -> None:
        try:
            with self._running:
                engine = self._engine = make_engine(self._factory, self._options)
                self._reporter.started(engine)
                if self._warm is None or self._stopping.is_set():
                    self._reporter.idle(engine)
                else:
                    self._reporter.warm(engine, *self._warm)
        except Exception as error:
            logger.exception("the engine could not be started")
            if isinstance(error, StudioError):
                self._start_error = error
            else:
                self._start_error = StudioError(
                    f"The engine could not be started ({type(error).__name__}).",
                    "Details are in the log.",
                    code="engine_stopped",
                )
            self._reporter.set("stopped", "Engine stopped")
        finally:
            self._begun.set()

    def _set_status(self, status: EngineStatus) -> None:
        self._status = status
        self._on_status(status)

    def run(self, work_items: Sequence[WorkItem]) -> Iterator[WorkerEvent]:
        """Run one work item after the other in the calling thread."""
        self._begun.wait()
        for work_item in work_items:
            if self._engine is None:
                error = self._start_error or StudioError("The engine is not running.", code="engine_stopped")
                yield WorkFailed(work_item.job_id, error.code, error.message, error.hint)
                continue
            with self._running:
                for event in self._engine.generate(work_item, partial(self._is_cancelled, work_item.job_id)):
                    if isinstance(event, WorkStep) and event.index == 1:
                        self._reporter.refresh(self._engine)  # how many may join is known now
                    self._reporter.on_event(event)
                    self._obey()
                    if isinstance(event, WORK_ENDINGS):
                        self._cancelled.discard(event.job_id)
                    yield event
                self._reporter.idle(self._engine)

    def _is_cancelled(self, job_id: str) -> bool:
        return self._stopping.is_set() or job_id in self._cancelled

    def join(self, work_item: WorkItem) -> bool:
        """Run a work item beside the one that runs."""
        engine = self._engine
        return engine is not None and engine.join(work_item, partial(self._is_cancelled, work_item.job_id))

    def cancel(self, job_id: str) -> None:
        """Stop a job at its next step."""
        self._cancelled.add(job_id)

    def tell(self, command: Command) -> None:
        """Obey a command: at once when nothing runs, else between two steps."""
        self._commands.put(command)
        if self._begun.is_set() and self._running.acquire(blocking=False):
            try:
                self._obey()
            finally:
                self._running.release()

    def _obey(self) -> None:
        while self._engine is not None and not self._commands.empty():
            self._engine.obey(self._commands.get())
            self._reporter.repeat(self._engine)

    def status(self) -> EngineStatus:
        """The newest state."""
        return self._status

    def stop(self) -> None:
        """Let the running step end, for at most 2.5 s."""
        self._stopping.set()
        if self._running.acquire(timeout=_STOP_S):
            self._running.release()
