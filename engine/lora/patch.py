"""Patches a set of LoRAs into a checkpoint's modules, in place, and unpatches it.

A touched layer's weight is computed from the original in float32; unpatching copies the original from the checkpoint's
weight buffer and never subtracts, so weights come back bit-equal. Of a packed weight (GGUF) it is computed each time
the weight is expanded. A set stays patched when its job ends: the next job with the same set finds it there, one with
another changes only the layers that differ.
Names are `keys.py`, the arithmetic is `deltas.py`, the weights belong to `models/manager.py`.
"""

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from catalog.families import label_of
from contract.errors import InvalidRecipe
from contract.recipe import LoraUse
from engine.lora.alphas import Alphas, alphas_of, stamp_of_settings
from engine.lora.deltas import Delta, deltas_of, merged
from engine.lora.keys import DENOISERS, Layer, ModuleNames, match_layers
from engine.lora.ldm_names import block_of
from engine.lora.mismatch import ShapeMismatch
from engine.lora.rotations import ROTATIONS
from engine.models.bundle import Bundle


def _block_order(ins: Sequence[int], outs: Sequence[int]) -> tuple[str, ...]:
    return ("BASE", *(f"IN{number:02}" for number in ins), "MID", *(f"OUT{number:02}" for number in outs))


# Orders of block weights, by how many there are: with attention alone, or all blocks.
ORDERS: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        12: _block_order((4, 5, 7, 8), range(6)),
        17: _block_order((1, 2, 4, 5, 7, 8), range(3, 12)),
        20: _block_order(range(9), range(9)),
        26: _block_order(range(12), range(12)),
    }
)

_WITHOUT_ALPHA = frozenset({"diff", "diff_b", "factor", "on_input", "magnitude", "dora_scale", *ROTATIONS})
TensorKey = tuple[str, str]  # a component, and the name of a tensor (or module) in it
Signature = tuple[tuple[str, str, float], ...]  # which LoRAs, with which strengths


@dataclass(frozen=True, slots=True)
class LoadedLora:
    """A LoRA of the recipe with its file's tensors, leased; `module` only holds them.

    Attributes:
        id: Identifies its file, with the configuration beside it.
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
        """As the file names them. Single numbers, which are read one by one, come off the device all at once."""
        tensors = self.module.state_dict()
        numbers = [name for name, tensor in tensors.items() if tensor.numel() == 1 and tensor.device.type != "cpu"]
        if numbers:
            values = torch.stack([tensors[name].flatten()[0].float() for name in numbers]).cpu()
            tensors = {**tensors, **dict(zip(numbers, values, strict=True))}
        return tensors

    @property
    def text_weight(self) -> float:
        """On the text encoders."""
        return self.use.weight if self.use.text_weight is None else self.use.text_weight

    def strength(self, layer: Layer) -> float:
        """Its weight on a layer, block weights included."""
        whole = self.use.weight if layer.part in DENOISERS else self.text_weight
        if not self.use.blocks:
            return whole
        block = block_of(layer.ldm_name) if layer.part == "unet" else "BASE"
        order = ORDERS[len(self.use.blocks)]
        if block not in order:
            return 0.0
        return whole * self.use.blocks[order.index(block)]


class AppliedLora(NamedTuple):
    """A LoRA that acts on a module."""

    lora: LoadedLora
    layer: Layer
    strength: float
    alphas: Alphas

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Of the layer, with the settings that its file keeps apart: the alpha, or how peft makes a rotation."""
        tensors = self.layer.tensors
        if "oft_R" in tensors:
            return {**tensors, "neumann_terms": torch.tensor(self.alphas.neumann_terms(self.layer.part))}
        if "alpha" in tensors or "down" not in tensors or not tensors["down"].dim():
            return tensors
        alpha = self.alphas.of(self.layer.part, self.layer.module, tensors["down"].shape[0])
        return tensors if alpha is None else {**tensors, "alpha": torch.tensor(alpha)}


class ActingLayers(NamedTuple):
    """What a LoRA changes, with sentences for the person: that a part of it fits nothing, or that it is idle."""

    applied: tuple[AppliedLora, ...]
    notices: tuple[str, ...]
    idle: tuple[str, ...]


@dataclass(slots=True)
class _PatchState:
    """What is patched into a bundle's modules.

    Attributes:
        key: The set as asked for.
        patched: Each touched tensor, and what is patched into it.
        digests: By touched component, a text that identifies its set.
        notices: Of the set.
        idle: Of the set too: sentences about LoRAs that change nothing.
        modules: By every name that files give them; computed once for the modules.
    """

    key: tuple[object, ...] = ()
    patched: dict[TensorKey, Signature] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    modules: ModuleNames | None = None


@dataclass(frozen=True, slots=True)
class PatchedLoras:
    """A bundle with its LoRAs patched in: its digests say so, and there are sentences for the person.

    idle: about LoRAs that change nothing, whatever their weight.
    """

    bundle: Bundle
    notices: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()


@torch.no_grad()
def patch_loras(bundle: Bundle, loras: Sequence[LoadedLora]) -> PatchedLoras:
    """Make the modules compute with exactly these LoRAs; an empty set unpatches all.

    Raises:
        InvalidRecipe: one doesn't fit the checkpoint; nothing is patched then.
    """
    state = bundle.state_of(_PatchState)
    key = tuple((lora.id, lora.use.weight, lora.text_weight, lora.use.blocks) for lora in loras)
    if state.key != key:
        bundle.forget_wanted()  # of evaluations: weights that LoRAs had are written to in place
        try:
            _patch_set(bundle, state, loras)
            state.key = key
        finally:
            if state.key != key:
                _unpatch(bundle, state, list(state.patched))
                state.key, state.digests, state.notices, state.idle = (), {}, (), ()
    digests = {part: f"{digest}{state.digests.get(part, '')}" for part, digest in bundle.digests.items()}
    return PatchedLoras(replace(bundle, digests=digests), state.notices, state.idle)


def _patch_set(bundle: Bundle, state: _PatchState, loras: Sequence[LoadedLora]) -> None:
    """Patch a set in place of the one that is patched."""
    if loras and state.modules is None:
        state.modules = ModuleNames.of(bundle.modules)
    modules: dict[TensorKey, list[AppliedLora]] = {}
    notices: list[str] = []
    idle: list[str] = []
    for lora in loras:
        found = acting_layers(lora, state.modules or ModuleNames(), bundle, "loras.model")
        notices += found.notices
        idle += found.idle
        for one in found.applied:
            modules.setdefault((one.layer.part, one.layer.module), []).append(one)
    signatures: dict[TensorKey, Signature] = {}
    for (part, module), applied in modules.items():
        for one in applied:
            for name in _touched(one.layer):
                tensor = (part, f"{module}.{name}")
                signatures[tensor] = (*signatures.get(tensor, ()), (one.lora.id, name, one.strength))
    _unpatch(bundle, state, [tensor for tensor in state.patched if tensor not in signatures])
    for (part, module), applied in modules.items():
        stale = set()
        for name in (f"{module}.weight", f"{module}.bias"):
            if state.patched.get((part, name)) != signatures.get((part, name)):
                stale.add(name)
        if stale:
            _patch_module(bundle, state, part, module, applied, stale)
            for name in stale:
                state.patched[part, name] = signatures[part, name]
    state.notices, state.idle = tuple(notices), tuple(idle)
    # A component's digest is followed by another text for every set that touches it.
    seen: dict[str, set[Signature]] = {}
    for (part, _), signature in state.patched.items():
        seen.setdefault(part, set()).add(signature)
    state.digests = {}
    for part, of_part in seen.items():
        digest = hashlib.blake2b(repr(sorted(of_part)).encode(), digest_size=8).hexdigest()
        state.digests[part] = f"+{digest}"


def acting_layers(lora: LoadedLora, modules: ModuleNames, bundle: Bundle, field: str) -> ActingLayers:
    """The layers of a LoRA that have a strength.

    Args:
        field: Of the recipe, for a refusal.
    Raises:
        InvalidRecipe: it is of a kind that is not run, or none of it fits.
    """
    matched, alphas = match_layers(lora.tensors, modules), alphas_of(lora.path)
    if matched.other_kind:
        raise InvalidRecipe(
            f"LoRA {_title(lora)} is {matched.other_kind}, which is not run here.",
            "Use a LoRA, LoCon, LoHa, LoKr, DoRA, OFT or BOFT.",
            field=field,
        )
    if not matched.layers:
        raise InvalidRecipe(
            f"LoRA {_title(lora)} does nothing on “{bundle.ref.name}”: 0 of {matched.total} layers match.",
            _other_family_hint(lora, bundle),
            field=field,
        )
    notices, idle = [], []
    if matched.unmatched:
        notices.append(f"LoRA {_title(lora)}: {len(matched.layers)} of {matched.total} layers matched.")
    if all(_is_idle(layer, alphas) for layer in matched.layers):
        idle.append(f"LoRA {_title(lora)} changes nothing: its alpha is 0, or its weights are.")
    applied = [AppliedLora(lora, layer, lora.strength(layer), alphas) for layer in matched.layers]
    return ActingLayers(tuple(one for one in applied if one.strength), tuple(notices), tuple(idle))


def deltas_for(one: AppliedLora, bundle: Bundle, field: str) -> dict[str, Delta]:
    """What a LoRA adds to a module's weight, its bias or both.

    Raises:
        InvalidRecipe: it doesn't fit.
    """
    part, module = one.layer.part, one.layer.module
    shape = bundle.spec(part, f"{module}.weight").shape
    try:
        found = deltas_of(one.tensors, shape, bundle.device.torch_device, one.layer.cut)
        if "bias" in found and bundle.modules[part].get_submodule(module).bias is None:
            raise ShapeMismatch("it has a bias and the model’s layer has none")
        if "weight" in _touched(one.layer) and "weight" not in found:
            raise ShapeMismatch("it holds no change")
    except ShapeMismatch as problem:
        raise InvalidRecipe(
            f"LoRA {_title(one.lora)} does not fit “{bundle.ref.name}”: of {module}, {problem}.",
            _other_family_hint(one.lora, bundle),
            field=field,
        ) from None
    return found


def _is_idle(layer: Layer, alphas: Alphas) -> bool:
    """Whether a layer adds nothing: an alpha of 0, or a fresh LoRA's up matrix, which begins at 0."""
    if layer.tensors.keys() & _WITHOUT_ALPHA:
        return False
    tensor = layer.tensors.get("alpha")
    alpha = alphas.of(layer.part, layer.module, 1) if tensor is None else float(tensor.flatten()[0])
    up = layer.tensors.get("up")
    return alpha == 0 or (up is not None and not bool(up.any()))


def _touched(layer: Layer) -> tuple[str, ...]:
    """Which of a module's tensors a layer changes."""
    if "diff_b" not in layer.tensors:
        return ("weight",)
    return ("weight", "bias") if set(layer.tensors) - {"diff_b", "alpha"} else ("bias",)


def _patch_module(
    bundle: Bundle, state: _PatchState, part: str, module: str, applied: Sequence[AppliedLora], stale: Container[str]
) -> None:
    """Compute a module's stale tensors with all that acts on them, and put them in place."""
    device = bundle.device
    deltas: dict[str, list[tuple[Delta, float]]] = {}
    for one in applied:
        found = deltas_for(one, bundle, "loras.model")
        for name, delta in found.items():
            deltas.setdefault(f"{module}.{name}", []).append((delta, one.strength))
    for name, of_tensor in deltas.items():
        if name not in stale:
            continue
        key = (part, name)
        if bundle.spec(part, name).packing:
            state.patched[key] = ()
            bundle.change(part, name, partial(merged, deltas=of_tensor))
            continue
        original, present = bundle.original(part, name), bundle.present(part, name)
        has_own_memory = key in state.patched and not device.copies_weights
        if has_own_memory and present is not None and present.is_contiguous():
            merged(original, of_tensor, present)  # a change of strength writes to the same memory again
            continue
        base = original if key in state.patched or present is None else present
        state.patched[key] = ()  # from here on it may differ from the original
        bundle.replace(part, {name: merged(base.to(device.torch_device), of_tensor)})


def _unpatch(bundle: Bundle, state: _PatchState, tensors: Sequence[TensorKey]) -> None:
    by_part: dict[str, list[str]] = {}
    for part, name in tensors:
        by_part.setdefault(part, []).append(name)
    for part, names in by_part.items():
        bundle.restore(part, names)
    for tensor in tensors:
        state.patched.pop(tensor, None)


def _other_family_hint(lora: LoadedLora, bundle: Bundle) -> str:
    theirs, ours = lora.use.model.family, bundle.ref.family
    if theirs in ("unknown", ours):
        return "It was made for another model. Choose that, or remove it."
    return f"It was made for {label_of(theirs)}. Choose such a model, or remove it."


def _title(lora: LoadedLora) -> str:
    return f"“{lora.use.model.name}”"
