"""Checkpoints that a stopped run goes on from, the budget that a run ends by, and the watch that measures it."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Budget:
    """How long a stage trains: seconds of its own time, whatever else the machine does, or a number of steps.

    Attributes:
        last: The share of it, at its end, in which the learning rate falls. 0 keeps the rate, for a run that goes on
            later.
    """

    seconds: float = math.inf
    steps: int | None = None
    last: float = 1.0

    def progress(self, step: int, spent_s: float) -> float:
        """The share of the budget that is used, 0 to 1; at 1 the stage is over."""
        share = step / self.steps if self.steps is not None else spent_s / self.seconds
        return min(1.0, share)

    def is_last_part(self, step: int, spent_s: float) -> bool:
        """True from the moment on when the learning rate falls."""
        return self.last > 0 and self.progress(step, spent_s) >= 1 - self.last

    def rate(self, peak: float, step: int, spent_s: float, warm_up: int = 100) -> float:
        """The learning rate: a short linear rise, level, then one cosine to zero over the last part."""
        fallen = (self.progress(step, spent_s) - 1 + self.last) / self.last if self.is_last_part(step, spent_s) else 0.0
        return peak * min(1.0, (step + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * fallen)) + 1e-7


class Stopwatch:
    """Seconds of training. A lap over `longest_s` counts as that much: the process was stopped meanwhile."""

    def __init__(self, longest_s: float = 60.0) -> None:
        self._longest_s, self._last = longest_s, time.monotonic()

    def lap(self) -> float:
        """Seconds since the last lap, at most `longest_s`."""
        now = time.monotonic()
        passed, self._last = now - self._last, now
        return min(passed, self._longest_s)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all groups, each times its own `scale` (1 where it has none)."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def save_checkpoint(path: Path, step: int, spent_s: float, **parts: Any) -> None:
    """Write the state of all parts, replacing the file in one move."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({"step": step, "spent_s": spent_s, **states}, temporary)
    temporary.replace(path)


def load_checkpoint(path: Path, **parts: Any) -> tuple[int, float]:
    """Load the parts in place.

    Returns:
        Steps done and seconds trained; both 0 where there is no checkpoint yet.
    """
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["step"], state["spent_s"]
