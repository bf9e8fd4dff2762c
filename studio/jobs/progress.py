"""The progress of a running job and its remaining time, measured by its steps."""

import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_STEPS_BEFORE_GUESS = 3
_STEPS_REMEMBERED = 9


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A moment of a job: image and step as in contract.events.Step; left_s None until three steps are known.

    A model task has no steps; a download has bytes.
    """

    image: int = 0
    step: int = 0
    total_steps: int = 0
    fraction: float = 0.0
    left_s: float | None = None
    done_bytes: int | None = None
    total_bytes: int | None = None


class Meter:
    """Measures one attempt at a job.

    Args:
        pictures: How many the job has in all.
        made: How many were made by an earlier attempt.
    """

    def __init__(self, pictures: int, made: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pictures = pictures
        self._made = made
        self._steps_s: deque[float] = deque(maxlen=_STEPS_REMEMBERED)
        self._ending_s: float | None = None  # from the last step to the finished image
        self._last_at: float | None = None
        self.now = JobProgress()

    def step(self, image: int, index: int, total: int) -> JobProgress:
        """Take in a step (1-based) of a picture."""
        at = self._clock()
        if self._last_at is not None and index > 1:
            self._steps_s.append(at - self._last_at)
        self._last_at = at
        fraction = min(1.0, (self._made + index / max(total, 1) * 0.98) / self._pictures)
        left_s = None
        if len(self._steps_s) >= _STEPS_BEFORE_GUESS:
            step_s = statistics.median(self._steps_s)  # the first steps are slow, and one hiccup must not show
            ending_s = step_s if self._ending_s is None else self._ending_s
            after = max(0, self._pictures - self._made - 1)
            left_s = round((total - index) * step_s + ending_s + after * (total * step_s + ending_s), 2)
        self.now = JobProgress(image, index, total, fraction, left_s)
        return self.now

    def loaded(
        self, fraction: float | None, done_bytes: int | None, total_bytes: int | None, left_s: float | None
    ) -> None:
        """Take in how far a model task is."""
        self.now = JobProgress(fraction=fraction or 0.0, left_s=left_s, done_bytes=done_bytes, total_bytes=total_bytes)

    def image_made(self) -> None:
        """Take in that an image is done."""
        at = self._clock()
        if self._last_at is not None:
            self._ending_s = at - self._last_at
        self._last_at = at
        self._made += 1
