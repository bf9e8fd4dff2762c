"""Which layer of a checkpoint each tensor of a LoRA file is for, and in which role. Knows names, no arithmetic.

How files spell them is in `catalog/detect/lora_names.py`; here a path is found among the modules, by every name they
have.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from catalog.detect.lora_names import cut, other_kind, place_of, underscored
from engine.checkpoints.joint_blocks import original_modules
from engine.lora.ldm_names import ldm_names
from engine.weights.reading import TensorSlice

DENOISERS = ("unet", "transformer")
# Of a layer that is cut into several modules: what is cut as its rows are, and what all have in common.
_BY_ROWS = frozenset({"up", "diff", "diff_b", "magnitude", "hada_w1_a", "hada_w2_a", "rescale", "out_scale"})
_SHARED = frozenset({"down", "alpha", "hada_w1_b", "hada_w2_b", "oft_R", "boft_R"})
# What is cut only when it is worked out: products of Kronecker, blocks of rotations.
_LATER = frozenset(
    {f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")}
    | {"oft_blocks", "oft_diag", "oft_r"}
)
Piece = tuple[str, TensorSlice]  # a module, and which rows of the original one it has
_PROJECTIONS = (("q_proj", "to_q"), ("k_proj", "to_k"), ("v_proj", "to_v"), ("out_proj", "to_out"))


@dataclass(frozen=True, slots=True)
class Layer:
    """What a file holds for one module of a component.

    Attributes:
        part: The component.
        ldm_name: The LDM name of a U-Net's module, by which blocks are counted; else empty.
        tensors: By role: down, up, mid, alpha, magnitude (peft's DoRA), dora_scale (LyCORIS'), hada_…, lokr_…, diff,
            diff_b, factor, on_input; of rotations oft_…, boft_R, rescale, out_scale.
        cut: Which rows of the file's layer the module has, where its tensors are not cut yet; None: all.
    """

    part: str
    module: str
    ldm_name: str
    tensors: Mapping[str, Tensor]
    cut: TensorSlice | None = None


@dataclass(frozen=True, slots=True)
class MatchedLayers:
    """A file's layers that are in the model, and the keys that are not.

    Attributes:
        unmatched: Keys (without their roles) for which the model has no module.
        other_kind: The kind of a file that is not run; else empty.
    """

    layers: tuple[Layer, ...]
    unmatched: tuple[str, ...]
    other_kind: str = ""

    @property
    def total(self) -> int:
        """Layers that the file has."""
        return len(self.layers) + len(self.unmatched)


@dataclass(slots=True)
class ModuleNames:
    """The modules of a checkpoint's components by every name that files give them.

    Attributes:
        by_part: By component: from a name with underscores to the module's own.
        ldm: LDM names of the U-Net's modules.
        denoiser: The component that predicts.
        pieces: From an original name with underscores to the modules of a transformer that it is cut into.
    """

    by_part: dict[str, dict[str, str]] = field(default_factory=dict)
    ldm: dict[str, str] = field(default_factory=dict)
    denoiser: str = "unet"
    pieces: dict[str, list[Piece]] = field(default_factory=dict)

    @classmethod
    def of(cls, parts: Mapping[str, nn.Module]) -> "ModuleNames":
        """Of the denoiser and text encoders; nothing else takes LoRAs."""
        known = cls()
        for part, module in parts.items():
            if part not in DENOISERS and not part.startswith("text_encoder"):
                continue
            names = [name for name, child in module.named_modules() if "weight" in child._parameters]
            aliases = known.by_part.setdefault(part, {})
            for name in names:
                path = underscored(name).removeprefix("text_model_")
                aliases[path] = name
                if path.endswith("to_out_0"):
                    aliases[path.removesuffix("_0")] = name
                for ending, attention_name in _PROJECTIONS:
                    if path.endswith(ending):
                        aliases[path.removesuffix(ending) + attention_name] = name
            if part == "unet":
                known.ldm = ldm_names(names)
                for name, ldm_name in known.ldm.items():
                    aliases[underscored(ldm_name)] = name
            if part == "transformer":
                known.denoiser = part
                for name, (original, rows) in original_modules(names).items():
                    known.pieces.setdefault(underscored(original), []).append((name, rows))
        return known


def match_layers(tensors: Mapping[str, Tensor], modules: ModuleNames) -> MatchedLayers:
    """Sort a file's tensors by the layers of a checkpoint."""
    stems: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        stem, role = cut(name)
        stems.setdefault(stem, {})[role] = tensor
    layers: dict[tuple[str, str], Layer] = {}
    unmatched = []
    for stem, roles in stems.items():
        place = place_of(stem)
        part = modules.denoiser if place.part in DENOISERS else place.part
        module = modules.by_part.get(part, {}).get(place.path)
        pieces = modules.pieces.get(place.path, []) if part == modules.denoiser else []
        if module is None and len(pieces) == 1 and pieces[0][1].is_whole:
            module = pieces[0][0]
        by_rows = _BY_ROWS | {"dora_scale"} if _has_lengths_of_rows(roles) else _BY_ROWS
        if module is None and pieces and roles.keys() <= by_rows | _SHARED | _LATER:
            for piece, rows in pieces:
                of_piece = {role: rows.of(tensor) if role in by_rows else tensor for role, tensor in roles.items()}
                layers[part, piece] = Layer(part, piece, "", of_piece, rows if roles.keys() & _LATER else None)
            continue
        if module is None or "" in roles or ("factor" in roles and "on_input" not in roles):
            unmatched.append(stem)
            continue
        key = (part, module)
        if key in layers:
            roles = {**layers[key].tensors, **roles}
        ldm_name = modules.ldm.get(module, "") if part == "unet" else ""
        layers[key] = Layer(part, module, ldm_name, roles)
    return MatchedLayers(tuple(layers.values()), tuple(unmatched), other_kind(tensors))


def _has_lengths_of_rows(roles: Mapping[str, Tensor]) -> bool:
    """Whether LyCORIS' lengths (DoRA) are of rows; those of columns say nothing of some rows alone."""
    lengths = roles.get("dora_scale")
    return lengths is not None and (lengths.dim() < 2 or lengths.shape[0] == lengths.numel())
