r"""The prompt grammar, as A1111's: from a person's text to weighted pieces, step by step. Knows no tokens, no torch.

(x) [x] (x:1.2)       more, less, so much attention; a bracket that is never closed acts to the end
[from:to:when]        changes at a step (3), a fraction (0.5), a fraction of the hires pass (1.5)
[a|b]                 alternates                          \( \) \[ \] \\   the characters themselves
a AND b :0.8          composes several prompts            BREAK            begins a new chunk
<lora:name:0.8>       removed as a tag                    # to the end of a line is a comment

A recipe's `emphasis` says what brackets and weights do; the above is "original". "no_norm" reads them alike, "ignore"
gives every piece a weight of 1, "none" reads them as characters, BREAK too, and "comfyui" follows ComfyUI: [x] are
characters, and a number replaces the weights around it instead of multiplying them.

Parsed in A1111's order: comments, tags, AND, editing, and attention on the text of one step. Editing works where its
bracket is well-formed, with everything inside; in a text that the grammar doesn't cover (a “|” outside of [a|b], a
“\” before nothing) it is off. Unlike in A1111, a BREAK in brackets breaks, and only AND gives a text a weight.
`engine/adapters/prompt_encoder.py` makes embeddings of it. Every pass is linear and none recurses.
Sources: docs/decisions/0023-a1111-prompts.md and 0044-emphasis.md
"""

import math
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from operator import mul
from typing import NamedTuple

from contract.errors import InvalidRecipe
from contract.values import Emphasis

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
_ROUND = re.compile(r"(?P<escape>\\[()])|(?P<mark>[()])|(?P<text>[^\\()]++|\\)")
_CLOSES = {")": "(", "]": "["}


@dataclass(frozen=True, slots=True)
class Piece:
    """Text with one weight."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """One of the prompts joined by AND. None among the pieces is a BREAK."""

    pieces: tuple[Piece | None, ...] = ()
    weight: float = 1.0

    @property
    def is_empty(self) -> bool:
        """Whether it has no text."""
        return not any(piece and piece.text.strip() for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Tag:
    """<kind:name:argument:…>, removed from the text."""

    kind: str
    name: str
    arguments: tuple[str, ...] = ()


class _Op(NamedTuple):
    kind: str  # text, alternate, switch, jump (its target is the next op)
    text: str = ""
    targets: tuple[int, ...] = ()
    when: float = 0


_Program = tuple[_Op, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A parsed prompt.

    Attributes:
        tags: In the order of the text.
        is_static: Whether the text is the same at every step.
        is_plain: Whether editing is off because of a bar or a backslash that the grammar doesn't cover.
    """

    tags: tuple[Tag, ...]
    is_static: bool
    is_plain: bool
    _parts: tuple[tuple[_Program, float], ...]
    emphasis: Emphasis = "original"
    _pieces_of: dict[str, tuple[Piece | None, ...]] = field(default_factory=dict, compare=False, repr=False)

    def at(self, step: int) -> tuple[Part, ...]:
        """The prompt at a step (0-based, of those that are made): a part for each text that AND joins.

        Raises:
            InvalidRecipe: a weight that only this step reads is beyond every number.
        """
        parts = []
        for program, weight in self._parts:
            text = _text_at(program, step)
            if text not in self._pieces_of:
                self._pieces_of[text] = _pieces(text, self.emphasis)
            parts.append(Part(self._pieces_of[text], weight))
        return tuple(parts)

    @property
    def last_change(self) -> float:
        """The step (0-based) at which [a:b:n] changes for the last time; -1 where there is none."""
        steps = [op.when for program, _ in self._parts for op in program if op.kind == "switch"]
        return max(steps, default=-1)


def parse_prompt(
    text: str, steps: int, *, composes: bool = True, after: int | None = None, emphasis: Emphasis = "original"
) -> Prompt:
    """Parse a prompt.

    Args:
        steps: Of the pass; [a:b:0.5] changes at half of them.
        composes: Whether AND joins prompts; False reads it as a word (negative prompts).
        after: Steps of the first pass, for a hires pass. That one goes on counting: whole numbers after those steps,
            fractions from 1 to 2. None: this is the first pass.
        emphasis: Of the recipe.
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
    parts: list[tuple[_Program, float]] = []
    is_plain = False
    for part in texts:
        weight = 1.0
        if len(texts) > 1:
            found = _PART_WEIGHT.search(part)
            if found:
                weight = _finite(float(found.group(1)), part)
                part = part[: found.start()].rstrip()
        program = _compile(part, steps, after)
        if program is None:
            is_plain = True
            program = (_Op("text", part),)
        parts.append((program, weight))
    is_static = all(op.kind == "text" for program, _ in parts for op in program)
    prompt = Prompt(tuple(tags), is_static, is_plain, tuple(parts), emphasis)
    prompt.at(0)
    return prompt


def without_comments(text: str) -> str:
    """Remove everything after a “#” on its line; tags may have one in a name."""
    if "#" not in text:
        return text
    return "".join(word for kind, word in _scan(text) if kind != "comment")


def take_tags(text: str, kinds: Container[str]) -> tuple[str, tuple[Tag, ...]]:
    """Remove tags of some kinds from a text, and return both.

    A text without such tags is returned unchanged; a removed tag leaves no two spaces. Comments stay in the text,
    with the tags that they hold.
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


# Editing


@dataclass(slots=True)
class _Bracket:
    """An open bracket, by the indices of its tokens."""

    opens: int
    bars: list[int] = field(default_factory=list)
    colons: list[int] = field(default_factory=list)


def _compile(text: str, steps: int, after: int | None) -> _Program | None:
    """One op a token, so that token indices are jump targets; None for a text that the grammar doesn't cover."""
    tokens = [(match.lastgroup, match.group()) for match in _EDITING.finditer(text)]
    ops = [_Op("text", word) for _, word in tokens]
    open_brackets: list[_Bracket] = []
    lost: list[_Bracket] = []
    for index, (kind, word) in enumerate(tokens):
        inner = open_brackets[-1] if open_brackets else None
        if kind == "lone" or (word == "|" and inner is None):
            return None
        if kind == "text":
            continue
        if word in "([":
            open_brackets.append(_Bracket(index))
        elif inner is None:
            continue
        elif word == "|":
            inner.bars.append(index)
        elif word == ":":
            inner.colons.append(index)
        elif tokens[inner.opens][1] == _CLOSES[word] and _close_bracket(ops, inner, index, steps, after):
            open_brackets.pop()
        else:  # then none of the brackets around this one is well-formed
            lost += open_brackets
            open_brackets = []
    if any(bracket.bars for bracket in (*lost, *open_brackets)):
        return None
    return tuple(ops)


def _close_bracket(ops: list[_Op], bracket: _Bracket, closes: int, steps: int, after: int | None) -> bool:
    """Whether a bracket is well-formed; one that edits gets its ops."""
    opens, colons, bars = bracket.opens, bracket.colons, bracket.bars
    if ops[opens].text == "(":
        return not bars and len(colons) <= 1
    if not colons and not bars:
        return True
    leave = _Op("jump", targets=(closes + 1,))
    if not colons:
        ops[opens] = _Op("alternate", targets=tuple(index + 1 for index in (opens, *bars)))
        ops[closes] = leave
        for bar in bars:
            ops[bar] = leave
        return True
    number = None
    if colons[-1] == closes - 2:
        number = _WHEN.fullmatch(ops[closes - 1].text)
    if bars or len(colons) > 2 or number is None:
        return False
    targets = (closes + 1, opens + 1)  # [to:when] is empty at first
    if len(colons) == 2:
        targets = (opens + 1, colons[0] + 1)
    when = float(number.group(1))  # the first step (0-based) with the second text
    if "." in number.group(1):
        when = (when - (0.0 if after is None else 1.0)) * steps
    else:
        when -= after or 0
    if math.isfinite(when):
        when = float(int(when))
    ops[opens] = _Op("switch", targets=targets, when=when)
    for colon in colons:
        ops[colon] = leave
    return True


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
        elif op.kind == "alternate":
            index = op.targets[step % len(op.targets)]
        else:
            index = op.targets[step >= op.when]
    return "".join(texts)


# Attention


@dataclass(slots=True)
class _Weighted:
    """Words [begins, ends) in one bracket; ends None: to the last."""

    begins: int
    weight: float
    ends: int | None = None


def _pieces(text: str, emphasis: Emphasis) -> tuple[Piece | None, ...]:
    """Pieces with their weights, neighbors of equal weight joined."""
    if emphasis == "none":
        return _joined([text], 1.0)
    words, weights = (_words_of_comfyui if emphasis == "comfyui" else _words)(text)
    pieces: list[Piece | None] = []
    run: list[str] = []
    run_weight = 1.0
    for word, weight in zip(words, weights, strict=True):
        weight = 1.0 if emphasis == "ignore" else weight
        if word is not None and (weight == run_weight or not word):
            run.append(word)
            continue
        pieces += _joined(run, run_weight)
        if word is None:
            pieces.append(None)
            run, run_weight = [], 1.0
        else:
            run, run_weight = [word], weight
    pieces += _joined(run, run_weight)
    return tuple(pieces)


def _words(text: str) -> tuple[Sequence[str | None], Sequence[float]]:
    """Words (None: BREAK) and the weight of each. Round and square brackets are independent."""
    words: list[str | None] = []
    spans: dict[str, list[_Weighted]] = {"(": [], "[": []}
    open_spans: dict[str, list[_Weighted]] = {"(": [], "[": []}
    for match in _ATTENTION.finditer(text):
        kind, word = match.lastgroup, match.group()
        opener = "(" if kind == "weight" else _CLOSES.get(word, "")
        if kind == "escape":
            words.append(word[1:])
        elif kind == "mark" and word in "([":
            span = _Weighted(len(words), MORE if word == "(" else LESS)
            open_spans[word].append(span)
            spans[word].append(span)
        elif kind in ("mark", "weight") and open_spans[opener]:
            span = open_spans[opener].pop()
            span.ends = len(words)
            if kind == "weight":
                span.weight = float(match["weight"])
        elif kind == "text":
            words += _at_breaks(word)
        else:
            words.append(word)
    rounds, squares = _products(spans["("], len(words)), _products(spans["["], len(words))
    return words, list(map(mul, rounds, squares))


def _words_of_comfyui(text: str) -> tuple[Sequence[str | None], Sequence[float]]:
    """Words (None: BREAK) and the weight of each, as ComfyUI reads round brackets; square ones are characters.

    A “)” too many makes brackets characters until there is a “(” too many; a “(” that is never closed, all behind it.
    """
    tokens = [(match.lastgroup, match.group()) for match in _ROUND.finditer(text)]
    closed_at: dict[int, int] = {}
    opened: list[int] = []
    stray = 0
    for index, (kind, mark) in enumerate(tokens):
        if kind != "mark":
            continue
        if mark == "(" and stray:
            stray -= 1
        elif mark == "(":
            opened.append(index)
        elif opened:
            closed_at[opened.pop()] = index
        else:
            stray += 1
    plain_from = opened[0] if opened else len(tokens)
    words: list[str | None] = []
    weights: list[float] = []
    around = [1.0]
    cuts: dict[int, str] = {}  # a token's text without its bracket's weight
    ends: set[int] = set()
    for index, (kind, word) in enumerate(tokens):
        if index in ends:
            around.pop()
        elif index in closed_at and index < plain_from:
            end = closed_at[index]
            ends.add(end)
            weight = around[-1] * MORE
            inner, colon, number = tokens[end - 1][1].rpartition(":")
            if colon and (inner or end - 2 > index):
                try:
                    weight = float(number)
                except ValueError:
                    pass
                else:
                    cuts[end - 1] = inner
            around.append(weight)
        else:
            added = [word[1:]] if kind == "escape" else _at_breaks(cuts.get(index, word))
            words += added
            weights += [around[-1]] * len(added)
    return words, weights


def _at_breaks(text: str) -> list[str | None]:
    """A text split at each BREAK, with None for it."""
    first, *others = _BREAK.split(text)
    words: list[str | None] = [first]
    for other in others:
        words += (None, other)
    return words


def _joined(words: Sequence[str], weight: float) -> tuple[Piece, ...]:
    text = "".join(words)
    return (Piece(text, _finite(weight, text)),) if text else ()


def _products(spans: Sequence[_Weighted], count: int) -> Iterator[float]:
    """For each word, the product of the weights of all brackets of one kind around it; they never cross."""
    around = [(count + 1, 1.0)]  # end and product of each span around the word
    next_span = 0
    for index in range(count):
        while around[-1][0] <= index:
            around.pop()
        while next_span < len(spans) and spans[next_span].begins == index:
            span = spans[next_span]
            ends = count if span.ends is None else span.ends
            if ends > index:
                around.append((ends, around[-1][1] * span.weight))
            next_span += 1
        yield around[-1][1]


def _finite(weight: float, text: str) -> float:
    if not math.isfinite(weight):
        raise InvalidRecipe(
            f"The prompt's weight of “{text.strip()[:40]}” is beyond every number.",
            "Use -10 to 10; nested brackets multiply.",
            field="prompt",
        )
    return weight
