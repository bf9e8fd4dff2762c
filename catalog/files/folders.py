"""Configurations and identity of models: JSON files, fingerprints, stamps. Weights are in `weights.py`.

A model's identity is its place and every file that decides the picture: the weights, and the settings beside them.
Facts about a file are kept under its `file_stamp`.
"""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from catalog.files.headers import UnreadableModel
from contract.errors import ModelProblem
from contract.values import ModelKind

MAX_CONFIG_BYTES = 4_000_000
# Beside a single-file checkpoint: the original (LDM) configuration, and notes as other programs keep them.
SIDE_SETTINGS = (".yaml", ".json")
_INDEX, _CONFIG = "model_index.json", "config.json"
_HEAD_BYTES = 65_536


def file_stamp(status: os.stat_result) -> str:
    """A text that changes with a file: its contents, a replacement, its permissions.

    Times alone can be set back (`cp -p`, archives); the time of the last change of any kind can't.
    """
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


def stamp_of(path: Path) -> str:
    """As `file_stamp`, for a file or for all files below a folder; "" where nothing is there."""
    if not os.path.isdir(path):
        try:
            return file_stamp(path.stat())
        except OSError:
            return ""
    digest = hashlib.sha256()
    for file in files_below(path):
        with contextlib.suppress(OSError):
            digest.update(f"{file} {file_stamp(file.stat())}\n".encode("utf-8", "replace"))
    return digest.hexdigest()


def settings_of(path: Path, kind: ModelKind) -> tuple[Path, ...]:
    """The files beside a model's weights that decide the picture too.

    Args:
        path: The model's file or folder.
        kind: Its kind: a LoRA's notes decide nothing, a checkpoint's may.
    """
    if path.is_dir():
        if not (path / _INDEX).is_file():  # a component alone
            return (path / _CONFIG,) if (path / _CONFIG).is_file() else ()
        # README and the like are notes about the model; a link that leads to nothing holds no setting.
        in_components = [file for file in files_below(path) if file.parent != path and file.is_file()]
        return (path / _INDEX, *in_components)
    if kind != "checkpoint":
        return ()
    beside = (path.with_suffix(suffix) for suffix in SIDE_SETTINGS)
    return tuple(file for file in beside if file.is_file())


def files_below(folder: Path) -> Iterator[Path]:
    """The files of a model's folder, in order, without hidden ones.

    A link to a folder is followed where that is a component of a model (a VAE that several share): any other may lead
    to a whole disk.
    """
    for place, folders, files in os.walk(folder):
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(place, name)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            linked = Path(place, name)
            if not linked.is_symlink() or not any(linked.glob("*config.json")):
                continue
            for file in sorted(linked.iterdir()):
                if file.is_file() and not file.name.startswith("."):
                    yield file


def fingerprint(folder: Path, weights: Sequence[Path], settings: Sequence[Path] = ()) -> str:
    """A model's identity: changes with its place, its weights and its settings; the weights need not be read.

    Args:
        folder: All files are below it.
        settings: As `settings_of` returns them.

    Raises:
        OSError: a file is gone or can't be read.
    """
    digest = hashlib.sha256(f"{os.path.abspath(folder)}\n".encode("utf-8", "surrogateescape"))
    for path in sorted({*weights, *settings}):
        status, head = path.stat(), ""
        if path in weights:
            with path.open("rb") as file:
                head = hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()
        line = f"{path.relative_to(folder)}|{file_stamp(status)}|{head}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file as a table.

    Raises:
        ModelProblem: it is missing, too large, or not a JSON object.
        UnreadableModel: the system refused to read it.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise ModelProblem(f"{where} is not a regular file.", "Download the model again.")
        if status.st_size > MAX_CONFIG_BYTES:
            raise ModelProblem(f"{where} is too large for a configuration.", "Download it again.")
        data = json.loads(path.read_bytes())  # in UTF-8, UTF-16 or UTF-32, with a byte-order mark or without
    except FileNotFoundError:
        raise ModelProblem(f"{where} is missing.", "Download the model again.") from None
    except OSError as error:
        raise UnreadableModel(
            f"{where} can't be read ({error.strerror}).", "Put it back, or correct its permissions."
        ) from None
    except (ValueError, RecursionError):
        raise ModelProblem(f"{where} can't be read as JSON.", "Download the model again.") from None
    if not isinstance(data, dict):
        raise ModelProblem(f"{where} is not a table.", "Download the model again.")
    return data
