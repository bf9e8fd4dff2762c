"""Notices on settings far from what a distilled LoRA was made for. Its name is a hint, so nothing is refused."""

from collections.abc import Iterator

from catalog.distilled import Distilled
from contract.recipe import Recipe
from studio.library.model_list import ModelList

_GUIDANCE_SLACK = 1.0
_STEPS_FACTOR = 3
_LEAST_WEIGHT = 0.3  # of a LoRA that decides how many steps a picture takes


def distilled_notes(recipe: Recipe, models: ModelList) -> tuple[tuple[str, str], ...]:
    """Notices (code, sentence), one for each such LoRA."""
    notes = []
    for use in recipe.loras:
        entry = models.find(use.model.name, "lora")
        wants = entry.distilled if entry else None
        if wants is None or abs(use.weight) < _LEAST_WEIGHT:
            continue
        far = " and ".join(_far(recipe, wants))
        if far:
            sentence = f"LoRA “{use.model.name}” looks made for {wants.method}: {wants.summary}. Far from it: {far}."
            notes.append(("distilled_settings", sentence))
    return tuple(notes)


def _far(recipe: Recipe, wants: Distilled) -> Iterator[str]:
    low, high = wants.guidance
    if recipe.guidance > high + _GUIDANCE_SLACK or recipe.guidance < low - _GUIDANCE_SLACK:
        yield f"guidance {recipe.guidance:g}"
    least, most = wants.steps
    if recipe.steps > most * _STEPS_FACTOR or recipe.steps * _STEPS_FACTOR < least:
        yield f"{recipe.steps} step{'s' * (recipe.steps != 1)}"
