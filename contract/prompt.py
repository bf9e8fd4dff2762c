r"""The prompt grammar: from a person's text to weighted pieces, step by step. Knows no tokens, no torch.

(x) [x] (x:1.2)       more, less, so much attention       \( \) \[ \]     the characters themselves
[from:to:when]        changes at a fraction or a step     [a|b]           takes turns
a AND b :0.8          composed of several                 BREAK           begins a new chunk
<lora:name:0.8>       taken out as a tag                  What does not parse is plain text.
Turned into embeddings in `engine/conditioning.py`. Every pass is linear and none recurses.
"""

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from contract.errors import InvalidRecipe

MORE = 1.1
LESS = 1 / 1.1
WEIGHT_LIMIT = 10.0
_NUMBER = r"[+-]?+(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][+-]?+\d++)?+"
_WEIGHT = rf"(?:{_NUMBER}|[+-]?+(?i:nan|inf(?:inity)?+))"
_TOKEN = re.compile(
    r"(?P<escape>\\[()\[\]\\])"
    r"|(?P<tag><[A-Za-z]\w{0,30}:[^<>\n]{1,400}>)"
    rf"|(?P<weight>:[ \t]{{0,4}}{_WEIGHT}[ \t]{{0,4}}(?=\)))"
    rf"|(?P<when>:[ \t]{{0,4}}{_NUMBER}[ \t]{{0,4}}(?=\]))"
    r"|(?P<and>\bAND\b)|(?P<break>\bBREAK\b)"
    r"|(?P<mark>[()\[\]:|])"
    r"|(?P<text>[^\\<:()\[\]|BA]++|[\s\S])"
)
_PART_WEIGHT = re.compile(rf":[ \t]{{0,4}}({_WEIGHT})\s{{0,8}}\Z")
_CLOSES = {")": "(", "]": "["}


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that is read with one weight."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """One of the prompts joined by AND. None among the pieces is a BREAK."""

    pieces: tuple[Piece | None, ...] = ()
    weight: float = 1.0

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return not any(piece and piece.text.strip() for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Tag:
    """<kind:name:argument:…>, taken out of the text."""

    kind: str
    name: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """A parsed prompt.

    Attributes:
        tags: In the order they were written.
        is_static: Whether every step reads the same text.
    """

    tags: tuple[Tag, ...]
    is_static: bool
    _program: tuple["_Op", ...]

    def at(self, step: int) -> tuple[Part, ...]:
        """What is read at a step (0-based): at least one part.

        Raises:
            InvalidRecipe: the weight of a part that only this step reads is out of range.
        """
        runs = list(self._runs(step))
        if len(runs) == 1:
            return (Part(runs[0]),)
        parts = [_weigh(run) for run in runs]
        return tuple(part for part in parts if not part.is_empty) or (Part(),)

    def _runs(self, step: int) -> Iterator[tuple[Piece | None, ...]]:
        """The pieces of each part, neighbors of equal weight joined."""
        run: list[Piece | None] = []
        texts: list[str] = []
        weight = 1.0
        index = 0
        while index < len(self._program):
            op = self._program[index]
            index += 1
            if op.kind == "text":
                if op.weight != weight and op.text:
                    _flush(run, texts, weight)
                    weight = op.weight
                texts.append(op.text)
            elif op.kind == "jump":
                index = op.targets[0]
            elif op.kind == "turns":
                index = op.targets[step % len(op.targets)]
            elif op.kind == "switch":
                index = op.targets[step >= op.when]
            else:
                _flush(run, texts, weight)
                if op.kind == "break":
                    run.append(None)
                else:
                    yield tuple(run)
                    run = []
        _flush(run, texts, weight)
        yield tuple(run)


class _Op(NamedTuple):
    kind: str  # text, break, and, turns, switch, jump (its target is where to go on)
    text: str = ""
    weight: float = 1.0
    targets: tuple[int, ...] = ()
    when: float = 0


_NOTHING = _Op("text")


@dataclass(slots=True)
class _Bracket:
    """A matched pair, by the indices of its tokens."""

    opens: int
    bars: list[int]
    colons: list[int]
    number: int | None = None  # the token with (x:1.2)'s weight or [a:b:0.5]'s when
    closes: int = -1


_Tokens = list[tuple[str, str]]


def parse(text: str, steps: int, *, composes: bool = True) -> Prompt:
    """Read a prompt.

    Args:
        steps: Of the whole picture; [a:b:0.5] changes at half of them.
        composes: Whether AND joins prompts; False reads it as a word (negative prompts).
    Raises:
        InvalidRecipe: a weight is not a number of -10 to 10. Nothing else is an error.
    """
    tokens = [(match.lastgroup or "text", match.group()) for match in _TOKEN.finditer(text)]
    tags = tuple(_tag(word) for kind, word in tokens if kind == "tag")
    program = _compile(tokens, _match_brackets(tokens), steps, composes)
    is_static = all(op.kind not in ("turns", "switch") for op in program)
    prompt = Prompt(tags, is_static, program)
    prompt.at(0)
    return prompt


def take_tags(text: str, kinds: Container[str]) -> tuple[str, tuple[Tag, ...]]:
    """Text without its tags of some kinds, and those, in the order they were written.

    A text without such tags stays as it is; where one was taken out, no two spaces are left.
    """
    kept: list[str] = []
    taken: list[Tag] = []
    follows_tag = False
    for match in _TOKEN.finditer(text):
        word = match.group()
        tag = _tag(word) if match.lastgroup == "tag" else None
        if tag is not None and tag.kind in kinds:
            taken.append(tag)
            follows_tag = True
            continue
        if follows_tag and kept and word.startswith((" ", ",", ":", ")")):
            kept[-1] = kept[-1].rstrip(" ")
        kept.append(word)
        follows_tag = False
    return ("".join(kept).strip() if taken else text), tuple(taken)


def _tag(word: str) -> Tag:
    kind, name, *arguments = word[1:-1].split(":")
    return Tag(kind.lower(), name.strip(), tuple(argument.strip() for argument in arguments))


def _match_brackets(tokens: _Tokens) -> dict[int, _Bracket]:
    """Matched pairs by the index of their opening token; the rest are plain characters."""
    pairs: dict[int, _Bracket] = {}
    open_ones: list[_Bracket] = []
    for index, (kind, word) in enumerate(tokens):
        inner = open_ones[-1] if open_ones else None
        if kind in ("weight", "when") and inner is not None:
            inner.number = index
        elif kind != "mark":
            continue
        elif word in "([":
            open_ones.append(_Bracket(index, [], []))
        elif inner is None:
            continue
        elif word == "|":
            inner.bars.append(index)
        elif word == ":":
            inner.colons.append(index)
        elif tokens[inner.opens][1] == _CLOSES[word]:
            inner.closes = index
            pairs[inner.opens] = open_ones.pop()
    return pairs


def _compile(tokens: _Tokens, pairs: dict[int, _Bracket], steps: int, composes: bool) -> tuple[_Op, ...]:
    """One op a token, so that token indices are jump targets."""
    ops = [_NOTHING] * len(tokens)
    closing = {pair.closes: pair for pair in pairs.values()}
    special: dict[int, _Op] = {}
    weights = [1.0]
    for index, (kind, word) in enumerate(tokens):
        if index in special:
            ops[index] = special[index]
        elif index in pairs:
            ops[index], own = _open(tokens, pairs[index], steps, special)
            weights.append(weights[-1] * own)
        elif index in closing:
            weights.pop()
        elif kind == "break" or (kind == "and" and composes and len(weights) == 1):
            ops[index] = _Op(kind)
        elif kind != "tag":
            plain = word[1:] if kind == "escape" else word
            weight = weights[-1]
            ops[index] = _Op("text", plain, weight if weight == 1.0 else _checked(weight, plain))
    return tuple(ops)


def _open(tokens: _Tokens, pair: _Bracket, steps: int, special: dict[int, _Op]) -> tuple[_Op, float]:
    """The op of an opening bracket and the weight it gives; its separators go to `special`."""
    leave = _Op("jump", targets=(pair.closes + 1,))
    has_number = pair.number == pair.closes - 1
    if tokens[pair.opens][1] == "(":
        if not has_number:
            return _NOTHING, MORE
        special[pair.closes - 1] = _NOTHING
        return _NOTHING, _checked(float(tokens[pair.closes - 1][1][1:]), "")
    if pair.bars:
        special.update(dict.fromkeys(pair.bars, leave))
        return _Op("turns", targets=tuple(i + 1 for i in (pair.opens, *pair.bars))), 1.0
    if not has_number:
        return _NOTHING, LESS
    special[pair.closes - 1] = leave
    after = pair.opens + 1
    before = pair.closes + 1  # [to:when]: nothing at first
    if pair.colons:
        special[pair.colons[-1]] = leave
        before, after = after, pair.colons[-1] + 1
    when = _step_of(tokens[pair.closes - 1][1][1:].strip(), steps)
    return _Op("switch", targets=(before, after), when=when), 1.0


def _step_of(number: str, steps: int) -> float:
    value = float(number)
    return float(int(value * steps)) if "." in number and 0 <= value <= 1 else value


def _checked(weight: float, text: str) -> float:
    if not -WEIGHT_LIMIT <= weight <= WEIGHT_LIMIT:
        about = f" of “{text.strip()[:40]}”" if text.strip() else ""
        raise InvalidRecipe(f"The prompt's weight{about} is {weight:.6g}.",
                            f"Use -{WEIGHT_LIMIT:g} to {WEIGHT_LIMIT:g}; nested brackets multiply.",
                            field="prompt")
    return weight


def _flush(run: list[Piece | None], texts: list[str], weight: float) -> None:
    text = "".join(texts)
    if text:
        run.append(Piece(text, weight))
    texts.clear()


def _weigh(pieces: tuple[Piece | None, ...]) -> Part:
    """Take a trailing “:0.8” off a part of a composed prompt."""
    last = pieces[-1] if pieces else None
    found = _PART_WEIGHT.search(last.text) if last and last.weight == 1.0 else None
    if last is None or found is None:
        return Part(pieces)
    text = last.text[: found.start()]
    return Part((*pieces[:-1], Piece(text)), _checked(float(found.group(1)), text))
