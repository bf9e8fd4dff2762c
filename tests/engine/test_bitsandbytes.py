"""Weights that bitsandbytes quantized are read without it, and stay in 4 or 8 bits in memory."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from catalog.files.headers import read_header
from catalog.models import ModelEntry, describe
from contract.errors import ModelProblem
from contract.recipe import ModelRef
from engine.models.manager import ModelManager
from engine.weights.packed import expanded
from engine.weights.reading import fill, match
from engine.weights.weight_buffer import WeightBuffer, lay_out
from tests.support import tiny_files

UNET = "model.diffusion_model."
# Dettmers et al. 2023, Appendix E; bitsandbytes' FP4 has a sign, two bits of exponent, one of mantissa.
_LOWER = [-1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0]
_UPPER = [0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0]
NF4 = torch.tensor([*_LOWER, *_UPPER])
_FP4 = [0.0, 0.005208333, 2 / 3, 1.0, 1 / 3, 0.5, 1 / 6, 0.25]
FP4 = torch.tensor([*_FP4, *(-number for number in _FP4)])


def quantized(name: str, weight: Tensor, kind: str, block: int = 64) -> tuple[dict[str, Tensor], Tensor]:
    """The tensors of one layer as bitsandbytes saves them, and what they stand for, worked out number by number."""
    if kind == "int8":
        scales = weight.abs().amax(1).clamp_min(1e-6)
        small = (weight / scales[:, None] * 127).round().to(torch.int8)
        tensors = {name: small, name.replace(".weight", ".SCB"): scales}
        tensors[name.replace(".weight", ".weight_format")] = torch.tensor(0, dtype=torch.uint8)
        return tensors, small.float() * scales[:, None] / 127
    table = FP4 if kind == "fp4" else NF4
    blocks = weight.reshape(-1, block)
    absmax = blocks.abs().amax(1).clamp_min(1e-6)
    state: dict[str, object] = {"quant_type": kind.removesuffix(" nested"), "blocksize": block, "dtype": "float16"}
    state["shape"] = list(weight.shape)
    tensors = {f"{name}.quant_map": table}
    if kind == "nf4 nested":
        offset, levels = float(absmax.mean()), torch.linspace(-1, 1, 256)
        rest = torch.nn.functional.pad(absmax - offset, (0, -absmax.numel() % 256)).reshape(-1, 256)
        largest = rest.abs().amax(1)
        small = ((rest / largest[:, None])[..., None] - levels).abs().argmin(-1).to(torch.uint8)
        absmax = (levels[small.long()] * largest[:, None]).flatten()[: absmax.numel()] + offset
        tensors |= {f"{name}.absmax": small.flatten()[: absmax.numel()], f"{name}.nested_absmax": largest}
        tensors[f"{name}.nested_quant_map"] = levels
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": offset}
    else:
        tensors[f"{name}.absmax"] = absmax
    places = ((blocks / absmax[:, None])[..., None] - table).abs().argmin(-1)
    meant = (table[places] * absmax[:, None]).reshape(weight.shape)
    pairs = places.flatten().reshape(-1, 2).to(torch.uint8)
    tensors[name] = (pairs[:, :1] << 4) | pairs[:, 1:]
    text = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)
    tensors[f"{name}.quant_state.bitsandbytes__{kind.removesuffix(' nested')}"] = text
    return tensors, meant


def quantized_file(file: Path, target: Path, kind: str, below: str = UNET) -> Path:
    """A file with its linear layers quantized; returns one of what they stand for."""
    found: dict[str, Tensor] = {}
    meant: dict[str, Tensor] = {}
    for name, tensor in load_file(file).items():
        is_layer = name.startswith(below) and name.endswith(".weight") and tensor.dim() == 2 and "embed" not in name
        if is_layer and tensor.numel() % 64 == 0:
            tensors, meant[name] = quantized(name, tensor.float(), kind)
            found |= tensors
        else:
            found[name] = meant[name] = tensor
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.clone().contiguous() for name, tensor in found.items()}, target)
    other = target.with_name("meant.safetensors")
    save_file({name: tensor.clone().contiguous() for name, tensor in meant.items()}, other)
    return other


def made(models: ModelManager, ref: ModelRef, path: Path, inputs: dict[str, Tensor]) -> tuple[Tensor, int]:
    """What the denoiser predicts, and the bytes of its weights."""
    with models.lease(ref, str(path)) as bundle, torch.inference_mode():
        name = bundle.family.facts.denoiser
        module = bundle.onload(name)
        return module(**inputs, return_dict=False)[0], bundle._slot.layout.component_size(name)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_files.build_folder("sdxl", tmp_path_factory.mktemp("published") / "sdxl")
    return tiny_files.write_file(folder, folder.parent / "sdxl.safetensors")


@pytest.mark.parametrize("kind", ["int8"])
def test_a_unet_predicts_as_with_the_numbers_that_are_meant(
    kind: str, sdxl: Path, tmp_path: Path, models: ModelManager
) -> None:
    file = tmp_path / "one.safetensors"
    meant = quantized_file(sdxl, file, kind)
    entry = describe(file, "one")
    assert (entry.problem, entry.ref.family) == (None, "sdxl")
    torch.manual_seed(0)
    added = {"text_embeds": torch.randn(1, 64), "time_ids": torch.ones(1, 6) * 64}
    inputs = {"sample": torch.randn(1, 4, 8, 8), "timestep": torch.tensor(500.0)}
    inputs |= {"encoder_hidden_states": torch.randn(1, 9, 96), "added_cond_kwargs": added}  # type: ignore[dict-item]
    ours, size = made(models, entry.ref, file, inputs)
    theirs, whole = made(models, tiny_files.ref_of("sdxl", "meant"), meant, inputs)
    assert torch.allclose(ours, theirs, atol=1e-5), (ours - theirs).abs().max()
    plain, _ = made(models, tiny_files.ref_of("sdxl", "plain"), sdxl, inputs)
    assert not torch.equal(ours, plain)
    assert size < 0.9 * whole


def test_shares_of_a_fused_layer_have_their_own_scales(
    sd3_entries: dict[str, ModelEntry], tmp_path: Path, models: ModelManager
) -> None:
    """q, k and v of SD 3 are one tensor in the file."""
    file = sd3_entries["clips"].path
    for kind in ("nf4 nested",):
        meant = quantized_file(file, tmp_path / kind / "one.safetensors", kind)
        inputs = {"hidden_states": torch.ones(1, 16, 8, 8), "encoder_hidden_states": torch.ones(1, 9, 128)}
        inputs |= {"pooled_projections": torch.ones(1, 96), "timestep": torch.tensor([5.0])}
        ours, size = made(models, ModelRef(name=kind, family="sd3"), tmp_path / kind / "one.safetensors", inputs)
        theirs, whole = made(models, ModelRef(name=f"{kind} meant", family="sd3"), meant, inputs)
        assert torch.allclose(ours, theirs, atol=1e-5)
        assert size < whole / 2.5


def test_a_folder_as_diffusers_saves_it(
    sd3_entries: dict[str, ModelEntry], tmp_path: Path, models: ModelManager
) -> None:
    folder = Path(shutil.copytree(sd3_entries["without_t5"].path, tmp_path / "folder"))
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    inputs = {"hidden_states": torch.ones(1, 16, 8, 8), "encoder_hidden_states": torch.ones(1, 9, 128)}
    inputs |= {"pooled_projections": torch.ones(1, 96), "timestep": torch.tensor([5.0])}
    plain = weights.rename(tmp_path / "plain.safetensors")
    meant = quantized_file(plain, tmp_path / "small.safetensors", "nf4", below="transformer_blocks.")
    config = json.loads((folder / "transformer" / "config.json").read_text())
    meant.rename(weights)
    theirs, whole = made(models, describe(folder, "folder").ref, folder, inputs)
    weights.unlink()
    (tmp_path / "small.safetensors").rename(weights)
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    (folder / "transformer" / "config.json").write_text(json.dumps(config))
    entry = describe(folder, "folder")
    assert entry.problem is None
    ours, size = made(models, entry.ref, folder, inputs)
    assert torch.allclose(ours, theirs, atol=1e-5) and size < whole / 2.5


# One layer


def written(tensors: dict[str, Tensor], file: Path) -> Path:
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, file)
    return file


def read(file: Path, packing: str = "") -> Tensor:
    """The weight of a linear layer, (32, 128), expanded as it is read or afterwards."""
    packings = {("unet", "a.weight"): packing} if packing else {}
    layer = nn.ModuleDict({"a": nn.Linear(128, 32, bias=False)})
    layout = lay_out({"unet": layer}, {"unet": torch.float32}, packings=packings)
    buffer = WeightBuffer.empty(layout)
    for source in match([file], "unet", layout):
        list(fill(buffer, source))
    found = buffer.tensor(layout.specs[0])
    return expanded(found, packing, (32, 128)) if packing else found


@pytest.mark.parametrize(
    ("kind", "packing"), [("nf4", "NF4:64"), ("nf4 nested", "NF4:64"), ("fp4", "FP4:64"), ("int8", "INT8:128")]
)
def test_numbers_are_those_that_are_meant(kind: str, packing: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors, meant = quantized("a.weight", torch.randn(32, 128), kind)
    file = written(tensors, tmp_path / "one.safetensors")
    info = read_header(file)["a.weight"]
    assert (info.dtype, info.shape) == (packing, (32, 128))
    for found in (read(file), read(file, packing)):
        assert torch.allclose(found, meant, rtol=0, atol=1e-6)


STATE = "a.weight.quant_state.bitsandbytes__nf4"


def _text(**changes: object) -> Tensor:
    state = {"quant_type": "nf4", "blocksize": 64, "shape": [32, 128], **changes}
    return torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda all_: all_.update({STATE: torch.zeros(8, dtype=torch.uint8)}), "in a way that can't be read"),
        (lambda all_: all_.update({STATE: _text(shape=[2**40, 2**40])}), "a shape that can't be"),
        (lambda all_: all_.update({STATE: _text(shape=["a"])}), "in a way that can't be read"),
        (lambda all_: all_.update({STATE: _text(blocksize=0)}), "in a way that can't be read"),
        (lambda all_: all_.update({STATE: torch.zeros(9000, dtype=torch.uint8)}), "in a way that can't be read"),
        (lambda all_: all_.pop("a.weight"), "in a way that can't be read"),
        (lambda all_: all_.update({"a.weight.absmax": torch.ones(3)}), "has 3 scales for 64 blocks"),
        (lambda all_: all_.pop("a.weight.absmax"), "has no scales beside it"),
        (lambda all_: all_.update({"a.weight.quant_map": torch.ones(16)}), "has a table of numbers of its own"),
        (lambda all_: all_.update({"a.weight.nested_absmax": torch.ones(1)}), "has scales that can't be read"),
        (lambda all_: all_["a.weight.absmax"].fill_(float("nan")), "holds NaN or infinity"),
    ],
)
@pytest.mark.parametrize("packing", ["", "NF4:64"])
def test_what_lies_beside_a_weight_is_checked(
    packing: str, change: Callable[[dict[str, Tensor]], object], words: str, tmp_path: Path
) -> None:
    tensors, _ = quantized("a.weight", torch.ones(32, 128), "nf4")
    change(tensors)
    with pytest.raises(ModelProblem) as caught:
        read(written(tensors, tmp_path / "one.safetensors"), packing)
    assert words in caught.value.message and "one.safetensors" in caught.value.message
