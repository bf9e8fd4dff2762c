"""Modules of one model shape: built once without weights, then given one checkpoint after another.

On the CPU the modules' tensors point at a block; on a card each part lies in fixed storage that blocks are copied
into, so that whatever was captured with its addresses outlives a swap. A part may leave the card and come back
(`offload.py`); single tensors may be replaced for a while (LoRAs). Which block, `manager.py` decides.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import init_empty_weights
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn

from contract.errors import ModelProblem
from engine.checkpoints.components import Component
from engine.device.attention import set_attention
from engine.device.devices import Device
from engine.models.group_offload import Stream
from engine.weights.named_tensors import NamedTensors
from engine.weights.weight_buffer import PINNED_SEGMENT_BYTES, Layout, TensorSpec, WeightBuffer, lay_out, view

Segments = Mapping[int, Tensor]  # device memory by the number of the layout's segment


@dataclass(slots=True)
class ModuleSlot:
    """The modules of one shape, and what is on them.

    Attributes:
        shape: Family and configurations as text; equal for checkpoints that can share the modules.
        targets: The modules' own tensors by part and name, with their places.
        holds: The checkpoint whose weights they compute with, and `block` its bytes.
        storage: Fixed device memory of each part that is there; empty on the CPU.
        streams: Parts that pass through the device group by group instead.
        changed: Tensors on the device that are not the block's own.
        replaced: Those that stand in for the block's own, kept on the host.
        notes: Of whoever changes the modules for a while; emptied with them.
        travels: Whether parts may leave the device while the modules are leased.
    """

    shape: str
    parts: Mapping[str, nn.Module]
    layout: Layout
    targets: Mapping[tuple[str, str], tuple[TensorSpec, Tensor]]
    device: Device
    holds: object | None = None
    block: WeightBuffer | None = None
    storage: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)
    changed: set[tuple[str, str]] = field(default_factory=set)
    overrides: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    notes: dict[str, object] = field(default_factory=dict)
    travels: bool = False
    leases: int = 0

    @property
    def device_size(self) -> int:
        """Bytes that it takes on the device."""
        stored = sum(self.layout.part_size(part) for part in self.storage)
        return stored + sum(stream.size for stream in self.streams.values())

    def put(self, holder: object, block: WeightBuffer) -> None:
        """Swap: after this the modules compute with the block's weights, wherever its parts lie."""
        self.holds = None  # not until all bytes are there
        self._forget_changes()
        self.block = block
        if not self.device.copies_weights:
            for place, target in self.targets.values():
                target.data = block.tensor(place)
        for part in self.storage:
            self._copy(part)
        for stream in self.streams.values():
            stream.use(block)
        self.holds = holder

    @torch.inference_mode(False)  # what is allocated here outlives whoever asked for it
    def place(self, part: str) -> None:
        """Bring a part to the device, unless it is there; may raise torch's out-of-memory errors."""
        if not self.device.copies_weights or part in self.storage:
            return
        assert self.block is not None
        if part in self.streams:
            self.drop(part)
        self.storage[part] = {
            number: torch.empty(self.layout.segment_bytes[number], dtype=torch.uint8, device=self.device.torch_device)
            for number in self.layout.parts[part]
        }
        self._point(part, self.storage[part])
        self._copy(part)

    def stream(self, part: str) -> None:
        """Let a part pass through the device group by group from now on."""
        if part in self.streams:
            return
        assert self.block is not None
        self.drop(part)
        own = {name: pair for (owner, name), pair in self.targets.items() if owner == part}
        self.streams[part] = Stream(self.parts[part], own, self.block, self.device.torch_device, self._value_of(part))

    def drop(self, part: str) -> None:
        """Take a part off the device; values that it was given go to the host with it."""
        for owner, name in [key for key in self.changed if key[0] == part and key not in self.overrides]:
            self.overrides[owner, name] = self._like(self.targets[owner, name][1], self.targets[owner, name][0])
        stream = self.streams.pop(part, None)
        if stream is not None:
            stream.close()
        if part in self.storage or stream is not None:
            self.storage.pop(part, None)
            for (owner, _), (_, target) in self.targets.items():
                if owner == part:
                    target.data = target.data.new_empty(0)

    def clear(self) -> None:
        """Let go of the bytes that the modules compute with."""
        self._forget_changes()
        for part in self.parts:
            self.drop(part)
        for _, target in self.targets.values():
            target.data = target.data.new_empty(0)
        self.holds = self.block = None

    def _forget_changes(self) -> None:
        self.changed.clear()
        self.overrides.clear()
        self.notes.clear()

    def original(self, part: str, name: str) -> Tensor:
        """The checkpoint's own tensor, in host memory: never to be written."""
        assert self.block is not None
        return self.block.tensor(self.targets[part, name][0])

    def present(self, part: str, name: str) -> Tensor | None:
        """A tensor as it now is where the modules run; None while its part is away."""
        is_there = not self.device.copies_weights or part in self.storage
        return self.targets[part, name][1].data if is_there else None

    def replace(self, part: str, values: Mapping[str, Tensor]) -> None:
        """Let tensors of a part have other values, of any device and precision; they are the shelf's from now on."""
        for name, value in values.items():
            place, target = self.targets[part, name]
            if not self.device.copies_weights:
                self.overrides[part, name] = target.data = self._like(value, place)
                continue
            if part in self.storage:
                target.copy_(value)
                self.changed.add((part, name))
            if self.travels or part not in self.storage:
                self.overrides[part, name] = self._like(value, place)
            else:
                self.overrides.pop((part, name), None)  # of an earlier lease: `drop` keeps the new value
        self._tell_streams(part)

    @property
    def overrides_size(self) -> int:
        """Bytes of host memory that stand-ins take beside the block."""
        return sum(value.numel() * value.element_size() for value in self.overrides.values())

    def restore(self, part: str, names: Iterable[str]) -> None:
        """Give tensors the checkpoint's own values again, to the bit."""
        for name in names:
            place, target = self.targets[part, name]
            self.overrides.pop((part, name), None)
            self.changed.discard((part, name))
            assert self.block is not None
            if not self.device.copies_weights:
                target.data = self.block.tensor(place)
            elif part in self.storage:
                target.copy_(self.block.tensor(place))
        self._tell_streams(part)

    def _tell_streams(self, part: str) -> None:
        if part in self.streams:
            self.streams[part].forget()

    @staticmethod
    @torch.inference_mode(False)
    def _like(value: Tensor, place: TensorSpec) -> Tensor:
        """A value in host memory as the block would have it; a copy where it is not so already."""
        if value.device.type == "cpu" and value.dtype == place.dtype and not place.is_channels_last:
            return value.detach().reshape(place.shape)
        kept = torch.empty(place.shape, dtype=place.dtype)
        if place.is_channels_last:
            kept = kept.to(memory_format=torch.channels_last)
        return kept.copy_(value)

    def _value_of(self, part: str) -> Callable[[str], Tensor | None]:
        return lambda name: self.overrides.get((part, name))

    def _point(self, part: str, storage: Segments) -> None:
        for (owner, _), (place, target) in self.targets.items():
            if owner == part:
                target.data = view(storage, place)

    def _copy(self, part: str) -> None:
        """Host block -> fixed device storage; on CUDA beside other work, and awaited by it."""
        assert self.block is not None
        pairs = [(there, self.block.segments[number]) for number, there in self.storage[part].items()]
        device = self.device.torch_device
        if device.type != "cuda":
            for there, here in pairs:
                there.copy_(here)
        else:
            stream = torch.cuda.Stream(device)
            stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(stream):
                for there, here in pairs:
                    there.copy_(here, non_blocking=True)
            torch.cuda.current_stream(device).wait_stream(stream)
        for (owner, name), value in self.overrides.items():
            if owner == part:
                self.targets[owner, name][1].copy_(value)


def build(shape: str, plan: Mapping[str, Component], device: Device) -> ModuleSlot:
    """Build the modules of a shape, without weights.

    Raises:
        ModelProblem: a configuration describes nothing that can be built.
    """
    parts = {name: on_meta(name, part.build, part.config) for name, part in plan.items()}
    # The estimator normalises over its batch, which half precision can't carry.
    own = {"vae": device.vae_dtype, "depth_estimator": torch.float32}
    dtypes = {part: plan[part].dtype or own.get(part, device.dtype) for part in parts}
    limit = PINNED_SEGMENT_BYTES if device.pins_memory else None
    layout = lay_out(parts, dtypes, channels_last=device.channels_last, segment_limit=limit)
    targets = {
        (place.part, place.name): (
            place,
            _replace_meta(parts[place.part], place.name, place.dtype, device.torch_device),
        )
        for place in layout.places
    }
    for module in parts.values():
        module.to(device.torch_device)  # what is left are buffers that no file holds
        set_attention(module, device)
    return ModuleSlot(shape, parts, layout, targets, device)


def on_meta(part: str, builder: Any, config: Mapping[str, Any]) -> nn.Module:
    """A module without weights; buffers that no file holds (CLIP's position ids) are real."""
    try:
        with init_empty_weights(include_buffers=False), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return builder(config).eval().requires_grad_(False)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
        RuntimeError,
        ArithmeticError,
        StrictDataclassError,
    ) as error:
        raise ModelProblem(
            f"{part}/config.json doesn't describe a model that can be built: {str(error)[:200]}",
            "Use the config.json that came with the model.",
        ) from None


def _replace_meta(module: nn.Module, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Put an empty tensor of the run dtype in the place of one on meta, once and for all swaps."""
    empty = torch.empty(0, dtype=dtype, device=device)
    if isinstance(module, NamedTensors):
        return module.put(name, empty)
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    if leaf in owner._parameters:
        owner._parameters[leaf] = nn.Parameter(empty, requires_grad=False)
        return owner._parameters[leaf]
    owner._buffers[leaf] = empty
    return empty
