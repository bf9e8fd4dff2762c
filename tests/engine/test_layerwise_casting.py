"""Weights in half precision, cast as they are used: the same images in half the memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn

from catalog.models import ModelEntry, describe
from contract.recipe import LoraUse, Recipe
from contract.tasks import Generate
from contract.work import Evict, WorkImage, WorkItem, WorkNotice, path_key
from engine.engine import Engine, EngineOptions
from engine.models.layerwise_casting import StorageChoice, cast_layerwise, no_weights
from tests.support import tiny
from tests.support.tiny_loras import LINEAR, chosen, kohya, make


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelEntry]:
    """Checkpoints whose files are in half precision, and one whose files are not."""
    root, found = tmp_path_factory.mktemp("halves"), {}
    for name, kind, dtype in (
        ("sd1", "sd1", torch.float16),
        ("other", "sd1", torch.float16),
        ("sd2", "sd2", torch.float16),
        ("sdxl", "sdxl", torch.float16),
        ("brain", "sd1", torch.bfloat16),
        ("wide", "sd1", torch.float32),
    ):
        folder = tiny.build(kind, root / name, seed=len(found))  # type: ignore[arg-type]
        for file in folder.rglob("*.safetensors"):
            tensors = load_file(file)
            for key, tensor in tensors.items():
                if tensor.is_floating_point():
                    tensors[key] = tensor.to(dtype)
            save_file(tensors, file)
        found[name] = describe(folder, name)
    return found


@pytest.fixture
def make_engine(tmp_path: Path) -> Callable[..., Engine]:
    def make_one(storage: StorageChoice, budget: int | None = None) -> Engine:
        options = EngineOptions(
            device="cpu",
            threads=1,
            cache_dir=tmp_path,
            storage=storage,
            memory_budget_bytes=budget,
            precision="float32",
        )
        return Engine(options)

    return make_one


@pytest.fixture
def item(make_recipe: Callable[..., Recipe], halves: dict[str, ModelEntry]) -> Callable[..., WorkItem]:
    def make_one(name: str, lora: ModelEntry | None = None, weight: float = 0.7) -> WorkItem:
        entry = halves[name]
        loras, paths = (), {path_key(entry.ref): str(entry.path)}
        if lora is not None:
            ref = lora.ref.model_copy(update={"family": "sd1"})
            loras, paths = (LoraUse(model=ref, weight=weight),), {**paths, path_key(ref): str(lora.path)}
        recipe = make_recipe(model="sd1").model_copy(update={"model": entry.ref, "loras": loras})
        return WorkItem("job", 1, Generate(recipe=recipe), model_paths=paths)

    return make_one


def image(engine: Engine, work_item: WorkItem) -> WorkImage:
    (made,) = [event for event in engine.generate(work_item, lambda: False) if isinstance(event, WorkImage)]
    return made


def difference(one: WorkImage, other: WorkImage) -> int:
    pixels = [np.frombuffer(image.pixels.rgb, np.uint8).astype(int) for image in (one, other)]
    return int(np.abs(pixels[0] - pixels[1]).max())


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl", "brain"])
def test_half_precision_files_give_equal_bits_in_half_the_memory(
    name: str, make_engine: Callable[..., Engine], item: Callable[..., WorkItem]
) -> None:
    full, half = make_engine("full"), make_engine("half")
    expected, found = image(full, item(name)), image(half, item(name))
    assert found.pixels == expected.pixels
    assert (expected.provenance["dtype"], found.provenance["dtype"]) == (
        "float32",
        f"float32, weights {'bfloat16' if name == 'brain' else 'float16'}",
    )
    (full_model,), (half_model,) = full.describe().models, half.describe().models
    assert half_model.bytes < 0.6 * full_model.bytes


def test_float32_files_give_a_near_image(make_engine: Callable[..., Engine], item: Callable[..., WorkItem]) -> None:
    assert difference(image(make_engine("full"), item("wide")), image(make_engine("half"), item("wide"))) <= 3


def test_swaps_loras_and_idle_time_leave_the_weights_as_they_were(
    make_engine: Callable[..., Engine], item: Callable[..., WorkItem], halves: dict[str, ModelEntry], tmp_path: Path
) -> None:
    unet = UNet2DConditionModel.from_pretrained(str(halves["sd1"].path / "unet"))
    make(chosen({"unet": unet}, LINEAR), kohya).save(tmp_path / "ink.safetensors")
    ink = describe(tmp_path / "ink.safetensors", "ink")
    full, half = make_engine("full"), make_engine("half")
    plain = image(half, item("sd1"))
    for work_item in (item("other"), item("sd1", ink), item("sd1", ink, 0.2), item("other", ink)):
        assert difference(image(full, work_item), image(half, work_item)) <= 3
        while half.tidy():
            pass
    assert image(half, item("sd1", ink)).pixels != plain.pixels
    assert image(half, item("sd1")).pixels == plain.pixels


def test_a_model_that_is_too_large_is_halved_and_said(
    make_engine: Callable[..., Engine], item: Callable[..., WorkItem]
) -> None:
    roomy = make_engine("auto")
    expected = image(roomy, item("sd1"))
    assert expected.provenance["dtype"] == "float32"
    (whole,) = roomy.describe().models
    engine = make_engine("auto", int(whole.bytes * 0.7))
    events = list(engine.generate(item("sd1"), lambda: False))
    (notice,) = [event for event in events if isinstance(event, WorkNotice)]
    (found,) = [event for event in events if isinstance(event, WorkImage)]
    assert notice.code == "less_memory" and notice.message.startswith("Memory is short, so the weights of sd1 are kept")
    assert found.pixels == expected.pixels and found.provenance["dtype"] == "float32, weights float16"
    engine.obey(Evict("checkpoint/sd1"))
    engine._models._budget *= 2
    assert image(engine, item("sd1")).provenance["dtype"] == "float32"


def test_room_that_other_models_would_make_is_not_missed(
    make_engine: Callable[..., Engine], item: Callable[..., WorkItem]
) -> None:
    engine = make_engine("auto")
    image(engine, item("sd1"))
    (whole,) = engine.describe().models
    engine._models._budget = int(whole.bytes * 1.5)
    assert image(engine, item("other")).provenance["dtype"] == "float32"


def test_nothing_is_wide_but_the_layer_that_runs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.first, self.last = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.seen: list[int] = []

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            hidden = self.first(self.words(ids))
            self.seen.append(sum(parameter.data.untyped_storage().nbytes() for parameter in self.parameters()))
            result: torch.Tensor = self.last(hidden)
            return result

    module = Two().requires_grad_(False)
    ids = torch.tensor([[1, 3]])
    stored = {name: parameter.data.half() for name, parameter in module.named_parameters()}
    for name, parameter in module.named_parameters():
        parameter.data = stored[name].float()
    expected = module(ids)
    for parameter in module.parameters():
        parameter.data = no_weights(tuple(parameter.shape), parameter.dtype)
    cast_layerwise(module, stored)
    module.seen.clear()
    assert torch.equal(module(ids), expected) and module.seen == [5 * 4]
    with pytest.raises(RuntimeError):
        module.first(torch.ones(1, 3))
    assert module.first.weight.shape == (4, 4) and module.first.weight.dtype == torch.float32
    assert module.first.weight.isnan().all()  # after a failure too
    stored["last.weight"].data = torch.zeros(4, 4, dtype=torch.float16)  # as a swap does
    assert not torch.equal(module(ids), expected)
