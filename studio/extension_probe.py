"""Loads an extension; tries it first in a process of its own, which may hang, crash or exit.

`python -m studio.extension_probe PATH RESULT` is that process. `extensions.py` decides which extensions are tried and
handles those that fail.
"""

import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pluggy

from contract.hooks import NAMESPACE, Hooks

_PROJECT = Path(__file__).resolve().parents[1]
_AT_ONCE = 4
_MOST_FILES = 20_000


class LoadFailure(NamedTuple):
    """Why an extension can't be loaded: the end of a sentence that begins with its name, and details for the log."""

    reason: str
    details: str = ""


def name_of(path: Path) -> str:
    """The name of an extension: its folder's."""
    return path.parent.name


def load_extension(path: Path) -> ModuleType:
    """Import an extension.py and check its hooks. Raises whatever it raises, SystemExit too."""
    spec = importlib.util.spec_from_file_location(f"darkroom_extension_{name_of(path)}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with ExitStack() as undo:
        undo.callback(sys.modules.pop, spec.name, None)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        manager = pluggy.PluginManager(NAMESPACE)
        manager.add_hookspecs(Hooks)
        manager.register(module)
        manager.check_pending()
        undo.pop_all()  # it loaded: it stays
    return module


def state_of(path: Path) -> str:
    """A digest that changes with an extension's files and with Python; "" where they can't be read."""
    digest = hashlib.sha256(sys.version.encode())
    try:
        files = [file for file in sorted(path.parent.rglob("*")) if "__pycache__" not in file.parts]
        for file in files[:_MOST_FILES]:
            status = file.lstat()
            line = f"{file.relative_to(path.parent)}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\n"
            digest.update(line.encode(errors="surrogateescape"))
    except OSError:
        return ""
    return digest.hexdigest()


def probe(paths: Sequence[Path], limit_s: float) -> dict[Path, LoadFailure]:
    """The extensions that can't be loaded; none where no process can be started."""
    failures: dict[Path, LoadFailure] = {}
    with tempfile.TemporaryDirectory(prefix="darkroom-") as folder:
        for start in range(0, len(paths), _AT_ONCE):
            results: dict[Path, Path] = {}
            for index, path in enumerate(paths[start : start + _AT_ONCE]):
                results[path] = Path(folder, f"{start + index}.json")
            with suppress(OSError):
                failures |= dict(_probe_at_once(results, limit_s))
    return failures


def _probe_at_once(results: Mapping[Path, Path], limit_s: float) -> Iterator[tuple[Path, LoadFailure]]:
    """Load each extension in a process of its own, which writes into its result file; yields the failures."""
    running: dict[Path, subprocess.Popen[bytes]] = {}
    for path, result in results.items():
        running[path] = subprocess.Popen(
            [sys.executable, "-m", "studio.extension_probe", str(path), str(result)],
            cwd=_PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    deadline = time.monotonic() + limit_s
    try:
        for path, process in running.items():
            try:
                status = process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                yield path, LoadFailure(f"did not load within {limit_s:g} s")
                continue
            try:
                error, details = json.loads(results[path].read_text("utf-8"))
            except (OSError, ValueError):
                yield path, LoadFailure(f"ended the program that loaded it (status {status})")
                continue
            if error:
                yield path, LoadFailure(f"could not be loaded ({error})", details)
    finally:
        for process in running.values():
            with suppress(OSError):
                if hasattr(os, "killpg"):
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(1.0)


def main(path: Path, result: Path) -> None:
    """The process: tries to load an extension and writes error and traceback, both empty if there is none."""
    failure = ("", "")
    try:
        load_extension(path)
    except BaseException as error:
        failure = (type(error).__name__, traceback.format_exc())
    result.write_text(json.dumps(failure), "utf-8")
    os._exit(0)  # not delayed by threads that the extension started


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
