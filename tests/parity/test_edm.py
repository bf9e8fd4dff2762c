"""Models of EDM (Playground v2.5, CosXL): latents and pictures as of the stock pipeline with diffusers' EDM schedulers."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler, StableDiffusionXLPipeline

from catalog.models import ModelEntry, describe
from contract.recipe import Recipe
from contract.work import WorkImage
from engine.engine import Engine
from engine.models.manager import ModelManager
from tests.engine.conftest import CPU
from tests.parity.test_stock_pipelines import our_latents, stock_latents
from tests.support import tiny_files

TOLERANCE, STEPS = 1e-4, 5
MEAN, STD = [-1.6574, 1.886, -1.383, 2.5155], [8.4927, 5.9022, 6.5498, 5.2299]
COSXL = {"prediction_type": "v_prediction", "sigma_data": 1.0, "sigma_max": 120.0, "sigma_schedule": "exponential"}
Make = Callable[..., Any]

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def of_edm(source: Path, folder: Path, scheduler: Any, *, has_statistics: bool) -> ModelEntry:
    """A copy of an SDXL folder with another scheduler, and with statistics of latents."""
    shutil.copytree(source, folder)
    (folder / "scheduler" / "scheduler_config.json").unlink()
    scheduler.save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"_class_name": "StableDiffusionXLPipeline", "scheduler": ["diffusers", type(scheduler).__name__]}
    index.setdefault("text_encoder", ["transformers", "CLIPTextModel"])
    index.setdefault("text_encoder_2", ["transformers", "CLIPTextModelWithProjection"])
    (folder / "model_index.json").write_text(json.dumps(index))
    if has_statistics:
        config = json.loads((folder / "vae" / "config.json").read_text())
        config |= {"latents_mean": MEAN, "latents_std": STD, "scaling_factor": 0.5}
        (folder / "vae" / "config.json").write_text(json.dumps(config))
    return describe(folder, folder.name)


@pytest.fixture(scope="module")
def edm_entries(entries: dict[str, ModelEntry], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelEntry]:
    root, source = tmp_path_factory.mktemp("edm"), entries["sdxl"].path
    return {
        "playground": of_edm(source, root / "playground", EDMDPMSolverMultistepScheduler(), has_statistics=True),
        "cosxl": of_edm(source, root / "cosxl", EDMEulerScheduler(**COSXL), has_statistics=False),
    }


def recipe_for(entry: ModelEntry, **fields: object) -> Recipe:
    plain = {"prompt": "a red cat at sea", "negative_prompt": "dog", "steps": STEPS, "guidance": 3.0, "seed": 7}
    return Recipe.model_validate({**plain, "model": entry.ref, "width": 64, "height": 64, **fields})


def stock(entry: ModelEntry, scheduler: Any = None) -> Any:
    pipe = StableDiffusionXLPipeline.from_pretrained(str(entry.path), local_files_only=True, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    if scheduler is not None:
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    return pipe


@pytest.mark.parametrize(
    ("kind", "sampler", "schedule", "scheduler"),
    [
        ("playground", "dpmpp_2m", "karras", EDMDPMSolverMultistepScheduler),
        ("playground", "dpmpp_2m", "automatic", EDMDPMSolverMultistepScheduler),
        ("playground", "euler", "karras", EDMEulerScheduler),
        ("cosxl", "euler", "exponential", EDMEulerScheduler),
        ("cosxl", "dpmpp_2m", "exponential", EDMDPMSolverMultistepScheduler),
    ],
)
def test_final_latents_equal_the_stock_pipelines(
    kind: str, sampler: str, schedule: str, scheduler: Any, edm_entries: dict[str, ModelEntry]
) -> None:
    entry = edm_entries[kind]
    assert entry.problem is None and entry.is_edm
    recipe = recipe_for(entry, sampler=sampler, schedule=schedule)
    ours, _ = our_latents(recipe, entry, ModelManager(CPU))
    theirs = stock_latents(recipe, stock(entry, scheduler), {"num_inference_steps": STEPS})
    assert torch.isfinite(ours).all() and ours.abs().max() > 0.01
    assert (ours - theirs).abs().max() <= TOLERANCE


def test_the_picture_equals_the_stock_pipelines(
    edm_entries: dict[str, ModelEntry], engine: Engine, make_work_item: Make
) -> None:
    entry = edm_entries["playground"]
    recipe = recipe_for(entry, sampler="dpmpp_2m", schedule="karras")
    ours = picture(engine, make_work_item, recipe, entry)
    theirs = stock_latents(recipe, stock(entry), {"num_inference_steps": STEPS}, output_type="pt")[0]
    shown = torch.frombuffer(bytearray(ours), dtype=torch.uint8).view(64, 64, 3)
    assert (shown.float() - (theirs.permute(1, 2, 0) * 255).round()).abs().max() <= 1


def picture(engine: Engine, make_work_item: Make, recipe: Recipe, entry: ModelEntry) -> bytes:
    paths = {f"checkpoint/{entry.ref.name}": str(entry.path)}
    (found,) = [
        event.pixels.rgb
        for event in engine.generate(replace(make_work_item(recipe), model_paths=paths), lambda: False)
        if isinstance(event, WorkImage)
    ]
    return bytes(found)


def test_a_single_file_gives_the_picture_of_its_folder(tmp_path: Path, engine: Engine, make_work_item: Make) -> None:
    folder = tiny_files.build_folder("sdxl", tmp_path / "plain")
    whole = of_edm(folder, tmp_path / "whole", EDMDPMSolverMultistepScheduler(), has_statistics=True)
    statistics = {"edm_mean": torch.tensor(MEAN).view(1, 4, 1, 1), "edm_std": torch.tensor(STD).view(1, 4, 1, 1)}
    path = tiny_files.write_file(folder, tmp_path / "one.safetensors", more=statistics)
    alone = describe(path, "one")
    assert (alone.problem, alone.prediction, alone.ref.family) == (None, "edm", "sdxl")
    assert alone.defaults.guidance == 3.0 and whole.defaults == alone.defaults
    fields = {"sampler": "dpmpp_2m", "schedule": "karras", "width": 64, "height": 64, "steps": 3}
    pictures = [picture(engine, make_work_item, recipe_for(entry, **fields), entry) for entry in (alone, whole)]
    assert pictures[0] == pictures[1]


def test_a_picture_can_be_where_it_begins(
    edm_entries: dict[str, ModelEntry], engine: Engine, make_work_item: Make
) -> None:
    """A hires pass encodes nothing and noises latents again, on EDM's levels."""
    entry = edm_entries["playground"]
    hires = {"scale": 1.5, "upscaler": "latent", "strength": 0.6}
    recipe = recipe_for(entry, sampler="euler_a", schedule="karras", hires=hires)
    assert len(set(picture(engine, make_work_item, recipe, entry))) > 10
