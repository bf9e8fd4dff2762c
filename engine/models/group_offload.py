"""Group offloading: a component that is too large for the device passes through two buffers there, group by group.

While one group computes, the next is copied. A group is a block of layers; small modules stay on the device. Forward
hooks do it all: callers use the modules as usual.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from engine.weights.weight_buffer import TensorSpec, WeightBuffer, view

GROUP_BYTES = 64 * 2**20  # a larger module is split, if it is made of blocks
_STAYS_BYTES = 4 * 2**20  # a smaller one beside blocks is not worth a copy
Targets = Mapping[str, tuple[TensorSpec, Tensor]]


@dataclass(slots=True)
class _Group:
    """A module that is copied at once.

    Attributes:
        ranges: Its bytes in the weight buffer, by segment.
        staging: Which of the two device buffers it uses; -1 before its first run.
        copied: On CUDA: recorded when its copy is queued.
    """

    ranges: Mapping[int, tuple[int, int]]
    targets: Targets
    staging: int = -1
    copied: torch.cuda.Event | None = None

    @classmethod
    def of(cls, targets: Targets, module_name: str) -> "_Group":
        own: dict[str, tuple[TensorSpec, Tensor]] = {}
        ranges: dict[int, tuple[int, int]] = {}
        for name, (spec, target) in targets.items():
            if name.startswith(f"{module_name}."):
                own[name] = spec, target
                start, end = ranges.get(spec.segment, (spec.offset, spec.offset))
                ranges[spec.segment] = (min(start, spec.offset), max(end, spec.offset + spec.size))
        return cls(ranges, own)

    @property
    def size(self) -> int:
        return sum(end - start for start, end in self.ranges.values())


@dataclass(slots=True)
class _Staging:
    """One of the two device buffers, and the group whose bytes are in it."""

    memory: Tensor
    holds: _Group | None = None


@dataclass(slots=True)
class _Pipeline:
    """The groups in the order of the first run, the two device buffers, and the hooks on the modules."""

    order: list[_Group] = field(default_factory=list)
    stagings: tuple[_Staging, ...] = ()
    hooks: list[RemovableHandle] = field(default_factory=list)


class GroupOffload:
    """Brings a component's weights to the device while it runs.

    Args:
        targets: The component's tensors by name, with their specs in the weight buffer.
        override_of: A tensor to use instead of the buffer's, by name; None where there is none.
    """

    @torch.inference_mode(False)
    def __init__(
        self,
        module: nn.Module,
        targets: Targets,
        buffer: WeightBuffer,
        device: torch.device,
        override_of: Callable[[str], Tensor | None],
    ) -> None:
        self._buffer, self._device, self._override_of = buffer, device, override_of
        self._copy_stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        groups = {name: _Group.of(targets, name) for name in _group_names(module, targets, GROUP_BYTES)}
        grouped: set[str] = set()
        for group in groups.values():
            grouped.update(group.targets)
        largest = max((group.size for group in groups.values()), default=0)
        stagings = [_Staging(torch.empty(largest, dtype=torch.uint8, device=device)) for _ in range(2)]
        self._pipeline = _Pipeline(stagings=tuple(stagings))
        self._resident = {name: target for name, target in targets.items() if name not in grouped}
        for spec, target in self._resident.values():
            shape = (spec.size,) if spec.packing else spec.shape
            target.data = torch.empty(shape, dtype=spec.dtype, device=device)
            if spec.is_channels_last:
                target.data = target.data.to(memory_format=torch.channels_last)
        self._copy_resident()
        # Last: if memory runs out above, no hook may stay on the modules.
        for name, group in groups.items():
            # Before hooks that widen weights.
            hook = module.get_submodule(name).register_forward_pre_hook(self._onload_before(group), prepend=True)
            self._pipeline.hooks.append(hook)

    @property
    def size(self) -> int:
        """Bytes on the device."""
        staged = sum(staging.memory.numel() for staging in self._pipeline.stagings)
        return staged + sum(spec.size for spec, _ in self._resident.values())

    def use(self, buffer: WeightBuffer) -> None:
        """Take the weights of another buffer from now on."""
        self._buffer = buffer
        self.invalidate()

    def invalidate(self) -> None:
        """Copy everything again: the weights or their overrides changed."""
        for staging in self._pipeline.stagings:
            staging.holds = None
        self._copy_resident()

    def close(self) -> None:
        """Remove the hooks; the modules have no weights until they are onloaded again."""
        if self._copy_stream is not None:  # a copy may still fill a buffer that the main stream gets back
            torch.cuda.current_stream(self._device).wait_stream(self._copy_stream)
        for hook in self._pipeline.hooks:
            hook.remove()
        self._pipeline = _Pipeline()

    def _onload_before(self, group: _Group) -> Callable[..., None]:
        def onload(*_: object) -> None:
            order = self._pipeline.order
            if group.staging < 0:
                self._assign_staging(group)
            self._fetch(group)
            if self._copy_stream is not None:
                assert group.copied is not None
                torch.cuda.current_stream(self._device).wait_event(group.copied)
            following = order[(order.index(group) + 1) % len(order)]
            if following.staging != group.staging:
                self._fetch(following)

        return onload

    def _assign_staging(self, group: _Group) -> None:
        """Point a group's tensors into a device buffer; neighbors in the order of the first run use different ones."""
        group.staging = len(self._pipeline.order) % 2
        self._pipeline.order.append(group)
        memory = self._pipeline.stagings[group.staging].memory
        shifts, base = {}, 0
        for segment, (start, end) in group.ranges.items():
            shifts[segment] = base - start
            base += end - start
        for spec, target in group.targets.values():
            staged = replace(spec, segment=0, offset=spec.offset + shifts[spec.segment])
            target.data = view((memory,), staged)

    def _fetch(self, group: _Group) -> None:
        staging = self._pipeline.stagings[group.staging]
        if staging.holds is group:
            return
        staging.holds = group
        if self._copy_stream is None:
            self._copy(group, staging)
            return
        # Work that still reads the buffer ends first.
        self._copy_stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._copy_stream):
            self._copy(group, staging)
            group.copied = self._copy_stream.record_event()

    def _copy(self, group: _Group, staging: _Staging) -> None:
        base = 0
        for segment, (start, end) in group.ranges.items():
            size = end - start
            staging.memory[base : base + size].copy_(self._buffer.segments[segment][start:end], non_blocking=True)
            base += size
        for name, (_, target) in group.targets.items():
            override = self._override_of(name)
            if override is not None:
                target.copy_(override, non_blocking=True)

    def _copy_resident(self) -> None:
        for name, (spec, target) in self._resident.items():
            override = self._override_of(name)
            target.copy_(self._buffer.tensor(spec) if override is None else override)


def _group_names(module: nn.Module, targets: Targets, group_bytes: int, prefix: str = "") -> Iterator[str]:
    """Names of the modules that are copied at once: blocks of layers, split while they are too large."""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        size = sum(spec.size for key, (spec, _) in targets.items() if key.startswith(f"{path}."))
        is_list = isinstance(child, nn.ModuleList)
        is_made_of_blocks = any(isinstance(inner, nn.ModuleList) for inner in child.children())
        if is_list or (size > group_bytes and is_made_of_blocks):
            yield from _group_names(child, targets, group_bytes, f"{path}.")
        elif prefix and size > min(_STAYS_BYTES, group_bytes):
            yield path
