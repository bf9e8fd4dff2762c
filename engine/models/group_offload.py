"""A part that is too large for the device: its weights pass through two buffers there, group by group.

While one group works, the next is copied beside it. A group is a block of layers; what is small stays. The modules
are as ever to their callers: hooks do it all.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from engine.weights.weight_buffer import TensorSpec, WeightBuffer, view

GROUP_BYTES = 64 * 2**20  # a larger module is taken apart, if it is made of blocks
_STAYS_BYTES = 4 * 2**20  # a smaller one beside blocks is not worth a copy
Targets = Mapping[str, tuple[TensorSpec, Tensor]]


@dataclass(slots=True)
class _Group:
    """A module that is copied at once: the ranges of its bytes by segment, and its tensors."""

    ranges: Mapping[int, tuple[int, int]]
    targets: Mapping[str, tuple[TensorSpec, Tensor]]
    slot: int = -1
    copied: object | None = None  # an event, on CUDA

    @property
    def size(self) -> int:
        return sum(end - start for start, end in self.ranges.values())


@dataclass(slots=True)
class _Slot:
    """One of the two buffers, and whose bytes are in it."""

    buffer: Tensor
    holds: _Group | None = None


@dataclass(slots=True)
class _State:
    order: list[_Group] = field(default_factory=list)
    slots: tuple[_Slot, ...] = ()
    hooks: list[object] = field(default_factory=list)


class Stream:
    """Brings a part's weights to the device as it runs.

    Args:
        targets: The part's own tensors by name, with their places in the block.
        value_of: A tensor that stands in for the block's own, by name; None where there is none.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        module: nn.Module,
        targets: Targets,
        block: WeightBuffer,
        device: torch.device,
        value_of: Callable[[str], Tensor | None],
    ) -> None:
        self._block, self._device, self._value_of = block, device, value_of
        self._beside = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._state = _State()
        groups = {name: _group(targets, name) for name in _units(module, targets, GROUP_BYTES)}
        streamed = {name for group in groups.values() for name in group.targets}
        self._rest = {name: target for name, target in targets.items() if name not in streamed}
        largest = max((group.size for group in groups.values()), default=0)
        self._state.slots = tuple(_Slot(torch.empty(largest, dtype=torch.uint8, device=device)) for _ in range(2))
        for place, target in self._rest.values():
            target.data = torch.empty(place.shape, dtype=place.dtype, device=device)
            if place.is_channels_last:
                target.data = target.data.to(memory_format=torch.channels_last)
        self._copy_rest()
        # Last: a stream that got no memory must leave nothing on the modules.
        for name, group in groups.items():
            self._state.hooks.append(module.get_submodule(name).register_forward_pre_hook(self._before(group)))

    @property
    def size(self) -> int:
        """Bytes on the device."""
        return sum(slot.buffer.numel() for slot in self._state.slots) + sum(
            place.size for place, _ in self._rest.values()
        )

    def use(self, block: WeightBuffer) -> None:
        """Take the weights of another block from now on."""
        self._block = block
        self.forget()

    def forget(self) -> None:
        """What is in the buffers is old: other weights or stand-ins are to be used."""
        for slot in self._state.slots:
            slot.holds = None
        self._copy_rest()

    def close(self) -> None:
        """Take the hooks off; the modules have no weights until they are placed again."""
        if self._beside is not None:  # the buffers go back to the main stream, and a copy may still fill one
            torch.cuda.current_stream(self._device).wait_stream(self._beside)
        for hook in self._state.hooks:
            hook.remove()  # type: ignore[attr-defined]
        self._state = _State()

    def _before(self, group: _Group) -> Callable[..., None]:
        def bring(*_: object) -> None:
            order = self._state.order
            if group.slot < 0:
                self._give_slot(group)
            self._fetch(group)
            if self._beside is not None:
                torch.cuda.current_stream(self._device).wait_event(group.copied)
            following = order[(order.index(group) + 1) % len(order)]
            if following.slot != group.slot:
                self._fetch(following)

        return bring

    def _give_slot(self, group: _Group) -> None:
        """The order of the first run is that of all runs; neighbors use different buffers."""
        group.slot = len(self._state.order) % 2
        self._state.order.append(group)
        starts, base = {}, 0
        for segment, (start, end) in group.ranges.items():
            starts[segment] = base - start
            base += end - start
        for place, target in group.targets.values():
            moved = replace(place, segment=0, offset=place.offset + starts[place.segment])
            target.data = view((self._state.slots[group.slot].buffer,), moved)

    def _fetch(self, group: _Group) -> None:
        slot = self._state.slots[group.slot]
        if slot.holds is group:
            return
        slot.holds = group
        if self._beside is None:
            self._copy(group, slot)
            return
        self._beside.wait_stream(torch.cuda.current_stream(self._device))  # whoever used the buffer has ended
        with torch.cuda.stream(self._beside):
            self._copy(group, slot)
            group.copied = self._beside.record_event()

    def _copy(self, group: _Group, slot: _Slot) -> None:
        base = 0
        for segment, (start, end) in group.ranges.items():
            size = end - start
            slot.buffer[base : base + size].copy_(self._block.segments[segment][start:end], non_blocking=True)
            base += size
        for name, (_, target) in group.targets.items():
            value = self._value_of(name)
            if value is not None:
                target.copy_(value, non_blocking=True)

    def _copy_rest(self) -> None:
        for name, (place, target) in self._rest.items():
            value = self._value_of(name)
            target.copy_(self._block.tensor(place) if value is None else value)


def _group(targets: Targets, name: str) -> _Group:
    own = {key: target for key, target in targets.items() if key.startswith(f"{name}.")}
    ranges: dict[int, tuple[int, int]] = {}
    for place, _ in own.values():
        start, end = ranges.get(place.segment, (place.offset, place.offset))
        ranges[place.segment] = (min(start, place.offset), max(end, place.offset + place.size))
    return _Group(ranges, own)


def _units(module: nn.Module, targets: Targets, group_bytes: int, prefix: str = "") -> Iterator[str]:
    """Names of the modules that are copied at once: blocks of layers, taken apart while they are too large."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        is_list = isinstance(child, nn.ModuleList)
        size = sum(place.size for key, (place, _) in targets.items() if key.startswith(f"{path}."))
        is_made_of_blocks = any(isinstance(part, nn.ModuleList) for part in child.children())
        if is_list or (size > group_bytes and is_made_of_blocks):
            yield from _units(child, targets, group_bytes, f"{path}.")
        elif prefix and size > min(_STAYS_BYTES, group_bytes):
            yield path
