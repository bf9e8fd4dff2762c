"""The models that are there. The folders are read again in the background, so that no request waits."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from catalog.models import ModelEntry, default_model, describe, scan
from contract.errors import NotFound
from contract.values import ModelKind

RESCAN_S = 5.0
_FRESH_S = 1.0  # unknown names may ask for a new look at most this often


class ModelList:
    """What `catalog.models.scan` finds, kept for a while."""

    def __init__(self, folders: Sequence[Path], clock: Callable[[], float] = time.monotonic) -> None:
        self._folders = tuple(folders)
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: tuple[ModelEntry, ...] | None = None
        self._seen: dict[tuple[str, int, int], bool] = {}
        self._scanned_at = 0.0
        self._is_scanning = False

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where models are looked for."""
        return self._folders

    def all(self, *, fresh: bool = False) -> tuple[ModelEntry, ...]:
        """Models of all kinds, usable or not, by title. A list older than five seconds starts a scan behind it.

        Args:
            fresh: Wait for a new scan.
        """
        entries = self._entries
        if fresh or entries is None:
            return self._scan()
        if self._clock() - self._scanned_at > RESCAN_S and not self._is_scanning:
            self._is_scanning = True
            threading.Thread(target=self._scan, name="model-scan", daemon=True).start()
        return entries

    def _scan(self) -> tuple[ModelEntry, ...]:
        with self._lock:
            try:
                entries = self._entries = scan(self._folders, self._seen)
                self._scanned_at = self._clock()
            finally:
                self._is_scanning = False
            return entries

    def of_kind(self, kind: ModelKind = "checkpoint") -> tuple[ModelEntry, ...]:
        """Those of one kind, by title."""
        return tuple(entry for entry in self.all() if entry.ref.kind == kind)

    def find(self, name: str, kind: ModelKind | None = "checkpoint") -> ModelEntry | None:
        """A model by name or title, in any case; looks again on the disk before it gives up. kind None: any."""
        entry = _find(self.all(), name, kind)
        if entry is None and self._clock() - self._scanned_at > _FRESH_S:
            entry = _find(self.all(fresh=True), name, kind)
        return entry

    def get(self, name: str, kind: ModelKind | None = None) -> ModelEntry:
        """As `find`, of any kind unless one is named.

        Raises:
            NotFound: there is none of that name.
        """
        entry = self.find(name, kind)
        if entry is None:
            raise NotFound(f"There is no model “{name[:80]}”.", "Choose another model.")
        return entry

    def as_it_is_now(self, name: str) -> ModelEntry | None:
        """A model by its exact name, read from the disk again; None if it is gone."""
        entry = next((e for e in self.all() if e.ref.name == name), None)
        if entry is None or not _is_there(entry.path):
            entry = next((e for e in self.all(fresh=True) if e.ref.name == name), None)
        return describe(entry.path, name) if entry else None

    def first_usable(self) -> ModelEntry | None:
        """The default model."""
        return default_model(self.all())


def _is_there(path: Path) -> bool:
    return path.is_file() or any((path / name).is_file() for name in ("model_index.json", "config.json"))


def _find(entries: Sequence[ModelEntry], name: str, kind: ModelKind | None) -> ModelEntry | None:
    wanted = name.strip().casefold()
    entries = [entry for entry in entries if kind is None or entry.ref.kind == kind]
    exact = (entry for entry in entries if entry.ref.name == name)
    loose = (entry for entry in entries if wanted in (entry.ref.name.casefold(), entry.title.casefold()))
    return next(exact, None) or next(loose, None)
