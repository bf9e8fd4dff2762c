"""The generation parameters: as a client sends them (RecipeDraft), and complete (Recipe).

A draft needs only a prompt; the studio fills the rest from the model's defaults and draws the seed.
There is no `mode` field: txt2img, img2img, inpaint and ControlNet follow from the parts present (`parts.py`).
Samplers and models are in `catalog/`; `validation.py` words the errors.
"""

import hashlib
import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from contract.parts import (
    MAX_CONTROLS,
    MAX_EMBEDDINGS,
    MAX_HYPERNETWORKS,
    MAX_IP_ADAPTERS,
    MAX_LORAS,
    Control,
    ControlDraft,
    GuidanceMethod,
    GuidanceMethods,
    GuidedPass,
    Hires,
    HypernetworkDraft,
    HypernetworkUse,
    InitImage,
    IpAdapter,
    IpAdapterDraft,
    LoraDraft,
    LoraUse,
    Mask,
    NoiseSettings,
    Outpaint,
    Refiner,
    RefinerDraft,
    SamplerSettings,
    SizeConditioning,
)
from contract.regions import Regions, RegionsDraft
from contract.schema_1 import upgraded_json
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
    ClipSkip,
    Count,
    Emphasis,
    Fraction,
    Frozen,
    Guidance,
    ImageId,
    ImageRef,
    ModelKind,
    ModelRef,
    Name,
    Prompt,
    Rule,
    Seed,
    Side,
    Steps,
    Tiling,
    seed_from_text,
)

__all__ = [
    "CLIP_SKIP",
    "COUNT",
    "GUIDANCE",
    "MAX_PROMPT_CHARACTERS",
    "MAX_SEED",
    "SCHEMA",
    "SIDE",
    "SIDE_MULTIPLE",
    "STEPS",
    "Control",
    "ControlDraft",
    "Fraction",
    "Frozen",
    "GuidanceMethod",
    "Hires",
    "HypernetworkDraft",
    "HypernetworkUse",
    "ImageRef",
    "InitImage",
    "IpAdapter",
    "IpAdapterDraft",
    "LoraDraft",
    "LoraUse",
    "Mask",
    "ModelKind",
    "ModelRef",
    "NoiseSettings",
    "Outpaint",
    "Recipe",
    "RecipeDraft",
    "Refiner",
    "RefinerDraft",
    "Regions",
    "RegionsDraft",
    "SamplerSettings",
    "SizeConditioning",
    "Template",
]
SCHEMA: Final = 2


class Template(Frozen):
    """What a person wrote, before styles were applied and wildcards drawn: it changes no picture."""

    prompt: Prompt = ""
    negative_prompt: Prompt = ""
    styles: Annotated[tuple[Name, ...], Field(max_length=MAX_STYLES)] = ()


class _Asked(Frozen):
    """The fields that a draft and a recipe share, with the rules between parts.

    clip_skip: 1 reads the layer of the text encoders that the family was trained on (SD 1.x: the last; SD 2.x and
    SDXL: the one before the last), each more one further back: diffusers' clip_skip is one less, None for 1. Other
    programs count from the last layer in all families (`catalog.families.clip_skip_read`).
    prompt_2, negative_prompt_2: what the second text encoder of a family that has one reads, and its pooled embedding
    says; None: the same as the first. Each goes with every prompt that AND joins.
    emphasis: what brackets and weights in the prompts do (`contract.prompt.Prompt`).
    tiling: the axes around which the picture goes on at its other side, so that copies of it fit together.
    template: where the prompts come from, if they were written as a template or with styles.
    embeddings: those that the prompts name by bare name; resolving a draft looks for them again.
    """

    schema_: Literal[2] = Field(SCHEMA, alias="schema")
    prompt: Prompt
    negative_prompt: Prompt = ""
    prompt_2: Prompt | None = None
    negative_prompt_2: Prompt | None = None
    clip_skip: ClipSkip = 1
    emphasis: Emphasis = "original"
    tiling: Tiling | None = None
    template: Template | None = None
    seed: Seed | None = None
    count: Count = 1
    init_image: InitImage | None = None
    mask: Mask | None = None
    hires: Hires | None = None
    sampling: SamplerSettings | None = None
    noise: NoiseSettings | None = None
    size_conditioning: SizeConditioning | None = None
    embeddings: Annotated[tuple[ModelRef, ...], Field(max_length=MAX_EMBEDDINGS)] = ()
    extras: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def read(cls, text: str | bytes) -> Self:
        """From JSON of this schema or an older one.

        Raises:
            ValidationError: as of `model_validate_json`.
        """
        return cls.model_validate_json(upgraded_json(text))

    @field_validator("prompt", "negative_prompt", "prompt_2", "negative_prompt_2")
    @classmethod
    def _encodable(cls, text: str | None) -> str | None:
        try:
            (text or "").encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError("contains half of a character (a lone surrogate)") from error
        return text

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        if self.mask and not self.init_image:
            raise Rule("A mask needs a start picture, and there is none.", "Add one, or leave the mask out.", "mask")
        if self.mask and self.hires:
            raise Rule(
                "A hires pass repaints the whole picture, so it does not go with a mask.",
                "Leave “hires” out, and upscale the result.",
                "hires",
            )
        if self.mask and self.mask.area == "masked" and self.tiling:
            raise Rule(
                "Only the masked area is to be painted, which has no other side to go on at.",
                "Use the whole picture as area, or leave “tiling” out.",
                "tiling",
            )
        if self.mask and self.mask.area == "masked" and self.init_image and self.init_image.outpaint:
            raise Rule(
                "Only the masked area is to be painted, and the canvas is to be extended.",
                "Do one after the other, or use the whole picture as area.",
                "mask.area",
            )
        if self.init_image and self.init_image.outpaint and self.hires:
            raise Rule(
                "A hires pass repaints the whole picture, so it does not go with outpainting.",
                "Leave “hires” out, and upscale the result.",
                "hires",
            )
        if self.noise and self.noise.walk_from is not None and self.count == 1:
            raise Rule("A walk to another seed has one picture.", "Make 2 or more, or leave the walk out.", "count")
        return self

    def for_image(self, index: int) -> Self:
        """That of one picture of the job: count 1 and its own seed (wraps at 2^64).

        The seed stays where pictures differ by the rest of the noise: in variations, and in a batch of ComfyUI's.
        """
        noise = self.noise.for_image(index, self.count) if self.noise else None
        seed = self.seed
        if noise == self.noise and seed is not None:
            seed = (seed + index) % (MAX_SEED + 1)
        if noise == NoiseSettings():
            noise = None
        return self.model_copy(update={"count": 1, "seed": seed, "noise": noise})


class Recipe(_Asked):
    """All generation parameters, nothing left open. Images of one job use seed, seed + 1, …"""

    model: ModelRef
    vae: ModelRef | None = None
    sampler: Name
    schedule: Name
    steps: Steps
    guidance: Guidance
    width: Side
    height: Side
    seed: Seed
    refiner: Refiner | None = None
    controls: Annotated[tuple[Control, ...], Field(max_length=MAX_CONTROLS)] = ()
    ip_adapters: Annotated[tuple[IpAdapter, ...], Field(max_length=MAX_IP_ADAPTERS)] = ()
    loras: Annotated[tuple[LoraUse, ...], Field(max_length=MAX_LORAS)] = ()
    hypernetworks: Annotated[tuple[HypernetworkUse, ...], Field(max_length=MAX_HYPERNETWORKS)] = ()
    guidance_methods: GuidanceMethods = ()
    regions: Regions | None = None

    def canonical_json(self) -> str:
        """JSON with sorted keys and defaults left out: equal recipes give equal text."""
        data = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def identity(self) -> str:
        """sha256 of the canonical JSON without the template."""
        bare = self.model_copy(update={"template": None}) if self.template else self
        return hashlib.sha256(bare.canonical_json().encode()).hexdigest()

    @property
    def passes(self) -> tuple[GuidedPass, ...]:
        """The first pass, and the hires pass if there is one, each with what it overrides."""
        first = GuidedPass(self.guidance, self.guidance_methods, self.steps)
        hires = self.hires
        if hires is None:
            return (first,)
        guidance = self.guidance if hires.guidance is None else hires.guidance
        methods = self.guidance_methods if hires.guidance_methods is None else hires.guidance_methods
        return (first, GuidedPass(guidance, methods, hires.steps or self.steps))

    @property
    def seed_text(self) -> str:
        """The seed as decimal text: JavaScript loses integer bits above 2^53."""
        return str(self.seed)

    @property
    def images(self) -> tuple[ImageRef, ...]:
        """Every uploaded picture that it names."""
        found: list[ImageRef] = []
        if self.init_image:
            found.append(self.init_image.image)
        if self.init_image and self.init_image.depth:
            found.append(self.init_image.depth)
        if self.mask:
            found.append(self.mask.image)
        found += [control.image for control in self.controls]
        found += [adapter.image for adapter in self.ip_adapters]
        if self.regions:
            found += [region.mask for region in self.regions.regions if region.mask]
        return tuple(found)

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model that it names, the checkpoint first."""
        found = [self.model]
        if self.vae:
            found.append(self.vae)
        if self.refiner:
            found.append(self.refiner.model)
        if self.hires and isinstance(self.hires.upscaler, ModelRef):
            found.append(self.hires.upscaler)
        found += [lora.model for lora in self.loras]
        found += [hypernetwork.model for hypernetwork in self.hypernetworks]
        found += [control.model for control in self.controls if control.model]
        found += [adapter.model for adapter in self.ip_adapters]
        if self.regions:
            for region in self.regions.regions:
                found += [lora.model for lora in region.loras]
        return (*found, *self.embeddings)


class RecipeDraft(_Asked):
    """Generation parameters as asked for: only `prompt` is required. A Recipe's JSON is a valid draft.

    guidance_methods: None takes those that the model asks for; a recipe that comes back (it names its model by a ref)
    has only its own.
    parent: id of the picture that this one is made from, for the gallery; it changes no pixel.
    styles: names of those that are applied to the prompts, in order.
    dynamic: whether {a|b} and __wildcards__ in the prompts are drawn, by the seed; else they are characters. With
    several pictures each is drawn anew, and is a job of its own.
    """

    model: Name | ModelRef | None = None
    vae: Name | ModelRef | None = None
    sampler: Name | None = None
    schedule: Name | None = None
    steps: Steps | None = None
    guidance: Guidance | None = None
    width: Side | None = None
    height: Side | None = None
    refiner: RefinerDraft | None = None
    controls: Annotated[tuple[ControlDraft, ...], Field(max_length=MAX_CONTROLS)] = ()
    ip_adapters: Annotated[tuple[IpAdapterDraft, ...], Field(max_length=MAX_IP_ADAPTERS)] = ()
    loras: Annotated[tuple[LoraDraft, ...], Field(max_length=MAX_LORAS)] = ()
    hypernetworks: Annotated[tuple[HypernetworkDraft, ...], Field(max_length=MAX_HYPERNETWORKS)] = ()
    guidance_methods: GuidanceMethods | None = None
    regions: RegionsDraft | None = None
    parent: ImageId | None = None
    styles: Annotated[tuple[Name, ...], Field(max_length=MAX_STYLES)] = ()
    dynamic: bool = False

    @field_validator("seed", mode="before")
    @classmethod
    def _seed_from_text(cls, value: object) -> object:
        return seed_from_text(value)
