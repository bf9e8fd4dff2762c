"""A checkpoint as one block of bytes in the layout of its modules: laid out, read, checked, bound.

`Layout` says where each tensor of a set of modules lies; `Block` holds the bytes in host memory.
Knows no families and no residency; see `models.py`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from catalog.headers import TensorInfo, read_header
from contract.errors import ModelProblem

ALIGNMENT = 64  # bytes
# Page-locked memory is rounded up to a power of two, so large blocks are kept in pieces.
PINNED_SEGMENT_BYTES = 2**30
_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
_DIGEST_BYTES = 1024  # of each tensor: enough to tell checkpoints apart
# Names that older versions of diffusers gave to the attention of a VAE.
_OLD_VAE_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@dataclass(frozen=True, slots=True)
class Place:
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

    places: tuple[Place, ...]
    segment_bytes: tuple[int, ...]
    parts: Mapping[str, tuple[int, ...]]  # their segments

    @property
    def size(self) -> int:
        """Bytes of a block."""
        return sum(self.segment_bytes)

    def part_size(self, part: str) -> int:
        """Bytes of one part."""
        return sum(self.segment_bytes[segment] for segment in self.parts[part])


def lay_out(parts: Mapping[str, nn.Module], dtypes: Mapping[str, torch.dtype], *,
            channels_last: bool = False, segment_limit: int | None = None) -> Layout:
    """Put the tensors of modules (on meta) one after another.

    Args:
        dtypes: The run dtype of each part; applies to floating-point tensors.
        segment_limit: Bytes after which a new segment begins; None for one segment a part.
    """
    places: list[Place] = []
    ends: list[int] = []
    segments: dict[str, tuple[int, ...]] = {}
    for part, module in parts.items():
        first = len(ends)
        ends.append(0)
        for name, tensor in module.state_dict().items():
            dtype = dtypes[part] if tensor.is_floating_point() else tensor.dtype
            place = Place(part, name, tuple(tensor.shape), dtype, len(ends) - 1, ends[-1],
                          channels_last and tensor.dim() == 4)
            end = -(-(place.offset + place.size) // ALIGNMENT) * ALIGNMENT
            if segment_limit is not None and place.offset and end > segment_limit:
                ends.append(0)
                place = Place(part, name, place.shape, dtype, len(ends) - 1, 0, place.is_channels_last)
                end = -(-place.size // ALIGNMENT) * ALIGNMENT
            places.append(place)
            ends[-1] = end
        segments[part] = tuple(range(first, len(ends)))
    return Layout(tuple(places), tuple(ends), segments)


def view(segments: tuple[Tensor, ...], place: Place) -> Tensor:
    """The tensor at a place of a block's or a device's bytes; no copy."""
    flat = segments[place.segment][place.offset : place.offset + place.size].view(place.dtype)
    if place.is_channels_last:
        out, into, height, width = place.shape
        return flat.view(out, height, width, into).permute(0, 3, 1, 2)
    return flat.view(place.shape)


@dataclass(slots=True)
class Block:
    """A checkpoint's weights in host memory."""

    layout: Layout
    segments: tuple[Tensor, ...]
    is_pinned: bool = False  # page-locked

    @classmethod
    def empty(cls, layout: Layout, *, pinned: bool = False) -> "Block":
        """Room for a checkpoint; may raise torch's out-of-memory errors."""
        return cls(layout, tuple(torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
                                 for size in layout.segment_bytes), pinned)

    def tensor(self, place: Place) -> Tensor:
        """The tensor at a place; no copy."""
        return view(self.segments, place)

    def digest(self, part: str) -> str:
        """Tells this part's weights from other checkpoints' (from a sample of each tensor)."""
        hasher = hashlib.blake2b(digest_size=16)
        for place in self.layout.places:
            if place.part == part:
                start = place.offset
                sample = self.segments[place.segment][start : start + min(place.size, _DIGEST_BYTES)]
                hasher.update(f"{place.name}{place.shape}{place.dtype}".encode())
                hasher.update(sample.numpy().tobytes())
        return hasher.hexdigest()


@dataclass(frozen=True, slots=True)
class Source:
    """A weights file whose header fits the layout: which tensor goes where, in file order."""

    path: Path
    label: str  # "unet/diffusion_pytorch_model.safetensors", as errors name it
    pairs: tuple[tuple[TensorInfo, Place], ...]

    @property
    def size(self) -> int:
        """Bytes to read."""
        return sum(info.end - info.begin for info, _ in self.pairs)


def match(path: Path, part: str, layout: Layout, names: Mapping[str, str] | None = None) -> Source:
    """Check names and shapes of a file against the layout; reads only the header.

    Args:
        names: The layout's name of a tensor -> the file's, where that has names of its own.
    Raises:
        ModelProblem: a tensor is missing, left over or of another shape; names file and tensor.
    """
    label = f"{part}/{path.name}"
    left = dict(read_header(path))
    pairs = []
    for place in layout.places:
        if place.part != part:
            continue
        wanted = (names or {}).get(place.name, place.name)
        found = next((name for name in _spellings(wanted) if name in left), None)
        if found is None:
            raise ModelProblem(f"{label} lacks the tensor “{place.name}”.",
                               "It is cut short or belongs to another model. Download it again.")
        info = left.pop(found)
        if info.shape != place.shape:
            raise ModelProblem(f"{label}: “{found}” has the shape {_by(info.shape)}; its configuration "
                               f"asks for {_by(place.shape)}.", "Use the config.json that came with it.")
        if info.dtype not in _DTYPES:
            raise ModelProblem(f"{label}: “{found}” holds {info.dtype} numbers, not weights.",
                               "Use an fp32, fp16 or bf16 version of the model.")
        pairs.append((info, place))
    unknown = sorted(name for name in left if not name.endswith("position_ids"))
    if unknown:
        raise ModelProblem(f"{label} has a tensor “{unknown[0][:80]}” (of {len(unknown)}) that its "
                           "configuration does not know.", "Use the config.json that came with it.")
    pairs.sort(key=lambda pair: pair[0].begin)
    return Source(path, label, tuple(pairs))


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a single number"


def _spellings(name: str) -> Iterator[str]:
    """Names a tensor may have in a file: transformers 5 dropped `text_model.`, diffusers renamed."""
    yield name
    if name.startswith("text_model."):
        yield name.removeprefix("text_model.")
    else:
        yield f"text_model.{name}"
    for new, old in _OLD_VAE_NAMES.items():
        if f".attentions.0.{new}." in name:
            yield name.replace(new, old)


def fill(block: Block, source: Source) -> Iterator[int]:
    """Read a file into its places, cast to the run dtype; yields the bytes of each tensor read.

    Raises:
        ModelProblem: the file ended early, or a weight is not a finite number; names file and tensor.
    """
    staging = torch.empty(0, dtype=torch.uint8)
    with source.path.open("rb", buffering=0) as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        for info, place in source.pairs:
            target = view(block.segments, place)
            size = info.end - info.begin
            file.seek(start + info.begin)
            if _DTYPES[info.dtype] == place.dtype and not place.is_channels_last:
                segment = block.segments[place.segment]
                _read(file, segment[place.offset : place.offset + size], source)
            else:
                staging = staging if staging.numel() >= size else torch.empty(size, dtype=torch.uint8)
                _read(file, staging[:size], source)
                target.copy_(staging[:size].view(_DTYPES[info.dtype]).view(place.shape))
            _check_finite(target, place, source)
            yield size


def _read(file: object, target: Tensor, source: Source) -> None:
    room = memoryview(target.numpy())
    while room:
        count = file.readinto(room)  # type: ignore[attr-defined]
        if not count:
            raise ModelProblem(f"{source.label} ended early while it was read.",
                               "Download or copy it again.")
        room = room[count:]


def _check_finite(tensor: Tensor, place: Place, source: Source) -> None:
    # One pass without a temporary; a finite sum has only finite terms.
    if tensor.is_floating_point() and not tensor.sum(dtype=torch.float32).isfinite():
        if not tensor.isfinite().all():
            raise ModelProblem(f"{source.label}: “{place.name}” holds NaN or infinity.",
                               "The file is damaged or was trained badly. Use another version.")
