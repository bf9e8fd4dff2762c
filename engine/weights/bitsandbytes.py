"""Weights that bitsandbytes quantized, as blocks that each begin with their scale; without that library.

NF4 and FP4: a table of 16 numbers times the block's largest. Dettmers et al. 2023 (QLoRA, arXiv 2305.14314). The scales
may be quantized again, in blocks of 256 with a table of their own and an offset. 8-bit integers: each row has a scale.
Dettmers et al. 2022 (LLM.int8(), arXiv 2208.07339). So arranged they are expanded by `packed.py`, like GGUF's.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from catalog.files.bitsandbytes import EIGHT_BITS, FOUR_BITS, SCALES, STATE
from catalog.files.headers import TensorInfo

ReadTensor = Callable[[TensorInfo], Tensor]
_LARGEST = 127  # of an 8-bit integer, which stands for its row's scale
_TABLE_TOLERANCE = 1e-4
TABLES: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "NF4": (
            -1.0,
            -0.6961928009986877,
            -0.5250730514526367,
            -0.39491748809814453,
            -0.28444138169288635,
            -0.18477343022823334,
            -0.09105003625154495,
            0.0,
            0.07958029955625534,
            0.16093020141124725,
            0.24611230194568634,
            0.33791524171829224,
            0.44070982933044434,
            0.5626170039176941,
            0.7229568362236023,
            1.0,
        ),
        "FP4": tuple(sign * number / 12 for sign in (1, -1) for number in (0, 0.0625, 8, 12, 4, 6, 2, 3)),
    }
)


class Unusable(Exception):
    """Why a weight can't be expanded, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Companions:
    """The tensors beside a quantized weight, by the last part of their names: "absmax", "SCB" and the like."""

    tensors: Mapping[str, TensorInfo]

    @classmethod
    def of(cls, weight: str, dtype: str, header: Mapping[str, TensorInfo]) -> "Companions | None":
        """Those of a weight; None where its dtype needs none."""
        kind = dtype.partition(":")[0]
        if kind == EIGHT_BITS:
            return cls({"SCB": header[weight.removesuffix(".weight") + SCALES]})
        if kind not in FOUR_BITS:
            return None
        names = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
        found = {name: header[f"{weight}.{name}"] for name in names if f"{weight}.{name}" in header}
        return cls({**found, "state": header[f"{weight}{STATE}{kind.lower()}"]})


def arranged(raw: Tensor, dtype: str, share: tuple[int, int], beside: Companions, read: ReadTensor) -> Tensor:
    """A weight's blocks, each with its scale before it, as bytes in one row.

    Args:
        raw: The bytes of the weight's share in the file.
        share: (index, count): which of so many equal shares of its rows it is.
        read: A tensor of the file.
    Raises:
        Unusable: what is beside it doesn't fit it.
    """
    kind, _, numbers = dtype.partition(":")
    size = int(numbers) if kind == EIGHT_BITS else int(numbers) // 2
    blocks = raw.reshape(-1, size)
    index, count = share
    scales = (
        read(beside.tensors["SCB"]).flatten() / _LARGEST if kind == EIGHT_BITS else _four_bit_scales(kind, beside, read)
    )
    if scales.numel() != len(blocks) * count:
        raise Unusable(f"has {scales.numel()} scales for {len(blocks) * count} blocks")
    own = scales.chunk(count)[index].float().contiguous()
    return torch.cat([own.view(torch.uint8).reshape(-1, 4), blocks], dim=1).flatten()


def _four_bit_scales(kind: str, beside: Companions, read: ReadTensor) -> Tensor:
    """The largest number of each block, in float32."""
    tensors = beside.tensors
    if "absmax" not in tensors or "quant_map" not in tensors:
        raise Unusable("has no scales beside it")
    table = read(tensors["quant_map"]).float().flatten()
    ours = torch.tensor(TABLES[kind])
    if table.shape != ours.shape or not torch.allclose(table, ours, rtol=0, atol=_TABLE_TOLERANCE):
        raise Unusable("has a table of numbers of its own")
    scales = read(tensors["absmax"]).flatten()
    if "nested_absmax" not in tensors:
        return scales.float()
    try:
        state = json.loads(bytes(read(tensors["state"]).tolist()))
        numbers, offset = int(state["nested_blocksize"]), float(state["nested_offset"])
        levels = read(tensors["nested_quant_map"]).float().flatten()
        largest = read(tensors["nested_absmax"]).float().flatten().repeat_interleave(numbers)[: scales.numel()]
        return levels[scales.long()] * largest + offset
    except (ValueError, KeyError, TypeError, IndexError, RuntimeError, OverflowError):
        raise Unusable("has scales that can't be read") from None


def expanded_blocks(raw: Tensor, kind: str, numbers: int) -> Tensor:
    """The numbers of `arranged` blocks, (blocks, numbers) in float32, on the device of the bytes."""
    blocks = raw.reshape(-1, 4 + (numbers if kind == EIGHT_BITS else numbers // 2))
    scales = blocks[:, :4].contiguous().view(torch.float32)
    rest = blocks[:, 4:]
    if kind == EIGHT_BITS:
        return rest.view(torch.int8).float() * scales
    table = torch.tensor(TABLES[kind], device=raw.device)
    places = torch.stack([rest >> 4, rest & 15], dim=-1).flatten(1)  # the first of two is in the upper half of a byte
    return table[places.int()] * scales
