"""Walks through folders of models and finds what may be a model; opens only small configurations.

Symbolic links are followed within the folders of models; loops, dangling ones and those that lead elsewhere are
left out, each with one line in the log. `models.py` finds out what each is.
"""

import logging
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from catalog.detect.control_models import control_kind
from catalog.files.folders import SIDE_SETTINGS, file_stamp, read_json, stamp_of
from catalog.files.formats import FORMATS, PICKLES, WEIGHTS
from catalog.files.layout import Place, is_other_folder, kind_of_folder, places_of
from catalog.files.side_files import notes_of, preview_of
from contract.errors import ModelProblem
from contract.values import ModelKind

logger = logging.getLogger(__name__)
SCAN_DEPTH = 8
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
        stamp: Changes with the file, the notes and settings beside it, or any file of a folder.
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
        warn: Called with a sentence for everything that is left out.

    Attributes:
        inside: The folders, without links: what leads out of them is left out.
    """

    def __init__(self, roots: Sequence[Path], warn: Callable[[str], None] = logger.info) -> None:
        self._places = places_of(roots)
        self._warn = warn
        self._visited: set[tuple[int, int]] = set()
        self.inside = tuple(os.path.realpath(place.folder) for place in self._places)

    def found(self) -> Iterator[Found]:
        """Everything, in the order of the roots."""
        for place in self._places:
            yield from self._walk(place, place.folder, place.kind, "", SCAN_DEPTH)

    def _walk(self, place: Place, folder: Path, kind: ModelKind | None, name: str, depth: int) -> Iterator[Found]:
        """Everything in one folder. `name`: of the folder, for the models in it."""
        try:
            status = os.stat(folder)
            with os.scandir(folder) as entries:
                children = {entry.name: entry for entry in entries}
        except (OSError, ValueError) as error:
            if folder != place.folder or not isinstance(error, FileNotFoundError):
                self._warn(f"{folder} can't be looked into ({getattr(error, 'strerror', error)}).")
            return
        if (status.st_dev, status.st_ino) in self._visited:
            self._warn(f"{folder} is read already; this way to it is left out.")
            return
        self._visited.add((status.st_dev, status.st_ino))
        if is_model_folder(folder, children):
            full = folder.relative_to(place.folder).as_posix() if folder != place.folder else folder.name
            if _can_be_named(full):
                yield Found(folder, name or full, full, kind, True, stamp_of(folder), modified=status.st_mtime)
            else:
                self._warn(f"{folder.name!a} is left out: its name is empty, too long, or not in UTF-8.")
            return
        listed = _Listed(children, self._is_inside)
        for child in sorted(children):
            entry = children[child]
            if child.startswith(".") or not self._is_inside(entry):
                continue
            try:
                if entry.is_dir():
                    if depth and not is_other_folder(child, kind) and not child.endswith(UNFINISHED):
                        own_kind = None if kind else kind_of_folder(child)
                        # The folder of a kind is left out of the names of what is in it.
                        inner = "" if own_kind and not name else f"{name}/{child}".lstrip("/")
                        yield from self._walk(place, Path(entry.path), kind or own_kind, inner, depth - 1)
                elif _may_be_model(child, kind, is_top=not name) and entry.is_file():
                    yield from self._file(place, entry, listed, kind, name)
            except OSError as error:
                self._warn(f"{Path(entry.path)} can't be looked at ({error.strerror}).")

    def _file(
        self, place: Place, entry: "os.DirEntry[str]", listed: "_Listed", kind: ModelKind | None, name: str
    ) -> Iterator[Found]:
        path = Path(entry.path)
        full_name = path.relative_to(place.folder).with_suffix("").as_posix()
        status = _status(entry)
        notes = notes_of(path, listed)
        beside = [listed.stat(file.name) for file in (*notes, *_settings_beside(path, listed, notes))]
        if not _can_be_named(full_name):
            self._warn(f"{path.name!a} is left out: its name is empty, too long, or not in UTF-8.")
            return
        yield Found(
            path,
            f"{name}/{path.stem}".lstrip("/"),
            full_name,
            kind,
            False,
            _stamp(status, beside),
            status.st_size,
            status.st_mtime,
            preview_of(path, listed),
            notes,
        )

    def _is_inside(self, entry: "os.DirEntry[str]") -> bool:
        """Whether an entry is no symbolic link, or one that stays within the folders of models."""
        if not entry.is_symlink():
            return True
        target = os.path.realpath(entry.path)
        if not os.path.exists(target):
            self._warn(f"{entry.path} leads to nothing and is left out.")
            return False
        if _is_below(target, self.inside):
            return True
        folder = target if os.path.isdir(target) else os.path.dirname(target)
        self._warn(
            f"{entry.path} leads out of the folders of models and is left out. "
            f"To use what it leads to: --models {folder}"
        )
        return False


def is_model_folder(folder: Path, names: Container[str]) -> bool:
    """Whether a folder is a model by itself, in diffusers' layout. `names`: of everything in it."""
    if "model_index.json" in names and os.path.isfile(folder / "model_index.json"):
        return True
    return "config.json" in names and (control_kind(folder) is not None or is_vae_folder(folder))


def is_vae_folder(folder: Path) -> bool:
    """Whether a folder's config.json is a VAE's."""
    try:
        return read_json(folder / "config.json").get("_class_name") == VAE_CLASS
    except ModelProblem:
        return False


def found_at(path: Path, name: str, kind: ModelKind | None = None, inside: Sequence[str] = ()) -> Found:
    """One path as a walk would find it, under a name that is known. Raises OSError.

    Args:
        inside: As of `Walk`; none: what is beside the file must stay in its folder.
    """
    status = path.stat()
    if not path.is_file():
        return Found(path, name, name, kind, True, stamp_of(path), modified=status.st_mtime)
    names = _Named(path.parent, tuple(inside) or (os.path.realpath(path.parent),))
    notes = notes_of(path, names)
    beside = [file.stat() for file in (*notes, *_settings_beside(path, names, notes))]
    return Found(
        path,
        name,
        name,
        kind,
        False,
        _stamp(status, beside),
        status.st_size,
        status.st_mtime,
        preview_of(path, names),
        notes,
    )


@dataclass(frozen=True, slots=True)
class _Named:
    """The names in a folder that may hold thousands, of which only a few are asked. Files count as for `_Listed`."""

    folder: Path
    inside: tuple[str, ...]

    def __contains__(self, name: object) -> bool:
        path = os.path.join(self.folder, str(name))
        return self.is_file(str(name)) and (not os.path.islink(path) or _is_below(os.path.realpath(path), self.inside))

    def is_file(self, name: str) -> bool:
        """Whether it is a file, wherever a link may lead."""
        return os.path.isfile(os.path.join(self.folder, name))


def _is_below(target: str, roots: Sequence[str]) -> bool:
    return any(target == root or target.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def _settings_beside(path: Path, beside: "_Listed | _Named", notes: Container[Path]) -> Iterator[Path]:
    """Settings beside a file whose kind is not known yet; notes are none.

    A link may lead anywhere, as many checkpoints share one configuration: only the prediction is read from it.
    """
    for suffix in SIDE_SETTINGS:
        file = path.with_name(path.stem + suffix)
        if beside.is_file(file.name) and file not in notes:
            yield file


def _may_be_model(file_name: str, kind: ModelKind | None, *, is_top: bool) -> bool:
    """Whether to list a file: safetensors and GGUF anywhere, other formats where a folder gives their kind.

    Args:
        is_top: It is in the folder of models itself, where people put what they want to see listed.
    """
    suffix = os.path.splitext(file_name)[1].lower()
    if suffix in WEIGHTS:
        return True
    form = FORMATS.get(suffix)
    if form is None:
        return False
    return form.is_anywhere or kind is not None or (is_top and suffix not in PICKLES)


class _Listed:
    """The names of a folder's files that may be read: a pipe, a folder or a link to elsewhere harms no model."""

    def __init__(
        self, entries: Mapping[str, "os.DirEntry[str]"], is_inside: Callable[["os.DirEntry[str]"], bool]
    ) -> None:
        self._entries, self._is_inside = entries, is_inside

    def __contains__(self, name: object) -> bool:
        entry = self._entries.get(str(name))
        return entry is not None and self._is_inside(entry) and _is_file(entry)

    def is_file(self, name: str) -> bool:
        """Whether it is a file, wherever a link may lead."""
        return name in self._entries and _is_file(self._entries[name])

    def stat(self, name: str) -> os.stat_result:
        """Size and times of one of the files. Raises OSError."""
        return _status(self._entries[name])


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _status(entry: "os.DirEntry[str]") -> os.stat_result:
    """Size and times of a file just listed. Windows' listing gives neither an inode nor a time of change."""
    return entry.stat() if os.name != "nt" else os.stat(entry.path)


def _stamp(status: os.stat_result, beside: Iterable[os.stat_result]) -> str:
    return " ".join(map(file_stamp, (status, *beside)))


def _can_be_named(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return 0 < len(name) <= MAX_NAME
