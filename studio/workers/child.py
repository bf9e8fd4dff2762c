"""The program of the spawned process: an engine, a thread that reads, a thread that writes.

It ignores SIGINT (the parent decides), and ends when its pipe closes or its parent is gone, whatever the
engine does. A slow parent never delays a step: of the Steps that wait to be sent only the newest is kept.
"""

import importlib
import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, cast

from catalog.models import describe
from contract.errors import StudioError
from contract.recipe import ModelRef
from contract.records import EngineStatus
from contract.work import Command, Engine, WorkerEvent, WorkItem, WorkLoading, WorkStep, path_key
from studio.storage.log_lines import log_plainly

logger = logging.getLogger(__name__)
DEFAULT_FACTORY = "studio.workers.child:default_engine"
SIGN_OF_LIFE_S = 1.0
_TIDY_AFTER_S = 5.0  # of rest
_BUSY_SHARE = 1.0  # more work than cores, by the load of the last minute
_LOOK_S = 0.5  # between two looks at a model that is read ahead
STARTING = EngineStatus(state="starting", text="Starting, about 8 s")
State = Literal["starting", "loading", "ready", "working", "restarting", "stopped"]


def default_engine(options: Mapping[str, object]) -> Engine:
    """The real engine; the first import of torch in the process."""
    if waits_asleep():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # read when torch is loaded
    from engine.device.memory import hold_freed_memory

    hold_freed_memory()
    from engine.engine import Engine as TorchEngine
    from engine.options import EngineOptions

    values: dict[str, Any] = dict(options)
    kind, _, index = str(values.get("device", "")).partition(":")
    if index:
        show_only_card(int(index))
        values["device"] = kind
    if values.get("cache_dir"):
        values["cache_dir"] = Path(str(values["cache_dir"]))
    values["annotator_dirs"] = tuple(map(Path, values.get("annotator_dirs", ())))
    engine: Engine = TorchEngine(EngineOptions(**values))
    return engine


def show_only_card(index: int) -> None:
    """Hide all cards of this process but one. To be called before torch is imported.

    Hidden, since threads of torch begin on card 0, and a single call there costs half a gigabyte of a card that is
    another worker's.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if visible == [""]:
        shown = str(index)
    elif index < len(visible):
        shown = visible[index]
    else:
        shown = "-1"  # there is none: the engine says so
    os.environ["CUDA_VISIBLE_DEVICES"] = shown


def waits_asleep() -> bool:
    """Whether torch's threads are to wait for each other asleep, not spinning: on a machine that is busy as it starts.

    Spinning, they take time from whoever else has the cores: beside one busy core of two a step took 50 ms instead of
    36. Asleep, they have to be woken hundreds of times a step: on the same machine at rest that took 62 ms instead of
    24. OMP_WAIT_POLICY in the environment decides instead where it is set.
    """
    if "OMP_WAIT_POLICY" in os.environ or not hasattr(os, "getloadavg"):
        return False
    return os.getloadavg()[0] > _BUSY_SHARE * (os.cpu_count() or 1)


def make_engine(factory: str, options: Mapping[str, object]) -> Engine:
    """Import "module:function" and call it with the options. A name, since it has to cross to the spawned process."""
    module, _, name = factory.partition(":")
    make = cast(Callable[[Mapping[str, object]], Engine], getattr(importlib.import_module(module), name))
    return make(options)


class StatusReporter:
    """Turns the engine's events into the text of the engine pill.

    Args:
        report: Called with each new status.
    """

    def __init__(self, report: Callable[[EngineStatus], None]) -> None:
        self._report = report
        self._facts: dict[str, Any] = {}
        self._last: tuple[State, str, float | None] = ("starting", STARTING.text, None)
        self._titles: dict[str, str] = {}

    def set(self, state: State, text: str, fraction: float | None = None) -> None:
        """Report a state."""
        self._last = (state, text, fraction)
        self._report(EngineStatus(state=state, text=text, fraction=fraction, **self._facts))

    def started(self, engine: Engine) -> None:
        """The engine exists: its device and versions are known from now on."""
        facts = engine.describe()
        self._facts = {"device": facts.device, "versions": dict(facts.versions), "cards": facts.cards}

    def warm(self, engine: Engine, path: str, ref: ModelRef) -> None:
        """Load a model ahead; a failure is only logged, since its job will report it."""
        title = self.learn_title(path, ref.name)
        self.set("loading", f"Loading {title}")
        try:
            engine.warm(path, ref)
        except StudioError as error:
            logger.warning("%s", error.message)
        self.idle(engine)

    def learn_title(self, path: str, name: str) -> str:
        """The title a model gives itself."""
        if name not in self._titles:
            self._titles[name] = describe(Path(path), name).title
        return self._titles[name]

    def on_event(self, event: WorkerEvent) -> None:
        """Take in an event of the running job."""
        if isinstance(event, WorkLoading):
            percent = ""
            if event.fraction is not None:
                percent = f", {event.fraction:.0%}"
            title = self._titles.get(event.what, event.what)
            self.set("loading", f"Loading {title}{percent}", event.fraction)
        elif isinstance(event, WorkStep) and event.index == 1:
            self.set("working", "Working")

    def idle(self, engine: Engine) -> None:
        """Report that nothing runs."""
        self.refresh(engine)
        resident = self._facts["resident"]
        title = "Engine"
        if resident:
            title = self._titles.get(resident[0], resident[0])
        self.set("ready", f"{title} ready")

    def refresh(self, engine: Engine) -> None:
        """Read the state of memory; the next report includes it."""
        facts = engine.describe()
        self._facts |= {
            "resident": facts.resident,
            "models": facts.models,
            "budget_bytes": facts.budget_bytes,
            "free_bytes": facts.free_bytes,
            "device_bytes": facts.device_bytes,
            "device_free_bytes": facts.device_free_bytes,
            "batch_jobs": facts.batch_jobs,
            "offer": facts.offer,
        }

    def repeat(self, engine: Engine) -> None:
        """Report the same state again after the models in memory have changed."""
        self.refresh(engine)
        self.set(*self._last)


class Mailbox:
    """Messages that wait to be taken; of the Steps of a picture only the newest waits."""

    def __init__(self) -> None:
        self._waiting: list[object] = []
        self._changed = threading.Condition()

    def put(self, message: object) -> None:
        """Queue a message; a Step replaces one of the same picture that still waits."""
        with self._changed:
            last = self._waiting[-1] if self._waiting else None
            if (
                isinstance(message, WorkStep)
                and isinstance(last, WorkStep)
                and (message.job_id, message.image) == (last.job_id, last.image)
            ):
                if not message.preview:
                    message = replace(message, preview=last.preview)
                self._waiting[-1] = message
            else:
                self._waiting.append(message)
            self._changed.notify()

    def take(self, timeout_s: float, most: int = 1) -> list[Any]:
        """The oldest messages; waits for one, and returns none after that time."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(timeout_s)
            taken, self._waiting = self._waiting[:most], self._waiting[most:]
        return taken


class Outbox(Mailbox):
    """Messages to the parent, sent by a thread of its own; every second of silence a None, a sign of life."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe = pipe

    def send_all(self) -> None:
        """The thread: sends until the parent is gone."""
        while True:
            for message in self.take(SIGN_OF_LIFE_S) or (None,):
                try:
                    self._pipe.send(message)
                except OSError:
                    os._exit(0)


class Inbox:
    """Messages from the parent, read by a thread of its own: work items, commands, cancellations, the end."""

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
    """The process: makes the engine, then runs one work item after the other until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log_plainly(logging.INFO)
    inbox, outbox = Inbox(pipe), Outbox(pipe)
    for target in (inbox.read_all, outbox.send_all, end_with_parent):
        threading.Thread(target=target, daemon=True).start()
    reporter = StatusReporter(outbox.put)
    from engine.lean_imports import lean_imports

    with lean_imports():
        engine = make_engine(factory, options)
    reporter.started(engine)
    if warm is None:
        reporter.idle(engine)
    else:
        reporter.warm(engine, *warm)
    later: list[WorkItem] = []
    while True:
        if later:
            work: WorkItem | Command = later.pop(0)
        else:
            work = _wait_for_work(inbox, engine, reporter)
        if isinstance(work, WorkItem):
            later += _run_work_item(engine, work, inbox, outbox, reporter)
        else:
            engine.obey(work)
        reporter.idle(engine)


def _wait_for_work(inbox: Inbox, engine: Engine, reporter: StatusReporter) -> WorkItem | Command:
    """Wait for something to do; meanwhile report models that are read ahead, and hand back memory."""
    timeout_s: float | None = _TIDY_AFTER_S
    while True:
        try:
            return inbox.work.get(timeout=_LOOK_S if engine.is_fetching() else timeout_s)
        except queue.Empty:
            if engine.is_fetching():
                reporter.repeat(engine)
            else:
                timeout_s = 0.0 if engine.tidy() else None
                reporter.idle(engine)


def _run_work_item(
    engine: Engine, work_item: WorkItem, inbox: Inbox, outbox: Outbox, reporter: StatusReporter
) -> list[WorkItem]:
    """Run a work item and those that can join it to their endings, and commands between their steps.

    Returns:
        Work items that came meanwhile and can't join.
    """
    later: list[WorkItem] = []
    for ref in work_item.task.models:
        reporter.learn_title(work_item.model_paths[path_key(ref)], ref.name)
    for event in engine.generate(work_item, partial(inbox.is_cancelled, work_item.job_id)):
        if isinstance(event, WorkStep) and event.index == 1:
            reporter.refresh(engine)  # how many may join is known now
        reporter.on_event(event)
        outbox.put(event)
        while not inbox.work.empty():
            work = inbox.work.get()
            if not isinstance(work, WorkItem):
                engine.obey(work)
                reporter.repeat(engine)
            elif not engine.join(work, partial(inbox.is_cancelled, work.job_id)):
                later.append(work)
    return later


def end_with_parent() -> None:
    """Wait for the parent process to end, then end this one at once. Blocks: for a thread of its own."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)
