"""Embeddings (textual inversions): vectors that stand in a prompt for their name, each in the place of one token.

Where a text names them is `catalog/detect/embedding_names.py`, how they go into chunks `prompt_encoder.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from catalog.detect.embedding_names import find_names, prompt_names, vector_tensors
from contract.errors import InvalidRecipe
from contract.recipe import ModelRef
from engine.models.manager import Bundle


@dataclass(frozen=True, slots=True)
class Vector:
    """Stands where a token's number would: row `row` of the embedding `key`."""

    key: str
    row: int


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The embeddings of a job.

    Attributes:
        keys: What tells an embedding's file from others, by the names it has in prompts.
        tables: By key, for each text encoder: (vectors, width), float32.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)

    def split(self, text: str) -> Iterator[str | tuple[Vector, ...]]:
        """Text and, where it names an embedding, its vectors, in order."""
        end = 0
        for spot in find_names(text, self.keys):
            yield text[end : spot.begin]
            key = self.keys[spot.name]
            yield tuple(Vector(key, row) for row in range(len(self.tables[key][0])))
            end = spot.end
        yield text[end:]


NO_WORDS = Vocabulary()


def vocabulary_of(files: Mapping[ModelRef, Mapping[str, Tensor]], bundle: Bundle) -> Vocabulary:
    """The embeddings of a recipe, ready for a checkpoint.

    Args:
        files: The tensors of each, by the names its file gives them.
    Raises:
        InvalidRecipe: one is for other text encoders.
    """
    keys: dict[str, str] = {}
    tables = {}
    for ref, tensors in files.items():
        key = ref.fingerprint or ref.name
        tables[key] = _tables(ref, tensors, bundle)
        for name in prompt_names(ref.name):
            keys.setdefault(name, key)
    return Vocabulary(keys, tables)


def _tables(ref: ModelRef, tensors: Mapping[str, Tensor], bundle: Bundle) -> tuple[Tensor, ...]:
    widths = tuple(_embedding(bundle.modules[name]).embedding_dim for name in _encoders(bundle))
    found = [tensors[name] for name in vector_tensors(tensors)]
    if not found:
        raise InvalidRecipe(
            f"Embedding “{ref.name}” holds no table of vectors that is known.", "Use another file.", field="embeddings"
        )
    made = tuple(torch.atleast_2d(table).float() for table in found)
    if tuple(table.shape[-1] for table in made) != widths or len({len(table) for table in made}) != 1:
        theirs, ours = (" and ".join(map(str, each)) for each in ([table.shape[-1] for table in made], widths))
        raise InvalidRecipe(
            f"Embedding “{ref.name}” is {theirs} wide; “{bundle.ref.name}” takes {ours}.",
            "Choose the model it was made for, or remove it from the prompt.",
            field="embeddings",
        )
    return made


@contextmanager
def with_placeholder_tokens(bundle: Bundle, vocabulary: Vocabulary, tokens: tuple[int | Vector, ...]) -> Iterator[None]:
    """While it lasts, the text encoders see a chunk's vectors in the places of their tokens (behind the first)."""
    places = [(place, token) for place, token in enumerate(tokens, 1) if isinstance(token, Vector)]
    with ExitStack() as hooks:
        for number, name in enumerate(_encoders(bundle) if places else ()):
            rows = torch.stack([vocabulary.tables[token.key][number][token.row] for _, token in places])
            hook = _substitution([place for place, _ in places], rows)
            handle = _embedding(bundle.modules[name]).register_forward_hook(hook)
            hooks.callback(handle.remove)
        yield


def _substitution(places: list[int], rows: Tensor) -> Callable[[nn.Module, object, Tensor], Tensor]:
    def substitute(module: nn.Module, arguments: object, embedded: Tensor) -> Tensor:
        changed = embedded.clone()
        changed[:, places] = rows.to(device=embedded.device, dtype=embedded.dtype)
        return changed

    return substitute


def _encoders(bundle: Bundle) -> list[str]:
    return sorted(name for name in bundle.modules if name.startswith("text_encoder"))


def _embedding(encoder: nn.Module) -> nn.Embedding:
    return encoder.get_input_embeddings()  # type: ignore[operator,no-any-return]
