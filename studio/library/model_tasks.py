"""Manages the models on the disk for the owner of the machine: download, convert, merge, delete. No torch.

Checks what can be checked before a job exists, and chooses where results go. The work is done by
`downloads/download_task.py` and `workers/model_tasks.py`; who may ask is decided in `api/dependencies.py`.
"""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from catalog.catalog_models import CATALOG_MODELS, CatalogModel
from catalog.families import label_of
from catalog.files.layout import places_of
from catalog.models import BUNDLED, ModelEntry
from contract.errors import InvalidRecipe, ModelProblem, NotAllowed, NotFound, RequestError, StudioError
from contract.model_tasks import Convert, Download, Merge, MergeDraft, ModelTask
from contract.parts import LoraUse
from contract.records import JobHandle
from contract.values import ModelKind
from studio.downloads.destinations import FOLDERS, QUARANTINE, is_there
from studio.downloads.hub import PICKLES, Repository, read_repository
from studio.downloads.wire import Hub, Wire
from studio.library.model_list import ModelList
from studio.settings import Settings

logger = logging.getLogger(__name__)
QueueUp = Callable[[ModelTask, str, str | None], JobHandle]
_LISTING_TIMEOUT_S = 10.0
_SIDE_FILES = (
    ".json",
    ".txt",
    ".yaml",
    ".civitai.info",
    ".preview.png",
    ".preview.jpg",
    ".preview.jpeg",
    ".preview.webp",
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
)


def hub_of(settings: Settings) -> Hub:
    """The hub as the settings name it."""
    return Hub(settings.hub_endpoint, settings.hub_token, settings.hub_offline)


class ModelTasks:
    """Asks for model tasks.

    Args:
        queue_up: Puts a task into the queue for an owner and a window.
        is_waiting: Whether an equal task waits or runs.
    """

    def __init__(
        self, settings: Settings, models: ModelList, queue_up: QueueUp, is_waiting: Callable[[ModelTask], bool]
    ) -> None:
        self._settings = settings
        self._models = models
        self._queue_up = queue_up
        self._is_waiting = is_waiting

    # Get

    def catalog_models(self) -> tuple[tuple[CatalogModel, bool], ...]:
        """The models that are worth having first, and whether each is here already."""
        models_dir = self._settings.models_dir
        return tuple((model, is_there(model.download, models_dir)) for model in CATALOG_MODELS)

    def repository(self, name: str, revision: str = "main") -> Repository:
        """A repository of the hub and its files. Raises NotFound, JobError."""
        return read_repository(
            Wire(hub_of(self._settings), _LISTING_TIMEOUT_S), name, revision, whole_s=2 * _LISTING_TIMEOUT_S
        )

    def download(self, task: Download, owner: str, session: str | None = None) -> JobHandle:
        """Queue a download. Raises RequestError, QueueFull."""
        return self._ask(task, owner, session)

    # Make

    def convert(self, task: Convert, owner: str, session: str | None = None) -> JobHandle:
        """Queue a conversion.

        Raises:
            NotFound: there is no such pickle.
            RequestError: its safetensors is there already.
        """
        self._refuse_taken(self.target_of(task))
        return self._ask(task, owner, session)

    def merge(self, draft: MergeDraft, owner: str, session: str | None = None) -> JobHandle:
        """Queue a merge.

        Raises:
            NotFound: a model is not here.
            InvalidRecipe: they don't go together.
        """
        a = self._usable(draft.a, "checkpoint", "a")
        others: dict[str, ModelEntry] = {}  # by the field that names each
        for field, name in (("b", draft.b), ("c", draft.c)):
            if name is not None:
                others[field] = self._usable(name, "checkpoint", field)
        loras: list[LoraUse] = []
        for index, bake in enumerate(draft.loras):
            field = f"loras.{index}.model"
            others[field] = self._usable(bake.model, "lora", field)
            loras.append(LoraUse(model=others[field].ref, weight=bake.weight))
        for field, other in others.items():
            if other.ref.family != a.ref.family:
                raise InvalidRecipe(
                    f"“{other.title}” is {_family_label(other)}; “{a.title}” is {_family_label(a)}.",
                    "Merge models of one family.",
                    field=field,
                )
        task = Merge(
            name=draft.name,
            method=draft.method,
            a=a.ref,
            ratio=draft.ratio,
            dtype=draft.dtype,
            b=others["b"].ref if "b" in others else None,
            c=others["c"].ref if "c" in others else None,
            loras=tuple(loras),
        )
        self._refuse_taken(self.target_of(task))
        return self._ask(task, owner, session)

    def _ask(self, task: ModelTask, owner: str, session: str | None) -> JobHandle:
        if self._is_waiting(task):
            raise RequestError(f"“{task.title}” is in the queue already.", "See the queue.", code="already_queued")
        return self._queue_up(task, owner, session)

    def _usable(self, name: str, kind: ModelKind, part: str) -> ModelEntry:
        entry = self._models.find(name, kind)
        if entry is None:
            raise NotFound(
                f"There is no {'LoRA' if kind == 'lora' else 'checkpoint'} “{name[:80]}”.",
                "Choose one from the list of models.",
                field=part,
            )
        if entry.problem:
            raise ModelProblem(entry.problem, entry.hint, field=part)
        return entry

    # Where things are

    def source_of(self, task: Convert) -> Path:
        """The pickle of a conversion. Raises NotFound, RequestError."""
        entry = self._models.find(task.model, task.kind)
        if entry is None:
            raise NotFound(f"There is no model “{task.model[:80]}”.", "Choose one from the list of models.")
        if entry.format != "pickle" or entry.path.suffix.lower() not in PICKLES:
            raise RequestError(
                f"“{entry.title}” is not a pickle, so there is nothing to convert.",
                "Use it as it is.",
                code="not_a_pickle",
            )
        return entry.path

    def target_of(self, task: Convert | Merge) -> Path:
        """The path of a result: beside the pickle, or among the checkpoints.

        From quarantine it goes into the folder of its kind.
        """
        models = self._settings.models_dir
        if isinstance(task, Merge):
            return models / FOLDERS["checkpoint"] / f"{task.name}.safetensors"
        source = self.source_of(task).with_suffix(".safetensors")
        quarantine = models / QUARANTINE
        if source.is_relative_to(quarantine):
            return models / source.relative_to(quarantine)
        return source

    def _refuse_taken(self, target: Path) -> None:
        if target.exists():
            raise RequestError(
                f"{target.parent.name}/{target.name} is there already.",
                "Use another name, or delete that one first.",
                code="name_taken",
            )

    # Delete

    def delete(self, name: str, kind: ModelKind | None = None) -> None:
        """Remove a model's files from the disk, for good.

        Raises:
            NotFound: there is none of that name.
            NotAllowed: it is built in, or lies elsewhere.
            StudioError: the file system refused.
        """
        models = self._models.all(fresh=True)
        named = [entry for entry in models if entry.ref.name == name and kind in (None, entry.ref.kind)]
        if not named:
            raise NotFound(f"There is no model “{name[:80]}”.", "It may be gone already.")
        if len(named) > 1:
            raise RequestError(f"{len(named)} models are called “{name[:80]}”.", "Name its kind, too.", field="kind")
        entry, path = named[0], named[0].path
        if entry.ref.name == BUNDLED and entry.ref.kind == "checkpoint":
            raise NotAllowed("The starter model is a part of Darkroom.", "Delete another one.")
        folders = [place.folder for place in places_of(self._settings.model_dirs)]
        if path in folders or not any(path.is_relative_to(folder) for folder in folders):
            raise NotAllowed(f"“{entry.title}” lies outside the model folders.", "Delete it by hand.")
        try:
            _remove_with_side_files(path)
        except OSError as error:
            raise StudioError(
                f"{path.name} can't be deleted ({error.strerror}).",
                "Something may be using it, or its folder can't be written.",
                code="not_deleted",
            ) from None
        logger.info("model %s was deleted", entry.ref.name)
        self._models.all(fresh=True)


def _remove_with_side_files(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return
    path.unlink()
    for other in path.parent.iterdir():
        if other.stem == path.stem and other.suffix in (".safetensors", *PICKLES):
            return  # the side files are that one's too
    for suffix in _SIDE_FILES:
        (path.parent / f"{path.stem}{suffix}").unlink(missing_ok=True)


def _family_label(entry: ModelEntry) -> str:
    return label_of(entry.ref.family)
