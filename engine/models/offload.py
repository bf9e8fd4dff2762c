"""Offloading: which components of a leased model are on the device, all or only those that compute now.

Of two models that don't fit together one is there at a time (`ModuleSlot.rival`).

Modes, each with less memory and more copying than the one before:
    none       all components stay
    encoders   text encoders are there only while they encode, U-Net and VAE while they compute
    model      one of text encoders, U-Net and VAE at a time
    group      as model, and the U-Net passes through group by group (`group_offload.py`)
"""

from collections.abc import Mapping
from typing import Literal, get_args

from torch import nn

from engine.models.module_slot import ModuleSlot

Offload = Literal["none", "encoders", "model", "group"]
OffloadChoice = Literal["auto", "none", "encoders", "model", "group"]
LESS_MEMORY: Mapping[Offload, str] = {
    "encoders": "the text encoder leaves the card while the picture is painted",
    "model": "only the part of the model that works is on the card",
    "group": "the model passes through the card layer by layer",
}
MODES: tuple[Offload, ...] = get_args(Offload)
_GROUP_OFFLOADED = ("unet", "transformer", "text_encoder_3")


def offload_group(component: str) -> str:
    """Components that compute together and are offloaded together."""
    return "encoders" if component.startswith(("text_encoder", "image_encoder")) else component


class Offloader:
    """Brings the components of one leased model to the device, and takes others off to make room."""

    def __init__(self, slot: ModuleSlot, mode: Offload) -> None:
        self._slot = slot
        self._mode = mode
        slot.may_offload = mode != "none" or slot.rival is not None

    @property
    def mode(self) -> Offload:
        """The offload mode."""
        return self._mode

    def set_mode(self, mode: Offload) -> None:
        """Change the mode, between two uses of the components; takes all of them off the device."""
        if mode != self._mode:
            for component in self._slot.modules:
                self._slot.offload(component)
        self._mode = mode
        self._slot.may_offload = mode != "none" or self._slot.rival is not None

    def onload(self, component: str) -> nn.Module:
        """Bring a component to the device and return it; those that must make way for it are offloaded first.

        Raises:
            KeyError: the model has no such component.
        """
        module = self._slot.modules[component]
        rival = self._slot.rival
        if rival is not None:
            for other in (*rival.storage, *rival.group_offloads):
                rival.offload(other)
        if self.mode != "none":
            for other in (*self._slot.storage, *self._slot.group_offloads):
                groups = {offload_group(other), offload_group(component)}
                may_stay = len(groups) == 1 or (self.mode == "encoders" and "encoders" not in groups)
                if not may_stay:
                    self._slot.offload(other)
        if self.mode == "group" and component in _GROUP_OFFLOADED:
            self._slot.onload_in_groups(component)
        else:
            self._slot.onload(component)
        return module


def choose_mode(slot: ModuleSlot, limit: int | None, at_least: Offload = "none") -> Offload:
    """The mode with the least copying that fits.

    Args:
        limit: Bytes of the device that the model may take; None where there is no such limit.
        at_least: The mode that a shortage of memory required before.
    """
    sizes: dict[str, int] = {}
    for component in slot.modules:
        group = offload_group(component)
        sizes[group] = sizes.get(group, 0) + slot.layout.component_size(component)
    total, encoders = sum(sizes.values()), sizes.get("encoders", 0)
    needs = {"none": total, "encoders": max(total - encoders, encoders), "model": max(sizes.values(), default=0)}
    for mode in MODES[MODES.index(at_least) :]:
        if limit is None or needs.get(mode, 0) <= limit:
            return mode
    return "group"


def next_mode(mode: Offload) -> Offload | None:
    """The next mode that needs less memory."""
    following = MODES.index(mode) + 1
    return MODES[following] if following < len(MODES) else None
