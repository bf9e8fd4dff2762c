"""ControlNets, T2I-Adapters and IP-Adapters: kind and family by configuration or header, never by file name.

A ControlNet or T2I-Adapter is a diffusers folder or one file; an IP-Adapter is one file, with its image encoder in a
folder `image_encoder` beside it or a sibling (`ip_adapters.py`). Reads no weights; `engine/adapters/` runs them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.detect.ip_adapters import image_encoder_of, sniff_ip_adapter
from catalog.families import (
    FAMILIES,
    KNOWN,
    OLDEST,
    family_of_width,
    family_with_size_inputs,
    label_of,
    refused_family,
)
from catalog.families.sniffed import Sniffed
from catalog.files.folders import fingerprint, read_json, settings_of
from catalog.files.headers import TensorInfo, read_header
from catalog.files.plain_text import printable
from catalog.files.tensor_names import first_shape, first_width, has_fragment, has_prefix, has_suffix
from catalog.files.weights import weights_files
from catalog.preprocessors import find_preprocessor, get_preprocessor
from contract.errors import InvalidRecipe, ModelProblem
from contract.recipe import Control
from contract.values import ModelKind, ModelRef

UNION_CLASS = "ControlNetUnionModel"
TRANSFORMER_CLASS = "SD3ControlNetModel"
XS_CLASS = "ControlNetXSAdapter"
LABELS: Mapping[ModelKind, str] = {"controlnet": "ControlNet", "t2i_adapter": "T2I-Adapter", "ip_adapter": "IP-Adapter"}
# What the maps of a union model show, in the order of its types (xinsir's ControlNet++; the first six are in all).
INPAINT_TYPE = "inpaint"
UNION_CONTROL_TYPES = ("pose", "depth", "soft_edges", "lines", "normals", "segments", "tile", INPAINT_TYPE)
_CLASSES: Mapping[str, ModelKind] = {
    "ControlNetModel": "controlnet",
    UNION_CLASS: "controlnet",
    "T2IAdapter": "t2i_adapter",
    TRANSFORMER_CLASS: "controlnet",
    XS_CLASS: "controlnet",
}
# A single-file T2I-Adapter has one of these layers: the original names, or diffusers' below `adapter.`.
_T2I_ADAPTER_LAYERS = (
    "body.0.block1.weight",
    "body.0.in_conv.weight",
    "body.0.resnets.0.block1.weight",
    "adapter.body.0.block1.weight",
    "adapter.body.0.in_conv.weight",
    "adapter.body.0.resnets.0.block1.weight",
)
_T2I_ADAPTER_FIRST_LAYERS = (
    "conv_in.weight",
    "body.0.in_conv.weight",
    "adapter.conv_in.weight",
    "adapter.body.0.in_conv.weight",
)
# Details of those that are no nets by themselves, and of those of them that leave no residuals.
CONTROL_LORA, LLLITE, XS = "Control-LoRA", "ControlNet-LLLite", "ControlNet-XS"
WITHIN_UNET = (LLLITE, XS)
_LORA_MARK, _LLLITE_PREFIX = "lora_controlnet", "lllite_"
_OTHER_CONTROLS = (_LLLITE_PREFIX, "controlnet_blocks.")
_PICTURE_LAYERS = ("controlnet_cond_embedding.conv_in.weight", "input_hint_block.0.weight")


@dataclass(frozen=True, slots=True)
class ControlModel:
    """What the files say of themselves.

    Attributes:
        weights: Every file that is read, below `root`; `settings`: those that say how.
        control_type: Of a model that has to know what its maps show: the types that they may be.
        detail: As `Sniffed.detail`.
    """

    kind: ModelKind
    family: str
    root: Path
    weights: tuple[Path, ...]
    control_type: tuple[str, ...] = ()
    settings: tuple[Path, ...] = ()
    detail: str = ""

    @property
    def fingerprint(self) -> str:
        """As `ModelRef.fingerprint`; an IP-Adapter's covers its encoder too. Raises OSError."""
        return fingerprint(self.root, self.weights, self.settings)


def control_kind(path: Path) -> ModelKind | None:
    """The kind that a folder's configuration or a file's header gives; None for neither a control nor an adapter."""
    try:
        if path.is_file():
            return kind_of_file(read_header(path))
        return _CLASSES.get(str(read_json(path / "config.json").get("_class_name")))
    except ModelProblem:
        return None


def kind_of_file(header: Mapping[str, TensorInfo]) -> ModelKind | None:
    """The kind of a file with this header; None for neither a control nor an adapter."""
    if has_prefix(header, "ip_adapter.") or has_fragment(header, ".ip_adapter_"):
        return "ip_adapter"
    if has_suffix(header, *_PICTURE_LAYERS) or has_prefix(header, *_OTHER_CONTROLS):
        return "controlnet"
    if any(layer in header for layer in _T2I_ADAPTER_LAYERS):
        return "t2i_adapter"
    return None


def acts_in_unet(header: Mapping[str, TensorInfo]) -> bool:
    """Whether a ControlNet with this header is no net by itself but works in, or with the weights of, a U-Net."""
    return _LORA_MARK in header or has_prefix(header, _LLLITE_PREFIX)


def sniff_control(header: Mapping[str, TensorInfo]) -> Sniffed | None:
    """Kind and family of a control or an adapter by its header, with why it can't be used; None for other files."""
    kind = kind_of_file(header)
    if kind is None:
        return None
    for candidate in KNOWN.values():
        if candidate.claims_control is not None and candidate.claims_control(header):
            return candidate.controlnet(header, {}) if candidate.controlnet else refused_family(kind, candidate.id)
    if has_prefix(header, "controlnet_blocks."):
        return refused_family(kind, "unknown")
    try:
        if kind == "controlnet":
            return _sniff_controlnet(header)
        if kind == "ip_adapter":
            return sniff_ip_adapter(header)
        first, family = first_shape(header, *_T2I_ADAPTER_FIRST_LAYERS), None
        for name, facts in FAMILIES.items():
            if facts.t2i_adapter is not None and len(first) == 4:
                # It takes unshuffled pixels, gray or in color.
                gray = facts.t2i_adapter.downscale**2
                if first[1] in (gray, 3 * gray):
                    family = name
        if family is None or has_fragment(header, ".down_opt."):
            raise ModelProblem(
                "It is a T2I-Adapter of a kind that is not known.",
                "Use its diffusers version, a folder with config.json.",
            )
        return Sniffed(kind, family)
    except ModelProblem as problem:
        return Sniffed(kind, problem=problem.message, hint=problem.hint)


def read_control_model(path: Path) -> ControlModel:
    """Kind, family and files of a ControlNet or T2I-Adapter (a folder or a file), an IP-Adapter (a file).

    Raises:
        ModelProblem: it can't be used.
    """
    if path.is_file():
        found = sniff_control(read_header(path))
        if found is None or found.kind is None:
            raise ModelProblem("It is no ControlNet and no adapter.", "Use another file.")
        if found.problem:
            raise ModelProblem(found.problem, found.hint)
        if found.kind == "ip_adapter":
            # The image encoder decides the picture too, so it is in the fingerprint.
            encoder = image_encoder_of(path)
            if encoder is None:
                return ControlModel("ip_adapter", found.family, path.parent, (path,))
            root = path.parent if encoder.is_relative_to(path.parent) else path.parent.parent
            weights = (path, *weights_files(encoder))
            settings = settings_of(encoder, "ip_adapter")
            return ControlModel("ip_adapter", found.family, root, weights, settings=settings)
        return ControlModel(found.kind, found.family, path.parent, (path,), found.control_type, detail=found.detail)
    config = read_json(path / "config.json")
    kind = _CLASSES.get(str(config.get("_class_name")))
    if kind is None:
        raise ModelProblem("Its config.json names no model that is known.", "Use a ControlNet or a T2I-Adapter.")
    family, detail = OLDEST, ""
    control_type: tuple[str, ...] = ()
    if config.get("_class_name") == TRANSFORMER_CLASS:
        found = _of_transformer(config)
        family, detail, control_type = found.family, found.detail, found.control_type
    elif kind == "t2i_adapter":
        for name, facts in FAMILIES.items():
            if facts.t2i_adapter is not None and facts.t2i_adapter.full_type == config.get("adapter_type"):
                family = name
    else:
        family = _family_of_controlnet(config)
    if config.get("_class_name") == XS_CLASS:
        detail = XS
    if config.get("_class_name") == UNION_CLASS:
        count = config.get("num_control_type", 6)
        if isinstance(count, int) and count > 0:
            control_type = UNION_CONTROL_TYPES[:count]
    return ControlModel(kind, family, path, weights_files(path), control_type, settings_of(path, kind), detail)


def _of_transformer(config: Mapping[str, Any]) -> Sniffed:
    """What the configuration of a ControlNet of a transformer says. Raises ModelProblem."""
    (family,) = (family for family in FAMILIES.values() if family.controlnet is not None)
    assert family.controlnet is not None
    found = family.controlnet(None, config)
    if found.problem:
        raise ModelProblem(found.problem, found.hint)
    return found


def _family_of_controlnet(config: Mapping[str, Any]) -> str:
    if config.get("in_channels", 4) != 4:
        raise ModelProblem(
            f"It takes {printable(str(config['in_channels'])[:200], 40)} latent channels; 4 are supported.",
            "Use another one.",
        )
    if config.get("addition_embed_type") == "text_time":
        return family_with_size_inputs()
    return family_of_width(config.get("cross_attention_dim")) or OLDEST


def _sniff_controlnet(header: Mapping[str, TensorInfo]) -> Sniffed:
    if _LORA_MARK in header:
        with_sizes = family_with_size_inputs() if has_prefix(header, "label_emb.") else None
        family = with_sizes or family_of_width(first_width(header, "attn2.to_k.down")) or OLDEST
        return Sniffed("controlnet", family, detail=CONTROL_LORA)
    if has_prefix(header, _LLLITE_PREFIX):
        if not has_fragment(header, "_transformer_blocks_1_"):
            raise ModelProblem("It is a ControlNet-LLLite of a kind that is not known.", "Use one for SDXL.")
        return Sniffed("controlnet", family_with_size_inputs(), detail=LLLITE)
    if has_prefix(header, "control_to_base") or has_fragment(header, ".ctrl_"):
        raise ModelProblem("It is a ControlNet-XS that is one file.", "Use its diffusers version, a folder.")
    if has_fragment(header, "label_emb."):
        raise ModelProblem(
            "It is a ControlNet for SDXL with the names of the first programs, which are not known.",
            "Use its diffusers version.",
        )
    if "add_embedding.linear_1.weight" in header:
        family = family_with_size_inputs()
    else:
        family = family_of_width(first_width(header, "attn2.to_k.weight")) or OLDEST
    types = first_shape(header, "task_embedding")
    control_type = UNION_CONTROL_TYPES[: types[0]] if types else ()
    return Sniffed("controlnet", family, control_type=control_type)


def refuse_other_family(control: ModelRef, checkpoint: ModelRef, field: str = "") -> None:
    """Check that a control and a checkpoint are of one family.

    Args:
        field: The control's field in the request; by default the one of its kind.
    Raises:
        InvalidRecipe: names both.
    """
    if control.family == checkpoint.family:
        return
    theirs, ours = label_of(control.family), label_of(checkpoint.family)
    label = LABELS.get(control.kind, "Model")
    if not field:
        field = "ip_adapters.model" if control.kind == "ip_adapter" else "controls.model"
    raise InvalidRecipe(
        f"{label} “{control.name}” is for {theirs}; “{checkpoint.name}” is {ours}.",
        f"Pick a checkpoint for {theirs}, or a {label} for {ours}.",
        field=field,
    )


def union_type_index(label: str, known: Sequence[str], control: Control, field: str = "controls.control_type") -> int:
    """The index of a map's type among those that a model knows: as the control says, or as its preprocessor makes it.

    Args:
        label: Of the model, as a sentence names it.
        known: The model's types, in order. A control may use these words or a preprocessor's name.
    Raises:
        InvalidRecipe: neither says it, or the model doesn't know it.
    """
    control_type = control.control_type or get_preprocessor(control.preprocessor).control_type
    if control_type not in UNION_CONTROL_TYPES:
        preprocessor = find_preprocessor(control_type)
        if preprocessor is not None:
            control_type = preprocessor.control_type
    if control_type in known:
        return known.index(control_type)
    said = "must be told what the picture shows"
    if control_type:
        said = f"does not know “{control_type}”"
    raise InvalidRecipe(f"{label} {said}.", f"Use one of: {', '.join(known)}.", field=field)
