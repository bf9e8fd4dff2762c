"""Where the files of a download go: a folder for each kind, below the first folder of models.

One file goes there by its own name, or by the model's where its own says nothing; several go into a folder of
their own. What can run code when opened goes to quarantine, where only the converter looks.
"""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

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
    """What lies where when a download has ended.

    Attributes:
        home: The folder that comes into being as a whole; None: each file by itself.
        places: Every file with its final place.
    """

    home: Path | None
    places: tuple[tuple[HubFile, Path], ...]

    def working(self, place: Path) -> Path:
        """Where a file is brought before the whole is there."""
        if self.home is None:
            return place
        return self.home.with_name(self.home.name + ".part") / place.relative_to(self.home)


def plan(task: Download, files: Sequence[HubFile], models: Path) -> Plan:
    """Decide every file's place below `models`."""
    folder = models / FOLDERS[task.kind]
    if task.kind == "annotator":  # known files of the preprocessors, each with its checksum
        return Plan(None, tuple((file, folder / posixpath.basename(file.path)) for file in files))
    if any(file.is_pickle for file in files):
        folder = models / QUARANTINE / FOLDERS[task.kind]
    if len(files) == 1 and task.files:
        return Plan(None, ((files[0], folder / _file_name(task, files[0].path)),))
    home = folder / (task.name or task.source.partition("/")[2])
    common = posixpath.commonpath([posixpath.dirname(file.path) or "." for file in files]) if files else ""
    common = "" if common == "." else common
    return Plan(
        home, tuple((file, home / (posixpath.relpath(file.path, common) if common else file.path)) for file in files)
    )


def _file_name(task: Download, path: str) -> str:
    name = posixpath.basename(path)
    stem, suffix = posixpath.splitext(name)
    if task.name:
        return f"{task.name}{suffix}"
    if stem in SAYS_NOTHING:
        return f"{task.source.partition('/')[2]}{suffix}"
    return name


def put_where(task: Download) -> str:
    """What to put where by hand, as a sentence."""
    what = posixpath.basename(task.files[0]) if len(task.files) == 1 else "its files"
    return f"Or put {what} from huggingface.co/{task.source} into models/{FOLDERS[task.kind]}/ yourself."


def is_there(task: Download, models: Path) -> bool:
    """Whether what a download brings lies in its place; by name, without asking anybody."""
    found = plan(task, [HubFile(path, 0) for path in task.files or ("model_index.json",)], models)
    return all(place.exists() for _, place in found.places)
