"""What the engine found of files that may upscale pictures: kept, so that each is asked once, and listed as that.

Only spandrel, in the worker, can say which architecture a file is (`engine/images/upscalers.py`). Until then the
catalog lists it as a candidate. An answer belongs to a file as it was then, and to the spandrel and the catalog that
gave it.
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
    """What a file is: `detail` in words ("ESRGAN ×4"), or why it can't be used: `problem` follows its name."""

    detail: str = ""
    problem: str = ""
    hint: str = ""


class UpscalerAnswers:
    """The answers in one file, written by the engine's process and read by the studio's.

    Args:
        folder: Where the file lies; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = folder / FILE_NAME if folder else None
        self._asked = f"{_spandrel()} {facts_version()}"
        self._read_at: tuple[int, ...] = ()
        self._answers: dict[str, dict[str, str]] = {}

    def of(self, path: Path) -> Answer | None:
        """What is known of a file as it is now; None for one that was not asked, or changed since."""
        self._refresh()
        kept = self._answers.get(str(path))
        if kept is None or kept.get("stamp") != self._stamp(path):
            return None
        return Answer(*(kept.get(name, "") for name in ("detail", "problem", "hint")))

    def keep(self, path: Path, answer: Answer) -> None:
        """Remember; what can't be kept is asked again after the next start."""
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
            logger.info("what an upscaler is could not be kept: %s", error.strerror)

    def apply(self, entry: ModelEntry) -> ModelEntry:
        """An upscaler's entry with what is known of it; other entries as they are."""
        if entry.ref.kind != "upscaler" or entry.problem or (answer := self.of(entry.path)) is None:
            return entry
        problem = f"{entry.title} {answer.problem}" if answer.problem else None
        return replace(entry, detail=answer.detail or entry.detail, problem=problem, hint=answer.hint)

    def _stamp(self, path: Path) -> str:
        """All that changes when a file does, and who was asked; "" for a file that isn't there."""
        try:
            status = path.stat()
        except OSError:
            return ""
        return f"{status.st_dev}:{file_stamp(status)} {self._asked}"

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
        self._answers = (
            {path: kept for path, kept in table.items() if _is_answer(kept)} if isinstance(table, dict) else {}
        )


def _is_answer(kept: object) -> bool:
    return isinstance(kept, Mapping) and all(isinstance(value, str) for value in kept.values())


def _spandrel() -> str:
    try:
        return version("spandrel")
    except PackageNotFoundError:
        return ""
