"""What is seen of an image between its steps: whether its numbers are finite, previews, a draft before its decode."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from contract.work import RawImage, WorkItem
from engine.device.host_copy import HostCopy
from engine.fallbacks import NonFiniteOutput
from engine.images.previews import PreviewMaker, finished_preview
from engine.models.bundle import Bundle
from engine.pipeline import Progress

_FEW_STEPS = 8  # of distilled models: the VAE is a large part of their time
_DRAFT_SHARE = 0.25  # of the time of the VAE that a draft may take; while that is not known, it is four steps


@dataclass(slots=True)
class RateLimit:
    """Lets something happen at most so often; the first time always."""

    interval_s: float
    _last: float = field(default=float("-inf"))

    def is_due(self) -> bool:
        """Whether it may happen now; then it counts as happening."""
        now = time.monotonic()
        if now - self._last < self.interval_s:
            return False
        self._last = now
        return True


@dataclass(slots=True)
class StepWatch:
    """Looks at each step of one image; on a card without waiting for it.

    Attributes:
        limit: Of previews.
        decode_rates: Seconds a number of the latents, by VAE, as they were measured.
        stream: Of the card, for copies off it beside the steps; None elsewhere.
    """

    work_item: WorkItem
    bundle: Bundle
    previews: PreviewMaker
    limit: RateLimit
    decode_rates: Mapping[str, float]
    stream: "torch.cuda.Stream | None" = None
    _finite: HostCopy | None = None
    _pending: HostCopy | None = None
    _launched: "torch.cuda.Event | None" = None
    _began: float = field(default_factory=time.monotonic)

    def look(self, progress: Progress) -> RawImage | None:
        """What is shown with a step: at times the estimate, small; after the last of a few steps a draft at full size.

        Raises:
            NonFiniteOutput: the first step gave numbers that are no picture.
        """
        latents, is_last = progress.step.latents, progress.index == progress.total
        if self.stream is not None:
            self._keep_pace(latents.device)
        step_s = time.monotonic() - self._began
        if progress.index == 1:
            self._finite = HostCopy(_is_finite, latents, self.stream)
        if self._finite is not None and (is_last or self._finite.is_done()):
            if not self._finite.value():
                raise NonFiniteOutput(
                    f"{self.bundle.ref.name} gave numbers that are no picture at the first step.",
                    "The model may be damaged, or the prompt's weights too strong.",
                )
            self._finite = None
        if not self.work_item.wants_previews:
            return None
        if is_last:
            return self._draft(latents, progress.total, step_s)
        # On a card a preview is sent with a later step than the one that it shows.
        decoders = self.work_item.preview_decoders
        if self._pending is None and self.limit.is_due():
            denoised = progress.step.denoised
            decoder = self.previews.choose(self.bundle, decoders, denoised) if decoders else None
            self._pending = self.previews.begin(denoised, self.bundle, decoder)
        if self._pending is None or not self._pending.is_done():
            return None
        pending, self._pending = self._pending, None
        return finished_preview(pending)

    def _keep_pace(self, card: torch.device) -> None:
        """Wait until a card has done all but the last step: else all steps would be launched, reported and past
        canceling before it has done the first.
        """
        launched = torch.cuda.Event(blocking=True)
        launched.record(torch.cuda.current_stream(card))
        if self._launched is not None:
            self._launched.synchronize()
        self._launched = launched

    def go_on(self) -> None:
        """The next step begins."""
        self._began = time.monotonic()

    def _draft(self, latents: Tensor, steps: int, step_s: float) -> RawImage | None:
        """A draft, for whoever would wait for the VAE longer than for a step."""
        rate, decoders = self.decode_rates.get(self.bundle.digests["vae"]), self.work_item.preview_decoders
        decode_s = step_s / _DRAFT_SHARE if rate is None else rate * latents.numel()
        if steps > _FEW_STEPS or decode_s <= step_s or not decoders:
            return None
        return self.previews.draft(latents, self.bundle, decoders, decode_s * _DRAFT_SHARE)


def _is_finite(latents: Tensor) -> Tensor:
    """Whether all numbers are finite: one byte."""
    return latents.isfinite().all()
