"""A checkpoint that is one file makes the picture of the folder it was made from."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from catalog.files.folders import fingerprint
from catalog.models import describe
from contract.errors import ModelProblem
from contract.recipe import ModelRef, Recipe
from contract.tasks import Generate
from contract.work import WorkFailed, WorkImage, WorkItem, path_key
from engine.engine import Engine
from engine.models.manager import ModelManager
from tests.support import tiny_files
from tests.support.tiny_files import KINDS, Kind


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny model of each kind in the published layout."""
    root = tmp_path_factory.mktemp("published")
    return {kind: tiny_files.build_folder(kind, root / kind) for kind in KINDS}


def weights(manager: ModelManager, ref: ModelRef, path: Path) -> dict[str, torch.Tensor]:
    with manager.lease(ref, str(path)) as bundle:
        return {
            f"{part}.{name}": tensor.clone()
            for part, module in bundle.modules.items()
            for name, tensor in module.state_dict().items()
        }


def paint(engine: Engine, ref: ModelRef, path: Path, vae: Path | None = None) -> bytes | str:
    """The picture's pixels, or the sentence of the failure."""
    other = ModelRef(kind="vae", name=str(vae), family="unknown") if vae else None
    recipe = Recipe.model_validate(
        {
            "prompt": "a red cat at sea, by night",
            "negative_prompt": "dog",
            "model": ref,
            "sampler": "euler",
            "vae": other,
            "schedule": "automatic",
            "steps": 2,
            "guidance": 5.0,
            "width": 64,
            "height": 64,
            "seed": 7,
        }
    )
    paths = {path_key(ref): str(path), f"vae/{vae}": str(vae)}
    events = list(engine.generate(WorkItem("job", 1, Generate(recipe=recipe), model_paths=paths), lambda: False))
    failures = [event.message for event in events if isinstance(event, WorkFailed)]
    return failures[0] if failures else next(event.pixels.rgb for event in events if isinstance(event, WorkImage))


def told(kind: Kind) -> dict[str, str]:
    """Tiny SD 2 models can't be told by the tensor that full-size ones are told by."""
    return {"modelspec.prediction_type": "epsilon"} if kind == "sd2" else {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_has_the_weights_of_its_folder(
    kind: Kind, folders: dict[str, Path], tmp_path: Path, models: ModelManager
) -> None:
    file = tiny_files.write_file(folders[kind], tmp_path / "one.safetensors")
    entry = describe(file, "one")
    variant = next((name for name in ("inpaint", "edit", "depth") if name in kind), "text")
    assert (entry.problem, entry.ref.family, entry.variant) == (None, tiny_files.family_of(kind), variant)
    ours = weights(models, entry.ref, file)
    theirs = weights(models, tiny_files.ref_of(kind, "folder"), folders[kind])
    assert ours.keys() == theirs.keys()
    assert not [name for name, tensor in theirs.items() if not torch.equal(ours[name], tensor)]


@pytest.mark.parametrize("kind", ["sd1", "sd2", "sd2_v", "sdxl", "sdxl_refiner"])
def test_a_file_makes_the_picture_of_its_folder(
    kind: Kind, folders: dict[str, Path], tmp_path: Path, engine: Engine
) -> None:
    file = tiny_files.write_file(folders[kind], tmp_path / "one.safetensors", metadata=told(kind))
    ours = paint(engine, tiny_files.ref_of(kind, f"{kind} file"), file)
    theirs = paint(engine, tiny_files.ref_of(kind, f"{kind} folder"), folders[kind])
    assert isinstance(ours, bytes), ours
    assert ours == theirs


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_numbers_may_be_kept_in_any_precision(
    dtype: torch.dtype, folders: dict[str, Path], tmp_path: Path, models: ModelManager
) -> None:
    file = tiny_files.write_file(folders["sd2"], tmp_path / "one.safetensors", dtype=dtype)
    ours = weights(models, tiny_files.ref_of("sd2", "one"), file)
    theirs = weights(models, tiny_files.ref_of("sd2", "folder"), folders["sd2"])
    assert all(torch.equal(ours[name], tensor.to(dtype).float()) for name, tensor in theirs.items())


def changed(file: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    return file


UNET = "model.diffusion_model."


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda all_: all_.pop(f"{UNET}out.2.bias"), "one.safetensors (unet) lacks the tensor “conv_out.bias”."),
        (lambda all_: all_.pop(f"{UNET}input_blocks.0.0.weight"), "one.safetensors lacks the tensor “conv_in.weight”."),
        (
            lambda all_: all_.update({f"{UNET}strange.weight": torch.ones(1)}),
            "has a tensor “model.diffusion_model.strange",
        ),
        (lambda all_: all_.update({f"{UNET}out.2.bias": torch.full((4,), torch.nan)}), "holds NaN or infinity"),
        (
            lambda all_: all_.update({f"{UNET}out.2.bias": torch.ones(5)}),
            "has the shape 5; its configuration asks for 4",
        ),
        (lambda all_: all_.update({f"{UNET}out.2.bias": torch.ones(4).int()}), "holds I32 numbers, not weights"),
        (lambda all_: [all_.pop(name) for name in list(all_) if name.startswith("cond_stage")], "has no text encoder"),
        (
            lambda all_: [all_.pop(name) for name in list(all_) if name.startswith(UNET)],
            "has no U-Net, so it is no checkp",
        ),
        (
            lambda all_: all_.update({"edm_mean": torch.ones(4), "edm_std": torch.zeros(4)}),
            "statistics of latents that are none",
        ),
    ],
)
def test_a_damaged_file_is_named_and_the_old_model_still_serves(
    change: Callable[[dict[str, torch.Tensor]], object],
    sentence: str,
    folders: dict[str, Path],
    tmp_path: Path,
    models: ModelManager,
) -> None:
    before = weights(models, tiny_files.ref_of("sd1", "folder"), folders["sd1"])
    file = changed(tiny_files.write_file(folders["sd1"], tmp_path / "one.safetensors"), change)
    with pytest.raises(ModelProblem) as caught:
        weights(models, tiny_files.ref_of("sd1", "one"), file)
    assert sentence in caught.value.message
    assert "one.safetensors" in caught.value.message
    assert [model.name for model in models.resident()] == ["folder"]
    after = weights(models, tiny_files.ref_of("sd1", "folder"), folders["sd1"])
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("when", ["before it is loaded", "while it is loaded"])
def test_a_file_that_was_replaced_is_not_taken_for_the_one_that_was_chosen(
    when: str, folders: dict[str, Path], tmp_path: Path, models: ModelManager
) -> None:
    file = tiny_files.write_file(folders["sd1"], tmp_path / "one.safetensors")
    ref = tiny_files.ref_of("sd1", "one").model_copy(update={"fingerprint": fingerprint(tmp_path, (file,))})
    loading = models.prepare(ref, str(file))
    if when == "while it is loaded":
        assert next(loading) < next(loading) < 1
    changed(file, lambda tensors: tensors[f"{UNET}out.2.bias"].add_(1))
    with pytest.raises(ModelProblem, match=r"one changed on the disk since it was chosen\."):
        list(loading)
    assert models.resident() == ()


def test_a_file_without_a_vae_needs_one_beside_it(folders: dict[str, Path], tmp_path: Path, engine: Engine) -> None:
    ref = tiny_files.ref_of("sd1", "bare")
    bare = tiny_files.write_file(folders["sd1"], tmp_path / "bare.safetensors", has_vae=False)
    assert paint(engine, ref, bare) == "bare has no VAE of its own."
    whole = paint(engine, tiny_files.ref_of("sd1", "folder"), folders["sd1"])
    assert paint(engine, ref, bare, folders["sd1"] / "vae") == whole


@pytest.mark.parametrize(
    "prefix", ["first_stage_model.", "vae.", "", None], ids=["checkpoint's", "vae.", "bare", "new"]
)
def test_another_vae_takes_the_place_of_the_checkpoints(
    prefix: str | None, folders: dict[str, Path], tmp_path: Path, engine: Engine
) -> None:
    other = tiny_files.build_folder("sd1", tmp_path / "other", seed=1)
    vae = load_file(other / "vae" / "diffusion_pytorch_model.safetensors")
    file = tmp_path / "alone.safetensors"
    named = vae if prefix is None else tiny_files.original_vae(vae, prefix)
    save_file({name: tensor.contiguous() for name, tensor in named.items()}, file)
    ref = tiny_files.ref_of("sd1", "folder")
    ours = paint(engine, ref, folders["sd1"], file)
    assert isinstance(ours, bytes), ours
    assert ours == paint(engine, ref, folders["sd1"], other / "vae")
    assert ours != paint(engine, ref, folders["sd1"])


def test_one_vae_serves_families_that_scale_latents_otherwise(
    folders: dict[str, Path], tmp_path: Path, engine: Engine
) -> None:
    vae = load_file(folders["sd1"] / "vae" / "diffusion_pytorch_model.safetensors")
    save_file(vae, tmp_path / "alone.safetensors")
    for kind in ("sd1", "sdxl"):
        folder = shutil.copytree(folders[kind], tmp_path / kind)
        save_file(vae, folder / "vae" / "diffusion_pytorch_model.safetensors")
        ref = tiny_files.ref_of(kind, f"{kind} with it")
        assert paint(engine, ref, folders[kind], tmp_path / "alone.safetensors") == paint(engine, ref, folder)
