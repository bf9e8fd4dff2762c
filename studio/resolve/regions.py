"""Resolves the regions of a draft: what they go with, their masks, and the LoRAs that their prompts name in tags."""

from catalog.families import FAMILIES
from catalog.models import ModelEntry
from contract.errors import InvalidInput, InvalidRecipe
from contract.recipe import RecipeDraft
from contract.regions import Regions
from contract.sizes import Size
from studio.resolve.loras import take_region_networks
from studio.resolve.model_finder import Finder
from studio.resolve.parts import SizeOf, need_picture, same_shape


def resolve_regions(
    draft: RecipeDraft, finder: Finder, entry: ModelEntry, size_of: SizeOf, size: Size
) -> Regions | None:
    """The regions with refs for names, without tags in their prompts; None where there are none.

    Args:
        entry: The checkpoint.
        size: Of the pass.
    Raises:
        InvalidRecipe: the model has no regions, or a LoRA is not known; names the region's field.
        InvalidInput: a mask is gone, or has another shape than the picture.
        ModelProblem: a LoRA can't be used.
    """
    if draft.regions is None:
        return None
    if FAMILIES[entry.ref.family].denoiser != "unet" or entry.variant == "edit":
        why = "which guides by the picture too" if entry.variant == "edit" else "which has no U-Net"
        raise InvalidRecipe(
            f"Regions do not go with {entry.title}, {why}.", "Remove them, or use another model.", field="regions"
        )
    # Only a part of a larger start picture may be generated; regions are of all of it.
    mask = draft.mask
    if draft.init_image and mask and (mask.area == "masked" or mask.keep_size):
        size = need_picture(draft.init_image.image, "init_image.image", size_of)
    for number, region in enumerate(draft.regions.regions):
        if region.mask is None:
            continue
        field = f"regions.regions.{number}.mask"
        own = need_picture(region.mask, field, size_of)
        if not same_shape(own, size):
            raise InvalidInput(
                f"The mask of region {number + 1} is {own[0]} × {own[1]}; the picture is {size[0]} × {size[1]}.",
                "Use a mask of the picture's shape.",
                field=field,
            )
    regions = []
    for number, region in enumerate(draft.regions.regions):
        regions.append(take_region_networks(region, f"regions.regions.{number}", finder, entry))
    return Regions(base=draft.regions.base, common=draft.regions.common, regions=tuple(regions))
