"""ControlNets (one, several, union), T2I-Adapters and pictures as prompt against the stock pipelines.

Every sampler with its own schedule × every kind of control, alone and with img2img and inpaint: final latents
within 1e-4 of their size in float32, and the same picture. Tiny real models with random weights.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, ControlNetUnionModel, MultiAdapter, T2IAdapter
from PIL import Image

from catalog.models import ModelEntry
from catalog.samplers import SAMPLERS
from contract.recipe import Recipe
from contract.tasks import Generate
from contract.work import WorkImage, WorkItem, path_key
from engine.adapters.prompt_encoder import EmbeddingCache
from engine.engine import Engine
from engine.images.preprocessors import Preprocessors
from engine.job_models import acquire
from engine.models.manager import ModelManager
from engine.pipeline import PassInputs, first_noise, plan_image, run_pass, sampling_of
from engine.sampling.noise import OwnNoise
from tests.engine.conftest import CPU
from tests.parity.test_start_pictures import box_mask, no_enlarging, png, set_scheduler, smooth_picture
from tests.parity.test_stock_pipelines import CLASSES, STEPS, TOLERANCE

SIDE = 64
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("most_likely_latents"),
]
START, MASK = smooth_picture(), box_mask()
HINT = Image.fromarray(np.random.default_rng(5).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
OTHER = Image.fromarray(255 - np.asarray(smooth_picture()))
PICTURES = (START, MASK, HINT, OTHER)
IMAGES = {hashlib.sha256(png(image)).hexdigest(): png(image) for image in PICTURES}
START_REF, MASK_REF, HINT_REF, OTHER_REF = ({"sha256": sha256} for sha256 in IMAGES)


@dataclass(frozen=True)
class Mode:
    """A pipeline and what it is told, beside the same as parts of a recipe.

    models: folders of `control_entries`, one a control. nets: how the stock pipeline takes them.
    """

    kind: str
    pipeline: str
    controls: tuple[dict[str, object], ...] = ()
    ip_adapters: tuple[dict[str, object], ...] = ()
    told: Mapping[str, Any] = field(default_factory=dict)
    start: bool = False
    mask: bool = False


def unit(model: str, image: object = HINT_REF, **more: object) -> dict[str, object]:
    return {"model": model, "image": image, **more}


def cut_out(hole: float = -1.0) -> torch.Tensor:
    """As the documentation of the pipelines makes a picture for an inpainting ControlNet."""
    pixels = np.array(START).astype(np.float32) / 255
    pixels[np.array(MASK)[..., 0] > 127] = hole
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


ONE, TWO = (unit("canny"),), (unit("canny", weight=0.8, end=0.7), unit("depth", OTHER_REF, weight=1.3, start=0.3))
ALL = {"image": HINT}
CONTROL, XL = "StableDiffusionControlNet", "StableDiffusionXLControlNet"
IP = (unit("picture", OTHER_REF, weight=0.7),)
MODES: dict[str, Mode] = {
    "one": Mode("sd1", f"{CONTROL}Pipeline", ONE, told=ALL),
    "several in spans": Mode(
        "sd1",
        f"{CONTROL}Pipeline",
        TWO,
        told={
            "image": [HINT, OTHER],
            "controlnet_conditioning_scale": [0.8, 1.3],
            "control_guidance_start": [0.0, 0.3],
            "control_guidance_end": [0.7, 1.0],
        },
    ),
    "for the prompt only": Mode(
        "sd1",
        f"{CONTROL}Pipeline",
        (unit("canny", mode="control", weight=0.9),),
        told={**ALL, "guess_mode": True, "controlnet_conditioning_scale": 0.9},
    ),
    "shuffled": Mode("sd1", f"{CONTROL}Pipeline", (unit("shuffle"),), told=ALL),
    "v-prediction": Mode("sd2", f"{CONTROL}Pipeline", (unit("canny2"),), told=ALL),
    "img2img": Mode(
        "sd1",
        f"{CONTROL}Img2ImgPipeline",
        (unit("canny", start=0.4),),
        start=True,
        told={"control_image": HINT, "control_guidance_start": 0.4, "controlnet_conditioning_scale": 1.0},
    ),
    "inpaint": Mode(
        "sd1",
        f"{CONTROL}InpaintPipeline",
        (unit("canny", weight=0.5),),
        start=True,
        mask=True,
        told={"control_image": HINT, "controlnet_conditioning_scale": 0.5},
    ),
    "inpaint, shown the mask": Mode(
        "sd1",
        f"{CONTROL}InpaintPipeline",
        (unit("canny", preprocessor="inpaint_only"),),
        start=True,
        mask=True,
        told={"control_image": cut_out(), "controlnet_conditioning_scale": 1.0},
    ),
    "SDXL": Mode("sdxl", f"{XL}Pipeline", (unit("canny_xl", end=0.7),), told={**ALL, "control_guidance_end": 0.7}),
    "SDXL img2img": Mode(
        "sdxl",
        f"{XL}Img2ImgPipeline",
        (unit("canny_xl"),),
        start=True,
        told={"control_image": HINT, "controlnet_conditioning_scale": 1.0},
    ),
    "SDXL inpaint": Mode(
        "sdxl",
        f"{XL}InpaintPipeline",
        (unit("canny_xl"),),
        start=True,
        mask=True,
        told={"control_image": HINT, "controlnet_conditioning_scale": 1.0},
    ),
    "union": Mode(
        "sdxl",
        f"{XL}UnionPipeline",
        (unit("union", control_type="lines", weight=0.9, end=0.7),),
        told={
            "control_image": [HINT],
            "control_mode": [3],
            "controlnet_conditioning_scale": 0.9,
            "control_guidance_end": 0.7,
        },
    ),
    "union of two": Mode(
        "sdxl",
        f"{XL}UnionPipeline",
        (unit("union", control_type="depth", weight=0.9), unit("union", OTHER_REF, control_type="pose")),
        told={"control_image": [HINT, OTHER], "control_mode": [1, 0], "controlnet_conditioning_scale": [0.9, 1.0]},
    ),
    "union of eight types": Mode(
        "sdxl",
        f"{XL}UnionPipeline",
        (
            unit("promax", control_type="tile", weight=0.9),
            unit("promax", OTHER_REF, control_type="normals"),
            unit("promax", START_REF, control_type="segments", weight=0.5),
        ),
        told={
            "control_image": [HINT, OTHER, START],
            "control_mode": [6, 4, 5],
            "controlnet_conditioning_scale": [0.9, 1.0, 0.5],
        },
    ),
    "union img2img": Mode(
        "sdxl",
        f"{XL}UnionImg2ImgPipeline",
        (unit("promax", control_type="tile"),),
        start=True,
        told={"control_image": [HINT], "control_mode": [6], "controlnet_conditioning_scale": 1.0},
    ),
    "union inpaint, shown the mask": Mode(
        "sdxl",
        f"{XL}UnionInpaintPipeline",
        (unit("promax", preprocessor="inpaint_only"),),
        start=True,
        mask=True,
        told={"control_image": [cut_out(0.0)], "control_mode": [7], "controlnet_conditioning_scale": 1.0},
    ),
    "adapter": Mode(
        "sd1",
        "StableDiffusionAdapterPipeline",
        (unit("sketch", weight=0.9),),
        told={**ALL, "adapter_conditioning_scale": 0.9},
    ),
    "two adapters": Mode(
        "sd1",
        "StableDiffusionAdapterPipeline",
        (unit("sketch", weight=0.9), unit("color", OTHER_REF, weight=0.4)),
        told={"image": [HINT, OTHER], "adapter_conditioning_scale": [0.9, 0.4]},
    ),
    "adapter SDXL": Mode("sdxl", "StableDiffusionXLAdapterPipeline", (unit("sketch_xl"),), told=ALL),
    "picture as prompt": Mode("sd1", "StableDiffusionPipeline", ip_adapters=IP, told={"ip_adapter_image": OTHER}),
    "picture as prompt SDXL": Mode(
        "sdxl",
        "StableDiffusionXLPipeline",
        ip_adapters=(unit("picture_xl", OTHER_REF),),
        told={"ip_adapter_image": OTHER},
    ),
    "plus": Mode(
        "sd1",
        "StableDiffusionPipeline",
        ip_adapters=(unit("plus", OTHER_REF, weight=0.8),),
        told={"ip_adapter_image": OTHER},
    ),
    "plus SDXL": Mode(
        "sdxl",
        "StableDiffusionXLPipeline",
        ip_adapters=(unit("plus_xl", OTHER_REF, weight=0.6),),
        told={"ip_adapter_image": OTHER},
    ),
    "plain and plus": Mode(
        "sd1",
        "StableDiffusionPipeline",
        ip_adapters=(*IP, unit("plus_beside", HINT_REF, weight=0.5)),
        told={"ip_adapter_image": [OTHER, HINT]},
    ),
    "full face": Mode(
        "sd1",
        "StableDiffusionPipeline",
        ip_adapters=(unit("full_face", OTHER_REF, weight=0.9),),
        told={"ip_adapter_image": OTHER},
    ),
    "picture as prompt and one": Mode("sd1", f"{CONTROL}Pipeline", ONE, IP, {**ALL, "ip_adapter_image": OTHER}),
    "picture as prompt, img2img": Mode(
        "sd1", "StableDiffusionImg2ImgPipeline", ip_adapters=IP, start=True, told={"ip_adapter_image": OTHER}
    ),
}

# Of these the checker of results has to be left out by name.
_CHECKED = {"StableDiffusionAdapterPipeline", *(f"{CONTROL}{kind}Pipeline" for kind in ("", "Img2Img", "Inpaint"))}


@pytest.fixture(scope="module")
def lender() -> Iterator[ModelManager]:
    yield ModelManager(CPU)


@pytest.fixture(scope="module")
def pipes(entries: dict[str, ModelEntry], control_entries: dict[str, ModelEntry]) -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def pipe(name: str) -> Any:
        if name not in made:
            made[name] = stock_pipeline(MODES[name], entries, control_entries)
        return made[name]

    return pipe


def stock_pipeline(mode: Mode, entries: dict[str, ModelEntry], controls: dict[str, ModelEntry]) -> Any:
    xl = "XL" if mode.kind == "sdxl" else ""
    base = getattr(diffusers, f"StableDiffusion{xl}Pipeline")
    parts = base.from_pretrained(str(entries[mode.kind].path), local_files_only=True).components
    if not mode.ip_adapters:
        parts = {name: part for name, part in parts.items() if name not in ("image_encoder", "feature_extractor")}
    paths = list(dict.fromkeys(str(controls[str(control["model"])].path) for control in mode.controls))
    if "Adapter" in mode.pipeline:
        adapters = [T2IAdapter.from_pretrained(path) for path in paths]
        parts["adapter"] = adapters[0] if len(adapters) == 1 else MultiAdapter(adapters)
    elif paths:
        kind = ControlNetUnionModel if "Union" in mode.pipeline else ControlNetModel
        nets = [kind.from_pretrained(path) for path in paths]
        parts["controlnet"] = nets[0] if len(nets) == 1 else nets
    checker = {"safety_checker": None, "feature_extractor": None} if mode.pipeline in _CHECKED else {}
    pipe = getattr(diffusers, mode.pipeline)(**{**parts, **checker})
    pipe.set_progress_bar_config(disable=True)
    pipe.first_config = dict(parts["scheduler"].config)
    files = [controls[str(reference["model"])].path for reference in mode.ip_adapters]
    if files:
        names = [file.name for file in files]
        pipe.load_ip_adapter(str(files[0].parent), subfolder="", weight_name=names, local_files_only=True)
        pipe.set_ip_adapter_scale([reference.get("weight", 1.0) for reference in mode.ip_adapters])
    return pipe


def recipe_of(
    mode: Mode, make_recipe: Callable[..., Recipe], controls: dict[str, ModelEntry], **more: object
) -> Recipe:
    def named(unit: dict[str, object]) -> dict[str, object]:
        return {**unit, "model": controls[str(unit["model"])].ref}

    parts: dict[str, object] = {
        "controls": tuple(map(named, mode.controls)),
        "ip_adapters": tuple(map(named, mode.ip_adapters)),
    }
    if mode.start:
        parts["init_image"] = {"image": START_REF, "strength": 0.7}
    if mode.mask:
        parts["mask"] = {"image": MASK_REF, "blur": 0}
    return make_recipe(mode.kind, steps=STEPS, guidance=2.0, **{**parts, **more})


def our_latents(
    recipe: Recipe, entry: ModelEntry, controls: dict[str, ModelEntry], models: ModelManager
) -> tuple[torch.Tensor, Any]:
    paths = {path_key(found.ref): str(found.path) for found in controls.values()}
    work_item = WorkItem("job", 1, Generate(recipe=recipe), IMAGES, paths)
    with (
        models.lease(entry.ref, str(entry.path)) as bundle,
        acquire(recipe, work_item, models, Preprocessors([], CPU.torch_device), bundle) as loaded,
    ):
        inputs = PassInputs(IMAGES, EmbeddingCache(), no_enlarging, loaded)
        *_, last = run_pass(plan_image(recipe, bundle, inputs), recipe, inputs)
        return last.step.latents, sampling_of(recipe, bundle)


def stock_latents(mode: Mode, recipe: Recipe, pipe: Any, output_type: str = "latent") -> Any:
    generator = torch.Generator().manual_seed(recipe.seed)
    more = dict(mode.told)
    if mode.start:
        more |= {"image": START, "strength": 0.7}
    else:
        more |= {"latents": first_noise(recipe, OwnNoise(generator)), "width": SIDE, "height": SIDE}
    if mode.mask:
        more |= {"mask_image": MASK.convert("L"), "width": SIDE, "height": SIDE}
    return pipe(
        recipe.prompt,
        negative_prompt=recipe.negative_prompt,
        guidance_scale=recipe.guidance,
        num_inference_steps=recipe.steps,
        generator=generator,
        output_type=output_type,
        **more,
    ).images


def offered() -> list[tuple[str, str]]:
    """What a sampler does is the same in every mode, so half of them are run with two.

    SDXL's adapter pipeline counts evaluations as steps, so that with Heun its adapter ends half way.
    """
    whole = ("one", "several in spans", "img2img", "inpaint", "SDXL", "union", "adapter", "picture as prompt")
    pairs = [(name, sampler) for name in MODES for sampler in (CLASSES if name in whole else ("euler_a", "heun"))]
    return [pair for pair in pairs if pair != ("adapter SDXL", "heun")]


@pytest.mark.parametrize(("name", "sampler"), offered())
def test_final_latents_equal_the_stock_pipelines(
    name: str,
    sampler: str,
    entries: dict[str, ModelEntry],
    control_entries: dict[str, ModelEntry],
    pipes: Callable[[str], Any],
    lender: ModelManager,
    make_recipe: Callable[..., Recipe],
) -> None:
    mode = MODES[name]
    recipe = recipe_of(mode, make_recipe, control_entries, sampler=sampler, schedule=SAMPLERS[sampler].automatic)
    ours, sampling = our_latents(recipe, entries[mode.kind], control_entries, lender)
    pipe = pipes(name)
    set_scheduler(pipe, recipe, sampling)
    theirs = stock_latents(mode, recipe, pipe)
    assert torch.isfinite(ours).all()
    assert (ours - theirs).abs().max() <= TOLERANCE * max(1.0, float(theirs.std()))


@pytest.mark.parametrize(
    "name", ["several in spans", "inpaint", "SDXL", "union of two", "two adapters", "picture as prompt and one"]
)
def test_pictures_equal_the_stock_pipelines(
    name: str,
    entries: dict[str, ModelEntry],
    control_entries: dict[str, ModelEntry],
    pipes: Callable[[str], Any],
    engine: Engine,
    make_recipe: Callable[..., Recipe],
    make_work_item: Callable[..., Any],
) -> None:
    mode = MODES[name]
    recipe = recipe_of(mode, make_recipe, control_entries, sampler="euler", schedule="simple")
    pipe = pipes(name)
    set_scheduler(pipe, recipe, None)
    (theirs,) = stock_latents(mode, recipe, pipe, output_type="np")
    paths = {path_key(found.ref): str(found.path) for found in (*entries.values(), *control_entries.values())}
    *events, _ = engine.generate(replace(make_work_item(recipe), images=IMAGES, model_paths=paths), lambda: False)
    (ours,) = [event.pixels for event in events if isinstance(event, WorkImage)]
    painted = np.array(MASK)[..., 0] > 0 if mode.mask else np.ones((SIDE, SIDE), dtype=bool)
    stock = (theirs * 255).round().astype(int)[painted]
    mine = np.frombuffer(ours.rgb, dtype=np.uint8).reshape(SIDE, SIDE, 3).astype(int)[painted]
    assert np.abs(mine - stock).max() <= 1  # a difference of 1e-7 may round to the next of 256 levels
    assert (mine != stock).mean() < 1e-3
