"""Notices for words of a prompt that a model with a published vocabulary does not know, with similar known ones."""

import difflib
import re
from collections.abc import Iterable

from catalog.detect.embedding_names import find_names
from catalog.models import ModelEntry
from contract.prompt import without_comments

MAX_WORDS = 3
LEAST_LETTERS = 3  # shorter words are not judged
_MOST_LETTERS = 40
_LEAST_LIKENESS = 0.7
_SCANNED_CHARACTERS = 4000
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
# Tags, and embeddings by their longer name: one that is not here has a sentence of its own.
_TAG = re.compile(r"<[^<>]{0,200}>|\bembedding:[\w./\\-]{1,200}")
STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "behind",
        "below",
        "beside",
        "between",
        "by",
        "for",
        "from",
        "full",
        "has",
        "have",
        "in",
        "into",
        "is",
        "it",
        "its",
        "near",
        "no",
        "not",
        "of",
        "on",
        "onto",
        "or",
        "out",
        "over",
        "the",
        "their",
        "there",
        "this",
        "through",
        "to",
        "under",
        "up",
        "upon",
        "very",
        "view",
        "was",
        "were",
        "with",
        "within",
        "without",
        "photo",
        "picture",
        "image",
        "painting",
        "detailed",
        "quality",
        "best",
        "masterpiece",
        "high",
        "low",
        "beautiful",
    ]
)


def unknown_words(prompt: str, entry: ModelEntry, known: Iterable[str] = ()) -> tuple[tuple[str, str], ...]:
    """Notices (code, sentence) for at most three words that the model has never seen.

    Args:
        known: What embeddings are called, casefolded: these mean something here.
    """
    if not entry.words:
        return ()
    text = _TAG.sub(" ", without_comments(prompt[:_SCANNED_CHARACTERS]))
    for spot in reversed(list(find_names(text, known))):
        text = f"{text[: spot.begin]} {text[spot.end :]}"
    unknown: dict[str, None] = {}
    for match in _WORD.finditer(text.lower()):
        word = match[0]
        if LEAST_LETTERS <= len(word) <= _MOST_LETTERS and word not in STOP_WORDS and not _knows(entry, word):
            unknown.setdefault(word)
    notices: list[tuple[str, str]] = []
    for word in list(unknown)[:MAX_WORDS]:
        near = difflib.get_close_matches(word, entry.words, 2, _LEAST_LIKENESS)
        hint = f" Near: {', '.join(sorted(near))}." if near else ""
        notices.append(("unknown_word", f"{entry.title} does not know “{word}”.{hint}"))
    return tuple(notices)


def _knows(entry: ModelEntry, word: str) -> bool:
    """Whether a model knows a word, as it is, in singular or plural, or in parts with hyphens between."""
    forms = (word, word.removesuffix("s"), word.removesuffix("es"), word + "s", word.removesuffix("'s"))
    if any(form in entry.words for form in forms):
        return True
    return all(part in entry.words for part in word.split("-"))
