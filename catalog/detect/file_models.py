"""Models that are one file: the facts read from the file and its notes, and the entry made of these facts.

Reading and making are apart, so that facts can be kept (`models.py`).
"""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from catalog.detect.entries import KIND_LABELS, ModelEntry, folder_part, last_part
from catalog.detect.finding import Found
from catalog.detect.folder_models import describe_control
from catalog.detect.sniff import sniff
from catalog.detect.text_encoders import find_encoders, identity_of
from catalog.families import FAMILIES, Family
from catalog.families.sniffed import Sniffed
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
_RENAME_HINT = "Rename it to .ckpt; then Darkroom can convert it to safetensors."


@dataclass(frozen=True, slots=True)
class FileFacts:
    """All that is read from a file and its notes; kept, so that a library is opened only once.

    Attributes:
        sniffed: With kind None and a problem for a file that can't be read.
        fingerprint: As `ModelRef.fingerprint`; the file's stamp where it isn't opened.
        is_pickle: It can be converted. By its content: many a safetensors file has the suffix .ckpt.
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
    """Open a file and its notes. Only the beginning is read of a file that is no safetensors."""
    notes = read_notes(found.notes)
    is_lasting = all(os.access(note, os.R_OK) for note in found.notes)
    try:
        form = format_of(found.path, start_of(found.path)) if found.size_bytes else None
        if form is not None:
            # A pickle is converted only under a pickle's suffix: its safetensors will be beside it.
            is_pickle = form.label == PICKLE.label and found.path.suffix.lower() in PICKLES
            return FileFacts(
                _refused_format(found.path.name, form, is_pickle=is_pickle), notes, found.stamp, is_pickle, is_lasting
            )
        header = read_whole_header(found.path)
        own = read_metadata(header.metadata)
        merged = notes.completed_by(own)
        if own.title:
            merged = replace(merged, title=own.title)  # Civitai's is that of all versions
        sniffed = sniff(header.tensors, header.metadata)
        if sniffed == Sniffed(None) and found.kind == "upscaler" and may_be_upscaler(header.tensors):
            sniffed = Sniffed("upscaler", "upscaler")  # a candidate: the engine finds out at its first use
        settings = settings_of(found.path, sniffed.kind) if sniffed.kind else ()
        identity = fingerprint(found.path.parent, (found.path,), settings)
        return FileFacts(sniffed, merged, identity, is_lasting=is_lasting)
    except ModelProblem as problem:
        sniffed = Sniffed(None, problem=problem.message, hint=problem.hint)
        return FileFacts(sniffed, notes, is_lasting=is_lasting and not isinstance(problem, UnreadableModel))
    except OSError as error:
        sniffed = Sniffed(
            None,
            problem=f"{found.path.name} can't be read ({error.strerror}).",
            hint="Put it back, or correct its permissions.",
        )
        return FileFacts(sniffed, notes, is_lasting=False)


def _refused_format(file_name: str, form: Format, *, is_pickle: bool) -> Sniffed:
    if form.label != PICKLE.label:
        return Sniffed(None, problem=f"{file_name} is {form.label}, {form.problem}.", hint=form.hint)
    if is_pickle:
        return Sniffed(None, problem=f"{file_name} can run code when opened.", hint=form.hint)
    return Sniffed(
        None,
        problem=f"{file_name} is a PyTorch pickle, not safetensors: it can run code when opened.",
        hint=_RENAME_HINT,
    )


def describe_file(found: Found, facts: FileFacts) -> ModelEntry | None:
    """The entry of a file; None for one that is no model, in a place where none is expected."""
    sniffed = facts.sniffed
    if sniffed.kind is None:
        return not_a_model(found, sniffed, facts) if sniffed.problem or found.kind else None
    if sniffed.kind == "ip_adapter" and not sniffed.problem:
        return _with_facts(describe_control(found), found, facts)
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
        has_encoders=sniffed.has_encoders,
        control_type=sniffed.control_type,
        problem=f"{title_of(found)}: {sniffed.problem}" if sniffed.problem else None,
        hint=sniffed.hint,
    )
    if sniffed.kind == "checkpoint" and sniffed.family in FAMILIES:
        family = FAMILIES[sniffed.family]
        sizes, defaults = family.usual_for(sniffed.variant, sniffed.prediction, sniffed.detail)
        defaults = family.with_rescale(defaults, sniffed.variant, sniffed.prediction, zero_snr=sniffed.zero_snr)
        if facts.about.resolution:
            width, height = facts.about.resolution
            defaults = replace(defaults, width=width, height=height)
        entry = replace(entry, sizes=sizes, defaults=defaults)
        if (family.t5 is not None or not entry.has_encoders) and not entry.problem:
            entry = _with_encoders(entry, family)
    return _with_facts(entry, found, facts)


def _with_encoders(entry: ModelEntry, family: Family) -> ModelEntry:
    """The entry of a checkpoint whose text encoders may be files of their own."""
    try:
        encoders = find_encoders(entry.path, family)
        ref = entry.ref.model_copy(update={"fingerprint": identity_of(entry.path, family)})
    except (ModelProblem, OSError) as error:
        return replace(entry, problem=f"{entry.title}: {error}", hint="Choose it again.")
    if encoders.missing:
        several = len(family.text_encoders) > 1
        what = "text encoders" if several else "text encoder"
        problem = (
            f"{entry.title}: It has no {what} inside, and {'none that fit are' if several else 'none that fits is'}"
        )
        hint = f"Put {family.encoder_files} into models/text_encoders/."
        if encoders.lenders:
            names = " and ".join(f"“{lender.name}”" for lender in encoders.lenders)
            hint += f" Those of {names} would fit, but which to use is not clear."
        elif not entry.has_encoders:
            hint += f" Or put a whole {family.label} checkpoint beside it, which lends its own."
        return replace(entry, problem=f"{problem} in a folder text_encoders.", hint=hint)
    warnings = [warning for warning in (encoders.warning, encoders.borrowed) if warning]
    return replace(entry, ref=ref, warnings=tuple(warnings), borrows_vae=encoders.lends_vae)


def title_of(found: Found) -> str:
    """A file's name; its folder's, where the file has a name that all such files have."""
    if found.path.stem in _NAMES_OF_ALL and folder_part(found.full_name):
        return last_part(folder_part(found.full_name))
    return last_part(found.name)


def _with_facts(entry: ModelEntry, found: Found, facts: FileFacts) -> ModelEntry:
    about, title = facts.about, title_of(found)
    return replace(
        entry,
        format="pickle" if facts.is_pickle else "file",
        notes=about.notes,
        trigger_words=about.trigger_words,
        about=about,
        alias=about.title if about.title.casefold() != title.casefold() else "",
        detail=facts.sniffed.detail,
        folder=folder_part(found.name),
        modified=found.modified,
        preview_path=found.preview,
    )


def not_a_model(found: Found, sniffed: Sniffed, facts: FileFacts | None = None) -> ModelEntry:
    """The entry of a file in the place of a model that is none, or can't be read."""
    if facts is None:
        facts = FileFacts(sniffed)
    kind = found.kind or "checkpoint"
    file_name = found.path.name
    problem = sniffed.problem
    if not problem and sniffed.detail:
        problem = f"{file_name} is {sniffed.detail}, no {KIND_LABELS[kind]}."
    elif not problem:
        problem = f"{file_name} is no {KIND_LABELS[kind]} that is known."
    ref = ModelRef(kind=kind, name=found.name, family="unknown", fingerprint=facts.fingerprint)
    entry = ModelEntry(
        ref,
        found.path,
        title_of(found),
        size_bytes=found.size_bytes,
        problem=problem,
        hint=sniffed.hint or "Use another file.",
    )
    return _with_facts(entry, found, facts)
