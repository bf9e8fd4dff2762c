"""The precision of a training on a CPU."""

from collections.abc import Iterator

import pytest
import torch

from training.loops.together import bfloat, choose_cpu_dtype, fast_dtype

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def kept_dtype() -> Iterator[None]:
    before = torch.get_autocast_dtype("cpu")
    yield
    torch.set_autocast_dtype("cpu", before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_training_computes_in_what_was_found_faster(dtype: torch.dtype) -> None:
    torch.set_autocast_dtype("cpu", dtype)
    with bfloat(CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert fast_dtype("cpu") == dtype and fast_dtype("cuda") == torch.bfloat16


@pytest.mark.parametrize(("slower", "faster"), [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)])
def test_the_faster_of_both_is_chosen(
    slower: torch.dtype, faster: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    run = torch.nn.Conv2d.forward

    def forward(layer: torch.nn.Conv2d, picture: torch.Tensor) -> torch.Tensor:
        made = run(layer, picture)
        clock[0] += 2.0 if made.dtype == slower else 1.0
        return made

    monkeypatch.setattr(torch.nn.Conv2d, "forward", forward)
    monkeypatch.setattr("training.loops.together.perf_counter", lambda: clock[0])
    choose_cpu_dtype()
    assert fast_dtype("cpu") == faster
