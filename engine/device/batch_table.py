"""How many images a card evaluates at once before it gains nothing: measured once for each shape, and kept.

A small model leaves a large card idle between its kernels, a large model fills it alone: on one card four images of
SD 1.5 take little longer than one, and two of SDXL twice as long. So the table is measured on the device it is for.
On a CPU a batch is always one.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from engine.device.devices import Device, release
from engine.errors import is_out_of_memory

SIZES = (1, 2, 4, 8)  # images in a batch
_WORTH = 0.92  # seconds an image, of those in a batch half as large
_BUDGET_S = 1.5  # for all sizes of one shape
_WARM_UPS, _TIMED = 3, 5  # evaluations

log = logging.getLogger(__name__)


@dataclass(slots=True)
class BatchTable:
    """The largest batch that is worth it, by shape.

    Args:
        forced: Takes the place of what would be measured, on any device.
        cache_dir: Where the table is kept; None keeps it in memory alone.
    """

    device: Device
    cache_dir: Path | None = None
    forced: int | None = None
    _most: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cache_dir is None or not self.is_measured:
            return
        try:
            kept = json.loads(self._file(self.cache_dir).read_text("utf-8"))
            self._most = {str(key): int(most) for key, most in kept.items() if int(most) in SIZES}
        except (OSError, ValueError, TypeError, AttributeError):
            self._most = {}

    @property
    def is_measured(self) -> bool:
        """Whether this device's batches are measured."""
        return self.forced is None and self.device.torch_device.type == "cuda"

    def most(self, key: str) -> int:
        """Images at once for a shape; 1 while it is not measured."""
        return self.forced or self._most.get(key, 1)

    def knows(self, key: str) -> bool:
        """Whether there is nothing to measure for a shape."""
        return not self.is_measured or key in self._most

    def measure(self, key: str, evaluate: Callable[[int], object], clock: Callable[[], float]) -> None:
        """Time a shape's batches, unless that is done. A second or two, at most.

        Args:
            evaluate: Runs the denoiser for so many images.
            clock: Seconds, once the device has done what it was given.
        """
        if self.knows(key):
            return
        most, an_image, began = 1, float("inf"), clock()
        for size in SIZES:
            try:
                for _ in range(_WARM_UPS):
                    evaluate(size)
                since = clock()
                for _ in range(_TIMED):
                    evaluate(size)
                now = clock()
            except (RuntimeError, MemoryError, ValueError, TypeError) as error:
                # The image that was measured with is there: its job must not fail for this.
                if not is_out_of_memory(error):
                    log.warning("%s: %d images at once can't be evaluated: %s", key, size, str(error)[:150])
                release()
                break
            seconds = (now - since) / _TIMED / size
            if seconds > an_image * _WORTH:
                break
            most, an_image = size, seconds
            if (now - began) * 3 > _BUDGET_S:  # the next takes about twice as long as all before
                break
        log.info("%s: up to %d images at once on %s", key, most, self.device.label)
        self._most[key] = most
        if self.cache_dir is not None:
            path = self._file(self.cache_dir)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(self._most, indent=1), "utf-8")
            except OSError as error:
                log.warning("the measured batches can't be stored (%s)", error.strerror)

    def _file(self, cache_dir: Path) -> Path:
        """The file of this card and build of torch."""
        facts = f"{self.device.label}\n{self.device.dtype}\n{torch.__version__}\n{self.device.attention}"
        return cache_dir / f"batches-{hashlib.sha256(facts.encode()).hexdigest()[:12]}.json"


def synchronized_clock(device: torch.device) -> Callable[[], float]:
    """Seconds once a device has done what it was given."""

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock
