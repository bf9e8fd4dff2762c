"""GGUF files as ComfyUI-GGUF and llama.cpp write them, by the library gguf; beside each, what its numbers stand for.

`write_gguf(tensors, file, "Q4_K")`. The library packs only the older types: of the others blocks are drawn at random.
Their numbers are expanded by the library, apart from the engine's way.
"""

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

_SMALLEST = 512  # numbers of a tensor that is packed
_ROW = 256
_SCALES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,)}
_SCALES["IQ4_XS"] = (0,)
_PACKED_BY_LIBRARY = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")


def write_gguf(
    tensors: Mapping[str, Tensor],
    file: Path,
    packing: str,
    *,
    architecture: str = "sd3",
    names: Mapping[str, str] | None = None,
    plain: tuple[str, ...] = ("pos_embed",),
) -> Path:
    """Write the tensors; returns a safetensors file of what they stand for, in float32.

    Args:
        packing: Of tensors that are large enough and no vectors; others are float32, kernels of the first layer too.
        names: What some tensors are called in the file, where that is not the name that the engine asks for.
        plain: Tensors that are float32 too.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(file, architecture)
    meant: dict[str, Tensor] = {}
    kind = gguf.GGMLQuantizationType[packing]
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    for name, tensor in tensors.items():
        called = (names or {}).get(name, name)
        numbers = tensor.detach().float().numpy()
        is_plain = tensor.dim() < 2 or tensor.numel() < _SMALLEST or name in plain or tensor.numel() % max(block, 1)
        if is_plain:
            writer.add_tensor(called, np.ascontiguousarray(numbers))
            meant[name] = torch.from_numpy(numbers.copy())
            continue
        if numbers.shape[-1] % block or numbers.ndim > 2:
            writer.add_array(f"comfy.gguf.orig_shape.{called}", [int(side) for side in tensor.shape])
            numbers = numbers.reshape(-1, _ROW if tensor.numel() % _ROW == 0 else block)
        packed = pack(numbers, packing)
        writer.add_tensor(called, packed, raw_dtype=kind)
        meant[name] = torch.from_numpy(gguf.quants.dequantize(packed, kind).copy()).reshape(tensor.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    target = file.with_suffix(".meant.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in meant.items()}, target)
    return target


def pack(numbers: np.ndarray, packing: str) -> np.ndarray:
    """Rows of float32 -> rows of bytes: nearby numbers, or (where the library packs none) random ones as small."""
    kind = gguf.GGMLQuantizationType[packing]
    if packing in _PACKED_BY_LIBRARY:
        packed: np.ndarray = gguf.quants.quantize(np.ascontiguousarray(numbers), kind)
        return packed
    block, size = gguf.GGML_QUANT_SIZES[kind]
    drawn = np.random.default_rng(numbers.size)
    blocks = drawn.integers(0, 256, (numbers.size // block, size), dtype=np.uint8)
    for place in _SCALES[packing]:
        blocks[:, place : place + 2] = drawn.uniform(1e-5, 2e-5, len(blocks)).astype(np.float16)[:, None].view(np.uint8)
    return blocks.reshape(numbers.shape[0], -1)
