"""Tensors on their way from a card to host memory while both go on with their work: previews, a look at numbers."""

from collections.abc import Callable

import torch
from torch import Tensor


class HostCopy:
    """What is computed from a tensor, in host memory as soon as it is there.

    On a card it is computed and copied in a stream of its own, so that neither the next step nor Python waits for it;
    elsewhere it is there at once.

    Args:
        compute: From the source to what is copied.
        source: Not written to by later work.
        stream: Of the card; None elsewhere.
    """

    def __init__(
        self, compute: Callable[[Tensor], Tensor], source: Tensor, stream: "torch.cuda.Stream | None" = None
    ) -> None:
        self._copied: torch.cuda.Event | None = None
        if stream is None:
            self._value = compute(source).cpu()
            return
        stream.wait_stream(torch.cuda.current_stream(source.device))
        with torch.cuda.stream(stream):
            result = compute(source)
            self._value = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
            self._value.copy_(result, non_blocking=True)
            self._copied = stream.record_event()
        source.record_stream(stream)  # its memory is not used again before

    def is_done(self) -> bool:
        """Whether it is there."""
        return self._copied is None or self._copied.query()

    def value(self) -> Tensor:
        """The result, on the CPU; waits for it."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._value
