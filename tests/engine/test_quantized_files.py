"""Weights in 8 bits with scales, and weights split into several files, are read as what they stand for, exactly."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from catalog.files.weights import weights_files
from catalog.models import describe
from contract.errors import ModelProblem
from contract.recipe import ModelRef
from contract.tasks import Merge
from engine.convert.merging import merge
from engine.models.manager import ModelManager
from tests.support import tiny_files

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
UNET = "model.diffusion_model."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SDXL: two text encoders, one of them with q, k and v in one tensor."""
    return tiny_files.build_folder("sdxl", tmp_path_factory.mktemp("published") / "sdxl")


def weights(manager: ModelManager, ref: ModelRef, path: Path) -> dict[str, Tensor]:
    with manager.lease(ref, str(path)) as bundle:
        return {
            f"{part}.{name}": tensor.clone()
            for part, module in bundle.modules.items()
            for name, tensor in module.state_dict().items()
        }


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def quantized(file: Path, target: Path, dtype: torch.dtype, style: str) -> Path:
    """As ComfyUI writes it: linear layers in 8 bits, each with a scale; returns what they stand for, as a file."""
    names = {
        "scaled_fp8": ".scale_weight",
        "one number": ".scale_weight",
        "rows": ".scale_weight",
        "comfy_quant": ".weight_scale",
    }
    found: dict[str, Tensor] = {}
    meant: dict[str, Tensor] = {}
    for name, tensor in load_file(file).items():
        if not name.endswith(".weight") or tensor.dim() != 2 or "embedding" in name:
            found[name] = meant[name] = tensor
            continue
        largest = tensor.abs().amax(1, keepdim=True) if style == "rows" else tensor.abs().amax()
        scale = (largest / torch.finfo(dtype).max).clamp_min(1e-12).float()
        small = (tensor / scale).to(dtype)
        layer = name.removesuffix(".weight")
        found[name], meant[name] = small, small.float() * scale
        found[layer + names[style]] = scale.reshape(1) if style == "one number" else scale
        if style == "scaled_fp8":
            found[f"{layer}.scale_input"] = torch.tensor(1.0)
        if style == "comfy_quant":
            text = json.dumps({"format": "float8_e4m3fn"}).encode()
            found[f"{layer}.comfy_quant"] = torch.tensor(list(text), dtype=torch.uint8)
    if style != "comfy_quant":
        found[f"{UNET}scaled_fp8"] = torch.empty(2 if style == "scaled_fp8" else 0, dtype=dtype)
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, target)
    save_file({name: tensor.contiguous() for name, tensor in meant.items()}, target.with_suffix(".meant.safetensors"))
    return target.with_suffix(".meant.safetensors")


@pytest.mark.parametrize(
    ("dtype", "style"),
    [(E4M3, "scaled_fp8"), (E5M2, "scaled_fp8"), (E4M3, "one number"), (E4M3, "rows"), (E4M3, "comfy_quant")],
)
def test_scaled_weights_are_read_as_their_product(
    folder: Path, tmp_path: Path, models: ModelManager, dtype: torch.dtype, style: str
) -> None:
    file = tiny_files.write_file(folder, tmp_path / "one.safetensors")
    small = tmp_path / "small.safetensors"
    meant = quantized(file, small, dtype, style)
    entry = describe(small, "small")
    assert (entry.problem, entry.ref.family) == (None, "sdxl")
    ours = weights(models, entry.ref, small)
    assert same(ours, weights(models, tiny_files.ref_of("sdxl", "meant"), meant))
    linear = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    plain = weights(models, tiny_files.ref_of("sdxl", "plain"), file)[linear]
    assert not torch.equal(ours[linear], plain) and torch.allclose(ours[linear], plain, rtol=0.3, atol=0.05)


def test_a_merge_multiplies_too_and_writes_no_scales(folder: Path, tmp_path: Path) -> None:
    file = tiny_files.write_file(folder, tmp_path / "one.safetensors")
    meant = quantized(file, tmp_path / "small.safetensors", E4M3, "rows")
    a, b = tiny_files.ref_of("sdxl", "a"), tiny_files.ref_of("sdxl", "b")
    task = Merge(name="new", a=a, b=b, ratio=0.0, dtype="float32")
    paths = {"checkpoint/a": str(tmp_path / "small.safetensors"), "checkpoint/b": str(file)}
    merge(task, paths, tmp_path / "new.safetensors", lambda words, fraction: None)
    made, expected = load_file(tmp_path / "new.safetensors"), load_file(meant)
    averaged = {name for name in expected if name.startswith("model_ema.")}
    assert made.keys() == expected.keys() - averaged
    assert not [
        name
        for name, tensor in made.items()
        if tensor.is_floating_point() and not torch.equal(tensor, expected[name].float())
    ]


@pytest.mark.parametrize("shape", [(3,), (32, 2), (1, 32), (2, 2)])
def test_a_scale_of_another_shape_is_refused_by_name(
    folder: Path, tmp_path: Path, models: ModelManager, shape: tuple[int, ...]
) -> None:
    file = tiny_files.write_file(folder, tmp_path / "one.safetensors")
    layer = f"{UNET}input_blocks.1.0.emb_layers.1"
    tensors = load_file(file)
    tensors[f"{layer}.scale_weight"] = torch.ones(shape)
    save_file(tensors, file)
    entry = describe(file, "one")
    assert entry.problem == "one: Its weights are 8-bit floats scaled in blocks, which Darkroom can't read."
    with pytest.raises(ModelProblem, match="the scale of"):
        weights(models, tiny_files.ref_of("sdxl", "one"), file)


def split(folder: Path, target: Path, *, variant: str = "", is_late: bool = True) -> Path:
    """A folder whose parts are in two files each, with an index, as diffusers and transformers split large ones."""
    for path in sorted(folder.rglob("*")):
        place = target / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".safetensors":
            if path.is_file():
                place.write_bytes(path.read_bytes())
            continue
        tensors = load_file(path)
        names = sorted(tensors)
        halves = (names[::2], names[1::2])
        dotted = f".{variant}" if variant else ""
        files = [f"{path.stem}-0000{number}-of-00002{dotted}.safetensors" for number in (1, 2)]
        for file, half in zip(files, halves, strict=True):
            save_file({name: tensors[name] for name in half}, place.parent / file)
        index = (
            f"{path.stem}.safetensors.index{dotted}.json" if is_late else f"{path.stem}{dotted}.safetensors.index.json"
        )
        weight_map = {name: file for file, half in zip(files, halves, strict=True) for name in half}
        (place.parent / index).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    parts = {
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    }
    (target / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline", **parts}))
    return target


@pytest.mark.parametrize(("variant", "is_late"), [("", True), ("fp16", True), ("bf16", False), ("non_ema", True)])
def test_a_folder_split_into_several_files_is_read_whole(
    folder: Path, tmp_path: Path, models: ModelManager, variant: str, is_late: bool
) -> None:
    parts = split(folder, tmp_path / "split", variant=variant, is_late=is_late)
    entry = describe(parts, "split")
    assert entry.problem is None
    assert entry.size_bytes > sum(path.stat().st_size for path in folder.rglob("*.safetensors")) * 0.99
    ref = tiny_files.ref_of("sdxl", f"split {variant}")
    assert same(weights(models, ref, parts), weights(models, tiny_files.ref_of("sdxl", "whole"), folder))


def test_the_fingerprint_is_of_all_files(folder: Path, tmp_path: Path) -> None:
    parts = split(folder, tmp_path / "split")
    first = describe(parts, "split").ref.fingerprint
    shard = parts / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors"
    tensors = load_file(shard)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, shard)
    assert describe(parts, "split").ref.fingerprint != first


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("diffusion_pytorch_model.bf16.safetensors",), 0),
        (("diffusion_pytorch_model.non_ema.safetensors",), 0),
        (("diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.safetensors"), 1),
        (("diffusion_pytorch_model.bf16.safetensors", "diffusion_pytorch_model.fp16.safetensors"), 1),
        (("diffusion_pytorch_model.bf16.safetensors", "diffusion_pytorch_model.non_ema.safetensors"), 0),
        (("model.int8.safetensors",), 0),
        (("something.safetensors",), 0),
        (("model.fp16.safetensors", "._model.safetensors"), 0),
    ],
)
def test_of_several_variants_one_is_chosen(tmp_path: Path, names: tuple[str, ...], chosen: int) -> None:
    for name in names:
        save_file({"t": torch.zeros(1)}, tmp_path / name)
    assert weights_files(tmp_path) == (tmp_path / names[chosen],)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"weight_map": {"t": "../../x.safetensors"}}, "no file beside it"),
        ({"weight_map": {"t": 5}}, "which tensor is in which"),
        ({"weight_map": {"t": "/etc/passwd"}}, "no file beside it"),
        ({"weight_map": {"t": "..\\x.safetensors"}}, "no file beside it"),
        ({"weight_map": {}}, "which tensor"),
        ({"weight_map": [["t", "a"]]}, "which tensor"),
        ({}, "which tensor"),
        ({"weight_map": {"t": "model-00009-of-00009.safetensors"}}, "is missing, one of 1"),
        ([], "is not a table"),
        ({"weight_map": {"t": "a.safetensors", "u": "b.safetensors"}}, "“t” in two of its files"),
    ],
)
def test_an_index_that_leads_elsewhere_or_lies_is_refused(tmp_path: Path, table: object, words: str) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        save_file({"t": torch.zeros(1)}, tmp_path / name)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(table))
    with pytest.raises(ModelProblem, match=words):
        weights_files(tmp_path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("model.onnx",), "holds an ONNX model"),
        (("pytorch_model.bin",), "holds a pickle"),
        (("flax_model.msgpack",), "holds Flax"),
        (("unet-Q4_K_M.gguf",), "holds GGUF"),
        ((), "has no weights"),
        (("a.safetensors", "b.safetensors"), "which to use is not clear"),
        (("model-00001-of-00002.safetensors",), "the index that says what is in them is missing"),
    ],
)
def test_a_part_without_weights_says_what_it_has_instead(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelProblem, match=words):
        weights_files(tmp_path)
