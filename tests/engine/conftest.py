"""Tiny models and one engine for the whole run: nothing here is changed by a test."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from catalog.models import ModelEntry, describe
from contract.recipe import Recipe
from contract.tasks import Generate
from contract.work import WorkItem, path_key
from engine.device.devices import Device
from engine.engine import Engine, EngineOptions
from engine.models.manager import ModelManager
from tests.support import tiny, tiny_controls, tiny_sd3

CPU = Device(torch.device("cpu"), "CPU")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny work is slower on several threads, much slower beside other work."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelEntry]:
    """A tiny model of each kind, and a second SD 1.x of the same shape."""
    root = tmp_path_factory.mktemp("models")
    folders: dict[str, Path] = {kind: tiny.build(kind, root / kind) for kind in (*tiny.KINDS, *tiny.VARIANTS)}
    folders["sd1_other"] = tiny.build("sd1", root / "sd1_other", seed=1)
    return {name: describe(folder, name) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def control_entries(entries: dict[str, ModelEntry], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelEntry]:
    """A tiny control model of each kind, for the models of `entries`."""
    root = tmp_path_factory.mktemp("controls")
    unets = {kind: UNet2DConditionModel.from_pretrained(str(entries[kind].path / "unet")) for kind in ("sd1", "sdxl")}
    paths = {
        "canny": tiny_controls.build_controlnet("sd1", root / "canny"),
        "depth": tiny_controls.build_controlnet("sd1", root / "depth", 11),
        "shuffle": tiny_controls.build_controlnet("sd1", root / "shuffle", 12, global_pool_conditions=True),
        "canny2": tiny_controls.build_controlnet("sd2", root / "canny2"),
        "canny_xl": tiny_controls.build_controlnet("sdxl", root / "canny_xl"),
        "union": tiny_controls.build_union(root / "union"),
        "promax": tiny_controls.build_union(root / "promax", 21, types=8),
        "sketch": tiny_controls.build_adapter(root / "sketch"),
        "color": tiny_controls.build_adapter(root / "color", 31),
        "sketch_xl": tiny_controls.build_adapter(root / "sketch_xl"),
        "picture": tiny_controls.build_ip_adapter(unets["sd1"], root / "ip" / "picture.safetensors"),
        "plus_beside": tiny_controls.build_ip_adapter(
            unets["sd1"], root / "ip" / "beside.safetensors", 44, "plus", with_encoder=False
        ),
        "plus": tiny_controls.build_ip_adapter(unets["sd1"], root / "plus" / "plus.safetensors", 41, "plus"),
        "full_face": tiny_controls.build_ip_adapter(unets["sd1"], root / "full" / "full.safetensors", 42, "full face"),
        "plus_xl": tiny_controls.build_ip_adapter(unets["sdxl"], root / "plus_xl" / "plus_xl.safetensors", 43, "plus"),
        "picture_xl": tiny_controls.build_ip_adapter(unets["sdxl"], root / "xl" / "picture_xl.safetensors"),
    }
    found = {name: describe(path, name) for name, path in paths.items()}
    assert not [entry.problem for entry in found.values() if entry.problem]
    for name, family in (("picture_xl", "sdxl"), ("plus_xl", "sdxl"), ("sketch", "sd1"), ("color", "sd1")):
        # Models as small as these can't be told by their widths and forms.
        found[name] = replace(found[name], ref=found[name].ref.model_copy(update={"family": family}))
    return found


@pytest.fixture(scope="session")
def sd3_entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelEntry]:
    """A tiny SD 3.5 as people have it: a folder, one without T5, and files with text encoders inside and beside them."""
    root = tmp_path_factory.mktemp("sd3")
    folder = tiny_sd3.build_folder(root / "folder")
    paths = {
        "folder": folder,
        "without_t5": tiny_sd3.without_t5(folder, root / "without_t5"),
        "whole": tiny_sd3.write_file(folder, root / "files" / "whole.safetensors"),
        "clips": tiny_sd3.write_file(folder, root / "none" / "clips.safetensors", inside=tiny_sd3.ENCODERS[:2]),
        "alone": tiny_sd3.write_file(folder, root / "files" / "alone.safetensors", inside=()),
    }
    for component, name in zip(tiny_sd3.ENCODERS, ("clip_l", "clip_g", "t5xxl"), strict=True):
        tiny_sd3.write_encoder(folder, component, root / "files" / "text_encoders" / f"{name}.safetensors")
    shutil.copytree(folder / "tokenizer_3", root / "files" / "tokenizer_3")
    return {name: describe(path, name) for name, path in paths.items()}


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """An engine on one CPU thread."""
    return Engine(EngineOptions(device="cpu", threads=1, cache_dir=tmp_path_factory.mktemp("cache")))


@pytest.fixture
def models() -> ModelManager:
    """A manager with nothing in it."""
    return ModelManager(CPU)


@pytest.fixture(scope="session")
def make_recipe(entries: dict[str, ModelEntry]) -> Callable[..., Recipe]:
    """A small recipe; anything can be said differently."""

    def make(model: str = "sd1", **deltas: object) -> Recipe:
        plain: dict[str, object] = {
            "prompt": "a red cat at sea",
            "negative_prompt": "dog",
            "model": entries[model].ref,
            "sampler": "euler",
            "schedule": "automatic",
            "steps": 3,
            "guidance": 5.0,
            "width": 64,
            "height": 64,
            "seed": 7,
        }
        return Recipe.model_validate({**plain, **deltas})

    return make


@pytest.fixture(scope="session")
def make_work_item(entries: dict[str, ModelEntry]) -> Callable[..., WorkItem]:
    """A work item for a recipe."""

    def make(recipe: Recipe, job_id: str = "job", **deltas: object) -> WorkItem:
        paths = {path_key(entry.ref): str(entry.path) for entry in entries.values()}
        return WorkItem(job_id, 1, Generate(recipe=recipe), model_paths=paths, **deltas)

    return make
