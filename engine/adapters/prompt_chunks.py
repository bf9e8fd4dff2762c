"""Words of a prompt in chunks of as many tokens as a CLIP text encoder reads at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from transformers import CLIPTokenizer

from contract.prompt import Piece
from engine.adapters.textual_inversion import NO_TEXTUAL_INVERSIONS, TextualInversions, Vector

MAX_CHUNKS = 20  # 1,500 tokens; attention to more than that only costs time
_COMMA_REACH = 20  # tokens: a chunk of 75 rather ends at a comma this near than in mid-phrase, as in A1111
_USUAL_CAPACITY = 75


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens (and vectors of textual inversions) without begin, end and padding, and the weight of each."""

    tokens: tuple[int | Vector, ...] = ()
    weights: tuple[float, ...] = ()

    @property
    def is_weighted(self) -> bool:
        """Whether a weight differs from 1."""
        return any(weight != 1.0 for weight in self.weights)


@dataclass(frozen=True, slots=True)
class Chunks:
    """A part of a prompt, ready to encode. truncated_words: those behind the last chunk, which are not read."""

    chunks: tuple[Chunk, ...]
    truncated_words: int = 0


def split_in_chunks(
    pieces: Sequence[Piece | None],
    tokenizer: CLIPTokenizer,
    capacity: int,
    textual_inversions: TextualInversions = NO_TEXTUAL_INVERSIONS,
) -> Chunks:
    """Split words into chunks of at most `capacity` tokens; an embedding's name is a word of as many tokens as vectors.

    A full chunk ends at its last comma if that is near, else between two words; only a word longer than a chunk is
    split. Commas are words of their own, spaces or not; one that finds its chunk full begins the next. An embedding
    that does not fit begins the next and takes no words along, unless the chunk is full. None (BREAK) ends a chunk.
    At most MAX_CHUNKS; the words behind are counted.
    Source: A1111's comma_padding_backtrack, 20 by default; it splits words.
    """
    comma_ids = tokenizer(",", add_special_tokens=False)["input_ids"]
    comma = None
    if len(comma_ids) == 1 and comma_ids[0] != tokenizer.eos_token_id:
        comma = comma_ids[0]
    writer = _ChunkWriter(capacity, comma)
    truncated = 0
    for piece in pieces:
        if piece is None:
            writer.end_chunk()
            continue
        for word in _tokenized_words(piece.text, tokenizer, textual_inversions, comma):
            if len(writer.done) >= MAX_CHUNKS or not writer.add(word, piece.weight):
                truncated += 1
    writer.end_chunk(is_last=True)
    return Chunks(tuple(writer.done[:MAX_CHUNKS]) or (Chunk(),), truncated)


def _tokenized_words(
    text: str, tokenizer: CLIPTokenizer, textual_inversions: TextualInversions, comma: int | None
) -> Iterator[Sequence[int | Vector]]:
    """The tokens of each word and of each comma, and the vectors of each embedding."""
    special = {tokenizer.bos_token_id, tokenizer.eos_token_id}
    for stretch in textual_inversions.split(text):
        if not isinstance(stretch, str):
            yield stretch
            continue
        words = stretch.split()
        if not words:
            continue
        for ids in tokenizer(words, add_special_tokens=False)["input_ids"]:
            for is_comma, run in groupby(ids, lambda token: token == comma):
                tokens = [token for token in run if token not in special]
                if not is_comma:
                    yield tokens
                    continue
                for token in tokens:
                    yield [token]


class _ChunkWriter:
    """Collects tokens into chunks."""

    def __init__(self, capacity: int, comma: int | None) -> None:
        self.done: list[Chunk] = []
        self._comma = comma
        self._capacity = capacity
        self._reach = min(_COMMA_REACH, capacity * _COMMA_REACH // _USUAL_CAPACITY)
        self._tokens: list[int | Vector] = []
        self._weights: list[float] = []

    def add(self, word: Sequence[int | Vector], weight: float) -> bool:
        """Put a word's tokens into the open chunk; False when there are no more chunks."""
        while self._tokens and len(self._tokens) + len(word) > self._capacity:
            # End the chunk, at a near comma if there is one; what is behind that begins the next.
            end = len(self._tokens)
            is_full = end == self._capacity
            if word[0] != self._comma and (is_full or not isinstance(word[0], Vector)):
                for position in range(end - 1, self._capacity - self._reach - 1, -1):
                    if self._tokens[position] == self._comma:
                        end = position + 1
                        break
            rest, rest_weights = self._tokens[end:], self._weights[end:]
            self._tokens, self._weights = self._tokens[:end], self._weights[:end]
            self.end_chunk()
            self._tokens, self._weights = rest, rest_weights
        for token in word:
            if len(self._tokens) == self._capacity:
                self.end_chunk()
            if len(self.done) >= MAX_CHUNKS:
                return False
            self._tokens.append(token)
            self._weights.append(weight)
        return True

    def end_chunk(self, *, is_last: bool = False) -> None:
        """Close the open chunk; an empty last one is dropped unless it is the only one."""
        if self._tokens or not is_last:
            self.done.append(Chunk(tuple(self._tokens), tuple(self._weights)))
        self._tokens, self._weights = [], []
