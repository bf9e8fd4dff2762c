"""From a weights file into a block: names matched, shapes checked, bytes read straight into their places, checked.

A file may have its own names, keep several tensors as one, or have them turned: a `Piece` says so. Which pieces a
model's file has is `checkpoints/key_maps.py`; the block, `weight_buffer.py`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from catalog.detect.quantized import companions, scale_of, scales_rows
from catalog.files.headers import TensorInfo, read_header
from contract.errors import ModelProblem
from engine.weights.weight_buffer import Layout, TensorSpec, WeightBuffer

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_CHUNK_BYTES = 2**22
_ONE_NUMBER = 8  # bytes: a LoRA's alpha may be an integer, weights never are
_OTHER_CONFIG = "Use the config.json that came with it."
_OTHER_KIND = "It is damaged, or of a kind that Darkroom does not know."
# Names that older versions of diffusers gave to the attention of a VAE.
_OLD_VAE_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@dataclass(frozen=True, slots=True)
class TensorSlice:
    """Where a tensor's numbers are in a file that has names and an order of its own.

    Attributes:
        share: (index, count): which of so many equal shares of the rows. q, k and v often lie in one tensor.
        is_transposed: The file's rows are the tensor's columns.
    """

    name: str
    share: tuple[int, int] = (0, 1)
    is_transposed: bool = False

    def cut(self, info: TensorInfo) -> TensorInfo:
        """What is meant of the file's tensor; all of it where it has no such shares."""
        index, count = self.share
        if count == 1 or not info.shape or info.shape[0] % count:
            return info
        size = (info.end - info.begin) // count
        begin = info.begin + index * size
        return TensorInfo(info.dtype, (info.shape[0] // count, *info.shape[1:]), begin, begin + size)

    def cut_scale(self, scale: TensorInfo | None) -> TensorInfo | None:
        """The same of the tensor's scale, which is one number for all shares, or one for each row."""
        return scale if scale is None or scale.shape[:1] in ((), (1,)) else self.cut(scale)


@dataclass(frozen=True, slots=True)
class Reading:
    """One tensor on its way: bytes of a file, a place in the block.

    Attributes:
        scale: What its numbers are to be multiplied by (`catalog/detect/quantized.py`): one number, or one a row.
    """

    info: TensorInfo
    place: TensorSpec
    is_transposed: bool = False
    scale: TensorInfo | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A weights file whose header fits the layout: which tensor goes where, in file order."""

    path: Path
    label: str  # "unet/diffusion_pytorch_model.safetensors", as errors name it
    readings: tuple[Reading, ...]

    @property
    def size(self) -> int:
        """Bytes to read."""
        return sum(reading.info.end - reading.info.begin for reading in self.readings)


def match(
    files: Sequence[Path], part: str, layout: Layout, slices: Mapping[str, TensorSlice] | None = None
) -> tuple[Source, ...]:
    """Check names and shapes of a part's files against the layout; reads only headers.

    Args:
        files: One, or several that share the tensors among them.
        pieces: Of a file with names of its own: each tensor of this part, by the layout's name. What else is
            in the file belongs to other parts. Without it the whole files are this part.
    Raises:
        ModelProblem: a tensor is missing, left over or of another shape; names file and tensor.
    """
    headers = {file: read_header(file) for file in files}
    home = {name: file for file, header in headers.items() for name in header}
    label = f"{part}/{files[0].name}" if slices is None else f"{files[0].name} ({part})"
    left = {name: TensorSlice(name) for name in home.keys() - companions(home)} if slices is None else dict(slices)
    readings: dict[Path, list[Reading]] = {file: [] for file in files}
    for place in layout.places:
        if place.part != part:
            continue
        found = next((name for name in _spellings(place.name) if name in left), None)
        if found is None:
            raise ModelProblem(
                f"{label} lacks the tensor “{place.name}”.",
                "It is cut short or belongs to another model. Download it again.",
            )
        piece = left.pop(found)
        readings[home[piece.name]].append(_reading(label, piece, headers[home[piece.name]], place))
    unknown = sorted(piece.name for name, piece in left.items() if not name.endswith("position_ids"))
    if unknown:
        raise ModelProblem(
            f"{label} has a tensor “{unknown[0][:80]}” (of {len(unknown)}) that its configuration does not know.",
            _OTHER_CONFIG if slices is None else _OTHER_KIND,
        )
    return tuple(
        Source(
            file,
            label if len(files) == 1 else f"{part}/{file.name}",
            tuple(sorted(inside, key=lambda reading: reading.info.begin)),
        )
        for file, inside in readings.items()
    )


def _reading(label: str, piece: TensorSlice, header: Mapping[str, TensorInfo], place: TensorSpec) -> Reading:
    info = piece.cut(header[piece.name])
    if not _fits(info.shape[::-1] if piece.is_transposed else info.shape, place.shape):
        hint = _OTHER_CONFIG if label.startswith(f"{place.part}/") else _OTHER_KIND
        raise ModelProblem(
            f"{label}: “{piece.name}” has the shape {_by(info.shape)}; its configuration asks for {_by(place.shape)}.",
            hint,
        )
    is_number = info.dtype in DTYPES and (DTYPES[info.dtype].is_floating_point or info.end - info.begin <= _ONE_NUMBER)
    if not is_number:
        raise ModelProblem(
            f"{label}: “{piece.name}” holds {info.dtype} numbers, not weights.",
            "Use an fp32, fp16 or bf16 version of the model.",
        )
    scale = piece.cut_scale(scale_of(piece.name, header))
    if scale is not None and not (
        scale.dtype in DTYPES and DTYPES[scale.dtype].is_floating_point and scales_rows(scale.shape, info.shape)
    ):
        raise ModelProblem(
            f"{label}: the scale of “{piece.name}” is {scale.dtype} {_by(scale.shape)}, which is not read here.",
            "Use an fp16 or bf16 version of the model.",
        )
    return Reading(info, place, piece.is_transposed, scale)


def _fits(found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """A 1×1 convolution and a linear layer hold the same numbers in the same order."""
    return found == wanted or _matrix(found) == _matrix(wanted)


def _matrix(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if all(side == 1 for side in shape[2:]) else shape


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


def fill(block: WeightBuffer, source: Source) -> Iterator[int]:
    """Read a file into its places, cast to the run dtype; yields the bytes of each tensor read.

    In chunks that stay in the processor's cache: each byte crosses its memory as seldom as can be. Never by mapping
    the file, which would end the process if the file were cut short meanwhile.

    Raises:
        ModelProblem: the file ended early, or a weight is not a finite number; names file and tensor.
    """
    staging = torch.empty(_CHUNK_BYTES, dtype=torch.uint8)
    with source.path.open("rb", buffering=0) as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        for reading in source.readings:
            scale = None if reading.scale is None else read_tensor(source.path, reading.scale)
            file.seek(start + reading.info.begin)
            if scale is not None or reading.is_transposed or reading.place.is_channels_last:
                staging = _read_turned(file, block, reading, source, staging, scale)
            else:
                _read_straight(file, block, reading, source, staging[:_CHUNK_BYTES])
            yield reading.info.end - reading.info.begin


def _read_straight(file: Any, block: WeightBuffer, reading: Reading, source: Source, staging: Tensor) -> None:
    """A tensor whose numbers lie in the file's order."""
    place, size = reading.place, reading.info.end - reading.info.begin
    flat = block.segments[place.segment][place.offset : place.offset + place.size]
    theirs = DTYPES[reading.info.dtype]
    is_same = theirs == place.dtype
    for at in range(0, size, _CHUNK_BYTES):
        end = min(at + _CHUNK_BYTES, size)
        ours = flat[at // theirs.itemsize * place.dtype.itemsize : end // theirs.itemsize * place.dtype.itemsize]
        _read(file, ours if is_same else staging[: end - at], source.label)
        part = ours.view(place.dtype)
        if not is_same:
            part.copy_(staging[: end - at].view(theirs))
        _take_in(part, block, place, source)


def _read_turned(
    file: Any, block: WeightBuffer, reading: Reading, source: Source, staging: Tensor, scale: Tensor | None
) -> Tensor:
    """A tensor that lies in another order, or is scaled; returns the staging memory, made larger if it had to be."""
    place, size = reading.place, reading.info.end - reading.info.begin
    staging = staging if staging.numel() >= size else torch.empty(size, dtype=torch.uint8)
    _read(file, staging[:size], source.label)
    found = scaled(staging[:size].view(DTYPES[reading.info.dtype]).view(reading.info.shape), scale)
    target = block.tensor(place)
    target.copy_(found.t() if reading.is_transposed else found.view(place.shape))
    _take_in(target, block, place, source)
    return staging


def scaled(weight: Tensor, scale: Tensor | None) -> Tensor:
    """A weight as it is meant: multiplied in float32 by its scale; itself where it has none.

    A scale is one number, or one per row.
    """
    if scale is None:
        return weight
    return weight.float() * scale.float().reshape(-1, *[1] * (weight.dim() - 1))


def read_tensor(path: Path, info: TensorInfo) -> Tensor:
    """One tensor of a file, as its dtype and shape are there.

    Raises:
        ModelProblem: the file ended early.
    """
    found = torch.empty(info.end - info.begin, dtype=torch.uint8)
    with path.open("rb", buffering=0) as file:
        file.seek(8 + int.from_bytes(file.read(8), "little") + info.begin)
        _read(file, found, path.name)
    return found.view(DTYPES[info.dtype]).view(info.shape)


def _read(file: Any, target: Tensor, label: str) -> None:
    room = memoryview(target.numpy())
    while room:
        count = file.readinto(room)
        if not count:
            raise ModelProblem(f"{label} ended early while it was read.", "Download or copy it again.")
        room = room[count:]


def _take_in(tensor: Tensor, block: WeightBuffer, place: TensorSpec, source: Source) -> None:
    """Refuse what is not finite, and add to what tells the block's weights from others'."""
    if not tensor.is_floating_point():
        return
    # One pass without a temporary; a finite sum has only finite terms.
    total = float(tensor.sum(dtype=torch.float32))
    if not math.isfinite(total) and not tensor.isfinite().all():
        raise ModelProblem(
            f"{source.label}: “{place.name}” holds NaN or infinity.",
            "The file is damaged or was trained badly. Use another version.",
        )
    block.sums[place] = block.sums.get(place, 0.0) + total
