"""What is worth saying of a recipe's prompts before they are queued: weights too strong, editing that is off."""

import re
from collections.abc import Iterator

from contract.prompt import Part, Prompt, parse
from contract.recipe import Recipe

_STRONG = 10.0
_LOOKED_AT = 20_000  # characters; of a longer prompt only the first step is looked at
_LOOKS_EDITED = re.compile(r"\[[^\[\]]{0,400}[:|]")


def prompt_notes(recipe: Recipe) -> tuple[tuple[str, str], ...]:
    """Notices (code, sentence), at most two a prompt.

    Raises:
        InvalidRecipe: a weight is beyond every number.
    """
    hires = recipe.hires
    hires_steps = (hires.steps or recipe.steps) if hires else None
    asked = [("prompt", recipe.prompt, True, None), ("negative prompt", recipe.negative_prompt, False, None),
             ("hires prompt", (hires and hires.prompt) or "", True, hires_steps),
             ("hires negative prompt", (hires and hires.negative_prompt) or "", False, hires_steps)]
    notes: dict[tuple[str, str], None] = {}
    for label, text, composes, second in asked:
        steps = second or recipe.steps
        prompt = parse(text, steps, composes=composes, after=None if second is None else recipe.steps)
        notes.update(dict.fromkeys(_notes_on(label, text, prompt, steps)))
    return tuple(notes)


def _notes_on(label: str, text: str, prompt: Prompt, steps: int) -> Iterator[tuple[str, str]]:
    looked_at = 1 if prompt.is_static or len(text) > _LOOKED_AT else steps
    parts = dict.fromkeys(part for step in range(looked_at) for part in prompt.at(step))
    strong = next(filter(None, map(_strong, parts)), None)
    if strong is not None:
        yield "prompt_weight", (f"The {label} gives {strong[0]} a weight of {strong[1]:g}; "
                                "beyond 10 a picture mostly falls apart.")
    if prompt.is_plain and _LOOKS_EDITED.search(text):
        yield "prompt_not_edited", (f"Nothing in the {label} changes with the steps: it has a “|” outside of [a|b], or "
                                    "a “\\” at the end of a line. Write \\| for the character.")


def _strong(part: Part) -> tuple[str, float] | None:
    """What of a part is weighted too strongly, and how."""
    if abs(part.weight) > _STRONG:
        return "a part", part.weight
    return next(((f"“{piece.text.strip()[:40]}”", piece.weight) for piece in part.pieces
                 if piece and abs(piece.weight) > _STRONG), None)
