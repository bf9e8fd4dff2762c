"""The models that are there, scanned again at most every few seconds."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from catalog.models import ModelEntry, scan
from contract.errors import NotFound

RESCAN_S = 5.0


class ModelList:
    """What `catalog.models.scan` finds, kept for a while."""

    def __init__(self, folders: Sequence[Path], clock: Callable[[], float] = time.monotonic) -> None:
        self._folders = tuple(folders)
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: tuple[ModelEntry, ...] = ()
        self._scanned_at: float | None = None

    def all(self, *, fresh: bool = False) -> tuple[ModelEntry, ...]:
        """All models, usable or not, by title."""
        with self._lock:
            now = self._clock()
            if fresh or self._scanned_at is None or now - self._scanned_at > RESCAN_S:
                self._entries = scan(self._folders)
                self._scanned_at = self._clock()
            return self._entries

    def find(self, name: str) -> ModelEntry | None:
        """A model by name or title, in any case; looks again on the disk before it gives up."""
        for fresh in (False, True):
            entries = self.all(fresh=fresh)
            for entry in entries:
                if entry.ref.name == name:
                    return entry
            wanted = name.strip().casefold()
            for entry in entries:
                if wanted in (entry.ref.name.casefold(), entry.title.casefold()):
                    return entry
        return None

    def get(self, name: str) -> ModelEntry:
        """As `find`.

        Raises:
            NotFound: there is none of that name.
        """
        entry = self.find(name)
        if entry is None:
            raise NotFound(f"There is no model “{name[:80]}”.", "Choose another model.")
        return entry

    def first_usable(self) -> ModelEntry | None:
        """The default model."""
        return next((entry for entry in self.all() if entry.problem is None), None)
