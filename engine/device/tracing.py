"""Traced evaluations of a module on the CPU: the same kernels in the same order, without Python between them.

Python takes a fifth to a quarter of an evaluation of a small U-Net, and next to nothing of a large one. So a module is
traced in idle time, for shapes that were used, where an evaluation is short; the trace is used if it gives equal bits
in less time. A trace reads the module's own weights, so that it outlives swaps of checkpoints and LoRAs.
"""

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Evaluate = Callable[..., Tensor]
Shapes = tuple[tuple[torch.dtype, tuple[int, ...]], ...]

_MOST_TRACES = 4  # shapes; the least recently used goes first
_LONGEST_S = 0.15  # an evaluation; of a longer one too little is Python's
_LEAST_GAIN = 0.97  # traced over eager
_TIMED = 3  # evaluations of each kind

log = logging.getLogger(__name__)


class _Positional(nn.Module):
    """A module called by a function of tensors alone, as tracing needs it."""

    def __init__(self, module: nn.Module, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module = module
        self._call = call

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._call(self.module, *inputs)


@dataclass(slots=True)
class Traces:
    """The traces of one module, by the dtypes and shapes of its inputs.

    Attributes:
        traced: The trace; None for shapes that are no faster or not equal.
        wanted: Inputs of shapes that were evaluated, and not tried yet.
        wanted_s: How long their last evaluation took: idle time is not for finding out.
    """

    traced: dict[Shapes, Evaluate | None] = field(default_factory=dict)
    wanted: tuple[Tensor, ...] = ()
    wanted_s: float = 0.0

    def find(self, *inputs: Tensor) -> Evaluate | None:
        """The trace for inputs of these shapes; None while there is none, which is noted for idle time."""
        shapes = _shapes_of(inputs)
        if shapes not in self.traced:
            self.wanted = inputs
            return None
        self.traced[shapes] = self.traced.pop(shapes)  # now the most recently used
        return self.traced[shapes]

    def trace_wanted(self, module: nn.Module, call: Callable[..., Tensor]) -> None:
        """Trace for the shapes that were wanted last, if that is of use.

        Args:
            call: Evaluates the module: `call(module, *inputs)`.
        """
        inputs, self.wanted = self.wanted, ()
        if not inputs:
            return
        is_short = self.wanted_s <= _LONGEST_S
        self.traced[_shapes_of(inputs)] = self._try(_Positional(module, call).eval(), inputs) if is_short else None
        if len(self.traced) > _MOST_TRACES:
            self.traced.pop(next(iter(self.traced)))

    @torch.inference_mode()
    def _try(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> Evaluate | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch, of what diffusers decides in Python by shapes
                trace: Evaluate = torch.jit.trace(module, inputs, check_trace=False, strict=False)
                for _ in range(2):  # torch rearranges the trace at its first evaluations
                    trace(*inputs)
                is_equal = torch.equal(trace(*inputs), module(*inputs))
        except (RuntimeError, TypeError, ValueError) as error:
            log.info("the U-Net is not traced: %s", str(error).splitlines()[0][:150])
            return None
        eager_s, traced_s = _seconds(module, inputs, _TIMED), _seconds(trace, inputs, _TIMED)
        is_used = is_equal and traced_s < eager_s * _LEAST_GAIN
        log.info(
            "the U-Net traced for %s: %.0f ms instead of %.0f, %s bits; %s",
            "x".join(map(str, inputs[0].shape)),
            1000 * traced_s,
            1000 * eager_s,
            "equal" if is_equal else "other",
            "used" if is_used else "not used",
        )
        return trace if is_used else None


def _shapes_of(inputs: tuple[Tensor, ...]) -> Shapes:
    return tuple((one.dtype, tuple(one.shape)) for one in inputs)


def _seconds(evaluate: Evaluate, inputs: tuple[Tensor, ...], times: int) -> float:
    """The shortest of some evaluations."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        evaluate(*inputs)
        taken.append(time.perf_counter() - began)
    return min(taken)
