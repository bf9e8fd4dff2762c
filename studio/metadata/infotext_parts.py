"""Writes a recipe's optional parts as fields of A1111's infotext, which has no names for images.

Source: specs/compatibility.md 4a. Numbers are written so that they are read back equal.
"""

from collections.abc import Sequence

from catalog.samplers import SAMPLERS, SCHEDULES
from catalog.upscalers import UPSCALERS
from contract.parts import Hires, InitImage, Mask, SizeConditioning
from contract.recipe import LoraUse, ModelRef, Recipe

SHORT_DIGITS = 10
PROMPT_2, NEGATIVE_PROMPT_2 = "Prompt 2", "Negative prompt 2"
_UNIT_DIGITS = 8  # of a model's hash within a ControlNet unit
_PADDING = Mask.model_fields["padding"].default  # which readers assume where the infotext has none
_IMAGE_GUIDANCE = InitImage.model_fields["image_guidance"].default
CONTENTS = {"fill": "fill", "noise": "latent noise", "nothing": "latent nothing"}
RESIZES = {"stretch": "Just Resize", "crop": "Crop and Resize", "fill": "Resize and Fill", "latent": "Latent"}
SETTINGS = {
    "Eta": "eta",
    "Sigma churn": "s_churn",
    "Sigma tmin": "s_tmin",
    "Sigma tmax": "s_tmax",
    "Sigma noise": "s_noise",
    "Schedule min sigma": "sigma_min",
    "Schedule max sigma": "sigma_max",
    "Schedule rho": "rho",
    "Discard penultimate sigma": "discard_penultimate",
}
# No other program writes these.
TOLD = {f"SDXL {name.replace('_', ' ')}": name for name in SizeConditioning.model_fields}
SOURCES = {"cpu": "CPU", "nv": "NV", "comfyui": "ComfyUI"}
CONTROL_MODES = {
    "balanced": "Balanced",
    "prompt": "My prompt is more important",
    "control": "ControlNet is more important",
}


def format_number(number: float) -> str:
    """A number as people write it, and without a digit lost: 7, 7.5, 0.1."""
    if number == int(number) and abs(number) < 1e15:
        return str(int(number))
    return repr(float(number))


def sampler_label(name: str) -> str:
    """The label of a sampler; an unknown one's name."""
    return SAMPLERS[name].label if name in SAMPLERS else name


def schedule_label(name: str) -> str:
    """The label of a schedule; an unknown one's name."""
    return SCHEDULES[name].label if name in SCHEDULES else name


def upscaler_label(name: str) -> str:
    """The label of a built-in upscaler; a model's name as it is."""
    return UPSCALERS[name].label if name in UPSCALERS else name


def model_hash(ref: ModelRef) -> str:
    """The short hash by which other programs recognize a file; "" while it isn't known."""
    return ref.sha256[:SHORT_DIGITS] if ref.sha256 else ""


def lora_tags(loras: Sequence[LoraUse]) -> str:
    """LoRAs as tags of a prompt."""
    tags: list[str] = []
    for lora in loras:
        arguments = [lora.model.name]
        if lora.text_weight is not None:
            arguments.append(format_number(lora.text_weight))
        arguments.append(format_number(lora.weight))
        if lora.blocks:
            arguments.append(f"lbw={','.join(map(format_number, lora.blocks))}")
        tags.append(f"<lora:{':'.join(arguments)}>")
    return " ".join(tags)


def with_tags(prompt: str, tags: str) -> str:
    """A prompt with tags behind it; behind a comment they would be part of that."""
    separator = "\n" if "#" in prompt.rpartition("\n")[2] else " "
    return separator.join(filter(None, (prompt, tags)))


def part_pairs(recipe: Recipe) -> dict[str, object]:
    """Keys and values of the parts that are there, in the field's order."""
    pairs: dict[str, object] = {}
    init_image = recipe.init_image
    if init_image:
        pairs["Denoising strength"] = format_number(init_image.strength)
        if init_image.resize != "crop":
            pairs["Resize mode"] = RESIZES[init_image.resize]
        if init_image.image_guidance != _IMAGE_GUIDANCE:
            pairs["Image CFG scale"] = format_number(init_image.image_guidance)
        extend = init_image.outpaint
        if extend:
            pairs["Outpaint"] = f"left {extend.left} right {extend.right} up {extend.up} down {extend.down}"
    if recipe.mask:
        mask_pairs: dict[str, object] = {"Mask blur": recipe.mask.blur}
        if recipe.mask.invert:
            mask_pairs["Mask mode"] = "Inpaint not masked"
        if recipe.mask.content in CONTENTS:
            mask_pairs["Masked content"] = CONTENTS[recipe.mask.content]
        if recipe.mask.area == "masked":
            mask_pairs["Inpaint area"] = "Only masked"
            if recipe.mask.padding != _PADDING:
                mask_pairs["Masked area padding"] = recipe.mask.padding
        if recipe.mask.soft:
            mask_pairs["Soft inpainting enabled"] = True
        pairs |= mask_pairs
    if recipe.hires:
        pairs |= _hires_pairs(recipe.hires, has_init_image=init_image is not None)
    units: list[dict[str, object]] = []  # each as ControlNet's extension writes it
    for control in recipe.controls:
        unit: dict[str, object] = {
            "Module": control.preprocessor,
            "Model": _with_hash(control.model, _UNIT_DIGITS) if control.model else "None",
            "Weight": format_number(control.weight),
            "Resize Mode": RESIZES[control.resize],
            "Processor Res": control.resolution,
            "Threshold A": control.low,
            "Threshold B": control.high,
            "Guidance Start": format_number(control.start),
            "Guidance End": format_number(control.end),
            "Pixel Perfect": control.pixel_perfect,
            "Control Mode": CONTROL_MODES[control.mode],
            "Control Type": control.control_type or None,
        }
        units.append({key: value for key, value in unit.items() if value is not None})
    for adapter in recipe.ip_adapters:
        unit = {
            "Module": "ip-adapter",
            "Model": _with_hash(adapter.model, _UNIT_DIGITS),
            "Weight": format_number(adapter.weight),
            "Guidance Start": format_number(adapter.start),
            "Guidance End": format_number(adapter.end),
        }
        units.append(unit)
    for index, unit in enumerate(units):
        pairs[f"ControlNet {index}"] = ", ".join(f"{key}: {value}" for key, value in unit.items())
    refiner = recipe.refiner
    if refiner:
        pairs["Refiner"] = _with_hash(refiner.model, SHORT_DIGITS)
        pairs["Refiner switch at"] = format_number(refiner.at)
    for key, name in TOLD.items():
        value = getattr(recipe.size_conditioning, name, None)
        if value is not None:
            pairs[key] = format_number(value)
    return pairs


def noise_pairs(recipe: Recipe) -> dict[str, object]:
    """What differs from the sampler's own settings and from the usual noise, in A1111's words."""
    pairs: dict[str, object] = {}
    settings, noise = recipe.sampling, recipe.noise
    for key, name in SETTINGS.items():
        value = getattr(settings, name, None)
        if value is not None:
            pairs[key] = value if isinstance(value, bool) else format_number(value)
    if noise is None:
        return pairs
    if noise.source in SOURCES:
        pairs["RNG"] = SOURCES[noise.source]
    if noise.eta_seed_delta:
        pairs["ENSD"] = noise.eta_seed_delta
    if noise.batch_index:
        pairs["Batch index"] = noise.batch_index
    if noise.variation_strength:
        pairs["Variation seed"] = noise.variation_seed
        pairs["Variation seed strength"] = format_number(noise.variation_strength)
    if noise.resize_width:
        pairs["Seed resize from"] = f"{noise.resize_width}x{noise.resize_height}"
    return pairs


def _hires_pairs(hires: Hires, *, has_init_image: bool) -> dict[str, object]:
    upscaler = hires.upscaler if isinstance(hires.upscaler, str) else hires.upscaler.name
    # An init image has a strength too, which then keeps A1111's key.
    strength_key = "Hires strength" if has_init_image else "Denoising strength"
    pairs: dict[str, object] = {
        strength_key: format_number(hires.strength),
        "Hires upscale": format_number(hires.scale),
    }
    if hires.steps is not None:
        pairs["Hires steps"] = hires.steps
    pairs["Hires upscaler"] = upscaler_label(upscaler)
    if hires.sampler:
        pairs["Hires sampler"] = sampler_label(hires.sampler)
    if hires.schedule:
        pairs["Hires schedule type"] = schedule_label(hires.schedule)
    if hires.guidance is not None:
        pairs["Hires CFG Scale"] = format_number(hires.guidance)
    if hires.prompt is not None:
        pairs["Hires prompt"] = hires.prompt
    if hires.negative_prompt is not None:
        pairs["Hires negative prompt"] = hires.negative_prompt
    return pairs


def _with_hash(ref: ModelRef, length: int) -> str:
    digits = model_hash(ref)[:length]
    if not digits:
        return ref.name
    return f"{ref.name} [{digits}]"
