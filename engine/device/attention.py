"""Attention kernels: torch's SDPA, xformers where chosen, or attention slicing where memory is short."""

import logging
from typing import Any, Literal

from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0, SlicedAttnProcessor

from engine.device.devices import Device
from engine.device.memory import memory

AttentionChoice = Literal["auto", "sdpa", "xformers", "sliced"]
_ENOUGH_SHARED_BYTES = 64 * 2**30
_PLAIN = (AttnProcessor, AttnProcessor2_0)

log = logging.getLogger(__name__)


def set_attention(module: Any, device: Device) -> None:
    """Set the chosen attention on a freshly built module.

    diffusers' default is SDPA. "auto" keeps it, except on an Apple GPU with little shared memory, which slices
    (diffusers' advice).
    """
    if device.attention == "xformers" and hasattr(module, "enable_xformers_memory_efficient_attention"):
        try:
            module.enable_xformers_memory_efficient_attention()
        except (ImportError, RuntimeError, ValueError) as error:
            reason = str(error)[:120] or "unknown"
            log.warning("xformers can't be used here (%s); torch's own attention is used instead", reason)
    elif device.attention == "sliced":
        slice_attention(module)
    elif device.attention == "auto" and device.torch_device.type == "mps":
        if memory().total < _ENOUGH_SHARED_BYTES:
            slice_attention(module)


def slice_attention(module: Any) -> bool:
    """Compute attention head by head: slower, with less memory.

    Returns:
        Whether this changed anything: False for a module without it, or with other attention processors.
    """
    if not hasattr(module, "set_attention_slice"):
        return False
    if not has_plain_attention(module):
        return False
    module.set_attention_slice("max")
    return True


def has_plain_attention(module: Any) -> bool:
    """Whether all attention is torch's own, whole: not sliced, not an adapter's, not xformers'."""
    return all(type(processor) in _PLAIN for processor in getattr(module, "attn_processors", {}).values())


def unslice_attention(module: Any, device: Device) -> None:
    """Undo `slice_attention` after the job that needed it."""
    if device.attention == "sliced":
        return
    processors = getattr(module, "attn_processors", {}).values()
    if any(isinstance(processor, SlicedAttnProcessor) for processor in processors):
        module.set_attention_slice(None)
        set_attention(module, device)
