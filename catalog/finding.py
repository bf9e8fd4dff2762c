"""Walks through folders of models and says what lies there that may be one; opens only small configurations.

Symbolic links are followed within the folders of models; loops, dangling ones and those that lead elsewhere are
left out, each with one line in the log. What a found thing is, `models.py` tells.
"""

import logging
import os
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from catalog.control_models import control_kind
from catalog.folders import SIDE_SETTINGS, file_stamp, read_json, stamp_of
from catalog.layout import OTHER_FOLDERS, Place, kind_of_folder, places_of
from catalog.side_files import NOTE_ENDINGS, notes_of, preview_of
from contract.errors import ModelProblem
from contract.values import ModelKind

logger = logging.getLogger(__name__)
SCAN_DEPTH = 8
SAFETENSORS = (".safetensors", ".sft")
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
UNFINISHED = (".part", ".crdownload")
MAX_NAME = 300
VAE_CLASS = "AutoencoderKL"


@dataclass(frozen=True, slots=True)
class Found:
    """Something that may be a model.

    Attributes:
        name: As people choose it: below the folder of its kind, without suffix.
        full_name: Below its root, where two in one root have the same name.
        kind: By the convention of its folder, if there is one.
        stamp: Changes with the file or the words and settings beside it, or with any file of a folder.
    """

    path: Path
    name: str
    full_name: str
    kind: ModelKind | None
    is_folder: bool
    stamp: str = ""
    size_bytes: int = 0
    modified: float = 0.0
    preview: Path | None = None
    notes: tuple[Path, ...] = ()


class Walk:
    """One walk through all folders of models.

    Args:
        warn: Hears of what is left out.
    """

    def __init__(self, roots: Sequence[Path], warn: Callable[[str], None] = logger.info) -> None:
        self._places = places_of(roots)
        self._warn = warn
        self._visited: set[tuple[int, int]] = set()
        self._inside = tuple(os.path.realpath(place.folder) for place in self._places)

    def found(self) -> Iterator[Found]:
        """Everything, in the order of the roots."""
        for place in self._places:
            yield from self._below(place, place.folder, place.kind, "", SCAN_DEPTH)

    def _below(self, place: Place, folder: Path, kind: ModelKind | None, name: str, depth: int) -> Iterator[Found]:
        """What lies in one folder. `name`: of the folder, for what is in it."""
        try:
            status = os.stat(folder)
            children = {entry.name: entry for entry in os.scandir(folder)}
        except OSError:
            return
        if (status.st_dev, status.st_ino) in self._visited:
            self._warn(f"{folder} is read already; this way to it is left out.")
            return
        self._visited.add((status.st_dev, status.st_ino))
        if is_model_folder(folder, children):
            full = folder.relative_to(place.folder).as_posix() if folder != place.folder else folder.name
            yield Found(folder, name or full, full, kind, True, stamp_of(folder), modified=status.st_mtime)
            return
        for child in sorted(children):
            if not child.startswith(".") and self._is_inside(children[child]):
                yield from self._child(place, children, child, kind, name, depth)

    def _child(self, place: Place, children: dict[str, "os.DirEntry[str]"], child: str, kind: ModelKind | None,
               name: str, depth: int) -> Iterator[Found]:
        entry = children[child]
        path = Path(entry.path)
        try:
            if entry.is_dir():
                if depth and child.casefold() not in OTHER_FOLDERS and not child.endswith(UNFINISHED):
                    own = None if kind else kind_of_folder(child)
                    # The folder of a kind is left out of the names of what is in it.
                    inner = "" if own and not name else f"{name}/{child}".lstrip("/")
                    yield from self._below(place, path, kind or own, inner, depth - 1)
            elif _may_be_model(child, kind) and entry.is_file():
                found = _file(place, path, entry, children, kind, name)
                if _can_be_named(found.full_name):
                    yield found
                else:
                    self._warn(f"{path.name!a} is left out: its name is too long, or not in UTF-8.")
        except OSError as error:
            self._warn(f"{path} can't be looked at ({error.strerror}).")

    def _is_inside(self, entry: "os.DirEntry[str]") -> bool:
        """Whether an entry is no symbolic link, or one that stays within the folders of models."""
        if not entry.is_symlink():
            return True
        target = os.path.realpath(entry.path)
        if not os.path.exists(target):
            self._warn(f"{entry.path} leads to nothing and is left out.")
        elif any(target == root or target.startswith(root.rstrip(os.sep) + os.sep) for root in self._inside):
            return True
        else:
            self._warn(f"{entry.path} leads out of the folders of models and is left out. "
                       f"To use what it leads to: --models {target if os.path.isdir(target) else os.path.dirname(target)}")
        return False


def is_model_folder(folder: Path, names: object) -> bool:
    """Whether a folder is a model by itself, in diffusers' layout. `names`: what is in it."""
    has = names.__contains__ if isinstance(names, dict) else lambda name: (folder / name).is_file()
    if has("model_index.json") and (folder / "model_index.json").is_file():
        return True
    return has("config.json") and (control_kind(folder) is not None or is_vae_folder(folder))


def is_vae_folder(folder: Path) -> bool:
    """Whether a folder's config.json is a VAE's."""
    try:
        return read_json(folder / "config.json").get("_class_name") == VAE_CLASS
    except ModelProblem:
        return False


def found_at(path: Path, name: str, kind: ModelKind | None = None) -> Found:
    """One path as a walk would find it, under a name that is known. Raises OSError."""
    status = path.stat()
    if not path.is_file():
        return Found(path, name, name, kind, True, stamp_of(path), modified=status.st_mtime)
    beside = _Beside(path.parent)
    notes, settings = notes_of(path, beside), _settings_beside(path, beside)
    return Found(path, name, name, kind, False, _stamp(status, [one.stat() for one in (*notes, *settings)]),
                 status.st_size, status.st_mtime, preview_of(path, beside), notes)


@dataclass(frozen=True, slots=True)
class _Beside:
    """The names in a folder of which only a few are asked: it may hold thousands."""

    folder: Path

    def __contains__(self, name: object) -> bool:
        return os.path.exists(self.folder / str(name))


def _settings_beside(path: Path, beside: Container[str]) -> tuple[Path, ...]:
    """What may decide a picture beside a file whose kind is not known yet, and is no note."""
    names = [path.stem + suffix for suffix in SIDE_SETTINGS if suffix not in NOTE_ENDINGS]
    return tuple(path.with_name(name) for name in names if name in beside)


def _may_be_model(file_name: str, kind: ModelKind | None) -> bool:
    """Safetensors anywhere; a pickle where a folder says what it would be (a .ckpt is a checkpoint anywhere)."""
    suffix = os.path.splitext(file_name)[1].lower()
    return suffix in SAFETENSORS or suffix == ".ckpt" or suffix in PICKLES and kind is not None


def _file(place: Place, path: Path, entry: "os.DirEntry[str]", children: dict[str, "os.DirEntry[str]"],
          kind: ModelKind | None, name: str) -> Found:
    status = _status(entry)
    notes, settings = notes_of(path, children), _settings_beside(path, children)
    stamp = _stamp(status, [_status(children[one.name]) for one in (*notes, *settings)])
    return Found(path, f"{name}/{path.stem}".lstrip("/"), path.relative_to(place.folder).with_suffix("").as_posix(), kind,
                 False, stamp, status.st_size, status.st_mtime, preview_of(path, children), notes)


def _status(entry: "os.DirEntry[str]") -> os.stat_result:
    """Of a file that was just listed. What Windows says while it lists has neither a number nor a time of change."""
    return entry.stat() if os.name != "nt" else os.stat(entry.path)


def _stamp(status: os.stat_result, beside: Sequence[os.stat_result]) -> str:
    return " ".join(file_stamp(one) for one in (status, *beside))


def _can_be_named(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return len(name) <= MAX_NAME
