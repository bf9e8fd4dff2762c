"""The passes of an image: a first pass, and a hires pass over the same loop where the recipe has one.

What is the same for all images of a job (prompt embeds, init latents) is in an `ImagePlan`, made once within the lease;
`run_pass` makes the latents of one image, `finish` its pixels.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from PIL import Image
from torch import Tensor

from catalog.families import FAMILIES
from catalog.guidance import changes_unet
from catalog.samplers import EDM_PREDICTIONS, SAMPLERS, resolve_schedule
from catalog.upscalers import UPSCALERS
from contract.errors import InvalidRecipe
from contract.prompt import Part
from contract.recipe import Hires, ModelRef, Recipe
from contract.sizes import hires_size
from contract.work import RawImage
from engine.adapters.instruct_pix2pix import edit_channels, edit_conditions
from engine.adapters.prompt_encoder import NO_T5, Conditioning, EmbeddingCache, T5Prompts, encode_prompts, parts_of
from engine.adapters.textual_inversion import NO_TEXTUAL_INVERSIONS, TextualInversions
from engine.device.attention import has_plain_attention
from engine.device.evaluations import by_modules
from engine.device.wrapped_padding import wrapped
from engine.images.depth import depth_of
from engine.images.image_io import as_image, as_raw
from engine.images.init_latents import (
    InitLatents,
    blank_channels,
    encode_init_image,
    first_step,
    stretch_latents,
    variant_of,
    with_channels,
)
from engine.images.inpaint_region import InpaintRegion, inpaint_region_of
from engine.images.seams import continued_image, folded_image, margins
from engine.images.vae import decode, encode
from engine.job_models import JobModels, SecondModel
from engine.models.bundle import Bundle
from engine.regions.attention import Regional
from engine.regions.loras import RegionalLoras
from engine.regions.places import region_places
from engine.sampling.denoise import Controls, LatentStep, Predict, Refiner, Takeover, denoise
from engine.sampling.guidance.protocol import Guide, make_guide
from engine.sampling.noise import NoiseSource, noise_source
from engine.sampling.noise_table import FLOW_PREDICTION
from engine.sampling.samplers import Sampling, sampling_for

_SEAM = 32  # pixels beyond an end of a seamless tiling, of an image that is upscaled

Upscaled = Iterator[tuple[int, int, Image.Image | None]]  # tiles done, of how many; the last with the image
UpscaleFunction = Callable[[Image.Image, str | ModelRef, tuple[int, int]], Upscaled]
Share = Callable[[Predict, str], Predict]  # a denoiser, the kind of its evaluations -> one that shares them


@dataclass(frozen=True, slots=True)
class PassInputs:
    """What a job works with beside its recipe.

    Attributes:
        images: PNGs of the work item by sha256.
        upscale: Brings an image to a size with an upscaler.
        loaded: The models of its LoRAs, controls and image prompts; None where it has none.
        t5: What T5 reads of its prompts.
        share: Shares its evaluations with other jobs (`batching.py`); None where it runs alone.
        second_model: The refiner's; None where the recipe has none.
    """

    images: Mapping[str, bytes]
    embeddings: EmbeddingCache
    upscale: UpscaleFunction
    loaded: JobModels | None = None
    t5: T5Prompts = NO_T5
    share: Share | None = None
    second_model: SecondModel | None = None

    @property
    def textual_inversions(self) -> TextualInversions:
        """Those that prompts may name."""
        return self.loaded.textual_inversions if self.loaded else NO_TEXTUAL_INVERSIONS

    def controls(self, recipe: Recipe, bundle: Bundle, region: InpaintRegion | None = None) -> Controls | None:
        """What acts on the steps of a pass at the recipe's size."""
        return self.loaded.controls_for(recipe, bundle, region) if self.loaded else None

    def regional(self, recipe: Recipe, bundle: Bundle, region: InpaintRegion | None = None) -> Regional | None:
        """The regions of a pass at the recipe's size; None without."""
        if recipe.regions is None:
            return None
        places = region_places(recipe, self.images, bundle.family.facts.latents.factor, region)
        loras = self.loaded.regional_loras if self.loaded else RegionalLoras()
        return Regional(places.to(bundle.device.torch_device), loras)


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """One pass of a job, ready for every image of it.

    Attributes:
        recipe: Of the pass: size, steps, sampler and prompts are its own.
        channels: Further input channels of the U-Net, (1 or batch, c, h, w); None for plain models.
        controls: What ControlNets and adapters add, for this size; None without.
        second: The hires pass.
        regional: Of a recipe with regions.
        in_float32: The U-Net is computed in full precision, because half overflowed.
        encode_with: `encode_prompts` of the pass, for any bundle.
    """

    recipe: Recipe
    bundle: Bundle
    conditioning: Conditioning
    region: InpaintRegion | None = None
    init_latents: InitLatents | None = None
    channels: Tensor | None = None
    controls: Controls | None = None
    second: "ImagePlan | None" = None
    regional: Regional | None = None
    in_float32: bool = False
    encode_with: Callable[..., Conditioning] | None = None

    @property
    def steps(self) -> int:
        """Steps that are run, the hires pass included."""
        steps = self.recipe.steps
        if self.init_latents and self.init_latents.takes_strength and self.recipe.init_image:
            steps -= first_step(self.recipe.steps, self.recipe.init_image.strength)
        if self.second:
            assert self.second.recipe.hires
            steps += self.second.recipe.steps - first_step(self.second.recipe.steps, self.second.recipe.hires.strength)
        return steps


@dataclass(frozen=True, slots=True)
class Progress:
    """Step `index` of `total` over all passes of an image (1-based)."""

    step: LatentStep
    index: int
    total: int


@dataclass(frozen=True, slots=True)
class Swapping:
    """Between two steps: a model is loaded in the place of another."""

    model: str
    fraction: float


@dataclass(frozen=True, slots=True)
class Upscaling:
    """Between two passes: tile `index` of `total` is upscaled (1-based)."""

    upscaler: str
    index: int
    total: int


def plan_image(recipe: Recipe, bundle: Bundle, inputs: PassInputs) -> ImagePlan:
    """Encode what a recipe names.

    Raises:
        InvalidRecipe: a value that only the model can judge, or a model that needs an init image.
        InvalidInput: an image is missing, or its mask is empty.
    """
    variant = variant_of(bundle)
    if variant not in ("text", "inpaint"):
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
    if recipe.regions and (variant == "edit" or bundle.family.facts.denoiser != "unet"):
        raise InvalidRecipe(
            f"Regions do not go with {bundle.ref.name}.", "Remove them, or use another model.", field="regions"
        )
    size = (recipe.width, recipe.height)
    region = inpaint_region_of(recipe, inputs.images)
    init_latents, channels = None, None
    if region is not None:
        image = region.image
        init_latents = encode_init_image(region, size, bundle, lambda: depth_of(recipe, image, bundle, inputs.images))
        channels = init_latents.channels
    regional = inputs.regional(recipe, bundle, region)
    encode_with = partial(encode_prompts, recipe, cache=inputs.embeddings, t5=inputs.t5)
    conditioning = encode_with(bundle, textual_inversions=inputs.textual_inversions, regional=regional)
    if variant == "edit" and recipe.init_image and channels is not None:
        conditioning = replace(conditioning, at=edit_conditions(conditioning.at, recipe.init_image.image_guidance))
        channels = edit_channels(channels, conditioning.at(0))
    elif channels is None:
        channels = blank_channels(bundle, size)

    second = None
    if recipe.hires:
        larger, hires_steps = second_pass(recipe, recipe.hires)
        in_second = inputs.regional(larger, bundle)
        encode_larger = partial(
            encode_prompts,
            larger,
            cache=inputs.embeddings,
            t5=inputs.t5,
            hires_steps=hires_steps,
            after=recipe.steps,
        )
        second = ImagePlan(
            larger,
            bundle,
            encode_larger(bundle, textual_inversions=inputs.textual_inversions, regional=in_second),
            channels=blank_channels(bundle, (larger.width, larger.height)),
            controls=inputs.controls(larger, bundle),
            regional=in_second,
            encode_with=encode_larger,
        )
    controls = inputs.controls(recipe, bundle, region)
    plan = ImagePlan(recipe, bundle, conditioning, region, init_latents, channels, controls, second, regional)
    return replace(plan, encode_with=encode_with)


def second_pass(recipe: Recipe, hires: Hires) -> tuple[Recipe, int]:
    """The recipe of the hires pass, the same but for what the pass overrides, and how many steps it runs."""
    width, height = hires_size((recipe.width, recipe.height), hires.scale)
    changes: dict[str, object] = {"width": width, "height": height, "init_image": None}
    for name in ("steps", "sampler", "schedule", "guidance", "guidance_methods", "prompt", "negative_prompt"):
        value = getattr(hires, name)
        if value is not None:
            changes[name] = value
    larger = recipe.model_copy(update=changes)
    return larger, larger.steps - first_step(larger.steps, hires.strength)


def parts_of_passes(recipe: Recipe) -> tuple[Part, ...]:
    """Every part of the prompts that is read in any pass. Raises InvalidRecipe."""
    parts = parts_of(recipe)
    if recipe.hires:
        parts += parts_of(*second_pass(recipe, recipe.hires), after=recipe.steps)
    return tuple(dict.fromkeys(parts))


def run_pass(plan: ImagePlan, recipe: Recipe, inputs: PassInputs) -> Iterator[Progress | Swapping | Upscaling]:
    """The steps of one image, and what happens between them.

    The last step's latents are the result. Where strength is 0 there are no steps at all.

    Args:
        recipe: The image's own: count 1 and its seed.
    """
    source = noise_source(recipe.seed, recipe.noise, plan.bundle.family.facts.latents.factor)
    strength = recipe.init_image.strength if recipe.init_image else 1.0
    count, latents = 0, None
    for step in _steps(plan, strength, source, plan.init_latents, inputs):
        if isinstance(step, Swapping):
            yield step
            continue
        count += 1
        latents = step.latents
        yield Progress(step, count, plan.steps)
    if plan.second is None or recipe.hires is None:
        return

    size = (plan.second.recipe.width, plan.second.recipe.height)
    upscaler: str | ModelRef = recipe.hires.upscaler
    is_latent = isinstance(upscaler, str) and upscaler in UPSCALERS and UPSCALERS[upscaler].is_latent
    if is_latent and isinstance(upscaler, str) and latents is not None:
        factor = plan.bundle.family.facts.latents.factor
        latent_size = (size[1] // factor, size[0] // factor)
        init_latents = InitLatents(stretch_latents(latents, upscaler, latent_size, recipe.tiling))
    else:
        if is_latent:
            upscaler = "lanczos"  # an init image at strength 0 has no latents to stretch
        name = upscaler if isinstance(upscaler, str) else upscaler.name
        pixels, _ = finish(plan, latents)
        image, larger = as_image(pixels), None
        before, after = margins(recipe.tiling or "", image.size, size, _SEAM)
        wide = (size[0] + 2 * after[0], size[1] + 2 * after[1])
        for done, total, larger in inputs.upscale(continued_image(image, before), upscaler, wide):  # noqa: B007
            yield Upscaling(name, done, total)
        assert larger is not None
        init_latents = InitLatents(encode(folded_image(larger, after), plan.bundle))
    for step in _steps(plan.second, recipe.hires.strength, source, init_latents, inputs):
        if isinstance(step, Swapping):
            yield step
            continue
        count += 1
        yield Progress(step, count, plan.steps)


def finish(plan: ImagePlan, latents: Tensor | None) -> tuple[RawImage, bool]:
    """Decode latents to the result; None is an init image that is kept as it is.

    Returns:
        The image, and whether the VAE had to be run once more in float32.
    Raises:
        NoValidPicture: the numbers are not finite even so.
    """
    if latents is None:
        assert plan.region is not None
        size = (plan.recipe.width, plan.recipe.height)
        kept = plan.region.image
        if kept.size != size:
            kept = kept.resize(size)
        return as_raw(plan.region.paste_back(kept)), False
    pixels, is_retry = decode(latents, plan.bundle)
    if plan.region:
        pixels = as_raw(plan.region.paste_back(as_image(pixels)))
    return pixels, is_retry


def _steps(
    plan: ImagePlan, strength: float, source: NoiseSource, init_latents: InitLatents | None, inputs: PassInputs
) -> Iterator[LatentStep | Swapping]:
    recipe, bundle, second = plan.recipe, plan.bundle, inputs.second_model
    sampling = sampling_of(recipe, bundle)
    noise = first_noise(recipe, source).to(bundle.device.torch_device)
    mask_blend = init_latents.mask_blend(sampling, strength, noise, source) if init_latents else None
    has_hooks = bool(recipe.hypernetworks) or (inputs.loaded is not None and inputs.loaded.has_hooks)
    unet = _denoiser_of(bundle, plan, plan.regional, has_hooks=has_hooks)
    if inputs.share is not None:
        unet = inputs.share(unet, "float32" if plan.in_float32 else "")
    predict = with_channels(unet, plan.channels)
    done = mask_blend.first_step if mask_blend else 0
    takeover = None
    if recipe.refiner is not None and plan.second is None:  # it finishes the image: in a hires pass, where there is one
        takeover = Takeover(max(done, sampling.steps_until(recipe.refiner.at)))
    if second is not None and (takeover is None or takeover.first_step > done):
        yield from (Swapping(bundle.ref.name, fraction) for fraction in second.make_way())
    steps = denoise(
        lambda _: predict,
        plan.conditioning.at,
        sampling,
        noise,
        recipe.guidance,
        source,
        mask_blend=mask_blend,
        controls=plan.controls,
        guide=_guide_of(bundle, plan, sampling),
        takeover=takeover,
    )
    while done < sampling.steps:
        if takeover is not None and takeover.refiner is None and done >= takeover.first_step:
            assert second is not None
            yield from (Swapping(second.located[0].name, fraction) for fraction in second.come())
            takeover.refiner = _refiner_of(plan, sampling, inputs)
        step = next(steps)
        done = step.index
        yield step


def _refiner_of(plan: ImagePlan, sampling: Sampling, inputs: PassInputs) -> Refiner:
    """The second model, ready to go on with a run: prompts by its own text encoders, no LoRAs, controls or regions."""
    assert inputs.second_model is not None and plan.encode_with is not None
    bundle = inputs.second_model.bundle
    assert bundle is not None
    bundle = replace(bundle, tiling=plan.recipe.tiling)
    told = sampling.told_to(bundle.scheduler_config)
    fits = bundle.family is plan.bundle.family
    conditioning = plan.encode_with(
        bundle, textual_inversions=inputs.textual_inversions if fits else NO_TEXTUAL_INVERSIONS
    )
    return Refiner(_denoiser_of(bundle, plan, None), conditioning.at, told, _guide_of(bundle, plan, told))


def _denoiser_of(bundle: Bundle, plan: ImagePlan, regional: Regional | None, *, has_hooks: bool = False) -> Predict:
    """A model's denoiser, by what is quickest. Hypernetworks and some controls hook into its layers, adapters and
    regions change its attention, and some guidance does both: nothing but the modules themselves would see that.
    """
    facts = bundle.family.facts
    is_plain = regional is None and not has_hooks and not changes_unet(plan.recipe.guidance_methods)
    is_plain = is_plain and has_plain_attention(bundle.modules[facts.denoiser]) and not plan.in_float32
    evaluate = bundle.evaluate if is_plain else wrapped(by_modules(bundle.onload), bundle.tiling)
    denoiser = bundle.family.predict(bundle.onload, bundle.device.dtype, in_float32=plan.in_float32, evaluate=evaluate)
    return regional.predict_with(denoiser, bundle.modules[facts.denoiser]) if regional else denoiser


def _guide_of(bundle: Bundle, plan: ImagePlan, sampling: Sampling) -> Guide:
    facts = bundle.family.facts
    return make_guide(plan.recipe.guidance_methods, sampling, bundle.modules[facts.denoiser], facts)


def sampling_of(recipe: Recipe, bundle: Bundle) -> Sampling:
    """The recipe's sampler, set for this model.

    Raises:
        InvalidRecipe: no such sampler or schedule.
    """
    config = bundle.scheduler_config
    schedule = recipe.schedule
    if recipe.sampler in SAMPLERS:
        kinds = {
            "zero_snr": bool(config.get("rescale_betas_zero_snr")),
            "is_flow": config.get("prediction_type") == FLOW_PREDICTION,
            "is_edm": config.get("prediction_type") in EDM_PREDICTIONS,
        }
        schedule = resolve_schedule(SAMPLERS[recipe.sampler], schedule, **kinds)
    device, table = bundle.device.torch_device, bundle.family.facts.sigma_table
    return sampling_for(recipe.sampler, schedule, recipe.steps, config, device, recipe.sampling, table)


def first_noise(recipe: Recipe, source: NoiseSource) -> Tensor:
    """The noise that a pass begins with: (1, C, h, w), float32, on the CPU whatever the device."""
    latents = FAMILIES[recipe.model.family].latents
    height, width = recipe.height // latents.factor, recipe.width // latents.factor
    return source.first((1, latents.channels, height, width))
