"""Traced evaluations of a module on the CPU: the same kernels in the same order, without Python between them.

Python takes a fifth to a quarter of an evaluation of a small U-Net, and next to nothing of a large one. So a module is
traced where an evaluation is short; the trace is used if it gives equal bits in less time. A trace reads the module's
own weights, so that it outlives swaps of checkpoints and LoRAs.
"""

import logging
import warnings

import torch

from engine.device.evaluations import Evaluation, Positional, Wanted, seconds_of

_LONGEST_S = 0.15  # an evaluation; of a longer one too little is Python's
_LEAST_GAIN = 0.97  # traced over eager
_TIMED = 3  # evaluations of each kind

log = logging.getLogger(__name__)


@torch.inference_mode()
def trace(wanted: Wanted) -> Evaluation | None:
    """A trace of what was wanted; None where it would be of no use."""
    if wanted.seconds > _LONGEST_S:
        return None
    module, inputs = Positional(wanted.module, wanted.key.call).eval(), wanted.inputs
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, of what diffusers decides in Python by shapes
            traced: Evaluation = torch.jit.trace(module, inputs, check_trace=False, strict=False)
            for _ in range(2):  # torch rearranges the trace at its first evaluations
                traced(*inputs)
            is_equal = all(map(torch.equal, traced(*inputs), module(*inputs)))
    except (RuntimeError, TypeError, ValueError) as error:
        log.info("the %s is not traced: %s", wanted.key.component, str(error).splitlines()[0][:150])
        return None
    eager_s, traced_s = seconds_of(module, inputs, _TIMED), seconds_of(traced, inputs, _TIMED)
    is_used = is_equal and traced_s < eager_s * _LEAST_GAIN
    log.info(
        "the %s traced for %s: %.0f ms instead of %.0f, %s bits; %s",
        wanted.key.component,
        "x".join(map(str, inputs[0].shape)),
        1000 * traced_s,
        1000 * eager_s,
        "equal" if is_equal else "other",
        "used" if is_used else "not used",
    )
    return traced if is_used else None
