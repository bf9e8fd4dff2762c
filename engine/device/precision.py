"""In which precision U-Net and text encoders compute: what the device is best at, or what was asked for.

On a CPU bfloat16 is two to three times as fast where the processor has instructions for it, on some half as fast, and
a hundred times slower without. The processor's flags decide; where they leave it open that is measured on a typical
layer, once the first picture is out, and counts from the next start on, so that a session always computes in one way.
"""

import ctypes
import hashlib
import json
import logging
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from engine.device.devices import Device

Precision = Literal["auto", "float32", "float16", "bfloat16"]
Verdict = Literal["yes", "no", "open"]
WORTH = 1.2  # times as fast, or full precision stays
PROBE_S = 2.0  # the longest that measuring takes, one run of a layer apart
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_CPUINFO = Path("/proc/cpuinfo")
_TRIES = 5
_HOPELESS = 0.5  # times as fast on a small layer: a large one is not even tried
_AMX, _AVX512 = "amx_bf16", "avx512_bf16"
_ARM = frozenset({"bf16", "svebf16"})

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Processor:
    """What a CPU says of itself: its maker and its instructions, as Linux names them; empty where it isn't known."""

    vendor: str = ""
    flags: frozenset[str] = frozenset()

    @property
    def verdict(self) -> Verdict:
        """Whether bfloat16 is worth it. "open": it has instructions, and some that have them are slower with them."""
        if not torch.backends.mkldnn.is_available():  # whose kernels use these instructions
            return "no"
        if _AMX in self.flags or (_AVX512 in self.flags and "AMD" in self.vendor):
            return "yes"
        return "open" if _AVX512 in self.flags or self.flags & _ARM else "no"


def processor() -> Processor:
    """This machine's CPU, without measuring anything; an empty one where the system doesn't say."""
    try:
        lines = _CPUINFO.read_text("utf-8", "replace").splitlines()
    except OSError:
        return _elsewhere()
    facts = dict((part.strip() for part in line.split(":", 1)) for line in reversed(lines) if ":" in line)
    return Processor(
        facts.get("vendor_id", ""), frozenset(f"{facts.get('flags', '')} {facts.get('Features', '')}".split())
    )


def _elsewhere() -> Processor:
    """macOS and Windows."""
    flags = set()
    if sys.platform == "darwin" and _sysctl(b"hw.optional.arm.FEAT_BF16"):
        flags.add("bf16")
    for flag, question in ((_AVX512, "_is_avx512_bf16_supported"), (_AMX, "_is_amx_tile_supported")):
        ask = getattr(torch.cpu, question, None)  # private to torch: another version may not have it
        if sys.platform == "win32" and ask is not None and ask():
            flags.add(flag)
    return Processor(platform.processor(), frozenset(flags))


def _sysctl(name: bytes) -> int:
    """A number that macOS' kernel tells; 0 where it doesn't."""
    value, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    try:
        ask = ctypes.CDLL(None).sysctlbyname
    except (OSError, AttributeError):
        return 0
    return value.value if ask(name, ctypes.byref(value), ctypes.byref(size), None, 0) == 0 else 0


def with_precision(device: Device, precision: Precision | None, cache_dir: Path | None = None) -> Device:
    """The device, computing as asked. Measures nothing.

    Args:
        precision: "auto" lets a CPU compute in bfloat16 where that is faster; None leaves the device's usual one.
        cache_dir: Where a `Probe` of an earlier session kept what it measured.
    """
    if precision is None or (precision == "auto" and device.torch_device.type != "cpu"):
        return device
    if precision != "auto":
        return replace(device, dtype=_DTYPES[precision])
    return replace(device, dtype=torch.bfloat16) if _is_worth_it(processor().verdict, cache_dir) else device


def _is_worth_it(verdict: Verdict, cache_dir: Path | None) -> bool:
    if verdict != "open":
        return verdict == "yes"
    measured = _kept(cache_dir)
    return measured is not None and measured >= WORTH


@dataclass(frozen=True, slots=True)
class Probe:
    """Measures what the processor's flags leave open, for the next session.

    Attributes:
        cache_dir: Where it is kept; None: then there is nothing to measure for.
    """

    cache_dir: Path | None

    def measure(self) -> None:
        """Measure and keep it, unless that is known or need not be. A second or two."""
        if self.cache_dir is None or processor().verdict != "open" or _kept(self.cache_dir) is not None:
            return
        gain = bfloat16_gain()
        log.info(
            "bfloat16 is %.2f times as fast as float32 here%s",
            gain,
            ": it is used from the next start on" if gain >= WORTH else "",
        )
        path = _place(self.cache_dir)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"bfloat16": gain}), "utf-8")
        except OSError as error:
            log.warning("what was measured can't be kept (%s)", error.strerror)


def _place(cache_dir: Path) -> Path:
    return cache_dir / f"precision-{_machine()}.json"


def _kept(cache_dir: Path | None) -> float | None:
    """What was measured in an earlier session; None if nothing was, or it can't be read."""
    try:
        return None if cache_dir is None else float(json.loads(_place(cache_dir).read_text("utf-8"))["bfloat16"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _machine() -> str:
    """Tells processors and builds of torch apart."""
    try:
        lines = _CPUINFO.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    names = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    facts = [platform.machine(), platform.processor(), torch.__version__, str(torch.get_num_threads()), *names]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]


def bfloat16_gain(limit_s: float = PROBE_S) -> float:
    """How many times as fast a convolution and a linear layer of a U-Net are, at most `limit_s` and one run long.

    Without instructions for it a run takes seconds: a layer of a hundredth of the work is tried first.
    """
    small = _gain(channels=64, side=16, deadline=time.perf_counter() + limit_s / 4)
    return small if small < _HOPELESS else _gain(channels=320, side=32, deadline=time.perf_counter() + limit_s)


@torch.inference_mode()
def _gain(channels: int, side: int, deadline: float) -> float:
    picture, kernel = torch.randn(2, channels, side, side), torch.randn(channels, channels, 3, 3)
    rows, matrix = torch.randn(side * side, 2 * channels), torch.randn(2 * channels, 2 * channels)
    spent = []
    for dtype in (torch.float32, torch.bfloat16):
        a, b, c, d = (tensor.to(dtype) for tensor in (picture, kernel, rows, matrix))
        try:
            convolution = _fastest(partial(functional.conv2d, a, b, padding=1), deadline)
            spent.append(convolution + _fastest(partial(functional.linear, c, d), deadline))
        except RuntimeError:  # no such kernel in this build
            return 0.0
    return spent[0] / spent[1]


def _fastest(work: Callable[[], Tensor], deadline: float) -> float:
    """Seconds of the quickest run; the first warms up, and is the only one past the deadline."""
    times = []
    for _ in range(_TRIES + 1):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
        if time.perf_counter() > deadline:
            break
    return min(times)
