"""Foreign text made harmless: what files and folders say of themselves, before it is listed, logged or sent.

Characters that steer a terminal, turn the direction of others or have no encoding (half a surrogate pair, which JSON
can spell) are left out. What texts mean is not known here.
"""

import re

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def without_controls(text: str) -> str:
    """A text less the characters that hide or turn others, or can't be sent; lines and tabs stay."""
    return _CONTROLS.sub("", text)


def printable(text: str, limit: int) -> str:
    """A text of one line, cut to a length, for a sentence or the log."""
    return " ".join(without_controls(text[: limit * 4]).split())[:limit]
