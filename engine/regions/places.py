"""Where the regions of a picture are, and how much each prompt counts at each place. Knows no model."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from contract.errors import InvalidInput
from contract.recipe import Recipe
from contract.regions import Box, Region
from contract.sizes import Size
from engine.images.image_io import fit, open_input
from engine.images.inpaint_region import InpaintRegion
from engine.sampling.guidance.attention import grid_of

_MOST_GATHERED = 0.8  # of all places; from here on computing the rest costs less than to gather and scatter the others


@dataclass(frozen=True, slots=True)
class PromptPlaces:
    """Where a prompt acts on a feature map of (h, w) places in a row.

    Attributes:
        indices: Of its places; None: all of them.
        shares: How much it counts at each, (places, 1), float32.
    """

    indices: Tensor | None
    shares: Tensor


@dataclass(frozen=True, slots=True)
class RegionPlaces:
    """The regions of one pass.

    Attributes:
        masks: Where each region is, (regions, h, w) on the grid of latents, 0..1, float32.
        shares: How much each prompt counts, (1 + regions, h, w): the recipe's own and the regions'. They sum up to 1.
    """

    masks: Tensor
    shares: Tensor
    _on_grids: dict[int, tuple[PromptPlaces | None, ...]] = field(default_factory=dict, repr=False)
    _masks_on_grids: dict[Size, Tensor] = field(default_factory=dict, repr=False)

    def to(self, device: torch.device) -> "RegionPlaces":
        """The same on a device."""
        return RegionPlaces(self.masks.to(device), self.shares.to(device))

    def prompts_on(self, tokens: int) -> tuple[PromptPlaces | None, ...]:
        """Where each prompt acts on a feature map of so many places; None for one that acts nowhere."""
        if tokens not in self._on_grids:
            grid = grid_of(tokens, self.shares)
            found: list[PromptPlaces | None] = []
            for shares in functional.interpolate(self.shares[None], size=grid, mode="area")[0].flatten(1):
                indices = shares.nonzero().flatten()
                if not len(indices):
                    found.append(None)
                elif len(indices) > _MOST_GATHERED * tokens:
                    found.append(PromptPlaces(None, shares[:, None]))
                else:
                    found.append(PromptPlaces(indices, shares[indices, None]))
            self._on_grids[tokens] = tuple(found)
        return self._on_grids[tokens]

    def mask_like(self, region: int, x: Tensor) -> Tensor:
        """A region's mask for a feature map (B, tokens, C) or (B, C, h, w), in its precision; it broadcasts."""
        grid = (x.shape[-2], x.shape[-1]) if x.dim() == 4 else grid_of(x.shape[1], self.masks)
        if grid not in self._masks_on_grids:
            self._masks_on_grids[grid] = functional.interpolate(self.masks[None], size=grid, mode="area")[0]
        mask = self._masks_on_grids[grid][region].to(x.dtype)
        return mask if x.dim() == 4 else mask.reshape(-1, 1)


def region_places(
    recipe: Recipe, images: Mapping[str, bytes], factor: int, inpainted: InpaintRegion | None = None
) -> RegionPlaces:
    """The places of a recipe's regions at its size.

    Args:
        images: PNGs by sha256.
        factor: Pixels of a latent's side.
        inpainted: Which part of the init image the pass generates: of the regions the same part counts.
    Raises:
        InvalidInput: a mask is missing, damaged or empty; names the region.
    """
    assert recipe.regions is not None
    size = (recipe.width, recipe.height)
    masks = []
    for number, region in enumerate(recipe.regions.regions):
        mask = _mask_of(region, number, images, size)
        if inpainted is not None and inpainted.crop_like is not None:
            mask = inpainted.crop_like(mask, "stretch")
        masks.append(torch.from_numpy(np.asarray(mask, dtype=np.float32) / 255))
    whole = functional.avg_pool2d(torch.stack(masks), factor)
    weights = torch.tensor([region.weight for region in recipe.regions.regions])
    return RegionPlaces(whole, shares_of(whole, weights, recipe.regions.base))


def shares_of(masks: Tensor, weights: Tensor, base: float) -> Tensor:
    """How much each prompt counts at each place.

    Where regions overlap, they divide what is left by the base. A weight is a factor of that; then all are divided by
    their sum.

    Args:
        masks: (regions, h, w), 0..1.
        weights: (regions).
        base: Share of the recipe's own prompt where a mask is 1.
    Returns:
        (1 + regions, h, w): the recipe's own prompt and the regions'; they sum up to 1.
    """
    covered = masks / masks.sum(dim=0).clamp(min=1.0)
    own = 1.0 - (1.0 - base) * covered.sum(dim=0, keepdim=True)
    shares = torch.cat([own, (1.0 - base) * covered * weights[:, None, None]])
    total = shares.sum(dim=0)
    shares[0] += total <= 0  # every weight there is 0, and so is the base
    return shares / shares.sum(dim=0)


def _mask_of(region: Region, number: int, images: Mapping[str, bytes], size: Size) -> Image.Image:
    """Where a region is, L, at a size; a box's edges are gray where they lie within a pixel."""
    if region.box is not None:
        return _box_mask(region.box, size)
    assert region.mask is not None
    mask = open_input(region.mask, images, "black").convert("L")
    if mask.getbbox() is None:
        raise InvalidInput(
            f"The mask of region {number + 1} is empty: its prompt would act nowhere.",
            "Paint where it is to act, or remove the region.",
            field=f"regions.regions.{number}.mask",
        )
    return fit(mask, size, "stretch", Image.Resampling.BILINEAR)


def _box_mask(box: Box, size: Size) -> Image.Image:
    covered = []
    for begin, extent, length in ((box.top, box.height, size[1]), (box.left, box.width, size[0])):
        pixels = np.arange(length)
        covered.append(
            np.clip(np.minimum(pixels + 1, (begin + extent) * length) - np.maximum(pixels, begin * length), 0, 1)
        )
    return Image.fromarray(np.rint(np.outer(*covered) * 255).astype(np.uint8))
