"""Form and family of LoRAs and their relatives, by their header.

The names of their tensors, in all spellings, are in `lora_names.py`, which the engine reads, too.
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from catalog.detect.lora_names import LoraPlace, cut, other_kind, place_of, underscored
from catalog.families import FAMILIES, KNOWN, family_named, family_of_width, refused_family
from catalog.families.sniffed import Sniffed
from catalog.files.tensor_names import Tensors, has_fragment

_FULL_DIFFERENCE = "full difference"
# The role of a tensor -> the form of the file. Alpha, bias and lengths are in all of them.
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
        "oft_blocks": "OFT",
        "oft_diag": "OFT",
        "oft_R": "OFT",
        "oft_r": "OFT",
        "boft_R": "BOFT",
        "diff": _FULL_DIFFERENCE,
        "diff_b": _FULL_DIFFERENCE,
    }
)
_MAGNITUDES = frozenset({"dora_scale", "magnitude"})
_NORMS = (".w_norm", ".b_norm")
_UNET_WORDS = ("down_blocks_", "up_blocks_", "mid_block_", "input_blocks_", "output_blocks_", "middle_block_")
_CROSS_ATTENTION = ("attn2_to_k", "attn2_to_v")
_DEEPER = re.compile(r"transformer_blocks_[1-9]")
_JOINT_ATTENTION = ("attn_to_q", "attn_to_k", "attn_add_q_proj")
_TEXT_ENCODER_LAYERS = ("_q_proj", "_k_proj", "_v_proj", "_mlp_fc1")
_SQUARE = (*_JOINT_ATTENTION, "_q_proj", "_k_proj", "_v_proj")  # as wide as high


class LoraLayer(NamedTuple):
    """A module that a LoRA changes: its place, its input width (0: not known), and the shape of its `down` factor."""

    place: LoraPlace
    width: int
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of the module, with underscores."""
        return self.place.path


def sniff_lora(tensors: Tensors, metadata: Mapping[str, str]) -> Sniffed | None:
    """Form and family of a LoRA; None for other files."""
    stems_and_roles = {name: cut(name) for name in tensors}
    forms: set[str] = set()
    scale_count = 0
    for name, (stem, role) in stems_and_roles.items():
        form = _FORMS.get(role)
        if form == "OFT" and len(tensors[name].shape) == 4:  # LyCORIS names both alike
            form = "BOFT"
        # Files that are no LoRA have tensors named `diff` too, with no component before the name.
        if form is not None and (form != _FULL_DIFFERENCE or place_of(stem).part):
            forms.add(form)
        scale_count += role == "alpha" or role in _MAGNITUDES
    unsupported: set[str] = set()
    if other_kind(tensors):
        unsupported = {name for name in tensors if other_kind((name,))}
    is_unsupported = 2 * len(unsupported) > len(tensors) - scale_count
    is_unsupported = is_unsupported and any(place_of(name).part for name in unsupported)
    if not forms and not is_unsupported:
        return None
    layers = tuple(_layers(tensors, stems_and_roles, unsupported))
    family = _family(layers, metadata)
    if family in KNOWN and not KNOWN[family].runs:
        return refused_family("lora", family)
    if family == "unknown":
        is_known = _is_of_unet(layers) or any(layer.place.part.startswith("text_encoder") for layer in layers)
        if not is_known:
            return refused_family("lora", family)
    if is_unsupported:
        kind = other_kind(sorted(unsupported))
        return Sniffed(
            "lora",
            family,
            detail=kind,
            problem=f"It is {kind}, which is not run here.",
            hint="Use a LoRA, LoCon, LoHa, LoKr, DoRA, OFT or BOFT.",
        )
    if any(role in _MAGNITUDES for _, role in stems_and_roles.values()):
        return Sniffed("lora", family, detail="DoRA")
    if forms == {"LoRA"}:
        is_convolution = any(len(layer.shape) == 4 and layer.shape[2:] != (1, 1) for layer in layers)
        return Sniffed("lora", family, detail="LoCon" if is_convolution else "LoRA")
    for form in ("LoHa", "LoKr", "BOFT", "OFT", "IA3", "LoRA"):
        if form in forms:
            return Sniffed("lora", family, detail=form)
    is_norms = all(name.endswith(_NORMS) for name in tensors)
    return Sniffed("lora", family, detail="norms" if is_norms else _FULL_DIFFERENCE)


def _layers(
    tensors: Tensors, stems_and_roles: Mapping[str, tuple[str, str]], unsupported: Collection[str]
) -> Iterator[LoraLayer]:
    for name, info in tensors.items():
        stem, role = stems_and_roles[name]
        width = info.shape[1] if len(info.shape) > 1 else 0
        if role == "down":
            yield LoraLayer(place_of(stem), width, info.shape)
        elif role == "hada_w1_b":  # flat, whatever the layer is, so its shape says nothing
            yield LoraLayer(place_of(stem), width, ())
        elif role in ("lokr_w1", "lokr_w1_b"):
            yield LoraLayer(place_of(stem), _kronecker_width(tensors, stem), ())
        elif role in ("oft_blocks", "oft_diag", "oft_r", "oft_R", "boft_R"):
            yield LoraLayer(place_of(stem), _rotated_width(role, stem, info.shape), ())
        elif role in ("diff", "diff_b", "on_input"):
            yield LoraLayer(place_of(stem), width if role == "diff" else 0, ())
        elif name in unsupported:
            yield LoraLayer(place_of(name), 0, ())


def _kronecker_width(tensors: Tensors, module: str) -> int:
    """The width of a Kronecker product: the product of its factors' widths."""
    width = 1
    for factor in ("lokr_w1", "lokr_w2"):
        info = tensors.get(f"{module}.{factor}") or tensors.get(f"{module}.{factor}_b")
        if info is None or len(info.shape) < 2:
            return 0
        width *= info.shape[1]
    return width


def _rotated_width(role: str, module: str, shape: Sequence[int]) -> int:
    """The width of a layer whose rotation has this shape; 0 where it turns the layer's output and that says nothing."""
    turns_input = role in ("oft_R", "boft_R")
    if len(shape) < 2 or not (turns_input or underscored(module).endswith(_SQUARE)):
        return 0
    if role == "oft_R":  # upper triangles of n × n
        return int(shape[0] * (1 + math.sqrt(1 + 8 * shape[1])) / 2)
    return shape[-3] * shape[-1] if len(shape) > 2 else 0


def _is_of_unet(layers: Iterable[LoraLayer]) -> bool:
    return has_fragment((layer.name for layer in layers), *_UNET_WORDS)


def _family(layers: tuple[LoraLayer, ...], metadata: Mapping[str, str]) -> str:
    if has_fragment((layer.name for layer in layers), "motion_modules_"):
        return "unknown"
    family = _transformer_family(layers)
    if family is not None:
        return family
    for layer in layers:
        # Keys and values of cross-attentions take the prompt's embeddings, whose width is the family's.
        if layer.name.endswith(_CROSS_ATTENTION):
            by_width = family_of_width(layer.width)
            if by_width is not None:
                return by_width
    return _structural_family(layers) or family_by_metadata(metadata) or "unknown"


def _transformer_family(layers: tuple[LoraLayer, ...]) -> str | None:
    """The family of a transformer's LoRA, or "unknown"; None for a U-Net's."""
    names = [layer.name for layer in layers]
    for family in KNOWN.values():
        if has_fragment(names, *family.transformer_lora.fragments):
            return family.id
    if _is_of_unet(layers):
        return None
    in_blocks = [layer for layer in layers if "transformer_blocks_" in layer.name]
    if not in_blocks:
        return None
    if has_fragment((layer.name for layer in in_blocks), "img_mlp", "img_mod", "_attn1_"):
        return "unknown"
    widths = {layer.width for layer in in_blocks if layer.name.endswith(_JOINT_ATTENTION)}
    for family in KNOWN.values():
        if widths & set(family.transformer_lora.widths):
            return family.id
    return "unknown"


def _structural_family(layers: tuple[LoraLayer, ...]) -> str | None:
    """By what only one family has: two text encoders, deep attentions, the kind of projection before attentions."""
    families = FAMILIES.values()
    has_two_encoders = any(layer.place.part == "text_encoder_2" for layer in layers)
    in_unet = [layer for layer in layers if _is_of_unet([layer])]
    is_deep = any(_DEEPER.search(layer.name) for layer in in_unet)
    projections = [layer.shape for layer in in_unet if layer.name.endswith("_proj_in") and layer.shape]
    text_widths = set()
    for layer in layers:
        # The first of two text encoders (lora_te1_) is the same in SDXL, SD 3 and Flux.
        is_alone = layer.place.part == "text_encoder" and not layer.place.is_first_of_several
        if is_alone and layer.name.endswith(_TEXT_ENCODER_LAYERS):
            text_widths.add(layer.width)
    for family in families:
        if has_two_encoders and len(family.text_encoders) > 1:
            return family.id
    for family in families:
        if is_deep and family.unet is not None and family.unet.is_deep:
            return family.id
    for family in families:
        if projections and family.unet is not None and len(projections[0]) == family.unet.proj_in_dimensions:
            return family.id
    for family in families:
        if len(family.text_encoders) == 1 and family.embedding_width in text_widths:
            return family.id
    return None


def family_by_metadata(metadata: Mapping[str, str]) -> str | None:
    """The family that the metadata names; the longest beginning that fits counts."""
    for key in ("ss_base_model_version", "modelspec.architecture"):
        family = family_named(metadata.get(key, ""))
        if family is not None:
            return family
    return None
