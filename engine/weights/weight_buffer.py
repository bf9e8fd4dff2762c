"""A checkpoint as one block of bytes in the layout of its modules: laid out, held, told apart.

`Layout` says where each tensor of a set of modules lies; `Block` holds the bytes in host memory.
How it is filled is in `reading.py`; it knows no families and no residency, see `models/manager.py`.
"""

import hashlib
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

ALIGNMENT = 64  # bytes
# Page-locked memory is rounded up to a power of two, so large blocks are kept in pieces.
PINNED_SEGMENT_BYTES = 2**30
_DIGEST_BYTES = 1024  # of each tensor


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Where one tensor lies: bytes [offset, offset + size) of a segment."""

    part: str
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    segment: int
    offset: int
    is_channels_last: bool = False

    @property
    def size(self) -> int:
        """Bytes."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Layout:
    """Where every tensor of a set of modules lies. No segment holds tensors of two parts, so that each can travel."""

    places: tuple[TensorSpec, ...]
    segment_bytes: tuple[int, ...]
    parts: Mapping[str, tuple[int, ...]]  # their segments

    @property
    def size(self) -> int:
        """Bytes of a block."""
        return sum(self.segment_bytes)

    def part_size(self, part: str) -> int:
        """Bytes of one part."""
        return sum(self.segment_bytes[segment] for segment in self.parts[part])


def lay_out(
    parts: Mapping[str, nn.Module],
    dtypes: Mapping[str, torch.dtype],
    *,
    channels_last: bool = False,
    segment_limit: int | None = None,
) -> Layout:
    """Put the tensors of modules (on meta) one after another.

    Args:
        dtypes: The run dtype of each part; applies to floating-point tensors.
        segment_limit: Bytes after which a new segment begins; None for one segment a part.
    """
    places: list[TensorSpec] = []
    ends: list[int] = []
    segments: dict[str, tuple[int, ...]] = {}
    for part, module in parts.items():
        first = len(ends)
        ends.append(0)
        for name, tensor in module.state_dict().items():
            dtype = dtypes[part] if tensor.is_floating_point() else tensor.dtype
            place = TensorSpec(
                part, name, tuple(tensor.shape), dtype, len(ends) - 1, ends[-1], channels_last and tensor.dim() == 4
            )
            end = -(-(place.offset + place.size) // ALIGNMENT) * ALIGNMENT
            if segment_limit is not None and place.offset and end > segment_limit:
                ends.append(0)
                place = TensorSpec(part, name, place.shape, dtype, len(ends) - 1, 0, place.is_channels_last)
                end = -(-place.size // ALIGNMENT) * ALIGNMENT
            places.append(place)
            ends[-1] = end
        segments[part] = tuple(range(first, len(ends)))
    return Layout(tuple(places), tuple(ends), segments)


def view(segments: tuple[Tensor, ...], place: TensorSpec) -> Tensor:
    """The tensor at a place of a block's or a device's bytes; no copy."""
    flat = segments[place.segment][place.offset : place.offset + place.size].view(place.dtype)
    if place.is_channels_last:
        out, into, height, width = place.shape
        return flat.view(out, height, width, into).permute(0, 3, 1, 2)
    return flat.view(place.shape)


@dataclass(slots=True)
class WeightBuffer:
    """A checkpoint's weights in host memory.

    Attributes:
        is_pinned: Page-locked.
        sums: Of each tensor's numbers, as far as they were read.
    """

    layout: Layout
    segments: tuple[Tensor, ...]
    is_pinned: bool = False
    sums: dict[TensorSpec, float] = field(default_factory=dict)

    @classmethod
    def empty(cls, layout: Layout, *, pinned: bool = False) -> "WeightBuffer":
        """Room for a checkpoint; may raise torch's out-of-memory errors."""
        if pinned:
            segments = [torch.empty(size, dtype=torch.uint8, pin_memory=True) for size in layout.segment_bytes]
        else:
            segments = [_pages(size) for size in layout.segment_bytes]
        return cls(layout, tuple(segments), pinned)

    def tensor(self, place: TensorSpec) -> Tensor:
        """The tensor at a place; no copy."""
        return view(self.segments, place)

    def digest(self, part: str) -> str:
        """Tells this part's weights from other checkpoints': from a sample and the sum of each tensor."""
        hasher = hashlib.blake2b(digest_size=16)
        for place in self.layout.places:
            if place.part == part:
                start = place.offset
                sample = self.segments[place.segment][start : start + min(place.size, _DIGEST_BYTES)]
                hasher.update(f"{place.name}{place.shape}{place.dtype}{self.sums.get(place, 0.0)!r}".encode())
                hasher.update(sample.numpy().tobytes())
        return hasher.hexdigest()


def _pages(size: int) -> Tensor:
    """Memory straight from the system, to which it goes back at once when nobody uses it any more."""
    if not size:
        return torch.empty(0, dtype=torch.uint8)
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
    try:
        return torch.frombuffer(mmap.mmap(-1, max(size, 1), **private), dtype=torch.uint8, count=size)
    except (OSError, ValueError) as error:
        raise MemoryError(f"{size} bytes can't be had: {error}") from None
