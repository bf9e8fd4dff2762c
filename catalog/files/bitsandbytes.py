"""Weights that bitsandbytes quantized, by the small tensors it keeps beside each: what a header alone doesn't show.

Of 4-bit weights the shape and the size of blocks are in a text beside them; of 8-bit integers a scale for each row is.
Source: bitsandbytes' `QuantState.as_dict` and transformers' and diffusers' checkpoints. `engine/weights/` expands them.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from catalog.files.gguf import NotReadable, Packing

if TYPE_CHECKING:
    from catalog.files.headers import TensorInfo

FOUR_BITS = ("NF4", "FP4")
EIGHT_BITS = "INT8"
STATE = ".quant_state.bitsandbytes__"
SCALES = ".SCB"
_WEIGHT = ".weight"
_MOST_STATE_BYTES = 4_096
_BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
_SCALE_BYTES = 4  # float32, before the numbers of a block

Read = Callable[["TensorInfo"], bytes]


def packing_of(dtype: str) -> Packing | None:
    """Of a dtype as `with_packings` gives it, as it is kept in memory: a float32 scale, then a block; else None."""
    kind, _, numbers = dtype.partition(":")
    if not numbers.isdecimal() or not int(numbers):
        return None
    if kind in FOUR_BITS:
        return Packing(int(numbers), _SCALE_BYTES + int(numbers) // 2)
    return Packing(int(numbers), _SCALE_BYTES + int(numbers)) if kind == EIGHT_BITS else None


def with_packings(tensors: Mapping[str, "TensorInfo"], read: Read) -> dict[str, "TensorInfo"]:
    """A file's tensors, of quantized weights with the shape of their numbers and a dtype like "NF4:64".

    Args:
        read: The bytes of a small tensor.
    Raises:
        NotReadable: what a weight's text says is not so.
        OSError: the system refused.
    """
    found = dict(tensors)
    for name, info in tensors.items():
        if STATE in name:
            weight, _, kind = name.partition(STATE)
            found[weight] = _four_bits(
                weight, tensors, kind.upper(), read(info) if info.end - info.begin <= _MOST_STATE_BYTES else b""
            )
        elif name.endswith(SCALES):
            weight = name.removesuffix(SCALES) + _WEIGHT
            of_weight = tensors.get(weight)
            if of_weight is not None and of_weight.dtype == "I8" and len(of_weight.shape) == 2:
                rows, columns = of_weight.shape
                if info.dtype == "F32" and math.prod(info.shape) == rows and columns:
                    found[weight] = replace(of_weight, dtype=f"{EIGHT_BITS}:{columns}")
    return found


def _four_bits(weight: str, tensors: Mapping[str, "TensorInfo"], kind: str, text: bytes) -> "TensorInfo":
    wrong = NotReadable(f"describes the tensor “{weight[:80]}” in a way that can't be read")
    try:
        state = json.loads(text)
        shape, numbers = tuple(state["shape"]), state["blocksize"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise wrong from None
    info = tensors.get(weight)
    sides = all(type(side) is int and side > 0 for side in shape)
    if info is None or kind not in FOUR_BITS or numbers not in _BLOCKS or not sides or not 0 < len(shape) <= 4:
        raise wrong
    if math.prod(shape) != 2 * (info.end - info.begin):
        raise NotReadable(f"gives the tensor “{weight[:80]}” a shape that can't be")
    return replace(info, dtype=f"{kind}:{numbers}", shape=shape)
