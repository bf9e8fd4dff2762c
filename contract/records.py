"""Records that are stored and shown: images, jobs, the engine's state. Plain data without behavior."""

from typing import Annotated, Literal

from pydantic import Field

from contract.recipe import Frozen, Recipe
from contract.tasks import Generate, Task, Upscale
from contract.values import ModelKind

JobState = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
EngineState = Literal["starting", "loading", "ready", "working", "restarting", "stopped"]


class StoredUpload(Frozen):
    """An uploaded picture, as stored. notices: visible changes that were made to it."""

    sha256: str
    width: int
    height: int
    notices: Annotated[tuple[str, ...], Field(exclude_if=lambda notices: not notices)] = ()


class ImageRecord(Frozen):
    """One picture. Ids rise in the order they are shown (newest last).

    Either `recipe` or `upscale` is set. parent: the image it was made from; it may be gone.
    """

    id: str
    path: str  # relative to outputs/, forward slashes
    created_at: float  # seconds since the epoch
    width: int
    height: int
    recipe: Recipe | None = None  # count 1 and its own seed
    upscale: Upscale | None = None
    job_id: str
    owner: str
    parent: str | None = None
    favorite: bool = False
    tags: tuple[str, ...] = ()
    seconds: float | None = None  # how long this picture took
    missing: bool = False  # the file is gone or unreadable; the recipe is still known


class ImagePage(Frozen):
    """One page of the gallery, newest first. `before` of the next page is `next_before`."""

    images: tuple[ImageRecord, ...]
    next_before: str | None
    total: int


class JobRecord(Frozen):
    """A row of the queue as its owner sees it."""

    id: str
    owner: str
    session: str | None
    state: JobState
    task: Task
    created_at: float
    finished_at: float | None = None
    attempt: int = 1
    image_ids: tuple[str, ...] = ()
    prepared: tuple[StoredUpload, ...] = ()  # control maps that it made: they are not in the gallery
    error_code: str | None = None
    error_message: str | None = None
    error_hint: str | None = None

    @property
    def recipe(self) -> Recipe | None:
        """The recipe it generates; None for other tasks."""
        return self.task.recipe if isinstance(self.task, Generate) else None


class JobView(Frozen):
    """A job with its live progress: the answer of GET /api/v1/jobs/{id}."""

    job: JobRecord
    position: int | None = None  # jobs before it while queued
    image: int = 0
    step: int = 0
    total_steps: int = 0
    progress: float = 0.0  # of the whole job, 0..1
    left_s: float | None = None
    done_bytes: int | None = None  # of a download
    total_bytes: int | None = None


class QueueRow(Frozen):
    """A line of the queue drawer. Other people's rows carry no job id, prompt or picture."""

    mine: bool
    state: JobState
    type: str = "generate"  # of its task
    job_id: str | None = None
    prompt: str | None = None
    message: str | None = None  # why it failed
    hint: str | None = None
    progress: float = 0.0
    left_s: float | None = None
    done_bytes: int | None = None  # of a download
    total_bytes: int | None = None
    position: int = 0
    starts_in_s: float | None = None
    seconds: float | None = None  # predicted length, or measured when finished
    image_ids: tuple[str, ...] = ()


class ResidentModel(Frozen):
    """A model in memory.

    place: "device" when its weights are where it runs, "memory" when they wait in the machine's memory,
    "coming" while they are read ahead. load_s: how long reading it from the disk took.
    """

    name: str
    kind: ModelKind
    bytes: int
    place: Literal["device", "memory", "coming"]
    is_pinned: bool = False
    in_use: bool = False
    load_s: float | None = None


class DeviceStatus(Frozen):
    """One of several devices that jobs run on. name: its worker's; the others as in `EngineStatus`."""

    name: str
    state: EngineState
    text: str
    device: str = ""
    fraction: float | None = None
    models: tuple[ResidentModel, ...] = ()
    budget_bytes: int = 0
    free_bytes: int = 0
    device_bytes: int | None = None
    device_free_bytes: int | None = None


class EngineStatus(Frozen):
    """The state of the engine, for the engine pill. `text` is ready to show, and so is `held`: why jobs don't start.
    notices: problems with the data folder at the start and their remedies, as sentences for the administrator.

    models: those in memory, checkpoints first, newest first. budget_bytes: how much of the machine's memory models
    may take; free_bytes: what the machine has left. device_bytes, device_free_bytes: of a card; None where it has no
    memory of its own. batch_jobs: how many jobs like the running one may run side by side (`batching.py`).
    cards: how many CUDA cards its process sees. devices: each of several, else empty; then the other fields sum them
    up. offer: a sentence about what would make the engine faster, with the command.
    """

    state: EngineState
    text: str
    device: str = ""  # "CPU, 2 threads" or the card's name
    resident: tuple[str, ...] = ()  # model names in memory
    fraction: float | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    held: str = ""
    extensions_off: tuple[str, ...] = ()  # a sentence each
    notices: tuple[str, ...] = ()
    models: tuple[ResidentModel, ...] = ()
    budget_bytes: int = 0
    free_bytes: int = 0
    device_bytes: int | None = None
    device_free_bytes: int | None = None
    batch_jobs: int = 1
    cards: int = 0
    devices: tuple[DeviceStatus, ...] = ()
    offer: str = ""


class JobHandle(Frozen):
    """The result of submit.

    further: the jobs behind it, where a draft makes one for each picture.
    """

    id: str
    position: int
    further: tuple[str, ...] = ()
