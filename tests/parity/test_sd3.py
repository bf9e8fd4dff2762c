"""SD 3.5 against the stock pipelines: prompt embeds, and final latents within 1e-4 of their size in float32."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusion3Img2ImgPipeline, StableDiffusion3InpaintPipeline, StableDiffusion3Pipeline

from catalog.models import ModelEntry
from contract.parts import GuidanceMethod
from contract.recipe import Recipe
from engine.adapters.prompt_encoder import EmbeddingCache, T5Prompts
from engine.adapters.t5 import read_with_t5
from engine.models.manager import ModelManager
from engine.pipeline import ImagePlan, PassInputs, parts_of_passes, plan_image, run_pass
from engine.sampling.guidance.skipped_layers import SkippedLayers
from tests.engine.conftest import CPU
from tests.parity.test_start_pictures import IMAGES, MASK, MASK_REF, PICTURE, PICTURE_REF, no_enlarging
from tests.parity.test_stock_pipelines import TOLERANCE

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("most_likely_latents"),
]
LONG = "a red cat at the sea, a dog, the sun of the night " * 12
Made = tuple[torch.Tensor, ImagePlan]


@pytest.fixture(scope="module")
def pipe(sd3_entries: dict[str, ModelEntry]) -> Any:
    path = str(sd3_entries["folder"].path)
    made = StableDiffusion3Pipeline.from_pretrained(path, local_files_only=True, torch_dtype=torch.float32)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def make(sd3_entries: dict[str, ModelEntry]) -> Iterator[Callable[..., Made]]:
    models = ModelManager(CPU)

    def made(kind: str, **deltas: object) -> Made:
        entry = sd3_entries[kind]
        assert entry.problem is None
        plain: dict[str, object] = {
            "prompt": "a red cat at sea",
            "negative_prompt": "dog",
            "model": entry.ref,
            "sampler": "euler",
            "schedule": "uniform",
            "steps": 4,
            "guidance": 4.5,
            "width": 64,
            "height": 64,
            "seed": 7,
        }
        recipe = Recipe.model_validate({**plain, **deltas})
        cache = EmbeddingCache()
        t5 = of_t5(recipe, entry.path, models, cache)
        with models.lease(recipe.model, str(entry.path)) as bundle:
            inputs = PassInputs(IMAGES, cache, no_enlarging, t5=t5)
            plan = plan_image(recipe, bundle, inputs)
            *_, last = run_pass(plan, recipe, inputs)
            return last.step.latents, plan

    yield made


def of_t5(recipe: Recipe, path: Path, models: ModelManager, cache: EmbeddingCache) -> T5Prompts:
    reading = read_with_t5(recipe, parts_of_passes(recipe), path, models, cache)
    while True:
        try:
            next(reading)
        except StopIteration as ended:
            found: T5Prompts = ended.value
            return found


def stock(pipe: Any, prompt: str = "a red cat at sea", **more: Any) -> torch.Tensor:
    latents: torch.Tensor = pipe(
        prompt,
        negative_prompt="dog",
        **{"num_inference_steps": 4, "guidance_scale": 4.5, **more},
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images
    return latents


def assert_equal(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert torch.isfinite(ours).all()
    assert (ours - theirs).abs().max() <= TOLERANCE * max(1.0, float(theirs.std()))


@pytest.mark.parametrize(
    "change", [{}, {"width": 96, "height": 80}, {"guidance": 1.0}, {"negative_prompt": ""}, {"clip_skip": 2}], ids=str
)
def test_latents_are_the_stock_pipelines(change: dict[str, Any], make: Callable[..., Made], pipe: Any) -> None:
    ours, _ = make("folder", **change)
    options: dict[str, Any] = {"width": 64, "height": 64}
    names = {"guidance": "guidance_scale", "clip_skip": "clip_skip"}
    for name, value in change.items():
        options[names.get(name, name)] = value
    if "clip_skip" in options:  # counts skipped layers, and skips none of the negative prompt's
        ours, _ = make("folder", clip_skip=2, guidance=1.0)
        options |= {"clip_skip": 1, "guidance_scale": 1.0}
    if "negative_prompt" in options:
        options.pop("negative_prompt")
        theirs = pipe(
            "a red cat at sea",
            **options,
            num_inference_steps=4,
            guidance_scale=4.5,
            generator=torch.Generator().manual_seed(7),
            output_type="latent",
        ).images
    else:
        theirs = stock(pipe, **options)
    assert_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["whole", "alone"])
def test_a_file_paints_what_its_folder_paints(kind: str, make: Callable[..., Made]) -> None:
    """Each component read from original names, inside the file or beside it: equal to the bit."""
    assert torch.equal(make(kind)[0], make("folder")[0])


@pytest.mark.parametrize("kind", ["without_t5", "clips"])
def test_zeros_stand_for_a_t5_that_is_not_there(kind: str, make: Callable[..., Made], pipe: Any) -> None:
    parts = {**pipe.components, "text_encoder_3": None, "tokenizer_3": None}
    other = StableDiffusion3Pipeline(**parts)
    other.set_progress_bar_config(disable=True)
    assert_equal(make(kind)[0], stock(other, width=64, height=64))


def test_t5_reads_a_long_prompt_whole(make: Callable[..., Made], pipe: Any) -> None:
    """CLIP reads it in chunks, of which theirs has the first; T5 as far as it goes, as theirs."""
    _, plan = make("folder", prompt=LONG, steps=1)
    ours = plan.conditioning.at(0).prompt_embeds[1:]
    theirs, _, _, _ = pipe.encode_prompt(LONG, None, None)
    assert ours.shape[1] > theirs.shape[1]
    assert torch.allclose(ours[:, -256:], theirs[:, -256:], atol=1e-5)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_image_to_image_is_the_stock_pipelines(strength: float, make: Callable[..., Made], pipe: Any) -> None:
    ours, _ = make("folder", init_image={"image": PICTURE_REF, "strength": strength})
    other = StableDiffusion3Img2ImgPipeline(**pipe.components)
    other.set_progress_bar_config(disable=True)
    assert_equal(ours, stock(other, image=PICTURE, strength=strength, width=64, height=64))


def test_inpainting_is_the_stock_pipelines(make: Callable[..., Made], pipe: Any) -> None:
    start = {"image": PICTURE_REF, "strength": 0.75}
    ours, _ = make("folder", init_image=start, mask={"image": MASK_REF, "blur": 0})
    other = StableDiffusion3InpaintPipeline(**pipe.components)
    other.set_progress_bar_config(disable=True)
    theirs = stock(other, image=PICTURE, mask_image=MASK.convert("L"), strength=0.75, width=64, height=64)
    assert_equal(ours, theirs)


def test_skip_layer_guidance_is_the_stock_pipelines(
    make: Callable[..., Made], pipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SkippedLayers.__init__
    monkeypatch.setattr(SkippedLayers, "__init__", lambda self, **values: made(self, **{**values, "layers": (0, 1)}))
    method = GuidanceMethod(id="skip_layer", values={"end": 0.8})
    ours, plan = make("folder", steps=6, guidance_methods=(method,))
    options = {"skip_guidance_layers": [0, 1], "skip_layer_guidance_stop": 0.8, "num_inference_steps": 6}
    assert_equal(ours, stock(pipe, width=64, height=64, **options))
    without, _ = make("folder", steps=6)
    assert (ours - without).abs().max() > 1e-2
    blocks: Any = plan.bundle.modules["transformer"].transformer_blocks
    assert "forward" not in blocks[0].__dict__  # nothing stays changed
