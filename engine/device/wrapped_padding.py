"""Seamless tiling: convolutions whose padding is the other side of the image, so that copies of it fit together.

No module is changed: while a call lasts, what pads is intercepted. As part of a call (`evaluations.py`) it is part of
what a trace, a CUDA graph or OpenVINO's model is kept by, so that none of them is used for a job of another tiling.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from contract.values import Tiling
from engine.device.evaluations import Call, Evaluate, Outputs


def wrapped_padding(tiling: Tiling | None) -> AbstractContextManager[object]:
    """While it lasts, convolutions of this thread pad maps of four dimensions, (B, C, H, W), around these axes."""
    return _WrappedPadding(tiling) if tiling else nullcontext()


@dataclass(frozen=True, slots=True, repr=False)
class WrappedCall:
    """A call with wrapped padding: equal only to one around the same axes."""

    call: Call
    tiling: Tiling

    def __call__(self, module: nn.Module, *inputs: Tensor) -> Outputs:
        with wrapped_padding(self.tiling):
            return self.call(module, *inputs)

    def __repr__(self) -> str:  # names what is kept on the disk: no addresses
        return f"{getattr(self.call, '__qualname__', repr(self.call))}, wrapped around {self.tiling}"


def wrapped(evaluate: Evaluate, tiling: Tiling | None) -> Evaluate:
    """Evaluates as before, with wrapped padding."""
    if tiling is None:
        return evaluate
    return lambda component, call, *inputs: evaluate(component, WrappedCall(call, tiling), *inputs)


class _WrappedPadding(TorchFunctionMode):
    def __init__(self, tiling: Tiling) -> None:
        super().__init__()
        self._wraps_x, self._wraps_y = "x" in tiling, "y" in tiling

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        instead = _INSTEAD.get(func)
        return func(*args, **(kwargs or {})) if instead is None else instead(self, *args, **(kwargs or {}))

    def conv2d(
        self,
        values: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        """As torch has it, but for its padding."""
        if not isinstance(padding, str) and values.dim() == 4:
            high, wide = (padding, padding) if isinstance(padding, int) else padding
            values, rest = self._wrap(values, (wide, wide, high, high))
            padding = (rest[2], rest[0])
        return functional.conv2d(values, weight, bias, stride, padding, dilation, groups)

    def pad(self, values: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
        """As torch has it; what pads both sides of a map wraps, whatever it would put there."""
        if values.dim() == 4 and len(pad) == 4 and min(pad) >= 0:
            values, pad = self._wrap(values, pad)
        return functional.pad(values, pad, mode, value) if any(pad) else values

    def _wrap(self, values: Tensor, pad: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
        """Pads around the axes that wrap: the map, and what is left to pad; left, right, above, below."""
        left, right, above, below = pad
        # By cat, which keeps the memory format.
        if self._wraps_x and (left or right):
            end = values.shape[-1]
            values, left, right = torch.cat([values[..., end - left :], values, values[..., :right]], dim=-1), 0, 0
        if self._wraps_y and (above or below):
            end = values.shape[-2]
            values = torch.cat([values[..., end - above :, :], values, values[..., :below, :]], dim=-2)
            above = below = 0
        return values, (left, right, above, below)


_INSTEAD: dict[object, Callable[..., Tensor]] = {
    torch.conv2d: _WrappedPadding.conv2d,
    functional.pad: _WrappedPadding.pad,
}
