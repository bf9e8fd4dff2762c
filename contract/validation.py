"""From JSON text to a draft or a task, or one sentence that names the field and the remedy.

pydantic finds what is wrong; this page says it in words. Nothing is clamped or repaired.
"""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from contract.errors import InvalidRecipe
from contract.parts import (
    BLOCK_COUNTS,
    CONTROL_RESOLUTION,
    EXTENSION,
    FEATHER,
    HIRES_SCALE,
    IMAGE_GUIDANCE,
    MAX_CONTROLS,
    MAX_EMBEDDINGS,
    MAX_HYPERNETWORKS,
    MAX_LORAS,
    MAX_REFERENCES,
    OVERLAP,
    PADDING,
)
from contract.recipe import RecipeDraft
from contract.tasks import TILE, TILE_OVERLAP, UPSCALE, Preprocess, Upscale
from contract.values import (
    CLIP_SKIP,
    COUNT,
    GUIDANCE,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    SIDE,
    SIDE_MULTIPLE,
    STEPS,
    Frozen,
    Rule,
)

Read = TypeVar("Read", bound=Frozen)
_MEMBERS = ("ModelRef", "str")

LABELS: Mapping[str, str] = {
    "prompt": "Prompt",
    "negative_prompt": "Negative prompt",
    "model": "Model",
    "sampler": "Sampler",
    "schedule": "Schedule",
    "steps": "Steps",
    "guidance": "Guidance",
    "clip_skip": "Clip skip",
    "width": "Width",
    "height": "Height",
    "seed": "Seed",
    "count": "Pictures",
    "parent": "Parent",
    "start": "Start picture",
    "start.image": "Start picture",
    "start.strength": "Strength",
    "start.resize": "Resize mode",
    "start.extend.left": "Left",
    "start.extend.right": "Right",
    "start.extend.up": "Up",
    "start.extend.down": "Down",
    "start.extend.overlap": "Overlap",
    "start.extend.content": "New area",
    "start.image_guidance": "Image guidance",
    "start.depth": "Depth picture",
    "mask": "Mask",
    "mask.image": "Mask",
    "mask.feather": "Mask blur",
    "mask.content": "Masked content",
    "mask.area": "Inpaint area",
    "mask.padding": "Padding",
    "controls": "ControlNet",
    "controls.image": "Control picture",
    "controls.model": "Control model",
    "controls.preprocessor": "Preprocessor",
    "controls.resolution": "Resolution",
    "controls.low": "Low threshold",
    "controls.high": "High threshold",
    "controls.resize": "Resize mode",
    "controls.weight": "Control weight",
    "controls.begin": "Control begin",
    "controls.end": "Control end",
    "controls.mode": "Control mode",
    "controls.shows": "What the map shows",
    "references": "Picture as prompt",
    "references.weight": "Picture weight",
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
    "hires": "Hires pass",
    "hires.scale": "Upscale by",
    "hires.upscaler": "Upscaler",
    "hires.steps": "Hires steps",
    "hires.strength": "Hires strength",
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
_ERRAND_LABELS: Mapping[str, str] = {
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
}
_SIDE = f"Use {SIDE[0]} to {SIDE[1]}, a multiple of {SIDE_MULTIPLE}."
_EXTENSION = f"Use {EXTENSION[0]} to {EXTENSION[1]}, a multiple of {SIDE_MULTIPLE}."
_PICTURE = "Use {\"sha256\": …} as POST /api/v1/inputs gave it."
_FRACTION = "Use a number, 0 to 1."
_SPAN = "Use a fraction of the steps, 0 to 1."
_THRESHOLD = "Use a number, 0 to 255, or leave it out."
_WEIGHT = "Use a number, -10 to 10."
_PREPROCESSOR = "Use a preprocessor from GET /api/v1/preprocessors."
_CHECKPOINT = "Use the name of a checkpoint from GET /api/v1/models."
_RESOLUTION = f"Use {CONTROL_RESOLUTION[0]} to {CONTROL_RESOLUTION[1]}, or leave it out."
_RANGES: Mapping[str, str] = {
    "steps": f"Use a whole number, {STEPS[0]} to {STEPS[1]}.",
    "guidance": f"Use a number, {GUIDANCE[0]:g} to {GUIDANCE[1]:g}.",
    "clip_skip": f"Use {CLIP_SKIP[0]} to {CLIP_SKIP[1]}.",
    "width": _SIDE,
    "height": _SIDE,
    "seed": f"Use 0 to {MAX_SEED}, or leave it out for a random one.",
    "count": f"Use a whole number, {COUNT[0]} to {COUNT[1]}.",
    "prompt": f"Use at most {MAX_PROMPT_CHARACTERS:,} characters of plain text.",
    "negative_prompt": f"Use at most {MAX_PROMPT_CHARACTERS:,} characters of plain text.",
    "model": "Use the name of a model from GET /api/v1/models.",
    "sampler": "Use a sampler from GET /api/v1/samplers.",
    "schedule": "Use a schedule from GET /api/v1/samplers.",
    "parent": "Use the id of a picture.",
    "start": _PICTURE,
    "start.image": _PICTURE,
    "start.image.sha256": _PICTURE,
    "start.strength": _FRACTION,
    "start.resize": "Use stretch, crop, fill or latent.",
    "start.extend.left": _EXTENSION,
    "start.extend.right": _EXTENSION,
    "start.extend.up": _EXTENSION,
    "start.extend.down": _EXTENSION,
    "start.extend.overlap": f"Use {OVERLAP[0]} to {OVERLAP[1]} pixels.",
    "start.extend.content": "Use fill, noise or nothing.",
    "start.image_guidance": f"Use a number, {IMAGE_GUIDANCE[0]:g} to {IMAGE_GUIDANCE[1]:g}.",
    "start.depth": _PICTURE,
    "start.depth.sha256": _PICTURE,
    "mask": _PICTURE,
    "mask.image": _PICTURE,
    "mask.image.sha256": _PICTURE,
    "mask.feather": f"Use {FEATHER[0]} to {FEATHER[1]} pixels.",
    "mask.content": "Use fill, original, noise or nothing.",
    "mask.area": "Use whole or masked.",
    "mask.padding": f"Use {PADDING[0]} to {PADDING[1]} pixels.",
    "controls": f"Use a list of at most {MAX_CONTROLS}.",
    "controls.image": _PICTURE,
    "controls.image.sha256": _PICTURE,
    "controls.model": "Use the name of a ControlNet or T2I-Adapter from GET /api/v1/models.",
    "controls.preprocessor": _PREPROCESSOR,
    "controls.resolution": _RESOLUTION,
    "controls.low": _THRESHOLD,
    "controls.high": _THRESHOLD,
    "controls.resize": "Use stretch, crop or fill.",
    "controls.weight": _WEIGHT,
    "controls.begin": _SPAN,
    "controls.end": _SPAN,
    "controls.mode": "Use balanced, prompt or control.",
    "controls.shows": "Use one of those that the model knows, or leave it out.",
    "references": f"Use a list of at most {MAX_REFERENCES}.",
    "references.image": _PICTURE,
    "references.image.sha256": _PICTURE,
    "references.model": "Use the name of an IP-Adapter from GET /api/v1/models.",
    "references.weight": _WEIGHT,
    "references.begin": _SPAN,
    "references.end": _SPAN,
    "preprocessor": _PREPROCESSOR,
    "vae": "Use the name of a VAE from GET /api/v1/models, or leave it out for the model's own.",
    "loras": f"Use a list of at most {MAX_LORAS}.",
    "loras.model": "Use the name of a LoRA from GET /api/v1/models.",
    "loras.weight": _WEIGHT,
    "loras.text_weight": "Use a number, -10 to 10, or leave it out.",
    "loras.blocks": f"Use {', '.join(map(str, BLOCK_COUNTS[:-1]))} or {BLOCK_COUNTS[-1]} numbers, -10 to 10, or none.",
    "hypernetworks": f"Use a list of at most {MAX_HYPERNETWORKS}.",
    "hypernetworks.model": "Use the name of a hypernetwork from GET /api/v1/models.",
    "hypernetworks.weight": _WEIGHT,
    "embeddings": f"Use a list of at most {MAX_EMBEDDINGS}, or leave it out: names in the prompt are enough.",
    "hires": 'Use an object: {"scale": 2.0} at least, or leave it out.',
    "hires.upscaler": "Use the name of an upscaler from GET /api/v1/upscalers.",
    "upscaler": "Use the name of an upscaler from GET /api/v1/upscalers.",
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
    """What a field accepts, as the sentence that follows "<Label> is <value>."."""
    return _RANGES[field]


def parse_draft(raw: str | bytes) -> RecipeDraft:
    """Read a draft from JSON text.

    Raises:
        InvalidRecipe: with code invalid_<field>, a sentence with the value, and what to use.
    """
    return _parse(RecipeDraft, raw, "recipe")


def parse_upscale(raw: str | bytes) -> Upscale:
    """Read an upscale from JSON text. Raises InvalidRecipe as `parse_draft`."""
    return _parse(Upscale, raw, "task")


def parse_preprocess(raw: str | bytes) -> Preprocess:
    """Read a preprocessor's preview from JSON text. Raises InvalidRecipe as `parse_draft`."""
    return _parse(Preprocess, raw, "task")


def parse(kind: type[Read], raw: str | bytes) -> Read:
    """Read an errand, or another small request, from JSON text. Raises InvalidRecipe as `parse_draft`."""
    return _parse(kind, raw, "request")


def _parse(kind: type[Read], raw: str | bytes, name: str) -> Read:
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise _in_words(error, kind, name) from None
    except UnicodeError:
        raise InvalidRecipe(f"The {name} is not UTF-8 text.", "Send JSON as UTF-8.") from None


def _in_words(error: ValidationError, kind: type[Frozen], name: str) -> InvalidRecipe:
    problem = error.errors(include_url=False)[0]
    location = [str(part) for part in problem["loc"]]
    rule = problem.get("ctx", {}).get("error")
    if isinstance(rule, Rule):
        return _broken_rule(rule, problem["loc"])
    if problem["type"] == "json_invalid":
        cause = problem["msg"].removeprefix("Invalid JSON: ")[:120]
        return InvalidRecipe(f"The {name} is not JSON: {cause}.", "Send UTF-8 JSON.")
    if not location:
        required = next(field for field, facts in kind.model_fields.items() if facts.is_required())
        return InvalidRecipe(f"The {name} is not a JSON object.", f'Send {{"{required}": …}} at least.')
    path = _path(problem["loc"])
    code = f"invalid_{path.replace('.', '_')}" if location[0] in kind.model_fields else "unknown_field"
    shown = ".".join(location)[:120]
    if problem["type"] == "extra_forbidden":
        return InvalidRecipe(f"“{shown}” is not a field of a {name}.", "Leave it out.", code="unknown_field")
    if problem["type"] == "missing":
        return InvalidRecipe(f"“{shown}” is missing.", "Add it.", code=code)
    hint = _side_hint(problem["input"]) if path in ("width", "height") else None
    return InvalidRecipe(f"{_label(path)} is {_shown(problem['input'])}.",
                         hint or _RANGES.get(path, _cause(problem["msg"])), code=code)


def _broken_rule(rule: Rule, location: tuple[int | str, ...]) -> InvalidRecipe:
    path = ".".join(filter(None, (_path(location), rule.field)))
    numbers = [part + 1 for part in location if isinstance(part, int)]
    message = rule.message
    if numbers:
        message = f"{_label(_path(location))} {numbers[0]}: {message[0].lower()}{message[1:]}"
    return InvalidRecipe(message, rule.hint, code=f"invalid_{path.replace('.', '_')}")


def _path(location: tuple[int | str, ...]) -> str:
    """A dotted path without numbers, and without pydantic's names for the members of a union."""
    names = [part for part in location if isinstance(part, str) and part.isidentifier() and part not in _MEMBERS]
    return ".".join(names)[:120]


def _label(path: str) -> str:
    """The nearest label there is: "controls.image.sha256" is a control picture."""
    while path and path not in LABELS:
        parent = path.rpartition(".")[0]
        if not parent:
            return _ERRAND_LABELS.get(path, path[:60])
        path = parent
    return LABELS[path]


def _shown(value: object) -> str:
    if isinstance(value, str):
        text = value.encode("utf-8", "replace").decode()
        return f"{len(text):,} characters long" if len(text) > 40 else f"“{text}”"
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    text = str(value)
    if value is None or isinstance(value, bool):
        text = {"None": "empty", "True": "true", "False": "false"}[text]
    return text if len(text) <= 30 else f"{text[:12]}… ({len(text)} digits)"


def _side_hint(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int) or not SIDE[0] < value < SIDE[1]:
        return None
    low = value // SIDE_MULTIPLE * SIDE_MULTIPLE
    return f"Use a multiple of {SIDE_MULTIPLE}: {low} or {low + SIDE_MULTIPLE}."


def _cause(message: str) -> str:
    return message.removeprefix("Value error, ").rstrip(".")[:200] + "."
