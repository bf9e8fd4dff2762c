"""The one boundary where torch's and the libraries' errors become ours: a code, a sentence, a hint."""

import logging

import torch

from contract.errors import JobError, ModelProblem, OutOfMemory, StudioError
from contract.work import DEVICE_FAULT

log = logging.getLogger(__name__)

# Everything that work can raise; KeyboardInterrupt, SystemExit and GeneratorExit pass.
FAILURES = (
    StudioError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
_MEMORY_SIGNS = (
    "DefaultCPUAllocator",
    "not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_DEVICE_SIGNS = ("CUDA error", "device-side assert", "CUDNN_STATUS", "CUBLAS_STATUS", "cuFFT error", "MPS backend")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or the device had no more memory, however a library says it."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError, OutOfMemory)) or any(
        sign in str(error) for sign in _MEMORY_SIGNS
    )


def as_studio_error(error: BaseException, model: str, size: str) -> StudioError:
    """What a person is told.

    Args:
        model: Its name.
        size: "512×512", of the picture.
    """
    if isinstance(error, StudioError):
        return error
    text = str(error)
    if is_out_of_memory(error):
        return OutOfMemory(
            f"There was not enough memory for {size} with {model}.", "Use a smaller size, or close other programs."
        )
    if isinstance(error, torch.AcceleratorError) or any(sign in text for sign in _DEVICE_SIGNS):
        log.error("device fault", exc_info=error)
        return JobError(
            "The graphics card reported a fault; the engine starts again.",
            "Try again. If it stays, update the driver.",
            code=DEVICE_FAULT,
        )
    if isinstance(error, OSError):
        return ModelProblem(
            f"A file of {model} can't be read ({error.strerror or type(error).__name__}).",
            "Check the disk, or download the model again.",
        )
    log.error("job failed", exc_info=error)
    return JobError(
        f"The engine failed on {model} ({type(error).__name__}).",
        "The log says where. Please report it.",
        code="engine_failed",
    )
