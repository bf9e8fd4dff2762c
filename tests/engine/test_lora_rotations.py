"""OFT and BOFT against dense matrices worked out here, and against peft's own layers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import BOFTConfig, OFTConfig, get_peft_model
from peft.tuners.boft.layer import BOFTLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn

from catalog.detect.lora_names import cut
from engine.lora.alphas import alphas_of
from engine.lora.deltas import deltas_of, merged
from engine.lora.mismatch import ShapeMismatch
from engine.lora.rotations import rotation_of
from engine.weights.reading import TensorSlice

CPU = torch.device("cpu")
LINEAR, CONV = (12, 8), (12, 8, 3, 3)


def noise(*shape: int, seed: int = 0, size: float = 1.0) -> Tensor:
    return size * torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def changed(tensors: dict[str, Tensor], base: Tensor, strength: float = 1.0) -> Tensor:
    kept = base.clone()
    weight = merged(base, [(deltas_of(tensors, tuple(base.shape), CPU)["weight"], strength)])
    assert torch.equal(base, kept)
    return weight


def same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other.to(one).reshape(one.shape), rtol=0, atol=2e-5)


def cayley(skew: Tensor) -> Tensor:
    """In double precision, block by block."""
    one = torch.eye(skew.shape[-1], dtype=torch.float64)
    return torch.stack([(one + block) @ torch.linalg.inv(one - block) for block in skew.double()])


def dense(blocks: Tensor, strength: float = 1.0) -> Tensor:
    whole = torch.block_diag(*blocks.double())
    one = torch.eye(len(whole), dtype=torch.float64)
    return one + strength * (whole - one)


@pytest.mark.parametrize("shape", [LINEAR, CONV])
@pytest.mark.parametrize("alpha", [None, 0.0, 0.05, 100.0])
def test_oft_turns_rows_in_blocks(shape: tuple[int, ...], alpha: float | None) -> None:
    base, blocks = noise(*shape), noise(3, 4, 4, size=0.4)
    tensors = {"oft_blocks": blocks} | ({} if alpha is None else {"alpha": torch.tensor(alpha)})
    skew = blocks - blocks.mT
    if alpha == 0.05:  # longer than 0.05 · 12
        assert skew.norm() > 0.6
        skew = skew * 0.6 / skew.norm()
    rotation = dense(cayley(skew))
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(12, dtype=torch.float64))
    flat = base.flatten(1).double()
    same(changed(tensors, base), rotation.T @ flat)
    for strength in (0.0, 0.3, -1.0):
        same(changed(tensors, base, strength), flat + strength * (rotation.T @ flat - flat))


def test_rescale_weighs_rows_after_the_turn() -> None:
    base, blocks, rescale = noise(*CONV), noise(3, 4, 4), noise(12, 1, 1, 1, seed=3)
    wanted = rescale.flatten().double()[:, None] * (dense(cayley(blocks - blocks.mT)).T @ base.flatten(1).double())
    same(changed({"oft_blocks": blocks, "rescale": rescale}, base), wanted)
    same(changed({"oft_blocks": blocks, "rescale": rescale}, base, 0.0), base)
    same(changed({"oft_blocks": blocks, "rescale": rescale.reshape(3, 4, 1)}, base), wanted)


def test_oft_diag_is_the_rotation_itself() -> None:
    base, blocks = noise(*LINEAR), noise(3, 4, 4)
    same(changed({"oft_diag": blocks}, base, 0.5), dense(blocks, 0.5).T @ base.double())


@pytest.mark.parametrize("shape", [(16, 6), (16, 3, 3, 3)])
def test_boft_of_lycoris_joins_rows_that_lie_apart(shape: tuple[int, ...]) -> None:
    """Factor i takes row c·2k + g·k + j as row c·2k + 2j + g, with k of 2^i half blocks."""
    depth, count, size = 3, 4, 4
    base, blocks = noise(*shape), noise(depth, count, size, size, size=0.5)
    for strength in (1.0, 0.4):
        wanted = base.flatten(1).double()
        for number in range(depth):
            reach = 2**number * size // 2
            sort = torch.zeros(16, 16, dtype=torch.float64)
            for row in range(16):
                group, half, place = row // (2 * reach), row // reach % 2, row % reach
                sort[2 * reach * group + 2 * place + half, row] = 1
            skew = blocks[number] - blocks[number].mT
            wanted = sort.T @ dense(cayley(skew), strength) @ sort @ wanted
        same(changed({"oft_blocks": blocks, "alpha": torch.tensor(0.0)}, base, strength), wanted)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.to_q = nn.Linear(8, 12)
        self.conv1 = nn.Conv2d(8, 6, 3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "config",
    [
        OFTConfig(target_modules=["to_q", "conv1"], oft_block_size=4),
        OFTConfig(target_modules=["to_q", "conv1"], oft_block_size=4, use_cayley_neumann=False),
        OFTConfig(target_modules=["to_q", "conv1"], oft_block_size=4, num_cayley_neumann_terms=3),
        OFTConfig(target_modules=["to_q", "conv1"], oft_block_size=8, num_cayley_neumann_terms=7),
        OFTConfig(target_modules=["to_q", "conv1"], oft_block_size=4, block_share=True),
        BOFTConfig(target_modules=["to_q", "conv1"], boft_block_size=4),
    ],
    ids=["series", "exact", "three terms", "seven terms", "one block", "boft"],
)
def test_files_of_peft_are_what_peft_merges(config: Any, tmp_path: Path) -> None:
    net = Net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    model = get_peft_model(net, config)
    for number, (name, tensor) in enumerate(model.named_parameters()):
        if "oft_" in name:
            mean = 1.0 if "boft_s" in name else 0.0
            tensor.data = mean + noise(*tensor.shape, seed=number, size=0.1)
    save_file({k: v.contiguous() for k, v in get_peft_model_state_dict(model).items()}, tmp_path / "ink.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({k: v for k, v in config.to_dict().items() if _plain(v)}))
    settings = alphas_of(tmp_path / "ink.safetensors")
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in get_peft_model_state_dict(model).items():
        stem, role = cut(name)
        layers.setdefault(stem.removeprefix("base_model.model."), {})[role] = tensor.detach()
    assert layers.keys() == {"to_q", "conv1"} and all("" not in roles for roles in layers.values())
    theirs = model.merge_and_unload().state_dict()
    for module, roles in layers.items():
        if "oft_R" in roles:
            roles["neumann_terms"] = torch.tensor(settings.neumann_terms("unet"))
        ours = changed(roles, before[f"{module}.weight"])
        assert not torch.allclose(ours, before[f"{module}.weight"], atol=1e-3)
        torch.testing.assert_close(ours, theirs[f"{module}.weight"], rtol=0, atol=1e-5)


def _plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str)


def test_a_butterfly_of_peft_is_sorted_by_its_own_permutations() -> None:
    """Several factors need a compiled part in peft, its permutations do not."""
    depth, count, size = 3, 8, 4
    base, blocks, scale = noise(5, 32), noise(depth, count, size, size, size=0.5), noise(5, 1, seed=2)
    permute = BOFTLayer.block_butterfly_perm
    rotation = torch.eye(32, dtype=torch.float64)
    for number in range(depth):
        order = permute(None, 32, count // 2**number, size // 2, depth - 1)
        sort = torch.eye(32, dtype=torch.float64)[order]
        skew = (blocks[number] - blocks[number].mT) / 2
        rotation = sort @ dense(cayley(-skew)) @ sort.T @ rotation
    same(changed({"boft_R": blocks, "out_scale": scale}, base), scale * (rotation @ base.T.double()).T)


@pytest.mark.parametrize("is_scaled", [True, False])
def test_older_files_of_peft(is_scaled: bool) -> None:
    """Up to 0.14 what comes out is turned, in 0.15 what goes in, and rows have a scale."""
    base, blocks, scale = noise(8, 8), noise(2, 4, 4), noise(8, 1, seed=2)
    rotation = dense(cayley((blocks.mT - blocks) / 2))
    if is_scaled:
        same(changed({"oft_r": blocks, "out_scale": scale}, base), scale * (base.double() @ rotation.T))
    else:
        same(changed({"oft_r": blocks}, base), rotation.T @ base.double())


def test_a_part_of_the_rows_is_turned_by_its_own_blocks() -> None:
    whole, blocks, alpha = noise(24, 5), noise(6, 4, 4), torch.tensor(0.01)
    turned = changed({"oft_blocks": blocks, "alpha": alpha}, whole)
    for number in range(3):
        part = slice(8 * number, 8 * number + 8)
        rows = TensorSlice("", share=(number, 3))
        delta = deltas_of({"oft_blocks": blocks, "alpha": alpha}, (8, 5), CPU, rows)["weight"]
        same(merged(whole[part].contiguous(), [(delta, 1.0)]), turned[part])
    swapped = TensorSlice("", is_swapped=True)
    delta = deltas_of({"oft_blocks": blocks, "alpha": alpha}, (24, 5), CPU, swapped)["weight"]
    same(merged(swapped.of(whole).contiguous(), [(delta, 1.0)]), swapped.of(turned))


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(precision: torch.dtype) -> None:
    base = noise(*LINEAR).to(precision)
    tensors = {"oft_blocks": noise(3, 4, 4)}
    room = torch.empty(LINEAR, dtype=precision)
    delta = deltas_of(tensors, LINEAR, CPU)["weight"]
    assert torch.equal(merged(base, [(delta, 0.7)], room), changed(tensors, base.float(), 0.7).to(precision))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"oft_blocks": noise(3, 5, 5)}, "it turns 15 rows and the model’s layer is 12×8"),
        ({"oft_blocks": noise(3, 4, 5)}, "its blocks are 3×4×5"),
        ({"oft_blocks": noise(4)}, "its blocks are 4"),
        ({"oft_blocks": torch.zeros(0, 4, 4)}, "its blocks are 0×4×4"),
        ({"oft_blocks": noise(3, 4, 4), "rescale": noise(7)}, "it scales 7 rows"),
        ({"oft_blocks": noise(2, 4, 3, 3)}, "make no butterfly"),
        ({"oft_blocks": noise(3, 3, 4, 4)}, "make no butterfly"),
        ({"oft_R": noise(2, 5)}, "5 numbers are no triangle"),
        ({"oft_R": noise(4, 6)}, "it turns 16 columns"),
        ({"boft_R": noise(1, 4, 4, 4)}, "it turns 16 columns"),
    ],
)
def test_what_makes_no_rotation_says_so(tensors: dict[str, Tensor], words: str) -> None:
    with pytest.raises(ShapeMismatch, match=words):
        rotation_of(tensors, LINEAR)


def test_blocks_across_layers_say_so() -> None:
    with pytest.raises(ShapeMismatch, match="lie across several"):
        rotation_of({"oft_blocks": noise(4, 6, 6)}, (8, 5), TensorSlice("", share=(1, 3)))
