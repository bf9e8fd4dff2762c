"""The messages between the studio and a worker: work items in, work events out.

Plain frozen dataclasses of the standard library, so that they pickle fast and import at once.
The studio turns work events into job events (adds time and attempt, makes JPEGs, saves pictures).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from contract.errors import FieldValues
from contract.records import EngineStatus
from contract.tasks import Task
from contract.values import ModelRef


@dataclass(frozen=True, slots=True)
class RawImage:
    """8-bit RGB pixels, row by row: len(rgb) == 3 * width * height."""

    width: int
    height: int
    rgb: bytes


def path_key(ref: ModelRef) -> str:
    """The key of a model's path in a work item: names are unique only within a kind."""
    return f"{ref.kind}/{ref.name}"


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One job for a worker, with everything it needs: it opens no database and no foreign file.

    Attributes:
        images: the uploads it names, by sha256: the bytes of the PNGs that the studio wrote.
        model_paths: absolute path by `path_key`, for every model the task names.
        finished: indices of pictures that an earlier attempt has saved; they are not made again.
        wants_previews: False when previews are switched off.
        preview_decoders: paths of tiny decoders that may read the model's latents.
    """

    job_id: str
    attempt: int
    task: Task
    images: Mapping[str, bytes] = field(default_factory=dict)
    model_paths: Mapping[str, str] = field(default_factory=dict)
    finished: frozenset[int] = frozenset()
    wants_previews: bool = True
    preview_decoders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkLoading:
    job_id: str
    what: str  # the model's title or name
    fraction: float | None = None
    done_bytes: int | None = None
    total_bytes: int | None = None
    left_s: float | None = None


@dataclass(frozen=True, slots=True)
class WorkStep:
    """After step `index` of `total` (1-based) of picture `image` (0-based)."""

    job_id: str
    image: int
    index: int
    total: int
    preview: RawImage | None = None


@dataclass(frozen=True, slots=True)
class WorkImage:
    """A finished picture; provenance (device, dtype, threads, batch, versions) goes into the PNG.

    Attributes:
        share: Of the device's time in these seconds; the rest was other jobs' (`batching.py`).
    """

    job_id: str
    image: int
    pixels: RawImage
    seconds: float
    provenance: Mapping[str, str]
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class WorkNotice:
    job_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class WorkDone:
    job_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkFailed:
    """worker_died and worker_hung come from the process worker itself. field, fix: as of StudioError."""

    job_id: str
    code: str
    message: str
    hint: str = ""
    field: str = ""
    fix: FieldValues | None = None


@dataclass(frozen=True, slots=True)
class WorkCancelled:
    job_id: str


DEVICE_FAULT = "device_fault"  # a WorkFailed's code: the process can no longer use its device


@dataclass(frozen=True, slots=True)
class Prefetch:
    """Read a model into host memory while jobs run, because it will be needed soon."""

    ref: ModelRef
    path: str


@dataclass(frozen=True, slots=True)
class Evict:
    """Free a model's memory, unless a job uses it."""

    key: str  # as of `path_key`


@dataclass(frozen=True, slots=True)
class Pin:
    """Keep a model in memory whatever else is loaded, or no longer."""

    key: str
    is_pinned: bool


Command = Prefetch | Evict | Pin
WorkerEvent = WorkLoading | WorkStep | WorkImage | WorkNotice | WorkDone | WorkFailed | WorkCancelled
WORK_ENDINGS = (WorkDone, WorkFailed, WorkCancelled)


class Engine(Protocol):
    """The engine as the process that owns it sees it: `engine.engine.Engine`, or a fake in tests. For one thread."""

    def describe(self) -> EngineStatus:
        """The device, versions and memory; state and text are the caller's to fill in."""

    def warm(self, path: str, ref: ModelRef) -> None:
        """Load a model ahead of its job. Raises StudioError."""

    def generate(self, work_item: WorkItem, is_cancelled: Callable[[], bool]) -> Iterator[WorkerEvent]:
        """Yield the events of one work item; the last one is its only ending."""

    def join(self, work_item: WorkItem, is_cancelled: Callable[[], bool]) -> bool:
        """Run a work item beside the one that `generate` runs, between two of its events; False if it can't."""

    def obey(self, command: Command) -> None:
        """Change which models are in memory."""

    def is_fetching(self) -> bool:
        """Whether a model is being read ahead at this moment."""

    def tidy(self) -> bool:
        """Free memory or do other idle work; True if there is more to do."""


class Worker(Protocol):
    """Runs work items on one device. Never touches outputs/ or SQLite."""

    def start(self, on_status: Callable[[EngineStatus], None]) -> None:
        """Begin loading in the background; returns at once. on_status is called from any thread."""

    def run(self, work_items: Sequence[WorkItem]) -> Iterator[WorkerEvent]:
        """Yield events; for each work item exactly one ending, its last. Called from one thread."""

    def join(self, work_item: WorkItem) -> bool:
        """Run a work item beside those that `run` runs, if they have equal `batch_key`s; its events come with theirs.

        Called between two events of `run`, in its thread. False: nothing runs, or the worker runs one at a time.
        """

    def cancel(self, job_id: str) -> None:
        """Ask a running job to stop between steps; unknown ids are ignored. Any thread."""

    def tell(self, command: Command) -> None:
        """Change which models are in memory, between steps or at once when nothing runs. Any thread; see `status`."""

    def status(self) -> EngineStatus:
        """The newest state."""

    def stop(self) -> None:
        """End the worker within 3 s, whatever it does. Idempotent."""


class Workers(Protocol):
    """Workers that join and leave while the program runs: further cards, other machines.

    Attributes:
        replaces_lost: Another will join for one that is lost.
    """

    replaces_lost: bool

    def start(self, add: Callable[[Worker], None], remove: Callable[[Worker], None]) -> None:
        """Begin to look for them; returns at once. add, remove: called from any thread."""

    def status(self) -> EngineStatus:
        """What is reported as long as there is no worker at all."""

    def on_statuses(self, statuses: Mapping[str, EngineStatus]) -> None:
        """The state of a worker has changed; all, by name. Any thread."""

    def stop(self) -> None:
        """Look for no more. The workers themselves are stopped by whoever runs them."""
