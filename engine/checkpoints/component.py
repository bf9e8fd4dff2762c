"""One component of a model: its configuration, how it is built, where its weights are.

Which components a model has, `models/components.py` says; `models/module_slot.py` and `models/manager.py` load them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine.weights.reading import TensorSlice

Config = Mapping[str, Any]
Builder = Callable[[Config], nn.Module]


@dataclass(frozen=True, slots=True)
class Component:
    """One component of a model.

    Attributes:
        weights: Finds the file, or the several that it is split into, and checks their headers; raises ModelProblem.
        slices: By diffusers' name of a tensor: where it is in a file with names of its own, or other components too.
        dtype: Its run dtype, where the device doesn't decide.
    """

    config: Config
    build: Builder
    weights: Callable[[], tuple[Path, ...]]
    slices: Mapping[str, TensorSlice] | None = None
    dtype: torch.dtype | None = None
