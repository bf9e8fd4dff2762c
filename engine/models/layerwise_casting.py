"""Weights held in fewer bits than are computed with, and widened layer by layer: in half precision, or packed.

diffusers calls it layerwise casting: of weights in half precision for a CPU that computes in float32 and is short of
memory, of packed ones (GGUF) on every device. What a module holds between two calls has a shape and a dtype, for which
libraries ask, and no memory. The numbers are those of a float32 model wherever the file's are in half precision too.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from catalog.files.headers import read_header
from engine.checkpoints.component import Component

StorageChoice = Literal["auto", "full", "half"]
Numbers = Callable[[Tensor], Tensor]
_KINDS = ("checkpoint", "vae", "controlnet", "t2i_adapter", "text_encoder")  # models that are run, not only read


def half_dtype(kind: str, components: Mapping[str, Component]) -> torch.dtype | None:
    """The half precision that keeps most of a model's weights as they are; None for a kind that is never cast.

    Raises:
        ModelProblem: a header can't be read.
    """
    if kind not in _KINDS:
        return None
    dtypes = set()
    for component in components.values():
        for file in component.weights():
            dtypes |= {info.dtype for info in read_header(file).values()}
    return torch.bfloat16 if "BF16" in dtypes and "F16" not in dtypes else torch.float16


def may_stay_packed(module: nn.Module, name: str) -> bool:
    """Whether a tensor is the weight of a layer that can have it while it runs: no table, of which little is read."""
    owner, _, leaf = name.rpartition(".")
    return leaf == "weight" and isinstance(module.get_submodule(owner), nn.Linear | nn.Conv2d)


def no_weights(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """Stands for weights that are elsewhere: of their shape, without their memory, and no numbers if it is read."""
    return torch.full((), float("nan"), dtype=dtype, device=device).expand(shape)


def cast_layerwise(
    module: nn.Module, stored: Mapping[str, Tensor], numbers_of: Mapping[str, Numbers] = MappingProxyType({})
) -> None:
    """From now on each layer has its weights while it runs.

    Args:
        module: Whose parameters are `no_weights`, of the compute dtype.
        stored: By the names of its parameters: tensors whose data are the weights, then and ever after.
        numbers_of: Of those that are packed, what makes numbers of the data.
    """
    layers: dict[nn.Module, list[tuple[Tensor, Tensor, Numbers]]] = {}
    for name, weight in stored.items():
        owner, _, leaf = name.rpartition(".")
        layer = module.get_submodule(owner)
        held = (getattr(layer, leaf), weight, numbers_of.get(name, _as_it_is))
        layers.setdefault(layer, []).append(held)
    for layer, of_layer in layers.items():
        _cast_while_it_runs(layer, of_layer)


def _as_it_is(data: Tensor) -> Tensor:
    return data


def _cast_while_it_runs(layer: nn.Module, held: list[tuple[Tensor, Tensor, Numbers]]) -> None:
    is_table = isinstance(layer, nn.Embedding)  # large, and little of it is read

    def widen(*_: object) -> None:
        for parameter, weight, numbers in held:
            parameter.data = weight.data if is_table else numbers(weight.data).to(dtypes[parameter])

    def narrow(_: nn.Module, __: object, output: Any) -> Any:
        for parameter, nothing in between.items():
            parameter.data = nothing
        return output.to(held[0][0].dtype) if is_table and isinstance(output, Tensor) else None

    between = {parameter: parameter.data for parameter, _, _ in held}
    dtypes = {parameter: parameter.dtype for parameter, _, _ in held}
    layer.register_forward_pre_hook(widen)
    layer.register_forward_hook(narrow, always_call=True)
