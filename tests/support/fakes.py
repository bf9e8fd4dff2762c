"""Stand-ins for the engine: they paint gradients with steps and previews, no torch.

FakeWorker is a whole worker in the calling thread (studio, api and tabs tests). FakeEngine is what a real
spawned worker process runs instead of engine.engine.Engine (tests of the process worker).
Faults are asked for by a word in the prompt: [fail] [oom] [fault] [die] [hang] [notice] [noise] [slow].
"""

import os
import random
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from contract.recipe import ModelRef, Recipe
from contract.records import EngineStatus, ResidentModel
from contract.sizes import upscaled_size
from contract.tasks import Generate, Preprocess, Upscale
from contract.work import (
    DEVICE_FAULT,
    WORK_ENDINGS,
    Command,
    Evict,
    Pin,
    Prefetch,
    RawImage,
    WorkCancelled,
    WorkDone,
    WorkerEvent,
    WorkFailed,
    WorkImage,
    WorkItem,
    WorkLoading,
    WorkNotice,
    WorkStep,
    path_key,
)

PROVENANCE = {"device": "Fake, 1 thread", "dtype": "none", "batch": "1", "threads": "1"}
VERSIONS = {"fake": "1"}


def gradient(width: int, height: int, seed: int) -> RawImage:
    """A picture that tells its seed: the color of its left and right edges."""
    red, blue = seed % 251, (seed // 251) % 251
    rows = (bytes((red, y * 255 // height, blue)) * width for y in range(height))
    return RawImage(width, height, b"".join(rows))


def noise(width: int, height: int, seed: int) -> RawImage:
    """A picture that doesn't compress."""
    return RawImage(width, height, random.Random(seed).randbytes(3 * width * height))


def paint(
    work_item: WorkItem,
    is_cancelled: Callable[[], bool],
    pause: Callable[[], None],
    die: Callable[[], None] | None = None,
    hang: Callable[[], None] | None = None,
) -> Iterator[WorkerEvent]:
    """What an engine says while it paints a work item; faults strike in the middle of a picture."""
    job_id = work_item.job_id
    if not isinstance(work_item.task, Generate):
        pause()
        yield WorkImage(job_id, 0, gradient(*_size_after(work_item.task, work_item.images), 5), 0.01, PROVENANCE)
        yield WorkDone(job_id, 0.01)
        return
    recipe = work_item.task.recipe
    yield WorkLoading(job_id, recipe.model.name, None)
    if "[notice]" in recipe.prompt:
        yield WorkNotice(job_id, "fake", "A fake notice.")
    for index in range(recipe.count):
        if index in work_item.finished:
            continue
        for step in range(1, recipe.steps + 1):
            pause()
            if is_cancelled():
                yield WorkCancelled(job_id)
                return
            yield WorkStep(job_id, index, step, recipe.steps, _preview(work_item, index, step))
            if step == max(1, recipe.steps // 2):
                failure = _strike(recipe, work_item, die, hang)
                if failure:
                    yield failure
                    return
        yield WorkImage(job_id, index, _picture(recipe.for_image(index)), 0.01, PROVENANCE)
    yield WorkDone(job_id, 0.01)


def in_turn(running: list[Iterator[WorkerEvent]]) -> Iterator[WorkerEvent]:
    """One event after another of several work items; further ones may be appended meanwhile."""
    while running:
        for events in tuple(running):
            event = next(events, None)
            if event is None:
                running.remove(events)
            else:
                yield event


def _size_after(task: Upscale | Preprocess, images: Mapping[str, bytes]) -> tuple[int, int]:
    """How large the picture of a task becomes; its size now is in the PNG's header."""
    width, height = struct.unpack(">II", images[task.image.sha256][16:24])
    scale = task.scale if isinstance(task, Upscale) else 1.0
    return upscaled_size((width, height), scale)


def _preview(work_item: WorkItem, index: int, step: int) -> RawImage | None:
    return gradient(16, 16, step + 20 * index) if work_item.wants_previews else None


def _picture(recipe: Recipe) -> RawImage:
    make = noise if "[noise]" in recipe.prompt else gradient
    return make(recipe.width, recipe.height, recipe.seed)


def _strike(
    recipe: Recipe, work_item: WorkItem, die: Callable[[], None] | None, hang: Callable[[], None] | None
) -> WorkFailed | None:
    once = "[once]" not in recipe.prompt or work_item.attempt == 1
    if "[die]" in recipe.prompt and once:
        if die:
            die()
        return WorkFailed(work_item.job_id, "worker_died", "The engine stopped.")
    if "[hang]" in recipe.prompt and once and hang:
        hang()
    if "[fault]" in recipe.prompt:
        return WorkFailed(work_item.job_id, DEVICE_FAULT, "The graphics card stopped working.", "Try again.")
    if "[fail]" in recipe.prompt:
        return WorkFailed(work_item.job_id, "model_problem", "The fake failed, as asked.", "Ask otherwise.")
    if "[oom]" in recipe.prompt:
        return WorkFailed(work_item.job_id, "out_of_memory", "The fake ran out of memory.", "Use 64 × 64.")
    return None


class Memory:
    """What a fake engine has in memory: the starter, and what it is told to read ahead."""

    def __init__(self) -> None:
        self._held = {
            "checkpoint/starter": ResidentModel(name="starter", kind="checkpoint", bytes=24_000_000, place="device")
        }

    @property
    def models(self) -> tuple[ResidentModel, ...]:
        return tuple(self._held.values())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(held.name for held in self._held.values())

    def obey(self, command: Command) -> None:
        """As the real one, at once."""
        if isinstance(command, Prefetch):
            self._held[path_key(command.ref)] = ResidentModel(
                name=command.ref.name, kind=command.ref.kind, bytes=2_000_000_000, place="memory", load_s=4.0
            )
        elif isinstance(command, Evict):
            self._held.pop(command.key, None)
        elif isinstance(command, Pin) and command.key in self._held:
            changes = {"is_pinned": command.is_pinned}
            self._held[command.key] = self._held[command.key].model_copy(update=changes)


class FakeWorker:
    """A worker in the dispatcher's own thread.

    Args:
        pace_s: Seconds between steps ([slow] in a prompt: at least 0.05).
        gate: If given, every step waits for it, so a test can hold a job in mid-step:
            worker.gate.clear() holds, worker.gate.set() lets go. Open at first.
        batch_jobs: How many work items may run side by side.

    Attributes:
        work items: Every work item that was run, in order.
        commands: What it was told of its memory, in order; `memory` follows them.
        most_at_once: The largest number of work items at one time.
    """

    def __init__(self, pace_s: float = 0.0, batch_jobs: int = 1) -> None:
        self.pace_s, self.batch_jobs = pace_s, batch_jobs
        self.gate = threading.Event()
        self.gate.set()
        self.work_items: list[WorkItem] = []
        self.commands: list[Command] = []
        self.memory = Memory()
        self.most_at_once = 0
        self._running: list[Iterator[WorkerEvent]] = []
        self._cancelled: set[str] = set()
        self._stopped = threading.Event()
        self._status = EngineStatus(state="starting", text="Starting, about 8 s")
        self._on_status: Callable[[EngineStatus], None] = lambda status: None

    def start(self, on_status: Callable[[EngineStatus], None]) -> None:
        self._on_status = on_status
        self.say("ready", "Starter ready")

    def say(self, state: str, text: str, fraction: float | None = None) -> None:
        """Report a state of the engine, as tests of the pill need."""
        self._status = EngineStatus.model_validate(
            {
                "state": state,
                "text": text,
                "fraction": fraction,
                "device": PROVENANCE["device"],
                "resident": self.memory.names,
                "models": self.memory.models,
                "versions": VERSIONS,
                "budget_bytes": 8_000_000_000,
                "free_bytes": 12_000_000_000,
                "batch_jobs": self.batch_jobs if state == "working" else 1,
            }
        )
        self._on_status(self._status)

    def run(self, work_items: Sequence[WorkItem]) -> Iterator[WorkerEvent]:
        for work_item in work_items:
            self.work_items.append(work_item)
            self._begin(work_item)
            self.say("working", "Working")
            try:
                yield from in_turn(self._running)
            finally:
                self._running.clear()
                self.say("ready", "Starter ready")

    def join(self, work_item: WorkItem) -> bool:
        if not 0 < len(self._running) < self.batch_jobs:
            return False
        self.work_items.append(work_item)
        self._begin(work_item)
        return True

    def _begin(self, work_item: WorkItem) -> None:
        self._running.append(self._paint(work_item))
        self.most_at_once = max(self.most_at_once, len(self._running))

    def _paint(self, work_item: WorkItem) -> Iterator[WorkerEvent]:
        slow = max(self.pace_s, 0.05) if "[slow]" in work_item.task.title else self.pace_s

        def is_cancelled() -> bool:
            return work_item.job_id in self._cancelled or self._stopped.is_set()

        def pause() -> None:
            if slow:
                self._stopped.wait(slow)
            while not self.gate.wait(0.01) and not is_cancelled():
                pass

        def hang() -> None:
            while not self._stopped.wait(0.01) and not is_cancelled():
                pass

        for event in paint(work_item, is_cancelled, pause, hang=hang):
            if isinstance(event, WORK_ENDINGS):
                self._cancelled.discard(work_item.job_id)
            yield event
            if isinstance(event, WORK_ENDINGS):
                return

    def cancel(self, job_id: str) -> None:
        self._cancelled.add(job_id)

    def tell(self, command: Command) -> None:
        self.commands.append(command)
        self.memory.obey(command)
        self.say(self._status.state, self._status.text)

    def status(self) -> EngineStatus:
        return self._status

    def stop(self) -> None:
        self._stopped.set()
        self.gate.set()


class FakeEngine:
    """What the child process runs in tests: same shape as engine.engine.Engine.

    Options: step_s (seconds a step), ready_s (seconds to start), batch_jobs (that may run side by side), cards (that it
    sees), fail_start (whether it can't).
    """

    def __init__(self, options: Mapping[str, object]) -> None:
        self.step_s = float(str(options.get("step_s", 0.0)))
        self.cards = int(str(options.get("cards", 0)))
        self._resident: tuple[str, ...] = ()
        self._batch_jobs = int(str(options.get("batch_jobs", 1)))
        self._running: list[Iterator[WorkerEvent]] = []
        if options.get("fail_start"):
            raise RuntimeError("The fake engine can't start.")
        time.sleep(float(str(options.get("ready_s", 0.0))))

    def describe(self) -> EngineStatus:
        models = tuple(ResidentModel(name=name, kind="checkpoint", bytes=1, place="device") for name in self._resident)
        return EngineStatus(
            state="ready",
            text="",
            device=PROVENANCE["device"],
            versions=VERSIONS,
            resident=self._resident,
            models=models,
            batch_jobs=self._batch_jobs if self._running else 1,
            cards=self.cards,
        )

    def warm(self, path: str, ref: ModelRef) -> None:
        self._resident = (ref.name,)

    def is_fetching(self) -> bool:
        return False

    def tidy(self) -> None:
        pass

    def obey(self, command: Command) -> None:
        if isinstance(command, Prefetch):
            self._resident = (*self._resident, command.ref.name)
        elif isinstance(command, Evict):
            self._resident = tuple(name for name in self._resident if f"checkpoint/{name}" != command.key)

    def generate(self, work_item: WorkItem, is_cancelled: Callable[[], bool]) -> Iterator[WorkerEvent]:
        self._resident = tuple(ref.name for ref in work_item.task.models)
        self._running = [self._paint(work_item, is_cancelled)]
        yield from in_turn(self._running)

    def join(self, work_item: WorkItem, is_cancelled: Callable[[], bool]) -> bool:
        if not 0 < len(self._running) < self._batch_jobs:
            return False
        self._running.append(self._paint(work_item, is_cancelled))
        return True

    def _paint(self, work_item: WorkItem, is_cancelled: Callable[[], bool]) -> Iterator[WorkerEvent]:
        return paint(work_item, is_cancelled, lambda: time.sleep(self.step_s), die=_die, hang=_hang)


def _die() -> None:
    time.sleep(0.05)  # let the writer thread send what was said before
    os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


def _hang() -> None:
    threading.Event().wait()
