"""A checkpoint as one buffer of bytes in the layout of its modules.

`Layout` says where each tensor of a set of modules lies; `WeightBuffer` holds the bytes in host memory.
`reading.py` fills it. Knows no families, and not what is loaded; see `models/manager.py` for that.
"""

import hashlib
import mmap
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor, nn

from engine.weights.packed import packed_size

ALIGNMENT = 64  # bytes
# torch rounds page-locked memory up to a power of two, so large buffers are split into segments.
PINNED_SEGMENT_BYTES = 2**30
_DIGEST_BYTES = 1024  # of each tensor


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Where one tensor lies: bytes [offset, offset + size) of a segment.

    Attributes:
        packing: Of a tensor that is kept as GGUF packs it (`packed.py`): its bytes are in the buffer, dtype uint8, and
            shape is that of its numbers. "" for all others.
    """

    component: str
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    segment: int
    offset: int
    is_channels_last: bool = False
    packing: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        if self.packing:
            return packed_size(self.packing, self.shape)
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    @property
    def aligned_end(self) -> int:
        """Where the next tensor of the segment may begin."""
        return -(-(self.offset + self.size) // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class Layout:
    """Where every tensor of a set of modules lies.

    Attributes:
        components: The segments of each. None is shared by two components, so that each can be offloaded alone.
        is_packed: Some tensors are.
    """

    specs: tuple[TensorSpec, ...]
    segment_bytes: tuple[int, ...]
    components: Mapping[str, tuple[int, ...]]
    is_packed: bool = False

    @property
    def size(self) -> int:
        """Bytes of a weight buffer."""
        return sum(self.segment_bytes)

    def component_size(self, component: str) -> int:
        """Bytes of one component."""
        return sum(self.segment_bytes[segment] for segment in self.components[component])


def lay_out(
    modules: Mapping[str, nn.Module],
    dtypes: Mapping[str, torch.dtype],
    *,
    channels_last: bool = False,
    segment_limit: int | None = None,
    packings: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> Layout:
    """Arrange the tensors of modules (on meta) one after another.

    Args:
        modules: By component.
        dtypes: The run dtype of each component; applies to floating-point tensors.
        segment_limit: Bytes after which a new segment begins; None for one segment a component.
        packings: Of tensors that are kept packed, by component and name.
    """
    specs: list[TensorSpec] = []
    segment_bytes: list[int] = []
    components: dict[str, tuple[int, ...]] = {}
    for component, module in modules.items():
        first = len(segment_bytes)
        segment_bytes.append(0)
        for name, tensor in module.state_dict().items():
            shape = tuple(tensor.shape)
            dtype = dtypes[component] if tensor.is_floating_point() else tensor.dtype
            packing = packings.get((component, name), "")
            if packing:
                dtype = torch.uint8
            is_channels_last = channels_last and len(shape) == 4 and not packing
            segment, offset = len(segment_bytes) - 1, segment_bytes[-1]
            spec = TensorSpec(component, name, shape, dtype, segment, offset, is_channels_last, packing)
            if segment_limit is not None and offset and spec.aligned_end > segment_limit:
                segment_bytes.append(0)
                spec = replace(spec, segment=segment + 1, offset=0)
            specs.append(spec)
            segment_bytes[-1] = spec.aligned_end
        components[component] = tuple(range(first, len(segment_bytes)))
    return Layout(tuple(specs), tuple(segment_bytes), components, is_packed=bool(packings))


def view(segments: tuple[Tensor, ...] | Mapping[int, Tensor], spec: TensorSpec) -> Tensor:
    """One tensor in the bytes of a weight buffer, or of a device's storage, or its bytes if it is packed; no copy."""
    flat = segments[spec.segment][spec.offset : spec.offset + spec.size].view(spec.dtype)
    if spec.packing:
        return flat
    if spec.is_channels_last:
        out_channels, in_channels, height, width = spec.shape
        return flat.view(out_channels, height, width, in_channels).permute(0, 3, 1, 2)
    return flat.view(spec.shape)


@dataclass(slots=True)
class WeightBuffer:
    """A checkpoint's weights in host memory.

    Attributes:
        is_pinned: Page-locked.
        sums: The sum of each tensor, as far as they were read.
    """

    layout: Layout
    segments: tuple[Tensor, ...]
    is_pinned: bool = False
    sums: dict[TensorSpec, float] = field(default_factory=dict)

    @classmethod
    def empty(cls, layout: Layout, *, pinned: bool = False) -> "WeightBuffer":
        """Memory for a checkpoint; may raise torch's out-of-memory errors."""
        return cls(layout, tuple(_segment(size, pinned=pinned) for size in layout.segment_bytes), pinned)

    @property
    def size(self) -> int:
        """Bytes that it takes now."""
        return sum(segment.numel() for segment in self.segments)

    def tensor(self, spec: TensorSpec) -> Tensor:
        """One tensor; no copy."""
        return view(self.segments, spec)

    def release(self, components: Collection[str]) -> None:
        """Give back the memory of components; nothing may point to it any more."""
        freed = {segment for component in components for segment in self.layout.components[component]}
        self.segments = tuple(
            segment[:0].clone() if number in freed else segment for number, segment in enumerate(self.segments)
        )

    def refill(self) -> tuple[str, ...]:
        """New memory for what was released. Returns the components, whose bytes are yet to come."""
        sizes = self.layout.segment_bytes
        gone = [number for number, segment in enumerate(self.segments) if segment.numel() < sizes[number]]
        held = list(self.segments)
        for number in gone:
            held[number] = _segment(sizes[number], pinned=self.is_pinned)
        self.segments = tuple(held)
        return tuple(name for name, segments in self.layout.components.items() if set(segments) & set(gone))

    def digest(self, component: str) -> str:
        """Identifies this component's weights, by a sample and the sum of each tensor."""
        hasher = hashlib.blake2b(digest_size=16)
        for spec in self.layout.specs:
            if spec.component == component:
                end = spec.offset + min(spec.size, _DIGEST_BYTES)
                sample = self.segments[spec.segment][spec.offset : end]
                hasher.update(f"{spec.name}{spec.shape}{spec.dtype}{self.sums.get(spec, 0.0)!r}".encode())
                hasher.update(sample.numpy().tobytes())
        return hasher.hexdigest()


def _segment(size: int, *, pinned: bool) -> Tensor:
    """Memory; what is not page-locked is straight from the system, which gets it back as soon as the tensor is gone."""
    if pinned:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)
    if not size:
        return torch.empty(0, dtype=torch.uint8)
    flags = {}
    if hasattr(mmap, "MAP_ANONYMOUS"):
        flags["flags"] = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        return torch.frombuffer(mmap.mmap(-1, size, **flags), dtype=torch.uint8, count=size)
    except (OSError, ValueError) as error:
        raise MemoryError(f"{size} bytes can't be allocated: {error}") from None
