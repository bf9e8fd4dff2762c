"""Where a text names embeddings (textual inversions): by bare name, in any case, or as ComfyUI's embedding:name.

The studio asks which ones a prompt names, the engine where they are; their vectors are read in
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


def prompt_names(name: str) -> tuple[str, ...]:
    """The names of an embedding "style/ink" in prompts: the whole name and its last part, casefolded."""
    whole = name.casefold()
    return tuple(dict.fromkeys((whole, whole.rsplit("/", 1)[-1])))


def find_names(text: str, names: Iterable[str]) -> Iterator[Spot]:
    """Places where one of the names (casefolded) stands by itself, left to right; of two the longer.

    Of thousands of names each costs one search of the text; only those found go into the pattern.
    """
    folded = text.casefold()
    if len(folded) != len(text):  # rare letters fold to several, and places would shift
        folded = text.lower()
    present = [name for name in names if name and name in folded]
    present.sort(key=len, reverse=True)
    if not present or len(folded) != len(text):
        return
    any_name = "|".join(map(re.escape, present))
    # ComfyUI's way may have the file's suffix behind it.
    pattern = re.compile(rf"(?<!{_EDGE})(?:embedding:({any_name})(?:{_SUFFIX})?|({any_name}))(?!{_EDGE})")
    for match in pattern.finditer(folded):
        yield Spot(match.start(), match.end(), match[1] or match[2])


def vector_tensors(names: Collection[str]) -> tuple[str, ...]:
    """The names of the tensors that hold an embedding's vectors, in the order of the text encoders; () for none.

    A file of one tensor names it by whatever token it was trained as.
    """
    for name in _ALONE:
        if name in names:
            return (name,)
    for pair in _PAIRS:
        present = tuple(name for name in pair if name in names)
        if present:
            return present
    return tuple(names) if len(names) == 1 else ()


def names_in(prompt: str, names: Iterable[str]) -> tuple[str, ...]:
    """The names that a prompt contains, without weights and escapes, in the order of their first use."""
    unescaped = _ESCAPED.sub(r"\1", prompt)
    return tuple(dict.fromkeys(spot.name for spot in find_names(unescaped, names)))
