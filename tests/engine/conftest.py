"""Tiny models and one engine for the whole run: nothing here is changed by a test."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from catalog.models import ModelEntry, describe
from contract.recipe import Recipe
from contract.tasks import Paint
from contract.work import Ticket
from engine.devices import Device
from engine.models import ModelManager
from engine.paint import Engine, EngineOptions
from tests import tiny

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

    def make(model: str = "sd1", **changes: object) -> Recipe:
        plain: dict[str, object] = {
            "prompt": "a red cat at sea", "negative_prompt": "dog", "model": entries[model].ref,
            "sampler": "euler", "schedule": "automatic", "steps": 3, "guidance": 5.0, "width": 64, "height": 64,
            "seed": 7}
        return Recipe.model_validate({**plain, **changes})

    return make


@pytest.fixture(scope="session")
def make_ticket(entries: dict[str, ModelEntry]) -> Callable[..., Ticket]:
    """A ticket for a recipe."""

    def make(recipe: Recipe, **changes: object) -> Ticket:
        paths = {entry.ref.name: str(entry.path) for entry in entries.values()}
        return Ticket("job", 1, Paint(recipe=recipe), model_paths=paths, **changes)

    return make
