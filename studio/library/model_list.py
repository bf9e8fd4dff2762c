"""The list of models. The folders are scanned in the background, so that no request waits long.

Facts about files are kept in the database (`model_facts.py`), their hashes too (`hashes.py`).
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from catalog.detect.entries import a_kind
from catalog.detect.upscaler_answers import UpscalerAnswers
from catalog.models import ModelEntry, Scanner, default_model
from contract.errors import NotFound
from contract.values import ModelKind
from studio.library.model_facts import ModelFacts
from studio.library.set_predictions import SetPredictions

logger = logging.getLogger(__name__)
RESCAN_S = 5.0
WAIT_S = 3.0  # the longest that a request waits for a scan
_SHARE = 20  # the pause after a scan, in multiples of its duration
_KEEP_AT = 200  # files read before their facts are kept, so that a restart in the middle resumes there
_MOMENT_S = 0.05
_FRESH_S = 1.0  # unknown names may trigger a scan at most this often
ShortHash = Callable[[ModelEntry], str]


class ModelList:
    """The models that `catalog.models.Scanner` finds, kept for a while. Safe from any thread.

    Args:
        short_hash: The short hash of a model, "" while it isn't known.
        kept: Facts about files from earlier runs.
        answers: Facts about upscalers that the engine found.
        predictions: What checkpoints predict by the word of the machine's owner.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        clock: Callable[[], float] = time.monotonic,
        *,
        short_hash: ShortHash = lambda entry: "",
        kept: ModelFacts | None = None,
        answers: UpscalerAnswers | None = None,
        predictions: SetPredictions | None = None,
    ) -> None:
        self._folders = tuple(folders)
        self._clock = clock
        self._short_hash = short_hash
        self._kept = kept
        self._answers = answers or UpscalerAnswers(None)
        self._predictions = predictions
        self._scanner = Scanner(self._folders)
        self._changed = threading.Condition()
        self._found: tuple[ModelEntry, ...] = ()  # as the files say
        self._entries: tuple[ModelEntry, ...] = ()
        self._begun = self._ended = 0  # scans
        self._begun_at = 0.0  # the first; by the real clock
        self._ended_at = 0.0
        self._looked_at = float("-inf")  # for a name that is not known
        self._took_s = 0.0
        self._is_outdated = False  # a listed model was found changed
        self._generation = 0

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of models."""
        return self._folders

    @property
    def generation(self) -> int:
        """A number that grows when the list changes."""
        return self._generation

    def listed(self) -> tuple[ModelEntry, ...]:
        """As `all`, without a look at the disk."""
        return self._entries

    def begin(self) -> None:
        """Start the first scan in the background."""
        with self._changed:
            if not self._begun:
                self._start()

    def all(self, *, fresh: bool = False) -> tuple[ModelEntry, ...]:
        """Models of all kinds, usable or not, by title.

        A call with a list older than five seconds starts a scan in the background. Calls in the first three seconds of
        the first scan wait for it until then; after that they get the models found so far.

        Args:
            fresh: Wait for a scan that begins now, at most three seconds.
        """
        with self._changed:
            wanted = self._begun + 1 if fresh else 1

            def has_ended() -> bool:
                if self._ended < wanted and self._ended == self._begun:
                    self._start()  # the one that ran had begun too early
                return self._ended >= wanted

            pause_s = max(RESCAN_S, _SHARE * self._took_s)
            is_old = self._ended == self._begun and (
                not self._begun or self._is_outdated or self._clock() - self._ended_at > pause_s
            )
            if is_old or (fresh and self._ended == self._begun):
                self._start()
            wait_s = WAIT_S if fresh else self._begun_at + WAIT_S - time.monotonic()
            if self._ended < wanted and wait_s > 0:
                self._changed.wait_for(has_ended, wait_s)
            return self._entries

    def _start(self) -> None:
        self._begun += 1
        self._is_outdated = False
        if self._begun == 1:
            self._begun_at = time.monotonic()
        threading.Thread(target=self._scan, name="model-scan", daemon=True).start()

    def _scan(self) -> None:
        began_at = self._clock()
        is_first = self._ended == 0
        entries = self._found
        try:
            if is_first and self._kept:
                self._scanner.known.update(self._kept.load())
            entries = self._scanner.scan(self._show)
            self._keep()
        finally:
            with self._changed:
                self._put(entries)
                self._ended += 1
                self._ended_at = self._clock()
                self._took_s = self._ended_at - began_at
                self._changed.notify_all()

    def _show(self, entries: tuple[ModelEntry, ...]) -> None:
        """Show the entries found so far; only during the first scan, when none can be gone."""
        with self._changed:
            if self._ended == 0:
                self._put(entries)
        if len(self._scanner.fresh) >= _KEEP_AT:
            self._keep()

    def _keep(self) -> None:
        if self._kept and self._scanner.fresh:
            self._kept.save(self._scanner.fresh)
        self._scanner.fresh.clear()

    def _put(self, entries: tuple[ModelEntry, ...]) -> None:
        self._found = entries
        complete: list[ModelEntry] = []
        for entry in map(self._as_set, entries):
            digits = "" if entry.problem else self._short_hash(entry)
            if digits:
                entry = replace(entry, short_hash=digits)
            complete.append(entry)
        if tuple(complete) != self._entries:
            self._entries = tuple(complete)
            self._generation += 1

    def _as_set(self, entry: ModelEntry) -> ModelEntry:
        entry = self._answers.apply(entry)
        return self._predictions.apply(entry) if self._predictions else entry

    def show_again(self) -> None:
        """List the models as they are set now."""
        with self._changed:
            self._put(self._found)

    def of_kind(self, kind: ModelKind = "checkpoint") -> tuple[ModelEntry, ...]:
        """Those of one kind, by title."""
        return tuple(entry for entry in self.all() if entry.ref.kind == kind)

    def find(self, name: str, kind: ModelKind | None = "checkpoint") -> ModelEntry | None:
        """A model by name, title, alias, or the last part of its name, in any case; the shortest name first.

        As it is now on the disk, whatever the list says. Looks again there before it gives up. kind None: any.
        """
        found = _best_match(self.all(), name, kind)
        if found is not None:
            entry = self.now(found)
            if entry is not None and entry.ref.kind == found.ref.kind:
                return entry
            return _best_match(self.all(fresh=True), name, kind)  # it is gone, or was replaced by something else
        if self._clock() - self._looked_at <= _FRESH_S:
            return None
        self._looked_at = self._clock()
        return _best_match(self.all(fresh=True), name, kind)

    def now(self, entry: ModelEntry) -> ModelEntry | None:
        """A listed model as it is on the disk now; None if it is gone. Opens it only where something has changed."""
        if not _is_there(entry.path):
            return None
        try:
            found = self._as_set(self._scanner.now(entry))
        except OSError:
            return None
        if found.ref == entry.ref:
            found = replace(found, short_hash=entry.short_hash)
        if found != entry:
            with self._changed:
                self._is_outdated = True
        return found

    def catch_up(self) -> None:
        """Wait a moment for a fresh list: a prompt may name a model that was just added."""
        self.all()
        with self._changed:
            self._changed.wait_for(lambda: self._ended == self._begun, _MOMENT_S)

    def get(self, name: str, kind: ModelKind | None = None) -> ModelEntry:
        """As `find`; kind None: any.

        Raises:
            NotFound: there is none of that name.
        """
        entry = self.find(name, kind)
        if entry is None:
            raise NotFound(f"There is no model “{name[:80]}”.", "Choose another model.")
        return entry

    def other_kind(self, name: str, kind: ModelKind) -> str:
        """The kind of a model of this name but another kind, in words ("a VAE"); "" if there is none."""
        others = [entry for entry in self._entries if entry.ref.kind != kind]
        entry = _best_match(others, name, None) if name else None
        return a_kind(entry.ref.kind) if entry else ""

    def as_it_is_now(self, name: str, kind: ModelKind = "checkpoint") -> ModelEntry | None:
        """A model by its exact name, read from the disk again; None if it is gone."""
        entry = self._exactly(name, kind, fresh=False)
        if entry is None or not _is_there(entry.path):
            entry = self._exactly(name, kind, fresh=True)
        return self.now(entry) if entry else None

    def _exactly(self, name: str, kind: ModelKind, *, fresh: bool) -> ModelEntry | None:
        for entry in self.all(fresh=fresh):
            if entry.ref.name == name and entry.ref.kind == kind:
                return entry
        return None

    def first_usable(self) -> ModelEntry | None:
        """The default model, as it is now; one that was found damaged since is passed over."""
        left = self.all()
        while True:
            entry = default_model(left)
            if entry is None:
                return default_model(self.all())  # none is usable: the job says why
            found = self.now(entry)
            if found is not None and found.problem is None:
                return found
            left = tuple(other for other in left if other is not entry)


def _is_there(path: Path) -> bool:
    """Whether a model's file is there; False too if its folder can't be read."""
    return any(os.path.isfile(place) for place in (path, path / "model_index.json", path / "config.json"))


def _best_match(entries: Sequence[ModelEntry], name: str, kind: ModelKind | None) -> ModelEntry | None:
    """The best match: the exact name, then name, title, alias, last part, and that of a name with other folders."""
    wanted = name.strip().casefold()
    is_path = wanted.startswith("/") or ".." in wanted.split("/")  # of somewhere else, whatever its last part
    last = wanted if is_path else wanted.rsplit("/", 1)[-1]
    best: tuple[int, int] | None = None
    found = None
    for entry in entries:
        if kind is not None and entry.ref.kind != kind:
            continue
        own = entry.ref.name.casefold()
        ways = (
            entry.ref.name == name,
            own == wanted,
            entry.title.casefold() == wanted,
            bool(entry.alias) and entry.alias.casefold() == wanted,
            own.rsplit("/", 1)[-1] == wanted,
            last != wanted and own == last,
        )
        if True in ways and (best is None or (ways.index(True), len(own)) < best):
            best, found = (ways.index(True), len(own)), entry
    return found
