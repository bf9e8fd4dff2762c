"""What a person asks for (RecipeDraft) and what will be done (Recipe).

A draft needs only a prompt; the studio fills the rest from the model's defaults and draws the seed.
There is no `mode` field: txt2img, img2img, inpaint and ControlNet are which parts are present.
What samplers and models exist is in `catalog/`; sentences for bad values are in `validation.py`.
"""

import hashlib
import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

SCHEMA: Final = 1
MAX_SEED = 2**64 - 1
MAX_PROMPT_CHARACTERS = 200_000
STEPS = (1, 150)
GUIDANCE = (0.0, 30.0)
SIDE = (64, 2048)
SIDE_MULTIPLE = 8
COUNT = (1, 16)
CLIP_SKIP = (1, 4)

ModelKind = Literal["checkpoint", "vae", "lora", "controlnet", "embedding", "upscaler"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
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
    """Which file or folder of weights, known without reading it whole.

    fingerprint is from size, time and header and is known at once; sha256 (of the file, or of a
    folder's sorted (path, sha256) pairs) is filled in before a picture is saved.
    """

    kind: ModelKind = "checkpoint"
    name: Name
    family: Name
    fingerprint: str = ""
    sha256: Sha256 | None = None


class ImageRef(Frozen):
    """A picture someone brought, by the sha256 of the normalised PNG the studio keeps."""

    sha256: Sha256


class LoraUse(Frozen):
    """One LoRA and how strongly it acts."""

    ref: ModelRef
    weight: Weight = 1.0


class Start(Frozen):
    """Begin from a picture: img2img. strength 0 keeps it, 1 repaints it."""

    image: ImageRef
    strength: Fraction = 0.75


class Mask(Frozen):
    """Where to repaint (white). Requires a start."""

    image: ImageRef
    feather: Annotated[int, Field(ge=0, le=256)] = 4
    invert: bool = False


class Control(Frozen):
    """One ControlNet unit, active from `begin` to `end` of the steps."""

    model: ModelRef
    image: ImageRef
    preprocessor: str = "none"
    weight: Weight = 1.0
    begin: Fraction = 0.0
    end: Fraction = 1.0
    mode: Literal["balanced", "prompt", "control"] = "balanced"


class Hires(Frozen):
    """A second pass of the same loop at a larger size."""

    scale: Annotated[float, Field(gt=1.0, le=8.0)] = 2.0
    upscaler: str = "latent"
    steps: Steps | None = None
    strength: Fraction = 0.5


class Refiner(Frozen):
    """Another model from the fraction `at` of the steps on."""

    model: ModelRef
    at: Fraction = 0.8


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("contains half of a character (a lone surrogate)") from error
    return text


class Recipe(Frozen):
    """What will be done: nothing left open. Images of one job use seed, seed + 1, …"""

    schema_: Literal[1] = Field(SCHEMA, alias="schema")
    prompt: Prompt
    negative_prompt: Prompt = ""
    model: ModelRef
    vae: ModelRef | None = None
    loras: tuple[LoraUse, ...] = ()
    sampler: Name
    schedule: Name
    steps: Steps
    guidance: Guidance
    clip_skip: ClipSkip = 1
    width: Side
    height: Side
    seed: Seed
    count: Count = 1
    start: Start | None = None
    mask: Mask | None = None
    controls: tuple[Control, ...] = ()
    hires: Hires | None = None
    refiner: Refiner | None = None
    extras: dict[str, Any] = Field(default_factory=dict)

    _prompts = field_validator("prompt", "negative_prompt")(_encodable)

    def canonical_json(self) -> str:
        """JSON with sorted keys and defaults left out: equal recipes give equal text."""
        data = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def identity(self) -> str:
        """sha256 of the canonical JSON."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    def for_image(self, index: int) -> "Recipe":
        """The recipe of one picture of the job: count 1 and its own seed (wraps at 2^64)."""
        seed = (self.seed + index) % (MAX_SEED + 1)
        return self.model_copy(update={"count": 1, "seed": seed})


class RecipeDraft(Frozen):
    """What a person asked: only `prompt` is required. A Recipe's JSON is a valid draft."""

    schema_: Literal[1] = Field(SCHEMA, alias="schema")
    prompt: Prompt
    negative_prompt: Prompt = ""
    model: Name | ModelRef | None = None
    vae: Name | ModelRef | None = None
    loras: tuple[LoraUse, ...] = ()
    sampler: Name | None = None
    schedule: Name | None = None
    steps: Steps | None = None
    guidance: Guidance | None = None
    clip_skip: ClipSkip = 1
    width: Side | None = None
    height: Side | None = None
    seed: Seed | None = None
    count: Count = 1
    start: Start | None = None
    mask: Mask | None = None
    controls: tuple[Control, ...] = ()
    hires: Hires | None = None
    refiner: Refiner | None = None
    extras: dict[str, Any] = Field(default_factory=dict)

    _prompts = field_validator("prompt", "negative_prompt")(_encodable)

    @field_validator("seed", mode="before")
    @classmethod
    def _seed_from_text(cls, value: object) -> object:
        # Browsers lose integer bits above 2^53, so seeds may travel as decimal text.
        if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit():
            return int(value)
        return value
