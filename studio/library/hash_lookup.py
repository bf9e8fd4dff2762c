"""Finds models by the hashes that recipes carry, whatever the models are called here."""

from catalog.models import ModelEntry
from studio.library.hashes import ModelHashes
from studio.library.model_list import ModelList
from studio.library.other_hashes import OtherHashes


class HashLookup:
    """Answers from hashes that are already known; only `find_any` may read files."""

    def __init__(self, models: ModelList, hashes: ModelHashes, others: OtherHashes) -> None:
        self._models = models
        self._hashes = hashes
        self._others = others

    def known(self, entry: ModelEntry) -> str | None:
        """A model's sha256, if it is known without reading weights."""
        try:
            return self._hashes.known(entry.path)
        except OSError:
            return None

    def find(self, sha256: str) -> ModelEntry | None:
        """A usable model whose sha256 is this one or begins with it."""
        folders = self._hashes.folders_of(sha256)
        for entry in self._models.all():
            if entry.path not in folders or entry.problem is not None:
                continue
            known = self.known(entry)
            if known and known.startswith(sha256.lower()):
                return entry
        return None

    def find_any(self, beginning: str) -> ModelEntry | None:
        """The same by any hash that programs use: the sha256, A1111's of LoRAs, a trainer's."""
        return self.find(beginning) or self._others.find(beginning, self._models.all())
