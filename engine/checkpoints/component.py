"""One set of modules of a model: its configuration, how it is built, where its weights are.

Which parts a model has, `components.py` says; what becomes of them, `models/module_slot.py` and `models/manager.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.families.family import Builder, Config
from engine.weights.reading import TensorSlice


@dataclass(frozen=True, slots=True)
class Component:
    """One set of modules of a model.

    Attributes:
        weights: Finds the file, or the several that it is split into, headers read and found sound; raises
            ModelProblem.
        pieces: diffusers' name of a tensor -> where it is in a file that has its own names, or other parts too.
        dtype: What its numbers are kept as, where the device doesn't decide.
    """

    config: Config
    build: Builder
    weights: Callable[[], tuple[Path, ...]]
    slices: Mapping[str, TensorSlice] | None = None
    dtype: torch.dtype | None = None
