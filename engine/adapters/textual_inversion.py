"""Textual inversions (embeddings): vectors that stand in a prompt for their name, each in the place of one token.

Where a text names them is `catalog/detect/embedding_names.py`, how they go into chunks is `prompt_encoder.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from catalog.detect.embedding_names import find_names, prompt_names, vector_tensors
from contract.errors import InvalidRecipe
from contract.recipe import ModelRef
from engine.models.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Vector:
    """Stands where a token's number would: row `row` of the textual inversion `key`."""

    key: str
    row: int


@dataclass(frozen=True, slots=True)
class TextualInversions:
    """The textual inversions of a job.

    Attributes:
        keys: What tells a file from others, by the names it has in prompts.
        tables: By key, for each text encoder: (vectors, width), float32.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)

    def split(self, text: str) -> Iterator[str | tuple[Vector, ...]]:
        """Text and, where it names a textual inversion, its vectors, in order."""
        end = 0
        for spot in find_names(text, self.keys):
            yield text[end : spot.begin]
            key = self.keys[spot.name]
            yield tuple(Vector(key, row) for row in range(len(self.tables[key][0])))
            end = spot.end
        yield text[end:]


NO_TEXTUAL_INVERSIONS = TextualInversions()


def textual_inversions_of(files: Mapping[ModelRef, Mapping[str, Tensor]], bundle: Bundle) -> TextualInversions:
    """The textual inversions of a recipe, ready for a checkpoint.

    Args:
        files: The tensors of each, by the names in its file.
    Raises:
        InvalidRecipe: one is for other text encoders.
    """
    widths = [_input_embeddings(bundle.modules[name]).embedding_dim for name in _text_encoders(bundle)]
    keys: dict[str, str] = {}
    tables: dict[str, tuple[Tensor, ...]] = {}
    for ref, tensors in files.items():
        found = [torch.atleast_2d(tensors[name]).float() for name in vector_tensors(tensors)]
        if not found:
            raise InvalidRecipe(
                f"Embedding “{ref.name}” holds no table of vectors that is known.",
                "Use another file.",
                field="embeddings",
            )
        own_widths = [table.shape[-1] for table in found]
        counts = {len(table) for table in found}
        if own_widths != widths or len(counts) != 1:
            theirs, ours = " and ".join(map(str, own_widths)), " and ".join(map(str, widths))
            raise InvalidRecipe(
                f"Embedding “{ref.name}” is {theirs} wide; “{bundle.ref.name}” takes {ours}.",
                "Choose the model it was made for, or remove it from the prompt.",
                field="embeddings",
            )
        key = ref.fingerprint or ref.name
        tables[key] = tuple(found)
        for name in prompt_names(ref.name):
            keys.setdefault(name, key)
    return TextualInversions(keys, tables)


@contextmanager
def with_placeholder_tokens(
    bundle: Bundle, textual_inversions: TextualInversions, tokens: Sequence[tuple[int | Vector, ...]]
) -> Iterator[None]:
    """While it lasts, the text encoders see a chunk's vectors in the places of their placeholder tokens.

    Args:
        tokens: Of the chunk that each of them reads, without the token that begins it.
    """
    with ExitStack() as hooks:
        for number, (name, read) in enumerate(zip(_text_encoders(bundle), tokens, strict=True)):
            vectors = {position: token for position, token in enumerate(read, 1) if isinstance(token, Vector)}
            if not vectors:
                continue
            tables = textual_inversions.tables
            embeds = torch.stack([tables[vector.key][number][vector.row] for vector in vectors.values()])
            positions = list(vectors)

            def substitute(
                module: nn.Module,
                arguments: object,
                output: Tensor,
                embeds: Tensor = embeds,
                positions: list[int] = positions,
            ) -> Tensor:
                changed = output.clone()
                changed[:, positions] = embeds.to(device=output.device, dtype=output.dtype)
                return changed

            hooks.callback(_input_embeddings(bundle.modules[name]).register_forward_hook(substitute).remove)
        yield


def _text_encoders(bundle: Bundle) -> list[str]:
    return sorted(name for name in bundle.modules if name.startswith("text_encoder"))


def _input_embeddings(encoder: nn.Module) -> nn.Embedding:
    return encoder.get_input_embeddings()  # type: ignore[operator,no-any-return]
