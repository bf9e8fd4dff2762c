"""Every kind of layer of a LoRA file against its definition, worked out number by number."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from engine.lora.deltas import ShapeMismatch, deltas_of, merged
from tests.support.tiny_loras import one_after_another

CPU = torch.device("cpu")
LINEAR, CONV = (6, 4), (6, 4, 3, 3)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def delta(tensors: Mapping[str, Tensor], base: Tensor, strength: float = 1.0, name: str = "weight") -> Tensor:
    change = deltas_of(tensors, tuple(base.shape), CPU)[name]
    kept = base.clone()
    added = merged(base, [(change, strength)]) - base
    assert torch.equal(base, kept)
    return added


def same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=2e-5)


def test_locon_with_a_middle_runs_its_three_layers() -> None:
    down, middle, up = noise(3, 4, 1, 1), noise(2, 3, 3, 3), noise(6, 2, 1, 1)
    base = noise(*CONV)
    tensors = {"down": down, "mid": middle, "up": up, "alpha": torch.tensor(6.0)}
    same(delta(tensors, base), 2.0 * one_after_another([down, middle, up], base))


@pytest.mark.parametrize("shape", [LINEAR, CONV])
def test_loha_is_the_product_of_two_low_ranks(shape: tuple[int, ...]) -> None:
    into = torch.Size(shape[1:]).numel()
    a1, b1, a2, b2 = noise(6, 2, seed=1), noise(2, into, seed=2), noise(6, 2, seed=3), noise(2, into, seed=4)
    wanted = torch.zeros(6, into)
    for row in range(6):
        for column in range(into):
            first = sum(a1[row, k] * b1[k, column] for k in range(2))
            wanted[row, column] = first * sum(a2[row, k] * b2[k, column] for k in range(2)) * 0.5
    tensors = {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2, "alpha": torch.tensor(1.0)}
    same(delta(tensors, noise(*shape), -2.0), -2.0 * wanted.reshape(shape))


def test_loha_with_cores() -> None:
    tensors: dict[str, Tensor] = {"alpha": torch.tensor(2.0)}
    halves = []
    for half in ("1", "2"):
        core, a, b = noise(2, 2, 3, 3, seed=5), noise(2, 6, seed=int(half)), noise(2, 4, seed=7 + int(half))
        tensors |= {f"hada_t{half}": core, f"hada_w{half}_a": a, f"hada_w{half}_b": b}
        wanted = torch.zeros(CONV)
        for i in range(2):
            for j in range(2):
                wanted += a[i][:, None, None, None] * b[j][None, :, None, None] * core[i, j][None, None]
        halves.append(wanted)
    same(delta(tensors, noise(*CONV)), halves[0] * halves[1])


@pytest.mark.parametrize("form", ["whole", "second torn", "both torn", "convolution", "convolution with a core"])
def test_lokr_is_a_kronecker_product(form: str) -> None:
    shape = CONV if "convolution" in form else LINEAR
    first = noise(2, 2, seed=1)
    tensors, scale = {"lokr_w1": first, "alpha": torch.tensor(8.0)}, 1.0
    if form == "whole":
        tensors["lokr_w2"] = second = noise(3, 2, seed=2)
    elif form == "convolution with a core":
        core, a, b = noise(2, 2, 3, 3), noise(2, 3, seed=3), noise(2, 2, seed=4)
        tensors |= {"lokr_t2": core, "lokr_w2_a": a, "lokr_w2_b": b}
        second, scale = torch.einsum("ijkl,io,jn->onkl", core, a, b), 4.0
    else:
        a, b = noise(3, 2, seed=3), noise(2, *((18,) if shape == CONV else (2,)), seed=4)
        tensors |= {"lokr_w2_a": a, "lokr_w2_b": b}
        second, scale = (a @ b).reshape(3, 2, *shape[2:]), 4.0
    if form == "both torn":
        a, b = noise(2, 2, seed=5), noise(2, 2, seed=6)
        del tensors["lokr_w1"]
        tensors |= {"lokr_w1_a": a, "lokr_w1_b": b}
        first = a @ b
    wanted = torch.zeros(shape)
    for i in range(2):
        for j in range(2):
            wanted[3 * i : 3 * i + 3, 2 * j : 2 * j + 2] = first[i, j] * second * scale
    same(delta(tensors, noise(*shape)), wanted)


@pytest.mark.parametrize("is_on_input", [True, False])
def test_ia3_scales_channels(is_on_input: bool) -> None:
    base, factor = noise(*LINEAR), noise(4 if is_on_input else 6)
    tensors = {"factor": factor, "on_input": torch.tensor(is_on_input)}
    wanted = base * (factor if is_on_input else factor[:, None])
    same(delta(tensors, base, 0.5), 0.5 * wanted)


@pytest.mark.parametrize("shape", [LINEAR, CONV])
@pytest.mark.parametrize("name", ["dora_scale by rows", "dora_scale by columns", "magnitude"])
def test_dora_gives_lengths(name: str, shape: tuple[int, ...]) -> None:
    base, down, up = noise(*shape), noise(2, *shape[1:]), noise(6, 2, *([1] * (len(shape) - 2)))
    by_rows = name != "dora_scale by columns"
    lengths = noise(6 if by_rows else 4).abs() + 0.5
    whole = base + one_after_another([down, up], base)
    wanted = torch.empty_like(base)
    for channel in range(len(lengths)):
        part = (channel,) if by_rows else (slice(None), channel)
        wanted[part] = whole[part] * lengths[channel] / whole[part].norm()
    kept = {
        "dora_scale by rows": lengths.reshape(-1, *[1] * (len(shape) - 1)),
        "dora_scale by columns": lengths.reshape(1, -1, *[1] * (len(shape) - 2)),
        "magnitude": lengths if len(shape) == 2 else lengths.reshape(1, -1, 1, 1),
    }[name]
    same(delta({"down": down, "up": up, name.split()[0]: kept}, base, 0.5), 0.5 * (wanted - base))


def test_whole_changes_of_weight_and_bias_are_added() -> None:
    change, bias = noise(*LINEAR), noise(6)
    same(delta({"diff": change, "diff_b": bias}, noise(*LINEAR), 0.3), 0.3 * change)
    found = deltas_of({"diff_b": bias}, LINEAR, CPU)
    assert set(found) == {"bias"}
    same(merged(torch.zeros(6), [(found["bias"], 2.0)]), 2.0 * bias)


def test_a_result_can_be_written_where_one_was() -> None:
    base, room = noise(*LINEAR), torch.full(LINEAR, 9.0)
    deltas = [
        (deltas_of({"down": noise(2, 4), "up": noise(6, 2)}, LINEAR, CPU)["weight"], 0.5),
        (deltas_of({"diff": noise(*LINEAR)}, LINEAR, CPU)["weight"], 2.0),
    ]
    assert merged(base, deltas, room) is room
    same(room, merged(base, deltas))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("count", [1, 2])
def test_a_large_weight_is_added_up_in_float32_and_rounded_once(precision: torch.dtype, count: int) -> None:
    shape = (700, 1030)  # several tiles, the last one smaller
    base, room = noise(*shape).to(precision), torch.empty(shape, dtype=precision)
    factors = [(noise(700, 4, seed=number), noise(4, 1030, seed=number)) for number in range(count)]
    wanted = base.float() + sum(0.5 * up @ down for up, down in factors)
    deltas = [(deltas_of({"down": down, "up": up}, shape, CPU)["weight"], 0.5) for up, down in factors]
    same(merged(base, deltas), wanted)
    assert merged(base, deltas, room) is room
    assert torch.allclose(room.float(), wanted, rtol=torch.finfo(precision).eps, atol=1e-5)


@pytest.mark.parametrize(
    "tensors",
    [
        {"down": noise(2, 4), "up": noise(6, 2), "mid": noise(3, 3)},
        {"hada_w1_a": noise(6, 2), "hada_w1_b": noise(2, 4)},
        {"hada_w1_a": noise(6, 2), "hada_w1_b": noise(2, 4), "hada_w2_a": noise(6, 2), "hada_w2_b": noise(2, 5)},
        {"lokr_w1": noise(2), "lokr_w2": noise(3, 2)},
        {"factor": noise(5), "on_input": torch.tensor(True)},
        {"lokr_w1": noise(2, 2), "lokr_w2_a": noise(3), "lokr_w2_b": noise(2, 2)},
    ],
)
def test_what_makes_no_weight_says_so(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(ShapeMismatch):
        deltas_of(tensors, LINEAR, CPU)
