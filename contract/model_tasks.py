"""Tasks without images and device: download a model, convert a pickle, merge checkpoints.

They have queues of their own, so that generating never waits for them: "network" for downloads, "disk" for tasks that
read and write weights. They are run by `studio/downloads/download_task.py` and `studio/workers/model_tasks.py`.
"""

import posixpath
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from contract.parts import LoraUse
from contract.values import Fraction, Frozen, ImageRef, ModelKind, ModelRef, Name, Rule

QueueName = Literal["engine", "network", "disk"]
QUEUE_NAMES: tuple[QueueName, ...] = ("engine", "network", "disk")
MAX_FILES = 100
MAX_MERGED_LORAS = 8
SAYS_NOTHING = (
    "pytorch_lora_weights",
    "diffusion_pytorch_model",
    "diffusion_pytorch_model.fp16",
    "model",
    "model.fp16",
    "pytorch_model",
    "adapter_model",
)  # generic names, which files of many repositories have
FileKind = ModelKind | Literal["annotator"]
RepositoryId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")]
Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,95}$")]


def is_plain_path(path: str) -> bool:
    """Whether a path with forward slashes stays below its folder and names no hidden file."""
    if "\\" in path or ":" in path or any(ord(letter) < 32 for letter in path):
        return False
    return all(part and part[0] not in ". ~" and part[-1] not in ". " for part in path.split("/"))


def _plain_path(path: str) -> str:
    if not is_plain_path(path):
        raise Rule(f"“{path[:80]}” is not a plain path.", "Use names joined by /, without “..”.")
    return path


def _plain_name(name: str) -> str:
    if "/" in name:
        raise Rule(f"“{name[:80]}” is not a plain name.", "Leave / out.")
    return _plain_path(name)


FilePath = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_plain_path)]
FileName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_plain_name)]


class _ModelTask(Frozen):
    """The common base of model tasks."""

    @property
    def queue_name(self) -> QueueName:
        """The queue in which it waits."""
        return "disk"

    @property
    def picture_count(self) -> int:
        """None."""
        return 0

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model that it reads."""
        return ()

    @property
    def images(self) -> tuple[ImageRef, ...]:
        """None."""
        return ()


class Download(_ModelTask):
    """Fetch files of a Hugging Face repository into the folder of their kind.

    files: paths within the repository; none: the model in the folder layout of diffusers. kind: decides their folder.
    name: the model's name here, where its file's own name says nothing; without it, the repository's.
    """

    type: Literal["download"] = "download"
    source: RepositoryId
    files: Annotated[tuple[FilePath, ...], Field(max_length=MAX_FILES)] = ()
    kind: FileKind = "checkpoint"
    name: FileName | None = None
    revision: Revision = "main"

    @property
    def queue_name(self) -> QueueName:
        """The network's."""
        return "network"

    @property
    def label(self) -> str:
        """The model's name in a few words."""
        if self.name:
            return self.name
        file = posixpath.basename(self.files[0]) if len(self.files) == 1 else ""
        if file and posixpath.splitext(file)[0] not in SAYS_NOTHING:
            return file
        return self.source.partition("/")[2]

    @property
    def title(self) -> str:
        """Its title in the queue."""
        return f"Download {self.label}"


class Convert(_ModelTask):
    """Write a pickle's tensors as safetensors, beside it. model: its name in the list of models."""

    type: Literal["convert"] = "convert"
    model: Name
    kind: ModelKind = "checkpoint"

    @property
    def title(self) -> str:
        """Its title in the queue."""
        return f"Convert {self.model.rpartition('/')[2]}"


def _check_models(method: str, b: object, c: object, loras: Sequence[object]) -> None:
    if b is None and (method == "add_difference" or not loras):
        raise Rule("A merge needs a second model.", "Choose model B, or bake LoRAs into A.", "b")
    if (c is not None) != (method == "add_difference"):
        raise Rule("Only “add difference” uses a third model.", "Choose model C for it, or leave it out.", "c")


class Merge(_ModelTask):
    """Make a checkpoint of others.

    weighted: (1 - ratio) a + ratio b. add_difference: a + ratio (b - c). LoRAs are baked in afterwards; with
    method "weighted" and no b only they are.
    """

    type: Literal["merge"] = "merge"
    name: FileName
    method: Literal["weighted", "add_difference"] = "weighted"
    a: ModelRef
    b: ModelRef | None = None
    c: ModelRef | None = None
    ratio: Fraction = 0.5
    loras: Annotated[tuple[LoraUse, ...], Field(max_length=MAX_MERGED_LORAS)] = ()
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"

    @model_validator(mode="after")
    def _complete(self) -> "Merge":
        _check_models(self.method, self.b, self.c, self.loras)
        return self

    @property
    def title(self) -> str:
        """Its title in the queue."""
        return f"Merge {self.name}"

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Its checkpoints, then its LoRAs."""
        checkpoints = filter(None, (self.a, self.b, self.c))
        return (*checkpoints, *(use.model for use in self.loras))


class LoraBake(Frozen):
    """A LoRA of a merge, by name."""

    model: Name
    weight: Annotated[float, Field(ge=-10.0, le=10.0)] = 1.0


class MergeDraft(Frozen):
    """A merge as it is asked for: models by name. Fields as of `Merge`."""

    name: FileName
    method: Literal["weighted", "add_difference"] = "weighted"
    a: Name
    b: Name | None = None
    c: Name | None = None
    ratio: Fraction = 0.5
    loras: Annotated[tuple[LoraBake, ...], Field(max_length=MAX_MERGED_LORAS)] = ()
    dtype: Literal["float16", "bfloat16", "float32"] = "float16"

    @model_validator(mode="after")
    def _complete(self) -> "MergeDraft":
        _check_models(self.method, self.b, self.c, self.loras)
        return self


ModelTask = Download | Convert | Merge
