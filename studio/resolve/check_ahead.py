"""Refuses before queueing what the engine would refuse later: an empty mask, a missing depth estimator.

The engine checks the same again; nothing here changes a recipe. Prompts are read in `prompt_notes.py`.
"""

from collections.abc import Callable

from catalog.models import ModelEntry
from contract.errors import InvalidInput, InvalidRecipe
from contract.parts import MASKED_FROM
from contract.recipe import Recipe

GrayRange = Callable[[str], tuple[int, int] | None]
_WHITE = 255


def check_ahead(recipe: Recipe, entry: ModelEntry, gray_range: GrayRange) -> None:
    """Refuse what can't be generated.

    Args:
        entry: The recipe's checkpoint.
        gray_range: Darkest and lightest gray, 0 to 255, of an upload; None if it can't be read.

    Raises:
        InvalidRecipe: names the field.
        InvalidInput: the mask is empty.
    """
    start = recipe.init_image
    # Only the header of a single file shows whether it contains an estimator.
    if (
        entry.variant == "depth"
        and start
        and not start.depth
        and entry.path.is_dir()
        and not (entry.path / "depth_estimator").is_dir()
    ):
        raise InvalidRecipe(
            f"{entry.title} needs the depth of the start picture, and its folder has no depth_estimator.",
            "Add a depth picture (white is near).",
            field="init_image.depth",
        )
    if recipe.mask:
        found = gray_range(recipe.mask.image.sha256)
        if found is None:
            raise InvalidInput("The mask can't be read.", "Add it again.", field="mask.image")
        darkest, lightest = found
        if recipe.mask.invert:
            lightest = _WHITE - darkest
        if lightest < (1 if recipe.mask.soft else MASKED_FROM):
            raise InvalidInput(
                "The mask is empty: nothing would be repainted.",
                "Paint over what is to change, or invert the mask.",
                field="mask",
            )
    for number, region in enumerate(recipe.regions.regions if recipe.regions else ()):
        if region.mask is None:
            continue
        field, found = f"regions.regions.{number}.mask", gray_range(region.mask.sha256)
        if found is None:
            raise InvalidInput(f"The mask of region {number + 1} can't be read.", "Add it again.", field=field)
        if found[1] == 0:
            raise InvalidInput(
                f"The mask of region {number + 1} is empty: its prompt would act nowhere.",
                "Paint where it is to act, or remove the region.",
                field=field,
            )
