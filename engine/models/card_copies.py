"""Second copies of checkpoints' weights on a large card, beside the storage that modules compute with.

A swap is then a copy within the card, and so is what restores a LoRA's layers. They only take room that is free: the
oldest goes first, and all go before anything else does when memory is short. `manager.py` knows which models there are.
"""

import logging
from collections.abc import Iterable

import torch

from engine.device.devices import Device, room_for_copies
from engine.models.loading import HostModel
from engine.models.module_slot import ModuleSlot

log = logging.getLogger(__name__)


def copied_size(models: Iterable[HostModel]) -> int:
    """Bytes that they take."""
    return sum(model.buffer.layout.size for model in models if model.copy)


def drop_copies(models: Iterable[HostModel]) -> bool:
    """Free what they take; whether there were any."""
    held = [model for model in models if model.copy]
    for model in held:
        model.copy.clear()
    return bool(held)


def keep_copy(model: HostModel, slot: ModuleSlot, models: Iterable[HostModel], device: Device) -> None:
    """Copy the weights that a slot was just given, if there is room or older copies make some.

    Args:
        models: All in memory, the least recently used first.
    """
    models = list(models)
    for other in models:
        if slot.layout.size <= room_for_copies(device, copied_size(models)):
            break
        if not other.leases:
            other.copy.clear()
    if slot.layout.size > room_for_copies(device, copied_size(models)):
        return
    try:
        model.copy.update(slot.copy_segments())
    except torch.OutOfMemoryError:
        log.info("%s has no copy on the card: memory is short", model.ref.name)
