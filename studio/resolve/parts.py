"""Resolves the optional parts of a draft: checks that its images are there and fit, finds models, computes the size.

Reads sizes from the headers of uploaded PNGs, never pixels.
"""

import math
from collections.abc import Callable

from catalog.families import FAMILIES
from catalog.models import ModelEntry
from catalog.upscalers import UPSCALERS, find_upscaler
from contract.errors import InvalidInput, InvalidRecipe
from contract.recipe import (
    SIDE,
    SIDE_MULTIPLE,
    Hires,
    ImageRef,
    Mask,
    ModelRef,
    Outpaint,
    RecipeDraft,
    Refiner,
    RefinerDraft,
)
from contract.sizes import MASKED_ROOM, Size, extended_size, followed_size, hires_size
from contract.tasks import Upscale
from studio.resolve.model_finder import Finder, require_model
from studio.resolve.sampler_choice import choose_sampler

SizeOf = Callable[[str], Size | None]
_SAME_SHAPE = 0.02  # of the ratio of the sides
_MOST_UPSCALED = 16  # times the pixels that are generated, an image may be upscaled to: no model runs over all at once


def check_pictures(draft: RecipeDraft, size_of: SizeOf) -> None:
    """Check that all images are kept, and that the mask has the shape of the init image.

    Raises:
        InvalidInput: names the picture, and both sizes where they differ.
    """
    start, mask = draft.init_image, draft.mask
    named: list[tuple[str, ImageRef | None]] = []
    if start:
        named += [("init_image.image", start.image), ("init_image.depth", start.depth)]
    if mask:
        named.append(("mask.image", mask.image))
    for index, control in enumerate(draft.controls):
        named.append((f"controls.{index}.image", control.image))
    for index, adapter in enumerate(draft.ip_adapters):
        named.append((f"ip_adapters.{index}.image", adapter.image))
    sizes = {field: need_picture(ref, field, size_of) for field, ref in named if ref is not None}
    if mask is None:
        return
    (width, height), (mask_width, mask_height) = sizes["init_image.image"], sizes["mask.image"]
    if not same_shape((width, height), (mask_width, mask_height)):
        raise InvalidInput(
            f"The mask is {mask_width} × {mask_height}; the start picture is {width} × {height}.",
            "Use a mask of the picture's size or shape.",
            field="mask.image",
        )


def same_shape(one: Size, other: Size) -> bool:
    """Whether two sizes have the same ratio of their sides, but for rounding to whole pixels."""
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= _SAME_SHAPE


def need_picture(ref: ImageRef, field: str, size_of: SizeOf) -> Size:
    """The size of an upload.

    Raises:
        InvalidInput: it is not kept (any more).
    """
    size = size_of(ref.sha256)
    if size is None:
        words = {
            "init_image.image": "start picture",
            "init_image.depth": "depth picture",
            "mask.image": "mask",
            "controls": "control picture",
            "ip_adapters": "picture as prompt",
            "regions": "mask of a region",
        }
        word = words.get(field) or words.get(field.partition(".")[0], "picture")
        raise InvalidInput(f"The {word} is not here.", "Add it again.", field=field)
    return size


def check_start(draft: RecipeDraft, entry: ModelEntry) -> None:
    """Check that a model that edits, or generates by depth, has an init image.

    Raises:
        InvalidRecipe: there is none.
    """
    if entry.variant in ("edit", "depth") and draft.init_image is None:
        does = "edits a picture" if entry.variant == "edit" else "paints by the depth of a picture"
        raise InvalidRecipe(
            f"{entry.title} {does}, and there is none.",
            "Add a start picture, or use another model.",
            field="init_image",
        )


def choose_size(draft: RecipeDraft, entry: ModelEntry, size_of: SizeOf, max_pixels: int) -> Size:
    """The size of the draft; else the init image's, scaled to the model's range; else the model's own.

    Raises:
        InvalidRecipe: an extended canvas is asked for at a size that is not the picture and its extension.
    """
    usual = (entry.defaults.width, entry.defaults.height)
    start = draft.init_image
    if start is None or (draft.mask and draft.mask.area == "masked"):
        return draft.width or usual[0], draft.height or usual[1]
    size = size_of(start.image.sha256) or usual
    if start.outpaint:
        return _outpainted_size(draft, start.outpaint, size)
    if draft.width and draft.height:
        return draft.width, draft.height
    if draft.mask:
        width, height = followed_size(size, usual, MASKED_ROOM, max_pixels)
    else:
        width, height = followed_size(size, usual)
    return draft.width or width, draft.height or height


def sized_mask(draft: RecipeDraft) -> Mask | None:
    """The mask; where no size is asked for, the start picture keeps its own."""
    mask = draft.mask
    if mask is None or mask.area == "masked" or draft.width or draft.height:
        return mask
    if draft.init_image and draft.init_image.outpaint:
        return mask
    return mask.model_copy(update={"keep_size": True})


def _outpainted_size(draft: RecipeDraft, extend: Outpaint, size: Size) -> Size:
    """The start picture's size and its extension. Raises InvalidRecipe if another is asked for, or it is too large."""
    width, height = extended_size(size, extend)
    for name, side, asked in (("width", width, draft.width), ("height", height, draft.height)):
        if asked not in (None, side):
            raise InvalidRecipe(
                f"The extended canvas would be {width} × {height}; {name} is {asked}.",
                f"Use {side}, or leave it out.",
                field=name,
            )
        if not SIDE[0] <= side <= SIDE[1]:
            raise InvalidRecipe(
                f"The extended canvas would be {width} × {height}.",
                f"Sides are {SIDE[0]} to {SIDE[1]}: extend less, or scale the picture down first.",
                field="init_image.outpaint",
            )
    return width, height


def check_recipe_size(width: int, height: int, max_pixels: int, *, field: str = "width") -> None:
    """No more than the studio makes.

    Raises:
        InvalidRecipe: names the largest of this shape.
    """
    if width * height <= max_pixels:
        return
    scale = math.sqrt(max_pixels / (width * height))
    fit = [max(SIDE_MULTIPLE, int(side * scale) // SIDE_MULTIPLE * SIDE_MULTIPLE) for side in (width, height)]
    raise InvalidRecipe(
        f"{width} × {height} is more than this studio makes ({max_pixels / 1e6:.1f} megapixels).",
        f"The largest of this shape is {fit[0]} × {fit[1]}.",
        field=field,
        fix={"width": fit[0], "height": fit[1]},
    )


def resolve_hires(
    hires: Hires, finder: Finder, entry: ModelEntry, first_sampler: str, size: Size, max_pixels: int
) -> Hires:
    """The pass with ids and refs for names; a sampler of its own gets a schedule that goes with it.

    Args:
        first_sampler: The first pass's.
        size: Of the first pass.
    Raises:
        InvalidRecipe: a name is not known, or the result would be too large.
        ModelProblem: the upscaler can't be used.
    """
    check_hires_size(size, hires_size(size, hires.scale), max_pixels)
    changes: dict[str, object] = {"upscaler": resolve_upscaler(hires.upscaler, finder, "hires.upscaler")}
    if hires.sampler is not None or hires.schedule is not None:
        try:
            sampler, schedule = choose_sampler(hires.sampler or first_sampler, hires.schedule, entry)
        except InvalidRecipe as error:
            raise InvalidRecipe(error.message, error.hint, field=f"hires.{error.field}") from None
        changes |= {"sampler": sampler.id if hires.sampler else None, "schedule": schedule}
    return hires.model_copy(update=changes)


def resolve_refiner(refiner: RefinerDraft, finder: Finder, entry: ModelEntry) -> Refiner:
    """The part with a ref for the model that takes over.

    Raises:
        InvalidRecipe: the model is not known, or can't go on with what the first has made.
        ModelProblem: it can't be used.
    """
    second = require_model(refiner.model, ("checkpoint",), "refiner.model", finder)
    family, other = FAMILIES[entry.ref.family], FAMILIES[second.ref.family]
    problem, hint = "", "Choose another one, or none."
    if second.ref == entry.ref:
        problem = f"“{second.title}” is the model itself, so it refines nothing."
    elif other.latents != family.latents:
        problem = f"“{second.title}” is for {other.label}; {entry.title} is {family.label}, which has other latents."
        hint = f"Choose a checkpoint for {family.label}, or none."
    elif entry.is_edm != second.is_edm or entry.has_own_latents != second.has_own_latents:
        problem = f"“{second.title}” and {entry.title} are not of one kind of noise: only one is a model of EDM."
    elif second.variant != "text":
        problem = f"“{second.title}” works from a picture or a mask, so it can't take over."
    elif entry.variant in ("edit", "depth"):
        problem = f"No refiner can take over from {entry.title}, which works from a picture."
        hint = "Choose another model, or no refiner."
    if problem:
        raise InvalidRecipe(problem, hint, field="refiner.model")
    return Refiner(model=finder.ref(second), at=refiner.at)


def check_told_sizes(draft: RecipeDraft, entry: ModelEntry) -> None:
    """Refuse size conditioning for a family that is told nothing of sizes. Raises InvalidRecipe."""
    unet = FAMILIES[entry.ref.family].unet
    if draft.size_conditioning is not None and (unet is None or not unet.takes_size):
        raise InvalidRecipe(
            f"{entry.title} ({FAMILIES[entry.ref.family].label}) is not told the size of a picture.",
            "Leave “size_conditioning” out, or choose an SDXL model.",
            field="size_conditioning",
        )


def check_hires_size(size: Size, larger: Size, max_pixels: int) -> None:
    """Raises InvalidRecipe, with the largest factor that fits, if a hires pass would make too much."""
    if larger[0] * larger[1] <= max_pixels:
        return
    most = math.floor(math.sqrt(max_pixels / (size[0] * size[1])) * 100) / 100
    hint = f"Upscale by at most {most:g}." if most > 1 else "Leave it out, or begin smaller."
    raise InvalidRecipe(
        f"{larger[0]} × {larger[1]} is more than this studio makes ({max_pixels / 1e6:.1f} megapixels).",
        hint,
        field="hires.scale",
        fix={"hires.scale": most} if most > 1 else None,
    )


def resolve_upscaler(
    wanted: str | ModelRef, finder: Finder, field: str, *, is_for_pictures: bool = False
) -> str | ModelRef:
    """The id of a built-in upscaler or the ref of a model. Raises InvalidRecipe, ModelProblem."""
    built_in = find_upscaler(wanted) if isinstance(wanted, str) else None
    if built_in is None:
        return finder.ref(require_model(wanted, ("upscaler",), field, finder))
    if built_in.is_latent and is_for_pictures:
        labels = [upscaler.label for upscaler in UPSCALERS.values() if not upscaler.is_latent]
        raise InvalidRecipe(
            f"{built_in.label} upscales latents, and this is a finished picture.",
            f"Use {', '.join(labels[:-1])} or {labels[-1]}, or a model.",
            field=field,
        )
    return built_in.id


def resolve_upscale(task: Upscale, finder: Finder, size_of: SizeOf, max_pixels: int) -> Upscale:
    """The task with its upscaler found.

    Raises:
        InvalidInput: the picture is not kept (any more).
        InvalidRecipe: the upscaler is not known, or the result would be too large.
        ModelProblem: the upscaler can't be used.
    """
    width, height = need_picture(task.image, "image", size_of)
    most = max_pixels * _MOST_UPSCALED
    if width * height * task.scale**2 > most:
        factor = math.floor(math.sqrt(most / (width * height)) * 100) / 100
        raise InvalidRecipe(
            f"{width} × {height} upscaled {task.scale:g} times is more than this studio makes "
            f"({most / 1e6:.0f} megapixels).",
            f"Upscale by at most {factor:g}.",
            field="scale",
            fix={"scale": factor},
        )
    return task.model_copy(
        update={"upscaler": resolve_upscaler(task.upscaler, finder, "upscaler", is_for_pictures=True)}
    )
