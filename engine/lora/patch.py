"""Puts a set of LoRAs on a checkpoint's modules, in place, and takes it off again.

A touched layer's weight is computed from the checkpoint's own in float32 and put in its place; what is taken off is
copied from the checkpoint's block, never subtracted, so the own weights come back bit-equal. A set stays on when its
job ends: the next job with the same set finds it there, one with another changes only the layers that differ.
Names are `keys.py`, the arithmetic `deltas.py`, whose weights they are `models/manager.py`.
"""

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from catalog.families import FAMILIES
from contract.errors import InvalidRecipe
from contract.recipe import LoraUse
from engine.lora.alphas import Alphas, alphas_of, stamp_of_settings
from engine.lora.deltas import Change, ShapeMismatch, deltas_of, merged
from engine.lora.keys import Layer, ModuleNames, Parsed, parse
from engine.lora.ldm_names import block_of
from engine.models.manager import Bundle


def _blocks(ins: Sequence[int], outs: Sequence[int]) -> tuple[str, ...]:
    return ("BASE", *(f"IN{number:02}" for number in ins), "MID", *(f"OUT{number:02}" for number in outs))


# Orders of block weights, by how many there are: with attention alone, or all blocks.
ORDERS: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        12: _blocks((4, 5, 7, 8), range(6)),
        17: _blocks((1, 2, 4, 5, 7, 8), range(3, 12)),
        20: _blocks(range(9), range(9)),
        26: _blocks(range(12), range(12)),
    }
)

_WITHOUT_ALPHA = frozenset({"diff", "diff_b", "factor", "on_input", "magnitude", "dora_scale"})
TensorSpec = tuple[str, str]  # a part, and the name of a tensor (or module) in it
Signature = tuple[tuple[str, str, float], ...]  # which LoRAs, with which strengths


@dataclass(frozen=True, slots=True)
class LoadedLora:
    """A LoRA of the recipe with its file's tensors, leased; `module` only holds them.

    Attributes:
        id: Tells its file, with the configuration beside it, from others.
    """

    use: LoraUse
    module: nn.Module
    path: Path
    id: str = field(init=False)

    def __post_init__(self) -> None:
        model = self.use.model
        object.__setattr__(self, "id", (model.fingerprint or model.name) + stamp_of_settings(self.path))

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """As the file names them."""
        return self.module.state_dict()

    @property
    def text_weight(self) -> float:
        """On the text encoders."""
        return self.use.weight if self.use.text_weight is None else self.use.text_weight

    def strength(self, layer: Layer) -> float:
        """How strongly it acts on a layer."""
        whole = self.use.weight if layer.part == "unet" else self.text_weight
        if not self.use.blocks:
            return whole
        block = block_of(layer.ldm_name) if layer.part == "unet" else "BASE"
        order = ORDERS[len(self.use.blocks)]
        return whole * self.use.blocks[order.index(block)] if block in order else 0.0


class AppliedLora(NamedTuple):
    """A LoRA that acts on a module."""

    lora: LoadedLora
    layer: Layer
    strength: float
    alphas: Alphas

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Of the layer, with the alpha that its file keeps apart."""
        tensors = self.layer.tensors
        if "alpha" in tensors or "down" not in tensors or not tensors["down"].dim():
            return tensors
        alpha = self.alphas.of(self.layer.part, self.layer.module, tensors["down"].shape[0])
        return tensors if alpha is None else {**tensors, "alpha": torch.tensor(alpha)}


@dataclass(slots=True)
class _State:
    """What lies on a bundle's modules.

    Attributes:
        key: The set as asked for.
        places: Each touched tensor, and what is on it.
        marks: By touched part, a text that tells its set from others.
        notices: Of the set.
        idle: Of the set too: sentences about those that change nothing.
        modules: By every name that files give them; worked out once for the modules.
    """

    key: tuple[object, ...] = ()
    places: dict[TensorSpec, Signature] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    modules: ModuleNames | None = None


@dataclass(frozen=True, slots=True)
class PatchedLoras:
    """A bundle as its LoRAs leave it: with digests that tell so, and sentences for the person.

    idle: about LoRAs that change nothing, whatever their weight.
    """

    bundle: Bundle
    notices: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()


@torch.no_grad()
def patch_loras(bundle: Bundle, loras: Sequence[LoadedLora]) -> PatchedLoras:
    """Make the modules compute with exactly these LoRAs on them; none takes all off.

    Raises:
        InvalidRecipe: one doesn't fit the checkpoint; nothing lies on the modules then.
    """
    state = bundle.state_of(_State)
    key = tuple((lora.id, lora.use.weight, lora.text_weight, lora.use.blocks) for lora in loras)
    if state.key != key:
        try:
            _change(bundle, state, loras)
            state.key, state.marks = key, _marks(state.places)
        except BaseException:
            _unpatch(bundle, state, list(state.places))
            state.key, state.marks, state.notices, state.idle = (), {}, (), ()
            raise
    digests = {part: f"{digest}{state.marks.get(part, '')}" for part, digest in bundle.digests.items()}
    return PatchedLoras(replace(bundle, digests=digests), state.notices, state.idle)


def _marks(places: Mapping[TensorSpec, Signature]) -> dict[str, str]:
    """What a part's digest is followed by, another text for every set that touches it."""
    seen: dict[str, set[Signature]] = {}
    for (part, _), signature in places.items():
        seen.setdefault(part, set()).add(signature)
    return {
        part: f"+{hashlib.blake2b(repr(sorted(signatures)).encode(), digest_size=8).hexdigest()}"
        for part, signatures in seen.items()
    }


def _change(bundle: Bundle, state: _State, loras: Sequence[LoadedLora]) -> None:
    if loras and state.modules is None:
        state.modules = ModuleNames.of(bundle.modules)
    places = state.modules or ModuleNames()
    modules: dict[TensorSpec, list[AppliedLora]] = {}
    notices, idle = [], []
    for lora in loras:
        parsed, alphas = parse(lora.tensors, places), alphas_of(lora.path)
        _check(lora, parsed, bundle)
        if parsed.unmatched:
            notices.append(f"LoRA {_title(lora)}: {len(parsed.layers)} of {parsed.total} layers matched.")
        if parsed.layers and all(_is_idle(layer, alphas) for layer in parsed.layers):
            idle.append(f"LoRA {_title(lora)} changes nothing: its alpha is 0, or its weights are.")
        for layer in parsed.layers:
            if strength := lora.strength(layer):
                modules.setdefault((layer.part, layer.module), []).append(AppliedLora(lora, layer, strength, alphas))
    signatures: dict[TensorSpec, Signature] = {}
    for (part, module), applied in modules.items():
        for act in applied:
            for name in _touched(act.layer):
                place = (part, f"{module}.{name}")
                signatures[place] = (*signatures.get(place, ()), (act.lora.id, name, act.strength))
    _unpatch(bundle, state, [place for place in state.places if place not in signatures])
    for (part, module), applied in modules.items():
        mine = [f"{module}.{name}" for name in ("weight", "bias")]
        stale = {name for name in mine if state.places.get((part, name)) != signatures.get((part, name))}
        if stale:
            _put(bundle, state, part, module, applied, stale)
            state.places |= {(part, name): signatures[part, name] for name in stale}
    state.notices, state.idle = tuple(notices), tuple(idle)


def _is_idle(layer: Layer, alphas: Alphas) -> bool:
    """Whether a layer adds nothing: an alpha of 0, or a fresh LoRA's way up, which begins at 0."""
    if layer.tensors.keys() & _WITHOUT_ALPHA:
        return False
    alpha = layer.tensors.get("alpha")
    told = alphas.of(layer.part, layer.module, 1) if alpha is None else float(alpha.flatten()[0])
    up = layer.tensors.get("up")
    return told == 0 or (up is not None and not bool(up.any()))


def _touched(layer: Layer) -> tuple[str, ...]:
    """Which of a module's tensors a layer changes."""
    if "diff_b" not in layer.tensors:
        return ("weight",)
    return ("weight", "bias") if set(layer.tensors) - {"diff_b", "alpha"} else ("bias",)


def _deltas(act: AppliedLora, shape: tuple[int, ...], bundle: Bundle) -> dict[str, Change]:
    lora, layer = act.lora, act.layer
    try:
        found = deltas_of(act.tensors, shape, bundle.device.torch_device)
        if "bias" in found and bundle.modules[layer.part].get_submodule(layer.module).bias is None:
            raise ShapeMismatch("it has a bias and the model’s layer has none")
        if "weight" in _touched(layer) and "weight" not in found:
            raise ShapeMismatch("it holds no change")
    except ShapeMismatch as problem:
        raise InvalidRecipe(
            f"LoRA {_title(lora)} does not fit “{bundle.ref.name}”: of {layer.module}, {problem}.",
            _other_family(lora, bundle),
            field="loras.model",
        ) from None
    return found


def _put(
    bundle: Bundle, state: _State, part: str, module: str, applied: Sequence[AppliedLora], stale: Container[str]
) -> None:
    """Compute a module's tensors with all that acts on them, and put them on it."""
    shape = tuple(bundle.original(part, f"{module}.weight").shape)
    deltas: dict[str, list[tuple[Change, float]]] = {}
    for act in applied:
        for name, change in _deltas(act, shape, bundle).items():
            deltas.setdefault(f"{module}.{name}", []).append((change, act.strength))
    for name in filter(stale.__contains__, deltas):
        device, place = bundle.device, (part, name)
        own, present = bundle.original(part, name), bundle.present(part, name)
        if place in state.places and present is not None and not device.copies_weights and present.is_contiguous():
            merged(own, deltas[name], present)  # memory of its own already: a change of strength writes there again
            continue
        base = own if place in state.places or present is None else present
        state.places[place] = ()  # from here on it may differ from the checkpoint's own
        bundle.replace(part, {name: merged(base.to(device.torch_device), deltas[name])})


def _unpatch(bundle: Bundle, state: _State, places: Sequence[TensorSpec]) -> None:
    by_part: dict[str, list[str]] = {}
    for part, name in places:
        by_part.setdefault(part, []).append(name)
    for part, names in by_part.items():
        bundle.restore(part, names)
    for place in places:
        state.places.pop(place, None)


def _check(lora: LoadedLora, parsed: Parsed, bundle: Bundle) -> None:
    if parsed.other_kind:
        raise InvalidRecipe(
            f"LoRA {_title(lora)} is {parsed.other_kind}, which is not run here.",
            "Use a LoRA, LoCon, LoHa, LoKr or DoRA.",
            field="loras.model",
        )
    if not parsed.layers:
        raise InvalidRecipe(
            f"LoRA {_title(lora)} does nothing on “{bundle.ref.name}”: 0 of {parsed.total} layers match.",
            _other_family(lora, bundle),
            field="loras.model",
        )


def _other_family(lora: LoadedLora, bundle: Bundle) -> str:
    theirs, ours = lora.use.model.family, bundle.ref.family
    label = FAMILIES[theirs].label if theirs in FAMILIES else theirs
    if theirs in ("unknown", ours):
        return "It was made for another model. Choose that, or remove it."
    return f"It was made for {label}. Choose such a model, or remove it."


def _title(lora: LoadedLora) -> str:
    return f"“{lora.use.model.name}”"
