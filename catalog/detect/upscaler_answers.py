"""Keeps what the engine found out about upscaler files, so that each is examined once.

Only spandrel, in the worker, can name a file's architecture (`engine/images/upscalers.py`). Until then the catalog
lists the file as a candidate. An answer holds for one version of the file, of spandrel and of the catalog.
"""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from catalog.detect.entries import ModelEntry
from catalog.detect.file_models import facts_version
from catalog.files.folders import file_stamp

logger = logging.getLogger(__name__)
FILE_NAME = "upscalers.json"
_MOST_BYTES = 4_000_000
_MOST_ANSWERS = 2_000


@dataclass(frozen=True, slots=True)
class Answer:
    """The result for one file: `detail` in words ("ESRGAN ×4"), or why it can't be used: `problem` follows its name."""

    detail: str = ""
    problem: str = ""
    hint: str = ""


class UpscalerAnswers:
    """The answers in one file, written by the engine's process and read by the studio's.

    Args:
        folder: Where the file is; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / FILE_NAME if folder else None
        try:
            spandrel = version("spandrel")
        except PackageNotFoundError:
            spandrel = ""
        self._versions = f"{spandrel} {facts_version()}"
        self._read_at: tuple[int, ...] = ()
        self._answers: dict[str, dict[str, str]] = {}

    def of(self, path: Path) -> Answer | None:
        """The answer for a file as it is now; None for one that was never examined, or has changed since."""
        self._refresh()
        kept = self._answers.get(str(path))
        if kept is None or kept.get("stamp") != self._stamp(path):
            return None
        return Answer(kept.get("detail", ""), kept.get("problem", ""), kept.get("hint", ""))

    def keep(self, path: Path, answer: Answer) -> None:
        """Remember an answer; one that can't be written is found again after the next start."""
        stamp = self._stamp(path)
        if self._path is None or not stamp:
            return
        self._refresh()
        self._answers.pop(str(path), None)
        self._answers[str(path)] = {**asdict(answer), "stamp": stamp}
        newest = dict(list(self._answers.items())[-_MOST_ANSWERS:])
        new = self._path.with_suffix(f".{os.getpid()}.new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(newest), "utf-8")
            os.replace(new, self._path)
        except OSError as error:
            logger.info("Could not write %s: %s", FILE_NAME, error.strerror)

    def apply(self, entry: ModelEntry) -> ModelEntry:
        """An upscaler's entry with its answer; other entries as they are."""
        if entry.ref.kind != "upscaler" or entry.problem:
            return entry
        answer = self.of(entry.path)
        if answer is None:
            return entry
        problem = f"{entry.title} {answer.problem}" if answer.problem else None
        return replace(entry, detail=answer.detail or entry.detail, problem=problem, hint=answer.hint)

    def _stamp(self, path: Path) -> str:
        """Changes with the file, spandrel and the catalog; "" for a file that isn't there."""
        try:
            status = path.stat()
        except OSError:
            return ""
        return f"{status.st_dev}:{file_stamp(status)} {self._versions}"

    def _refresh(self) -> None:
        """Read the file again if it is another one."""
        if self._path is None:
            return
        try:
            status = self._path.stat()
            now = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            if now == self._read_at or status.st_size > _MOST_BYTES:
                return
            table = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return
        self._read_at = now
        self._answers = {}
        for path, kept in table.items() if isinstance(table, dict) else ():
            if isinstance(kept, Mapping) and all(isinstance(value, str) for value in kept.values()):
                self._answers[path] = dict(kept)
