"""In which precision U-Net and text encoders compute: what the device is best at, or what was asked for.

On a CPU bfloat16 is two to three times as fast on some processors that have instructions for it, half as fast on others,
and much slower without. That is measured once on a typical layer and remembered, so that a machine always computes in the same way.
"""

import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from engine.devices import Device

Precision = Literal["auto", "float32", "float16", "bfloat16"]
WORTH = 1.2  # times as fast, or full precision stays
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_CPUINFO = Path("/proc/cpuinfo")
_TRIES = 5

log = logging.getLogger(__name__)


def with_precision(device: Device, precision: Precision | None, cache_dir: Path | None = None) -> Device:
    """The device, computing as asked.

    Args:
        precision: "auto" lets a CPU compute in bfloat16 where that is faster; None leaves the device's usual one.
        cache_dir: Remembers what was measured; None measures each time.
    """
    if precision is None or (precision == "auto" and device.torch_device.type != "cpu"):
        return device
    if precision != "auto":
        return replace(device, dtype=_DTYPES[precision])
    if _remembered(cache_dir) < WORTH:
        return device
    return replace(device, dtype=torch.bfloat16)


def _remembered(cache_dir: Path | None) -> float:
    path = cache_dir / f"precision-{_machine()}.json" if cache_dir else None
    try:
        if path is not None:
            return float(json.loads(path.read_text("utf-8"))["bfloat16"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not measured yet, or not readable: measured now
    ratio = bfloat16_gain()
    log.info("bfloat16 is %.2f times as fast as float32 here", ratio)
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"bfloat16": ratio}), "utf-8")
    except OSError as error:
        log.warning("what was measured can't be kept (%s)", error.strerror)
    return ratio


def _machine() -> str:
    """Tells processors and builds of torch apart."""
    try:
        lines = _CPUINFO.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    names = sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    facts = [platform.machine(), platform.processor(), torch.__version__, str(torch.get_num_threads()), *names]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]


@torch.inference_mode()
def bfloat16_gain() -> float:
    """How many times as fast a convolution and a linear layer of a U-Net are; takes a few tenths of a second."""
    picture, kernel = torch.randn(2, 320, 32, 32), torch.randn(320, 320, 3, 3)
    rows, matrix = torch.randn(1024, 640), torch.randn(640, 640)
    spent = []
    for dtype in (torch.float32, torch.bfloat16):
        a, b, c, d = (tensor.to(dtype) for tensor in (picture, kernel, rows, matrix))
        try:
            spent.append(_fastest(lambda: functional.conv2d(a, b, padding=1))  # noqa: B023
                         + _fastest(lambda: functional.linear(c, d)))  # noqa: B023
        except RuntimeError:  # no such kernel in this build
            return 0.0
    return spent[0] / spent[1]


def _fastest(work: Callable[[], Tensor]) -> float:
    work()
    times = []
    for _ in range(_TRIES):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
