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

from engine.models.module_slot import Shelf

Offload = Literal["none", "encoders", "model", "group"]
OffloadChoice = Literal["auto", "none", "encoders", "model", "group"]
MODES: tuple[Offload, ...] = get_args(Offload)
_STREAMED = "unet"


def company(part: str) -> str:
    """Parts that work together and travel together."""
    return "encoders" if part.startswith(("text_encoder", "image_encoder")) else part


class PlacedParts(Mapping[str, nn.Module]):
    """A model's parts by name; to ask for one is to have it where it runs."""

    def __init__(self, shelf: Shelf, mode: Offload) -> None:
        self._shelf = shelf
        self._mode = mode
        self.travel_by(mode)

    @property
    def mode(self) -> Offload:
        """How they travel."""
        return self._mode

    def travel_by(self, mode: Offload) -> None:
        """Go over to another mode; between two uses of the parts."""
        if mode != self._mode:
            for part in self._shelf.parts:
                self._shelf.drop(part)
        self._mode = mode
        self._shelf.travels = mode != "none"

    def __contains__(self, name: object) -> bool:
        return name in self._shelf.parts

    def __getitem__(self, name: str) -> nn.Module:
        module = self._shelf.parts[name]
        self._make_way(name)
        if self.mode == "group" and name == _STREAMED:
            self._shelf.stream(name)
        else:
            self._shelf.place(name)
        return module

    def _make_way(self, name: str) -> None:
        if self.mode == "none":
            return
        for other in (*self._shelf.storage, *self._shelf.streams):
            if not self._stay_together(name, other):
                self._shelf.drop(other)

    def _stay_together(self, one: str, other: str) -> bool:
        if company(one) == company(other):
            return True
        return self.mode == "encoders" and "encoders" not in (company(one), company(other))

    def __iter__(self) -> Iterator[str]:
        return iter(self._shelf.parts)

    def __len__(self) -> int:
        return len(self._shelf.parts)


def choose(shelf: Shelf, room: int | None, at_least: Offload = "none") -> Offload:
    """The mode with the least copying that fits.

    Args:
        room: Bytes of the device that the model may take; None where there is no such limit.
        at_least: What memory has asked for before.
    """
    sizes: dict[str, int] = {}
    for part in shelf.parts:
        sizes[company(part)] = sizes.get(company(part), 0) + shelf.layout.part_size(part)
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
