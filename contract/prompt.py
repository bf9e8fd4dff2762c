r"""The prompt grammar, as A1111's: from a person's text to weighted pieces, step by step. Knows no tokens, no torch.

(x) [x] (x:1.2)       more, less, so much attention; what is never closed acts to the end
[from:to:when]        changes at a step (3), a fraction (0.5), a fraction of the hires pass (1.5)
[a|b]                 takes turns                         \( \) \[ \] \\   the characters themselves
a AND b :0.8          composed of several                 BREAK            begins a new chunk
<lora:name:0.8>       taken out as a tag                  # to the end of a line is a comment

Read in A1111's order: comments, tags, AND, editing, and attention on the text that a step leaves. Editing acts where
its bracket is well-formed, with all that is inside; in a text that no rule reads (a “|” outside of [a|b], a “\”
before nothing) it acts nowhere. Other than there, a BREAK in brackets breaks, and only AND gives a text a weight.
Turned into embeddings in `engine/adapters/prompt_encoder.py`. Every pass is linear and none recurses.
Source: docs/decisions/0023-a1111-prompts.md
"""

import math
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from contract.errors import InvalidRecipe

MORE = 1.1
LESS = 1 / 1.1
_TAG = r"<\w{1,31}:[^<>\n]{1,400}>"
_TAG_OR_COMMENT = re.compile(rf"(?P<tag>{_TAG})|(?P<comment>#[^\n]*+)|(?P<text>[^<#]++|<)")
_AND = re.compile(r"\bAND\b")
_BREAK = re.compile(r"\bBREAK\b")
_PART_WEIGHT = re.compile(r":\s*([+-]?(?:\d++\.?|\d*\.\d++))\s*\Z")
_EDITING = re.compile(r"(?P<mark>[()\[\]:|])|(?P<text>(?:[^\\()\[\]:|]|\\.)++)|(?P<lone>\\)")
_WHEN = re.compile(r"\s*+([+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)\s*+")
_ATTENTION = re.compile(
    r"(?P<escape>\\[()\[\]\\]?)"
    r"|:\s*+(?P<weight>[+-]?(?:\d++(?:\.\d*+)?|\.\d++))\s*+\)"
    r"|(?P<mark>[()\[\]])"
    r"|(?P<text>[^\\()\[\]:]++|:)"
)
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


class _Op(NamedTuple):
    kind: str  # text, turns, switch, jump (its target is where to go on)
    text: str = ""
    targets: tuple[int, ...] = ()
    when: float = 0


_Program = tuple[_Op, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A parsed prompt.

    Attributes:
        tags: In the order they were written.
        is_static: Whether every step reads the same text.
        is_plain: Whether editing is off because a bar or a backslash stands where no rule reads it.
    """

    tags: tuple[Tag, ...]
    is_static: bool
    is_plain: bool
    _parts: tuple[tuple[_Program, float], ...]
    _read: dict[str, tuple[Piece | None, ...]] = field(default_factory=dict, compare=False, repr=False)

    def at(self, step: int) -> tuple[Part, ...]:
        """What is read at a step (of those that are made, 0-based): a part for each text that AND joins.

        Raises:
            InvalidRecipe: a weight that only this step reads is beyond every number.
        """
        return tuple(Part(self._pieces(_text_at(program, step)), weight) for program, weight in self._parts)

    @property
    def last_change(self) -> float:
        """The step (0-based) at which [a:b:n] changes for the last time; -1 where there is none."""
        return max((op.when for program, _ in self._parts for op in program if op.kind == "switch"), default=-1)

    def _pieces(self, text: str) -> tuple[Piece | None, ...]:
        if text not in self._read:
            self._read[text] = _attend(text)
        return self._read[text]


def parse(text: str, steps: int, *, composes: bool = True, after: int | None = None) -> Prompt:
    """Read a prompt.

    Args:
        steps: Of the pass; [a:b:0.5] changes at half of them.
        composes: Whether AND joins prompts; False reads it as a word (negative prompts).
        after: Steps of the pass before. A hires pass goes on counting: whole numbers behind those steps,
            fractions from 1 to 2. None: this is the first pass.
    Raises:
        InvalidRecipe: a weight is beyond every number. Nothing else is an error.
    """
    tags: list[Tag] = []
    kept: list[str] = []
    for kind, word in _scan(text):
        if kind == "tag":
            tags.append(_tag(word))
        elif kind == "text":
            kept.append(word)
    texts = _AND.split("".join(kept)) if composes else ["".join(kept)]
    weighed = [_weigh(part) for part in texts] if len(texts) > 1 else [(texts[0], 1.0)]
    compiled = [(_compile(part, steps, after), weight) for part, weight in weighed]
    parts = tuple(
        (program or (_Op("text", part),), weight)
        for (part, _), (program, weight) in zip(weighed, compiled, strict=True)
    )
    is_static = all(op.kind == "text" for program, _ in parts for op in program)
    prompt = Prompt(tuple(tags), is_static, any(program is None for program, _ in compiled), parts)
    prompt.at(0)
    return prompt


def without_comments(text: str) -> str:
    """Text without what stands behind a “#” on its line; tags may have one in a name."""
    return "".join(word for kind, word in _scan(text) if kind != "comment") if "#" in text else text


def take_tags(text: str, kinds: Container[str]) -> tuple[str, tuple[Tag, ...]]:
    """Text without its tags of some kinds, and those, in the order they were written.

    A text without such tags stays as it is; where one was taken out, no two spaces are left. Comments stay
    in the text, with the tags that they hold.
    """
    kept: list[str] = []
    taken: list[Tag] = []
    follows_tag = False
    for kind, word in _scan(text):
        tag = _tag(word) if kind == "tag" else None
        if tag is not None and tag.kind in kinds:
            taken.append(tag)
            follows_tag = True
            continue
        if follows_tag and kept and word.startswith((" ", ",", ":", ")")):
            kept[-1] = kept[-1].rstrip(" ")
        kept.append(word)
        follows_tag = False
    return ("".join(kept).strip() if taken else text), tuple(taken)


def _scan(text: str) -> Iterator[tuple[str, str]]:
    """Tags, comments and the text between them."""
    return ((match.lastgroup or "text", match.group()) for match in _TAG_OR_COMMENT.finditer(text))


def _tag(word: str) -> Tag:
    kind, name, *arguments = word[1:-1].split(":")
    return Tag(kind.lower(), name.strip(), tuple(argument.strip() for argument in arguments))


def _weigh(part: str) -> tuple[str, float]:
    """Take a trailing “:0.8” off a part of a composed prompt."""
    found = _PART_WEIGHT.search(part)
    return (part[: found.start()].rstrip(), _finite(float(found.group(1)), part)) if found else (part, 1.0)


# Editing


@dataclass(slots=True)
class _Bracket:
    """One that was opened, by the indices of its tokens."""

    opens: int
    bars: list[int] = field(default_factory=list)
    colons: list[int] = field(default_factory=list)


def _compile(text: str, steps: int, after: int | None) -> _Program | None:
    """One op a token, so that token indices are jump targets; None for a text that no rule reads."""
    tokens = [(match.lastgroup, match.group()) for match in _EDITING.finditer(text)]
    ops = [_Op("text", word) for _, word in tokens]
    open_ones: list[_Bracket] = []
    lost: list[_Bracket] = []
    for index, (kind, word) in enumerate(tokens):
        inner = open_ones[-1] if open_ones else None
        if kind == "lone" or (word == "|" and inner is None):
            return None
        if kind == "text":
            continue
        if word in "([":
            open_ones.append(_Bracket(index))
        elif inner is None:
            continue
        elif word == "|":
            inner.bars.append(index)
        elif word == ":":
            inner.colons.append(index)
        elif tokens[inner.opens][1] == _CLOSES[word] and _close(ops, inner, index, steps, after):
            open_ones.pop()
        else:  # then nothing that holds this bracket is well-formed
            lost += open_ones
            open_ones = []
    return None if any(bracket.bars for bracket in (*lost, *open_ones)) else tuple(ops)


def _close(ops: list[_Op], bracket: _Bracket, closes: int, steps: int, after: int | None) -> bool:
    """Whether a bracket is well-formed; one that edits gets its ops."""
    opens, colons, bars = bracket.opens, bracket.colons, bracket.bars
    if ops[opens].text == "(":
        return not bars and len(colons) <= 1
    if not colons and not bars:
        return True
    leave = _Op("jump", targets=(closes + 1,))
    if not colons:
        ops[opens] = _Op("turns", targets=tuple(place + 1 for place in (opens, *bars)))
        ops[closes] = leave
        for bar in bars:
            ops[bar] = leave
        return True
    number = _WHEN.fullmatch(ops[closes - 1].text) if colons[-1] == closes - 2 else None
    if bars or len(colons) > 2 or number is None:
        return False
    # [to:when] is nothing at first
    targets = (opens + 1, colons[0] + 1) if len(colons) == 2 else (closes + 1, opens + 1)
    ops[opens] = _Op("switch", targets=targets, when=_step_of(number.group(1), steps, after))
    for colon in colons:
        ops[colon] = leave
    return True


def _step_of(number: str, steps: int, after: int | None) -> float:
    """The first step (0-based) of what comes then."""
    value = float(number)
    if "." in number:
        value = (value - (0.0 if after is None else 1.0)) * steps
    else:
        value -= after or 0
    return float(int(value)) if math.isfinite(value) else value


def _text_at(program: _Program, step: int) -> str:
    texts: list[str] = []
    index = 0
    while index < len(program):
        op = program[index]
        index += 1
        if op.kind == "text":
            texts.append(op.text)
        elif op.kind == "jump":
            index = op.targets[0]
        elif op.kind == "turns":
            index = op.targets[step % len(op.targets)]
        else:
            index = op.targets[step >= op.when]
    return "".join(texts)


# Attention


@dataclass(slots=True)
class _Span:
    """Words [begins, ends) that a bracket weighs; ends None: to the last."""

    begins: int
    weight: float
    ends: int | None = None


def _attend(text: str) -> tuple[Piece | None, ...]:
    """Weighted pieces, neighbors of equal weight joined. Round and square brackets don't see each other."""
    words: list[str | None] = []
    spans: dict[str, list[_Span]] = {"(": [], "[": []}
    open_ones: dict[str, list[_Span]] = {"(": [], "[": []}
    for match in _ATTENTION.finditer(text):
        kind, word = match.lastgroup, match.group()
        opener = "(" if kind == "weight" else _CLOSES.get(word, "")
        if kind == "escape":
            words.append(word[1:])
        elif kind == "mark" and word in "([":
            open_ones[word].append(_Span(len(words), MORE if word == "(" else LESS))
            spans[word].append(open_ones[word][-1])
        elif kind in ("mark", "weight") and open_ones[opener]:
            span = open_ones[opener].pop()
            span.ends = len(words)
            span.weight = float(match["weight"]) if kind == "weight" else span.weight
        elif kind == "text":
            first, *others = _BREAK.split(word)
            words.append(first)
            for other in others:
                words += (None, other)
        else:
            words.append(word)
    weights = zip(_products(spans["("], len(words)), _products(spans["["], len(words)), strict=True)
    return _joined(words, [rounds * squares for rounds, squares in weights])


def _products(spans: Sequence[_Span], count: int) -> Iterator[float]:
    """For each word, the product of the weights of the spans of one kind that hold it; they never cross."""
    holding = [(count + 1, 1.0)]
    coming = 0
    for index in range(count):
        while holding[-1][0] <= index:
            holding.pop()
        while coming < len(spans) and spans[coming].begins == index:
            ends = spans[coming].ends
            if ends is None or ends > index:
                holding.append((count if ends is None else ends, holding[-1][1] * spans[coming].weight))
            coming += 1
        yield holding[-1][1]


def _joined(words: Sequence[str | None], weights: Sequence[float]) -> tuple[Piece | None, ...]:
    pieces: list[Piece | None] = []
    run: list[str] = []
    run_weight = 1.0
    for word, weight in (*zip(words, weights, strict=True), (None, 1.0)):
        if word is not None and (weight == run_weight or not word):
            run.append(word)
            continue
        if text := "".join(run):
            pieces.append(Piece(text, _finite(run_weight, text)))
        run, run_weight = ([], 1.0) if word is None else ([word], weight)
        if word is None:
            pieces.append(None)
    return tuple(pieces[:-1])


def _finite(weight: float, text: str) -> float:
    if not math.isfinite(weight):
        raise InvalidRecipe(
            f"The prompt's weight of “{text.strip()[:40]}” is beyond every number.",
            "Use -10 to 10; nested brackets multiply.",
            field="prompt",
        )
    return weight
