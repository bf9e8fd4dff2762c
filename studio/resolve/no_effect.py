"""What a recipe asks for that will change nothing, or other than meant: a Notice each, where silence would puzzle.

Known before the job is queued: from the recipe, the model's entry, and the pictures that were brought. What only the
weights tell (a LoRA whose alpha is 0, a map that a preprocessor left empty) the engine says.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from PIL import Image

from catalog.detect.embedding_names import prompt_names
from catalog.models import ModelEntry
from contract.parts import MASKED_FROM, Hires, InitImage, LoraUse, Mask
from contract.recipe import ImageRef, Recipe
from contract.values import BACKGROUND
from studio.resolve.check_ahead import GrayRange

Notice = tuple[str, str]
PictureOf = Callable[[str], Image.Image | None]
NotesOf = Callable[[str], Sequence[Notice]]
_MOST_PIXELS = 8_000_000  # decoding them takes a tenth of a second
_NAMED_EMBEDDING = re.compile(r"\bembedding:([\w./\\-]{1,200}\w)")
_IMAGE_GUIDANCE = InitImage.model_fields["image_guidance"].default
_STEPS_SPAN_SLACK = 1e-9


class Spanned(Protocol):
    """A control, or a picture as prompt: weighed, and active in a part of the run."""

    @property
    def weight(self) -> float: ...
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...


def without_effect(
    recipe: Recipe, entry: ModelEntry, picture_of: PictureOf, notes_of: NotesOf, gray_range: GrayRange
) -> tuple[Notice, ...]:
    """What is worth knowing, each once.

    Args:
        picture_of: A brought picture, not yet decoded; None if it is gone.
        notes_of: What was noted when it was brought.
        gray_range: As of `check_ahead`.
    """
    found = [
        *_notes(recipe, notes_of),
        *_of_nets(recipe),
        *_of_units(recipe),
        *_of_words(recipe),
        *_of_start(recipe, entry),
    ]
    if recipe.mask is not None and (grays := gray_range(recipe.mask.image.sha256)) is not None:
        found += _of_mask(recipe.mask, *grays)
    with contextlib.suppress(OSError, SyntaxError, ValueError):  # one that is damaged on the disk, the job names
        found += _of_pictures(recipe, picture_of)
    return tuple(dict.fromkeys(found))


def _notes(recipe: Recipe, notes_of: NotesOf) -> Iterator[Notice]:
    for image in recipe.images:
        yield from notes_of(image.sha256)


def _of_nets(recipe: Recipe) -> Iterator[Notice]:
    for lora in recipe.loras:
        if _is_idle(lora):
            which = "block weights that are all 0" if lora.blocks and not any(lora.blocks) else "weight 0"
            yield "no_effect", f"LoRA “{lora.model.name}” has {which}: it changes nothing."
    for net in recipe.hypernetworks:
        if net.weight == 0:
            yield "no_effect", f"Hypernetwork “{net.model.name}” has weight 0: it changes nothing."


def _is_idle(lora: LoraUse) -> bool:
    text = lora.weight if lora.text_weight is None else lora.text_weight
    return (lora.weight == 0 and text == 0) or (bool(lora.blocks) and not any(lora.blocks))


def _of_units(recipe: Recipe) -> Iterator[Notice]:
    named: list[tuple[str, Spanned]] = [
        (f"ControlNet {index}", control) for index, control in enumerate(recipe.controls, 1)
    ]
    named += [(f"Picture as prompt {index}", reference) for index, reference in enumerate(recipe.ip_adapters, 1)]
    for name, unit in named:
        if unit.weight == 0:
            yield "no_effect", f"{name} has weight 0: its picture changes nothing."
        elif not _acts(unit, recipe.steps):
            yield (
                "no_effect",
                (
                    f"{name} acts from {unit.start:g} to {unit.end:g} of {recipe.steps} steps, "
                    "which is not one whole step: its picture changes nothing."
                ),
            )


def _acts(unit: Spanned, steps: int) -> bool:
    return any(
        step / steps >= unit.start - _STEPS_SPAN_SLACK and (step + 1) / steps <= unit.end + _STEPS_SPAN_SLACK
        for step in range(steps)
    )


def _of_words(recipe: Recipe) -> Iterator[Notice]:
    hires = recipe.hires
    is_guided = recipe.guidance > 1 or bool(hires and hires.guidance is not None and hires.guidance > 1)
    if recipe.negative_prompt.strip() and not is_guided:
        yield (
            "no_effect",
            f"Guidance {recipe.guidance:g} follows the prompt alone: the negative prompt changes nothing.",
        )
    texts = [
        recipe.prompt,
        recipe.negative_prompt,
        *filter(None, (hires.prompt, hires.negative_prompt) if hires else ()),
    ]
    known = {name.casefold() for ref in recipe.embeddings for name in prompt_names(ref.name)}
    for text in texts:
        for match in _NAMED_EMBEDDING.finditer(text):
            name = match[1].replace("\\", "/")
            if (
                not {
                    name.casefold(),
                    name.rpartition("/")[2].casefold(),
                    name.partition(".")[0].casefold(),
                    f"embedding:{name}".casefold(),
                }
                & known
            ):
                yield "unknown_embedding", f"Embedding “{name[:80]}” is not here: its name is read as plain words."


def _of_start(recipe: Recipe, entry: ModelEntry) -> Iterator[Notice]:
    start, hires = recipe.init_image, recipe.hires
    if entry.variant == "inpaint" and recipe.mask is None and not (start and start.outpaint):
        yield (
            "model_for_inpainting",
            (
                f"{entry.title} is made to paint into masks, and there is none: it paints the whole "
                "picture. An ordinary model does that better."
            ),
        )
    if start is not None:
        if entry.variant != "edit":
            yield from _strength("Strength", start.strength, recipe.steps, "keeps the start picture as it is")
        if entry.variant != "edit" and start.image_guidance != _IMAGE_GUIDANCE:
            yield "no_effect", f"Image guidance changes nothing: {entry.title} does not edit by instruction."
        if entry.variant != "depth" and start.depth is not None:
            yield "no_effect", f"The depth picture changes nothing: {entry.title} does not paint by depth."
    if isinstance(hires, Hires):
        yield from _strength(
            "Hires strength", hires.strength, hires.steps or recipe.steps, "upscales and paints nothing anew"
        )


def _strength(label: str, strength: float, steps: int, words: str) -> Iterator[Notice]:
    if strength == 0:
        yield "no_effect", f"{label} 0 {words}: no step runs."
    elif int(steps * strength) == 0:
        yield "hardly_any_effect", f"{label} {strength:g} of {steps} steps is less than one: one step runs."


def _of_pictures(recipe: Recipe, picture_of: PictureOf) -> Iterator[Notice]:
    if recipe.init_image is not None and (picture := _shown(recipe.init_image.image, picture_of)) is not None:
        if picture.mode == "RGBA" and picture.getchannel("A").getbbox() is None:
            yield "blank_picture", "The start picture is transparent everywhere: the result begins from white."
    for index, control in enumerate(recipe.controls, 1):
        if control.preprocessor == "none" and (picture := _shown(control.image, picture_of)) is not None:
            if _is_even(_on_background(picture)):
                yield "blank_map", f"The map of ControlNet {index} is one even color: it shows nothing to go by."


def _shown(image: ImageRef, picture_of: PictureOf) -> Image.Image | None:
    """A picture that is small enough to be looked at while somebody waits for an answer."""
    picture = picture_of(image.sha256)
    return picture if picture is not None and picture.width * picture.height <= _MOST_PIXELS else None


def _of_mask(asked: Mask, low: int, high: int) -> Iterator[Notice]:
    if asked.invert:
        low, high = 255 - high, 255 - low
    if low >= (255 if asked.soft else MASKED_FROM):
        words = "is painted everywhere" if not asked.invert else "is turned around and empty, so it is everything"
        yield "mask_of_all", f"The mask {words}: the whole picture changes, as without a mask."
    elif low == high and asked.soft and high > 0:
        yield (
            "mask_of_one_gray",
            "The mask is one even gray: the whole picture changes alike, as without a mask but less.",
        )


def _on_background(picture: Image.Image) -> Image.Image:
    """As the engine looks at it."""
    if picture.mode not in ("RGBA", "LA", "PA"):
        return picture.convert("RGB")
    over = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, BACKGROUND), over).convert("RGB")


def _is_even(picture: Image.Image) -> bool:
    return all(low == high for low, high in picture.getextrema())  # type: ignore[misc]
