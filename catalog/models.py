"""Finds models in folders and describes them; a file that did not change since the last scan is not read again.

`files/layout.py` and `detect/finding.py` know where models are, `detect/sniff.py` what a file is. A model that can't be
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
from catalog.detect.folder_models import describe_folder, optional_components
from catalog.families import FAMILIES
from catalog.families.sniffed import Sniffed
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
    "optional_components",
    "scan",
)
logger = logging.getLogger(__name__)
_REPORT_INTERVAL_S = 0.5
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.02  # after a file was opened
_READ_ORDER: Mapping[ModelKind | None, int] = MappingProxyType({"checkpoint": 0, None: 1, "vae": 2})
Known = MutableMapping[str, tuple[str, FileFacts]]  # path of a file -> its stamp, and the facts read from it
_Made = dict[str, tuple[Found, ModelEntry | None]]  # path -> what was found, and its entry


def describe(path: Path, name: str, kind: ModelKind | None = None, inside: Sequence[str] = ()) -> ModelEntry:
    """Describe one model by its files; a damaged one gets a `problem`.

    Args:
        kind: Its kind, where neither configuration nor header gives one.
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
    return entry_of(found, _read_anew) or not_a_model(found, Sniffed(None))


def entry_of(found: Found, describe_found: Callable[[Found], ModelEntry | None]) -> ModelEntry | None:
    """The boundary of the catalog: whatever one model's files hold harms that model's entry alone.

    The readers check what they read; an exception that they miss is a bug, and ends here with its traceback in the
    log and an entry that says so.

    Returns:
        None for a file that is no model, in a place where none is expected.
    """
    try:
        entry = describe_found(found)
        return None if entry is None else sendable(entry)
    except Exception:
        logger.exception("%s can't be described", found.path)
        problem = f"{found.path.name} holds something that Darkroom can't understand; the log says more."
        return not_a_model(found, Sniffed(None, problem=problem))


def _read_anew(found: Found) -> ModelEntry | None:
    return describe_folder(found) if found.is_folder else describe_file(found, read_facts(found))


def bundled_model(roots: Sequence[Path]) -> ModelEntry | None:
    """The bundled checkpoint, if it is there and can be used; looks nowhere else."""
    for root in roots:
        if (root / BUNDLED).is_dir():
            entry = describe(root / BUNDLED, BUNDLED)
            if entry.problem is None:
                return entry
    return None


def scan(roots: Sequence[Path], known: Known | None = None) -> tuple[ModelEntry, ...]:
    """List every model below the roots, sorted by title; of one kind and name the first counts.

    Args:
        known: The facts that earlier scans read, which are not read again; new ones are added.
    """
    return Scanner(roots, known).scan()


class Scanner:
    """Scans folders of models repeatedly.

    Args:
        roots: As `layout.places_of`.
        known: As `scan`.

    Attributes:
        fresh: The facts that were read and not known yet, for the caller to keep.
    """

    def __init__(self, roots: Sequence[Path], known: Known | None = None) -> None:
        self._roots = tuple(roots)
        self.known: Known = {} if known is None else known
        self.fresh: dict[str, tuple[str, FileFacts]] = {}
        self._made: _Made = {}
        self._inside: tuple[str, ...] = ()
        self._warned: set[str] = set()

    def scan(self, report: Callable[[tuple[ModelEntry, ...]], None] | None = None) -> tuple[ModelEntry, ...]:
        """As the function `scan`. `report` is called now and then with the models found until then."""
        walk = Walk(self._roots, self._warn)
        self._inside = walk.inside
        found = tuple(walk.found())
        made: _Made = {}
        reported_at = time.monotonic()
        for one in sorted(found, key=self._read_order):
            before, entry = self._made.get(str(one.path), (None, None))
            if before != one or (entry is not None and not _is_final(entry)):
                entry = entry_of(one, self._read_if_changed)
            made[str(one.path)] = (one, entry)
            if report is not None and time.monotonic() - reported_at > _REPORT_INTERVAL_S:
                report(_listed(found, made))
                reported_at = time.monotonic()
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
        if is_same and _is_final(entry):
            return entry
        made = entry_of(found, _read_anew) or not_a_model(found, Sniffed(None))
        return replace(made, ref=made.ref.model_copy(update={"name": entry.ref.name}))

    def _read_order(self, found: Found) -> tuple[bool, int]:
        """Known models come first, then the kinds that people need first."""
        return str(found.path) not in self.known and not found.is_folder, _READ_ORDER.get(found.kind, len(_READ_ORDER))

    def _read_if_changed(self, found: Found) -> ModelEntry | None:
        if found.is_folder:
            return describe_folder(found)
        path = str(found.path)
        stamp, facts = self.known.get(path, ("", None))
        if facts is None or stamp != found.stamp:
            began = time.thread_time()
            facts = read_facts(found)
            if facts.is_lasting:
                self.known[path] = self.fresh[path] = (found.stamp, facts)
            # Leaves half of the interpreter's time to threads that answer requests.
            time.sleep(min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, time.thread_time() - began)))
        return describe_file(found, facts)

    def _warn(self, message: str) -> None:
        """Log a warning once, though each scan finds its cause again."""
        if message not in self._warned:
            self._warned.add(message)
            logger.info("%s", message)


def _is_final(entry: ModelEntry) -> bool:
    """Whether the file alone decides an entry: others depend on encoders beside them, and a refusal can end."""
    has_encoders_beside = entry.ref.kind == "ip_adapter"
    if entry.ref.kind == "checkpoint" and entry.ref.family in FAMILIES:
        has_encoders_beside = FAMILIES[entry.ref.family].t5 is not None or not entry.has_encoders
    return entry.problem is None and not has_encoders_beside


def _listed(found: Sequence[Found], made: _Made) -> tuple[ModelEntry, ...]:
    """The entries by title: of one kind and name the first, safetensors before pickles; others by their full name."""
    entries: dict[tuple[ModelKind, str], ModelEntry] = {}
    pickles_last = sorted(found, key=lambda one: one.path.suffix.lower() in PICKLES)
    for one in pickles_last:
        _, entry = made.get(str(one.path), (one, None))
        if entry is None:
            continue
        first = entries.get((entry.ref.kind, entry.ref.name))
        if first is not None and first.path.with_suffix("") == entry.path.with_suffix(""):
            continue
        if first is not None:
            entry = replace(entry, ref=entry.ref.model_copy(update={"name": one.full_name}))
        entries.setdefault((entry.ref.kind, entry.ref.name), entry)
    return tuple(sorted(entries.values(), key=lambda entry: entry.title.lower()))
