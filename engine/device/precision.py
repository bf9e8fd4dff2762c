"""The compute dtype of U-Net and text encoders: the device's best, or the one that was chosen.

On a CPU bfloat16 is two to three times as fast where the processor has instructions for it, on some half as fast, and
a hundred times slower without. The processor's flags decide. Where they leave it open, typical layers are timed after
the first image, and the result applies from the next start on, so that a session keeps one dtype. So it is with the
memory format of convolutions, of which no flag tells anything: "channels last" is a tenth faster on some processors,
and slower on others.
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
WORTH = 1.2  # bfloat16 is used when it is this many times as fast
FORMAT_WORTH = 1.25  # and channels last, in a block of convolutions: a whole U-Net gains a third of that
PROBE_S = 2.0  # the longest that measuring takes, not counting the last run of a layer
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_CPUINFO = Path("/proc/cpuinfo")
_TRIES = 5
_HOPELESS = 0.5  # times as fast on a small layer: a large one is not tried
_BFLOAT16 = "bfloat16"  # by which its gain is stored
_AMX, _AVX512 = "amx_bf16", "avx512_bf16"
_ARM = frozenset({"bf16", "svebf16"})

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Processor:
    """A CPU's vendor and instruction flags, as Linux names them; empty where unknown."""

    vendor: str = ""
    flags: frozenset[str] = frozenset()

    @property
    def verdict(self) -> Verdict:
        """Whether bfloat16 is worth it. "open": some processors with these instructions are slower with them."""
        if not torch.backends.mkldnn.is_available():  # its kernels use these instructions
            return "no"
        if _AMX in self.flags or (_AVX512 in self.flags and "AMD" in self.vendor):
            return "yes"
        if _AVX512 in self.flags or self.flags & _ARM:
            return "open"
        return "no"


def processor() -> Processor:
    """This machine's CPU, without measuring anything; an empty one where the system doesn't describe it."""
    try:
        lines = _CPUINFO.read_text("utf-8", "replace").splitlines()
    except OSError:
        return _processor_without_cpuinfo()
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())  # the first core's
    flags = [*fields.get("flags", "").split(), *fields.get("Features", "").split()]
    return Processor(fields.get("vendor_id", ""), frozenset(flags))


def _processor_without_cpuinfo() -> Processor:
    """On macOS and Windows."""
    flags: set[str] = set()
    if sys.platform == "darwin" and _sysctl(b"hw.optional.arm.FEAT_BF16"):
        flags.add("bf16")
    if sys.platform == "win32":
        for flag, name in ((_AVX512, "_is_avx512_bf16_supported"), (_AMX, "_is_amx_tile_supported")):
            is_supported = getattr(torch.cpu, name, None)  # private to torch: another version may not have it
            if is_supported is not None and is_supported():
                flags.add(flag)
    return Processor(platform.processor(), frozenset(flags))


def _sysctl(name: bytes) -> int:
    """A number from the macOS kernel; 0 where there is none."""
    value, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    try:
        sysctlbyname = ctypes.CDLL(None).sysctlbyname
    except (OSError, AttributeError):
        return 0
    if sysctlbyname(name, ctypes.byref(value), ctypes.byref(size), None, 0) != 0:
        return 0
    return value.value


def with_precision(device: Device, precision: Precision | None, cache_dir: Path | None = None) -> Device:
    """The device with the chosen compute dtype. Measures nothing.

    Args:
        precision: "auto" uses bfloat16 and channels last on a CPU where that is faster; None keeps the device's
            defaults.
        cache_dir: Where a `Probe` of an earlier session stored its results.
    """
    if precision is None or (precision == "auto" and device.torch_device.type != "cpu"):
        return device
    if precision != "auto":
        return replace(device, dtype=_DTYPES[precision])
    verdict, gains = processor().verdict, _stored_gains(cache_dir)
    is_worth_it = verdict == "yes" or (verdict == "open" and gains.get(_BFLOAT16, 0.0) >= WORTH)
    dtype = torch.bfloat16 if is_worth_it else torch.float32
    return replace(device, dtype=dtype, channels_last=gains.get(_format_of(dtype), 0.0) >= FORMAT_WORTH)


@dataclass(frozen=True, slots=True)
class Probe:
    """Measures what the processor's flags leave open, for the next session.

    Attributes:
        cache_dir: Where the results are stored; None: nothing is measured.
        dtype: That this session computes in.
    """

    cache_dir: Path | None
    dtype: torch.dtype = torch.float32

    def measure(self) -> None:
        """Measure and store what is not known yet. A second or two each."""
        if self.cache_dir is None:
            return
        gains = _stored_gains(self.cache_dir)
        open_questions: dict[str, tuple[Callable[[], float], float]] = {
            _format_of(self.dtype): (partial(channels_last_gain, self.dtype), FORMAT_WORTH)
        }
        if processor().verdict == "open":
            open_questions[_BFLOAT16] = (bfloat16_gain, WORTH)
        unknown = open_questions.keys() - gains.keys()
        if not unknown:
            return
        for name in sorted(unknown):
            measure, worth = open_questions[name]
            gains[name] = measure()
            outcome = ": it is used from the next start on" if gains[name] >= worth else ""
            log.info("%s is %.2f times as fast here%s", name, gains[name], outcome)
        path = _gain_file(self.cache_dir)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(gains), "utf-8")
        except OSError as error:
            log.warning("the measured speeds can't be stored (%s)", error.strerror)


def _format_of(dtype: torch.dtype) -> str:
    """By which name the gain of channels last is stored."""
    return f"channels last in {str(dtype).removeprefix('torch.')}"


def _gain_file(cache_dir: Path) -> Path:
    """The file of this processor and build of torch."""
    try:
        lines = _CPUINFO.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    names = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    facts = [platform.machine(), platform.processor(), torch.__version__, str(torch.get_num_threads()), *names]
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
    return cache_dir / f"precision-{digest}.json"


def _stored_gains(cache_dir: Path | None) -> dict[str, float]:
    """The results of earlier sessions by name; none that can't be read."""
    if cache_dir is None:
        return {}
    try:
        return {name: float(gain) for name, gain in json.loads(_gain_file(cache_dir).read_text("utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def bfloat16_gain(limit_s: float = PROBE_S) -> float:
    """How many times as fast bfloat16 is in a convolution and a linear layer of a U-Net.

    Takes at most `limit_s` and one run. Without instructions for it a run takes seconds: a layer of a hundredth of
    the work is tried first.
    """
    small = _measure_gain(channels=64, side=16, deadline=time.perf_counter() + limit_s / 4)
    if small < _HOPELESS:
        return small
    return _measure_gain(channels=320, side=32, deadline=time.perf_counter() + limit_s)


@torch.inference_mode()
def channels_last_gain(dtype: torch.dtype, limit_s: float = PROBE_S) -> float:
    """How many times as fast a residual block of a U-Net is with channels last. At most `limit_s` and two runs."""
    channels, side, deadline = 320, 32, time.perf_counter() + limit_s
    image = torch.randn(2, channels, side, side).to(dtype)
    kernel, scale = torch.randn(channels, channels, 3, 3).to(dtype) / channels, torch.ones(channels, dtype=dtype)

    def block(x: Tensor, weight: Tensor) -> Tensor:
        for _ in range(2):
            x = functional.silu(functional.group_norm(x, 32, scale, scale))
            x = functional.conv2d(x, weight, padding=1)
        return x

    seconds = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        inputs = [tensor.contiguous(memory_format=memory_format) for tensor in (image, kernel)]
        try:
            seconds.append(_fastest_run(partial(block, *inputs), deadline))
        except RuntimeError:  # no such kernel in this build
            return 0.0
    return seconds[0] / seconds[1]


@torch.inference_mode()
def _measure_gain(channels: int, side: int, deadline: float) -> float:
    image, kernel = torch.randn(2, channels, side, side), torch.randn(channels, channels, 3, 3)
    tokens, matrix = torch.randn(side * side, 2 * channels), torch.randn(2 * channels, 2 * channels)
    seconds = []
    for dtype in (torch.float32, torch.bfloat16):
        convolution = partial(functional.conv2d, image.to(dtype), kernel.to(dtype), padding=1)
        linear = partial(functional.linear, tokens.to(dtype), matrix.to(dtype))
        try:
            seconds.append(_fastest_run(convolution, deadline) + _fastest_run(linear, deadline))
        except RuntimeError:  # no such kernel in this build
            return 0.0
    return seconds[0] / seconds[1]


def _fastest_run(work: Callable[[], Tensor], deadline: float) -> float:
    """Seconds of the quickest run; the first warms up, and is the only one past the deadline."""
    times = []
    for _ in range(_TRIES + 1):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
        if time.perf_counter() > deadline:
            break
    return min(times)
