"""Parses JSON to a draft or a task, or raises one sentence that names the field and the remedy.

pydantic finds the problem; this module words the error. Nothing is clamped or repaired.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from contract.errors import InvalidRecipe, code_of
from contract.parts import (
    AESTHETIC_SCORE,
    BATCH,
    BLOCK_COUNTS,
    CHURN,
    CONTROL_RESOLUTION,
    EXTENSION,
    HIRES_SCALE,
    IMAGE_GUIDANCE,
    MASK_BLUR,
    MAX_CONTROLS,
    MAX_EMBEDDINGS,
    MAX_HYPERNETWORKS,
    MAX_IP_ADAPTERS,
    MAX_LORAS,
    NOISE_FACTOR,
    OVERLAP,
    PADDING,
    RHO,
    SIGMA,
    TOLD_PIXELS,
)
from contract.recipe import RecipeDraft
from contract.regions import MAX_REGIONS, REGION_WEIGHT
from contract.tasks import TILE, TILE_OVERLAP, UPSCALE, Preprocess, Upscale
from contract.values import (
    CLIP_SKIP,
    COUNT,
    GUIDANCE,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    MAX_STYLES,
    SIDE,
    SIDE_MULTIPLE,
    STEPS,
    Frozen,
    Rule,
)

Read = TypeVar("Read", bound=Frozen)
Location = tuple[int | str, ...]
_MEMBERS = ("ModelRef", "str", "float")  # pydantic's names for the members of a union
_OBJECT, _LIST = "an object", "a list"
# The kind of JSON value that a field needs, by pydantic's error type.
_CONTAINERS: Mapping[str, str] = {
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dict_type": _OBJECT,
    "tuple_type": _LIST,
    "list_type": _LIST,
}

LABELS: Mapping[str, str] = {
    "prompt": "Prompt",
    "negative_prompt": "Negative prompt",
    "prompt_2": "Second prompt",
    "negative_prompt_2": "Second negative prompt",
    "model": "Model",
    "sampler": "Sampler",
    "schedule": "Schedule",
    "steps": "Steps",
    "guidance": "Guidance",
    "clip_skip": "Clip skip",
    "emphasis": "Emphasis",
    "tiling": "Tiling",
    "styles": "Styles",
    "dynamic": "Dynamic prompt",
    "template": "Template",
    "width": "Width",
    "height": "Height",
    "seed": "Seed",
    "count": "Pictures",
    "parent": "Parent",
    "init_image": "Start picture",
    "init_image.image": "Start picture",
    "init_image.strength": "Strength",
    "init_image.resize": "Resize mode",
    "init_image.outpaint.left": "Left",
    "init_image.outpaint.right": "Right",
    "init_image.outpaint.up": "Up",
    "init_image.outpaint.down": "Down",
    "init_image.outpaint.overlap": "Overlap",
    "init_image.outpaint.content": "New area",
    "init_image.image_guidance": "Image guidance",
    "init_image.depth": "Depth picture",
    "mask": "Mask",
    "mask.image": "Mask",
    "mask.blur": "Mask blur",
    "mask.content": "Masked content",
    "mask.area": "Inpaint area",
    "mask.padding": "Padding",
    "mask.invert": "Change what is not painted",
    "mask.soft": "Soft inpainting",
    "controls": "ControlNet",
    "controls.image": "Control picture",
    "controls.model": "Control model",
    "controls.preprocessor": "Preprocessor",
    "controls.resolution": "Resolution",
    "controls.low": "Low threshold",
    "controls.high": "High threshold",
    "controls.resize": "Resize mode",
    "controls.weight": "Control weight",
    "controls.start": "Control begin",
    "controls.end": "Control end",
    "controls.mode": "Control mode",
    "controls.control_type": "What the map shows",
    "controls.pixel_perfect": "Pixel perfect",
    "ip_adapters": "Picture as prompt",
    "ip_adapters.image": "Picture as prompt",
    "ip_adapters.model": "IP-Adapter",
    "ip_adapters.weight": "Picture weight",
    "ip_adapters.start": "Begin",
    "ip_adapters.end": "End",
    "vae": "VAE",
    "loras": "LoRA",
    "loras.model": "LoRA",
    "loras.weight": "LoRA weight",
    "loras.text_weight": "LoRA text weight",
    "loras.blocks": "LoRA block weights",
    "hypernetworks": "Hypernetwork",
    "hypernetworks.model": "Hypernetwork",
    "hypernetworks.weight": "Hypernetwork weight",
    "embeddings": "Embedding",
    "guidance_methods": "Guidance method",
    "guidance_methods.id": "Guidance method",
    "guidance_methods.values": "Guidance method",
    "regions": "Regions",
    "regions.base": "Base share",
    "regions.common": "Common words first",
    "regions.regions": "Region",
    "regions.regions.prompt": "Region prompt",
    "regions.regions.negative_prompt": "Region negative prompt",
    "regions.regions.weight": "Region weight",
    "regions.regions.box": "Region box",
    "regions.regions.box.left": "Left",
    "regions.regions.box.top": "Top",
    "regions.regions.box.width": "Box width",
    "regions.regions.box.height": "Box height",
    "regions.regions.mask": "Region mask",
    "regions.regions.loras": "LoRA",
    "regions.regions.loras.model": "LoRA",
    "regions.regions.loras.weight": "LoRA weight",
    "regions.regions.loras.text_weight": "LoRA text weight",
    "regions.regions.loras.blocks": "LoRA block weights",
    "hires": "Hires pass",
    "hires.scale": "Upscale by",
    "hires.upscaler": "Upscaler",
    "hires.steps": "Hires steps",
    "hires.strength": "Hires strength",
    "hires.sampler": "Hires sampler",
    "hires.schedule": "Hires schedule",
    "hires.guidance": "Hires guidance",
    "hires.guidance_methods": "Hires guidance method",
    "hires.prompt": "Hires prompt",
    "hires.negative_prompt": "Hires negative prompt",
    "refiner": "Refiner",
    "refiner.model": "Refiner",
    "refiner.at": "Switch at",
    "size_conditioning": "Size conditioning",
    "size_conditioning.original_width": "Original width",
    "size_conditioning.original_height": "Original height",
    "size_conditioning.crop_left": "Crop left",
    "size_conditioning.crop_top": "Crop top",
    "size_conditioning.target_width": "Target width",
    "size_conditioning.target_height": "Target height",
    "size_conditioning.aesthetic_score": "Aesthetic score",
    "size_conditioning.negative_aesthetic_score": "Negative aesthetic score",
    "sampling": "Sampling",
    "sampling.eta": "Eta",
    "sampling.s_churn": "Sigma churn",
    "sampling.s_tmin": "Sigma tmin",
    "sampling.s_tmax": "Sigma tmax",
    "sampling.s_noise": "Sigma noise",
    "sampling.sigma_min": "Smallest sigma",
    "sampling.sigma_max": "Largest sigma",
    "sampling.rho": "Rho",
    "sampling.discard_penultimate": "Discard penultimate sigma",
    "noise": "Noise",
    "noise.source": "Noise as in",
    "noise.eta_seed_delta": "ENSD",
    "noise.variation_seed": "Variation seed",
    "noise.variation_strength": "Variation strength",
    "noise.walk_from": "Walk from strength",
    "noise.resize_width": "Seed width",
    "noise.resize_height": "Seed height",
    "noise.batch_index": "Place in the batch",
    "init_image.outpaint": "Outpainting",
    "extras": "Extras",
    "image": "Picture",
    "upscaler": "Upscaler",
    "scale": "Upscale by",
    "tile": "Tile",
    "overlap": "Tile overlap",
    "preprocessor": "Preprocessor",
    "resolution": "Resolution",
    "low": "Low threshold",
    "high": "High threshold",
}
# Several of a part, as a sentence counts them.
_SEVERAL: Mapping[str, str] = {
    "controls": "ControlNet units",
    "ip_adapters": "pictures as prompt",
    "loras": "LoRAs",
    "loras.blocks": "block weights",
    "hypernetworks": "hypernetworks",
    "embeddings": "embeddings",
    "guidance_methods": "guidance methods",
    "guidance_methods.values": "values of a guidance method",
    "regions.regions": "regions",
    "regions.regions.loras": "LoRAs of a region",
    "regions.regions.loras.blocks": "block weights",
    "hires.guidance_methods": "guidance methods",
    "hires.guidance_methods.values": "values of a guidance method",
    "files": "files",
}
_MODEL_TASK_LABELS: Mapping[str, str] = {
    "source": "Repository",
    "files": "File",
    "kind": "Kind",
    "name": "Name",
    "revision": "Revision",
    "method": "Method",
    "a": "Model A",
    "b": "Model B",
    "c": "Model C",
    "ratio": "Ratio",
    "dtype": "Precision",
    "schema": "Schema",
    "type": "Type",
}
_SIDE = f"Use {SIDE[0]} to {SIDE[1]}, a multiple of {SIDE_MULTIPLE}."
_EXTENSION = f"Use {EXTENSION[0]} to {EXTENSION[1]}, a multiple of {SIDE_MULTIPLE}."
_PICTURE = "Use a picture that is here: add it again."
_FRACTION = "Use a number, 0 to 1."
_TOLD = f"Use {TOLD_PIXELS[0]} to {TOLD_PIXELS[1]:,} pixels, or leave it out."
_SCORE = f"Use a number, {AESTHETIC_SCORE[0]:g} to {AESTHETIC_SCORE[1]:g}, or leave it out."
_SPAN = "Use a fraction of the steps, 0 to 1."
_THRESHOLD = "Use a number, 0 to 255, or leave it out."
_WEIGHT = "Use a number, -10 to 10."
_PREPROCESSOR = "Use one of the list of preprocessors."
_CHECKPOINT = "Use one of the checkpoints that are there."
_TEXT = f"Use at most {MAX_PROMPT_CHARACTERS:,} characters of plain text."
_SWITCH = "Use true or false."
_RESOLUTION = f"Use {CONTROL_RESOLUTION[0]} to {CONTROL_RESOLUTION[1]}, or leave it out."
_SIGMA = f"Use {SIGMA[0]:g} to {SIGMA[1]:g}, or leave it out."
_EXTENT = "Use a number over 0, at most 1."
_TEXT_WEIGHT = "Use a number, -10 to 10, or leave it out."
_BLOCKS = f"Use {', '.join(map(str, BLOCK_COUNTS[:-1]))} or {BLOCK_COUNTS[-1]} numbers, -10 to 10, or none."
_RANGES: Mapping[str, str] = {
    "steps": f"Use a whole number, {STEPS[0]} to {STEPS[1]}.",
    "guidance": f"Use a number, {GUIDANCE[0]:g} to {GUIDANCE[1]:g}.",
    "clip_skip": f"Use {CLIP_SKIP[0]} to {CLIP_SKIP[1]}.",
    "emphasis": "Use original, no_norm, comfyui, ignore or none.",
    "tiling": "Use x, y or xy, or leave it out.",
    "styles": f"Use a list of at most {MAX_STYLES} names of styles.",
    "dynamic": _SWITCH,
    "template": "Use an object with prompt, negative_prompt and styles, or leave it out.",
    "width": _SIDE,
    "height": _SIDE,
    "seed": f"Use 0 to {MAX_SEED}, or leave it out for a random one.",
    "count": f"Use a whole number, {COUNT[0]} to {COUNT[1]}.",
    "prompt": _TEXT,
    "negative_prompt": _TEXT,
    "prompt_2": _TEXT,
    "negative_prompt_2": _TEXT,
    "model": "Use one of the models that are there.",
    "sampler": "Use one of the list of samplers.",
    "schedule": "Use one of the list of schedules.",
    "parent": "Use the id of a picture.",
    "init_image": _PICTURE,
    "init_image.image": _PICTURE,
    "init_image.image.sha256": _PICTURE,
    "init_image.strength": _FRACTION,
    "init_image.resize": "Use stretch, crop, fill or latent.",
    "init_image.outpaint.left": _EXTENSION,
    "init_image.outpaint.right": _EXTENSION,
    "init_image.outpaint.up": _EXTENSION,
    "init_image.outpaint.down": _EXTENSION,
    "init_image.outpaint.overlap": f"Use {OVERLAP[0]} to {OVERLAP[1]} pixels.",
    "init_image.outpaint.content": "Use fill, noise or nothing.",
    "init_image.image_guidance": f"Use a number, {IMAGE_GUIDANCE[0]:g} to {IMAGE_GUIDANCE[1]:g}.",
    "init_image.depth": _PICTURE,
    "init_image.depth.sha256": _PICTURE,
    "mask": _PICTURE,
    "mask.image": _PICTURE,
    "mask.image.sha256": _PICTURE,
    "mask.blur": f"Use {MASK_BLUR[0]} to {MASK_BLUR[1]} pixels.",
    "mask.content": "Use fill, original, noise or nothing.",
    "mask.area": "Use whole or masked.",
    "mask.padding": f"Use {PADDING[0]} to {PADDING[1]} pixels.",
    "mask.invert": _SWITCH,
    "mask.soft": _SWITCH,
    "controls": f"Use a list of at most {MAX_CONTROLS}.",
    "controls.image": _PICTURE,
    "controls.image.sha256": _PICTURE,
    "controls.model": "Use a ControlNet or a T2I-Adapter that is there.",
    "controls.preprocessor": _PREPROCESSOR,
    "controls.resolution": _RESOLUTION,
    "controls.low": _THRESHOLD,
    "controls.high": _THRESHOLD,
    "controls.resize": "Use stretch, crop or fill.",
    "controls.weight": _WEIGHT,
    "controls.start": _SPAN,
    "controls.end": _SPAN,
    "controls.mode": "Use balanced, prompt or control.",
    "controls.control_type": "Use one of those that the model knows, or leave it out.",
    "controls.pixel_perfect": _SWITCH,
    "ip_adapters": f"Use a list of at most {MAX_IP_ADAPTERS}.",
    "ip_adapters.image": _PICTURE,
    "ip_adapters.image.sha256": _PICTURE,
    "ip_adapters.model": "Use an IP-Adapter that is there.",
    "ip_adapters.weight": _WEIGHT,
    "ip_adapters.start": _SPAN,
    "ip_adapters.end": _SPAN,
    "preprocessor": _PREPROCESSOR,
    "vae": "Use a VAE that is there, or leave it out for the model's own.",
    "loras": f"Use a list of at most {MAX_LORAS}.",
    "loras.model": "Use a LoRA that is there.",
    "loras.weight": _WEIGHT,
    "loras.text_weight": _TEXT_WEIGHT,
    "loras.blocks": _BLOCKS,
    "hypernetworks": f"Use a list of at most {MAX_HYPERNETWORKS}.",
    "hypernetworks.model": "Use a hypernetwork that is there.",
    "hypernetworks.weight": _WEIGHT,
    "embeddings": f"Use a list of at most {MAX_EMBEDDINGS}, or leave it out: names in the prompt are enough.",
    "guidance_methods": 'Use a list of objects like {"id": "pag", "values": {"scale": 3}}, or leave it out.',
    "guidance_methods.id": "Use one of the list of guidance methods.",
    "guidance_methods.values": "Use an object with numbers and words by the names of the method's values.",
    "regions": 'Use an object: {"regions": [{"prompt": …, "box": …}]} at least, or leave it out.',
    "regions.base": _FRACTION,
    "regions.common": _SWITCH,
    "regions.regions": f"Use a list of 1 to {MAX_REGIONS} regions, each with a prompt and a box or a mask.",
    "regions.regions.prompt": _TEXT,
    "regions.regions.negative_prompt": f"{_TEXT[:-1]}, or leave it out for the picture's own.",
    "regions.regions.weight": f"Use a number, {REGION_WEIGHT[0]:g} to {REGION_WEIGHT[1]:g}.",
    "regions.regions.box": "Use left, top, width and height in fractions of the picture, 0 to 1.",
    "regions.regions.box.left": _FRACTION,
    "regions.regions.box.top": _FRACTION,
    "regions.regions.box.width": _EXTENT,
    "regions.regions.box.height": _EXTENT,
    "regions.regions.mask": _PICTURE,
    "regions.regions.loras": f"Use a list of at most {MAX_LORAS}.",
    "regions.regions.loras.model": "Use a LoRA that is there.",
    "regions.regions.loras.weight": _WEIGHT,
    "regions.regions.loras.text_weight": _TEXT_WEIGHT,
    "regions.regions.loras.blocks": _BLOCKS,
    "hires": 'Use an object: {"scale": 2.0} at least, or leave it out.',
    "hires.upscaler": "Use an upscaler of the list.",
    "hires.sampler": "Use one of the list of samplers, or leave it out.",
    "hires.schedule": "Use one of the list of schedules, or leave it out.",
    "hires.guidance": f"Use a number, {GUIDANCE[0]:g} to {GUIDANCE[1]:g}, or leave it out.",
    "hires.guidance_methods": "Use a list as of guidance_methods, or leave it out to take those of the first pass.",
    "hires.prompt": _TEXT,
    "hires.negative_prompt": _TEXT,
    "refiner": 'Use an object: {"model": "a checkpoint of the same latents"} at least, or leave it out.',
    "refiner.model": "Use a checkpoint that is there.",
    "refiner.at": "Use a share of the noise levels, 0 to 1.",
    "size_conditioning": "Use an object with what is not as the picture is, or leave it out.",
    "size_conditioning.original_width": _TOLD,
    "size_conditioning.original_height": _TOLD,
    "size_conditioning.crop_left": _TOLD,
    "size_conditioning.crop_top": _TOLD,
    "size_conditioning.target_width": _TOLD,
    "size_conditioning.target_height": _TOLD,
    "size_conditioning.aesthetic_score": _SCORE,
    "size_conditioning.negative_aesthetic_score": _SCORE,
    "init_image.outpaint": "Use an object with left, right, up or down in pixels.",
    "sampling": "Use an object with what differs from the sampler's own, or leave it out.",
    "sampling.eta": "Use a number, 0 to 1, or leave it out.",
    "sampling.s_churn": f"Use {CHURN[0]:g} to {CHURN[1]:g}, or leave it out.",
    "sampling.s_tmin": f"Use 0 to {SIGMA[1]:g}, or leave it out.",
    "sampling.s_tmax": f"Use 0 to {SIGMA[1]:g}, or leave it out.",
    "sampling.s_noise": f"Use {NOISE_FACTOR[0]:g} to {NOISE_FACTOR[1]:g}, or leave it out.",
    "sampling.sigma_min": _SIGMA,
    "sampling.sigma_max": _SIGMA,
    "sampling.rho": f"Use {RHO[0]:g} to {RHO[1]:g}, or leave it out.",
    "sampling.discard_penultimate": "Use true or false, or leave it out.",
    "noise": "Use an object with what differs from the usual noise, or leave it out.",
    "noise.source": "Use darkroom, cpu, nv or comfyui.",
    "noise.eta_seed_delta": f"Use a whole number, 0 to {2**31}.",
    "noise.variation_seed": f"Use 0 to {MAX_SEED}, or leave it out for a random one.",
    "noise.variation_strength": _FRACTION,
    "noise.walk_from": "Use a number, 0 to 1, or leave it out.",
    "noise.resize_width": f"{_SIDE[:-1]}, or leave it out.",
    "noise.resize_height": f"{_SIDE[:-1]}, or leave it out.",
    "noise.batch_index": f"Use {BATCH[0]} to {BATCH[1]}, counted from 0.",
    "extras": "Use an object with what each extension wants by its name.",
    "schema": "Use 1, or leave it out.",
    "type": "Leave it out.",
    "upscaler": "Use an upscaler of the list.",
    "hires.scale": f"Use more than {HIRES_SCALE[0]:g}, at most {HIRES_SCALE[1]:g}.",
    "hires.steps": f"Use a whole number, {STEPS[0]} to {STEPS[1]}, or leave it out.",
    "hires.strength": _FRACTION,
    "image": _PICTURE,
    "image.sha256": _PICTURE,
    "scale": f"Use {UPSCALE[0]:g} to {UPSCALE[1]:g}.",
    "tile": f"Use {TILE[0]} to {TILE[1]} pixels.",
    "overlap": f"Use {TILE_OVERLAP[0]} to {TILE_OVERLAP[1]} pixels.",
    "resolution": _RESOLUTION,
    "low": _THRESHOLD,
    "high": _THRESHOLD,
    "source": "Use owner/model, as it stands on huggingface.co.",
    "files": "Use a list of paths within the repository.",
    "kind": "Use checkpoint, vae, lora, controlnet, t2i_adapter, ip_adapter, embedding or upscaler.",
    "name": "Use a short plain name, without /.",
    "revision": "Use main, or a commit.",
    "method": "Use weighted or add_difference.",
    "a": _CHECKPOINT,
    "b": _CHECKPOINT,
    "c": _CHECKPOINT,
    "ratio": _FRACTION,
    "dtype": "Use float16, bfloat16 or float32.",
}


def range_hint(field: str) -> str:
    """The values that a field accepts, as the sentence that follows "<Label> is <value>."."""
    return _RANGES[field]


def parse_draft(raw: str | bytes) -> RecipeDraft:
    """Read a draft from JSON text.

    Raises:
        InvalidRecipe: with code invalid_<field>, a sentence with the value, and a hint.
    """
    return _parse(RecipeDraft, raw, "recipe")


def parse_upscale(raw: str | bytes) -> Upscale:
    """Read an upscale from JSON text. Raises InvalidRecipe as `parse_draft`."""
    return _parse(Upscale, raw, "task")


def parse_preprocess(raw: str | bytes) -> Preprocess:
    """Read a preprocessor's preview from JSON text. Raises InvalidRecipe as `parse_draft`."""
    return _parse(Preprocess, raw, "task")


def parse_request(kind: type[Read], raw: str | bytes) -> Read:
    """Read a model task, or another small request, from JSON text. Raises InvalidRecipe as `parse_draft`."""
    return _parse(kind, raw, "request")


def _parse(kind: type[Read], raw: str | bytes, name: str) -> Read:
    try:
        return kind.read(raw) if issubclass(kind, RecipeDraft) else kind.model_validate_json(raw)
    except ValidationError as error:
        raise _half_character(raw) or _worded(error, kind, name) from None
    except UnicodeError:
        raise InvalidRecipe(f"The {name} is not UTF-8 text.", "Send JSON as UTF-8.") from None


def _worded(error: ValidationError, kind: type[Frozen], name: str) -> InvalidRecipe:
    problem = _main_problem(error)
    location: Location = problem["loc"]
    rule = problem.get("ctx", {}).get("error")
    if isinstance(rule, Rule):
        return _broken_rule(rule, location)
    if problem["type"] == "json_invalid":
        cause = problem["msg"].removeprefix("Invalid JSON: ")[:120]
        return InvalidRecipe(f"The {name} is not JSON: {cause}.", "Send UTF-8 JSON.")
    if not location:
        required = [field for field, facts in kind.model_fields.items() if facts.is_required()]
        return InvalidRecipe(f"The {name} is not a JSON object.", f'Send {{"{required[0]}": …}} at least.')
    field = _dotted_path(location)
    shown = ".".join(str(part) for part in location if part not in _MEMBERS)[:120]
    if problem["type"] == "extra_forbidden":
        return InvalidRecipe(
            f"“{shown}” is not a field of a {name}.", "Leave it out.", code="unknown_field", field=field
        )
    code = code_of(field)[:130]
    if problem["type"] == "missing":
        return InvalidRecipe(f"“{shown}” is missing.", "Add it.", code=code, field=field)
    message, hint = _message_and_hint(field, problem)
    value = problem["input"]
    is_side = field in ("width", "height") and type(value) is int
    if not is_side or not SIDE[0] < value < SIDE[1]:
        return InvalidRecipe(message, hint, code=code, field=field)
    lower = value // SIDE_MULTIPLE * SIDE_MULTIPLE
    higher = lower + SIDE_MULTIPLE
    hint = f"Use a multiple of {SIDE_MULTIPLE}: {lower} or {higher}."
    return InvalidRecipe(message, hint, code=code, field=field, fix={field: higher})


def _main_problem(error: ValidationError) -> Any:
    """The first problem; for a union that got an object, the one of its object and not of its text."""
    problems = error.errors(include_url=False)
    first = problems[0]
    if not isinstance(first["input"], dict) or first["type"] != "string_type":
        return first
    union = first["loc"][:-1]
    for other in problems:
        if other["loc"][: len(union)] == union and "ModelRef" in other["loc"]:
            return other
    return first


def _message_and_hint(field: str, problem: Mapping[str, Any]) -> tuple[str, str]:
    path, value = _without_indexes(field), problem["input"]
    if problem["type"] == "too_long":
        limits = problem["ctx"]
        return (
            f"{limits['actual_length']} {_SEVERAL.get(path, 'entries')} are asked for.",
            f"Use at most {limits['max_length']}.",
        )
    message = f"{_numbered_label(field)} is {_short_value(value)}."
    if problem["type"] == "too_short":
        message = f"“{path}” is an empty list."
    if problem["type"] in _CONTAINERS:
        wanted = _CONTAINERS[problem["type"]]
        message = f"{_numbered_label(field)} has to be {wanted} in the request, and is {_short_value(value)}."
    while path and path not in _RANGES:  # a field without a hint has that of the part around it
        path = path.rpartition(".")[0]
    return message, _RANGES.get(path, "Leave it out.")


def _half_character(raw: str | bytes) -> InvalidRecipe | None:
    """The refusal of a text with half a surrogate pair, which JSON can't carry; it names the field with the text."""
    try:
        found = next(_broken_texts(json.loads(raw), ()), None)
    except (ValueError, RecursionError):
        return None
    if found is None:
        return None
    location, at = found
    field = _dotted_path(location)
    label = _numbered_label(field) if field else "The request"
    return InvalidRecipe(
        f"{label} has half of a character at place {at + 1}: it was cut in two.",
        "Delete it there and type it again.",
        code=code_of(field)[:130] if field else None,
        field=field,
    )


def _broken_texts(value: object, location: Location) -> Iterator[tuple[Location, int]]:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            yield location, error.start
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _broken_texts(name, location)
            yield from _broken_texts(inner, (*location, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _broken_texts(inner, (*location, index))


def _broken_rule(rule: Rule, location: Location) -> InvalidRecipe:
    path = _dotted_path(location)
    field = ".".join(filter(None, (path, rule.field)))
    message = rule.message
    indexes = [place for place, part in enumerate(location) if isinstance(part, int)]
    if indexes:  # a member of a list: "LoRA 2: it has 3 block weights."
        member = _numbered_label(_dotted_path(location[: indexes[-1] + 1]))
        message = f"{member}: {message[0].lower()}{message[1:]}"
    return InvalidRecipe(message, rule.hint, code=code_of(field), field=field)


def _dotted_path(location: Sequence[int | str]) -> str:
    """A dotted path with its indexes, without pydantic's names for the members of a union."""
    names = []
    for part in location:
        is_name = isinstance(part, str) and part.isidentifier() and part.isascii() and part not in _MEMBERS
        if is_name or isinstance(part, int):
            names.append(str(part))
    return ".".join(names)[:120]


def _without_indexes(field: str) -> str:
    """The path as labels and ranges have it."""
    return ".".join(name for name in field.split(".") if not name.isdigit())


def _label(path: str) -> str:
    """The page's label of a field; a picture's sha256 has that of the field around it, others their path."""
    if path in LABELS or path in _MODEL_TASK_LABELS:
        return LABELS.get(path) or _MODEL_TASK_LABELS[path]
    if path.endswith((".sha256", ".image")):
        return _label(path.rpartition(".")[0])
    return f"“{path[:60]}”"


def _numbered_label(field: str) -> str:
    """The label, with the number of the part where the field is a member of a list: "LoRA 2"."""
    label = _label(_without_indexes(field))
    last = field.rpartition(".")[2]
    return f"{label} {int(last) + 1}" if last.isdigit() else label


def _short_value(value: object) -> str:
    if isinstance(value, str):
        return f"{len(value):,} characters long" if len(value) > 40 else f"“{value}”"
    if isinstance(value, list):
        return _LIST
    if isinstance(value, dict):
        return _OBJECT
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if len(text) <= 30 else f"{text[:12]}… ({len(text)} digits)"
