"""What a recipe's optional parts are called in A1111's infotext, for those who write it; pictures have no name there.

Source: specs/compatibility.md 4a. Numbers are written so that they are read back equal.
"""

from catalog.samplers import SAMPLERS, SCHEDULES
from catalog.upscalers import UPSCALERS
from contract.parts import Control, Hires, InitImage, IpAdapter, Mask
from contract.recipe import ModelRef, Recipe

SHORT_DIGITS = 10
_PADDING = Mask.model_fields["padding"].default  # what readers take where nothing is said
_IMAGE_GUIDANCE = InitImage.model_fields["image_guidance"].default
CONTENTS = {"fill": "fill", "noise": "latent noise", "nothing": "latent nothing"}
RESIZES = {"stretch": "Just Resize", "crop": "Crop and Resize", "fill": "Resize and Fill", "latent": "Latent"}
CONTROL_MODES = {
    "balanced": "Balanced",
    "prompt": "My prompt is more important",
    "control": "ControlNet is more important",
}


def plain(number: float) -> str:
    """A number as people write it, and without a digit lost: 7, 7.5, 0.1."""
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else repr(float(number))


def sampler_label(name: str) -> str:
    """A sampler as it is called; an unknown one as it is."""
    return SAMPLERS[name].label if name in SAMPLERS else name


def schedule_label(name: str) -> str:
    """The same of a schedule."""
    return SCHEDULES[name].label if name in SCHEDULES else name


def model_hash(ref: ModelRef) -> str:
    """The short hash by which others know a file again; "" while it isn't known."""
    return ref.sha256[:SHORT_DIGITS] if ref.sha256 else ""


def part_pairs(recipe: Recipe) -> dict[str, object]:
    """Keys and values of the parts that are there, in the field's order."""
    pairs: dict[str, object] = {}
    if recipe.init_image:
        pairs["Denoising strength"] = plain(recipe.init_image.strength)
        pairs |= {"Resize mode": RESIZES[recipe.init_image.resize]} if recipe.init_image.resize != "crop" else {}
        if recipe.init_image.image_guidance != _IMAGE_GUIDANCE:
            pairs["Image CFG scale"] = plain(recipe.init_image.image_guidance)
        if extend := recipe.init_image.outpaint:
            pairs["Outpaint"] = f"left {extend.left} right {extend.right} up {extend.up} down {extend.down}"
    pairs |= _mask_pairs(recipe.mask) if recipe.mask else {}
    pairs |= _hires_pairs(recipe.hires, has_start=recipe.init_image is not None) if recipe.hires else {}
    for index, control in enumerate(recipe.controls):
        pairs[f"ControlNet {index}"] = _control(control)
    for index, reference in enumerate(recipe.ip_adapters):
        pairs[f"ControlNet {index + len(recipe.controls)}"] = _reference(reference)
    if refiner := recipe.refiner:
        digits = model_hash(refiner.model)
        pairs |= {
            "Refiner": f"{refiner.model.name} [{digits}]" if digits else refiner.model.name,
            "Refiner switch at": plain(refiner.at),
        }
    return pairs


def _mask_pairs(mask: Mask) -> dict[str, object]:
    pairs: dict[str, object] = {"Mask blur": mask.blur}
    pairs |= {"Mask mode": "Inpaint not masked"} if mask.invert else {}
    pairs |= {"Masked content": CONTENTS[mask.content]} if mask.content in CONTENTS else {}
    if mask.area == "masked":
        pairs["Inpaint area"] = "Only masked"
        pairs |= {"Masked area padding": mask.padding} if mask.padding != _PADDING else {}
    return pairs | ({"Soft inpainting enabled": True} if mask.soft else {})


def _hires_pairs(hires: Hires, *, has_start: bool) -> dict[str, object]:
    upscaler = hires.upscaler if isinstance(hires.upscaler, str) else hires.upscaler.name
    pairs: dict[str, object] = {
        # A start picture has a strength too, which then keeps A1111's key.
        "Hires strength" if has_start else "Denoising strength": plain(hires.strength),
        "Hires upscale": plain(hires.scale),
        "Hires steps": hires.steps,
        "Hires upscaler": UPSCALERS[upscaler].label if upscaler in UPSCALERS else upscaler,
        "Hires sampler": sampler_label(hires.sampler) if hires.sampler else None,
        "Hires schedule type": schedule_label(hires.schedule) if hires.schedule else None,
        "Hires CFG Scale": plain(hires.guidance) if hires.guidance is not None else None,
        "Hires prompt": hires.prompt,
        "Hires negative prompt": hires.negative_prompt,
    }
    return {key: value for key, value in pairs.items() if value is not None}


def _control(control: Control) -> str:
    """One unit as ControlNet's extension writes it."""
    pairs = {
        "Module": control.preprocessor,
        "Model": _with_hash(control.model),
        "Weight": plain(control.weight),
        "Resize Mode": RESIZES[control.resize],
        "Processor Res": control.resolution,
        "Threshold A": control.low,
        "Threshold B": control.high,
        "Guidance Start": plain(control.start),
        "Guidance End": plain(control.end),
        "Pixel Perfect": control.pixel_perfect,
        "Control Mode": CONTROL_MODES[control.mode],
        "Control Type": control.control_type or None,
    }
    return ", ".join(f"{key}: {value}" for key, value in pairs.items() if value is not None)


def _reference(reference: IpAdapter) -> str:
    return (
        f"Module: ip-adapter, Model: {_with_hash(reference.model)}, Weight: {plain(reference.weight)}, "
        f"Guidance Start: {plain(reference.start)}, Guidance End: {plain(reference.end)}"
    )


def _with_hash(ref: ModelRef) -> str:
    digits = model_hash(ref)
    return f"{ref.name} [{digits[:8]}]" if digits else ref.name
