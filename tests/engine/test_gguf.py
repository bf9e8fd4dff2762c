"""GGUF: weights stay packed in memory and are expanded layer by layer, to just what they stand for."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from catalog.detect.quantized import READ_PACKINGS
from catalog.models import ModelEntry, describe
from contract.errors import ModelProblem
from contract.recipe import LoraUse, ModelRef, Recipe
from contract.tasks import Generate, Merge
from contract.work import WorkFailed, WorkImage, WorkItem, path_key
from engine.convert.merging import merge
from engine.engine import Engine
from engine.lora.patch import LoadedLora, patch_loras
from engine.models import group_offload
from engine.models.manager import ModelManager
from engine.models.offload import Offload
from engine.weights.packed import expanded, is_finite, packed_size
from tests.engine.conftest import CPU
from tests.engine.test_offload import CARD
from tests.support import tiny_files, tiny_sd3
from tests.support.gguf_files import pack, write_gguf

UNET = "model.diffusion_model."
QKV = "joint_blocks.1.x_block.attn.qkv.weight"
# llama.cpp's names of T5's modules.
LLAMA = {
    "layer.0.SelfAttention.q": "attn_q",
    "layer.0.SelfAttention.k": "attn_k",
    "layer.0.SelfAttention.v": "attn_v",
    "layer.0.SelfAttention.o": "attn_o",
    "layer.0.SelfAttention.relative_attention_bias": "attn_rel_b",
    "layer.0.layer_norm": "attn_norm",
    "layer.1.DenseReluDense.wi_0": "ffn_gate",
    "layer.1.DenseReluDense.wi_1": "ffn_up",
    "layer.1.DenseReluDense.wo": "ffn_down",
    "layer.1.layer_norm": "ffn_norm",
}


@pytest.mark.parametrize("packing", sorted(READ_PACKINGS))
def test_numbers_are_those_of_the_library(packing: str) -> None:
    kind = gguf.GGMLQuantizationType[packing]
    packed = pack(np.random.default_rng(1).normal(size=(6, 512)).astype(np.float32), packing)
    found = expanded(torch.from_numpy(packed.reshape(-1)), packing, (6, 512))
    expected = torch.from_numpy(gguf.quants.dequantize(packed, kind))
    assert found.shape == (6, 512) and found.abs().max() > 0
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-9)
    assert packed_size(packing, (6, 512)) == packed.size
    # The scales of every type are where this says: nothing else makes a number infinite.
    for place in range(gguf.GGML_QUANT_SIZES[kind][1] - 1):
        broken = torch.from_numpy(packed.reshape(-1)).clone()
        broken[place : place + 2] = torch.tensor([0x00, 0x7C], dtype=torch.uint8)
        assert is_finite(broken, packing) == bool(expanded(broken, packing, (6, 512)).isfinite().all())


def written(folder: Path, packing: str, home: Path) -> tuple[Path, Path]:
    """An SD 3 transformer as GGUF and what it stands for, each with text encoders; T5 as llama.cpp names it."""
    tensors = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    file = home / "packed" / "one.gguf"
    meant = write_gguf(tiny_sd3.original_transformer(tensors), file, packing)
    theirs = meant.rename(home / "meant.safetensors")
    encoders = file.parent / "text_encoders"
    for component, name in zip(tiny_sd3.ENCODERS, ("clip_l", "clip_g", "t5xxl"), strict=True):
        tiny_sd3.write_encoder(folder, component, encoders / f"{name}.safetensors")
    shutil.copytree(folder / "tokenizer_3", file.parent / "tokenizer_3")
    shutil.copytree(file.parent, home / "plain")
    (home / "plain" / "one.gguf").unlink()
    theirs = theirs.rename(home / "plain" / "one.safetensors")
    t5 = load_file(encoders / "t5xxl.safetensors")
    names = {"shared.weight": "token_embd.weight", "encoder.final_layer_norm.weight": "enc.output_norm.weight"}
    for name in t5:
        for theirs_module, ours in LLAMA.items():
            if theirs_module in name:
                block = name.split(".")[2]
                names[name] = f"enc.blk.{block}.{ours}.weight"
    (encoders / "t5xxl.safetensors").unlink()
    meant_t5 = write_gguf(t5, encoders / "t5xxl.gguf", "Q8_0", architecture="t5encoder", names=names)
    meant_t5.replace(home / "plain" / "text_encoders" / "t5xxl.safetensors")
    return file, theirs


@pytest.fixture(scope="module")
def files(sd3_entries: dict[str, ModelEntry], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """By packing: a GGUF file, and a safetensors file of what it stands for."""
    folder = sd3_entries["folder"].path
    return {packing: written(folder, packing, tmp_path_factory.mktemp(packing)) for packing in ("Q4_K",)}


@pytest.fixture(scope="module")
def run(engine: Engine, sd3_entries: dict[str, ModelEntry]) -> Callable[..., bytes]:
    """The pixels of a job; a sentence, where it fails."""
    vae = ModelRef(kind="vae", name="vae", family="sd3")

    def made(file: Path, loras: tuple[Path, ...] = (), family: str = "sd3", **asked: Any) -> Any:
        ref = describe(file, file.stem).ref if family == "sd3" else ModelRef(name=file.stem, family=family)
        refs = {ModelRef(kind="lora", name=lora.stem, family=family): lora for lora in loras}
        plain = {"prompt": "a red cat", "sampler": "euler", "schedule": "simple", "steps": 2, "guidance": 3.0}
        uses = tuple(LoraUse(model=lora, weight=0.5) for lora in refs)
        if family == "sd3":
            plain["vae"] = vae
        recipe = Recipe.model_validate(
            {**plain, "width": 64, "height": 64, "seed": 3, "model": ref, "loras": uses, **asked}
        )
        paths = {path_key(ref): str(file), path_key(vae): str(sd3_entries["folder"].path / "vae")}
        paths |= {path_key(lora): str(path) for lora, path in refs.items()}
        events = list(engine.generate(WorkItem("job", 1, Generate(recipe=recipe), model_paths=paths), lambda: False))
        for event in events:
            if isinstance(event, WorkFailed):
                return event.message
        (image,) = [event.pixels for event in events if isinstance(event, WorkImage)]
        return bytes(image.rgb)

    return made


def test_a_job_paints_as_with_the_numbers_that_are_meant(
    files: dict[str, tuple[Path, Path]], run: Callable[..., bytes]
) -> None:
    file, meant = files["Q4_K"]
    entry = describe(file, "one")
    assert (entry.problem, entry.ref.family, entry.has_vae, entry.warnings) == (None, "sd3", False, ())
    ours = run(file)
    assert isinstance(ours, bytes), ours
    assert ours == run(meant)


def test_weights_stay_packed_in_memory(files: dict[str, tuple[Path, Path]], models: ModelManager) -> None:
    file, meant = files["Q4_K"]
    sizes = {}
    for path in (file, meant):
        ref = ModelRef(name=path.name, family="sd3")
        with models.lease(ref, str(path)) as bundle:
            layout = bundle._slot.layout
            packed = [spec for spec in layout.specs if spec.packing]
            sizes[path] = layout.component_size("transformer")
            if path == file:
                assert {spec.packing for spec in packed} == {"Q4_K"} and len(packed) > 40
                numbers = load_file(meant)[QKV].chunk(3)[1]
                name = "transformer_blocks.1.attn.to_k.weight"
                assert torch.equal(bundle.original("transformer", name), numbers)
                assert bundle.present("transformer", name) is None
                # Between two calls there is nothing, and of the right shape.
                weight = bundle.modules["transformer"].get_submodule(name.removesuffix(".weight")).weight
                assert weight.shape == (128, 128) and bool(weight.isnan().all())
            else:
                assert not packed
    assert sizes[file] < sizes[meant] / 3


def test_a_packed_checkpoint_leaves_no_modules_behind(
    files: dict[str, tuple[Path, Path]], models: ModelManager
) -> None:
    with models.lease(ModelRef(name="one", family="sd3"), str(files["Q4_K"][0])):
        pass
    assert len(models._slots) == 1
    models.evict_all()
    assert models._slots == []


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a fused layer, and of one with a LoHa."""
    torch.manual_seed(0)
    stem, other = "lora_unet_joint_blocks_1_x_block_attn_qkv", "lora_unet_joint_blocks_0_x_block_mlp_fc1"
    tensors = {
        f"{stem}.lora_down.weight": torch.randn(4, 128) * 0.1,
        f"{stem}.lora_up.weight": torch.randn(384, 4) * 0.1,
        f"{stem}.alpha": torch.tensor(4.0),
        f"{other}.hada_w1_a": torch.randn(512, 2) * 0.3,
        f"{other}.hada_w1_b": torch.randn(2, 128) * 0.3,
        f"{other}.hada_w2_a": torch.randn(512, 2) * 0.3,
        f"{other}.hada_w2_b": torch.randn(2, 128) * 0.3,
    }
    file = tmp_path_factory.mktemp("loras") / "lora.safetensors"
    save_file(tensors, file)
    return file


def test_a_lora_acts_on_the_numbers_and_comes_off(
    files: dict[str, tuple[Path, Path]], lora: Path, run: Callable[..., bytes]
) -> None:
    file, meant = files["Q4_K"]
    plain = run(file)
    ours = run(file, (lora,))
    assert ours != plain and ours == run(meant, (lora,))
    assert run(file) == plain


@pytest.mark.parametrize("mode", ["none", "group"])
def test_on_a_card_bytes_are_copied_and_numbers_are_made_there(
    mode: Offload, files: dict[str, tuple[Path, Path]], lora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card is shown on the CPU, by the same code; groups are so small that layers are groups by themselves."""
    monkeypatch.setattr(group_offload, "GROUP_BYTES", 2**14)
    monkeypatch.setattr(group_offload, "_STAYS_BYTES", 2**13)
    file, meant = files["Q4_K"]
    holder = load_file(lora)
    named = nn.Module()
    named.state_dict = lambda *_, **__: holder  # type: ignore[method-assign, assignment]
    use = LoadedLora(LoraUse(model=ModelRef(kind="lora", name="lora", family="sd3"), weight=0.5), named, lora)
    torch.manual_seed(1)
    inputs = (torch.randn(1, 16, 8, 8), torch.tensor([500.0]), torch.randn(1, 20, 128), torch.randn(1, 96))
    made: dict[Path, list[Tensor]] = {}
    for path in (file, meant):
        manager = ModelManager(CARD, offload=mode)
        made[path] = []
        with manager.lease(ModelRef(name=path.name, family="sd3"), str(path)) as bundle, torch.inference_mode():
            for loras in ((), (use,), ()):
                patch_loras(bundle, loras)
                transformer: Any = bundle.onload("transformer")
                x, t, words, pooled = inputs
                made[path] += [
                    transformer(x, encoder_hidden_states=words, pooled_projections=pooled, timestep=t)[0]
                    for _ in range(2)
                ]
                bundle.onload("text_encoder")
            if path == file and mode == "none":
                assert bundle._slot.device_size == bundle._slot.layout.size
                assert bundle.evaluator is None
    assert all(torch.allclose(ours, theirs, atol=1e-5) for ours, theirs in zip(*made.values(), strict=True))
    plain, _, patched, *_, last = made[file]
    assert torch.equal(plain, last) and not torch.allclose(plain, patched, atol=1e-6)


def test_half_precision_storage_keeps_what_is_packed(files: dict[str, tuple[Path, Path]]) -> None:
    file, _ = files["Q4_K"]
    sizes = {}
    for storage in ("full", "half"):
        manager = ModelManager(CPU, storage=storage)  # type: ignore[arg-type]
        with manager.lease(ModelRef(name="one", family="sd3"), str(file)) as bundle:
            x, t, words, pooled = torch.ones(1, 16, 8, 8), torch.tensor([5.0]), torch.ones(1, 9, 128), torch.ones(1, 96)
            transformer: Any = bundle.onload("transformer")
            with torch.inference_mode():
                out = transformer(x, encoder_hidden_states=words, pooled_projections=pooled, timestep=t)[0]
            assert out.dtype == torch.float32 and out.isfinite().all()
            sizes[storage] = bundle._slot.layout
    packed = {storage: [spec for spec in layout.specs if spec.packing] for storage, layout in sizes.items()}
    assert [spec.name for spec in packed["full"]] == [spec.name for spec in packed["half"]]
    assert sizes["half"].size < sizes["full"].size


# SD 1.x and SDXL: a U-Net alone, with original names; another checkpoint lends the rest


def test_a_unet_alone_paints_with_what_a_whole_checkpoint_lends(tmp_path: Path, run: Callable[..., bytes]) -> None:
    kind, packing = "sdxl", "Q6_K"
    folder = tiny_files.build_folder("sdxl", tmp_path / "folder")
    whole = tiny_files.write_file(folder, tmp_path / "models" / "checkpoints" / "whole.safetensors")
    tensors = load_file(whole)
    unet = {name.removeprefix(UNET): tensor for name, tensor in tensors.items() if name.startswith(UNET)}
    file = tmp_path / "models" / "unet" / "one.gguf"
    meant = load_file(write_gguf(unet, file, packing, architecture=kind, plain=("input_blocks.0.0.weight",)))
    (tmp_path / "models" / "unet" / "one.meant.safetensors").unlink()
    replaced = {name: meant.get(name.removeprefix(UNET), tensor) for name, tensor in tensors.items()}
    save_file(replaced, tmp_path / "meant.safetensors")
    ours = run(file, family=kind, schedule="automatic")
    assert isinstance(ours, bytes), ours
    assert ours == run(tmp_path / "meant.safetensors", family=kind, schedule="automatic")
    assert ours != run(whole, family=kind, schedule="automatic")
    # A merge reads the numbers, too.
    a, b = tiny_files.ref_of("sdxl", "whole"), tiny_files.ref_of("sdxl", "one")
    task = Merge(name="new", a=a, b=b, ratio=1.0, dtype="float32")
    paths = {"checkpoint/whole": str(whole), "checkpoint/one": str(file)}
    merge(task, paths, tmp_path / "new.safetensors", lambda words, fraction: None)
    made, name = load_file(tmp_path / "new.safetensors"), "middle_block.0.in_layers.2.weight"
    assert torch.equal(made[UNET + name], meant[name]) and not torch.equal(meant[name], unet[name])


def test_a_whole_checkpoint_as_stable_diffusion_cpp_writes_it(tmp_path: Path, run: Callable[..., bytes]) -> None:
    """Both text encoders of SDXL have transformers' names there, with OpenCLIP's projection."""
    folder = tiny_files.build_folder("sdxl", tmp_path / "folder")
    tensors = load_file(tiny_files.write_file(folder, tmp_path / "whole.safetensors"))
    ours = {name: one for name, one in tensors.items() if name.startswith((UNET, "first_stage_model."))}
    names = {}
    for component, place in (("text_encoder", "cond_stage_model."), ("text_encoder_2", "cond_stage_model.1.")):
        for name, one in load_file(folder / component / "model.safetensors").items():
            bare = name.removeprefix("text_model.")
            called = f"{place}transformer.text_model.{bare}"
            own = called.replace("cond_stage_model.1.", "conditioner.embedders.1.")
            own = own.replace("cond_stage_model.", "conditioner.embedders.0.")
            if bare == "text_projection.weight":
                called, own, one = called.removesuffix(".weight"), own.removesuffix(".weight"), one.t().contiguous()
            ours[own], names[own] = one, called
    file = tmp_path / "packed" / "one.gguf"
    meant = write_gguf(ours, file, "Q8_0", architecture="sdxl", names=names, plain=())
    values = load_file(meant)
    projection = "conditioner.embedders.1.transformer.text_model.text_projection"
    values[f"{projection}.weight"] = values.pop(projection).t().contiguous()
    meant.unlink()
    save_file(values, tmp_path / "meant.safetensors")
    entry = describe(file, "one")
    assert (entry.problem, entry.ref.family, entry.has_vae, entry.has_encoders) == (None, "sdxl", True, True)
    painted = run(file, family="sdxl", schedule="automatic")
    assert isinstance(painted, bytes), painted
    assert painted == run(tmp_path / "meant.safetensors", family="sdxl", schedule="automatic")


# Damage


def damaged(file: Path, target: Path, change: Callable[[bytearray], object]) -> Path:
    raw = bytearray(file.read_bytes())
    change(raw)
    target.write_bytes(raw)
    return target


def test_a_scale_that_is_no_number_is_refused_by_name(
    files: dict[str, tuple[Path, Path]], tmp_path: Path, models: ModelManager
) -> None:
    file, _ = files["Q4_K"]
    reader = gguf.GGUFReader(file)
    (place,) = [tensor.data_offset for tensor in reader.tensors if tensor.name == QKV]
    home = tmp_path / "home"
    shutil.copytree(file.parent, home)

    def spoil(raw: bytearray) -> None:
        raw[place : place + 2] = b"\x00\x7e"  # NaN

    broken = damaged(file, home / "broken.gguf", spoil)
    with (
        pytest.raises(ModelProblem, match=r"“transformer_blocks.1.attn.to_q.weight” holds NaN or infinity"),
        models.lease(ModelRef(name="broken", family="sd3"), str(broken)),
    ):
        pass
    assert models.resident() == ()
