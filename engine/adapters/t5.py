"""T5's embeds of a job's prompts. By far the largest text encoder: it is leased while it reads, before all others.

It reads each part of a prompt whole, where CLIP reads it in chunks; how both are joined is in `prompt_encoder.py`.
"""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch

from catalog.detect.embedding_names import find_names, prompt_names
from catalog.detect.text_encoders import FoundEncoders, find_encoders
from catalog.families import FAMILIES
from catalog.files.folders import fingerprint, settings_of, stamp_of
from catalog.files.weights import weights_files
from contract.prompt import Part
from contract.recipe import ModelRef, Recipe
from contract.values import Emphasis
from engine.adapters.prompt_chunks import Chunk
from engine.adapters.prompt_encoder import NO_T5, EmbeddingCache, T5Prompts, weigh_prompt_embeds
from engine.checkpoints.t5 import read_t5_tokenizer
from engine.families.family import Encoded
from engine.models.bundle import Bundle
from engine.models.manager import ModelManager

_END, _PADDING = "</s>", "<pad>"


def read_with_t5(
    recipe: Recipe, parts: Sequence[Part], checkpoint: Path, models: ModelManager, cache: EmbeddingCache
) -> Generator[tuple[str, float], None, T5Prompts]:
    """Read all parts of a recipe's prompts, if its checkpoint has T5; what was read before needs none.

    Yields:
        What is being loaded, and which fraction of it is.
    Raises:
        ModelProblem: T5 can't be used.
    """
    declared = FAMILIES[recipe.model.family].t5
    if declared is None:
        return NO_T5
    found = find_encoders(checkpoint, FAMILIES[recipe.model.family])
    if found.t5 is None or found.t5_tokenizer is None:
        return NO_T5
    ref = t5_ref(recipe.model, found)
    identity = (ref.fingerprint, stamp_of(found.t5_tokenizer), recipe.emphasis, recipe.embeddings)
    truncated, embeds = 0, {}
    for part in parts:
        known = cache.get((*identity, part))
        if known is not None:
            embeds[part] = known.prompt_embeds
    unread = [part for part in parts if part not in embeds]
    if unread:
        for fraction in models.prepare(ref, str(found.t5)):
            yield ref.name, fraction
        with models.lease(ref, str(found.t5)) as bundle:
            reader = _T5Reader(bundle, found.t5_tokenizer, recipe, declared.tokens)
            for part in unread:
                encoded = reader.encode(part)
                cache.put((*identity, part), encoded)
                embeds[part] = encoded.prompt_embeds
            truncated = reader.truncated
    notice = f"T5 reads {declared.tokens - 1} tokens of a prompt: of its last {truncated:,}, only CLIP knows."
    return T5Prompts(embeds, (notice,) if truncated else ())


def t5_ref(checkpoint: ModelRef, found: FoundEncoders) -> ModelRef:
    """T5 as a model that is loaded by itself."""
    assert found.t5 is not None
    is_folder = found.t5.is_dir()
    files = weights_files(found.t5) if is_folder else (found.t5,)
    home = found.t5 if is_folder else found.t5.parent
    return ModelRef(
        kind="text_encoder",
        name=f"T5 of {checkpoint.name}"[:300],
        family=checkpoint.family,
        fingerprint=fingerprint(home, files, settings_of(found.t5, "text_encoder")),
    )


class _T5Reader:
    """Reads for one recipe and one lease of T5.

    Attributes:
        truncated: Tokens of the longest part that were not read.
    """

    def __init__(self, bundle: Bundle, tokenizer: Path, recipe: Recipe, tokens: int) -> None:
        module: Any = bundle.onload("text_encoder_3")
        self._module, self._device = module, bundle.device.torch_device
        self._tokenizer = read_t5_tokenizer(tokenizer, module.config.vocab_size)
        self._emphasis: Emphasis = recipe.emphasis
        self._tokens = tokens
        self._embeddings = {name for ref in recipe.embeddings for name in prompt_names(ref.name)}
        self.truncated = 0

    def encode(self, part: Part) -> Encoded:
        """One part: (1, tokens, width), each token's embedding weighted as CLIP's are."""
        chunk = self._chunk_of(part)
        embeds = self._read(chunk.tokens)
        empty = self._read(()) if self._emphasis == "comfyui" and chunk.is_weighted else None
        return Encoded(weigh_prompt_embeds(embeds, chunk, self._emphasis, empty, before=0))

    def _chunk_of(self, part: Part) -> Chunk:
        """The whole part as one chunk. Names of embeddings are left out: they have vectors for CLIP alone."""
        text, weights = "", []
        for piece in part.pieces:
            words, end = piece.text if piece else " ", 0
            kept = ""
            for spot in find_names(words, self._embeddings):
                kept, end = kept + words[end : spot.begin], spot.end
            kept += words[end:]
            text += kept
            weights += [piece.weight if piece else 1.0] * len(kept)
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        self.truncated = max(self.truncated, len(encoding.ids) - (self._tokens - 1))
        ids = encoding.ids[: self._tokens - 1]
        # A word's first token begins with the space before it.
        spans = encoding.offsets[: len(ids)]
        return Chunk(tuple(ids), tuple(weights[min(max(start, end - 1), len(weights) - 1)] for start, end in spans))

    @torch.inference_mode()
    def _read(self, tokens: tuple[object, ...]) -> torch.Tensor:
        padding = [self._tokenizer.token_to_id(_PADDING)] * (self._tokens - 1 - len(tokens))
        ids = torch.tensor([[*tokens, self._tokenizer.token_to_id(_END), *padding]], device=self._device)
        states: torch.Tensor = self._module(input_ids=ids).last_hidden_state
        return states
