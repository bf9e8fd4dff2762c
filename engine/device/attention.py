"""Which code computes attention: torch's own (SDPA), xformers where asked for, or slices where memory is short."""

import logging
from typing import Literal

from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0, SlicedAttnProcessor
from torch import nn

from engine.device.devices import Device
from engine.device.memory import memory

AttentionChoice = Literal["auto", "sdpa", "xformers", "sliced"]
_ENOUGH_SHARED_BYTES = 64 * 2**30
_PLAIN = (AttnProcessor, AttnProcessor2_0)

log = logging.getLogger(__name__)


def set_attention(module: nn.Module, device: Device) -> None:
    """Let a freshly built module use what was chosen.

    diffusers' own default is SDPA, so that is left alone; "auto" leaves it except on an Apple GPU with little memory,
    which the machine shares (diffusers' advice).
    """
    if device.attention == "xformers" and hasattr(module, "enable_xformers_memory_efficient_attention"):
        try:
            module.enable_xformers_memory_efficient_attention()
        except (ImportError, ModuleNotFoundError, NotImplementedError, RuntimeError, ValueError) as error:
            log.warning("xformers can't be used here (%s); torch's own attention is", str(error)[:120] or "unknown")
    elif device.attention == "sliced" or (
        device.attention == "auto" and device.torch_device.type == "mps" and memory().total < _ENOUGH_SHARED_BYTES
    ):
        slice_attention(module)


def slice_attention(module: nn.Module) -> bool:
    """Compute attention head by head: slower, less memory. False where it can't be, or is so already."""
    processors = getattr(module, "attn_processors", {}).values()
    if not hasattr(module, "set_attention_slice") or {type(one) for one in processors} - set(_PLAIN):
        return False
    module.set_attention_slice("max")
    return True


def unslice_attention(module: nn.Module, device: Device) -> None:
    """Undo `slice_attention` after the job that needed it."""
    processors = getattr(module, "attn_processors", {}).values()
    if device.attention != "sliced" and any(isinstance(one, SlicedAttnProcessor) for one in processors):
        module.set_attention_slice(None)
        set_attention(module, device)
