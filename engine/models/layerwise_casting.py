"""Weights held in half precision and cast layer by layer as it computes in float32: for a CPU short of memory.

diffusers calls it layerwise casting. What a module holds between two calls has a shape and a dtype, for which libraries
ask, and no memory. The numbers are those of a float32 model wherever the file's are in half precision too.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from catalog.files.headers import read_header
from engine.checkpoints.component import Component

StorageChoice = Literal["auto", "full", "half"]
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


def no_weights(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Stands for weights that are elsewhere: of their shape, without their memory, and no numbers if it is read."""
    return torch.full((), float("nan"), dtype=dtype).expand(shape)


def cast_layerwise(module: nn.Module, stored: Mapping[str, Tensor]) -> None:
    """From now on each layer has its weights while it runs.

    Args:
        module: Whose parameters are `no_weights`, of the compute dtype.
        stored: By the names of its parameters: tensors whose data are the weights, then and ever after.
    """
    layers: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}
    for name, weight in stored.items():
        owner, _, leaf = name.rpartition(".")
        layer = module.get_submodule(owner)
        layers.setdefault(layer, []).append((getattr(layer, leaf), weight))
    for layer, pairs in layers.items():
        _cast_while_it_runs(layer, pairs)


def _cast_while_it_runs(layer: nn.Module, pairs: list[tuple[Tensor, Tensor]]) -> None:
    is_table = isinstance(layer, nn.Embedding)  # large, and little of it is read

    def widen(*_: object) -> None:
        for parameter, weight in pairs:
            parameter.data = weight.data if is_table else weight.data.to(dtypes[parameter])

    def narrow(_: nn.Module, __: object, output: Any) -> Any:
        for parameter, nothing in between.items():
            parameter.data = nothing
        return output.to(pairs[0][0].dtype) if is_table and isinstance(output, Tensor) else None

    between = {parameter: parameter.data for parameter, _ in pairs}
    dtypes = {parameter: parameter.dtype for parameter, _ in pairs}
    layer.register_forward_pre_hook(widen)
    layer.register_forward_hook(narrow, always_call=True)
