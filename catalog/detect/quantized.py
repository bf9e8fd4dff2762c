"""Weights kept in fewer bits: which of a file's tensors only say how to read others, and what can't be read.

What can: 8-bit floats, with or without a scale beside them, one for a tensor or one for each of its rows, as ComfyUI
writes them (`scale_weight`, with a tensor `scaled_fp8` as a mark; later `weight_scale` with `comfy_quant`), most
types of GGUF, and what bitsandbytes writes. `engine/weights/` reads them. Every other way is named by the tensors it
leaves.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from catalog.files.bitsandbytes import EIGHT_BITS, FOUR_BITS
from catalog.files.gguf import PACKINGS
from catalog.files.headers import TensorInfo
from catalog.files.tensor_names import Tensors

_WEIGHT = ".weight"
_SCALES = (".scale_weight", ".weight_scale")  # of a layer, beside its weight
# With the scales of inputs, for arithmetic in 8 bits, which is not done here; and marks.
_COMPANIONS = frozenset({"scale_weight", "weight_scale", "scale_input", "input_scale", "scaled_fp8", "comfy_quant"})
# Beside weights that bitsandbytes quantized.
_OF_BITSANDBYTES = frozenset(
    {
        "absmax",
        "quant_map",
        "nested_absmax",
        "nested_quant_map",
        "bitsandbytes__nf4",
        "bitsandbytes__fp4",
        "SCB",
        "weight_format",
    }
)
_FLOATS = frozenset({"F8_E4M3", "F8_E5M2", "F16", "BF16", "F32"})
_READ = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
# Types of GGUF that `engine/weights/packed.py` expands.
READ_PACKINGS = frozenset(
    {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"}
)
# The last step of a tensor's name -> who quantized it. The first that is there counts.
_OTHERS: Mapping[str, str] = MappingProxyType(
    {
        "wscales": "SVDQuant (Nunchaku)",
        "smooth_factor": "SVDQuant (Nunchaku)",
        "wcscales": "SVDQuant (Nunchaku)",
        "g_idx": "GPTQ",
        "qzeros": "AWQ",
        "qweight": "GPTQ or AWQ",
        "W_q": "HQQ",
        "_data": "quantized by quanto",
        "weight_scale_2": "NVFP4",
        "weight_scale_inv": "8-bit floats scaled in blocks",
        "weight_packed": "compressed-tensors",
    }
)
_UNREAD_PACKINGS = frozenset(name for name, packing in PACKINGS.items() if packing.numbers > 1) - READ_PACKINGS
_DTYPES: Mapping[str, str] = MappingProxyType(
    {
        "F4": "4-bit floats",
        "F6_E2M3": "6-bit floats",
        "F6_E3M2": "6-bit floats",
        "F8_E4M3FNUZ": "8-bit floats of AMD's kind",
        "F8_E5M2FNUZ": "8-bit floats of AMD's kind",
        "F8_E8M0": "floats scaled in blocks (MX)",
    }
)


def scale_of(weight: str, tensors: Tensors) -> TensorInfo | None:
    """The tensor that a weight is to be multiplied by; None where it stands for itself."""
    if not weight.endswith(_WEIGHT):
        return None
    layer = weight.removesuffix(_WEIGHT)
    for ending in _SCALES:
        if layer + ending in tensors:
            return tensors[layer + ending]
    return None


def companions(tensors: Iterable[str]) -> frozenset[str]:
    """The tensors of a file that are no weights, but say how others are to be read."""
    names = frozenset(tensors)
    found = set()
    for name in names:
        layer, _, last = name.rpartition(".")
        is_scale = f".{last}" in _SCALES
        if last in _COMPANIONS and (not is_scale or layer + _WEIGHT in names):
            found.add(name)
        if last in _OF_BITSANDBYTES:
            found.add(name)
    return frozenset(found)


def without_companions(tensors: Tensors) -> Tensors:
    """A file's weights alone."""
    left_out = companions(tensors)
    if not left_out:
        return tensors
    return {name: info for name, info in tensors.items() if name not in left_out}


def other_quantization(tensors: Tensors) -> str:
    """The name of a quantization that can't be read here; "" for weights that can."""
    last_parts = {name.rpartition(".")[2] for name in tensors}
    kinds = {info.dtype.partition(":")[0] for info in tensors.values() if ":" in info.dtype}
    if {"absmax", "quant_map"} & last_parts and not kinds & set(FOUR_BITS):
        return "4-bit (bitsandbytes)"
    if "SCB" in last_parts and EIGHT_BITS not in kinds:
        return "8-bit integers (bitsandbytes)"
    for last, label in _OTHERS.items():
        if last in last_parts:
            return label
    is_scaled = any(ending[1:] in last_parts for ending in _SCALES)
    for name, info in tensors.items():
        if info.dtype in _DTYPES:
            return _DTYPES[info.dtype]
        if info.dtype in _UNREAD_PACKINGS:
            return f"{info.dtype} (GGUF)"
        scale = scale_of(name, tensors) if is_scaled else None
        if scale is None:
            continue
        if info.dtype not in _FLOATS:
            return "8-bit integers" if info.dtype == "I8" else "quantized in blocks"
        if scale.dtype not in _READ or not scales_rows(scale.shape, info.shape):
            return "8-bit floats scaled in blocks"
    return ""


def scales_rows(scale: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    """Whether a scale is one number, or one for each row of a weight."""
    numbers = 1
    for side in scale:
        numbers *= side
    if numbers == 1:
        return True
    return bool(weight) and numbers == weight[0] and bool(scale) and scale[0] == numbers
