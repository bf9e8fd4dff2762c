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
from engine.lora.alphas import alphas_of
from engine.lora.deltas import Delta, deltas_of, merged
from engine.lora.keys import ModuleNames, match_layers
from engine.lora.mismatch import ShapeMismatch
from engine.lora.patch import AppliedLora, LoadedLora
from engine.models.components import components_of
from engine.models.module_slot import on_meta
from engine.weights.named_tensors import NamedTensors
from engine.weights.reading import read_tensor, scaled

Key = tuple[str, str]  # component, diffusers' name without `text_model.`


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
    modules = {part: on_meta(part, component.build, component.config) for part, component in parts.items()}
    module_names = ModuleNames.of(modules)
    deltas: dict[Key, list[tuple[Delta, float]]] = {}
    notices = []
    for use, path in loras:
        lora = LoadedLora(use, read_lora(use, path), path)
        matched = match_layers(lora.tensors, module_names)
        if matched.other_kind:
            raise ModelProblem(
                f"LoRA “{use.model.name}” is {matched.other_kind}, which can't be baked in.", "Leave it out."
            )
        if not matched.layers:
            raise ModelProblem(
                f"LoRA “{use.model.name}” does nothing on “{name}”: 0 of {matched.total} layers match.",
                "It was made for another model. Leave it out.",
            )
        if matched.unmatched:
            notices.append(f"LoRA “{use.model.name}”: {len(matched.layers)} of {matched.total} layers matched.")
        alphas = alphas_of(path)
        for layer in matched.layers:
            strength = lora.strength(layer)
            tensors = AppliedLora(lora, layer, strength, alphas).tensors
            parameters = dict(modules[layer.part].get_submodule(layer.module).named_parameters(recurse=False))
            try:
                shape = tuple(parameters["weight"].shape)
                found = deltas_of(tensors, shape, torch.device("cpu"), layer.cut)
            except ShapeMismatch as problem:
                raise ModelProblem(
                    f"LoRA “{use.model.name}” does not fit “{name}”: of {layer.module}, {problem}.",
                    "It was made for another model. Leave it out.",
                ) from None
            for parameter, delta in found.items():
                if parameter in parameters and strength:
                    key = (layer.part, f"{layer.module}.{parameter}".removeprefix("text_model."))
                    deltas.setdefault(key, []).append((delta, strength))

    def baked(key: Key, tensor: Tensor) -> Tensor:
        if key not in deltas:
            return tensor
        return merged(tensor.contiguous(), deltas[key]).reshape(tensor.shape)

    return Baked(baked, " ".join(notices))


def read_lora(use: LoraUse, path: Path) -> nn.Module:
    """A LoRA file's tensors on a module that only holds them, in float32."""
    component = components_of(use.model, path)[use.model.kind]
    holder, header = component.build(component.config), read_header(path)
    assert isinstance(holder, NamedTensors)
    for name in component.config:
        scale = scale_of(name, header)
        factor = None if scale is None else read_tensor(path, scale)
        holder.put(name, scaled(read_tensor(path, header[name]), factor).float())
    return holder
