"""Notices on a recipe's prompts before they are queued: weights too strong, prompt editing that never acts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from contract.errors import InvalidRecipe
from contract.fields import LABELS
from contract.parts import made_steps
from contract.prompt import Part, Prompt, parse_prompt
from contract.recipe import Recipe
from contract.values import Emphasis

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
        part, _, name = self.field.rpartition(".")
        if part.startswith("regions."):
            return f"{name.replace('_', ' ')} of region {int(part.rpartition('.')[2]) + 1}"
        return LABELS[self.field].lower()


def prompt_notes(recipe: Recipe, *, takes_strength: bool = True) -> tuple[tuple[str, str], ...]:
    """Notices (code, sentence), at most three a prompt.

    Args:
        takes_strength: Whether the model leaves out steps with a start picture; one that edits makes all.
    Raises:
        InvalidRecipe: a weight is beyond every number, or a region's prompt has an AND; names the field.
    """
    made = recipe.steps
    if recipe.init_image is not None and takes_strength:
        made = made_steps(recipe.steps, recipe.init_image.strength)
    notes: list[tuple[str, str]] = []
    texts = {name: getattr(recipe, name) for name in ("prompt", "negative_prompt", "prompt_2", "negative_prompt_2")}
    texts = {name: text for name, text in texts.items() if text is not None}
    readings = [_read_prompt(name, text, recipe.steps, recipe.emphasis) for name, text in texts.items()]
    hires = recipe.hires
    if hires:  # without a prompt of its own it reads on in the first pass's, as `prompt_encoder.py`
        steps = max(1, made_steps(hires.steps or recipe.steps, hires.strength))
        for name, text in texts.items():
            own = getattr(hires, name, None)
            if own is None:
                readings.append(_read_prompt(name, text, steps, recipe.emphasis, recipe.steps))
            else:
                readings.append(_read_prompt(f"hires.{name}", own, steps, recipe.emphasis, recipe.steps))
    for number, region in enumerate(recipe.regions.regions if recipe.regions else ()):
        field = f"regions.regions.{number}.prompt"
        readings.append(_read_prompt(field, region.prompt, recipe.steps, recipe.emphasis))
        if len(readings[-1].prompt.at(0)) > 1:
            raise InvalidRecipe(
                f"Region {number + 1} has several prompts, joined by AND.",
                "Use one prompt for each region, or AND in the picture's own prompt.",
                field=field,
            )
        if region.negative_prompt is not None:
            field = f"regions.regions.{number}.negative_prompt"
            readings.append(_read_prompt(field, region.negative_prompt, recipe.steps, recipe.emphasis))
    for reading in readings:
        notes += _notes_on(reading)
        if recipe.hires is None:
            rest = _why_never_reached(reading.prompt, recipe.steps, max(1, made))
            if rest:
                sentence = f"The {reading.label} changes {rest}: that change never comes."
                notes.append(("prompt_not_reached", sentence))
    return tuple(dict.fromkeys(notes))


def _read_prompt(field: str, text: str, steps: int, emphasis: Emphasis, after: int | None = None) -> _Reading:
    """Parse a prompt. after: How many steps were made before this pass. Raises InvalidRecipe."""
    try:
        composes = field.split(".")[-1] == "prompt"
        prompt = parse_prompt(text, steps, composes=composes, after=after, emphasis=emphasis)
        looked_at: Sequence[int] = range(steps)
        if prompt.is_static:
            looked_at = (0,)
        elif len(text) > _READ_AT_EVERY_STEP:
            looked_at = (0, steps - 1)
        parts: dict[Part, None] = {}
        for step in looked_at:
            parts.update(dict.fromkeys(prompt.at(step)))
        return _Reading(field, text, prompt, tuple(parts))
    except InvalidRecipe as error:
        raise InvalidRecipe(error.message, error.hint, field=field) from None


def _why_never_reached(prompt: Prompt, steps: int, made: int) -> str:
    """Describes a prompt change after the last step of the only pass; "" if there is none. An init image skips steps.

    Args:
        made: How many of the steps are made.
    """
    last = prompt.last_change
    if last < made:
        return ""
    if last >= steps:
        return f"only behind {'its one step' if steps == 1 else f'all its {steps} steps'}, and no hires pass follows"
    return f"behind {last:g} steps, and from the start picture only {made} {'is' if made == 1 else 'are'} made"


def _notes_on(reading: _Reading) -> list[tuple[str, str]]:
    notes: list[tuple[str, str]] = []
    for part in reading.parts:
        pieces = [piece for piece in part.pieces if piece]
        weighted = [("".join(piece.text for piece in pieces), part.weight)]
        weighted += [(piece.text, piece.weight) for piece in pieces]
        strong = [(text.strip()[:40], weight) for text, weight in weighted if abs(weight) > _STRONG]
        if strong:
            text, weight = strong[0]
            sentence = (
                f"The {reading.label} gives “{text}” a weight of {weight:g}; beyond 10 a picture mostly falls apart."
            )
            notes.append(("prompt_weight", sentence))
            break
    if reading.prompt.is_plain and _LOOKS_EDITED.search(reading.text):
        sentence = (
            f"Nothing in the {reading.label} changes with the steps: it has a “|” outside of [a|b], "
            "or a “\\” at the end of a line. Write \\| for the character."
        )
        notes.append(("prompt_not_edited", sentence))
    return notes
