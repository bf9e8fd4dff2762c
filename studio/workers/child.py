"""What runs in the spawned process: an engine, a thread that reads, a thread that writes.

It ignores SIGINT (the parent decides), and ends when its pipe closes or its parent is gone, whatever the
engine does. Steps are never held up by a slow parent: of Steps that wait to be sent only the newest is kept.
"""

import importlib
import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from catalog.models import describe
from contract.errors import StudioError
from contract.recipe import ModelRef
from contract.records import EngineStatus
from contract.work import Command, WorkerEvent, WorkItem, WorkLoading, WorkStep, path_key
from studio.storage.log_lines import log_plainly

logger = logging.getLogger(__name__)
DEFAULT_FACTORY = "studio.workers.child:default_engine"
SIGN_OF_LIFE_S = 1.0
_TIDY_AFTER_S = 5.0  # of rest
_LOOK_S = 0.5  # between two looks at a model that is read ahead
STARTING = EngineStatus(state="starting", text="Starting, about 8 s")
State = Literal["starting", "loading", "ready", "working", "restarting", "stopped"]


def default_engine(options: Mapping[str, object]) -> Any:
    """The real engine; the first import of torch in the process."""
    # torch's threads wait by spinning, which on a busy machine made a picture ten times slower; asleep they
    # cost nothing measurable on an idle one. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    importlib.import_module("engine.device.memory").hold_freed_memory()
    paint = importlib.import_module("engine.engine")
    values: dict[str, Any] = dict(options)
    if values.get("cache_dir"):
        values["cache_dir"] = Path(str(values["cache_dir"]))
    values["annotator_dirs"] = tuple(map(Path, values.get("annotator_dirs", ())))
    return paint.Engine(paint.EngineOptions(**values))


def make_engine(factory: str, options: Mapping[str, object]) -> Any:
    """Import "module:function" and call it with the options."""
    module, _, name = factory.partition(":")
    return getattr(importlib.import_module(module), name)(options)


class StatusTeller:
    """Turns what an engine does into the words of the engine pill."""

    def __init__(self, tell: Callable[[EngineStatus], None]) -> None:
        self._tell = tell
        self._facts: dict[str, Any] = {}
        self._said: tuple[State, str, float | None] = ("starting", STARTING.text, None)
        self._titles: dict[str, str] = {}

    def say(self, state: State, text: str, fraction: float | None = None) -> None:
        """Report a state."""
        self._said = (state, text, fraction)
        self._tell(EngineStatus(state=state, text=text, fraction=fraction, **self._facts))

    def began(self, engine: Any) -> None:
        """The engine is there: its device and versions are known from now on."""
        facts = engine.describe()
        self._facts = {"device": facts.device, "versions": dict(facts.versions)}

    def warm(self, engine: Any, path: str, ref: ModelRef) -> None:
        """Load a model ahead; one that can't be used is only logged, its job will say why."""
        title = self.learn_title(path, ref.name)
        self.say("loading", f"Loading {title}")
        try:
            engine.warm(path, ref)
        except StudioError as error:
            logger.warning("%s", error.message)
        self.rest(engine)

    def learn_title(self, path: str, name: str) -> str:
        """The title a model gives itself."""
        if name not in self._titles:
            self._titles[name] = describe(Path(path), name).title
        return self._titles[name]

    def hear(self, event: WorkerEvent) -> None:
        """An event of the running job."""
        if isinstance(event, WorkLoading):
            part = "" if event.fraction is None else f", {event.fraction:.0%}"
            title = self._titles.get(event.what, event.what)
            self.say("loading", f"Loading {title}{part}", event.fraction)
        elif isinstance(event, WorkStep) and event.index == 1:
            self.say("working", "Working")

    def rest(self, engine: Any) -> None:
        """Nothing runs."""
        self.look(engine)
        resident = self._facts["resident"]
        title = self._titles.get(resident[0], resident[0]) if resident else "Engine"
        self.say("ready", f"{title} ready")

    def look(self, engine: Any) -> None:
        """See what is in memory; said with the next words."""
        facts: EngineStatus = engine.describe()
        self._facts |= {
            "resident": facts.resident,
            "models": facts.models,
            "budget_bytes": facts.budget_bytes,
            "free_bytes": facts.free_bytes,
            "device_bytes": facts.device_bytes,
            "device_free_bytes": facts.device_free_bytes,
        }

    def repeat(self, engine: Any) -> None:
        """What is in memory has changed: the same words once more with the new facts."""
        self.look(engine)
        self.say(*self._said)


class Outbox:
    """Messages to the parent, sent by a thread of its own; every second of silence a None, a sign of life."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._waiting: list[object] = []
        self._changed = threading.Condition()

    def put(self, message: object) -> None:
        """Queue a message; a Step replaces one of the same picture that still waits."""
        with self._changed:
            last = self._waiting[-1] if self._waiting else None
            if isinstance(message, WorkStep) and isinstance(last, WorkStep) and _same_picture(message, last):
                self._waiting[-1] = message if message.preview else _with_preview(message, last)
            else:
                self._waiting.append(message)
            self._changed.notify()

    def send_all(self) -> None:
        """The thread: sends until the parent is gone."""
        while True:
            with self._changed:
                if not self._waiting:
                    self._changed.wait(SIGN_OF_LIFE_S)
                message = self._waiting.pop(0) if self._waiting else None
            try:
                self._pipe.send(message)
            except OSError:
                os._exit(0)


def _same_picture(one: WorkStep, other: WorkStep) -> bool:
    return (one.job_id, one.image) == (other.job_id, other.image)


def _with_preview(step: WorkStep, older: WorkStep) -> WorkStep:
    return WorkStep(step.job_id, step.image, step.index, step.total, older.preview)


class Inbox:
    """Messages from the parent, read by a thread of its own: work items, commands, cancels, the end."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.work: queue.SimpleQueue[WorkItem | Command] = queue.SimpleQueue()
        self._cancelled: set[str] = set()

    def read_all(self) -> None:
        """The thread: ends the process when the pipe closes."""
        while True:
            try:
                message = self._pipe.recv()
            except (EOFError, OSError):
                os._exit(0)
            if isinstance(message, WorkItem):
                self._cancelled.discard(message.job_id)
                self.work.put(message)
            elif isinstance(message, str):
                self._cancelled.add(message)
            else:
                self.work.put(message)

    def is_cancelled(self, job_id: str) -> bool:
        """Whether the parent asked to stop a job."""
        return job_id in self._cancelled


def main(pipe: Connection, factory: str, options: Mapping[str, object], warm: tuple[str, ModelRef] | None) -> None:
    """The process: makes the engine, then paints work item after work item until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_plainly(logging.INFO)
    inbox, outbox = Inbox(pipe), Outbox(pipe)
    for target in (inbox.read_all, outbox.send_all, _end_with_parent):
        threading.Thread(target=target, daemon=True).start()
    teller = StatusTeller(outbox.put)
    engine = make_engine(factory, options)
    teller.began(engine)
    if warm is None:
        teller.rest(engine)
    else:
        teller.warm(engine, *warm)
    later: list[WorkItem] = []
    while True:
        work = later.pop(0) if later else _next(inbox, engine, teller)
        if isinstance(work, WorkItem):
            _paint(engine, work, inbox, outbox, teller, later)
        else:
            engine.obey(work)
        teller.rest(engine)


def _next(inbox: Inbox, engine: Any, teller: StatusTeller) -> "WorkItem | Command":
    """Wait for something to do; meanwhile tell of models that are read ahead, and hand back memory."""
    timeout_s: float | None = _TIDY_AFTER_S
    while True:
        try:
            return inbox.work.get(timeout=_LOOK_S if engine.is_fetching() else timeout_s)
        except queue.Empty:
            if engine.is_fetching():
                teller.repeat(engine)
            else:
                timeout_s = 0.0 if engine.tidy() else None
                teller.rest(engine)


def _paint(
    engine: Any, work_item: WorkItem, inbox: Inbox, outbox: Outbox, teller: StatusTeller, later: list[WorkItem]
) -> None:
    """A work item from its first event to its ending; what is asked of the memory meanwhile is done between steps."""
    for ref in work_item.task.models:
        teller.learn_title(work_item.model_paths[path_key(ref)], ref.name)
    for event in engine.generate(work_item, lambda: inbox.is_cancelled(work_item.job_id)):
        teller.hear(event)
        outbox.put(event)
        while not inbox.work.empty():
            work = inbox.work.get()
            if isinstance(work, WorkItem):
                later.append(work)
            else:
                engine.obey(work)
                teller.repeat(engine)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)
