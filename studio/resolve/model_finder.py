"""Finds the model that a draft means: by its name, or, where a recipe carries a file's sha256, by that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from catalog.detect.entries import KIND_LABELS
from catalog.models import ModelEntry
from contract.recipe import ModelKind, ModelRef
from studio.library.model_list import ModelList

KnownHash = Callable[[ModelEntry], str | None]
WithHash = Callable[[str], ModelEntry | None]


@dataclass(slots=True)
class Finder:
    """Looks models up for one draft.

    Attributes:
        known_hash: A model's sha256 if it is known without reading weights.
        with_hash: The model of a sha256, whatever its name.
        notices: What is worth knowing of what was found, as (code, sentence).
    """

    models: ModelList
    known_hash: KnownHash = lambda entry: None
    with_hash: WithHash = lambda sha256: None
    notices: list[tuple[str, str]] = field(default_factory=list)

    def find(self, wanted: str | ModelRef, kinds: Sequence[ModelKind]) -> ModelEntry | None:
        """A model of one of the kinds. A file of the right name and the wrong contents is told by a notice."""
        name, sha256 = (wanted, None) if isinstance(wanted, str) else (wanted.name, wanted.sha256)
        found = next((entry for kind in kinds if (entry := self.models.find(name, kind))), None)
        if not sha256:
            return found
        if found is None or self.known_hash(found) != sha256:
            other = self.with_hash(sha256)
            found = other if other and other.ref.kind in kinds else found
        have = self.known_hash(found) if found else None
        if found and have and have != sha256:
            label = KIND_LABELS[found.ref.kind]
            self.notices.append(
                (
                    "other_model",
                    f"{label[0].upper()}{label[1:]} “{found.title}” is not the same file as "
                    f"the “{name[:60]}” of this recipe; the picture can differ.",
                )
            )
        return found

    def ref(self, entry: ModelEntry) -> ModelRef:
        """An entry's ref, with its sha256 where it is known."""
        return entry.ref.model_copy(update={"sha256": self.known_hash(entry)})
