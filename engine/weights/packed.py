"""Packed weights: blocks of a few numbers in a few bits each, with scales, expanded as a layer runs.

GGUF's arithmetic is diffusers' (`diffusers.quantizers.gguf`). Which of its types are read, says
`catalog/detect/quantized.py`; how large their blocks are, `catalog/files/gguf.py`. What bitsandbytes wrote is in
`bitsandbytes.py`.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from catalog.detect.quantized import READ_PACKINGS
from catalog.files.bitsandbytes import packing_of as bitsandbytes_packing
from catalog.files.gguf import PACKINGS, Packing
from engine.weights.bitsandbytes import expanded_blocks

_HALF_BYTES = 2
# Where in a block its float16 scales are, in bytes. All else are integers: with finite scales every number is finite.
_SCALES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "Q4_0": (0,),
        "Q4_1": (0, 2),
        "Q5_0": (0,),
        "Q5_1": (0, 2),
        "Q8_0": (0,),
        "Q2_K": (80, 82),
        "Q3_K": (108,),
        "Q4_K": (0, 2),
        "Q5_K": (0, 2),
        "Q6_K": (208,),
        "IQ4_NL": (0,),
        "IQ4_XS": (0,),
    }
)


def packing_of(name: str) -> Packing:
    """Of a header's dtype for which `is_packed` is true."""
    return bitsandbytes_packing(name) or PACKINGS[name]


def is_packed(dtype: str) -> bool:
    """Whether a header's dtype is one of those that are expanded here."""
    return dtype in READ_PACKINGS or bitsandbytes_packing(dtype) is not None


def packed_size(packing: str, shape: tuple[int, ...]) -> int:
    """Bytes in memory of a tensor of this shape, whose numbers make whole blocks."""
    numbers, size = packing_of(packing)
    return math.prod(shape) // numbers * size


def fills_blocks(packing: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor of this shape makes whole blocks: a share of rows may not."""
    return math.prod(shape) % packing_of(packing).numbers == 0


def expanded(raw: Tensor, packing: str, shape: tuple[int, ...]) -> Tensor:
    """The numbers of a packed tensor, in float32 and of this shape, on the device of its bytes.

    Args:
        raw: Its bytes in order, uint8.
    """
    numbers, size = packing_of(packing)
    kind, _, is_bitsandbytes = packing.partition(":")
    if is_bitsandbytes:
        return expanded_blocks(raw, kind, numbers).reshape(shape)
    # Imported here: it brings the library gguf, which nothing else needs.
    from diffusers.quantizers.gguf.utils import dequantize_functions
    from gguf import GGMLQuantizationType

    unpack: Any = dequantize_functions[GGMLQuantizationType[packing]]
    found: Tensor = unpack(raw.reshape(-1, size), numbers, size, torch.float32)
    return found.reshape(shape)


def is_finite(raw: Tensor, packing: str) -> bool:
    """Whether every number of a packed tensor is finite. `raw` as of `expanded`."""
    blocks = raw.reshape(-1, packing_of(packing).size)
    if bitsandbytes_packing(packing):
        return bool(blocks[:, :4].contiguous().view(torch.float32).isfinite().all())
    for place in _SCALES[packing]:
        scales = blocks[:, place : place + _HALF_BYTES].contiguous().view(torch.float16)
        if not scales.isfinite().all():
            return False
    return True
