"""Models that are one file: what is read from the file and the words beside it, and the entry that is made of it.

Reading and making are apart, so that what was read once can be kept (`models.py`).
"""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from catalog.detect.entries import KIND_LABELS, ModelEntry, folder_part, last_part
from catalog.detect.finding import Found
from catalog.detect.folder_models import describe_control
from catalog.detect.sniff import sniff
from catalog.detect.sniffed import Sniffed
from catalog.families import FAMILIES, usual_for
from catalog.files.folders import fingerprint, settings_of
from catalog.files.formats import PICKLE, PICKLES, Format, format_of, start_of
from catalog.files.headers import UnreadableModel, read_whole_header
from catalog.files.side_files import About, read_metadata, read_notes
from catalog.upscalers import may_be_upscaler
from contract.errors import ModelProblem
from contract.values import ModelRef

_NAMES_OF_ALL = frozenset(
    {"pytorch_lora_weights", "adapter_model", "diffusion_pytorch_model", "model", "learned_embeds"}
)
_RENAME_HINT = "Rename it to .ckpt, then convert it to safetensors: Models, Convert."


@dataclass(frozen=True, slots=True)
class FileFacts:
    """All that is read from a file and the words beside it; kept, so that a library is opened only once.

    Attributes:
        sniffed: With kind None and a problem for a file that can't be read.
        fingerprint: As `ModelRef.fingerprint`; of what isn't opened the stamp of its file.
        is_pickle: It can be converted. Told by what is in it: many a safetensors file is called .ckpt.
        is_lasting: False where the system refused to read something: that says nothing of the file, so it is not kept.
    """

    sniffed: Sniffed
    about: About = About()
    fingerprint: str = ""
    is_pickle: bool = False
    is_lasting: bool = True


def facts_version() -> str:
    """Changes with the code that reads facts from a file; facts of another version are read again."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def read_facts(found: Found) -> FileFacts:
    """Open a file and the words beside it. Of what is no safetensors no more than its beginning is looked at."""
    notes = read_notes(found.notes)
    is_lasting = all(os.access(note, os.R_OK) for note in found.notes)
    try:
        form = format_of(found.path, start_of(found.path)) if found.size_bytes else None
        if form is not None:
            return FileFacts(
                _of_other_form(found, form), notes, found.stamp, _can_be_converted(found, form), is_lasting
            )
        header = read_whole_header(found.path)
        about = read_metadata(header.metadata)
        merged = About(about.title, notes.notes or about.notes, notes.trigger_words or about.trigger_words)
        sniffed = sniff(header.tensors, header.metadata)
        if sniffed == Sniffed(None) and found.kind == "upscaler" and may_be_upscaler(header.tensors):
            sniffed = Sniffed("upscaler", "upscaler")  # a candidate: the engine tells when it is used
        settings = settings_of(found.path, sniffed.kind) if sniffed.kind else ()
        return FileFacts(
            sniffed, merged, fingerprint(found.path.parent, (found.path,), settings), is_lasting=is_lasting
        )
    except ModelProblem as problem:
        return FileFacts(
            Sniffed(None, problem=problem.message, hint=problem.hint),
            notes,
            is_lasting=is_lasting and not isinstance(problem, UnreadableModel),
        )
    except OSError as error:
        return FileFacts(
            Sniffed(
                None,
                problem=f"{found.path.name} can't be read ({error.strerror}).",
                hint="Put it back, or correct its permissions.",
            ),
            notes,
            is_lasting=False,
        )


def _can_be_converted(found: Found, form: Format) -> bool:
    """A pickle that is called one: its safetensors will lie beside it."""
    return form.label == PICKLE.label and found.path.suffix.lower() in PICKLES


def _of_other_form(found: Found, form: Format) -> Sniffed:
    name = found.path.name
    if form.label != PICKLE.label:
        return Sniffed(None, problem=f"{name} is {form.label}, {form.problem}.", hint=form.hint)
    if _can_be_converted(found, form):
        return Sniffed(None, problem=f"{name} can run code when opened.", hint=form.hint)
    return Sniffed(
        None, problem=f"{name} is a PyTorch pickle, not safetensors: it can run code when opened.", hint=_RENAME_HINT
    )


def describe_file(found: Found, facts: FileFacts) -> ModelEntry | None:
    """The entry of a file; None for one that is no model, and lies where none is expected."""
    sniffed = facts.sniffed
    if sniffed.kind is None:
        return not_a_model(found, sniffed, facts) if sniffed.problem or found.kind else None
    if sniffed.kind == "ip_adapter" and not sniffed.problem:
        return _dress(describe_control(found), found, facts)
    ref = ModelRef(kind=sniffed.kind, name=found.name, family=sniffed.family, fingerprint=facts.fingerprint)
    entry = ModelEntry(
        ref,
        found.path,
        title_of(found),
        size_bytes=found.size_bytes,
        variant=sniffed.variant,
        prediction=sniffed.prediction,
        zero_snr=sniffed.zero_snr,
        has_vae=sniffed.has_vae,
        control_type=sniffed.control_type,
        problem=f"{title_of(found)}: {sniffed.problem}" if sniffed.problem else None,
        hint=sniffed.hint,
    )
    if sniffed.kind == "checkpoint" and sniffed.family in FAMILIES:
        sizes, defaults = usual_for(sniffed.family, sniffed.variant, sniffed.prediction)
        entry = replace(entry, sizes=sizes, defaults=defaults)
    return _dress(entry, found, facts)


def title_of(found: Found) -> str:
    """A file's name; where all such files have the same, its folder's."""
    if found.path.stem in _NAMES_OF_ALL and folder_part(found.full_name):
        return last_part(folder_part(found.full_name))
    return last_part(found.name)


def _dress(entry: ModelEntry, found: Found, facts: FileFacts) -> ModelEntry:
    """An entry with what was told about it beside its weights."""
    about, title = facts.about, title_of(found)
    return replace(
        entry,
        format="pickle" if facts.is_pickle else "file",
        notes=about.notes,
        trigger_words=about.trigger_words,
        alias=about.title if about.title.casefold() != title.casefold() else "",
        detail=facts.sniffed.detail,
        folder=folder_part(found.name),
        modified=found.modified,
        preview_path=found.preview,
    )


def not_a_model(found: Found, sniffed: Sniffed, facts: FileFacts | None = None) -> ModelEntry:
    """The entry of a file in the place of a model that is none, or can't be read."""
    kind = found.kind or "checkpoint"
    problem, file_name = sniffed.problem, found.path.name
    if not problem:
        problem = (
            f"{file_name} is {sniffed.detail}, no {KIND_LABELS[kind]}."
            if sniffed.detail
            else f"{file_name} is no {KIND_LABELS[kind]} that is known."
        )
    ref = ModelRef(kind=kind, name=found.name, family="unknown", fingerprint=facts.fingerprint if facts else "")
    entry = ModelEntry(
        ref,
        found.path,
        title_of(found),
        size_bytes=found.size_bytes,
        problem=problem,
        hint=sniffed.hint or "Use another file.",
    )
    return _dress(entry, found, facts or FileFacts(sniffed))
