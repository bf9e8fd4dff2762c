"""Draws dynamic prompts: {a|b}, {2$$a|b|c}, {0.5::a|b}, __wildcard__, nested. The grammar is dynamicprompts' (MIT).

The library is loaded when a template is first drawn. It gets choices from `wildcards.py` alone and sees no folder.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any

from contract.errors import InvalidRecipe
from studio.prompts.wildcards import Wildcards

if TYPE_CHECKING:
    from dynamicprompts.sampling_context import SamplingContext

MOST_COMBINATIONS = 1_000
_MOST_CHARACTERS = 20_000
_MOST_DRAWN = 200_000  # characters
_MOST_BRACES = 20  # one within the other
_DYNAMIC = re.compile(r"\{|__[^\s{}|,]+?__")
_WEIGHTED = re.compile(r"(\d+(?:\.\d+)?)::(.+)", re.DOTALL)


def is_dynamic(text: str) -> bool:
    """Whether there is something to draw."""
    return _DYNAMIC.search(text) is not None


def draw(texts: Sequence[str], wildcards: Wildcards, seed: int, fields: Sequence[str]) -> list[str]:
    """One drawing of each template, by one seed: the same templates, wildcards and seed give the same texts.

    Args:
        fields: What each is called in a refusal.
    Raises:
        InvalidRecipe: a template can't be read or never ends; names its field.
        UnreadableText: a wildcard can't be used; names it.
    """
    random = Random(seed)
    drawn = []
    for text, field in zip(texts, fields, strict=True):
        found = list(_texts(text, wildcards, random, "RANDOM", field, most=1)) if is_dynamic(text) else [text]
        drawn.append(found[0] if found else "")
    return drawn


def combinations(text: str, wildcards: Wildcards, field: str) -> list[str]:
    """Every text that a template means, one more than MOST_COMBINATIONS at most. Raises as `draw`."""
    if not is_dynamic(text):
        return [text]
    return list(dict.fromkeys(_texts(text, wildcards, Random(0), "COMBINATORIAL", field, most=MOST_COMBINATIONS + 1)))


def _texts(text: str, wildcards: Wildcards, random: Random, method: str, field: str, most: int) -> Iterator[str]:
    from pyparsing import ParseException  # heavy, and few prompts are templates

    if len(text) > _MOST_CHARACTERS or _depth(text) > _MOST_BRACES:
        raise InvalidRecipe(
            "The template is too long or nests too deeply.",
            f"Use at most {_MOST_CHARACTERS:,} characters, and {_MOST_BRACES} braces one within the other.",
            field=field,
        )
    try:
        for result in islice(_context(wildcards, random, method, field).sample_prompts(text), most):
            if len(str(result)) > _MOST_DRAWN:
                raise InvalidRecipe(
                    f"The template draws more than {_MOST_DRAWN:,} characters.", "Make it shorter.", field=field
                )
            yield str(result)
    except ParseException as error:
        near = text[error.loc : error.loc + 20]
        raise InvalidRecipe(
            f"The template can't be read at “{near}”.",
            "Close every { with }; write \\$ and \\% as words.",
            field=field,
        ) from None
    except RecursionError:
        raise InvalidRecipe(
            "The template never ends: a wildcard names itself.", "Take it out of its own lines.", field=field
        ) from None
    except (ValueError, NotImplementedError, RuntimeError) as error:
        raise InvalidRecipe(f"The template can't be drawn: {error}.", "Look at its braces.", field=field) from None


def _depth(text: str) -> int:
    deepest = depth = 0
    for mark in re.findall(r"[{}]", text):
        depth = depth + 1 if mark == "{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def _context(wildcards: Wildcards, random: Random, method: str, field: str) -> "SamplingContext":
    from dynamicprompts.enums import SamplingMethod
    from dynamicprompts.sampling_context import SamplingContext
    from dynamicprompts.wildcards.item import WildcardItem
    from dynamicprompts.wildcards.values import WildcardValues
    from dynamicprompts.wildcards.wildcard_manager import WildcardManager

    class OurWildcards(WildcardManager):
        """Choices come from our folder; a wildcard that is not there is refused."""

        def __init__(self) -> None:
            super().__init__()
            self._known: dict[str, Any] = {}

        def get_values(self, wildcard: str) -> Any:
            """The choices of a wildcard, with their weights."""
            if wildcard not in self._known:
                lines = wildcards.choices_of(wildcard)
                if not lines:
                    raise InvalidRecipe(
                        f"There is no wildcard “{wildcard[:80]}”, or it is empty.",
                        "Look at the list of wildcards, or write one.",
                        field=field,
                    )
                items = []
                for line in lines:
                    weighted = _WEIGHTED.fullmatch(line)
                    items.append(WildcardItem(weighted[2], float(weighted[1])) if weighted else WildcardItem(line))
                self._known[wildcard] = WildcardValues.from_items(items)
            return self._known[wildcard]

    return SamplingContext(default_sampling_method=SamplingMethod[method], wildcard_manager=OurWildcards(), rand=random)
