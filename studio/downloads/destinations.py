"""Chooses where the files of a download go: a folder for each kind, below the first folder of models.

A single file keeps its name, or gets the model's if its own is generic; several go into a folder of their own. Files
that can run code when opened go to quarantine, which only the converter reads.
"""

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from contract.errors import JobError
from contract.model_tasks import SAYS_NOTHING, Download
from studio.downloads.hub import HubFile

QUARANTINE = "quarantine"
FOLDERS: Mapping[str, str] = MappingProxyType(
    {
        "checkpoint": "checkpoints",
        "vae": "vae",
        "lora": "loras",
        "controlnet": "controlnet",
        "t2i_adapter": "t2i_adapter",
        "ip_adapter": "ip_adapter",
        "embedding": "embeddings",
        "upscaler": "upscale_models",
        "hypernetwork": "hypernetworks",
        "annotator": "annotators",
    }
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The places of the files of a download.

    Attributes:
        home: The folder that appears when it is complete; None: each file appears by itself.
        places: Every file with its final path.
    """

    home: Path | None
    places: tuple[tuple[HubFile, Path], ...]

    def working(self, place: Path) -> Path:
        """Where a file is written until the download is complete."""
        if self.home is None:
            return place
        return self.home.with_name(self.home.name + ".part") / place.relative_to(self.home)

    def missing(self, is_whole: Callable[[HubFile, Path], bool]) -> Mapping[Path, int]:
        """Final places that have to be filled, with their sizes.

        Args:
            is_whole: Whether a file in its place is what the hub has.
        Raises:
            JobError: something else has the name.
        """
        if self.home is not None:
            if not self.home.exists():
                return {place: file.size_bytes for file, place in self.places}
            if all(is_whole(file, place) for file, place in self.places):
                return {}
            raise _taken(self.home)
        missing = {}
        for file, place in self.places:
            if place.exists() and not is_whole(file, place):
                raise _taken(place)
            if not place.exists():
                missing[place] = file.size_bytes
        return missing


def _taken(place: Path) -> JobError:
    return JobError(
        f"{place.parent.name}/{place.name} exists already and is something else.",
        "Give the download another name, or delete that one first.",
        code="name_taken",
    )


def plan(task: Download, files: Sequence[HubFile], models: Path) -> Plan:
    """Decide every file's place below `models`."""
    folder = models / FOLDERS[task.kind]
    if task.kind == "annotator":  # known files of the preprocessors, each with its checksum
        return Plan(None, tuple((file, folder / posixpath.basename(file.path)) for file in files))
    if any(file.is_pickle for file in files):
        folder = models / QUARANTINE / FOLDERS[task.kind]
    if len(files) == 1 and task.files:
        name = posixpath.basename(files[0].path)
        stem, suffix = posixpath.splitext(name)
        if task.name:
            name = f"{task.name}{suffix}"
        elif stem in SAYS_NOTHING:
            name = f"{task.source.partition('/')[2]}{suffix}"
        return Plan(None, ((files[0], folder / name),))
    home = folder / (task.name or task.source.partition("/")[2])
    common = posixpath.commonpath([posixpath.dirname(file.path) or "." for file in files]) if files else ""
    common = "" if common == "." else common
    return Plan(
        home, tuple((file, home / (posixpath.relpath(file.path, common) if common else file.path)) for file in files)
    )


def put_where(task: Download) -> str:
    """How to install the files by hand, as a sentence."""
    what = posixpath.basename(task.files[0]) if len(task.files) == 1 else "its files"
    return f"Or put {what} from huggingface.co/{task.source} into models/{FOLDERS[task.kind]}/ yourself."


def is_there(task: Download, models: Path) -> bool:
    """Whether the files of a download are in their places; by name, without a connection."""
    found = plan(task, [HubFile(path, 0) for path in task.files or ("model_index.json",)], models)
    return all(place.exists() for _, place in found.places)
