"""Finds the model that a draft names, by name or by the sha256 of a recipe, or explains why it can't be used."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from catalog.detect.entries import KIND_LABELS, a_kind
from catalog.families import FAMILIES, OLDEST, SHARED_VAE, label_of
from catalog.models import ModelEntry
from contract.errors import InvalidRecipe, ModelProblem
from contract.recipe import ModelKind, ModelRef
from studio.library.model_list import ModelList
from studio.library.set_predictions import predicting

KnownHash = Callable[[ModelEntry], str | None]
WithHash = Callable[[str], ModelEntry | None]
LABELS: Mapping[ModelKind, str] = {
    "lora": "LoRA",
    "hypernetwork": "Hypernetwork",
    "embedding": "Embedding",
    "vae": "VAE",
}
_FOLDERS: Mapping[ModelKind, str] = {
    "lora": "loras",
    "hypernetwork": "hypernetworks",
    "embedding": "embeddings",
    "vae": "vae",
}
_PATH = re.compile(r"^[/\\~]|^[A-Za-z]:|\\|(^|/)\.\.?(/|$)|\0")


class _Wording(NamedTuple):
    """The words of a refusal for a kind of model: at its beginning, within it, and the hint."""

    label: str
    noun: str
    hint: str


@dataclass(slots=True)
class Finder:
    """Looks models up for one draft.

    Attributes:
        known_hash: A model's sha256 if it is known without reading weights.
        with_hash: The model of a sha256, whatever its name.
        notices: What is worth knowing about the models, as (code, sentence).
    """

    models: ModelList
    known_hash: KnownHash = lambda entry: None
    with_hash: WithHash = lambda sha256: None
    notices: list[tuple[str, str]] = field(default_factory=list)

    def find(self, wanted: str | ModelRef, kinds: Sequence[ModelKind]) -> ModelEntry | None:
        """A model of one of the kinds. A file of the right name and other contents gets a notice."""
        name = wanted if isinstance(wanted, str) else wanted.name
        sha256 = None if isinstance(wanted, str) else wanted.sha256
        found = None
        for kind in kinds:
            found = found or self.models.find(name, kind)
        if not sha256:
            return found
        if found is None or self.known_hash(found) != sha256:
            same_file = self.with_hash(sha256)
            if same_file and same_file.ref.kind in kinds:
                found = same_file
        if found is None:
            return None
        known = self.known_hash(found)
        if known and known != sha256:
            label = KIND_LABELS[found.ref.kind]
            sentence = (
                f"{label[0].upper()}{label[1:]} “{found.title}” is not the same file as "
                f"the “{name[:60]}” of this recipe; the picture can differ."
            )
            self.notices.append(("other_model", sentence))
        return found

    def ref(self, entry: ModelEntry) -> ModelRef:
        """An entry's ref, with its sha256 where it is known."""
        return entry.ref.model_copy(update={"sha256": self.known_hash(entry)})


def require_model(wanted: str | ModelRef, kinds: Sequence[ModelKind], where: str, finder: Finder) -> ModelEntry:
    """A usable model of one of the kinds, by name, title or the hash of a ref.

    LoRAs, hypernetworks, embeddings and VAEs are found with or without the suffix of their file, never by a path.

    Args:
        where: The field that names it, for a refusal.
    Raises:
        InvalidRecipe: there is none; says what the name is instead, or what is near.
        ModelProblem: it can't be used.
    """
    kind = kinds[0]
    name = wanted if isinstance(wanted, str) else wanted.name
    entry = finder.find(wanted, kinds)
    if entry is None and kind in LABELS:
        if _PATH.search(name):
            raise InvalidRecipe(
                f"“{name[:80]}” is a path, not the name of a {LABELS[kind]}.",
                f"Use a name from the list of {LABELS[kind]}s.",
                field=where,
            )
        entry = finder.models.find(name.removesuffix(".safetensors"), kind)
    if entry is None:
        raise _missing_model(name, kinds, where, finder.models)
    if entry.problem:
        raise ModelProblem(entry.problem, entry.hint, field=where)
    if isinstance(wanted, str) or wanted.prediction == entry.ref.prediction:
        return entry
    if wanted.prediction and not entry.has_prediction_choice:
        raise InvalidRecipe(
            f"{entry.title} does not leave open what it predicts.", "Leave “prediction” out.", field=where
        )
    return predicting(entry, wanted.prediction)


def _missing_model(name: str, kinds: Sequence[ModelKind], where: str, models: ModelList) -> InvalidRecipe:
    kind = kinds[0]
    words: _Wording | None = None
    if kind == "checkpoint":
        words = _Wording("Model", "checkpoint", "Choose one of the models that are there.")
    elif kind in LABELS:
        label = LABELS[kind]
        words = _Wording(label, label, f"Put it into models/{_FOLDERS[kind]}/, or leave it out.")
    if words:
        other = models.other_kind(name, kind)
        if other:
            return InvalidRecipe(f"“{name[:80]}” is {other}, no {words.noun}.", f"Choose {a_kind(kind)}.", field=where)
    here: list[str] = []
    for listed_kind in kinds:
        for listed in models.of_kind(listed_kind):
            if kind in LABELS:
                here.append(listed.ref.name)
            here.append(listed.title)
    near = difflib.get_close_matches(name, dict.fromkeys(here), 2, 0.5)
    hint = "Choose one that is there, or put it into models/."
    if near:
        hint = f"Near: {', '.join(near)}."
    elif words:
        hint = words.hint
    subject = f"{words.label} “{name[:80]}”" if words else f"“{name[:80]}”"
    return InvalidRecipe(f"{subject} is not here.", hint, field=where)


def require_family(entry: ModelEntry, checkpoint: ModelEntry, where: str) -> None:
    """Refuse a model of another family; one whose file doesn't show its family is checked in the engine.

    A VAE fits all families whose latents have as many channels.

    Raises:
        InvalidRecipe: names both.
    """
    family, wanted = entry.ref.family, checkpoint.ref.family
    if entry.ref.kind == "vae" and family == SHARED_VAE:
        family = OLDEST
    if family == wanted or family not in FAMILIES:
        return
    if entry.ref.kind == "vae" and FAMILIES[family].latents.channels == FAMILIES[wanted].latents.channels:
        return
    label, other = label_of(entry.ref.family), LABELS[entry.ref.kind]
    raise InvalidRecipe(
        f"{other} “{entry.title}” is for {label}; {checkpoint.title} is {FAMILIES[wanted].label}.",
        f"Choose {'an' if label.startswith('SD') else 'a'} {label} model or remove it.",
        field=where,
    )
