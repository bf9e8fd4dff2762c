"""Which layer of a checkpoint each tensor of a LoRA file is for, and in which role. Knows names, no arithmetic.

How files spell them is in `catalog/detect/lora_names.py`; here a path is found among the modules, by every name they
have.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from catalog.detect.lora_names import cut, other_kind, place_of, plain
from engine.lora.ldm_names import ldm_names

_PROJECTIONS = (("q_proj", "to_q"), ("k_proj", "to_k"), ("v_proj", "to_v"), ("out_proj", "to_out"))


@dataclass(frozen=True, slots=True)
class Layer:
    """What a file holds for one module of a part.

    Attributes:
        first_name: The first programs' name of a U-Net's module, by which blocks are counted; else empty.
        tensors: By role: down, up, mid, alpha, magnitude (peft's DoRA), dora_scale (LyCORIS'), hada_…, lokr_…, diff,
            diff_b, factor, on_input.
    """

    part: str
    module: str
    ldm_name: str
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file's layers that are in the model, and how many places it names in all.

    Attributes:
        strangers: Places (or whole names) that the model has none for.
        other_kind: The kind of a file that is not run; else empty.
    """

    layers: tuple[Layer, ...]
    unmatched: tuple[str, ...]
    other_kind: str = ""

    @property
    def total(self) -> int:
        """Places the file names."""
        return len(self.layers) + len(self.unmatched)


@dataclass(slots=True)
class ModuleNames:
    """The modules of a checkpoint's parts by every name that files give them."""

    by_part: dict[str, dict[str, str]] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, parts: Mapping[str, nn.Module]) -> "ModuleNames":
        """Of U-Net and text encoders; nothing else takes LoRAs."""
        places = cls()
        for part, module in parts.items():
            if part == "unet" or part.startswith("text_encoder"):
                names = [name for name, child in module.named_modules() if "weight" in child._parameters]
                places.by_part[part] = _aliases(names)
                if part == "unet":
                    places.first = ldm_names(names)
                    places.by_part[part] |= {plain(first): name for name, first in places.first.items()}
        return places


def _aliases(names: Iterable[str]) -> dict[str, str]:
    table = {}
    for name in names:
        path = plain(name).removeprefix("text_model_")
        table[path] = name
        if path.endswith("to_out_0"):
            table[path.removesuffix("_0")] = name
        for ending, old in _PROJECTIONS:
            if path.endswith(ending):
                table[path.removesuffix(ending) + old] = name
    return table


def parse(tensors: Mapping[str, Tensor], places: ModuleNames) -> Parsed:
    """Sort a file's tensors by the layers of a checkpoint."""
    stems: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        stem, role = cut(name)
        stems.setdefault(stem, {})[role] = tensor
    layers: dict[tuple[str, str], Layer] = {}
    unmatched = []
    for stem, roles in stems.items():
        place = place_of(stem)
        part, module = place.part, places.by_part.get(place.part, {}).get(place.path)
        if module is None or "" in roles or ("factor" in roles and "on_input" not in roles):
            unmatched.append(stem)
            continue
        first = places.first.get(module, "") if part == "unet" else ""
        known = layers.get((part, module))
        layers[part, module] = Layer(part, module, first, {**(known.tensors if known else {}), **roles})
    return Parsed(tuple(layers.values()), tuple(unmatched), other_kind(tensors))
