"""Modules of one model shape: built once without weights, then given one checkpoint after another.

On the CPU the modules' tensors point at a block; on a card they lie in fixed storage that blocks are copied
into, so that whatever was captured with their addresses outlives a swap. Which block, `models.py` decides.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import init_empty_weights
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn

from contract.errors import ModelProblem
from engine.blocks import PINNED_SEGMENT_BYTES, Block, Layout, lay_out, view
from engine.devices import Device
from engine.kinds import Part

_DEVICE_SHARE = 0.85  # of a card's memory may hold weights


@dataclass(slots=True)
class Shelf:
    """The modules of one shape, and what is on them.

    Attributes:
        shape: Family and configurations as text; equal for checkpoints that can share the modules.
        targets: The modules' own tensors, in the layout's order.
        holds: The checkpoint whose weights they compute with.
        storage: Fixed device memory; empty on the CPU, and until it is first needed.
    """

    shape: str
    parts: Mapping[str, nn.Module]
    layout: Layout
    targets: tuple[Tensor, ...]
    holds: object | None = None
    storage: tuple[Tensor, ...] = ()
    leases: int = 0

    def put(self, block: Block, device: Device) -> None:
        """Swap: after this the modules compute with the block's weights. The caller says what it `holds`."""
        if not device.copies_weights:
            _point(self, block.segments)
            return
        if not self.storage:
            self.storage = tuple(torch.empty(size, dtype=torch.uint8, device=device.torch_device)
                                 for size in self.layout.segment_bytes)
            _point(self, self.storage)
        _copy(block.segments, self.storage, device.torch_device)

    def clear(self) -> None:
        """Let go of the bytes that the modules compute with."""
        for target in self.targets:
            target.data = target.data.new_empty(0)
        self.holds, self.storage = None, ()


def build(shape: str, plan: Mapping[str, Part], device: Device) -> Shelf:
    """Build the modules of a shape, without weights.

    Raises:
        ModelProblem: a configuration describes nothing that can be built.
    """
    parts = {name: _on_meta(name, part.build, part.config) for name, part in plan.items()}
    # The estimator normalises over its batch, which half precision can't carry.
    own = {"vae": device.vae_dtype, "depth_estimator": torch.float32}
    dtypes = {part: own.get(part, device.dtype) for part in parts}
    limit = PINNED_SEGMENT_BYTES if device.pins_memory else None
    layout = lay_out(parts, dtypes, channels_last=device.channels_last, segment_limit=limit)
    targets = tuple(_replace_meta(parts[place.part], place.name, place.dtype, device.torch_device)
                    for place in layout.places)
    for module in parts.values():
        module.to(device.torch_device)  # what is left are buffers that no file holds
    return Shelf(shape, parts, layout, targets)


def device_bytes(device: torch.device) -> int | None:
    """Bytes that weights may take on the device; None where it shares the machine's memory."""
    if device.type != "cuda":
        return None
    return int(torch.cuda.get_device_properties(device).total_memory * _DEVICE_SHARE)


def _on_meta(part: str, builder: Any, config: Mapping[str, Any]) -> nn.Module:
    """A module without weights; buffers that no file holds (CLIP's position ids) are real."""
    try:
        with init_empty_weights(include_buffers=False), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return builder(config).eval().requires_grad_(False)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError,
            ArithmeticError, StrictDataclassError) as error:
        raise ModelProblem(f"{part}/config.json doesn't describe a model that can be built: {str(error)[:200]}",
                           "Use the config.json that came with the model.") from None


def _replace_meta(module: nn.Module, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Put an empty tensor of the run dtype in the place of one on meta, once and for all swaps."""
    owner_name, _, leaf = name.rpartition(".")
    owner = module.get_submodule(owner_name)
    empty = torch.empty(0, dtype=dtype, device=device)
    if leaf in owner._parameters:
        owner._parameters[leaf] = nn.Parameter(empty, requires_grad=False)
        return owner._parameters[leaf]
    owner._buffers[leaf] = empty
    return empty


def _point(shelf: Shelf, segments: tuple[Tensor, ...]) -> None:
    for place, target in zip(shelf.layout.places, shelf.targets, strict=True):
        target.data = view(segments, place)


def _copy(source: tuple[Tensor, ...], storage: tuple[Tensor, ...], device: torch.device) -> None:
    """Host block -> fixed device storage; on CUDA beside other work, and awaited by it."""
    if device.type != "cuda":
        for there, here in zip(storage, source, strict=True):
            there.copy_(here)
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for there, here in zip(storage, source, strict=True):
            there.copy_(here, non_blocking=True)
    torch.cuda.current_stream(device).wait_stream(stream)
