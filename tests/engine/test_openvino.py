"""OpenVINO as a backend: near torch's numbers, converted once, never in the way, and it reports to no one."""

import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from catalog.models import ModelEntry, describe
from contract.errors import JobError
from contract.recipe import Control, ImageRef, LoraUse, Recipe
from contract.tasks import Generate
from contract.work import Evict, WorkCancelled, WorkImage, WorkItem, path_key
from engine.device import openvino_backend, tracing
from engine.device.openvino_backend import BackendChoice
from engine.device.precision import Precision
from engine.engine import Engine, EngineOptions
from tests.support.images import flat_png
from tests.support.tiny_loras import LINEAR, chosen, kohya, make

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def never_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What OpenVINO leaves is the module's own."""
    monkeypatch.setattr(tracing, "_LONGEST_S", -1.0)


@pytest.fixture
def make_engine(tmp_path: Path) -> Callable[..., Engine]:
    def make_one(backend: BackendChoice = "openvino", precision: Precision = "float32") -> Engine:
        options = EngineOptions(device="cpu", threads=1, cache_dir=tmp_path, backend=backend, precision=precision)
        return Engine(options)

    return make_one


def image(engine: Engine, work_item: WorkItem) -> tuple[np.ndarray, str]:
    """Its values, 0 to 255, and the backend that its provenance names."""
    events = list(engine.generate(work_item, lambda: False))
    (made,) = [event for event in events if isinstance(event, WorkImage)]
    return np.frombuffer(made.pixels.rgb, np.uint8).astype(int), made.provenance.get("backend", "")


def rest(engine: Engine) -> None:
    while engine.tidy():
        pass


def conversions(engine: Engine) -> int:
    assert engine._openvino is not None
    return engine._openvino.conversions


@pytest.fixture(scope="module")
def starter() -> ModelEntry:
    return describe(ROOT / "models" / "starter", "starter")


def starter_item(starter: ModelEntry, **more: object) -> WorkItem:
    fields = {
        "prompt": "green hills at sunset",
        "negative_prompt": "fog",
        "model": starter.ref,
        "sampler": "dpmpp_2m",
        "schedule": "automatic",
        "steps": 4,
        "guidance": 5.0,
        "width": 128,
        "height": 96,
        "seed": 3,
    }
    recipe = Recipe.model_validate({**fields, **more})
    return WorkItem("job", 1, Generate(recipe=recipe), model_paths={path_key(starter.ref): str(starter.path)})


@pytest.mark.parametrize(("precision", "most", "mean"), [("float32", 2, 0.01), ("bfloat16", 24, 1.0)])
def test_a_starter_picture_is_near_the_one_of_torch(
    precision: Precision, most: int, mean: float, make_engine: Callable[..., Engine], starter: ModelEntry
) -> None:
    engine, work_item = make_engine(precision=precision), starter_item(starter)
    by_torch, none = image(engine, work_item)
    rest(engine)
    assert conversions(engine) == 3
    again, backend = image(engine, starter_item(starter, negative_prompt="snow"))
    by_openvino, kept = image(engine, work_item)
    assert none == "" and backend.startswith("openvino 20") and backend.endswith(" (text_encoder, unet, vae)")
    # The prompt's embeds are kept from before: the provenance is of what made this image.
    assert kept.endswith(" (unet, vae)") and np.abs(again - by_torch).max() > most
    difference = np.abs(by_openvino - by_torch)
    assert difference.max() <= most and difference.mean() <= mean


def test_the_difference_of_each_component_is_small(
    make_engine: Callable[..., Engine], starter: ModelEntry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "engine.device.openvino_backend")
    engine = make_engine()
    image(engine, starter_item(starter))
    rest(engine)
    differences = [float(line.partition("difference ")[2].partition(";")[0]) for line in caplog.messages]
    assert len(differences) == 3 and max(differences) < 1e-4


def test_torch_alone_gives_the_bits_of_before_and_imports_nothing(
    make_engine: Callable[..., Engine], engine: Engine, make_recipe: Callable[..., Recipe],
    make_work_item: Callable[..., WorkItem],
) -> None:  # fmt: skip
    work_item, alone = make_work_item(make_recipe()), make_engine("torch")
    before, backend = image(alone, work_item)
    rest(alone)
    after, _ = image(alone, work_item)
    plain, _ = image(engine, work_item)
    assert backend == "" and np.array_equal(before, after) and np.array_equal(before, plain)


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sdxl"])
def test_every_family_runs_in_it(
    kind: str, make_engine: Callable[..., Engine], make_recipe: Callable[..., Recipe],
    make_work_item: Callable[..., WorkItem],
) -> None:  # fmt: skip
    engine, work_item = make_engine(), make_work_item(make_recipe(kind))
    by_torch, _ = image(engine, work_item)
    rest(engine)
    by_openvino, backend = image(engine, work_item)
    assert backend.endswith(" (unet, vae)") and np.abs(by_openvino - by_torch).max() <= 2


def test_a_tiling_has_models_of_its_own(
    make_engine: Callable[..., Engine], make_recipe: Callable[..., Recipe], make_work_item: Callable[..., WorkItem]
) -> None:
    engine, plain, tiled = make_engine(), *(make_work_item(make_recipe(tiling=name)) for name in (None, "x"))
    by_torch, _ = image(engine, plain)
    rest(engine)
    tiled_by_torch, backend = image(engine, tiled)
    assert backend == ""  # what is ready pads with zeros
    rest(engine)
    tiled_by_openvino, backend = image(engine, tiled)
    assert backend.endswith(" (unet, vae)") and np.abs(tiled_by_openvino - tiled_by_torch).max() <= 2
    assert np.abs(image(engine, plain)[0] - by_torch).max() <= 2 < np.abs(tiled_by_torch - by_torch).max()


def test_another_engine_converts_nothing_again(
    make_engine: Callable[..., Engine], make_recipe: Callable[..., Recipe], make_work_item: Callable[..., WorkItem]
) -> None:
    first, work_item = make_engine(), make_work_item(make_recipe())
    image(first, work_item)
    rest(first)
    expected, _ = image(first, work_item)
    second = make_engine()
    image(second, work_item)
    rest(second)
    again, backend = image(second, work_item)
    assert (conversions(first), conversions(second)) == (3, 0)
    assert backend.endswith(" (unet, vae)") and np.array_equal(again, expected)


def test_a_checkpoint_that_is_swapped_has_its_own_and_finds_it_again(
    make_engine: Callable[..., Engine], make_recipe: Callable[..., Recipe], make_work_item: Callable[..., WorkItem]
) -> None:
    engine = make_engine()
    items = [make_work_item(make_recipe(name)) for name in ("sd1", "sd1_other")]
    by_torch = [image(engine, item)[0] for item in items]
    for item in items:
        image(engine, item)
        rest(engine)
    before = conversions(engine)
    for item, expected in zip(items, by_torch, strict=True):
        found, backend = image(engine, item)
        assert "unet" in backend and np.abs(found - expected).max() <= 2
    rest(engine)
    assert conversions(engine) == before


def test_another_lora_set_is_torchs_until_it_is_converted(
    make_engine: Callable[..., Engine], make_recipe: Callable[..., Recipe], make_work_item: Callable[..., WorkItem],
    entries: dict[str, ModelEntry], tmp_path: Path,
) -> None:  # fmt: skip
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(str(entries["sd1"].path / "unet"))
    make(chosen({"unet": unet}, LINEAR), kohya).save(tmp_path / "ink.safetensors")
    lora = describe(tmp_path / "ink.safetensors", "ink").ref.model_copy(update={"family": "sd1"})

    def item(weight: float) -> WorkItem:
        loras = (LoraUse(model=lora, weight=weight),) if weight else ()
        made = make_work_item(make_recipe(loras=loras))
        paths = {**made.model_paths, path_key(lora): str(tmp_path / "ink.safetensors")}
        return WorkItem("job", 1, made.task, model_paths=paths)

    engine, alone = make_engine(), make_engine("torch")
    image(engine, item(0.0))
    rest(engine)
    for weight in (0.8, 0.3):  # the second writes to the memory of the first
        expected, _ = image(alone, item(weight))
        by_torch, backend = image(engine, item(weight))
        assert np.array_equal(by_torch, expected) and backend.endswith(" (vae)")
        rest(engine)
        by_openvino, backend = image(engine, item(weight))
        assert "unet" in backend and np.abs(by_openvino - expected).max() <= 2
    plain, backend = image(engine, item(0.0))
    assert "unet" in backend and np.abs(plain - image(alone, item(0.0))[0]).max() <= 2


def test_controls_run_in_it_too(
    make_engine: Callable[..., Engine], make_recipe: Callable[..., Recipe], make_work_item: Callable[..., WorkItem],
    control_entries: dict[str, ModelEntry],
) -> None:  # fmt: skip
    import hashlib

    entry, png = control_entries["canny"], flat_png(64, 64)
    sha256 = hashlib.sha256(png).hexdigest()
    control = Control(model=entry.ref, image=ImageRef(sha256=sha256), preprocessor="none", weight=0.7)
    made = make_work_item(make_recipe(controls=(control,)))
    paths = {**made.model_paths, path_key(entry.ref): str(entry.path)}
    work_item = WorkItem("job", 1, made.task, images={sha256: png}, model_paths=paths)
    engine = make_engine()
    by_torch, _ = image(engine, work_item)
    assert np.array_equal(by_torch, image(make_engine("torch"), work_item)[0])
    rest(engine)
    by_openvino, backend = image(engine, work_item)
    assert backend.endswith(" (controlnet, unet, vae)") and np.abs(by_openvino - by_torch).max() <= 2


def folders(cache: Path) -> list[Path]:
    return sorted(cache.glob("openvino-*"))


@pytest.mark.parametrize("damage", ["truncated", "no weights", "nonsense", "other weights"])
def test_a_damaged_file_is_made_again(
    damage: str, make_engine: Callable[..., Engine], make_recipe: Callable[..., Recipe],
    make_work_item: Callable[..., WorkItem], tmp_path: Path,
) -> None:  # fmt: skip
    first, work_item = make_engine(), make_work_item(make_recipe())
    by_torch, _ = image(first, work_item)
    rest(first)
    del first
    for folder in folders(tmp_path):
        weights, graph = folder / "weights.bin", folder / "model.xml"
        if damage == "truncated":
            weights.write_bytes(weights.read_bytes()[:100])
        elif damage == "no weights":
            weights.unlink()
        elif damage == "nonsense":
            graph.write_bytes(b"<net")
        else:
            weights.write_bytes(bytes(len(weights.read_bytes())))
    second = make_engine()
    image(second, work_item)
    rest(second)
    again, backend = image(second, work_item)
    assert conversions(second) == 3 and len(folders(tmp_path)) == 3
    assert backend.endswith(" (unet, vae)") and np.abs(again - by_torch).max() <= 2


def test_other_versions_of_a_library_or_of_the_format_have_files_of_their_own(
    make_engine: Callable[..., Engine], make_recipe: Callable[..., Recipe], make_work_item: Callable[..., WorkItem],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    work_item, counts = make_work_item(make_recipe()), []
    version = openvino_backend.metadata.version
    for change in (None, "openvino", "format"):
        if change == "openvino":
            other = SimpleNamespace(version=lambda name: "0.1" if name == "openvino" else version(name))
            monkeypatch.setattr(openvino_backend, "metadata", other)
        if change == "format":
            monkeypatch.setattr(openvino_backend, "_FORMAT", 0)
        engine = make_engine()
        image(engine, work_item)
        rest(engine)
        counts.append(conversions(engine))
    assert counts == [3, 3, 3]


def test_a_full_disk_leaves_it_to_torch(
    make_engine: Callable[..., Engine], make_recipe: Callable[..., Recipe], make_work_item: Callable[..., WorkItem],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**9))
    engine, work_item = make_engine(), make_work_item(make_recipe())
    before, _ = image(engine, work_item)
    rest(engine)
    after, backend = image(engine, work_item)
    assert backend == "" and np.array_equal(before, after) and not folders(tmp_path)
    assert "of the disk, of which 1.0 GB are free" in caplog.text


def test_files_that_were_not_used_for_long_make_room(
    make_engine: Callable[..., Engine], make_recipe: Callable[..., Recipe], make_work_item: Callable[..., WorkItem],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "openvino-old").mkdir()
    (tmp_path / "openvino-old" / "model.bin").write_bytes(bytes(10**7))
    os.utime(tmp_path / "openvino-old", (0, 0))
    left_over = tmp_path / "openvino-cut.17.part"
    left_over.mkdir()
    os.utime(left_over, (0, 0))
    monkeypatch.setattr(openvino_backend, "_MOST_BYTES", 10**7)
    engine = make_engine()
    image(engine, make_work_item(make_recipe()))
    rest(engine)
    assert conversions(engine) == 3 and len(folders(tmp_path)) == 3
    assert not left_over.exists() and not (tmp_path / "openvino-old").exists()


def test_no_memory_leaves_it_to_torch(
    make_engine: Callable[..., Engine], make_recipe: Callable[..., Recipe], make_work_item: Callable[..., WorkItem],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    engine, work_item = make_engine(), make_work_item(make_recipe())
    image(engine, work_item)
    engine._models._budget = engine._models._total_size() + 100
    rest(engine)
    assert image(engine, work_item)[1] == "" and caplog.text.count("there is no memory for it") == 3


def test_what_it_takes_is_counted_and_goes_before_any_model(
    make_engine: Callable[..., Engine], make_recipe: Callable[..., Recipe], make_work_item: Callable[..., WorkItem]
) -> None:
    engine, work_item = make_engine(), make_work_item(make_recipe())
    image(engine, work_item)
    (before,) = engine.describe().models
    rest(engine)
    (after,) = engine.describe().models
    assert 1.5 * before.bytes < after.bytes <= 2 * before.bytes
    engine._models._budget = (
        2 * after.bytes - before.bytes - 1
    )  # room for both models, not for what is beside the first
    image(engine, make_work_item(make_recipe("sd1_other")))
    assert {model.name for model in engine.describe().models} == {"sd1", "sd1_other"}
    assert sum(model.bytes for model in engine.describe().models) == 2 * before.bytes
    assert image(engine, work_item)[1] == ""


def held_conversion(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A conversion that has begun, and goes on when the event is set."""
    goes_on, convert = threading.Event(), openvino_backend.OpenVino._convert

    def slow(self: openvino_backend.OpenVino, work: openvino_backend._Work) -> None:
        goes_on.wait(20)
        convert(self, work)

    monkeypatch.setattr(openvino_backend.OpenVino, "_convert", slow)
    assert engine.tidy()
    yield goes_on
    goes_on.set()


def test_a_model_that_is_evicted_meanwhile_leaves_nothing(
    make_engine: Callable[..., Engine], make_recipe: Callable[..., Recipe], make_work_item: Callable[..., WorkItem],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    engine, work_item = make_engine(), make_work_item(make_recipe())
    by_torch, _ = image(engine, work_item)
    for goes_on in held_conversion(engine, monkeypatch):
        engine.obey(Evict(path_key(work_item.task.models[0])))
        goes_on.set()
        rest(engine)
    assert not folders(tmp_path) and conversions(engine) == 0
    again, backend = image(engine, work_item)
    assert backend == "" and np.array_equal(again, by_torch)


def test_jobs_go_on_meanwhile_and_may_be_cancelled(
    make_engine: Callable[..., Engine], make_recipe: Callable[..., Recipe], make_work_item: Callable[..., WorkItem],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    engine, work_item = make_engine(), make_work_item(make_recipe())
    by_torch, _ = image(engine, work_item)
    for _ in held_conversion(engine, monkeypatch):
        again, backend = image(engine, work_item)
        assert backend == "" and np.array_equal(again, by_torch)
        assert isinstance(list(engine.generate(work_item, lambda: True))[-1], WorkCancelled)
    rest(engine)
    assert image(engine, work_item)[1].endswith(" (unet, vae)")


def test_what_is_no_faster_is_used_only_where_it_was_asked_for(
    make_engine: Callable[..., Engine], make_recipe: Callable[..., Recipe], make_work_item: Callable[..., WorkItem],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(openvino_backend, "seconds_of", lambda *_: 1000.0)
    work_item, named = make_work_item(make_recipe()), {}
    for backend in ("auto", "openvino"):
        engine = make_engine(backend)
        image(engine, work_item)
        rest(engine)
        named[backend] = image(engine, work_item)[1]
    assert named["auto"] == "" and named["openvino"].endswith(" (unet, vae)")


def test_where_it_is_not_installed_it_is_offered_and_refused(
    make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make_engine("auto").describe().offer == ""
    monkeypatch.setattr(openvino_backend.util, "find_spec", lambda name: None)
    engine = make_engine("auto")
    assert engine._openvino is None and "`python3 launch.py --openvino`" in engine.describe().offer
    assert make_engine("torch").describe().offer == ""
    with pytest.raises(JobError, match="which is not installed") as refused:
        make_engine("openvino")
    assert "`python3 launch.py --openvino`" in refused.value.hint


def test_half_precision_is_refused_by_name(make_engine: Callable[..., Engine]) -> None:
    assert make_engine("auto", "float16")._openvino is None
    with pytest.raises(JobError, match="in float32 or bfloat16, not on float16"):
        make_engine("openvino", "float16")


_TRY_TELEMETRY = """
import socket, sys

def refuse(*_, **__):
    print("CONNECTS")
    raise OSError

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from engine.device.openvino_backend import import_openvino
openvino = import_openvino()
import torch
openvino.convert_model(torch.nn.Linear(2, 2), example_input=torch.ones(1, 2))
print(sorted(name for name in sys.modules if name.startswith("openvino_telemetry") and sys.modules[name]))
"""


def test_it_connects_to_nothing_and_writes_no_id(tmp_path: Path) -> None:
    """Its telemetry, installed with it, would do both at the first import."""
    assert metadata.version("openvino-telemetry")
    environment = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    environment.pop("CI", None)
    done = subprocess.run(
        [sys.executable, "-c", _TRY_TELEMETRY], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n" and list(tmp_path.iterdir()) == []
