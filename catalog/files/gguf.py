"""Reads the header of a GGUF file and nothing else: what its tensors are called, how they are packed, where they lie.

Every count and length is checked against what is left of the file before anything is made of it. Source: ggml's
`docs/gguf.md`; `comfy.gguf.orig_shape` is ComfyUI-GGUF's, whose tensors are reshaped to rows of whole blocks. Which
packings are expanded, `engine/weights/packings.py` knows.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import BinaryIO, NamedTuple

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MOST_HEADER_BYTES = 24_000_000  # with the vocabulary of a language model
_MOST_TENSORS = 20_000
_MOST_ENTRIES = 4_096
_MOST_STRINGS = 400_000  # of one list
_MOST_TEXT_BYTES = 1_000_000
_MOST_SIDES = 8
_ALIGNMENT = 32
_MOST_ALIGNMENT = 65_536
_STRING, _LIST = 8, 9
# Numbers in entries: type -> struct's letter.
_NUMBERS: Mapping[int, str] = MappingProxyType(
    dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
)
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."


class Packing(NamedTuple):
    """So many numbers in so many bytes, one block after another."""

    numbers: int
    size: int


# ggml's types, by their number in the file. Types that safetensors has too go by its names.
_TYPES: Mapping[int, tuple[str, Packing]] = MappingProxyType(
    {
        0: ("F32", Packing(1, 4)),
        1: ("F16", Packing(1, 2)),
        2: ("Q4_0", Packing(32, 18)),
        3: ("Q4_1", Packing(32, 20)),
        6: ("Q5_0", Packing(32, 22)),
        7: ("Q5_1", Packing(32, 24)),
        8: ("Q8_0", Packing(32, 34)),
        10: ("Q2_K", Packing(256, 84)),
        11: ("Q3_K", Packing(256, 110)),
        12: ("Q4_K", Packing(256, 144)),
        13: ("Q5_K", Packing(256, 176)),
        14: ("Q6_K", Packing(256, 210)),
        16: ("IQ2_XXS", Packing(256, 66)),
        17: ("IQ2_XS", Packing(256, 74)),
        18: ("IQ3_XXS", Packing(256, 98)),
        19: ("IQ1_S", Packing(256, 50)),
        20: ("IQ4_NL", Packing(32, 18)),
        21: ("IQ3_S", Packing(256, 110)),
        22: ("IQ2_S", Packing(256, 82)),
        23: ("IQ4_XS", Packing(256, 136)),
        24: ("I8", Packing(1, 1)),
        25: ("I16", Packing(1, 2)),
        26: ("I32", Packing(1, 4)),
        27: ("I64", Packing(1, 8)),
        28: ("F64", Packing(1, 8)),
        29: ("IQ1_M", Packing(256, 56)),
        30: ("BF16", Packing(1, 2)),
        34: ("TQ1_0", Packing(256, 54)),
        35: ("TQ2_0", Packing(256, 66)),
        39: ("MXFP4", Packing(32, 17)),
    }
)
PACKINGS: Mapping[str, Packing] = MappingProxyType(dict(_TYPES.values()))
# llama.cpp's names of T5's modules -> T5's own.
_T5_MODULES: Mapping[str, str] = MappingProxyType(
    {
        "attn_q": "layer.0.SelfAttention.q",
        "attn_k": "layer.0.SelfAttention.k",
        "attn_v": "layer.0.SelfAttention.v",
        "attn_o": "layer.0.SelfAttention.o",
        "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
        "attn_norm": "layer.0.layer_norm",
        "ffn_gate": "layer.1.DenseReluDense.wi_0",
        "ffn_up": "layer.1.DenseReluDense.wi_1",
        "ffn_down": "layer.1.DenseReluDense.wo",
        "ffn_norm": "layer.1.layer_norm",
    }
)
_FIRST_OF_XL, _SECOND_OF_XL = "cond_stage_model.", "cond_stage_model.1."
_T5_ENDS: Mapping[str, str] = MappingProxyType(
    {"token_embd.weight": "shared.weight", "enc.output_norm.weight": "encoder.final_layer_norm.weight"}
)


class NotReadable(Exception):
    """What is wrong with a file, as the end of a sentence that begins with its name."""

    def __init__(self, cause: str, *, is_cut_off: bool = False) -> None:
        super().__init__(cause)
        self.cause, self.is_cut_off = cause, is_cut_off


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """dtype as ggml or safetensors spells it, shape as torch has it, and [begin, end) in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class _Reader:
    """Numbers and texts of a header, one after another; refuses to read past its end."""

    def __init__(self, file: BinaryIO, file_size: int) -> None:
        self._file, self._left = file, min(file_size, _MOST_HEADER_BYTES) - len(MAGIC)
        self._is_whole = file_size <= _MOST_HEADER_BYTES
        file.seek(len(MAGIC))

    def take(self, size: int) -> bytes:
        if size > self._left:
            if self._is_whole:
                raise NotReadable("is cut off inside its header", is_cut_off=True)
            raise NotReadable("has a header that is too large")
        self._left -= size
        found = self._file.read(size)
        if len(found) < size:
            raise NotReadable("is cut off inside its header", is_cut_off=True)
        return found

    def number(self, letter: str) -> int:
        (found,) = struct.unpack(f"<{letter}", self.take(struct.calcsize(f"<{letter}")))
        return found if isinstance(found, int) else 0

    def text(self) -> str:
        size = self.number("Q")
        if size > _MOST_TEXT_BYTES:
            raise NotReadable("has a header that can't be read")
        return self.take(size).decode("utf-8", "replace")

    def value(self) -> str | int | tuple[int, ...] | None:
        """One entry's; None for lists that no one asks for."""
        kind = self.number("I")
        if kind == _STRING:
            return self.text()
        if kind != _LIST:
            if kind not in _NUMBERS:
                raise NotReadable("has a header that can't be read")
            return self.number(_NUMBERS[kind])
        inner, count = self.number("I"), self.number("Q")
        if inner == _STRING and count <= _MOST_STRINGS:
            for _ in range(count):
                self.take(self.number("Q"))
            return None
        if inner not in _NUMBERS:
            raise NotReadable("has a header that can't be read")
        if count <= _MOST_SIDES:
            return tuple(self.number(_NUMBERS[inner]) for _ in range(count))
        self.take(count * struct.calcsize(f"<{_NUMBERS[inner]}"))
        return None

    @property
    def position(self) -> int:
        return self._file.tell()


def read_gguf(file: BinaryIO, file_size: int) -> tuple[dict[str, GgufTensor], dict[str, str]]:
    """The tensors of a file, and what its maker says of it: never trusted, only shown.

    Args:
        file: That begins with `MAGIC`.
    Raises:
        NotReadable: says why.
        OSError: the system refused.
    """
    reader = _Reader(file, file_size)
    version = reader.number("I")
    if version not in _VERSIONS:
        raise NotReadable(
            "is GGUF of a version that is not known" if version < 2**16 else "is GGUF of big-endian machines"
        )
    count, entries = reader.number("Q"), reader.number("Q")
    if not count:
        raise NotReadable("holds no tensors")
    if count > _MOST_TENSORS:
        raise NotReadable(f"names {count:,} tensors; at most {_MOST_TENSORS:,} are read")
    if entries > _MOST_ENTRIES + count:
        raise NotReadable("has a header that can't be read")
    values = {reader.text(): reader.value() for _ in range(entries)}
    described: dict[str, tuple[tuple[int, ...], int, int]] = {}
    for _ in range(count):
        name = reader.text()
        sides = reader.number("I")
        if name in described:
            raise NotReadable(f"names the tensor “{name[:80]}” twice")
        if sides > _MOST_SIDES:
            raise NotReadable(f"describes the tensor “{name[:80]}” in a way that can't be read")
        shape = tuple(reader.number("Q") for _ in range(sides))[::-1]  # the fastest side comes first in the file
        described[name] = shape, reader.number("I"), reader.number("Q")
    alignment = values.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= _MOST_ALIGNMENT:
        raise NotReadable("has a header that can't be read")
    start = -(-reader.position // alignment) * alignment
    is_xl = any(name.startswith(_SECOND_OF_XL) for name in described)
    tensors: dict[str, GgufTensor] = {}
    for name, (shape, type_number, offset) in described.items():
        original = values.get(_ORIGINAL_SHAPE + name)
        tensors[_own_name(name, is_xl=is_xl)] = _tensor(name, shape, type_number, start + offset, original)
    _check_places(tensors, start, alignment, file_size)
    return tensors, {name: value for name, value in values.items() if isinstance(value, str)}


def _tensor(name: str, shape: tuple[int, ...], type_number: int, begin: int, original: object) -> GgufTensor:
    if type_number not in _TYPES:
        raise NotReadable(f"keeps the tensor “{name[:80]}” in a way that is not known (type {type_number})")
    dtype, packing = _TYPES[type_number]
    count = math.prod(shape)
    if count > 2**50 or (shape and shape[-1] % packing.numbers):
        raise NotReadable(f"gives the tensor “{name[:80]}” a shape that can't be")
    if isinstance(original, tuple) and original:
        if math.prod(original) != count or min(original) < 0:
            raise NotReadable(f"gives the tensor “{name[:80]}” two shapes that differ in size")
        shape = original
    return GgufTensor(dtype, shape, begin, begin + count // packing.numbers * packing.size)


def _check_places(tensors: Mapping[str, GgufTensor], start: int, alignment: int, file_size: int) -> None:
    """Every byte belongs to one tensor, or fills up to the next multiple of the alignment."""
    position = start
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != -(-position // alignment) * alignment:
            raise NotReadable("has a gap or an overlap between its tensors")
        position = tensor.end
    if position > file_size:
        raise NotReadable(f"is cut off: {position - file_size:,} bytes are missing", is_cut_off=True)
    if file_size - position >= alignment:
        raise NotReadable(f"has {file_size - position:,} bytes more than its header says", is_cut_off=True)


def _own_name(name: str, *, is_xl: bool) -> str:
    """llama.cpp's name of a tensor of T5's encoder as T5's own, stable-diffusion.cpp's of SDXL's encoders as SDXL's.

    Others are in their models' own names.
    """
    if is_xl and name.startswith(_FIRST_OF_XL):
        if name.startswith(_SECOND_OF_XL):
            return f"conditioner.embedders.1.{name.removeprefix(_SECOND_OF_XL)}"
        return f"conditioner.embedders.0.{name.removeprefix(_FIRST_OF_XL)}"
    if name in _T5_ENDS:
        return _T5_ENDS[name]
    steps = name.split(".")
    if len(steps) == 5 and steps[:2] == ["enc", "blk"] and steps[3] in _T5_MODULES:
        return f"encoder.block.{steps[2]}.{_T5_MODULES[steps[3]]}.{steps[4]}"
    return name
