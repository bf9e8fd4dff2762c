"""A recipe's way through the loop: a first pass, and a hires pass over the same loop where it has one.

What is the same for all pictures of a job (embeddings, the encoded start picture) is in a `Plan`, made once
within the lease; `develop` makes the latents of one picture, `finish` its pixels.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from catalog.families import FAMILIES
from catalog.samplers import SAMPLERS, resolve_schedule
from catalog.upscalers import UPSCALERS
from contract.errors import InvalidRecipe
from contract.recipe import Hires, ModelRef, Recipe
from contract.sizes import hires_size
from contract.work import RawImage
from engine.adapters.instruct_pix2pix import edit_channels, edit_conditions
from engine.adapters.prompt_encoder import Conditioning, EmbeddingCache, encode_prompts
from engine.adapters.textual_inversion import NO_WORDS, Vocabulary
from engine.families.family import predict_with
from engine.images.depth import depth_of
from engine.images.image_io import as_image, as_raw
from engine.images.init_latents import (
    EDIT_CHANNELS,
    INPAINT_CHANNELS,
    PLAIN_CHANNELS,
    InitLatents,
    blank_channels,
    first_step,
    init_latents_of,
    input_channels,
    stretch_latents,
    with_channels,
)
from engine.images.inpaint_region import InpaintRegion, inpaint_region_of
from engine.images.vae import decode, encode
from engine.job_models import JobModels
from engine.models.manager import Bundle
from engine.sampling.denoise import Controls, LatentStep, denoise
from engine.sampling.samplers import Sampling, sampling_for

# Tiles done, of how many; the last with the picture.
UpscaleFunction = Callable[
    [Image.Image, str | ModelRef, tuple[int, int]], Iterator[tuple[int, int, Image.Image | None]]
]
_FACTOR = 8


@dataclass(frozen=True, slots=True)
class PassInputs:
    """What a job works with beside its recipe.

    Attributes:
        images: PNGs of the work item by sha256.
        upscale: Brings a picture to a size with an upscaler.
        lent: The models of its controls and references; None where it has none.
    """

    images: Mapping[str, bytes]
    embeddings: EmbeddingCache
    upscale: UpscaleFunction
    loaded: JobModels | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """The embeddings that prompts may name."""
        return self.loaded.vocabulary if self.loaded else NO_WORDS

    def controls(self, recipe: Recipe, bundle: Bundle, region: InpaintRegion | None = None) -> Controls | None:
        """What acts on the steps of a pass of the recipe's size."""
        return self.loaded.controls_for(recipe, bundle, region) if self.loaded else None


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """One pass of a job, ready for every picture of it.

    Attributes:
        recipe: Of the pass: size, steps, sampler, prompts are its own.
        controls: What ControlNets and adapters add, for this size; None without.
        second: The hires pass.
        in_float32: The U-Net is computed in full precision, because half overflowed.
    """

    recipe: Recipe
    bundle: Bundle
    conditioning: Conditioning
    region: InpaintRegion | None = None
    init_latents: InitLatents | None = None
    channels: Tensor | None = None
    controls: Controls | None = None
    second: "ImagePlan | None" = None
    in_float32: bool = False

    @property
    def steps(self) -> int:
        """Steps that are made, the second pass included."""
        left_out = 0
        if self.init_latents and self.init_latents.takes_strength and self.recipe.init_image:
            left_out = first_step(self.recipe.steps, self.recipe.init_image.strength)
        return self.recipe.steps - left_out + (self.second.second_steps if self.second else 0)

    @property
    def second_steps(self) -> int:
        """Steps of this pass as a hires pass."""
        assert self.recipe.hires
        return self.recipe.steps - first_step(self.recipe.steps, self.recipe.hires.strength)


@dataclass(frozen=True, slots=True)
class Progress:
    """Step `index` of `total` over all passes of a picture (1-based)."""

    step: LatentStep
    index: int
    total: int


@dataclass(frozen=True, slots=True)
class Upscaling:
    """Between two passes: tile `index` of `total` is upscaled (1-based)."""

    upscaler: str
    index: int
    total: int


def plan_image(recipe: Recipe, bundle: Bundle, inputs: PassInputs) -> ImagePlan:
    """Encode what a recipe names.

    Raises:
        InvalidRecipe: a value that only the model can judge, or a model that needs a start picture.
        InvalidInput: a picture is gone, or its mask is empty.
    """
    _check_model_goes_with(recipe, bundle)
    size = (recipe.width, recipe.height)
    region, init_latents, channels = inpaint_region_of(recipe, inputs.images), None, None
    if region is not None:
        init_latents = init_latents_of(
            region, size, bundle, lambda: depth_of(recipe, region.picture, bundle, inputs.images)
        )
        channels = init_latents.channels
    conditioning = encode_prompts(recipe, bundle, inputs.embeddings, inputs.vocabulary)
    if input_channels(bundle) == EDIT_CHANNELS and recipe.init_image and channels is not None:
        conditioning = replace(conditioning, at=edit_conditions(conditioning.at, recipe.init_image.image_guidance))
        channels = edit_channels(channels, conditioning.at(0))
    elif channels is None:
        channels = blank_channels(bundle, size)
    second = _second_plan(recipe, recipe.hires, bundle, inputs) if recipe.hires else None
    return ImagePlan(
        recipe, bundle, conditioning, region, init_latents, channels, inputs.controls(recipe, bundle, region), second
    )


def _check_model_goes_with(recipe: Recipe, bundle: Bundle) -> None:
    if input_channels(bundle) in (PLAIN_CHANNELS, INPAINT_CHANNELS):
        return
    if recipe.init_image is None:
        raise InvalidRecipe(
            f"{bundle.ref.name} begins from a picture, and there is none.",
            "Add a start picture, or use another model.",
            field="init_image",
        )
    if recipe.hires:
        raise InvalidRecipe(
            f"A hires pass does not go with {bundle.ref.name}.", "Upscale the result instead.", field="hires"
        )


def _second_plan(recipe: Recipe, hires: Hires, bundle: Bundle, inputs: PassInputs) -> ImagePlan:
    larger = second_pass(recipe, hires)
    made = larger.steps - first_step(larger.steps, hires.strength)
    return ImagePlan(
        larger,
        bundle,
        encode_prompts(larger, bundle, inputs.embeddings, inputs.vocabulary, hires_steps=made, after=recipe.steps),
        channels=blank_channels(bundle, (larger.width, larger.height)),
        controls=inputs.controls(larger, bundle),
    )


def second_pass(recipe: Recipe, hires: Hires) -> Recipe:
    """The recipe of the hires pass: the same, but for what the pass says itself."""
    own = {
        name: value
        for name in ("steps", "sampler", "schedule", "guidance", "prompt", "negative_prompt")
        if (value := getattr(hires, name)) is not None
    }
    width, height = hires_size((recipe.width, recipe.height), hires.scale)
    return recipe.model_copy(update={**own, "width": width, "height": height, "init_image": None})


def run_pass(plan: ImagePlan, recipe: Recipe, inputs: PassInputs) -> Iterator[Progress | Upscaling]:
    """One picture's steps, and the upscaling between two passes.

    The last step's latents are finished. Where strength is 0 there are no steps at all.

    Args:
        recipe: The picture's own: count 1 and its seed.
    """
    generator = torch.Generator("cpu").manual_seed(recipe.seed)
    strength = recipe.init_image.strength if recipe.init_image else 1.0
    made, latents = 0, None
    for step in _run(plan, strength, generator, plan.init_latents):
        made, latents = made + 1, step.latents
        yield Progress(step, made, plan.steps)
    if plan.second is None or recipe.hires is None:
        return
    init_latents = yield from _upscaled(plan, latents, inputs.upscale)
    for step in _run(plan.second, recipe.hires.strength, generator, init_latents):
        made += 1
        yield Progress(step, made, plan.steps)


def finish(plan: ImagePlan, latents: Tensor | None) -> tuple[RawImage, bool]:
    """Latents to the result; None is a start picture that is kept as it is.

    Returns:
        The picture, and whether the VAE had to be run once more in float32.
    Raises:
        NoValidPicture: the numbers are not finite even so.
    """
    if latents is None:
        assert plan.region is not None
        size = (plan.recipe.width, plan.recipe.height)
        kept = plan.region.picture if plan.region.picture.size == size else plan.region.picture.resize(size)
        return as_raw(plan.region.back(kept)), False
    pixels, is_retry = decode(latents, plan.bundle)
    return (as_raw(plan.region.back(as_image(pixels))) if plan.region else pixels), is_retry


def _run(
    plan: ImagePlan, strength: float, generator: torch.Generator, init_latents: InitLatents | None
) -> Iterator[LatentStep]:
    recipe, bundle = plan.recipe, plan.bundle
    sampling = sampling_of(recipe, bundle)
    noise = first_noise(recipe, generator).to(bundle.device.torch_device)
    mask_blend = init_latents.mask_blend(sampling, strength, noise, generator) if init_latents else None
    own = predict_with(bundle.onload, bundle.device.dtype, in_float32=plan.in_float32)
    predict = with_channels(own, plan.channels)
    return denoise(
        lambda _: predict,
        plan.conditioning.at,
        sampling,
        noise,
        recipe.guidance,
        generator,
        mask_blend=mask_blend,
        controls=plan.controls,
    )


def _upscaled(
    plan: ImagePlan, latents: Tensor | None, upscale: UpscaleFunction
) -> Generator[Upscaling, None, InitLatents]:
    """What the hires pass begins from."""
    assert plan.second and plan.recipe.hires
    size = (plan.second.recipe.width, plan.second.recipe.height)
    shape = (size[1] // _FACTOR, size[0] // _FACTOR)
    upscaler = plan.recipe.hires.upscaler
    is_latent = isinstance(upscaler, str) and upscaler in UPSCALERS and UPSCALERS[upscaler].is_latent
    if latents is not None and is_latent:
        return InitLatents(stretch_latents(latents, upscaler, shape))
    # A start picture of strength 0 has no latents to stretch.
    chosen, larger = ("lanczos" if is_latent else upscaler), None
    name = chosen if isinstance(chosen, str) else chosen.name
    for done, total, larger in upscale(as_image(finish(plan, latents)[0]), chosen, size):  # noqa: B007 (the last is used below)
        yield Upscaling(name, done, total)
    assert larger is not None
    return InitLatents(encode(larger, plan.bundle))


def sampling_of(recipe: Recipe, bundle: Bundle) -> Sampling:
    """The recipe's sampler, set for this model.

    Raises:
        InvalidRecipe: no such sampler or schedule.
    """
    config = bundle.scheduler_config
    schedule = recipe.schedule
    if recipe.sampler in SAMPLERS:
        schedule = resolve_schedule(
            SAMPLERS[recipe.sampler], schedule, zero_snr=bool(config.get("rescale_betas_zero_snr"))
        )
    return sampling_for(recipe.sampler, schedule, recipe.steps, config, bundle.device.torch_device)


def first_noise(recipe: Recipe, generator: torch.Generator) -> torch.Tensor:
    """The noise a picture begins with: (1, C, h, w), float32, on the CPU whatever the device."""
    family = FAMILIES[recipe.model.family]
    height, width = recipe.height // family.vae_factor, recipe.width // family.vae_factor
    return torch.randn(1, family.latent_channels, height, width, generator=generator)
