"""Regional prompts: prompts that act in a part of the picture each, and the part that the recipe's own prompt keeps.

Places are fractions of the picture, so that they hold at any size and in a hires pass. `engine/regions/` computes them.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from contract.parts import MAX_LORAS, LoraDraft, LoraUse
from contract.values import Fraction, Frozen, ImageRef, Prompt, Rule

MAX_REGIONS = 8
REGION_WEIGHT = (0.0, 2.0)
_ROUNDING = 1e-6  # of sums of fractions: 0.7 + 0.3 may be a little more than 1

Extent = Annotated[float, Field(gt=0.0, le=1.0)]


class Box(Frozen):
    """A part of the picture, in fractions of its width and height, from its upper left corner."""

    left: Fraction
    top: Fraction
    width: Extent
    height: Extent

    @model_validator(mode="after")
    def _is_within(self) -> "Box":
        for start, extent, side in ((self.left, "width", "right"), (self.top, "height", "bottom")):
            end = start + getattr(self, extent)
            if end > 1.0 + _ROUNDING:
                raise Rule(
                    f"Its box reaches beyond the picture: it ends at {end:.4g}, and the {side} edge is at 1.",
                    f"Use a {extent} of at most {1.0 - start:.4g}.",
                    extent,
                )
        return self


class RegionDraft(Frozen):
    """The same as asked for. Tags of LoRAs in its prompt act in this region."""

    prompt: Prompt
    negative_prompt: Prompt | None = None
    weight: Annotated[float, Field(ge=REGION_WEIGHT[0], le=REGION_WEIGHT[1])] = 1.0
    box: Box | None = None
    mask: ImageRef | None = None
    loras: Annotated[tuple[LoraDraft, ...], Field(max_length=MAX_LORAS)] = ()

    @model_validator(mode="after")
    def _has_one_place(self) -> Self:
        if (self.box is None) == (self.mask is None):
            given = "no place" if self.box is None else "a box and a mask"
            raise Rule(f"It has {given}.", "Give a box or a mask.", "box" if self.box is None else "mask")
        return self


class Region(RegionDraft):
    """A prompt for a part of the picture: for a box, or for what is white in a mask (gray counts in part).

    negative_prompt: None takes the recipe's. weight: how much it counts against the others where regions overlap, and
    against the recipe's own prompt; 0 leaves it out. mask: of the picture's shape; it is scaled to the picture. loras:
    act in this region only, their text encoder part on this region's prompts.
    """

    loras: Annotated[tuple[LoraUse, ...], Field(max_length=MAX_LORAS)] = ()


class RegionsDraft(Frozen):
    """The same as asked for."""

    base: Fraction = 0.2
    common: bool = True
    regions: Annotated[tuple[RegionDraft, ...], Field(min_length=1, max_length=MAX_REGIONS)]


class Regions(RegionsDraft):
    """The regions of a picture.

    base: share of the recipe's own prompt where regions are; elsewhere it acts alone. common: the recipe's prompt
    stands before each region's prompt, and its negative prompt before each region's own negative prompt.
    """

    regions: Annotated[tuple[Region, ...], Field(min_length=1, max_length=MAX_REGIONS)]
