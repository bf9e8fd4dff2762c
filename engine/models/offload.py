"""Which parts of a leased model lie on the device: all, or only those that work now.

Modes, each with less memory and more copying than the one before:
    none       everything stays
    encoders   text encoders are there only while they read, U-Net and VAE while they work
    model      one of text encoders, U-Net and VAE at a time
    group      as model, and the U-Net passes through group by group (`group_offload.py`)
"""

from collections.abc import Iterator, Mapping
from typing import Literal, get_args

from torch import nn

from engine.models.module_slot import ModuleSlot

Offload = Literal["none", "encoders", "model", "group"]
OffloadChoice = Literal["auto", "none", "encoders", "model", "group"]
MODES: tuple[Offload, ...] = get_args(Offload)
_STREAMED = "unet"


def offload_group(part: str) -> str:
    """Parts that work together and travel together."""
    return "encoders" if part.startswith(("text_encoder", "image_encoder")) else part


class PlacedParts(Mapping[str, nn.Module]):
    """A model's parts by name; to ask for one is to have it where it runs."""

    def __init__(self, slot: ModuleSlot, mode: Offload) -> None:
        self._slot = slot
        self._mode = mode
        self.travel_by(mode)

    @property
    def mode(self) -> Offload:
        """How they travel."""
        return self._mode

    def travel_by(self, mode: Offload) -> None:
        """Go over to another mode; between two uses of the parts."""
        if mode != self._mode:
            for part in self._slot.parts:
                self._slot.drop(part)
        self._mode = mode
        self._slot.travels = mode != "none"

    def __contains__(self, name: object) -> bool:
        return name in self._slot.parts

    def __getitem__(self, name: str) -> nn.Module:
        module = self._slot.parts[name]
        self._make_way(name)
        if self.mode == "group" and name == _STREAMED:
            self._slot.stream(name)
        else:
            self._slot.place(name)
        return module

    def _make_way(self, name: str) -> None:
        if self.mode == "none":
            return
        for other in (*self._slot.storage, *self._slot.streams):
            if not self._stay_together(name, other):
                self._slot.drop(other)

    def _stay_together(self, one: str, other: str) -> bool:
        if offload_group(one) == offload_group(other):
            return True
        return self.mode == "encoders" and "encoders" not in (offload_group(one), offload_group(other))

    def __iter__(self) -> Iterator[str]:
        return iter(self._slot.parts)

    def __len__(self) -> int:
        return len(self._slot.parts)


def choose(slot: ModuleSlot, room: int | None, at_least: Offload = "none") -> Offload:
    """The mode with the least copying that fits.

    Args:
        room: Bytes of the device that the model may take; None where there is no such limit.
        at_least: What memory has asked for before.
    """
    sizes: dict[str, int] = {}
    for part in slot.parts:
        sizes[offload_group(part)] = sizes.get(offload_group(part), 0) + slot.layout.part_size(part)
    needs = {
        "none": sum(sizes.values()),
        "encoders": max(sum(sizes.values()) - sizes.get("encoders", 0), sizes.get("encoders", 0)),
        "model": max(sizes.values(), default=0),
        "group": 0,
    }
    for mode in MODES[MODES.index(at_least) :]:
        if room is None or needs[mode] <= room:
            return mode
    return "group"


def follows(mode: Offload) -> Offload | None:
    """The next mode that needs less memory."""
    place = MODES.index(mode) + 1
    return MODES[place] if place < len(MODES) else None
