"""Which layer each tensor of a LoRA file is for, and in which role. Knows names, no arithmetic.

Three families of names are in use, and mixed:
    kohya      lora_unet_down_blocks_0_…_to_q.lora_down.weight, lora_te_…, for SDXL lora_te1_…, lora_te2_… and
               often the first programs' lora_unet_input_blocks_4_1_…; LyCORIS adds hada_w1_a, lokr_w1, diff, …
    diffusers  unet.down_blocks.0.….to_q.lora.down.weight, ….processor.to_q_lora.down.weight, text_encoder.…
    peft       base_model.model.down_blocks.0.….to_q.lora_A.weight, lora_magnitude_vector
So a name is cut into a place, brought to one form by underscores, and a role.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from torch import Tensor, nn

from engine.unet_names import first_names

_ROLES: Mapping[str, str] = MappingProxyType({
    ".lora_down.weight": "down", ".lora_up.weight": "up", ".lora_mid.weight": "mid", ".alpha": "alpha",
    ".lora_A.weight": "down", ".lora_B.weight": "up", ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up", ".lora.down.weight": "down", ".lora.up.weight": "up", "_lora.down.weight": "down",
    "_lora.up.weight": "up", ".lora_linear_layer.down.weight": "down", ".lora_linear_layer.up.weight": "up",
    ".lora_A": "down", ".lora_B": "up", ".dora_scale": "dora_scale", ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude", ".lora_magnitude_vector.default.weight": "magnitude",
    **{f".{name}": name for name in (
        "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "lokr_w1", "lokr_w1_a", "lokr_w1_b",
        "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2", "diff", "diff_b", "on_input")},
    ".w_norm": "diff", ".b_norm": "diff_b", ".weight": "factor"})
_ENDINGS = tuple(sorted(_ROLES, key=len, reverse=True))
# Kinds that exist and are not run, by what their tensors are called.
_OTHER_KINDS: Mapping[str, str] = MappingProxyType({
    "oft_blocks": "OFT", "oft_diag": "OFT", "oft_R": "OFT", "oft_r": "OFT", "boft_R": "BOFT", "a1": "GLoRA",
    "b1": "GLoRA", "vera_lambda_b": "VeRA", "vera_lambda_d": "VeRA", "lora_embedding_A": "a LoRA of the words' table",
    "lora_embedding_B": "a LoRA of the words' table"})
_PREFIXES: Mapping[str, str] = MappingProxyType({
    "lora_unet_": "unet", "unet.": "unet", "model.diffusion_model.": "unet", "diffusion_model.": "unet",
    "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2", "lora_te_": "text_encoder",
    "text_encoder_2.": "text_encoder_2", "text_encoder.": "text_encoder"})
_BARE = re.compile(r"(down_blocks|up_blocks|mid_block|conv_in|conv_out|time_embedding|add_embedding|input_blocks|"
                   r"middle_block|output_blocks|time_embed|text_model|encoder)\.")
_PROJECTIONS = (("q_proj", "to_q"), ("k_proj", "to_k"), ("v_proj", "to_v"), ("out_proj", "to_out"))


@dataclass(frozen=True, slots=True)
class Layer:
    """What a file holds for one module of a part.

    Attributes:
        first_name: The first programs' name of a U-Net's module, by which blocks are counted; else empty.
        tensors: By role: down, up, mid, alpha, magnitude (peft's DoRA), dora_scale (LyCORIS'), hada_…, lokr_…, diff, diff_b, factor, on_input.
    """

    part: str
    module: str
    first_name: str
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file's layers that are in the model, and how many places it names in all.

    Attributes:
        strangers: Places (or whole names) that the model has none for.
        other_kind: The kind of a file that is not run; else empty.
    """

    layers: tuple[Layer, ...]
    strangers: tuple[str, ...]
    other_kind: str = ""

    @property
    def total(self) -> int:
        """Places the file names."""
        return len(self.layers) + len(self.strangers)


@dataclass(slots=True)
class Places:
    """The modules of a checkpoint's parts by every name that files give them."""

    by_part: dict[str, dict[str, str]] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, parts: Mapping[str, nn.Module]) -> "Places":
        """Of U-Net and text encoders; nothing else takes LoRAs."""
        places = cls()
        for part, module in parts.items():
            if part == "unet" or part.startswith("text_encoder"):
                names = [name for name, child in module.named_modules() if "weight" in child._parameters]
                places.by_part[part] = _aliases(names)
                if part == "unet":
                    places.first = first_names(names)
                    places.by_part[part] |= {_plain(first): name for name, first in places.first.items()}
        return places


def _aliases(names: Iterable[str]) -> dict[str, str]:
    table = {}
    for name in names:
        plain = _plain(name).removeprefix("text_model_")
        table[plain] = name
        if plain.endswith("to_out_0"):
            table[plain.removesuffix("_0")] = name
        for ending, old in _PROJECTIONS:
            if plain.endswith(ending):
                table[plain.removesuffix(ending) + old] = name
    return table


def _plain(name: str) -> str:
    return name.replace(".", "_")


def parse(tensors: Mapping[str, Tensor], places: Places) -> Parsed:
    """Sort a file's tensors by the layers of a checkpoint."""
    stems: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        ending = next((ending for ending in _ENDINGS if name.endswith(ending)), "")
        stems.setdefault(name.removesuffix(ending), {})[_ROLES.get(ending, "")] = tensor
    layers: dict[tuple[str, str], Layer] = {}
    strangers = []
    for stem, roles in stems.items():
        part, path = _place(stem)
        module = places.by_part.get(part, {}).get(path)
        if module is None or "" in roles or ("factor" in roles and "on_input" not in roles):
            strangers.append(stem)
            continue
        first = places.first.get(module, "") if part == "unet" else ""
        known = layers.get((part, module))
        layers[part, module] = Layer(part, module, first, {**(known.tensors if known else {}), **roles})
    return Parsed(tuple(layers.values()), tuple(strangers), _other_kind(tensors))


def _place(stem: str) -> tuple[str, str]:
    """The part a stem is for, and its path there in the form of `Places`; an empty part where it names none."""
    stem = stem.replace("base_model.model.", "")
    for prefix, part in _PREFIXES.items():
        if stem.startswith(prefix):
            return part, _path(stem.removeprefix(prefix))
    if match := _BARE.match(stem):
        return "text_encoder" if match[1] in ("text_model", "encoder") else "unet", _path(stem)
    return "", stem


def _path(rest: str) -> str:
    return _plain(rest).replace("_processor_", "_").removeprefix("text_model_")


def _other_kind(names: Iterable[str]) -> str:
    for name in names:
        for step in reversed(name.split(".")):
            if step in _OTHER_KINDS:
                return _OTHER_KINDS[step]
    return ""
