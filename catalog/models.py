"""Finds models in folders and tells what they are; what did not change since the last look is not read again.

`files/layout.py` and `detect/finding.py` say where things lie, `detect/sniff.py` what a file is. A model that can't be
used is listed with its problem, so that choosing it gives one clear sentence. Reads no weights; loading is in
`engine/models/manager.py`.
"""

import logging
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from catalog.detect.entries import BUNDLED, ModelEntry, default_model, last_part, sendable
from catalog.detect.file_models import FileFacts, describe_file, not_a_model, read_facts
from catalog.detect.finding import Found, Walk, found_at
from catalog.detect.folder_models import describe_folder, optional_parts
from catalog.detect.sniffed import Sniffed
from catalog.files.formats import PICKLES
from contract.values import ModelKind, ModelRef

__all__ = (
    "BUNDLED",
    "Known",
    "ModelEntry",
    "Scanner",
    "bundled_model",
    "default_model",
    "describe",
    "optional_parts",
    "scan",
)
logger = logging.getLogger(__name__)
_TELL_S = 0.5
_BREATH_S, _LONGEST_BREATH_S = 0.001, 0.02  # after a file was opened
_TURNS: Mapping[ModelKind | None, int] = MappingProxyType({"checkpoint": 0, None: 1, "vae": 2})  # of what is opened
Known = MutableMapping[str, tuple[str, FileFacts]]  # path of a file -> its stamp, and what was read from it


def describe(path: Path, name: str, kind: ModelKind | None = None, inside: Sequence[str] = ()) -> ModelEntry:
    """Read what a model says of itself; a damaged one gets a `problem`.

    Args:
        kind: What it is listed as, where neither configuration nor header tells.
        inside: As of `finding.found_at`.
    """
    try:
        found = found_at(path, name, kind, inside)
    except OSError as error:
        ref = ModelRef(kind=kind or "checkpoint", name=name, family="unknown")
        return ModelEntry(
            ref,
            path,
            last_part(name),
            problem=f"{name}: It can't be read ({error.strerror}).",
            hint="Put it back, or choose another model.",
        )
    return guarded(found, lambda: described(found)) or not_a_model(found, Sniffed(None))


def described(found: Found) -> ModelEntry | None:
    """The entry of what was found, read anew; None for a file that is no model, where none is expected."""
    return describe_folder(found) if found.is_folder else describe_file(found, read_facts(found))


def guarded(found: Found, make: Callable[[], ModelEntry | None]) -> ModelEntry | None:
    """The boundary of the catalog: whatever stands in one model's files harms that model's entry alone.

    What can stand there is checked where it is read; what was forgotten there is a fault of ours, and ends here with
    its traceback in the log and an entry that says so.
    """
    try:
        entry = make()
        return None if entry is None else sendable(entry)
    except Exception:
        logger.exception("%s can't be described", found.path)
        problem = f"{found.path.name} holds something that Darkroom can't understand; the log says more."
        return not_a_model(found, Sniffed(None, problem=problem))


def bundled_model(roots: Sequence[Path]) -> ModelEntry | None:
    """The bundled checkpoint, if it is there and can be used; looks nowhere else."""
    entries = (describe(root / BUNDLED, BUNDLED) for root in roots if (root / BUNDLED).is_dir())
    return next((entry for entry in entries if entry.problem is None), None)


def scan(roots: Sequence[Path], known: Known | None = None) -> tuple[ModelEntry, ...]:
    """Every model below the roots, sorted by title; of one kind and name the first counts.

    Args:
        known: What earlier scans read of files, which is not read again; it is added to.
    """
    return Scanner(roots, known).scan()


class Scanner:
    """Looks through folders of models again and again.

    Args:
        roots: As `layout.places_of`.
        known: As `scan`.

    Attributes:
        fresh: What was read that was not known, for whoever keeps it.
    """

    def __init__(self, roots: Sequence[Path], known: Known | None = None) -> None:
        self._roots = tuple(roots)
        self.known: Known = {} if known is None else known
        self.fresh: dict[str, tuple[str, FileFacts]] = {}
        self._made: dict[str, tuple[Found, ModelEntry | None]] = {}
        self._inside: tuple[str, ...] = ()
        self._told: set[str] = set()

    def scan(self, tell: Callable[[tuple[ModelEntry, ...]], None] | None = None) -> tuple[ModelEntry, ...]:
        """As the function `scan`. `tell` hears now and then what was found until then."""
        walk = Walk(self._roots, self._warn)
        self._inside = walk.inside
        found = tuple(walk.found())
        made: dict[str, tuple[Found, ModelEntry | None]] = {}
        told_at = time.monotonic()
        for one in sorted(found, key=self._turn):
            made[str(one.path)] = (one, self._entry(one))
            if tell is not None and time.monotonic() - told_at > _TELL_S:
                tell(_listed(found, made))
                told_at = time.monotonic()
        self._made = made
        return _listed(found, made)

    def now(self, entry: ModelEntry) -> ModelEntry:
        """A listed model as it is on the disk now; the same entry where nothing has changed. Safe beside a scan.

        Raises:
            OSError: it is gone.
        """
        before, listed = self._made.get(str(entry.path), (None, None))
        found = found_at(entry.path, entry.ref.name, entry.ref.kind, self._inside)
        if before is not None:  # of two of one name, the second is listed by its full one
            found = replace(found, name=before.name, full_name=before.full_name)
        is_same = (
            before is not None
            and (before.stamp, before.preview) == (found.stamp, found.preview)
            and listed is not None
            and listed.ref.fingerprint == entry.ref.fingerprint
        )
        if is_same and entry.problem is None and entry.ref.kind != "ip_adapter":
            return entry
        made = guarded(found, lambda: described(found)) or not_a_model(found, Sniffed(None))
        return replace(made, ref=made.ref.model_copy(update={"name": entry.ref.name}))

    def _turn(self, found: Found) -> tuple[bool, int]:
        """What is known comes first, then what a page needs first."""
        return str(found.path) not in self.known and not found.is_folder, _TURNS.get(found.kind, len(_TURNS))

    def _entry(self, found: Found) -> ModelEntry | None:
        path = str(found.path)
        before, entry = self._made.get(path, (None, None))
        # An IP-Adapter's entry depends on the encoder beside it too; what was refused may have been allowed since.
        if before == found and (entry is None or (entry.problem is None and entry.ref.kind != "ip_adapter")):
            return entry
        return guarded(found, lambda: self._described(found))

    def _described(self, found: Found) -> ModelEntry | None:
        if found.is_folder:
            return describe_folder(found)
        path = str(found.path)
        stamp, facts = self.known.get(path, ("", None))
        if facts is None or stamp != found.stamp:
            began = time.thread_time()
            facts = read_facts(found)
            if facts.is_lasting:
                self.known[path] = self.fresh[path] = (found.stamp, facts)
            # Whoever answers a request goes first: half of the interpreter's time is left to others.
            time.sleep(min(_LONGEST_BREATH_S, max(_BREATH_S, time.thread_time() - began)))
        return describe_file(found, facts)

    def _warn(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            logger.info("%s", message)


def _listed(found: Sequence[Found], made: Mapping[str, tuple[Found, ModelEntry | None]]) -> tuple[ModelEntry, ...]:
    """The entries by title: of one kind and name the first, safetensors before pickles; others by their full name."""
    entries: dict[tuple[ModelKind, str], ModelEntry] = {}
    for one in sorted(found, key=lambda one: one.path.suffix.lower() in PICKLES):
        entry = made.get(str(one.path), (one, None))[1]
        if entry is None:
            continue
        first = entries.get((entry.ref.kind, entry.ref.name))
        if first is not None and first.path.with_suffix("") == entry.path.with_suffix(""):
            continue
        if first is not None:
            entry = replace(entry, ref=entry.ref.model_copy(update={"name": one.full_name}))
        entries.setdefault((entry.ref.kind, entry.ref.name), entry)
    return tuple(sorted(entries.values(), key=lambda entry: entry.title.lower()))
