"""One component of a model: its configuration, how it is built, where its weights are.

Which components a model has, `models/components.py` says; `models/module_slot.py` and `models/manager.py` load them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from catalog.files.headers import TensorInfo
from engine.weights.packed import is_packed
from engine.weights.reading import TensorSlice

Config = Mapping[str, Any]
_QUANTIZATION = "quantization_config"
Builder = Callable[[Config], nn.Module]


@dataclass(frozen=True, slots=True)
class Component:
    """One component of a model.

    Attributes:
        weights: Finds the file, or the several that it is split into, and checks their headers; raises ModelProblem.
        slices: By diffusers' name of a tensor: where it is in a file with names of its own, or other components too.
        dtype: Its run dtype, where the device doesn't decide.
        packings: Of tensors that its file packs (`weights/packed.py`), by diffusers' name: what may stay so in memory.
    """

    config: Config
    build: Builder
    weights: Callable[[], tuple[Path, ...]]
    slices: Mapping[str, TensorSlice] | None = None
    dtype: torch.dtype | None = None
    packings: Mapping[str, str] = field(default_factory=dict)


def plain_config(config: Config) -> Config:
    """A folder's configuration without what says how its weights were quantized: they show it."""
    return {name: value for name, value in config.items() if name != _QUANTIZATION}


def is_quantized(config: Config) -> bool:
    """Whether a folder's configuration says that its weights are quantized."""
    return _QUANTIZATION in config


def packings_of(slices: Mapping[str, TensorSlice], header: Mapping[str, TensorInfo]) -> dict[str, str]:
    """The packing of each tensor whose bytes are in the module's own order; others are expanded as they are read."""
    found = {}
    for name, one in slices.items():
        dtype = header[one.name].dtype
        if is_packed(dtype) and not one.is_transposed and not one.is_swapped:
            found[name] = dtype
    return found
