"""What can be done when a picture fails for want of memory or of precision, before anyone is told that it failed."""

import logging
from dataclasses import replace

import torch

from contract.errors import NoValidPicture
from engine.device.attention import slice_attention
from engine.device.devices import release
from engine.errors import is_out_of_memory
from engine.models.manager import Bundle, ModelManager
from engine.pipeline import ImagePlan

log = logging.getLogger(__name__)
Rescue = tuple[ImagePlan, str, str]  # the plan to try again, and a Notice's code and sentence


class NonFiniteOutput(NoValidPicture):
    """The U-Net gave NaN or infinity at the first step."""


def fallback_for(error: BaseException, plan: ImagePlan, models: ModelManager) -> Rescue | None:
    """One step down the ladder; None when nothing is left to try, or the error is of another kind.

    Memory: models that wait leave the device, then parts travel (`models/offload.py`), then attention goes in slices.
    Precision: the U-Net is computed in float32.
    """
    name = plan.bundle.ref.name
    if isinstance(error, NonFiniteOutput):
        if plan.in_float32 or plan.bundle.device.dtype == torch.float32:
            return None
        log.warning("the U-Net of %s overflows in %s", name, plan.bundle.device.dtype)
        return (
            _in_float32(plan),
            "unet_float32",
            (f"{name} overflowed in half precision and is computed in full, which is slower."),
        )
    if not is_out_of_memory(error):
        return None
    if said := with_less_memory(error, plan.bundle, models):
        return plan, "less_memory", said
    if not slice_attention(plan.bundle.onload("unet")):
        return None
    return plan, "less_memory", _said(plan.bundle, "attention is computed in slices")


def with_less_memory(error: BaseException, bundle: Bundle, models: ModelManager) -> str | None:
    """The upper steps of the ladder, which need no plan yet.

    Returns:
        A Notice's sentence; None when nothing was done, or the error is of another kind.
    """
    if not is_out_of_memory(error):
        return None
    release()
    done = models.use_less_device(bundle)
    return _said(bundle, done) if done else None


def _said(bundle: Bundle, done: str) -> str:
    log.warning("out of memory with %s: %s", bundle.ref.name, done)
    return f"Memory ran short, so {done}. It goes on, slower."


def _in_float32(plan: ImagePlan) -> ImagePlan:
    second = replace(plan.second, in_float32=True) if plan.second else None
    return replace(plan, in_float32=True, second=second)
