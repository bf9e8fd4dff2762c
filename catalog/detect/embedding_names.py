"""Where a text names embeddings (textual inversions): by bare name, in any case, or as ComfyUI's embedding:name.

The studio finds which ones a prompt names, the engine where; what they are worth is in
`engine/adapters/textual_inversion.py`.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

# What trainers call the vectors: A1111 and kohya, A1111's own pickles once converted; and of two text encoders.
_ALONE = ("emb_params", "string_to_param.*")
_PAIRS = (("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1"))
_SUFFIX = r"\.(?:pt|pth|bin|safetensors|sft)"
_ESCAPED = re.compile(r"\\([()\[\]\\])")
_EDGE = r"[\w-]"  # what may not stand beside a name: "ink" is not named by "pink", "inkjet" or "ink-well"


@dataclass(frozen=True, slots=True)
class Spot:
    """Characters [begin, end) of a text name an embedding; `name` is casefolded."""

    begin: int
    end: int
    name: str


def spoken_names(name: str) -> tuple[str, ...]:
    """What an embedding "style/ink" is called in prompts: the whole name and its last part, casefolded."""
    whole = name.casefold()
    return tuple(dict.fromkeys((whole, whole.rsplit("/", 1)[-1])))


def find_names(text: str, names: Iterable[str]) -> Iterator[Spot]:
    """Places where one of the names (casefolded) stands by itself, left to right; of two the longer.

    Thousands of names cost a search of the text each, and only those that are in it a look at their edges.
    """
    folded = text.casefold()
    if len(folded) != len(text):  # rare letters fold to several, and places would shift
        folded = text.lower()
    there = sorted((name for name in names if name and name in folded), key=len, reverse=True)
    if not there or len(folded) != len(text):
        return
    any_name = "|".join(map(re.escape, there))
    # ComfyUI's way may have the file's suffix behind it.
    pattern = re.compile(rf"(?<!{_EDGE})(?:embedding:({any_name})(?:{_SUFFIX})?|({any_name}))(?!{_EDGE})")
    for match in pattern.finditer(folded):
        yield Spot(match.start(), match.end(), match[1] or match[2])


def tables_of(names: Collection[str]) -> tuple[str, ...]:
    """Which of a file's tensors are an embedding's vectors, in the order of the text encoders; none that are known: ().

    A file of one tensor calls it by whatever token it was trained as.
    """
    if alone := next((name for name in _ALONE if name in names), None):
        return (alone,)
    if pair := next((tuple(name for name in pair if name in names) for pair in _PAIRS if set(pair) & set(names)), ()):
        return pair
    return tuple(names) if len(names) == 1 else ()


def names_in(prompt: str, names: Iterable[str]) -> tuple[str, ...]:
    """Which of the names a prompt says, weights and escapes aside, in the order it says them first."""
    return tuple(dict.fromkeys(spot.name for spot in find_names(_ESCAPED.sub(r"\1", prompt), names)))
