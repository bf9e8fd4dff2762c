"""What is worth saying of a recipe's prompts before they are queued: weights too strong, editing that never acts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from contract.errors import InvalidRecipe
from contract.parts import made_steps
from contract.prompt import Part, Prompt, parse_prompt
from contract.recipe import Recipe

_STRONG = 10.0
_READ_AT_EVERY_STEP = 5_000  # characters; a longer prompt is read at its first and last step
_LOOKS_EDITED = re.compile(r"\[[^\[\]]{0,400}[:|]")


@dataclass(frozen=True, slots=True)
class _Reading:
    """A prompt as one pass reads it."""

    field: str
    text: str
    prompt: Prompt
    parts: tuple[Part, ...]

    @property
    def label(self) -> str:
        return self.field.replace(".", " ").replace("_", " ")


def prompt_notes(recipe: Recipe, *, takes_strength: bool = True) -> tuple[tuple[str, str], ...]:
    """Notices (code, sentence), at most three a prompt.

    Args:
        takes_strength: Whether the model leaves out steps with a start picture; one that edits makes all.
    Raises:
        InvalidRecipe: a weight is beyond every number; names the field.
    """
    made = (
        recipe.steps
        if recipe.init_image is None or not takes_strength
        else made_steps(recipe.steps, recipe.init_image.strength)
    )
    notes: dict[tuple[str, str], None] = {}
    for reading in _readings(recipe):
        notes.update(dict.fromkeys(_notes_on(reading)))
        if recipe.hires is None and (note := _never_reached(reading.label, reading.prompt, recipe.steps, max(1, made))):
            notes[note] = None
    return tuple(notes)


def _readings(recipe: Recipe) -> Iterator[_Reading]:
    """The prompts as `engine/adapters/prompt_encoder.py` reads them.

    A hires pass without a prompt of its own reads on in the first's.
    """
    yield _read("prompt", recipe.prompt, recipe.steps)
    yield _read("negative_prompt", recipe.negative_prompt, recipe.steps)
    if hires := recipe.hires:
        steps = max(1, made_steps(hires.steps or recipe.steps, hires.strength))
        for name in ("prompt", "negative_prompt"):
            own: str | None = getattr(hires, name)
            text: str = getattr(recipe, name) if own is None else own
            yield _read(name if own is None else f"hires.{name}", text, steps, recipe.steps)


def _read(field: str, text: str, steps: int, after: int | None = None) -> _Reading:
    try:
        prompt = parse_prompt(text, steps, composes="negative" not in field, after=after)
        every = range(steps) if len(text) <= _READ_AT_EVERY_STEP else (0, steps - 1)
        looked_at = (0,) if prompt.is_static else every
        return _Reading(
            field, text, prompt, tuple(dict.fromkeys(part for step in looked_at for part in prompt.at(step)))
        )
    except InvalidRecipe as error:
        raise InvalidRecipe(error.message, error.hint, field=field) from None


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


def _notes_on(reading: _Reading) -> Iterator[tuple[str, str]]:
    strong = next(filter(None, map(_strong, reading.parts)), None)
    if strong is not None:
        yield (
            "prompt_weight",
            (
                f"The {reading.label} gives {strong[0]} a weight of {strong[1]:g}; "
                "beyond 10 a picture mostly falls apart."
            ),
        )
    if reading.prompt.is_plain and _LOOKS_EDITED.search(reading.text):
        yield (
            "prompt_not_edited",
            (
                f"Nothing in the {reading.label} changes with the steps: it has a “|” outside of [a|b], "
                "or a “\\” at the end of a line. Write \\| for the character."
            ),
        )


def _strong(part: Part) -> tuple[str, float] | None:
    """What of a part is weighted too strongly, and how."""
    if abs(part.weight) > _STRONG:
        return f"“{_said(part)}”", part.weight
    return next(
        (
            (f"“{piece.text.strip()[:40]}”", piece.weight)
            for piece in part.pieces
            if piece and abs(piece.weight) > _STRONG
        ),
        None,
    )


def _said(part: Part) -> str:
    return "".join(piece.text for piece in part.pieces if piece).strip()[:40]
