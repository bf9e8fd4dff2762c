"""ControlNets, T2I-Adapters and IP-Adapters: kind and family told from configuration or header, never from names.

A ControlNet or T2I-Adapter is a diffusers folder or one file; an IP-Adapter is one file, with the encoder of its
pictures in a folder `image_encoder` beside it (or beside a sibling). Reads no weights; `engine/` runs them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catalog.detect.sniffed import WIDTHS, Sniffed, refused_family
from catalog.families import FAMILIES
from catalog.files.folders import fingerprint, read_json, settings_of
from catalog.files.headers import TensorInfo, read_header
from catalog.files.plain_text import printable
from catalog.files.weights import weights_files
from catalog.preprocessors import find_preprocessor, get_preprocessor
from contract.errors import InvalidRecipe, ModelProblem
from contract.recipe import Control
from contract.values import ModelKind, ModelRef

UNION_CLASS = "ControlNetUnionModel"
IMAGE_ENCODER = "image_encoder"
LABELS: Mapping[ModelKind, str] = {"controlnet": "ControlNet", "t2i_adapter": "T2I-Adapter", "ip_adapter": "IP-Adapter"}
# What the maps of a union model show, in the order of its types (xinsir's ControlNet++; the first six are in all).
UNION_SHOWS = ("pose", "depth", "soft_edges", "lines", "normals", "segments", "tile", "inpaint")
_CLASSES: Mapping[str, ModelKind] = {
    "ControlNetModel": "controlnet",
    UNION_CLASS: "controlnet",
    "T2IAdapter": "t2i_adapter",
}
# What a T2I-Adapter sees of a gray or a colored picture at one place -> its family.
_FOLDED: Mapping[int, str] = {8**2: "sd1", 3 * 8**2: "sd1", 16**2: "sdxl", 3 * 16**2: "sdxl"}
_OTHER_CONTROLS = ("lllite_", "controlnet_blocks.")
_PICTURE_LAYERS = ("controlnet_cond_embedding.conv_in.weight", "input_hint_block.0.weight")
_SDXL_LAYERS = 60  # SDXL has 70 cross-attentions, SD 1.x and 2.x 16


@dataclass(frozen=True, slots=True)
class ControlModel:
    """What the files say of themselves.

    Attributes:
        weights: Every file that is read, below `root`; `settings`: those that say how.
        shows: What its maps may show, for union models.
    """

    kind: ModelKind
    family: str
    root: Path
    weights: tuple[Path, ...]
    control_type: tuple[str, ...] = ()
    settings: tuple[Path, ...] = ()

    @property
    def fingerprint(self) -> str:
        """As `ModelRef.fingerprint`; an IP-Adapter's is its encoder's too. Raises OSError."""
        return fingerprint(self.root, self.weights, self.settings)


def control_kind(path: Path) -> ModelKind | None:
    """What a folder says that it is, or a file's header shows; None when neither a control nor an adapter."""
    try:
        if path.is_file():
            return kind_of_file(read_header(path))
        return _CLASSES.get(str(read_json(path / "config.json").get("_class_name")))
    except ModelProblem:
        return None


def kind_of_file(header: Mapping[str, TensorInfo]) -> ModelKind | None:
    """What a file with this header is; None when neither a control nor an adapter."""
    if any(name.startswith("ip_adapter.") or ".ip_adapter_" in name for name in header):
        return "ip_adapter"
    if any(name.endswith(_PICTURE_LAYERS) or name.startswith(_OTHER_CONTROLS) for name in header):
        return "controlnet"
    return "t2i_adapter" if _is_t2i_adapter(header) else None


def sniff_control(header: Mapping[str, TensorInfo]) -> Sniffed | None:
    """Kind and family of a control or an adapter by its header, with why it can't be used; None for other files."""
    kind = kind_of_file(header)
    if kind is None:
        return None
    if any(name.startswith("double_blocks.") for name in header):
        return refused_family(kind, "flux")
    if any(name.startswith("controlnet_blocks.") for name in header):
        takes_words_as_one = "time_text_embed.text_embedder.linear_1.weight" in header
        is_flux = takes_words_as_one and "controlnet_x_embedder.weight" in header
        return refused_family(kind, "flux" if is_flux else "sd3" if takes_words_as_one else "unknown")
    try:
        if kind == "controlnet":
            family, control_type = _judge_controlnet(header)
            return Sniffed(kind, family, control_type=control_type)
        return Sniffed(kind, _judge_ip_adapter(header) if kind == "ip_adapter" else _judge_t2i_adapter(header))
    except ModelProblem as problem:
        return Sniffed(kind, problem=problem.message, hint=problem.hint)


def _is_t2i_adapter(header: Mapping[str, TensorInfo]) -> bool:
    """One file: the first program's names, or diffusers' below `adapter.`."""
    return any(
        f"{place}body.0.{first}.weight" in header
        for place in ("", "adapter.")
        for first in ("block1", "in_conv", "resnets.0.block1")
    )


def _judge_t2i_adapter(header: Mapping[str, TensorInfo]) -> str:
    """Family: the first layer sees the picture folded, 8 × 8 pixels of it at a place or (SDXL) 16 × 16."""
    places = [f"{place}{layer}.weight" for place in ("", "adapter.") for layer in ("conv_in", "body.0.in_conv")]
    first = next((header[name].shape for name in places if name in header), ())
    family = _FOLDED.get(first[1]) if len(first) == 4 else None
    if family is None or any(".down_opt." in name for name in header):
        raise ModelProblem(
            "It is a T2I-Adapter of a kind that is not known.", "Use its diffusers version, a folder with config.json."
        )
    return family


def read_control_model(path: Path) -> ControlModel:
    """Kind, family and files of a ControlNet or T2I-Adapter (a folder or a file), an IP-Adapter (a file).

    Raises:
        ModelProblem: it can't be used.
    """
    if path.is_file():
        return _read_control_file(path, read_header(path))
    config = read_json(path / "config.json")
    kind = _CLASSES.get(str(config.get("_class_name")))
    if kind is None:
        raise ModelProblem("Its config.json names no model that is known.", "Use a ControlNet or a T2I-Adapter.")
    family = _family_of_adapter(config) if kind == "t2i_adapter" else _family_of_controlnet(config)
    control_type: tuple[str, ...] = ()
    if config.get("_class_name") == UNION_CLASS:
        count = config.get("num_control_type", 6)
        control_type = UNION_SHOWS[:count] if isinstance(count, int) and count > 0 else ()
    return ControlModel(kind, family, path, weights_files(path), control_type, settings_of(path, kind))


def _family_of_controlnet(config: Mapping[str, Any]) -> str:
    if config.get("in_channels", 4) != 4:
        raise ModelProblem(
            f"It takes {printable(str(config['in_channels'])[:200], 40)} latent channels; 4 are supported.",
            "Use another one.",
        )
    if config.get("addition_embed_type") == "text_time":
        return "sdxl"
    return WIDTHS.get(_number(config.get("cross_attention_dim")), "sd1")


def _family_of_adapter(config: Mapping[str, Any]) -> str:
    return "sdxl" if config.get("adapter_type") == "full_adapter_xl" else "sd1"


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _read_control_file(path: Path, header: Mapping[str, TensorInfo]) -> ControlModel:
    found = sniff_control(header)
    if found is None or found.kind is None:
        raise ModelProblem("It is no ControlNet and no adapter.", "Use another file.")
    if found.problem:
        raise ModelProblem(found.problem, found.hint)
    if found.kind == "ip_adapter":
        return _with_encoder(path, found.family)
    return ControlModel(found.kind, found.family, path.parent, (path,), found.control_type)


def _judge_controlnet(header: Mapping[str, TensorInfo]) -> tuple[str, tuple[str, ...]]:
    """Family, and what a union model's maps may show."""
    if any(name.startswith("lora_controlnet") for name in header):
        raise ModelProblem("It is a Control-LoRA, which is not run here.", "Use the whole ControlNet.")
    if any(name.startswith("lllite_") for name in header):
        raise ModelProblem("It is a ControlNet-LLLite, which is not run here.", "Use the whole ControlNet.")
    if any(name.startswith("control_to_base") or ".ctrl_" in name for name in header):
        raise ModelProblem("It is a ControlNet-XS, which is not run here.", "Use a plain ControlNet.")
    if any("label_emb." in name for name in header):
        raise ModelProblem(
            "It is a ControlNet for SDXL with the names of the first programs, which are not known.",
            "Use its diffusers version.",
        )
    widths = [
        info.shape[1] for name, info in header.items() if name.endswith("attn2.to_k.weight") and len(info.shape) == 2
    ]
    family = "sdxl" if "add_embedding.linear_1.weight" in header else WIDTHS.get(widths[0] if widths else 0, "sd1")
    types = header["task_embedding"].shape[:1] if "task_embedding" in header else ()
    return family, UNION_SHOWS[: sum(types)]


def _judge_ip_adapter(header: Mapping[str, TensorInfo]) -> str:
    """Family."""
    keys = [info for name, info in header.items() if name.endswith(".to_k_ip.weight")]
    if not keys or not any(name.startswith("image_proj.") for name in header):
        raise ModelProblem("It lacks the layers of an IP-Adapter.", "Download it again.")
    if any(name.endswith("_lora.down.weight") for name in header):
        raise ModelProblem(
            "It is an IP-Adapter for face recognition vectors, which are not made here.",
            "Use an IP-Adapter without “faceid” in its name.",
        )
    width = keys[0].shape[1] if len(keys[0].shape) == 2 else 0
    return WIDTHS.get(width) or ("sdxl" if len(keys) >= _SDXL_LAYERS else "sd1")


def _with_encoder(path: Path, family: str) -> ControlModel:
    encoder = image_encoder_of(path)
    root = path.parent if encoder.is_relative_to(path.parent) else path.parent.parent
    return ControlModel(
        "ip_adapter", family, root, (path, *weights_files(encoder)), settings=settings_of(encoder, "ip_adapter")
    )


def image_encoder_of(adapter: Path) -> Path:
    """The folder of the encoder that an IP-Adapter was trained with, told by the width of what it takes.

    Raises:
        ModelProblem: there is none, or none of that width.
    """
    wanted = _picture_width(read_header(adapter))
    beside = sorted(adapter.parent.parent.glob(f"*/{IMAGE_ENCODER}"))
    found = [folder for folder in (adapter.parent / IMAGE_ENCODER, *beside) if (folder / "config.json").is_file()]
    for folder in found:
        config = read_json(folder / "config.json")
        if wanted in (config.get("projection_dim"), config.get("hidden_size")):
            return folder
    if found:
        raise ModelProblem(
            f"It takes pictures encoded {wanted} wide, which “{IMAGE_ENCODER}” is not.",
            "Put the encoder it came with beside it.",
        )
    raise ModelProblem(
        f"The encoder of its pictures is missing: a folder “{IMAGE_ENCODER}” beside it.",
        f"Download “{IMAGE_ENCODER}” from where the adapter came from.",
    )


def _picture_width(header: Mapping[str, TensorInfo]) -> int:
    for name in ("image_proj.proj.weight", "image_proj.proj_in.weight", "image_proj.proj.0.weight"):
        if name in header and len(header[name].shape) == 2:
            return header[name].shape[1]
    raise ModelProblem("It is an IP-Adapter of a kind that is not known.", "Use a plain, plus or full-face one.")


def refuse_other_family(control: ModelRef, checkpoint: ModelRef, field: str = "") -> None:
    """A control works only with checkpoints of the family that it was trained on.

    Args:
        field: What names it in a request; without it, as far as its kind says.
    Raises:
        InvalidRecipe: names both.
    """
    if control.family == checkpoint.family:
        return
    theirs, ours = (
        FAMILIES[ref.family].label if ref.family in FAMILIES else ref.family for ref in (control, checkpoint)
    )
    label = LABELS.get(control.kind, "Model")
    raise InvalidRecipe(
        f"{label} “{control.name}” is for {theirs}; “{checkpoint.name}” is {ours}.",
        f"Pick a checkpoint for {theirs}, or a {label} for {ours}.",
        field=field or ("ip_adapters.model" if control.kind == "ip_adapter" else "controls.model"),
    )


def union_place(label: str, known: Sequence[str], control: Control, field: str = "controls.control_type") -> int:
    """Which of a union model's types a map is: as the control says, or as its preprocessor makes them.

    Args:
        label: Of the model, as a sentence names it.
        known: What its maps may show, in order. A control may use these words or a preprocessor's name.
    Raises:
        InvalidRecipe: neither says it, or the model doesn't know it.
    """
    control_type = control.control_type or get_preprocessor(control.preprocessor).control_type
    if control_type not in UNION_SHOWS and (named := find_preprocessor(control_type)):
        control_type = named.control_type
    if control_type not in known:
        said = (
            f"“{control_type}” is none of what it knows" if control_type else "it must be told what the picture shows"
        )
        raise InvalidRecipe(f"{label} is a union: {said}.", f"Use one of: {', '.join(known)}.", field=field)
    return known.index(control_type)
