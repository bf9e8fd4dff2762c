"""Fallbacks for an image that fails for want of memory or of precision, tried before the job fails."""

import logging
from dataclasses import replace

import torch

from contract.errors import NoValidPicture
from engine.device.attention import slice_attention
from engine.device.devices import release
from engine.errors import is_out_of_memory
from engine.models.bundle import Bundle
from engine.models.manager import ModelManager
from engine.pipeline import ImagePlan

log = logging.getLogger(__name__)
Fallback = tuple[ImagePlan, str, str]  # the plan to try again, and a notice's code and sentence


class NonFiniteOutput(NoValidPicture):
    """The U-Net gave NaN or infinity at the first step."""


def fallback_for(error: BaseException, plan: ImagePlan, models: ModelManager) -> Fallback | None:
    """The next fallback; None when nothing is left to try, or the error is of another kind.

    Memory: models that are not in use leave the device, then this one is offloaded (`models/offload.py`), then
    attention is sliced. Precision: the U-Net is computed in float32.
    """
    name = plan.bundle.ref.name
    if isinstance(error, NonFiniteOutput):
        if plan.in_float32 or plan.bundle.device.dtype == torch.float32:
            return None
        log.warning("the U-Net of %s overflows in %s", name, plan.bundle.device.dtype)
        second = replace(plan.second, in_float32=True) if plan.second else None
        wide = replace(plan, in_float32=True, second=second)
        return wide, "unet_float32", f"{name} overflowed in half precision and is computed in full, which is slower."
    if not is_out_of_memory(error):
        return None
    notice = with_less_memory(error, plan.bundle, models)
    if notice is None and slice_attention(plan.bundle.onload(plan.bundle.family.facts.denoiser)):
        notice = _less_memory_notice(plan.bundle, "attention is computed in slices")
    return None if notice is None else (plan, "less_memory", notice)


def with_less_memory(error: BaseException, bundle: Bundle, models: ModelManager) -> str | None:
    """The memory fallbacks that need no plan yet.

    Returns:
        A notice's sentence; None when nothing was done, or the error is of another kind.
    """
    if not is_out_of_memory(error):
        return None
    release()
    done = models.use_less_device(bundle)
    return _less_memory_notice(bundle, done) if done else None


def _less_memory_notice(bundle: Bundle, done: str) -> str:
    log.warning("out of memory with %s: %s", bundle.ref.name, done)
    return f"Memory ran short, so {done}. It goes on, slower."
