"""Maps the errors of torch and the libraries to ours, in one place: a code, a sentence, a hint."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from contract.errors import JobError, ModelProblem, OutOfMemory, StudioError
from contract.work import DEVICE_FAULT

log = logging.getLogger(__name__)

_MEMORY_SIGNS = (
    "DefaultCPUAllocator",
    "not enough memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_DEVICE_SIGNS = ("CUDA error", "device-side assert", "CUDNN_STATUS", "CUBLAS_STATUS", "cuFFT error", "MPS backend")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or the device ran out of memory, however a library reports it."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError, OutOfMemory)):
        return True
    text = str(error)
    return any(sign in text for sign in _MEMORY_SIGNS)


@contextmanager
def mapped(explain: Callable[[Exception], Exception]) -> Iterator[None]:
    """Turn every error but a StudioError into the one that explains it: libraries raise whatever they like.

    Args:
        explain: Gives the error itself back where that is to pass.
    """
    try:
        yield
    except StudioError:
        raise
    except Exception as error:
        explained = explain(error)
        if explained is error:
            raise
        raise explained from None


def mapped_load(model: str) -> AbstractContextManager[None]:
    """Turn every error of loading a model into a StudioError that names it."""
    return mapped(lambda error: as_studio_error(error, model, "its weights"))


def as_studio_error(error: BaseException, model: str, size: str) -> StudioError:
    """Any error of a job as one of `contract/errors.py`, with a sentence for a person.

    Args:
        model: Its name.
        size: "512×512", of the image.
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
