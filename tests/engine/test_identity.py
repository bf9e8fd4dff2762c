"""No model is taken for another, and none for what it was: after every change the picture is a fresh engine's."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from catalog.files.headers import read_header
from catalog.models import describe
from catalog.preprocessors import get_preprocessor
from contract.recipe import ModelRef, Recipe
from contract.tasks import Generate
from contract.values import ModelKind
from contract.work import WorkFailed, WorkImage, WorkItem, path_key
from engine.engine import Engine, EngineOptions
from engine.images.preprocessors import Preprocessors
from engine.images.previews import PreviewMaker
from tests.support import tiny, tiny_files

CPU = torch.device("cpu")
Chosen = tuple[ModelRef, Path]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build("sd1", tmp_path_factory.mktemp("built") / "sd1")


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "models" / "dream"))


def chosen(path: Path, kind: ModelKind = "checkpoint", name: str = "") -> Chosen:
    """As a job names it."""
    entry = describe(path, name or path.stem, kind)
    assert entry.problem is None, entry.problem
    return entry.ref, path


def paint(
    engine: Engine,
    model: Chosen,
    *,
    loras: tuple[Chosen, ...] = (),
    vae: Chosen | None = None,
    embeddings: tuple[Chosen, ...] = (),
    prompt: str = "a red cat at sea",
) -> bytes:
    """The picture's pixels."""
    recipe = Recipe.model_validate(
        {
            "prompt": prompt,
            "model": model[0],
            "sampler": "euler",
            "schedule": "automatic",
            "steps": 2,
            "guidance": 5.0,
            "width": 64,
            "height": 64,
            "seed": 7,
            "vae": vae and vae[0],
            "loras": tuple({"model": ref, "weight": 1.0} for ref, _ in loras),
            "embeddings": tuple(ref for ref, _ in embeddings),
        }
    )
    models = (model, *loras, *embeddings, *((vae,) if vae else ()))
    work_item = WorkItem(
        "job", 1, Generate(recipe=recipe), model_paths={path_key(ref): str(path) for ref, path in models}
    )
    events = list(engine.generate(work_item, lambda: False))
    assert not [event for event in events if isinstance(event, WorkFailed)], events[-1]
    return next(event.pixels.rgb for event in events if isinstance(event, WorkImage))


def fresh() -> Engine:
    return Engine(EngineOptions(device="cpu", threads=1))


def set_key(path: Path, **values: object) -> None:
    """Change a configuration, and let its time be what it was."""
    status = path.stat()
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def change_tail(file: Path) -> None:
    """Other numbers behind the first hundreds of every tensor: the same header, size and time."""
    status, data = file.stat(), bytearray(file.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    for info in read_header(file).values():
        numbers = np.frombuffer(memoryview(data)[start + info.begin : start + info.end], np.float32)
        numbers[300:] *= -1.5
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def write_lora(folder: Path, file: Path) -> None:
    """For the query layers that are 32 wide."""
    unet = load_file(folder / "unet/diffusion_pytorch_model.safetensors")
    names = [
        name.removesuffix(".weight")
        for name, tensor in unet.items()
        if name.endswith("attn2.to_q.weight") and tensor.shape == (32, 32)
    ]
    assert names
    save_file(
        {
            f"unet.{name}.lora_{side}.weight": torch.linspace(-0.3, 0.5, 32 * 64).view(
                (32, 64) if side == "B" else (64, 32)
            )
            for name in names
            for side in "AB"
        },
        file,
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda f: set_key(f / "scheduler/scheduler_config.json", prediction_type="v_prediction"),
        lambda f: set_key(f / "text_encoder/config.json", hidden_act="relu"),
        lambda f: tiny.make_tokenizer("!").save_pretrained(f / "tokenizer"),
        lambda f: change_tail(f / "text_encoder/model.safetensors"),
        lambda f: change_tail(f / "vae/diffusion_pytorch_model.safetensors"),
    ],
    ids=["prediction", "encoder", "tokenizer", "words", "decoder"],
)
def test_a_folder_that_changed_makes_its_new_picture(change: Callable[[Path], object], folder: Path) -> None:
    engine = fresh()
    before = paint(engine, chosen(folder))
    change(folder)
    after = paint(engine, chosen(folder))
    assert after == paint(fresh(), chosen(folder)) != before
    assert len(engine.describe().models) == 1  # what lay there before is let go of


def test_a_setting_that_is_laid_beside_a_file_counts_for_the_next_job(tmp_path: Path) -> None:
    engine = fresh()
    file = tiny_files.write_file(tiny_files.build_folder("sd1", tmp_path / "sd1"), tmp_path / "one.safetensors")
    before = paint(engine, chosen(file))
    file.with_suffix(".yaml").write_text('parameterization: "v"')
    assert paint(engine, chosen(file)) == paint(fresh(), chosen(file)) != before


def test_folders_of_one_name_sizes_times_and_headers_are_two_models(folder: Path, tmp_path: Path) -> None:
    engine = fresh()
    other = Path(shutil.copytree(folder, tmp_path / "others" / "dream", copy_function=shutil.copy2))
    change_tail(other / "unet/diffusion_pytorch_model.safetensors")
    first, second = paint(engine, chosen(folder)), paint(engine, chosen(other))
    assert first != second == paint(fresh(), chosen(other))
    assert paint(engine, chosen(folder)) == first


@pytest.mark.parametrize("kind", ["vae", "lora", "embedding"])
def test_files_of_one_name_size_time_and_header_are_two_models(kind: ModelKind, folder: Path, tmp_path: Path) -> None:
    engine, model = fresh(), chosen(folder)
    one = tmp_path / "a" / "model.safetensors"
    if kind == "vae":
        shutil.copytree(folder / "vae", one := tmp_path / "a" / "vae")
    else:
        one.parent.mkdir()
    if kind == "lora":
        write_lora(folder, one)
    elif kind == "embedding":
        save_file({"emb_params": torch.full((40, 32), 0.5)}, one)
    other = tmp_path / "b" / one.name
    shutil.copytree(one.parent, other.parent, copy_function=shutil.copy2)
    change_tail(other / "diffusion_pytorch_model.safetensors" if kind == "vae" else other)

    def made(by: Engine, file: Path) -> bytes:
        ref = describe(file, "model", kind).ref.model_copy(update={"kind": kind, "family": "sd1"})
        more = {
            "vae": {"vae": (ref, file)},
            "lora": {"loras": ((ref, file),)},
            "embedding": {"embeddings": ((ref, file),)},
        }[kind]
        return paint(by, model, prompt="a model at sea", **more)  # type: ignore[arg-type]

    first, second = made(engine, one), made(engine, other)
    assert first != second == made(fresh(), other)
    assert made(engine, one) == first


def test_the_strengths_beside_a_lora_count_when_they_change(folder: Path, tmp_path: Path) -> None:
    engine, model, file = fresh(), chosen(folder), tmp_path / "lora" / "adapter.safetensors"
    file.parent.mkdir()
    write_lora(folder, file)
    ref = chosen(file, "lora")[0].model_copy(update={"kind": "lora", "family": "sd1"})
    seen = []
    for alpha in (8, 640):
        (file.parent / "adapter_config.json").write_text(json.dumps({"lora_alpha": alpha, "r": 64}))
        seen.append(paint(engine, model, loras=((ref, file),)))
    assert seen[0] != seen[1] == paint(fresh(), model, loras=((ref, file),))


def test_a_preview_decoder_is_read_again_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def load(path: Path, *device: object) -> object:
        made.append(object())
        if path.read_text() == "damaged":
            raise ValueError("no decoder")
        return made[-1]

    monkeypatch.setattr("engine.images.previews.load_tiny_decoder", load)
    path, maker = tmp_path / "taesd.safetensors", PreviewMaker()
    path.write_text("damaged")
    bundle: object = type("Bundle", (), {"device": type("Device", (), {"torch_device": CPU, "dtype": torch.float32})})
    assert maker.load_decoder(str(path), bundle).decoder is maker.load_decoder(str(path), bundle).decoder is None  # type: ignore[arg-type]
    assert len(made) == 1
    path.write_text("repaired")
    first = maker.load_decoder(str(path), bundle).decoder  # type: ignore[arg-type]
    assert first is maker.load_decoder(str(path), bundle).decoder is made[1]  # type: ignore[arg-type]
    path.write_text("replaced")
    assert maker.load_decoder(str(path), bundle).decoder is made[2]  # type: ignore[arg-type]


def test_an_annotator_is_read_again_when_its_files_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def load(detector: object, home: Path, device: torch.device) -> int:
        made.append(home)
        return len(made)

    monkeypatch.setattr("engine.images.annotators.load", load)
    monkeypatch.setattr("engine.images.preprocessors.home_of", lambda chosen, folders: tmp_path)
    (tmp_path / "weights.pth").write_bytes(b"one")
    maker = Preprocessors((tmp_path,), CPU)
    assert maker.annotator(get_preprocessor("softedge_hed")) == maker.annotator(get_preprocessor("softedge_hed")) == 1
    (tmp_path / "weights.pth").write_bytes(b"two")
    assert maker.annotator(get_preprocessor("softedge_hed")) == 2
