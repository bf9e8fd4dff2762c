"""LoRAs as a function of a checkpoint's tensors, for a merge: what `lora/patch.py` does on modules, with no weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from catalog.detect.quantized import scale_of
from catalog.files.headers import read_header
from contract.errors import ModelProblem
from contract.recipe import LoraUse
from engine.checkpoints.component import Component
from engine.checkpoints.components import components_of
from engine.lora.alphas import alphas_of
from engine.lora.deltas import Change, ShapeMismatch, deltas_of, merged
from engine.lora.keys import ModuleNames, parse
from engine.lora.patch import AppliedLora, LoadedLora
from engine.models.module_slot import on_meta
from engine.weights.named_tensors import NamedTensors
from engine.weights.reading import read_tensor, scaled

Key = tuple[str, str]  # part, diffusers' name without `text_model.`


@dataclass(frozen=True, slots=True)
class Baked:
    """What LoRAs make of a tensor.

    Attributes:
        of: A checkpoint's tensor (float32, in the file's shape) -> with all LoRAs in it.
        notice: A sentence about LoRAs that fit in part; empty where all fit.
    """

    of: Callable[[Key, Tensor], Tensor]
    notice: str = ""


def bake(name: str, parts: Mapping[str, Component], loras: Sequence[tuple[LoraUse, Path]]) -> Baked:
    """Read LoRAs and find the tensors of a checkpoint that they change.

    Args:
        name: The checkpoint's, for sentences.
    Raises:
        ModelProblem: one does not fit the checkpoint.
    """
    modules = {part: on_meta(part, one.build, one.config) for part, one in parts.items()}
    places = ModuleNames.of(modules)
    deltas: dict[Key, list[tuple[Change, float]]] = {}
    notices = []
    for use, path in loras:
        lora = LoadedLora(use, _read(use, path), path)
        parsed = parse(lora.tensors, places)
        if parsed.other_kind:
            raise ModelProblem(
                f"LoRA “{use.model.name}” is {parsed.other_kind}, which can't be baked in.", "Leave it out."
            )
        if not parsed.layers:
            raise ModelProblem(
                f"LoRA “{use.model.name}” does nothing on “{name}”: 0 of {parsed.total} layers match.",
                "It was made for another model. Leave it out.",
            )
        if parsed.unmatched:
            notices.append(f"LoRA “{use.model.name}”: {len(parsed.layers)} of {parsed.total} layers matched.")
        alphas = alphas_of(path)
        for layer in parsed.layers:
            act = AppliedLora(lora, layer, lora.strength(layer), alphas)
            for leaf, change in _deltas(act, modules[layer.part], name).items():
                key = (layer.part, f"{layer.module}.{leaf}".removeprefix("text_model."))
                deltas.setdefault(key, []).append((change, act.strength))
    return Baked(lambda key, tensor: _with(deltas.get(key, []), tensor), " ".join(notices))


def _read(use: LoraUse, path: Path) -> nn.Module:
    """A file's tensors on a module that only holds them."""
    part = components_of(use.model, path)[use.model.kind]
    holder, header = part.build(part.config), read_header(path)
    assert isinstance(holder, NamedTensors)
    for name in part.config:
        scale = scale_of(name, header)
        tensor = scaled(read_tensor(path, header[name]), None if scale is None else read_tensor(path, scale))
        holder.put(name, tensor.float())
    return holder


def _deltas(act: AppliedLora, module: nn.Module, name: str) -> dict[str, Change]:
    own = dict(module.get_submodule(act.layer.module).named_parameters(recurse=False))
    try:
        found = deltas_of(act.tensors, tuple(own["weight"].shape), torch.device("cpu"))
    except ShapeMismatch as problem:
        raise ModelProblem(
            f"LoRA “{act.lora.use.model.name}” does not fit “{name}”: of {act.layer.module}, {problem}.",
            "It was made for another model. Leave it out.",
        ) from None
    return {leaf: change for leaf, change in found.items() if leaf in own}


def _with(deltas: list[tuple[Change, float]], tensor: Tensor) -> Tensor:
    deltas = [(change, strength) for change, strength in deltas if strength]
    return merged(tensor.contiguous(), deltas).reshape(tensor.shape) if deltas else tensor
