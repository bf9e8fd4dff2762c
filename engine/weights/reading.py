"""From a weights file into a weight buffer: names matched, shapes checked, bytes read into place, numbers checked.

A file may have its own names, keep several tensors as one, or have them transposed: a `TensorSlice` says so. Which
slices a model's file has is `checkpoints/key_maps.py`; the buffer is `weight_buffer.py`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path

import torch
from torch import Tensor

from catalog.detect.quantized import companions, scale_of, scales_rows
from catalog.files.headers import TensorInfo, read_header
from contract.errors import ModelProblem
from engine.weights.bitsandbytes import Companions, Unusable, arranged
from engine.weights.packed import expanded, fills_blocks, is_finite, is_packed
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
_ONE_NUMBER_BYTES = 8  # a LoRA's alpha may be an integer, weights never are
_OTHER_CONFIG = "Use the config.json that came with it."
_OTHER_KIND = "It is damaged, or of a kind that Darkroom does not know."
# The names that older versions of diffusers gave to a VAE's attention.
_OLD_VAE_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@dataclass(frozen=True, slots=True)
class TensorSlice:
    """Where a tensor is in a file that has names and an order of its own.

    Attributes:
        name: The tensor's name in the file.
        share: (index, count): which of so many equal shares of its rows. q, k and v are often one tensor.
        is_transposed: The file's rows are the tensor's columns.
        is_swapped: The two halves of its rows change places.
    """

    name: str
    share: tuple[int, int] = (0, 1)
    is_transposed: bool = False
    is_swapped: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it is the file's tensor as it is."""
        return self.share[1] == 1 and not self.is_transposed and not self.is_swapped

    def arranged(self, tensor: Tensor) -> Tensor:
        """A share of the file's tensor as the module has it, and the other way round."""
        if self.is_swapped:
            return torch.cat(tensor.chunk(2)[::-1])
        return tensor.t() if self.is_transposed else tensor

    def of(self, tensor: Tensor) -> Tensor:
        """Its share of the file's whole tensor, as the module has it; all of it where rows can't be divided so."""
        index, count = self.share
        return self.arranged(tensor if tensor.shape[0] % count else tensor.chunk(count)[index])

    def cut(self, info: TensorInfo) -> TensorInfo:
        """The share of the file's tensor; all of it where its rows can't be divided so."""
        index, count = self.share
        if count == 1 or not info.shape or info.shape[0] % count:
            return info
        size = (info.end - info.begin) // count
        begin = info.begin + index * size
        return TensorInfo(info.dtype, (info.shape[0] // count, *info.shape[1:]), begin, begin + size)

    def cut_scale(self, scale: TensorInfo | None) -> TensorInfo | None:
        """The same of the tensor's scale: one number for all shares, or one for each row."""
        if scale is None or scale.shape[:1] in ((), (1,)):
            return scale
        return self.cut(scale)


@dataclass(frozen=True, slots=True)
class Reading:
    """One tensor to read: its bytes in the file, its spec in the buffer.

    Attributes:
        slice: Where it is in the file, and how it is arranged there.
        scale: What its numbers are to be multiplied by (`catalog/detect/quantized.py`): one number, or one a row.
        beside: What bitsandbytes keeps beside it.
    """

    info: TensorInfo
    spec: TensorSpec
    slice: TensorSlice
    scale: TensorInfo | None = None
    beside: Companions | None = None

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.info.end - self.info.begin


@dataclass(frozen=True, slots=True)
class Source:
    """A weights file whose header fits the layout: which tensor goes where, in file order."""

    path: Path
    label: str  # "unet/diffusion_pytorch_model.safetensors", for error messages
    readings: tuple[Reading, ...]

    @property
    def size(self) -> int:
        """Bytes to read."""
        return sum(reading.size for reading in self.readings)


def match(
    files: Sequence[Path], component: str, layout: Layout, slices: Mapping[str, TensorSlice] | None = None
) -> tuple[Source, ...]:
    """Check names and shapes of a component's files against the layout; reads only headers.

    Args:
        files: One, or several that share the tensors among them.
        slices: Of a file with names of its own: each tensor of this component, by the layout's name. What else is
            in the file belongs to other components. Without it the whole files are this component.
    Raises:
        ModelProblem: a tensor is missing, left over or of another shape; names file and tensor.
    """
    headers: dict[Path, Mapping[str, TensorInfo]] = {}
    readings: dict[Path, list[Reading]] = {}
    file_of: dict[str, Path] = {}
    for file in files:
        headers[file] = read_header(file)
        readings[file] = []
        file_of.update(dict.fromkeys(headers[file], file))
    if slices is None:
        label = f"{component}/{files[0].name}"
        left = {name: TensorSlice(name) for name in file_of.keys() - companions(file_of)}
    else:
        label = f"{files[0].name} ({component})"
        left = dict(slices)
    for spec in layout.specs:
        if spec.component != component:
            continue
        found = next((name for name in spellings(spec.name) if name in left), None)
        if found is None:
            raise ModelProblem(
                f"{label} lacks the tensor “{spec.name}”.",
                "It is cut short or belongs to another model. Download it again.",
            )
        tensor_slice = left.pop(found)
        file = file_of[tensor_slice.name]
        readings[file].append(_plan_reading(label, tensor_slice, headers[file], spec))
    unknown = sorted(rest.name for name, rest in left.items() if not name.endswith("position_ids"))
    if unknown:
        raise ModelProblem(
            f"{label} has a tensor “{unknown[0][:80]}” (of {len(unknown)}) that its configuration does not know.",
            _OTHER_CONFIG if slices is None else _OTHER_KIND,
        )
    sources = []
    for file, of_file in readings.items():
        file_label = label if len(files) == 1 else f"{component}/{file.name}"
        of_file.sort(key=lambda reading: reading.info.begin)
        sources.append(Source(file, file_label, tuple(of_file)))
    return tuple(sources)


def _plan_reading(label: str, tensor_slice: TensorSlice, header: Mapping[str, TensorInfo], spec: TensorSpec) -> Reading:
    """One tensor's reading, its shape, dtype and scale checked."""
    info = tensor_slice.cut(header[tensor_slice.name])
    shape = info.shape[::-1] if tensor_slice.is_transposed else info.shape
    # A 1×1 convolution and a linear layer hold the same numbers in the same order.
    if shape != spec.shape and _matrix_shape(shape) != _matrix_shape(spec.shape):
        found, wanted = shape_text(info.shape), shape_text(spec.shape)
        raise ModelProblem(
            f"{label}: “{tensor_slice.name}” has the shape {found}; its configuration asks for {wanted}.",
            _OTHER_CONFIG if label.startswith(f"{spec.component}/") else _OTHER_KIND,
        )
    if is_packed(info.dtype) and not fills_blocks(info.dtype, info.shape):
        raise ModelProblem(
            f"{label}: a block of “{tensor_slice.name}” belongs to two layers.", "Use another version of the model."
        )
    if spec.packing and spec.packing != info.dtype:
        raise ModelProblem(f"{label} changed on the disk since it was chosen.", "Choose it again.")
    is_weight = _is_float(info) or (info.dtype in DTYPES and info.end - info.begin <= _ONE_NUMBER_BYTES)
    if not is_weight:
        raise ModelProblem(
            f"{label}: “{tensor_slice.name}” holds {info.dtype} numbers, not weights.",
            "Use an fp32, fp16 or bf16 version of the model.",
        )
    scale = tensor_slice.cut_scale(scale_of(tensor_slice.name, header))
    if scale is not None and not (_is_float(scale) and scales_rows(scale.shape, info.shape)):
        raise ModelProblem(
            f"{label}: the scale of “{tensor_slice.name}” is {scale.dtype} {shape_text(scale.shape)}, "
            "which is not read here.",
            "Use an fp16 or bf16 version of the model.",
        )
    return Reading(info, spec, tensor_slice, scale, Companions.of(tensor_slice.name, info.dtype, header))


def _is_float(info: TensorInfo) -> bool:
    return is_packed(info.dtype) or (info.dtype in DTYPES and DTYPES[info.dtype].is_floating_point)


def _matrix_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without trailing sides of 1."""
    return shape[:2] if all(side == 1 for side in shape[2:]) else shape


def shape_text(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a single number"


def spellings(name: str) -> Iterator[str]:
    """Names a tensor may have in a file: transformers 5 dropped `text_model.`, diffusers renamed."""
    yield name
    if name.startswith("text_model."):
        yield name.removeprefix("text_model.")
    else:
        yield f"text_model.{name}"
    for new, old in _OLD_VAE_NAMES.items():
        if f".attentions.0.{new}." in name:
            yield name.replace(new, old)


def fill(buffer: WeightBuffer, source: Source) -> Iterator[int]:
    """Read a file into a weight buffer, cast to the run dtype; yields the bytes of each tensor read.

    Reads in chunks that stay in the processor's cache, so that bytes cross its memory as seldom as possible. Never
    maps the file: the process would die if the file were cut short meanwhile.

    Raises:
        ModelProblem: the file ended early, or a weight is not a finite number; names file and tensor.
    """
    staging = torch.empty(_CHUNK_BYTES, dtype=torch.uint8)
    with source.path.open("rb", buffering=0) as file:
        for reading in source.readings:
            scale = None if reading.scale is None else read_tensor(source.path, reading.scale)
            file.seek(reading.info.begin)
            is_moved = reading.slice.is_transposed or reading.slice.is_swapped
            if reading.spec.packing:
                _read_packed(file, buffer, reading, source)
            elif scale is not None or is_moved or reading.spec.is_channels_last or is_packed(reading.info.dtype):
                if staging.numel() < reading.size:
                    staging = torch.empty(reading.size, dtype=torch.uint8)
                raw = staging[: reading.size]
                _read_exactly(file, raw, source.label)
                found = scaled(_numbers(_arranged(raw, reading, source), reading.info), scale)
                target = buffer.tensor(reading.spec)
                target.copy_(reading.slice.arranged(found).reshape(reading.spec.shape))
                _check_and_add(target, buffer, reading.spec, source)
            else:
                _read_in_order(file, buffer, reading, source, staging[:_CHUNK_BYTES])
            yield reading.size


def _read_packed(file: FileIO, buffer: WeightBuffer, reading: Reading, source: Source) -> None:
    """Read the bytes of a tensor that stays packed."""
    spec, target = reading.spec, buffer.tensor(reading.spec)
    if reading.beside is None:
        _read_exactly(file, target, source.label)
    else:
        raw = torch.empty(reading.size, dtype=torch.uint8)
        _read_exactly(file, raw, source.label)
        target.copy_(_arranged(raw, reading, source))
    if not is_finite(target, spec.packing):
        raise _not_finite(source.label, spec.name)
    buffer.sums[spec] = float(target.sum(dtype=torch.int64))


def _arranged(raw: Tensor, reading: Reading, source: Source) -> Tensor:
    """A packed tensor's bytes as they are expanded; those of bitsandbytes with their scales.

    Raises:
        ModelProblem: what is beside it doesn't fit it.
    """
    if reading.beside is None:
        return raw
    try:
        return arranged(raw, reading.info.dtype, reading.slice.share, reading.beside, partial(read_tensor, source.path))
    except Unusable as problem:
        raise ModelProblem(
            f"{source.label}: “{reading.spec.name}” {problem}.", "Use another version of the model."
        ) from None


def _read_in_order(file: FileIO, buffer: WeightBuffer, reading: Reading, source: Source, staging: Tensor) -> None:
    """Read a tensor whose numbers are in the file's order, chunk by chunk."""
    spec = reading.spec
    flat = buffer.segments[spec.segment][spec.offset : spec.offset + spec.size]
    file_dtype = DTYPES[reading.info.dtype]
    for begin in range(0, reading.size, _CHUNK_BYTES):
        end = min(begin + _CHUNK_BYTES, reading.size)
        first = begin // file_dtype.itemsize * spec.dtype.itemsize
        last = end // file_dtype.itemsize * spec.dtype.itemsize
        chunk = flat[first:last].view(spec.dtype)
        if file_dtype == spec.dtype:
            _read_exactly(file, flat[first:last], source.label)
        else:
            _read_exactly(file, staging[: end - begin], source.label)
            chunk.copy_(staging[: end - begin].view(file_dtype))
        _check_and_add(chunk, buffer, spec, source)


def scaled(weight: Tensor, scale: Tensor | None) -> Tensor:
    """A weight multiplied in float32 by its scale, one number or one a row; itself where it has none."""
    if scale is None:
        return weight
    return weight.float() * scale.float().reshape(-1, *[1] * (weight.dim() - 1))


def read_tensor(path: Path, info: TensorInfo) -> Tensor:
    """One tensor of a file, with its dtype and shape there; of a packed one its numbers, in float32.

    Raises:
        ModelProblem: the file ended early, or it needs what is beside it.
    """
    if ":" in info.dtype:
        raise ModelProblem(
            f"{path.name} is quantized by bitsandbytes, so it can't be merged.", "Use a version in half precision."
        )
    found = torch.empty(info.end - info.begin, dtype=torch.uint8)
    with path.open("rb", buffering=0) as file:
        file.seek(info.begin)
        _read_exactly(file, found, path.name)
    return _numbers(found, info)


def _numbers(raw: Tensor, info: TensorInfo) -> Tensor:
    """The numbers of a tensor, of its bytes."""
    if is_packed(info.dtype):
        return expanded(raw, info.dtype, info.shape)
    return raw.view(DTYPES[info.dtype]).view(info.shape)


def _read_exactly(file: FileIO, target: Tensor, label: str) -> None:
    left = memoryview(target.numpy().data)
    while left:
        count = file.readinto(left)
        if not count:
            raise ModelProblem(f"{label} ended early while it was read.", "Download or copy it again.")
        left = left[count:]


def _check_and_add(tensor: Tensor, buffer: WeightBuffer, spec: TensorSpec, source: Source) -> None:
    """Refuse what is not finite, and add to the sums that identify the weights."""
    if not tensor.is_floating_point():
        return
    # One pass without a temporary; a finite sum has only finite terms.
    total = float(tensor.sum(dtype=torch.float32))
    if not math.isfinite(total) and not tensor.isfinite().all():
        raise _not_finite(source.label, spec.name)
    buffer.sums[spec] = buffer.sums.get(spec, 0.0) + total


def _not_finite(label: str, name: str) -> ModelProblem:
    return ModelProblem(
        f"{label}: “{name}” holds NaN or infinity.", "The file is damaged or was trained badly. Use another version."
    )
