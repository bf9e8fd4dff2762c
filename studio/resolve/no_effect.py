"""Notices for settings of a recipe that will change nothing, or something else than was meant.

One check for each, in `CHECKS`. They see what is known before the job is queued: the recipe, the model's entry, and
the uploads. What only the weights show (a LoRA whose alpha is 0, a map that a preprocessor left empty) the engine
reports.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from catalog.detect.embedding_names import prompt_names
from catalog.families import FAMILIES
from catalog.guidance import needs_negative
from catalog.models import ModelEntry
from contract.parts import MASKED_FROM, InitImage
from contract.recipe import ImageRef, Recipe
from studio.resolve.check_ahead import GrayRange
from studio.uploads.safe_open import on_background

Notice = tuple[str, str]
PictureOf = Callable[[str], Image.Image | None]
NotesOf = Callable[[str], Sequence[Notice]]
_MOST_PIXELS = 8_000_000  # decoding them takes a tenth of a second
_NAMED_EMBEDDING = re.compile(r"\bembedding:([\w./\\-]{1,200}\w)")
_IMAGE_GUIDANCE = InitImage.model_fields["image_guidance"].default
_STEPS_SPAN_SLACK = 1e-9


class _Unit(Protocol):
    """A control or an IP-Adapter: weighted, and active in a part of the run."""

    @property
    def weight(self) -> float: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...


def without_effect(
    recipe: Recipe, entry: ModelEntry, picture_of: PictureOf, notes_of: NotesOf, gray_range: GrayRange
) -> tuple[Notice, ...]:
    """All notices, each once.

    Args:
        picture_of: An upload, not yet decoded; None if it is gone.
        notes_of: The notices of when it was uploaded.
        gray_range: As of `check_ahead`.
    """
    found: list[Notice] = []
    for image in recipe.images:
        found += notes_of(image.sha256)
    asked = Asked(recipe, entry, picture_of, gray_range)
    for check in CHECKS:
        found += check(asked)
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Asked:
    """The input of a check; attributes as the arguments of `without_effect`."""

    recipe: Recipe
    entry: ModelEntry
    picture_of: PictureOf
    gray_range: GrayRange


def idle_networks(asked: Asked) -> Iterator[Notice]:
    """LoRAs and hypernetworks whose weight is 0."""
    recipe = asked.recipe
    for lora in recipe.loras:
        has_idle_blocks = bool(lora.blocks) and not any(lora.blocks)
        has_no_weight = lora.weight == 0 and lora.text_weight in (None, 0)
        if has_idle_blocks or has_no_weight:
            which = "block weights that are all 0" if has_idle_blocks else "weight 0"
            yield "no_effect", f"LoRA “{lora.model.name}” has {which}: it changes nothing."
    for net in recipe.hypernetworks:
        if net.weight == 0:
            yield "no_effect", f"Hypernetwork “{net.model.name}” has weight 0: it changes nothing."


def idle_regions(asked: Asked) -> Iterator[Notice]:
    """Regions and LoRAs of theirs whose weight is 0, and a base that leaves nothing to them."""
    regions = asked.recipe.regions
    if regions and regions.base == 1:
        yield "no_effect", "The base share is 1: the prompts of the regions change nothing."
    for number, region in enumerate(regions.regions if regions else (), 1):
        if region.weight == 0:
            yield "no_effect", f"Region {number} has weight 0: it changes nothing."
        for lora in region.loras:
            if lora.weight == 0 and lora.text_weight in (None, 0):
                yield "no_effect", f"LoRA “{lora.model.name}” of region {number} has weight 0: it changes nothing."


def idle_units(asked: Asked) -> Iterator[Notice]:
    """Controls and IP-Adapters whose weight is 0, or that are active in no whole step."""
    recipe = asked.recipe
    named: list[tuple[str, _Unit]] = []
    for index, control in enumerate(recipe.controls, 1):
        named.append((f"ControlNet {index}", control))
    for index, adapter in enumerate(recipe.ip_adapters, 1):
        named.append((f"Picture as prompt {index}", adapter))
    for name, unit in named:
        if unit.weight == 0:
            yield "no_effect", f"{name} has weight 0: its picture changes nothing."
        elif not _covers_a_step(unit, recipe.steps):
            sentence = (
                f"{name} acts from {unit.start:g} to {unit.end:g} of {recipe.steps} steps, "
                "which is not one whole step: its picture changes nothing."
            )
            yield "no_effect", sentence


def _covers_a_step(unit: _Unit, steps: int) -> bool:
    for step in range(steps):
        begins_after_start = step / steps >= unit.start - _STEPS_SPAN_SLACK
        if begins_after_start and (step + 1) / steps <= unit.end + _STEPS_SPAN_SLACK:
            return True
    return False


def idle_words(asked: Asked) -> Iterator[Notice]:
    """A negative prompt without guidance, and embeddings that are not here."""
    recipe, hires = asked.recipe, asked.recipe.hires
    is_read = any(needs_negative(*one) for one in recipe.passes)
    if f"{recipe.negative_prompt}{recipe.negative_prompt_2 or ''}".strip() and not is_read:
        yield (
            "no_effect",
            f"Guidance {recipe.guidance:g} follows the prompt alone: the negative prompt changes nothing.",
        )
    texts: list[str | None] = [recipe.prompt, recipe.negative_prompt, recipe.prompt_2, recipe.negative_prompt_2]
    if hires:
        texts += [hires.prompt, hires.negative_prompt]
    for region in recipe.regions.regions if recipe.regions else ():
        texts += [region.prompt, region.negative_prompt]
    known: set[str] = set()
    for ref in recipe.embeddings:
        known.update(map(str.casefold, prompt_names(ref.name)))
    for text in texts:
        for match in _NAMED_EMBEDDING.finditer(text or ""):
            name = match[1].replace("\\", "/")
            ways = (name, name.rpartition("/")[2], name.partition(".")[0], f"embedding:{name}")
            if not known.intersection(map(str.casefold, ways)):
                yield "unknown_embedding", f"Embedding “{name[:80]}” is not here: its name is read as plain words."


def idle_init_image(asked: Asked) -> Iterator[Notice]:
    """Parameters of the init image and the hires pass, and models, that don't fit the rest of the recipe."""
    recipe, entry = asked.recipe, asked.entry
    init_image, hires = recipe.init_image, recipe.hires
    if entry.variant == "inpaint" and recipe.mask is None and not (init_image and init_image.outpaint):
        sentence = (
            f"{entry.title} is made to paint into masks, and there is none: it paints the whole "
            "picture. An ordinary model does that better."
        )
        yield "model_for_inpainting", sentence
    if init_image is not None:
        if entry.variant != "edit":
            yield from _low_strength("Strength", init_image.strength, recipe.steps, "keeps the start picture as it is")
        if entry.variant != "edit" and init_image.image_guidance != _IMAGE_GUIDANCE:
            yield "no_effect", f"Image guidance changes nothing: {entry.title} does not edit by instruction."
        if entry.variant != "depth" and init_image.depth is not None:
            yield "no_effect", f"The depth picture changes nothing: {entry.title} does not paint by depth."
    if hires is not None:
        steps = hires.steps or recipe.steps
        yield from _low_strength("Hires strength", hires.strength, steps, "upscales and paints nothing anew")


def _low_strength(label: str, strength: float, steps: int, words: str) -> Iterator[Notice]:
    if strength == 0:
        yield "no_effect", f"{label} 0 {words}: no step runs."
    elif int(steps * strength) == 0:
        yield "hardly_any_effect", f"{label} {strength:g} of {steps} steps is less than one: one step runs."


def idle_refiner(asked: Asked) -> Iterator[Notice]:
    """A refiner that takes over too late, adapters that it ends, and what only a refiner is told."""
    recipe, refiner = asked.recipe, asked.recipe.refiner
    told = recipe.size_conditioning
    if told and (told.aesthetic_score is not None or told.negative_aesthetic_score is not None):
        models = [recipe.model, *([refiner.model] if refiner else [])]
        units = [FAMILIES[model.family].unet for model in models]
        if not any(unet is not None and unet.takes_score for unet in units):
            yield "no_effect", f"The aesthetic score changes nothing: {asked.entry.title} is not told one."
    if refiner is None:
        return
    if refiner.at >= 1:
        yield "no_effect", f"The refiner takes over at {refiner.at:g}, which leaves it nothing to do."
    named = {
        "LoRAs": recipe.loras,
        "hypernetworks": recipe.hypernetworks,
        "ControlNets": recipe.controls,
        "pictures as prompt": recipe.ip_adapters,
        "regions": recipe.regions,
    }
    used = [name for name, units_used in named.items() if units_used]
    if used:
        words = " and ".join(filter(None, [", ".join(used[:-1]), used[-1]]))
        yield "refiner_without", f"From {refiner.model.name} on it goes without the {words} of {asked.entry.title}."


def blank_pictures(asked: Asked) -> Iterator[Notice]:
    """A transparent init image, and control maps of one color."""
    recipe, picture_of = asked.recipe, asked.picture_of
    with contextlib.suppress(OSError, SyntaxError, ValueError):  # the job reports one that is damaged on the disk
        if recipe.init_image is not None:
            picture = _small_picture(recipe.init_image.image, picture_of)
            if picture is not None and picture.mode == "RGBA" and picture.getchannel("A").getbbox() is None:
                yield "blank_picture", "The start picture is transparent everywhere: the result begins from white."
        for index, control in enumerate(recipe.controls, 1):
            if control.preprocessor != "none":
                continue
            picture = _small_picture(control.image, picture_of)
            if picture is None:
                continue
            extrema = on_background(picture).getextrema()
            if all(low == high for low, high in extrema):  # type: ignore[misc]
                yield "blank_map", f"The map of ControlNet {index} is one even color: it shows nothing to go by."


def _small_picture(image: ImageRef, picture_of: PictureOf) -> Image.Image | None:
    """An upload, if it is small enough to be decoded while a client waits for the response."""
    picture = picture_of(image.sha256)
    if picture is None or picture.width * picture.height > _MOST_PIXELS:
        return None
    return picture


def mask_of_all(asked: Asked) -> Iterator[Notice]:
    """A mask that hides nothing."""
    mask = asked.recipe.mask
    grays = asked.gray_range(mask.image.sha256) if mask is not None else None
    if mask is None or grays is None:
        return
    low, high = grays
    if mask.invert:
        low, high = 255 - high, 255 - low
    if low >= (255 if mask.soft else MASKED_FROM):
        words = "is painted everywhere"
        if mask.invert:
            words = "is inverted and empty, so it is everything"
        yield "mask_of_all", f"The mask {words}: the whole picture changes, as without a mask."
    elif low == high and mask.soft and high > 0:
        yield (
            "mask_of_one_gray",
            "The mask is one even gray: the whole picture changes alike, as without a mask but less.",
        )


CHECKS: tuple[Callable[[Asked], Iterator[Notice]], ...] = (
    idle_networks,
    idle_regions,
    idle_units,
    idle_words,
    idle_init_image,
    idle_refiner,
    mask_of_all,
    blank_pictures,
)
