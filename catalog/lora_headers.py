"""LoRAs and their kin, told by their header: which form, and which family they were made for.

Names come in three ways: kohya's (`lora_unet_…`, `lora_te_…`), diffusers' (`unet.….lora_A.weight`, older ones
`processor.to_q_lora.down.weight`) and peft's (`base_model.model.…`). With dots as underscores all three name the same
modules, which is how they are read here. What each key does to which layer, `engine/` knows.
"""

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from catalog.headers import TensorInfo
from catalog.sniffed import REFUSED_FAMILIES, WIDTHS, Sniffed, refused_family

Tensors = Mapping[str, TensorInfo]
# How the name of a tensor ends -> the form it is of. Only forms' own endings: alpha and bias are in all of them.
_ENDINGS: Mapping[str, str] = MappingProxyType({
    ".lora_down.weight": "LoRA", ".lora_up.weight": "LoRA", ".lora_A.weight": "LoRA", ".lora_B.weight": "LoRA",
    ".lora_A.default.weight": "LoRA", ".lora_B.default.weight": "LoRA", "_lora.down.weight": "LoRA",
    "_lora.up.weight": "LoRA", ".lora.down.weight": "LoRA", ".lora.up.weight": "LoRA",
    ".lora_linear_layer.down.weight": "LoRA", ".lora_linear_layer.up.weight": "LoRA",
    "_lora1.down.weight": "LoRA", "_lora1.up.weight": "LoRA", "_lora2.down.weight": "LoRA", "_lora2.up.weight": "LoRA",
    ".hada_w1_a": "LoHa", ".hada_w1_b": "LoHa", ".hada_w2_a": "LoHa", ".hada_w2_b": "LoHa",
    ".lokr_w1": "LoKr", ".lokr_w1_a": "LoKr", ".lokr_w1_b": "LoKr", ".lokr_w2": "LoKr", ".lokr_w2_a": "LoKr",
    ".lokr_w2_b": "LoKr", ".oft_blocks": "OFT", ".oft_diag": "OFT", ".on_input": "IA3", ".diff": "full difference"})
_MAGNITUDES = (".dora_scale", ".lora_magnitude_vector", ".lora_magnitude_vector.weight",
               ".lora_magnitude_vector.default.weight")
_INPUTS = frozenset({
    ".lora_down.weight", ".lora_A.weight", ".lora_A.default.weight", "_lora.down.weight", ".lora.down.weight",
    ".lora_linear_layer.down.weight", "_lora1.down.weight", "_lora2.down.weight", ".hada_w1_b"})
_UNET_WORDS = ("down_blocks_", "up_blocks_", "mid_block_", "input_blocks_", "output_blocks_", "middle_block_")
_CROSS = ("attn2_to_k", "attn2_to_v")
_DEEPER = re.compile(r"transformer_blocks_[1-9]")
_TOLD: Mapping[str, str] = MappingProxyType({  # beginnings of ss_base_model_version and modelspec.architecture
    "sd_v1": "sd1", "stable-diffusion-v1": "sd1", "sd_v2": "sd2", "stable-diffusion-v2": "sd2",
    "sdxl_refiner": "sdxl_refiner", "stable-diffusion-xl-v1-refiner": "sdxl_refiner", "sdxl": "sdxl",
    "stable-diffusion-xl": "sdxl", "sd3": "sd3", "stable-diffusion-3": "sd3", "flux": "flux"})
_FLUX_WIDTH = 3072
_SD3_WIDTHS = (1536, 2432)


class Layer(NamedTuple):
    """A module that a LoRA changes: its name with underscores, and how wide what goes in is (0: not told)."""

    name: str
    width: int
    shape: tuple[int, ...]


def sniff_lora(tensors: Tensors, metadata: Mapping[str, str]) -> Sniffed | None:
    """Form and family of a LoRA; None for what is none."""
    forms = {form for name in tensors if (form := _form(name))}
    if not forms:
        return None
    layers = tuple(_layers(tensors))
    family = _family(layers, metadata)
    if family in REFUSED_FAMILIES or (family == "unknown" and not any(_is_known_place(layer) for layer in layers)):
        return refused_family("lora", family)
    return Sniffed("lora", family, detail=_detail(tensors, forms, layers))


def _form(name: str) -> str | None:
    """The form that the ending of a tensor's name is of."""
    form = _ENDINGS.get(_ending(name))
    return None if form == "full difference" and not name.startswith(("lora_", "diffusion_model.")) else form


def _ending(name: str) -> str:
    """What of a name is behind its module's; "" when it is none of a LoRA's."""
    place = len(name)
    for _ in range(4):
        place = name.rfind(".", 0, place)
        if place < 0:
            return ""
        if name[place:] in _ENDINGS:
            return name[place:]
        if (joined := name.rfind("_", 0, place)) >= 0 and name[joined:] in _ENDINGS:
            return name[joined:]
    return ""


def _detail(tensors: Tensors, forms: set[str], layers: tuple[Layer, ...]) -> str:
    if any(name.endswith(_MAGNITUDES) for name in tensors):
        return "DoRA"
    if forms != {"LoRA"}:
        return next((form for form in ("LoHa", "LoKr", "OFT", "IA3", "LoRA") if form in forms), "full difference")
    is_convolution = any(len(layer.shape) == 4 and layer.shape[2:] != (1, 1) for layer in layers)
    return "LoCon" if is_convolution else "LoRA"


def _layers(tensors: Tensors) -> Iterator[Layer]:
    for name, info in tensors.items():
        ending = _ending(name)
        if ending in _INPUTS:
            width = info.shape[1] if len(info.shape) > 1 else 0
            shape = () if ending == ".hada_w1_b" else info.shape  # which is flat, whatever the layer is
            yield Layer(_underscored(name.removesuffix(ending)), width, shape)
        elif ending in (".lokr_w1", ".lokr_w1_b"):
            module = name.rpartition(".")[0]
            yield Layer(_underscored(module), _kronecker_width(tensors, module), ())
        elif ending:
            form = _form(name)
            if form in ("OFT", "IA3", "full difference"):
                is_whole = form == "full difference" and len(info.shape) > 1
                yield Layer(_underscored(name.rpartition(".")[0]), info.shape[1] if is_whole else 0, ())


def _underscored(name: str) -> str:
    """A module's name, the same however it is spelled: diffusers once had its LoRAs in attention processors."""
    return name.replace(".", "_").replace("_processor_", "_")


def _kronecker_width(tensors: Tensors, module: str) -> int:
    """A Kronecker product is as wide as its factors' widths multiplied."""
    width = 1
    for factor in ("lokr_w1", "lokr_w2"):
        info = tensors.get(f"{module}.{factor}") or tensors.get(f"{module}.{factor}_b")
        width *= info.shape[1] if info and len(info.shape) > 1 else 0
    return width


def _is_known_place(layer: Layer) -> bool:
    return any(word in layer.name for word in _UNET_WORDS) or layer.name.startswith(("lora_te", "text_encoder"))


def _family(layers: tuple[Layer, ...], metadata: Mapping[str, str]) -> str:
    names = [layer.name for layer in layers]
    if any("motion_modules_" in name for name in names):
        return "unknown"
    return (_transformer_family(layers) or _cross_attention_family(layers) or _structural_family(layers)
            or told_family(metadata) or "unknown")


def _transformer_family(layers: tuple[Layer, ...]) -> str | None:
    """SD 3, Flux, or one that is not known; None for a U-Net's LoRA."""
    names = [layer.name for layer in layers]
    if any("joint_blocks_" in name for name in names):
        return "sd3"
    if any("single_transformer_blocks_" in name or "double_blocks_" in name or "single_blocks_" in name
           for name in names):
        return "flux"
    if any(word in name for name in names for word in _UNET_WORDS):
        return None
    inside = [layer for layer in layers if "transformer_blocks_" in layer.name]
    if not inside:
        return None
    if any("img_mlp" in layer.name or "img_mod" in layer.name or "_attn1_" in layer.name for layer in inside):
        return "unknown"
    widths = {layer.width for layer in inside if layer.name.endswith(("attn_to_q", "attn_to_k", "attn_add_q_proj"))}
    if widths & set(_SD3_WIDTHS):
        return "sd3"
    return "flux" if _FLUX_WIDTH in widths else "unknown"


def _cross_attention_family(layers: tuple[Layer, ...]) -> str | None:
    """The width of the prompt's embeddings, which the keys and values of cross-attentions take."""
    widths = (layer.width for layer in layers if layer.name.endswith(_CROSS))
    return next((WIDTHS[width] for width in widths if width in WIDTHS), None)


def _structural_family(layers: tuple[Layer, ...]) -> str | None:
    """What is built as only one family is: two text encoders, deep attentions, how attentions are led into."""
    names = [layer.name for layer in layers]
    if any(name.startswith(("lora_te2_", "text_encoder_2_")) for name in names):
        return "sdxl"
    unet = [layer for layer in layers if any(word in layer.name for word in _UNET_WORDS)]
    if any(_DEEPER.search(layer.name) for layer in unet):
        return "sdxl"
    shape = next((layer.shape for layer in unet if layer.name.endswith("_proj_in") and layer.shape), None)
    if shape is not None:
        return "sd1" if len(shape) == 4 else "sd2"
    # The first of two text encoders (lora_te1_) is the same in SDXL, SD 3 and Flux.
    text = {layer.width for layer in layers if layer.name.startswith(("lora_te_", "text_encoder_text_model_"))
            and layer.name.endswith(("_q_proj", "_k_proj", "_v_proj", "_mlp_fc1"))}
    return "sd1" if 768 in text else "sd2" if 1024 in text else None


def told_family(metadata: Mapping[str, str]) -> str | None:
    """What its maker wrote; the longest beginning that fits counts."""
    for key in ("ss_base_model_version", "modelspec.architecture"):
        said = metadata.get(key, "").lower()
        fitting = [start for start in _TOLD if said.startswith(start)]
        if fitting:
            return _TOLD[max(fitting, key=len)]
    return None
