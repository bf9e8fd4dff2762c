"""In which precision a device computes: asked for, or measured once and remembered."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine import precision
from engine.devices import Device, choose_device
from engine.precision import bfloat16_gain, with_precision

CPU = Device(torch.device("cpu"), "CPU")


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_what_is_asked_for_is_used(name: str) -> None:
    device = with_precision(CPU, name)  # type: ignore[arg-type]
    assert (str(device.dtype), device.vae_dtype) == (f"torch.{name}", torch.float32)


def test_without_a_wish_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bfloat16_gain", lambda: 1 / 0)
    assert with_precision(CPU, None) is CPU
    card = replace(CPU, torch_device=torch.device("meta"), dtype=torch.float16)
    assert with_precision(card, "auto") is card


@pytest.mark.parametrize(("gain", "dtype"), [(1.19, torch.float32), (1.21, torch.bfloat16), (0.0, torch.float32)])
def test_a_cpu_computes_in_what_is_faster_and_always_the_same(gain: float, dtype: torch.dtype, tmp_path: Path,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bfloat16_gain", lambda: gain)
    assert with_precision(CPU, "auto", tmp_path / "cache").dtype == dtype
    monkeypatch.setattr(precision, "bfloat16_gain", lambda: 10.0 if gain < 1.2 else 0.1)
    assert with_precision(CPU, "auto", tmp_path / "cache").dtype == dtype
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_text("[1, 2", "utf-8")
    assert with_precision(CPU, "auto", tmp_path / "cache").dtype != dtype
    assert json.loads(kept.read_text("utf-8"))["bfloat16"] != gain


def test_the_gain_is_that_of_the_processor() -> None:
    gain = bfloat16_gain()
    assert 0 < gain < 50
    flags = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").is_file() else ""
    if "amx_bf16" in flags:
        assert gain > precision.WORTH
    elif "avx512f" in flags and "avx512_bf16" not in flags:  # with it an AMD EPYC gains 2 to 3, an Intel Xeon loses half
        assert gain < 3


def test_the_usual_precision_of_a_cpu_is_full() -> None:
    assert choose_device("cpu").dtype == torch.float32
