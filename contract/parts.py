"""The optional parts of a recipe: a start picture, a mask, controls, IP-Adapters, a hires pass, LoRAs.

The parts that are present make the mode; there is no `mode` field. Lengths are pixels of the init image, `start` and
`end` fractions of the steps. A part that names a model has a draft, with the model as a name or a ref; in a recipe it
is a ref.
"""

from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, field_validator, model_validator

from contract.values import (
    MAX_SEED,
    SIDE,
    SIDE_MULTIPLE,
    Fraction,
    Frozen,
    Guidance,
    ImageRef,
    ModelRef,
    Name,
    Prompt,
    Rule,
    Seed,
    Side,
    Steps,
    Weight,
    seed_from_text,
)

EXTENSION = (0, SIDE[1] - SIDE[0])
OVERLAP = (0, 256)
MASK_BLUR = (0, 256)
PADDING = (0, 512)
MASKED_FROM = 128  # gray of a mask, 0..255, from which a pixel is masked; with soft inpainting every gray counts
IMAGE_GUIDANCE = (1.0, 30.0)
CONTROL_RESOLUTION = (64, 2048)
HIRES_SCALE = (1.0, 8.0)
MAX_CONTROLS = 8
MAX_IP_ADAPTERS = 8
MAX_LORAS = 32
MAX_HYPERNETWORKS = 4
MAX_EMBEDDINGS = 64
MAX_GUIDANCE_METHODS = 12
BLOCK_COUNTS = (12, 17, 20, 26)
CHURN = (0.0, 100.0)
NOISE_FACTOR = (0.0, 2.0)
SIGMA = (0.001, 1000.0)
RHO = (0.1, 50.0)
BATCH = (0, 63)
_STRENGTH_DIGITS = 6  # to which the strengths of a walk are known
TOLD_PIXELS = (0, 16_384)
AESTHETIC_SCORE = (0.0, 10.0)

Resize = Literal["stretch", "crop", "fill"]  # just resize; crop and resize; resize and fill
Extension = Annotated[int, Field(ge=EXTENSION[0], le=EXTENSION[1], multiple_of=SIDE_MULTIPLE)]
Threshold = Annotated[float, Field(ge=0.0, le=255.0)]
Sigma = Annotated[float, Field(ge=SIGMA[0], le=SIGMA[1])]
Told = Annotated[int, Field(ge=TOLD_PIXELS[0], le=TOLD_PIXELS[1])]
Score = Annotated[float, Field(ge=AESTHETIC_SCORE[0], le=AESTHETIC_SCORE[1])]


def made_steps(steps: int, strength: float) -> int:
    """The number of steps of img2img, as diffusers' pipelines count; any strength above 0 makes one."""
    return max(1, min(int(steps * strength), steps)) if strength > 0 else 0


class Outpaint(Frozen):
    """Outpaint: more canvas around the start picture, which stays unscaled; width and height are the result's.

    overlap: how far the new area reaches into the picture, fading. content: the new area's first content: the
    picture's edge continued ("fill"), latent noise, or latent zeros ("nothing").
    """

    left: Extension = 0
    right: Extension = 0
    up: Extension = 0
    down: Extension = 0
    overlap: Annotated[int, Field(ge=OVERLAP[0], le=OVERLAP[1])] = 48
    content: Literal["fill", "noise", "nothing"] = "fill"

    @model_validator(mode="after")
    def _somewhere(self) -> "Outpaint":
        if not (self.left or self.right or self.up or self.down):
            raise Rule("Outpainting names no side.", "Give left, right, up or down in pixels, a multiple of 8.")
        return self


class InitImage(Frozen):
    """Begin from a picture: img2img. strength 0 keeps it, 1 replaces it.

    resize: how a picture of another aspect ratio is fitted to width × height; "latent" stretches it after encoding.
    image_guidance: how strongly an InstructPix2Pix model keeps to the picture (other models ignore it).
    depth: a depth picture (white is near) for a depth-to-image model, instead of its own estimate.
    """

    image: ImageRef
    strength: Fraction = 0.75
    resize: Literal["stretch", "crop", "fill", "latent"] = "crop"
    outpaint: Outpaint | None = None
    image_guidance: Annotated[float, Field(ge=IMAGE_GUIDANCE[0], le=IMAGE_GUIDANCE[1])] = 1.5
    depth: ImageRef | None = None


class Mask(Frozen):
    """The area to inpaint (white). Requires an init image, and has its size.

    blur: of the mask's edge. content: the masked content to begin with. area "masked": only the masked area with its
    padding is generated, at width × height, and pasted into the start picture, which keeps its own size. keep_size:
    the picture keeps its size with area "whole" too: width × height is generated, and everything outside of the mask
    comes back bit for bit at the picture's size; a draft without width and height gets this. soft: gray is repainted
    later and less (differential inpainting).
    """

    image: ImageRef
    blur: Annotated[int, Field(ge=MASK_BLUR[0], le=MASK_BLUR[1])] = 4
    invert: bool = False
    content: Literal["fill", "original", "noise", "nothing"] = "original"
    area: Literal["whole", "masked"] = "whole"
    keep_size: bool = False
    padding: Annotated[int, Field(ge=PADDING[0], le=PADDING[1])] = 32
    soft: bool = False


class _Span(Frozen):
    start: Fraction = 0.0
    end: Fraction = 1.0

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Self:
        if not self.start < self.end:
            raise Rule(
                f"It begins at {self.start:g} of the steps and ends at {self.end:g}.",
                "Let it begin before it ends.",
                "end",
            )
        return self


class ControlDraft(_Span):
    """The same as asked for."""

    image: ImageRef
    preprocessor: Name = "none"
    resolution: Annotated[int, Field(ge=CONTROL_RESOLUTION[0], le=CONTROL_RESOLUTION[1])] | None = None
    low: Threshold | None = None
    high: Threshold | None = None
    pixel_perfect: bool = False
    resize: Resize = "crop"
    weight: Weight = 1.0
    mode: Literal["balanced", "prompt", "control"] = "balanced"
    control_type: str = Field("", max_length=60)
    model: Name | ModelRef | None = None


class Control(ControlDraft):
    """One ControlNet or T2I-Adapter unit, active from `start` to `end` of the steps.

    The picture goes through the preprocessor ("none": it is a map already) at `resolution` (None: the
    preprocessor's own; pixel_perfect: from the result's size); low, high: its thresholds, None its own.
    mode: which counts more, prompt or control. control_type: what the map is, for union models ("depth", "pose", …);
    empty: as the preprocessor makes it. model: None where the preprocessor is a reference, which needs none.
    """

    model: ModelRef | None = None


class IpAdapterDraft(_Span):
    """The same as asked for."""

    image: ImageRef
    weight: Weight = 1.0
    model: Name | ModelRef


class IpAdapter(IpAdapterDraft):
    """A picture as prompt (IP-Adapter), active from `start` to `end` of the steps."""

    model: ModelRef


class GuidanceMethod(Frozen):
    """One method of `catalog.guidance` beside classifier-free guidance, with the values that are not its defaults.

    Numbers, ids of choices, or the points of a curve, by the ids of its parameters.
    """

    id: Name
    values: Annotated[dict[Name, float | Annotated[str, Field(max_length=300)]], Field(max_length=16)] = Field(
        default_factory=dict
    )


GuidanceMethods = Annotated[tuple[GuidanceMethod, ...], Field(max_length=MAX_GUIDANCE_METHODS)]


class GuidedPass(NamedTuple):
    """How one pass of a recipe is guided: classifier-free guidance, methods beside it, over how many steps."""

    guidance: float
    methods: tuple[GuidanceMethod, ...]
    steps: int


class Hires(Frozen):
    """A second pass of the same loop at a larger size. A value of None is that of the first pass.

    upscaler: "latent…", "lanczos" and the others of catalog.upscalers by name, or a model of kind "upscaler"
    (a draft may name it, a recipe holds its ref). guidance_methods: of this pass; an empty list is none of them.
    """

    scale: Annotated[float, Field(gt=HIRES_SCALE[0], le=HIRES_SCALE[1])] = 2.0
    upscaler: Name | ModelRef = "latent"
    steps: Steps | None = None
    strength: Fraction = 0.5
    sampler: Name | None = None
    schedule: Name | None = None
    guidance: Guidance | None = None
    guidance_methods: GuidanceMethods | None = None
    prompt: Prompt | None = None
    negative_prompt: Prompt | None = None


class RefinerDraft(Frozen):
    """The same as asked for."""

    at: Fraction = 0.8
    model: Name | ModelRef


class Refiner(RefinerDraft):
    """Another checkpoint of the same latents that takes over while an image is made, with its own text encoders.

    at: the share of the noise levels that a model is trained on (its timesteps) that is left to the first, counted from
    pure noise: 0.8 leaves the last 200 of 1,000 to the second. As diffusers' denoising_end and A1111's "switch at"
    count. Where there is a hires pass, it takes over in that one alone. Its VAE makes the pixels.
    """

    model: ModelRef


class SizeConditioning(Frozen):
    """What SDXL and its refiner are told of the image; a value of None is as the image is: its size, and no crop.

    By diffusers' names, in pixels. original: of the picture before it was scaled, which stands for its quality; crop:
    where the image begins in it; target: of the result. aesthetic_score, negative_aesthetic_score: of the refiner,
    which is told no target; None is 6 for the prompt and 2.5 for the negative prompt.
    Source: Podell et al. 2023 (arXiv 2307.01952), section 2.2.
    """

    original_width: Told | None = None
    original_height: Told | None = None
    crop_left: Told | None = None
    crop_top: Told | None = None
    target_width: Told | None = None
    target_height: Told | None = None
    aesthetic_score: Score | None = None
    negative_aesthetic_score: Score | None = None

    def filled(self, width: int, height: int) -> "SizeConditioning":
        """With nothing left open, for an image of this size in pixels."""
        as_it_is = SizeConditioning(
            original_width=width,
            original_height=height,
            crop_left=0,
            crop_top=0,
            target_width=width,
            target_height=height,
            aesthetic_score=6.0,
            negative_aesthetic_score=2.5,
        )
        return as_it_is.model_copy(update=self.model_dump(exclude_none=True))


class LoraDraft(Frozen):
    """The same as asked for."""

    weight: Weight = 1.0
    text_weight: Weight | None = None
    blocks: tuple[Weight, ...] = ()
    model: Name | ModelRef

    @model_validator(mode="after")
    def _known_order(self) -> Self:
        if len(self.blocks) not in (0, *BLOCK_COUNTS):
            raise Rule(
                f"It has {len(self.blocks)} block weights.",
                "Use 12 or 20 (SDXL), 17 or 26 (SD 1.x and 2.x), or none.",
                "blocks",
            )
        return self


class LoraUse(LoraDraft):
    """One LoRA and how strongly it acts: `weight` on the U-Net, `text_weight` on the text encoders (None: as weight).

    blocks: factors of both, by block. The first is the text encoders'; then 26: IN00-11, MID, OUT00-11; 17: those
    of them with attention (IN01 02 04 05 07 08, MID, OUT03-11), the rest nothing; of SDXL 20: IN00-08, MID,
    OUT00-08; 12: IN04 05 07 08, MID, OUT00-05.
    """

    model: ModelRef


class HypernetworkDraft(Frozen):
    """The same as asked for."""

    weight: Weight = 1.0
    model: Name | ModelRef


class HypernetworkUse(HypernetworkDraft):
    """One hypernetwork, and how strongly it changes the keys and values of the cross-attention."""

    model: ModelRef


class SamplerSettings(Frozen):
    """What a sampler and its schedule are set to, where it is not their own default.

    eta: noise of ancestral and SDE samplers and of DDIM, as a share of the full. s_churn, s_tmin, s_tmax: noise added
    before each step, between two sigmas. s_noise: a factor of all noise of the steps. sigma_min, sigma_max, rho: of
    the schedule. discard_penultimate: leave out the last noise level but 0.
    """

    eta: Fraction | None = None
    s_churn: Annotated[float, Field(ge=CHURN[0], le=CHURN[1])] | None = None
    s_tmin: Annotated[float, Field(ge=0.0, le=SIGMA[1])] | None = None
    s_tmax: Annotated[float, Field(ge=0.0, le=SIGMA[1])] | None = None
    s_noise: Annotated[float, Field(ge=NOISE_FACTOR[0], le=NOISE_FACTOR[1])] | None = None
    sigma_min: Sigma | None = None
    sigma_max: Sigma | None = None
    rho: Annotated[float, Field(ge=RHO[0], le=RHO[1])] | None = None
    discard_penultimate: bool | None = None

    @model_validator(mode="after")
    def _ranges_are_not_empty(self) -> "SamplerSettings":
        for low, high in (("sigma_min", "sigma_max"), ("s_tmin", "s_tmax")):
            smallest, largest = getattr(self, low), getattr(self, high)
            if smallest is not None and largest is not None and smallest >= largest:
                raise Rule(f"The noise is to go from {largest:g} down to {smallest:g}.", "Swap the two.", low)
        return self


class NoiseSettings(Frozen):
    """Where an image's noise comes from.

    source: the convention, by which a seed of another program gives its picture: "darkroom" (a generator on the CPU
    for each image), "cpu" (A1111 with its noise from the CPU), "nv" (A1111 with its noise from an NVIDIA card, which
    is computed here on any machine), "comfyui". eta_seed_delta: added to the seed for the noise of the steps (ENSD).
    variation_seed, variation_strength: how far the first noise is turned towards another seed's. walk_from: the
    pictures of a job go there step by step, the first at this strength, the last at variation_strength (seed travel).
    resize_width, resize_height: the size in pixels whose first noise it is, in the middle of the image. batch_index:
    which one of ComfyUI's batch it is.
    """

    source: Literal["darkroom", "cpu", "nv", "comfyui"] = "darkroom"
    eta_seed_delta: Annotated[int, Field(ge=0, le=2**31)] = 0
    variation_seed: Seed | None = None
    variation_strength: Fraction = 0.0
    walk_from: Fraction | None = None
    resize_width: Side | None = None
    resize_height: Side | None = None
    batch_index: Annotated[int, Field(ge=BATCH[0], le=BATCH[1])] = 0

    @field_validator("variation_seed", mode="before")
    @classmethod
    def _seed_from_text(cls, value: object) -> object:
        return seed_from_text(value)

    @model_validator(mode="after")
    def _belongs_together(self) -> "NoiseSettings":
        if (self.resize_width is None) != (self.resize_height is None):
            raise Rule("The size of the seed has one side only.", "Give both, or none.", "resize_width")
        has_variation = self.variation_strength or self.walk_from is not None
        if self.source == "comfyui" and (has_variation or self.resize_width or self.eta_seed_delta):
            raise Rule(
                "ComfyUI's noise has no variation, no seed resize and no ENSD.",
                "Choose another noise, or leave them out.",
                "source",
            )
        if self.source == "darkroom" and self.eta_seed_delta:
            raise Rule("ENSD belongs to A1111's noise.", "Choose its noise, or leave ENSD out.", "eta_seed_delta")
        if self.source != "comfyui" and self.batch_index:
            raise Rule("Only ComfyUI draws a batch's noise at once.", "Leave the place out.", "batch_index")
        if self.walk_from == self.variation_strength:
            raise Rule(
                f"The walk begins and ends at variation strength {self.variation_strength:g}.",
                "Let it end at another, such as 1.",
                "variation_strength",
            )
        return self

    def for_image(self, index: int, count: int) -> "NoiseSettings":
        """That of one image of a job: its own variation, its step of a walk, or its own place in ComfyUI's batch."""
        if self.source == "comfyui":
            return self.model_copy(update={"batch_index": self.batch_index + index})
        if self.walk_from is not None:
            share = index / max(1, count - 1)
            strength = round(self.walk_from + (self.variation_strength - self.walk_from) * share, _STRENGTH_DIGITS)
            seed = self.variation_seed if strength else None
            update = {"variation_seed": seed, "variation_strength": strength, "walk_from": None}
            return self.model_copy(update=update)
        if self.variation_strength and self.variation_seed is not None:
            return self.model_copy(update={"variation_seed": (self.variation_seed + index) % (MAX_SEED + 1)})
        return self
