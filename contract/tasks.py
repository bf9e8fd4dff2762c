"""What the queue can hold. One queue and one law for every kind of work; Paint is the first.

Preprocess, Upscale, Convert, Merge, Download and Train join `Task` with the parts that run them.
"""

from typing import Literal

from contract.recipe import Frozen, Recipe


class Paint(Frozen):
    """Make the pictures of a recipe."""

    type: Literal["paint"] = "paint"
    recipe: Recipe

    @property
    def picture_count(self) -> int:
        return self.recipe.count


Task = Paint
