"""A module that only holds tensors, by whatever names their file has: LoRAs, embeddings, hypernetworks, adapters.

Modules name their parameters like attributes, so that none can be called "train", "training" or "sks.": words that
people do train. Here every name has a mark before it inside, and none outside. What tensors do, others know.
"""

from typing import Any

import torch
from torch import Tensor, nn

from engine.families.family import Config

_MARK = "="  # begins no attribute's name


class NamedTensors(nn.Module):
    """Tensors by name; on meta until they are put.

    Args:
        shapes: Of each, by its name in the file.
    """

    def __init__(self, shapes: Config) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.put(name, torch.empty(shape, device="meta"))

    def put(self, name: str, tensor: Tensor) -> Tensor:
        """Let a name have this tensor; returns what the module holds from now on."""
        held = nn.Parameter(tensor, requires_grad=False)
        self._parameters[_MARK + name] = held  # past register_parameter, which takes no dots
        return held

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Any]:
        """The tensors by their names in the file."""
        return {key.removeprefix(_MARK): held.data for key, held in self._parameters.items() if held is not None}
