"""img2img, inpaint (4 and 9 channels), InstructPix2Pix and depth-to-image against the stock pipelines.

Every sampler × schedule that is offered (SDXL and v-prediction: every sampler with two schedules), final latents
within 1e-4 of their size in float32; random models make latents of size 1 to 90. What diffusers has no option for
is pinned to our levels, as in `test_stock_pipelines.py`, and so are levels that a pipeline takes no list for.
"""

import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionDepth2ImgPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLInstructPix2PixPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from transformers import DPTForDepthEstimation, DPTImageProcessor

from catalog.models import ModelEntry
from catalog.samplers import SAMPLERS, Sampler, schedules_for
from contract.recipe import Recipe
from contract.work import WorkImage
from engine.adapters.prompt_encoder import EmbeddingCache
from engine.engine import Engine
from engine.images.depth import depth_of
from engine.models.manager import ModelManager
from engine.pipeline import PassInputs, plan_image, run_pass, sampling_of
from tests.engine.conftest import CPU
from tests.parity.test_stock_pipelines import CLASSES, SCHEDULES, STEPS, TOLERANCE, pin, stock_scheduler

SIDE = 64
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("most_likely_latents"),
]
# A mode is a model and a pipeline; with a mask or without.
MODES: dict[str, tuple[str, Any, bool]] = {
    "img2img": ("sd1", StableDiffusionImg2ImgPipeline, False),
    "img2img v-prediction": ("sd2", StableDiffusionImg2ImgPipeline, False),
    "img2img SDXL": ("sdxl", StableDiffusionXLImg2ImgPipeline, False),
    "inpaint": ("sd1", StableDiffusionInpaintPipeline, True),
    "inpaint SDXL": ("sdxl", StableDiffusionXLInpaintPipeline, True),
    "inpaint 9 channels": ("inpaint", StableDiffusionInpaintPipeline, True),
    "inpaint 9 channels SDXL": ("sdxl_inpaint", StableDiffusionXLInpaintPipeline, True),
    "edit": ("edit", StableDiffusionInstructPix2PixPipeline, False),
    "edit SDXL": ("sdxl_edit", StableDiffusionXLInstructPix2PixPipeline, False),
    "depth": ("depth", StableDiffusionDepth2ImgPipeline, False),
}


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def smooth_picture(width: int = SIDE, height: int = SIDE) -> Image.Image:
    chance = np.random.default_rng(3).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(chance).resize((width, height), Image.Resampling.BICUBIC)


def box_mask() -> Image.Image:
    mask = Image.new("RGB", (SIDE, SIDE))
    mask.paste("white", (16, 24, 48, 56))
    return mask


PICTURE, MASK, DEPTH = smooth_picture(), box_mask(), smooth_picture().convert("L").convert("RGB")
IMAGES = {hashlib.sha256(png(image)).hexdigest(): png(image) for image in (PICTURE, MASK, DEPTH)}
PICTURE_REF, MASK_REF, DEPTH_REF = ({"sha256": sha256} for sha256 in IMAGES)


def parts(mode: str, strength: float = 0.7) -> dict[str, object]:
    start: dict[str, object] = {"image": PICTURE_REF, "strength": strength}
    if mode == "depth":
        start["depth"] = DEPTH_REF
    return {"init_image": start, "mask": {"image": MASK_REF, "blur": 0} if MODES[mode][2] else None}


@pytest.fixture(scope="module")
def pipes(entries: dict[str, ModelEntry]) -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def pipe(mode: str) -> Any:
        if mode not in made:
            kind, cls, _ = MODES[mode]
            base = StableDiffusionXLPipeline if "sdxl" in kind else StableDiffusionPipeline
            parts = base.from_pretrained(str(entries[kind].path), local_files_only=True).components
            if mode == "depth":
                parts = {name: parts[name] for name in ("vae", "text_encoder", "tokenizer", "unet", "scheduler")}
                estimator = Path(entries[kind].path) / "depth_estimator"
                parts |= {
                    "depth_estimator": DPTForDepthEstimation.from_pretrained(str(estimator)),
                    "feature_extractor": DPTImageProcessor(),
                }
            if mode == "edit SDXL":  # which takes no image encoder
                parts = {name: part for name, part in parts.items() if part is not None}
            made[mode] = cls(**parts)
            made[mode].set_progress_bar_config(disable=True)
            made[mode].first_config = dict(parts["scheduler"].config)
        return made[mode]

    return pipe


@pytest.fixture(scope="module")
def lender() -> Iterator[ModelManager]:
    yield ModelManager(CPU)


def no_enlarging(*_: object) -> Image.Image:
    raise AssertionError("nothing is upscaled here")


def our_latents(recipe: Recipe, entry: ModelEntry, models: ModelManager) -> tuple[torch.Tensor, Any]:
    with models.lease(entry.ref, str(entry.path)) as bundle:
        inputs = PassInputs(IMAGES, EmbeddingCache(), no_enlarging)
        *_, last = run_pass(plan_image(recipe, bundle, inputs), recipe, inputs)
        return last.step.latents, sampling_of(recipe, bundle)


def stock_latents(mode: str, recipe: Recipe, pipe: Any, output_type: str = "latent") -> Any:
    assert recipe.init_image
    more: dict[str, Any] = {"strength": recipe.init_image.strength}
    if MODES[mode][2]:
        more |= {"mask_image": MASK.convert("L"), "width": SIDE, "height": SIDE}
    if mode.startswith("edit"):
        more = {"image_guidance_scale": recipe.init_image.image_guidance}
    if mode == "depth" and recipe.init_image.depth:
        more["depth_map"] = torch.from_numpy(np.array(DEPTH.convert("L"))).float()[None]
    return pipe(
        recipe.prompt,
        image=PICTURE,
        negative_prompt=recipe.negative_prompt,
        guidance_scale=recipe.guidance,
        num_inference_steps=recipe.steps,
        generator=torch.Generator().manual_seed(recipe.seed),
        output_type=output_type,
        **more,
    ).images


def set_scheduler(pipe: Any, recipe: Recipe, sampling: Any) -> None:
    scheduler, steps = stock_scheduler(recipe.sampler, recipe.schedule, pipe.first_config)
    pipe.scheduler = scheduler if steps == {"num_inference_steps": STEPS} else pin(scheduler, sampling)


def offered() -> list[tuple[str, str, str]]:
    def wanted(mode: str, sampler: Sampler) -> tuple[str, ...]:
        is_whole = not mode.endswith(("SDXL", "v-prediction"))
        return schedules_for(sampler) if is_whole else (sampler.automatic, "sgm_uniform")

    return [
        (mode, sampler.id, schedule)
        for mode in MODES
        for sampler in SAMPLERS.values()
        for schedule in dict.fromkeys(wanted(mode, sampler))
        if sampler.id in CLASSES and schedule in SCHEDULES
    ]


@pytest.mark.parametrize(("mode", "sampler", "schedule"), offered())
def test_final_latents_equal_the_stock_pipelines(
    mode: str,
    sampler: str,
    schedule: str,
    entries: dict[str, ModelEntry],
    pipes: Callable[[str], Any],
    lender: ModelManager,
    make_recipe: Callable[..., Recipe],
) -> None:
    kind = MODES[mode][0]
    recipe = make_recipe(kind, sampler=sampler, schedule=schedule, steps=STEPS, guidance=2.0, **parts(mode))
    ours, sampling = our_latents(recipe, entries[kind], lender)
    pipe = pipes(mode)
    set_scheduler(pipe, recipe, sampling)
    theirs = stock_latents(mode, recipe, pipe)
    assert torch.isfinite(ours).all()
    assert (ours - theirs).abs().max() <= TOLERANCE * max(1.0, float(theirs.std()))


@pytest.mark.parametrize("strength", [0.34, 1.0])
@pytest.mark.parametrize("mode", MODES)
def test_strengths_mean_the_same(
    mode: str,
    strength: float,
    entries: dict[str, ModelEntry],
    pipes: Callable[[str], Any],
    lender: ModelManager,
    make_recipe: Callable[..., Recipe],
) -> None:
    kind = MODES[mode][0]
    recipe = make_recipe(kind, sampler="euler_a", schedule="simple", steps=STEPS, guidance=2.0, **parts(mode, strength))
    ours, sampling = our_latents(recipe, entries[kind], lender)
    pipe = pipes(mode)
    set_scheduler(pipe, recipe, sampling)
    theirs = stock_latents(mode, recipe, pipe)
    assert (ours - theirs).abs().max() <= TOLERANCE * max(1.0, float(theirs.std()))


@pytest.mark.parametrize("mode", ["img2img", "img2img SDXL", "inpaint", "inpaint 9 channels", "edit", "depth"])
def test_pictures_equal_the_stock_pipelines(
    mode: str,
    entries: dict[str, ModelEntry],
    pipes: Callable[[str], Any],
    engine: Engine,
    lender: ModelManager,
    make_recipe: Callable[..., Recipe],
    make_work_item: Callable[..., Any],
) -> None:
    """Under the mask; outside it ours is the start picture itself, which theirs has sent through the VAE."""
    kind = MODES[mode][0]
    recipe = make_recipe(kind, sampler="euler", schedule="simple", steps=STEPS, guidance=2.0, **parts(mode))
    pipe = pipes(mode)
    set_scheduler(pipe, recipe, None)
    (theirs,) = stock_latents(mode, recipe, pipe, output_type="np")
    (ours,) = [
        event.pixels
        for event in engine.generate(make_work_item(recipe, images=IMAGES), lambda: False)
        if isinstance(event, WorkImage)
    ]
    painted = np.array(MASK)[..., 0] > 0 if MODES[mode][2] else np.ones((SIDE, SIDE), dtype=bool)
    stock = (theirs * 255).round().astype(int)[painted]
    mine = np.frombuffer(ours.rgb, dtype=np.uint8).reshape(SIDE, SIDE, 3).astype(int)[painted]
    assert np.abs(mine - stock).max() <= 1  # a difference of 1e-7 may round to the next of 256 levels
    assert (mine != stock).mean() < 1e-3


def test_the_models_own_estimate_of_depth_is_the_stock_pipelines(
    entries: dict[str, ModelEntry],
    pipes: Callable[[str], Any],
    lender: ModelManager,
    make_recipe: Callable[..., Recipe],
) -> None:
    """At the estimator's own size: the stock pipeline resizes by other code, two levels of 256 apart."""
    picture, pipe = smooth_picture(384, 384), pipes("depth")
    with torch.no_grad():
        pixels = pipe.feature_extractor(images=[picture], return_tensors="pt").pixel_values
        theirs = pipe.depth_estimator(pixels).predicted_depth
    with lender.lease(entries["depth"].ref, str(entries["depth"].path)) as bundle:
        ours = depth_of(make_recipe("depth"), picture, bundle, {})
    assert torch.allclose(ours[0], theirs, atol=1e-5)
