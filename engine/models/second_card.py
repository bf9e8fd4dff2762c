"""A denoiser on a second card, for half of every batch: with guidance, the unconditional half (`--cfg-split`).

It has modules and storage of its own. Weights are copied from card to card when they changed on the first: after a
swap, or a LoRA. Both cards compute at once, since launches return before their work is done.
"""

import logging
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from engine.checkpoints.component import Component
from engine.device.card_evaluator import CardEvaluator, Inputs
from engine.device.evaluations import Call
from engine.families import family_of
from engine.models.loading import HostModel
from engine.models.module_slot import ModuleSlot, build

log = logging.getLogger(__name__)


def use_second_card(slots: Iterable[ModuleSlot], slot: ModuleSlot, model: HostModel, device: torch.device) -> None:
    """Let a slot's denoiser compute on a second card too, and no other slot's; without, where there is no room.

    Args:
        model: Whose weights the slot holds.
    """
    name = family_of(model.ref.family).facts.denoiser
    for other in slots:
        if other is not slot and other.evaluator is not None:
            other.evaluator.elsewhere = None
    if slot.evaluator is None or slot.evaluator.elsewhere is not None or name not in model.components:
        return
    try:
        slot.evaluator.elsewhere = SecondCard(slot, name, model.components[name], device)
    except torch.OutOfMemoryError:
        log.warning("%s does not fit on the second card and computes on one", model.ref.name)


class SecondCard:
    """Evaluates what the denoiser of a slot would, on another card.

    Args:
        name: Of the denoiser.
    """

    def __init__(self, first: ModuleSlot, name: str, component: Component, device: torch.device) -> None:
        self._first, self._name, self._device = first, name, device
        here = replace(first.device, torch_device=device, second=None, compiles=False)
        self._slot = build(first.shape, {name: component}, here)
        self._slot.allocate(name)
        self._revision = -1

    @torch.inference_mode()
    def __call__(self, call: Call, inputs: Inputs) -> Tensor:
        """A prediction on this card, from inputs on the first; waits for neither.

        Raises:
            RuntimeError: torch's errors, of memory too.
        """
        if self._revision != self._first.revision:
            # Both layouts are of the same module, so that their segments follow each other in the same order.
            storages = (slot.storage[self._name].values() for slot in (self._slot, self._first))
            for target, source in zip(*storages, strict=True):
                target.copy_(source, non_blocking=True)
            self._revision = self._first.revision
        here = tuple(one.to(self._device, non_blocking=True) for one in inputs)
        evaluator = self._slot.evaluator or CardEvaluator()
        with torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext():
            return evaluator(self._slot.modules[self._name], call, here)
