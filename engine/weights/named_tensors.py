"""A module that only holds tensors, by the names in their file: LoRAs, embeddings, hypernetworks, adapters.

Modules name their parameters like attributes, so that none can be called "train", "training" or "sks.": words that
people do train. Here every name has a mark before it inside, and none outside. Does not know what tensors are for.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_MARK = "="  # begins no attribute's name


class NamedTensors(nn.Module):
    """Tensors by name; on meta until they are set with `put`.

    Args:
        shapes: The shape of each tensor, by its name in the file.
    """

    def __init__(self, shapes: Mapping[str, Any]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.put(name, torch.empty(shape, device="meta"))

    def put(self, name: str, tensor: Tensor) -> Tensor:
        """Set a tensor; returns the parameter that holds it."""
        parameter = nn.Parameter(tensor, requires_grad=False)
        self._parameters[_MARK + name] = parameter  # past register_parameter, which allows no dots
        return parameter

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Any]:  # type: ignore[override]
        """The tensors by their names in the file."""
        tensors = {}
        for key, parameter in self._parameters.items():
            if parameter is not None:
                tensors[key.removeprefix(_MARK)] = parameter.data
        return tensors
