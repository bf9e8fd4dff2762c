"""ControlNets of SD 3 and 3.5 against the stock pipeline: final latents within 1e-4 of their size in float32."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    SD3ControlNetModel,
    StableDiffusion3ControlNetInpaintingPipeline,
    StableDiffusion3ControlNetPipeline,
    StableDiffusion3Pipeline,
)
from diffusers.image_processor import VaeImageProcessor

from catalog.models import ModelEntry, describe
from contract.errors import InvalidRecipe
from contract.recipe import Recipe
from contract.tasks import Generate
from contract.work import WorkItem, path_key
from engine.adapters.joint_controlnet import control_latents
from engine.adapters.prompt_encoder import EmbeddingCache
from engine.images.preprocessors import Preprocessors
from engine.job_models import acquire
from engine.models.manager import ModelManager
from engine.pipeline import PassInputs, plan_image, run_pass
from tests.engine.conftest import CPU
from tests.parity.test_controls import HINT, HINT_REF, IMAGES, MASK, MASK_REF, OTHER, OTHER_REF, START, START_REF
from tests.parity.test_sd3 import assert_equal, of_t5
from tests.parity.test_start_pictures import no_enlarging
from tests.support import tiny_sd3

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("most_likely_latents"),
]
STEPS = 2
Make = Callable[..., torch.Tensor]


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelEntry]:
    root = tmp_path_factory.mktemp("sd3_controlnets")
    paths = {
        "canny": tiny_sd3.build_controlnet(root / "canny"),
        "pose": tiny_sd3.build_controlnet(root / "pose", 51),
        "large": tiny_sd3.build_controlnet(root / "large", 52, is_large=True, layers=3),
        "inpaint": tiny_sd3.build_controlnet(root / "inpaint", 53, more_channels=1),
    }
    for name in ("canny", "large"):
        paths[f"{name} file"] = tiny_sd3.write_controlnet(paths[name], root / f"{name}.safetensors")
    found = {name: describe(path, name) for name, path in paths.items()}
    assert not [entry.problem for entry in found.values() if entry.problem]
    return found


@pytest.fixture(scope="module")
def make(sd3_entries: dict[str, ModelEntry], nets: dict[str, ModelEntry]) -> Make:
    models, entry, cache = ModelManager(CPU), sd3_entries["folder"], EmbeddingCache()

    def made(*units: dict[str, object], **deltas: object) -> torch.Tensor:
        plain: dict[str, object] = {
            "prompt": "a red cat at sea",
            "negative_prompt": "dog",
            "model": entry.ref,
            "sampler": "euler",
            "schedule": "uniform",
            "steps": STEPS,
            "guidance": 4.5,
            "width": 64,
            "height": 64,
            "seed": 7,
            "controls": tuple({"image": HINT_REF, **unit, "model": nets[str(unit["model"])].ref} for unit in units),
        }
        recipe = Recipe.model_validate({**plain, **deltas})
        paths = {path_key(found.ref): str(found.path) for found in nets.values()}
        work_item = WorkItem("job", 1, Generate(recipe=recipe), IMAGES, paths)
        t5 = of_t5(recipe, entry.path, models, cache)
        with (
            models.lease(entry.ref, str(entry.path)) as bundle,
            acquire(recipe, work_item, models, Preprocessors([], CPU.torch_device), bundle) as loaded,
        ):
            inputs = PassInputs(IMAGES, cache, no_enlarging, loaded, t5=t5)
            *_, last = run_pass(plan_image(recipe, bundle, inputs), recipe, inputs)
            return last.step.latents

    return made


class EdgesProcessor(VaeImageProcessor):
    """As Stability's card says that pictures for their canny model are made."""

    def __init__(self) -> None:
        super().__init__(do_normalize=False)

    def preprocess(self, image: Any, **sizes: Any) -> torch.Tensor:
        return super().preprocess(image, **sizes) * 255 * 0.5 + 0.5


@pytest.fixture(scope="module")
def parts(sd3_entries: dict[str, ModelEntry]) -> dict[str, Any]:
    path = str(sd3_entries["folder"].path)
    return StableDiffusion3Pipeline.from_pretrained(path, local_files_only=True, torch_dtype=torch.float32).components


def stock(parts: dict[str, Any], nets: dict[str, ModelEntry], names: list[str], **more: Any) -> torch.Tensor:
    loaded = [SD3ControlNetModel.from_pretrained(str(nets[name].path)) for name in names]
    pipe = StableDiffusion3ControlNetPipeline(**parts, controlnet=loaded[0] if len(loaded) == 1 else loaded)
    pipe.set_progress_bar_config(disable=True)
    pipe.image_processor = more.pop("processor", pipe.image_processor)
    latents: torch.Tensor = pipe(
        "a red cat at sea",
        negative_prompt="dog",
        **{
            "num_inference_steps": STEPS,
            "guidance_scale": 4.5,
            "width": 64,
            "height": 64,
            "control_image": HINT,
            **more,
        },
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images
    return latents


LINES, DEPTH = {"control_type": "lines"}, {"control_type": "depth"}
MODES: dict[str, tuple[tuple[dict[str, object], ...], list[str], dict[str, Any]]] = {
    "one": (({"model": "canny", "weight": 0.8},), ["canny"], {"controlnet_conditioning_scale": 0.8}),
    "in a span": (
        ({"model": "canny", "start": 0.4},),
        ["canny"],
        {"control_guidance_start": 0.4},
    ),
    "two": (
        ({"model": "canny", "weight": 0.7}, {"model": "pose", "image": OTHER_REF, "end": 0.5}),
        ["canny", "pose"],
        {
            "control_image": [HINT, OTHER],
            "controlnet_conditioning_scale": [0.7, 1.0],
            "control_guidance_start": [0.0, 0.0],
            "control_guidance_end": [1.0, 0.5],
        },
    ),
    "SD 3.5 large's, depth": (({"model": "large", **DEPTH},), ["large"], {}),
    "SD 3.5 large's, lines": (({"model": "large", **LINES},), ["large"], {"processor": EdgesProcessor()}),
    "SD 3.5 large's, two": (
        ({"model": "large", **DEPTH}, {"model": "large", "image": OTHER_REF, "weight": 0.5, **DEPTH}),
        ["large", "large"],
        {"control_image": [HINT, OTHER], "controlnet_conditioning_scale": [1.0, 0.5]},
    ),
}


@pytest.mark.parametrize("name", MODES)
def test_latents_are_the_stock_pipelines(
    name: str, make: Make, parts: dict[str, Any], nets: dict[str, ModelEntry]
) -> None:
    units, names, told = MODES[name]
    ours = make(*units)
    assert_equal(ours, stock(parts, nets, names, **told))
    if name == "one":
        assert (ours - make()).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["canny", "large"])
def test_a_file_acts_as_its_folder(name: str, make: Make) -> None:
    """With diffusers' names, and with Stability's, which keep q, k and v as one: equal to the bit."""
    assert torch.equal(make({"model": f"{name} file", **DEPTH}), make({"model": name, **DEPTH}))


def test_an_inpainting_net_is_shown_what_the_stock_pipeline_shows_it(
    parts: dict[str, Any], nets: dict[str, ModelEntry], sd3_entries: dict[str, ModelEntry]
) -> None:
    net = SD3ControlNetModel.from_pretrained(str(nets["inpaint"].path))
    pipe = StableDiffusion3ControlNetInpaintingPipeline(**parts, controlnet=net)
    theirs = pipe.prepare_image_with_mask(START, MASK.convert("L"), 64, 64, 1, 1, "cpu", torch.float32)
    hidden = torch.from_numpy(np.array(MASK.convert("L")) > 127)
    entry = sd3_entries["folder"]
    control = Recipe.model_validate(
        {
            "prompt": "",
            "model": entry.ref,
            "sampler": "euler",
            "schedule": "uniform",
            "steps": 1,
            "guidance": 1.0,
            "width": 64,
            "height": 64,
            "seed": 1,
            "controls": ({"model": nets["inpaint"].ref, "image": HINT_REF, "preprocessor": "inpaint_only"},),
        }
    ).controls[0]
    with ModelManager(CPU).lease(entry.ref, str(entry.path)) as bundle:
        ours = control_latents(control, net, START, bundle, hidden)
    assert ours.shape == (1, 17, 8, 8) and torch.allclose(ours, theirs, atol=1e-5)


def test_modes_masks_and_other_passes_go_with_it(make: Make) -> None:
    made = [make({"model": "canny", "mode": mode}, steps=1) for mode in ("balanced", "prompt", "control")]
    assert not any(torch.equal(made[one], made[other]) for one, other in ((0, 1), (0, 2), (1, 2)))
    start = {"init_image": {"image": START_REF, "strength": 1.0}}
    for unit, more in (
        ({"model": "canny"}, start),
        ({"model": "inpaint", "preprocessor": "inpaint_only"}, {**start, "mask": {"image": MASK_REF, "blur": 0}}),
        ({"model": "canny"}, {"hires": {"scale": 1.25, "strength": 1.0}}),
        ({"model": "large", **DEPTH}, {"width": 72}),
    ):
        ours = make(unit, steps=1, **more)
        other = make({**unit, "weight": 0.0}, steps=1, **more)
        assert torch.isfinite(ours).all() and (ours - other).abs().max() > 1e-3


def test_what_does_not_fit_is_refused(make: Make, nets: dict[str, ModelEntry], tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match="at most 192 pixels a side") as caught:
        make({"model": "canny"}, width=64, height=256)
    assert caught.value.field == "width"
