"""From a prompt's pieces to embeddings: chunks of the encoder's length, attention weights, a cache.

A chunk is begin, up to 75 tokens (fewer for small encoders), end, padding. Long prompts are read in several
chunks and no word is torn; commas separate words as spaces do. The grammar is `contract/prompt.py`; each family
encodes a chunk its own way.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from contract.prompt import Part, Piece, Prompt, parse
from contract.recipe import Recipe
from engine.adapters.textual_inversion import NO_WORDS, Vector, Vocabulary, with_placeholder_tokens
from engine.families.family import Encoded
from engine.models.manager import Bundle
from engine.sampling.denoise import Conditions, ConditionsAt

MAX_CHUNKS = 20  # 1,500 tokens; attention to more than that only costs time
CACHE_BYTES = 64 * 2**20
_COMMA_REACH = 20  # tokens: a chunk of 75 rather ends at a comma this near than in mid-phrase, as in A1111
_USUAL_ROOM = 75
_UNREAD = 0
_MEAN_MATTERS = 0.01  # of the deviation; below it the mean is noise (0.1 in CLIP) and is left alone


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens (and vectors of embeddings) without begin, end and padding, and how strongly each is read."""

    tokens: tuple[int | Vector, ...] = ()
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunks:
    """A part of a prompt, ready to encode. unread_words: behind the last chunk that is read."""

    chunks: tuple[Chunk, ...]
    unread_words: int = 0


@dataclass(slots=True)
class EmbeddingCache:
    """The newest encoded chunks, up to a number of bytes; a repeated prompt calls no encoder."""

    limit_bytes: int = CACHE_BYTES
    _entries: OrderedDict[tuple[object, ...], Encoded] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def get(self, key: tuple[object, ...]) -> Encoded | None:
        """The embeddings, now the newest; None if they must be encoded."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: tuple[object, ...], encoded: Encoded) -> None:
        """Keep; the oldest go when there is no room."""
        self._entries[key] = encoded
        self._bytes += _size(encoded)
        while self._bytes > self.limit_bytes and len(self._entries) > 1:
            self._bytes -= _size(self._entries.popitem(last=False)[1])


def _size(encoded: Encoded) -> int:
    tensors = [encoded.context, *([] if encoded.pooled is None else [encoded.pooled])]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass(frozen=True, slots=True)
class Conditioning:
    """A recipe's prompts, encoded for every step.

    Attributes:
        at: By the number of steps that the pass has made.
        notices: Sentences for the person: what was not read.
    """

    at: ConditionsAt
    notices: tuple[str, ...] = ()


@torch.inference_mode()
def encode_prompts(
    recipe: Recipe,
    bundle: Bundle,
    cache: EmbeddingCache,
    vocabulary: Vocabulary = NO_WORDS,
    *,
    hires_steps: int | None = None,
    after: int | None = None,
) -> Conditioning:
    """Encode the prompts of a recipe, or of its hires pass.

    Args:
        vocabulary: The embeddings they may name.
        hires_steps: Those that a hires pass makes; None: this is the first pass. A first pass that begins from a
            picture makes fewer than the recipe's, yet [a:b:0.5] is half of the recipe's, as in A1111.
        after: Of a hires pass, the steps of the first.
    Raises:
        InvalidRecipe: a weight is beyond every number, or clip skip leaves no layer.
    """
    count = recipe.steps if hires_steps is None else hires_steps
    prompt = parse(recipe.prompt, count, after=after)
    negative = parse(recipe.negative_prompt, count, composes=False, after=after)
    encoder = _Encoder(bundle, cache, recipe, vocabulary)
    steps = range(1 if prompt.is_static and negative.is_static else max(1, count))
    made: dict[object, Conditions] = {}
    by_step: list[Conditions] = []
    for step in steps:
        key = (prompt.at(step), negative.at(step))
        if key not in made:
            made[key] = encoder.conditions(*key)
        by_step.append(made[key])
    last = len(by_step) - 1
    notices = [_unread(name, encoder, text) for name, text in (("prompt", prompt), ("negative prompt", negative))]
    return Conditioning(lambda step: by_step[min(step, last)], tuple(filter(None, notices)))


def is_guided(recipe: Recipe) -> bool:
    """Whether the negative prompt is asked at all: guidance 1 (or less) follows the prompt alone."""
    return recipe.guidance > 1.0


def _unread(name: str, encoder: "_Encoder", prompt: Prompt) -> str:
    unread = max(encoder.split(part).unread_words for part in prompt.at(0))
    if not unread:
        return ""
    return (
        f"The {name} is longer than {MAX_CHUNKS * encoder.room:,} tokens: its last {unread:,} "
        f"word{'' if unread == 1 else 's'} were not read."
    )


class _Encoder:
    """Encodes for one recipe and one lease."""

    def __init__(self, bundle: Bundle, cache: EmbeddingCache, recipe: Recipe, vocabulary: Vocabulary) -> None:
        self._bundle, self._cache, self._recipe, self._vocabulary = bundle, cache, recipe, vocabulary
        self._split: dict[Part, Chunks] = {}
        tokenizer = bundle.tokenizers[0]
        self.room = min(tokenizer.model_max_length, _positions(bundle)) - 2

    def conditions(self, parts: tuple[Part, ...], negative: tuple[Part, ...]) -> Conditions:
        """Row 0 is the negative prompt where guidance asks for one; all rows are equally long."""
        guided = is_guided(self._recipe)
        rows = [*(negative if guided else ()), *parts]
        splits = [self.split(part).chunks for part in rows]
        count = max(len(chunks) for chunks in splits)
        encoded = [self._row(chunks, count) for chunks in splits]
        zeroes = self._bundle.family.zeroes_empty_negative and self._bundle.zeroes_empty_prompt
        if guided and zeroes and negative[0].is_empty:
            encoded[0] = Encoded(encoded[0].context * 0, None if encoded[0].pooled is None else encoded[0].pooled * 0)
        pooled = [row.pooled for row in encoded if row.pooled is not None]
        added = self._bundle.family.added(
            torch.cat(pooled) if pooled else None, self._recipe.width, self._recipe.height
        )
        return Conditions(
            torch.cat([row.context for row in encoded]), tuple(part.weight for part in parts), guided, added
        )

    def split(self, part: Part) -> Chunks:
        """A part in chunks; remembered for this recipe."""
        if part not in self._split:
            self._split[part] = split_in_chunks(part.pieces, self._bundle.tokenizers[0], self.room, self._vocabulary)
        return self._split[part]

    def _row(self, chunks: tuple[Chunk, ...], count: int) -> Encoded:
        padded = (*chunks, *[Chunk()] * (count - len(chunks)))
        encoded = [self._chunk(chunk) for chunk in padded]
        return Encoded(torch.cat([one.context for one in encoded], dim=1), encoded[0].pooled)

    def _chunk(self, chunk: Chunk) -> Encoded:
        bundle = self._bundle
        digests = tuple(digest for part, digest in bundle.digests.items() if part.startswith("text_encoder"))
        key = (chunk, self._recipe.clip_skip, digests, self.room)
        encoded = self._cache.get(key)
        if encoded is None:
            device = bundle.device.torch_device
            ids = tuple(_ids(chunk, tokenizer, self.room).to(device) for tokenizer in bundle.tokenizers)
            with with_placeholder_tokens(bundle, self._vocabulary, chunk.tokens):
                encoded = bundle.family.encode(bundle.onload, ids, self._recipe.clip_skip)
            encoded = Encoded(_weigh_each(encoded, chunk), encoded.pooled)
            self._cache.put(key, encoded)
        return encoded


def _positions(bundle: Bundle) -> int:
    return int(bundle.modules["text_encoder"].config.max_position_embeddings)


def _ids(chunk: Chunk, tokenizer: object, room: int) -> Tensor:
    # The number under a vector is never read; it must only not be the end's, where SDXL's second encoder pools.
    tokens = [_UNREAD if isinstance(token, Vector) else token for token in chunk.tokens]
    ids = [tokenizer.bos_token_id, *tokens, tokenizer.eos_token_id]
    return torch.tensor([ids + [tokenizer.pad_token_id] * (room + 2 - len(ids))])


def _weigh_each(encoded: Encoded, chunk: Chunk) -> Tensor:
    """Each text encoder's embeddings by themselves: their means have nothing to do with each other."""
    contexts = encoded.context.split(encoded.widths, dim=-1) if encoded.widths else (encoded.context,)
    return (
        torch.cat([weigh(context, chunk) for context in contexts], dim=-1)
        if len(contexts) > 1
        else weigh(contexts[0], chunk)
    )


def weigh(context: Tensor, chunk: Chunk) -> Tensor:
    """Scale each token's embedding by its weight, then restore the mean. context: (1, tokens, width).

    The mean carries the prompt's overall strength in CLIP as published; where it is only noise (small encoders)
    restoring it would multiply by chance, so it is left alone. The pooled embedding is never weighted, as in A1111.
    """
    if all(weight == 1.0 for weight in chunk.weights):
        return context
    rest = context.shape[1] - len(chunk.weights) - 1
    weights = torch.tensor([1.0, *chunk.weights, *[1.0] * rest], device=context.device)
    plain = context.float()
    weighted = plain * weights[None, :, None]
    if _mean_matters(plain) and _mean_matters(weighted):
        weighted = weighted * (plain.mean() / weighted.mean())
    return weighted.to(context.dtype)


def _mean_matters(context: Tensor) -> bool:
    return bool(context.mean().abs() > _MEAN_MATTERS * context.std())


def split_in_chunks(
    pieces: Sequence[Piece | None], tokenizer: object, room: int, vocabulary: Vocabulary = NO_WORDS
) -> Chunks:
    """Words to chunks of at most `room` tokens; an embedding's name is a word of as many tokens as it has vectors.

    A chunk that is full ends at its last comma if that is near, else between two words; only a word longer
    than a chunk is torn. Commas are words of their own, spaces or not; one that finds its chunk full begins the
    next. An embedding that does not fit begins the next and takes no words along, unless the chunk is full.
    None (BREAK) ends a chunk. At most MAX_CHUNKS; the words behind are counted.
    Source: A1111's comma_padding_backtrack, 20 by default; it tears words.
    """
    writer = _ChunkWriter(room, _comma(tokenizer))
    unread = 0
    for piece in pieces:
        if piece is None:
            writer.end_chunk()
            continue
        for word in _words(piece.text, tokenizer, vocabulary, writer.comma):
            if len(writer.done) >= MAX_CHUNKS or not writer.add(word, piece.weight):
                unread += 1
    writer.end_chunk(is_last=True)
    return Chunks(tuple(writer.done[:MAX_CHUNKS]) or (Chunk(),), unread)


def _words(text: str, tokenizer: object, vocabulary: Vocabulary, comma: int | None) -> Iterator[Sequence[int | Vector]]:
    """The tokens of each word and of each comma, and the vectors of each embedding."""
    special = {tokenizer.bos_token_id, tokenizer.eos_token_id}
    for stretch in vocabulary.split(text):
        if not isinstance(stretch, str):
            yield stretch
        elif words := stretch.split():
            for ids in tokenizer(words, add_special_tokens=False)["input_ids"]:
                for is_comma, run in groupby(ids, lambda token: token == comma):
                    tokens = [token for token in run if token not in special]
                    yield from ([token] for token in tokens) if is_comma else (tokens,)


def _comma(tokenizer: object) -> int | None:
    ids = tokenizer(",", add_special_tokens=False)["input_ids"]
    return ids[0] if len(ids) == 1 and ids[0] != tokenizer.eos_token_id else None


class _ChunkWriter:
    """Collects tokens into chunks."""

    def __init__(self, room: int, comma: int | None) -> None:
        self.done: list[Chunk] = []
        self.comma = comma
        self._room = room
        self._reach = min(_COMMA_REACH, room * _COMMA_REACH // _USUAL_ROOM)
        self._open: list[tuple[int | Vector, float]] = []

    def add(self, word: Sequence[int | Vector], weight: float) -> bool:
        """Put a word's tokens into the open chunk; False when there are no more chunks."""
        while self._open and len(self._open) + len(word) > self._room:
            self._turn(word)
        for token in word:
            if len(self._open) == self._room:
                self.end_chunk()
            if len(self.done) >= MAX_CHUNKS:
                return False
            self._open.append((token, weight))
        return True

    def end_chunk(self, *, is_last: bool = False) -> None:
        """Close the open chunk; an empty last one is dropped unless it is the only one."""
        if self._open or not is_last:
            self.done.append(Chunk(tuple(token for token, _ in self._open), tuple(weight for _, weight in self._open)))
        self._open = []

    def _turn(self, word: Sequence[int | Vector]) -> None:
        """End a chunk that has no room for a word, at a near comma if there is one."""
        takes_along = word[0] != self.comma and (len(self._open) == self._room or not isinstance(word[0], Vector))
        near = (
            [i for i, (token, _) in enumerate(self._open) if token == self.comma and self._room - i <= self._reach]
            if takes_along
            else []
        )
        rest = self._open[near[-1] + 1 :] if near else []
        self._open = self._open[: len(self._open) - len(rest)]
        self.end_chunk()
        self._open = rest
