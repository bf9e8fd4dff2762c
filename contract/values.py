"""The value types of recipes: ranges, references to models and pictures, and the error of a broken rule.

The parts of a recipe are in `parts.py`, the recipe itself in `recipe.py`.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_SEED = 2**64 - 1
MAX_PROMPT_CHARACTERS = 200_000
MAX_STYLES = 32
STEPS = (1, 150)
GUIDANCE = (0.0, 30.0)
SIDE = (64, 2048)
SIDE_MULTIPLE = 8
COUNT = (1, 16)
CLIP_SKIP = (1, 4)
BACKGROUND = "#FFFFFF"  # behind transparent pixels: in the engine, in thumbnails and on the page

ModelKind = Literal[
    "checkpoint",
    "vae",
    "lora",
    "controlnet",
    "t2i_adapter",
    "ip_adapter",
    "embedding",
    "hypernetwork",
    "upscaler",
    "text_encoder",  # a part of a checkpoint that is loaded by itself
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ImageId = Annotated[str, Field(pattern=r"^[0-9a-f]{22}$")]
Prompt = Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)]
Name = Annotated[str, Field(min_length=1, max_length=300)]
Steps = Annotated[int, Field(ge=STEPS[0], le=STEPS[1])]
Guidance = Annotated[float, Field(ge=GUIDANCE[0], le=GUIDANCE[1])]
Side = Annotated[int, Field(ge=SIDE[0], le=SIDE[1], multiple_of=SIDE_MULTIPLE)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Count = Annotated[int, Field(ge=COUNT[0], le=COUNT[1])]
ClipSkip = Annotated[int, Field(ge=CLIP_SKIP[0], le=CLIP_SKIP[1])]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=-10.0, le=10.0)]
Emphasis = Literal["original", "no_norm", "comfyui", "ignore", "none"]
Tiling = Literal["x", "y", "xy"]  # the axes around which an image goes on at its other side
# What the denoiser of a diffusion model predicts, by diffusers' names; the last: v, trained to zero terminal SNR.
Prediction = Literal["epsilon", "v_prediction", "v_zero_snr"]
PREDICTIONS: Mapping[Prediction, str] = {
    "epsilon": "Noise (epsilon)",
    "v_prediction": "Velocity (v)",
    "v_zero_snr": "Velocity (v), zero SNR",
}
# By A1111's names, and one of our own.
EMPHASES: Mapping[Emphasis, str] = {
    "original": "Original",
    "no_norm": "No norm",
    "comfyui": "ComfyUI",
    "ignore": "Ignore",
    "none": "None",
}


class Rule(ValueError):
    """Two values don't go together.

    Args:
        message: One sentence with both values.
        hint: What to use.
        field: The field to correct, as a dotted path below the part that raises it.
    """

    def __init__(self, message: str, hint: str, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field


class Frozen(BaseModel):
    """Strict, immutable, no unknown fields, finite numbers only."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class ModelRef(Frozen):
    """A file or folder of weights, known without reading it whole.

    fingerprint comes from the place, size, times and header of the weights and from every file beside them that decides
    the picture, and is known at once; sha256 (of the file, or of a folder's sorted (path, sha256) pairs) is filled in
    before a picture is saved.

    prediction: of a checkpoint whose output is read otherwise than its files say, because its owner set it so or this
    job asks for it; None: as they say.
    """

    kind: ModelKind = "checkpoint"
    name: Name
    family: Name
    fingerprint: str = ""
    sha256: Sha256 | None = None
    prediction: Prediction | None = None


class ImageRef(Frozen):
    """An uploaded picture, by the sha256 of the normalized PNG that the studio keeps."""

    sha256: Sha256


def seed_from_text(value: object) -> object:
    """A seed as decimal text to its number, anything else as it is: browsers lose integer bits above 2^53."""
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit():
        return int(value)
    return value
