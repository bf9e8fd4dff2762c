"""F14, F15: a swap that fails at any stage leaves the old model painting the same bits."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from catalog.models import ModelEntry, describe
from contract.tasks import Generate
from contract.work import WorkDone, WorkerEvent, WorkFailed, WorkImage, WorkItem, path_key
from engine.device.devices import Device
from engine.engine import Engine, EngineOptions
from engine.models import loading
from engine.models.module_slot import ModuleSlot

Make = Callable[..., Any]
CARD = Device(torch.device("cpu"), "a card", torch.float32, torch.float32, copies_weights=True)
DEVICES = {"pointing": Device(torch.device("cpu"), "CPU"), "copying": CARD}


@pytest.fixture(params=list(DEVICES))
def card(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr("engine.engine.choose_device", lambda *_: DEVICES[request.param])
    return Engine(EngineOptions())


def run(engine: Engine, entry: ModelEntry, make_recipe: Make) -> list[WorkerEvent]:
    recipe = make_recipe(model="sd1").model_copy(update={"model": entry.ref})
    work_item = WorkItem("job", 1, Generate(recipe=recipe), model_paths={path_key(entry.ref): str(entry.path)})
    return list(engine.generate(work_item, lambda: False))


def picture(events: list[WorkerEvent]) -> bytes:
    assert isinstance(events[-1], WorkDone), events[-1]
    (found,) = [event.pixels.rgb for event in events if isinstance(event, WorkImage)]
    return found


def failure(events: list[WorkerEvent]) -> WorkFailed:
    assert isinstance(events[-1], WorkFailed), events[-1]
    assert not [event for event in events if isinstance(event, WorkImage)]
    return events[-1]


def broken(entry: ModelEntry, folder: Path, part: str, value: float, name: str | None = None) -> ModelEntry:
    """A copy with a tensor of a part made so."""
    shutil.copytree(entry.path, folder)
    (path,) = (folder / part).glob("*.safetensors")
    tensors = load_file(path)
    tensors[name or sorted(tensors)[-1]].fill_(value)
    save_file(tensors, path)
    return describe(folder, folder.name)


@pytest.mark.parametrize("stage", ["header", "text_encoder", "unet", "vae", "to the device", "first step"])
def test_f14_a_swap_that_fails_leaves_the_old_model(
    stage: str,
    card: Engine,
    entries: dict[str, ModelEntry],
    make_recipe: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = entries["sd1"], entries["sd1_other"]
    before = picture(run(card, old, make_recipe))
    says = "bad"
    if stage == "header":
        new = broken(new, tmp_path / "bad", "unet", 0.0)
        (path,) = (tmp_path / "bad" / "unet").glob("*.safetensors")
        path.write_bytes(path.read_bytes()[:100])
        says = "cut off"
    elif stage == "first step":
        new = broken(new, tmp_path / "bad", "unet", 3e38, "conv_in.weight")
    elif stage == "to the device":
        says = "sd1_other"
        for name in ("swap_in", "onload"):
            monkeypatch.setattr(ModuleSlot, name, _strike_once(getattr(ModuleSlot, name)))
    else:
        new = broken(new, tmp_path / "bad", stage, float("nan"))
        says = stage
    ending = failure(run(card, new, make_recipe))
    assert says in ending.message and ending.hint
    monkeypatch.undo()
    assert picture(run(card, old, make_recipe)) == before
    assert picture(run(card, entries["sd1_other"], make_recipe)) != before
    assert picture(run(card, old, make_recipe)) == before


def _strike_once(original: Callable[..., None]) -> Callable[..., None]:
    struck: list[bool] = []

    def strike(slot: ModuleSlot, *what: object) -> None:
        original(slot, *what)
        if not struck:
            struck.append(True)
            slot.holds = None
            raise RuntimeError("an unheard-of fault while copying")

    return strike


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_f15_a_file_that_is_cut_short_while_it_is_read(
    share: float,
    card: Engine,
    entries: dict[str, ModelEntry],
    make_recipe: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = picture(run(card, entries["sd1"], make_recipe))
    shutil.copytree(entries["sd1_other"].path, tmp_path / "bad")
    bad = describe(tmp_path / "bad", "bad")
    (path,) = (tmp_path / "bad" / "unet").glob("*.safetensors")
    fill = loading.fill

    def cutting(block: Any, source: Any) -> Any:
        if source.path == path:
            with path.open("r+b") as file:
                file.truncate(int(path.stat().st_size * share))
        yield from fill(block, source)

    monkeypatch.setattr(loading, "fill", cutting)
    ending = failure(run(card, bad, make_recipe))
    assert "ended early" in ending.message and ending.code == "model_problem"
    monkeypatch.undo()
    assert picture(run(card, entries["sd1"], make_recipe)) == before


@pytest.mark.skipif(not hasattr(psutil.Process, "memory_maps"), reason="the system does not say what is mapped")
def test_weights_are_never_mapped(
    entries: dict[str, ModelEntry], make_recipe: Make, engine: Engine, tmp_path: Path
) -> None:
    """A mapped file that is cut short ends the process."""
    own = describe(shutil.copytree(entries["sd1"].path, tmp_path / "own"), "own")  # other tests may map the first
    picture(run(engine, own, make_recipe))
    assert not [mapped.path for mapped in psutil.Process().memory_maps() if mapped.path.startswith(str(own.path))]
