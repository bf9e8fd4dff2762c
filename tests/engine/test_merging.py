"""A merged checkpoint is what its formula says, tensor by tensor, and says itself how it was made."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from catalog.files.headers import read_whole_header
from contract.errors import ModelProblem
from contract.recipe import ModelRef
from contract.tasks import Merge
from engine.convert.merging import HASHING, MERGING, merge
from engine.models.manager import ModelManager
from tests.support import tiny_files
from tests.support.tiny_files import Kind

Files = dict[str, Path]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Three checkpoints of SD 2, whose text encoder fuses tensors; one as a folder, too; and others."""
    root = tmp_path_factory.mktemp("merging")
    found = {}
    made: dict[str, tuple[Kind, int]] = {
        "a": ("sd2", 0),
        "b": ("sd2", 1),
        "c": ("sd2", 2),
        "inpaint": ("sd2_inpaint", 3),
        "sd1": ("sd1", 4),
    }
    for name, (kind, seed) in made.items():
        found[f"{name} folder"] = tiny_files.build_folder(kind, root / f"{name} folder", seed)
        found[name] = tiny_files.write_file(found[f"{name} folder"], root / f"{name}.safetensors")
    return found


def ref(name: str) -> ModelRef:
    return ModelRef(name=name, family="sd1" if name.startswith("sd1") else "sd2")


def merged(files: Files, target: Path, names: tuple[str, ...], **fields: object) -> dict[str, Tensor]:
    roles = dict(zip("abc", map(ref, names), strict=False))
    task = Merge.model_validate({"name": "new", "dtype": "float32", **roles, **fields})
    heard: list[tuple[str, float | None]] = []
    paths = {name if "/" in name else f"checkpoint/{name}": str(path) for name, path in files.items()}
    merge(task, paths, target, lambda words, fraction: heard.append((words, fraction)))
    assert {words for words, _ in heard} == {HASHING, MERGING}
    assert heard[-1] == (MERGING, 1.0)
    return load_file(target)


def floats(file: Path) -> dict[str, Tensor]:
    return {
        name: tensor
        for name, tensor in load_file(file).items()
        if tensor.is_floating_point()
        and name.startswith(("model.diffusion", "first_stage", "cond_stage_model.model.transformer.resblocks.0"))
    }


@pytest.mark.parametrize("other", ["b", "b folder"])
def test_a_weighted_sum(other: str, files: Files, tmp_path: Path) -> None:
    found = merged(files, tmp_path / "new.safetensors", ("a", other), ratio=0.25)
    one, two = floats(files["a"]), floats(files["b"])
    assert not [
        name
        for name, tensor in one.items()
        if not torch.allclose(found[name], tensor * 0.75 + two[name] * 0.25, atol=1e-7)
    ]
    assert found.keys() == {name for name in load_file(files["a"]) if not name.startswith("model_ema.")}


def test_an_added_difference(files: Files, tmp_path: Path) -> None:
    found = merged(files, tmp_path / "new.safetensors", ("a", "b", "c"), method="add_difference", ratio=0.5)
    one, two, three = floats(files["a"]), floats(files["b"]), floats(files["c"])
    assert not [
        name
        for name, tensor in one.items()
        if not torch.allclose(found[name], tensor + 0.5 * (two[name] - three[name]), atol=1e-6)
    ]


def test_an_inpainting_model_takes_the_difference_of_others(files: Files, tmp_path: Path) -> None:
    found = merged(files, tmp_path / "new.safetensors", ("inpaint", "b", "c"), method="add_difference", ratio=1.0)
    name = "model.diffusion_model.input_blocks.0.0.weight"
    own, two, three = (load_file(files[which])[name] for which in ("inpaint", "b", "c"))
    assert torch.allclose(found[name][:, :4], own[:, :4] + two - three, atol=1e-6)
    assert torch.equal(found[name][:, 4:], own[:, 4:])


def test_the_result_loads_and_is_the_first_model_at_ratio_0(files: Files, tmp_path: Path, models: ModelManager) -> None:
    merged(files, tmp_path / "new.safetensors", ("a", "b"), ratio=0.0, dtype="float16")
    assert {info.dtype for info in read_whole_header(tmp_path / "new.safetensors").tensors.values()} == {"F16"}
    with models.lease(ref("new"), str(tmp_path / "new.safetensors")) as bundle:
        for part, module in bundle.modules.items():
            (path,) = (files["a folder"] / part).glob("*.safetensors")
            for name, tensor in load_file(path).items():
                assert torch.equal(module.state_dict()[name], tensor.half().float()), name


def test_it_says_how_it_was_made(files: Files, tmp_path: Path) -> None:
    merged(files, tmp_path / "new.safetensors", ("a", "b"), ratio=0.25)
    with safe_open(tmp_path / "new.safetensors", "pt") as opened:
        told = json.loads(opened.metadata()["darkroom.merge"])
    sums = {name: hashlib.sha256(files[name].read_bytes()).hexdigest() for name in "ab"}
    assert told == {
        "method": "weighted",
        "ratio": 0.25,
        "dtype": "float32",
        "models": {name: {"name": name, "sha256": sums[name]} for name in "ab"},
    }


def test_a_lora_is_baked_in(files: Files, tmp_path: Path) -> None:
    """Also into a third of a tensor that holds three; and a rotation."""
    blocks = 0.3 * torch.randn(4, 8, 8)
    skew = blocks - blocks.mT
    turned = torch.block_diag(*[torch.linalg.solve(torch.eye(8) + q, torch.eye(8) - q) for q in skew])
    up, down = torch.randn(32, 2), torch.randn(2, 32)
    te_up, te_down = torch.randn(64, 2), torch.randn(2, 64)
    unet = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    text = "lora_te_text_model_encoder_layers_0_self_attn_k_proj"
    save_file(
        {
            f"{unet}.lora_up.weight": up,
            f"{unet}.lora_down.weight": down,
            f"{unet}.alpha": torch.tensor(1.0),
            f"{text}.lora_up.weight": te_up,
            f"{text}.lora_down.weight": te_down,
            f"{unet.removesuffix('to_q')}to_k.oft_blocks": blocks,
            "lora_unet_stranger.alpha": torch.tensor(1.0),
        },
        tmp_path / "ink.safetensors",
    )
    ink = {"model": ModelRef(kind="lora", name="ink", family="sd2"), "weight": 0.8, "text_weight": 0.5}
    found = merged(
        {**files, "lora/ink": tmp_path / "ink.safetensors"}, tmp_path / "new.safetensors", ("a",), loras=(ink,)
    )
    expected = floats(files["a"])
    expected["model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"] += 0.8 * 0.5 * up @ down
    weight = expected["model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_k.weight"]
    weight += 0.8 * (turned @ weight - weight)
    expected["cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"][64:128] += 0.5 * te_up @ te_down
    assert not [name for name, tensor in expected.items() if not torch.allclose(found[name], tensor, atol=1e-5)]
    with safe_open(tmp_path / "new.safetensors", "pt") as opened:
        told = json.loads(opened.metadata()["darkroom.merge"])
    assert [(lora["name"], lora["weight"], lora["text_weight"]) for lora in told["loras"]] == [("ink", 0.8, 0.5)]


def test_a_lora_of_another_family_is_refused(files: Files, tmp_path: Path) -> None:
    save_file({"lora_unet_stranger.lora_up.weight": torch.ones(2, 2)}, tmp_path / "ink.safetensors")
    ink = {"model": ModelRef(kind="lora", name="ink", family="sdxl")}
    with pytest.raises(ModelProblem, match="LoRA “ink” does nothing on “a”: 0 of 1 layers match"):
        merged({**files, "lora/ink": tmp_path / "ink.safetensors"}, tmp_path / "new.safetensors", ("a",), loras=(ink,))


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("a", "sd1"), "a is SD 2.x; sd1 is SD 1.x."),
        (("a", "inpaint"), "“conv_in.weight” is 32×4×3×3 in a and 32×9×3×3 in inpaint."),
        (("a folder", "b"), "a folder is a folder"),
    ],
)
def test_what_does_not_go_together_is_refused(
    names: tuple[str, ...], sentence: str, files: Files, tmp_path: Path
) -> None:
    with pytest.raises(ModelProblem) as caught:
        merged(files, tmp_path / "new.safetensors", names)
    assert sentence in caught.value.message
    assert not (tmp_path / "new.safetensors").exists()


def test_numbers_too_large_for_the_precision_are_named(files: Files, tmp_path: Path) -> None:
    tensors = load_file(files["a"])
    tensors["model.diffusion_model.out.2.bias"].fill_(1e6)
    save_file(tensors, tmp_path / "large.safetensors")
    with pytest.raises(ModelProblem, match=r"“conv_out\.bias” is no finite number after merging"):
        merged(
            {**files, "large": tmp_path / "large.safetensors"},
            tmp_path / "new.safetensors",
            ("large", "b"),
            dtype="float16",
        )
