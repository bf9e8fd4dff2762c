"""The tasks of the queue; each names its models and images.

Generate makes the images of a recipe, Upscale upscales one, Preprocess makes a control map of one. The first
two save to the gallery; a map is kept with the uploads. Download, Convert and Merge are in `model_tasks.py`.
"""

import json
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from contract.model_tasks import Convert, Download, Merge, ModelTask, QueueName
from contract.parts import CONTROL_RESOLUTION, Threshold
from contract.recipe import Recipe
from contract.schema_1 import upgraded
from contract.values import Frozen, ImageId, ImageRef, ModelRef, Name

UPSCALE = (1.0, 8.0)
TILE = (64, 2048)
TILE_OVERLAP = (0, 256)

__all__ = [
    "TASK",
    "TILE",
    "TILE_OVERLAP",
    "UPSCALE",
    "Convert",
    "Download",
    "Generate",
    "Merge",
    "ModelTask",
    "Preprocess",
    "QueueName",
    "Task",
    "Upscale",
    "read_task",
    "task_json",
]


class _DeviceTask(Frozen):
    """A task that runs on the device."""

    @property
    def queue_name(self) -> QueueName:
        """The engine's."""
        return "engine"


class Generate(_DeviceTask):
    """Make the pictures of a recipe."""

    type: Literal["generate"] = "generate"
    recipe: Recipe
    parent: ImageId | None = None

    @property
    def title(self) -> str:
        """Its title in the queue."""
        return self.recipe.prompt

    @property
    def picture_count(self) -> int:
        """The number of images it makes."""
        return self.recipe.count

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model that it names, the one that decides its cost first."""
        return self.recipe.models

    @property
    def images(self) -> tuple[ImageRef, ...]:
        """Every uploaded picture that it names."""
        return self.recipe.images


class Upscale(_DeviceTask):
    """Upscale a picture, in tiles.

    upscaler: a name of catalog.upscalers other than "latent…", or a model of kind "upscaler".
    scale: of the sides; the output of a model with another factor is resized to it (Lanczos). tile: side of a tile of
    the source in pixels; tiles share `overlap` pixels, over which they fade into each other.
    """

    type: Literal["upscale"] = "upscale"
    image: ImageRef
    upscaler: Name | ModelRef = "lanczos"
    scale: Annotated[float, Field(ge=UPSCALE[0], le=UPSCALE[1])] = 2.0
    tile: Annotated[int, Field(ge=TILE[0], le=TILE[1])] = 256
    overlap: Annotated[int, Field(ge=TILE_OVERLAP[0], le=TILE_OVERLAP[1])] = 16
    parent: ImageId | None = None

    @property
    def title(self) -> str:
        """Its title in the queue."""
        return f"Upscale {self.scale:g}×"

    @property
    def picture_count(self) -> int:
        """One."""
        return 1

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """The upscaler, if it is a model."""
        return (self.upscaler,) if isinstance(self.upscaler, ModelRef) else ()

    @property
    def images(self) -> tuple[ImageRef, ...]:
        """The picture."""
        return (self.image,)


class Preprocess(_DeviceTask):
    """Make a control map of a picture: the preview of a preprocessor. Fields as of `contract.parts.Control`."""

    type: Literal["preprocess"] = "preprocess"
    image: ImageRef
    preprocessor: Name
    resolution: Annotated[int, Field(ge=CONTROL_RESOLUTION[0], le=CONTROL_RESOLUTION[1])] | None = None
    low: Threshold | None = None
    high: Threshold | None = None

    @property
    def title(self) -> str:
        """Its title in the queue."""
        return f"Preview of {self.preprocessor}"

    @property
    def picture_count(self) -> int:
        """One."""
        return 1

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """None: a preprocessor finds its own weights."""
        return ()

    @property
    def images(self) -> tuple[ImageRef, ...]:
        """The picture."""
        return (self.image,)


Task = Generate | Upscale | Preprocess | Download | Convert | Merge
TASK: TypeAdapter[Task] = TypeAdapter(Annotated[Task, Field(discriminator="type")])


def read_task(text: str) -> Task:
    """A task from `task_json`; its recipe may be of an older schema.

    Raises:
        ValidationError: it is none.
    """
    data = json.loads(text)
    if isinstance(data, dict) and "recipe" in data:
        text = json.dumps({**data, "recipe": upgraded(data["recipe"])})
    return TASK.validate_json(text)


def task_json(task: Task) -> str:
    """A task as text, defaults left out; `read_task` reads it."""
    data = task.model_dump(mode="json", exclude_defaults=True)
    return json.dumps({"type": task.type, **data}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
