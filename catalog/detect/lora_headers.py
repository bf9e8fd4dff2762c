"""LoRAs and their kin, told by their header: which form, and which family they were made for.

How their tensors are called, in all spellings, is in `lora_names.py`, which the engine reads, too.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from catalog.detect.lora_names import LoraPlace, cut, other_kind, place_of
from catalog.detect.sniffed import REFUSED_FAMILIES, WIDTHS, Sniffed, refused_family
from catalog.files.headers import TensorInfo

Tensors = Mapping[str, TensorInfo]
# The role of a tensor -> the form that the file is of. Alpha, bias and lengths are in all of them.
_FORMS: Mapping[str, str] = MappingProxyType(
    {
        "down": "LoRA",
        "up": "LoRA",
        "hada_w1_a": "LoHa",
        "hada_w1_b": "LoHa",
        "hada_w2_a": "LoHa",
        "hada_w2_b": "LoHa",
        "lokr_w1": "LoKr",
        "lokr_w1_a": "LoKr",
        "lokr_w1_b": "LoKr",
        "lokr_w2": "LoKr",
        "lokr_w2_a": "LoKr",
        "lokr_w2_b": "LoKr",
        "on_input": "IA3",
        "diff": "full difference",
        "diff_b": "full difference",
    }
)
_MAGNITUDES = frozenset({"dora_scale", "magnitude"})
_NORMS = (".w_norm", ".b_norm")
_UNET_WORDS = ("down_blocks_", "up_blocks_", "mid_block_", "input_blocks_", "output_blocks_", "middle_block_")
_CROSS = ("attn2_to_k", "attn2_to_v")
_DEEPER = re.compile(r"transformer_blocks_[1-9]")
_TOLD: Mapping[str, str] = MappingProxyType(
    {  # beginnings of ss_base_model_version and modelspec.architecture
        "sd_v1": "sd1",
        "stable-diffusion-v1": "sd1",
        "sd_v2": "sd2",
        "stable-diffusion-v2": "sd2",
        "sdxl_refiner": "sdxl_refiner",
        "stable-diffusion-xl-v1-refiner": "sdxl_refiner",
        "sdxl": "sdxl",
        "stable-diffusion-xl": "sdxl",
        "sd3": "sd3",
        "stable-diffusion-3": "sd3",
        "flux": "flux",
    }
)
_FLUX_WIDTH = 3072
_SD3_WIDTHS = (1536, 2432)


class Layer(NamedTuple):
    """A module that a LoRA changes: where it is, and how wide what goes in is (0: not told)."""

    place: LoraPlace
    width: int
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of the module, with underscores."""
        return self.place.path


def sniff_lora(tensors: Tensors, metadata: Mapping[str, str]) -> Sniffed | None:
    """Form and family of a LoRA; None for what is none."""
    roles = {name: cut(name) for name in tensors}
    forms = {form for stem, role in roles.values() if (form := _form(stem, role))}
    others = {name for name in tensors if other_kind((name,))} if other_kind(tensors) else set()
    scales = sum(role == "alpha" or role in _MAGNITUDES for _, role in roles.values())
    is_other = 2 * len(others) > len(tensors) - scales and any(place_of(name).part for name in others)
    if not forms and not is_other:
        return None
    other = other_kind(sorted(others))
    layers = tuple(_layers(tensors, roles, others))
    family = _family(layers, metadata)
    if family in REFUSED_FAMILIES or (family == "unknown" and not any(_is_known_place(layer) for layer in layers)):
        return refused_family("lora", family)
    if other and is_other:
        return Sniffed(
            "lora",
            family,
            detail=other,
            problem=f"It is {other}, which is not run here.",
            hint="Use a LoRA, LoCon, LoHa, LoKr or DoRA.",
        )
    return Sniffed("lora", family, detail=_detail(tensors, roles, forms, layers))


def _form(stem: str, role: str) -> str | None:
    """The form that a tensor's role is of. Differences are in other files too, of whatever is called so."""
    form = _FORMS.get(role)
    return None if form == "full difference" and not place_of(stem).part else form


def _detail(tensors: Tensors, roles: Mapping[str, tuple[str, str]], forms: set[str], layers: tuple[Layer, ...]) -> str:
    if any(role in _MAGNITUDES for _, role in roles.values()):
        return "DoRA"
    if forms != {"LoRA"}:
        whole = "norms" if all(name.endswith(_NORMS) for name in tensors) else "full difference"
        return next((form for form in ("LoHa", "LoKr", "IA3", "LoRA") if form in forms), whole)
    is_convolution = any(len(layer.shape) == 4 and layer.shape[2:] != (1, 1) for layer in layers)
    return "LoCon" if is_convolution else "LoRA"


def _layers(tensors: Tensors, roles: Mapping[str, tuple[str, str]], others: Collection[str]) -> Iterator[Layer]:
    for name, info in tensors.items():
        stem, role = roles[name]
        if role in ("down", "hada_w1_b"):
            width = info.shape[1] if len(info.shape) > 1 else 0
            yield Layer(
                place_of(stem), width, () if role == "hada_w1_b" else info.shape
            )  # which is flat, whatever the layer is
        elif role in ("lokr_w1", "lokr_w1_b"):
            yield Layer(place_of(stem), _kronecker_width(tensors, stem), ())
        elif role in ("diff", "diff_b", "on_input"):
            yield Layer(place_of(stem), info.shape[1] if role == "diff" and len(info.shape) > 1 else 0, ())
        elif name in others:
            yield Layer(place_of(name), 0, ())


def _kronecker_width(tensors: Tensors, module: str) -> int:
    """A Kronecker product is as wide as its factors' widths multiplied."""
    width = 1
    for factor in ("lokr_w1", "lokr_w2"):
        info = tensors.get(f"{module}.{factor}") or tensors.get(f"{module}.{factor}_b")
        width *= info.shape[1] if info and len(info.shape) > 1 else 0
    return width


def _is_known_place(layer: Layer) -> bool:
    return any(word in layer.name for word in _UNET_WORDS) or layer.place.part.startswith("text_encoder")


def _family(layers: tuple[Layer, ...], metadata: Mapping[str, str]) -> str:
    names = [layer.name for layer in layers]
    if any("motion_modules_" in name for name in names):
        return "unknown"
    return (
        _transformer_family(layers)
        or _cross_attention_family(layers)
        or _structural_family(layers)
        or told_family(metadata)
        or "unknown"
    )


def _transformer_family(layers: tuple[Layer, ...]) -> str | None:
    """SD 3, Flux, or one that is not known; None for a U-Net's LoRA."""
    names = [layer.name for layer in layers]
    if any("joint_blocks_" in name for name in names):
        return "sd3"
    if any(
        "single_transformer_blocks_" in name or "double_blocks_" in name or "single_blocks_" in name for name in names
    ):
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
    if any(layer.place.part == "text_encoder_2" for layer in layers):
        return "sdxl"
    unet = [layer for layer in layers if any(word in layer.name for word in _UNET_WORDS)]
    if any(_DEEPER.search(layer.name) for layer in unet):
        return "sdxl"
    shape = next((layer.shape for layer in unet if layer.name.endswith("_proj_in") and layer.shape), None)
    if shape is not None:
        return "sd1" if len(shape) == 4 else "sd2"
    # The first of two text encoders (lora_te1_) is the same in SDXL, SD 3 and Flux.
    text = {
        layer.width
        for layer in layers
        if layer.place.part == "text_encoder"
        and not layer.place.is_first_of_several
        and layer.name.endswith(("_q_proj", "_k_proj", "_v_proj", "_mlp_fc1"))
    }
    return "sd1" if 768 in text else "sd2" if 1024 in text else None


def told_family(metadata: Mapping[str, str]) -> str | None:
    """What its maker wrote; the longest beginning that fits counts."""
    for key in ("ss_base_model_version", "modelspec.architecture"):
        said = metadata.get(key, "").lower()
        fitting = [start for start in _TOLD if said.startswith(start)]
        if fitting:
            return _TOLD[max(fitting, key=len)]
    return None
