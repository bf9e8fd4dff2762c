"""What is worth saying of a recipe's prompts before they are queued: weights too strong, editing that never acts."""

import re
from collections.abc import Iterator

from contract.prompt import Part, Prompt, parse
from contract.recipe import Recipe

_STRONG = 10.0
_LOOKED_AT = 20_000  # characters; of a longer prompt only the first step is looked at
_LOOKS_EDITED = re.compile(r"\[[^\[\]]{0,400}[:|]")


def prompt_notes(recipe: Recipe, *, takes_strength: bool = True) -> tuple[tuple[str, str], ...]:
    """Notices (code, sentence), at most three a prompt.

    Args:
        takes_strength: Whether the model leaves out steps with a start picture; one that edits makes all.
    Raises:
        InvalidRecipe: a weight is beyond every number.
    """
    hires = recipe.hires
    hires_steps = (hires.steps or recipe.steps) if hires else None
    asked = [("prompt", recipe.prompt, True, None), ("negative prompt", recipe.negative_prompt, False, None),
             ("hires prompt", (hires and hires.prompt) or "", True, hires_steps),
             ("hires negative prompt", (hires and hires.negative_prompt) or "", False, hires_steps)]
    made = recipe.steps if recipe.start is None or not takes_strength else int(recipe.steps * recipe.start.strength) or 1
    notes: dict[tuple[str, str], None] = {}
    for label, text, composes, second in asked:
        steps = second or recipe.steps
        prompt = parse(text, steps, composes=composes, after=None if second is None else recipe.steps)
        notes.update(dict.fromkeys(_notes_on(label, text, prompt, steps)))
        if hires is None and (note := _never_reached(label, prompt, recipe.steps, made)):
            notes[note] = None
    return tuple(notes)


def _never_reached(label: str, prompt: Prompt, steps: int, made: int) -> tuple[str, str] | None:
    """For a change behind all steps that the only pass makes; a start picture leaves out some."""
    last = prompt.last_change
    if last < made:
        return None
    if last >= steps:
        rest = f"only behind {'its one step' if steps == 1 else f'all its {steps} steps'}, and no hires pass follows"
    else:
        rest = f"behind {last:g} steps, and from the start picture only {made} {'is' if made == 1 else 'are'} made"
    return "prompt_not_reached", f"The {label} changes {rest}: that change never comes."


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
        return f"“{_said(part)}”", part.weight
    return next(((f"“{piece.text.strip()[:40]}”", piece.weight) for piece in part.pieces
                 if piece and abs(piece.weight) > _STRONG), None)


def _said(part: Part) -> str:
    return "".join(piece.text for piece in part.pieces if piece).strip()[:40]
