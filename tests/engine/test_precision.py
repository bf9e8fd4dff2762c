"""In which precision a device computes: asked for, told by the processor's flags, or measured when nobody waits."""

import platform
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from engine.device import precision
from engine.device.devices import Device, choose_device
from engine.device.precision import (
    Probe,
    Processor,
    bfloat16_gain,
    channels_last_gain,
    processor,
    with_precision,
)
from engine.engine import Engine, EngineOptions

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


def imitate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, vendor: str = "GenuineIntel") -> None:
    """Let the processor say this of itself, twice, as one with two cores does."""
    words = "Features" if vendor == "ARM" else "flags"
    core = f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: made up\n{words}\t\t: fpu sse2 {flags}\nbugs\t\t:\n\n"
    (tmp_path / "cpuinfo").write_text(2 * core, "utf-8")
    monkeypatch.setattr(precision, "_CPUINFO", tmp_path / "cpuinfo")


def never(*arguments: object) -> float:
    raise AssertionError("it is measured")


@pytest.mark.parametrize(
    ("vendor", "flags", "verdict"),
    [
        ("GenuineIntel", "", "no"),
        ("GenuineIntel", "avx2", "no"),
        ("AuthenticAMD", "avx2 fma", "no"),
        ("GenuineIntel", "avx512f avx512_vnni avx512vl", "no"),
        ("AuthenticAMD", "avx512f avx512_vnni", "no"),
        ("GenuineIntel", "avx512f avx512_bf16 amx_tile amx_int8 amx_bf16", "yes"),
        ("AuthenticAMD", "avx512f avx512_bf16", "yes"),
        ("GenuineIntel", "avx512f avx512_bf16", "open"),
        ("GenuineIntel", "avx512_bf16_of_another_kind", "no"),
        ("ARM", "asimd fphp", "no"),
        ("ARM", "asimd i8mm bf16", "open"),
        ("ARM", "sve svebf16", "open"),
    ],
)
def test_the_flags_of_the_processor_decide_and_nothing_is_measured(
    vendor: str, flags: str, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imitate(monkeypatch, tmp_path, flags, vendor)
    monkeypatch.setattr(precision, "bfloat16_gain", never)
    assert processor().verdict == verdict
    wanted = torch.bfloat16 if verdict == "yes" else torch.float32
    assert with_precision(CPU, "auto", tmp_path / "cache").dtype == wanted
    monkeypatch.setattr(precision, "channels_last_gain", lambda dtype: 1.0)
    if verdict != "open":
        Probe(tmp_path / "cache").measure()  # of the memory format no flag tells
        assert with_precision(CPU, "auto", tmp_path / "cache").dtype == wanted


def test_a_processor_that_says_nothing_computes_in_full_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_CPUINFO", tmp_path / "nothing")
    monkeypatch.setattr(precision, "bfloat16_gain", never)
    assert processor() == Processor(platform.processor()) or sys.platform in ("darwin", "win32")
    assert with_precision(CPU, "auto", tmp_path).dtype == torch.float32 or sys.platform in ("darwin", "win32")


def test_without_the_library_that_uses_them_instructions_are_worth_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert Processor("AuthenticAMD", frozenset({"avx512_bf16", "amx_bf16"})).verdict == "no"


@pytest.mark.parametrize(("gain", "dtype"), [(1.19, torch.float32), (1.21, torch.bfloat16), (0.0, torch.float32)])
def test_what_flags_leave_open_is_measured_once_for_the_next_start(
    gain: float, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imitate(monkeypatch, tmp_path, "avx512_bf16")
    monkeypatch.setattr(precision, "channels_last_gain", lambda dtype: 1.0)
    monkeypatch.setattr(precision, "bfloat16_gain", lambda: gain)
    Probe(tmp_path / "cache").measure()
    monkeypatch.setattr(precision, "bfloat16_gain", never)
    Probe(tmp_path / "cache").measure()
    assert with_precision(CPU, "auto", tmp_path / "cache").dtype == dtype
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_text("[1, 2", "utf-8")
    assert with_precision(CPU, "auto", tmp_path / "cache").dtype == torch.float32
    monkeypatch.setattr(precision, "bfloat16_gain", lambda: 5.0)
    Probe(tmp_path / "cache").measure()
    assert with_precision(CPU, "auto", tmp_path / "cache").dtype == torch.bfloat16
    Probe(None).measure()


def test_an_engine_measures_after_its_first_picture_and_at_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imitate(monkeypatch, tmp_path, "avx512_bf16")
    measured: list[bool] = []
    monkeypatch.setattr(precision, "channels_last_gain", lambda dtype: 1.0)
    monkeypatch.setattr(precision, "bfloat16_gain", lambda: measured.append(True) or 2.0)  # type: ignore[func-returns-value]
    engine = Engine(EngineOptions(device="cpu", precision="auto", cache_dir=tmp_path / "cache"))
    engine.tidy()
    assert not measured
    engine._has_generated = True
    engine.tidy()
    engine.tidy()
    assert measured == [True]


FORMATS = [
    ("avx2", torch.float32, 1.24, False),
    ("avx2", torch.float32, 1.26, True),
    ("amx_bf16", torch.bfloat16, 1.4, True),
]


@pytest.mark.parametrize(("flags", "dtype", "gain", "is_used"), FORMATS)
def test_the_memory_format_is_measured_in_the_dtype_that_is_used(
    flags: str, dtype: torch.dtype, gain: float, is_used: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imitate(monkeypatch, tmp_path, flags)
    measured = []
    monkeypatch.setattr(precision, "channels_last_gain", lambda dtype: measured.append(dtype) or gain)  # type: ignore[func-returns-value]
    for _ in range(2):
        engine = Engine(EngineOptions(device="cpu", precision="auto", cache_dir=tmp_path / "cache"))
        engine._has_generated = True
        engine.tidy()
    assert measured == [dtype]
    device = with_precision(CPU, "auto", tmp_path / "cache")
    assert (device.dtype, device.channels_last) == (dtype, is_used)
    assert ("channels last" in device.dtype_label) == is_used
    assert not with_precision(CPU, "float32", tmp_path / "cache").channels_last  # who chooses gets the plain one


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_gain_of_a_memory_format_is_soon_known(dtype: torch.dtype) -> None:
    began = time.perf_counter()
    assert 0.2 < channels_last_gain(dtype, limit_s=0.05) < 20
    assert time.perf_counter() - began < 20


def test_a_probe_ends_soon_where_bfloat16_is_hopeless(monkeypatch: pytest.MonkeyPatch) -> None:
    real, slow = functional.conv2d, []

    def conv2d(pixels: torch.Tensor, kernel: torch.Tensor, padding: int) -> torch.Tensor:
        if pixels.dtype == torch.bfloat16:
            assert pixels.shape[1] < 100, "a large layer is tried"
            slow.append(time.sleep(0.02))
        return real(pixels, kernel, padding=padding)

    monkeypatch.setattr(functional, "conv2d", conv2d)
    assert bfloat16_gain(limit_s=0.04) < 0.5
    assert len(slow) <= 3  # one past its share of the limit


def test_the_gain_is_that_of_the_processor() -> None:
    gain = bfloat16_gain()
    assert 0 < gain < 50
    flags = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").is_file() else ""
    if "amx_bf16" in flags:
        assert gain > precision.WORTH
    elif (
        "avx512f" in flags and "avx512_bf16" not in flags
    ):  # with it an AMD EPYC gains 2 to 3, an Intel Xeon loses half
        assert gain < 3


def test_the_usual_precision_of_a_cpu_is_full() -> None:
    assert choose_device("cpu").dtype == torch.float32
