"""How the modules of a model are evaluated on a CPU: as they are, by a trace, or by OpenVINO.

Whoever runs a module says so by a call: a function of the module and of tensors alone. For a call with tensors of
shapes that were used, a faster evaluation is made in idle time (`tracing.py`, `openvino_backend.py`), and tried against
what the module itself gave. What is ready changes only while the engine is idle, so that an image has one backend.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

Outputs = tuple[Tensor, ...]
Call = Callable[..., Outputs]  # call(module, *inputs); hashable, and equal where it does the same
Evaluation = Callable[..., Outputs]  # of the inputs alone
Shapes = tuple[tuple[torch.dtype, tuple[int, ...]], ...]

_MOST_READY = 12  # evaluations of a model's modules; the least recently used goes first
_MOST_WANTED = 8


class Evaluate(Protocol):
    """Evaluates a component of a model by whatever is ready and best."""

    def __call__(self, component: str, call: Call, *inputs: Tensor) -> Outputs:
        """What `call(module, *inputs)` gives, of the dtypes that it gives."""


def by_modules(onload: Callable[[str], nn.Module]) -> Evaluate:
    """Evaluates components as they are: with hooks in them, for example, which nothing else would see."""
    return lambda component, call, *inputs: call(onload(component), *inputs)


class Key(NamedTuple):
    """What an evaluation is for. weights: their digest; empty where it reads the module's own."""

    component: str
    call: Call
    shapes: Shapes
    weights: str = ""


class Positional(nn.Module):
    """A module called by a function of tensors alone, as tracing needs it."""

    def __init__(self, module: nn.Module, call: Call) -> None:
        super().__init__()
        self.module = module
        self._call = call

    def forward(self, *inputs: Tensor) -> Outputs:
        return self._call(self.module, *inputs)


@dataclass(slots=True)
class Wanted:
    """An evaluation that is to be made when the engine is idle, with one that the module itself did.

    Attributes:
        key: With the weights that the module had then.
        may_trace: Whether a trace would do as well.
        seconds: Of the module's quickest evaluation.
        is_current: Whether the module has had these weights ever since.
    """

    key: Key
    module: nn.Module
    inputs: tuple[Tensor, ...]
    outputs: Outputs
    may_trace: bool
    seconds: float
    is_current: bool = True


@dataclass(slots=True)
class Evaluations:
    """The evaluations of one set of modules, whatever weights are in them.

    Attributes:
        ready: None for those that were tried and are of no use.
        wanted: What the module itself did meanwhile, least recently first.
        sizes: Bytes of memory that those take which hold weights.
    """

    ready: dict[Key, Evaluation | None] = field(default_factory=dict)
    wanted: dict[Key, Wanted] = field(default_factory=dict)
    sizes: dict[Key, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of memory beside the modules' own weights."""
        return sum(self.sizes.values())

    def find(self, component: str, call: Call, inputs: tuple[Tensor, ...], weights: str) -> Evaluation | None:
        """The best that is ready."""
        shapes = shapes_of(inputs)
        for digest in dict.fromkeys((weights, "")):
            key = Key(component, call, shapes, digest)
            if key in self.ready:
                self.ready[key] = self.ready.pop(key)  # now the most recently used
                if self.ready[key] is not None:
                    return self.ready[key]
        return None

    def run(
        self, module: nn.Module, component: str, call: Call, inputs: tuple[Tensor, ...], weights: str, may_trace: bool
    ) -> Outputs:
        """Evaluate the module itself, and note that something better is wanted.

        Args:
            weights: Their digest, where OpenVINO is to be tried.
        """
        began = time.perf_counter()
        outputs = call(module, *inputs)
        seconds = time.perf_counter() - began
        key = Key(component, call, shapes_of(inputs), weights)
        if weights and key in self.ready:
            key = key._replace(weights="")
        if key in self.ready or not (key.weights or may_trace):
            return outputs
        wanted = self.wanted.pop(key, None) or Wanted(key, module, inputs, outputs, may_trace, seconds)
        wanted.seconds = min(seconds, wanted.seconds)  # the first of all is slower
        self.wanted[key] = wanted
        if len(self.wanted) > _MOST_WANTED:
            self._drop(next(iter(self.wanted)))
        return outputs

    def keep(self, key: Key, evaluation: Evaluation | None, size: int = 0) -> None:
        """An evaluation is ready, or was tried in vain."""
        self.wanted.pop(key, None)
        self.ready[key] = evaluation
        if size:
            self.sizes[key] = size
        if len(self.ready) > _MOST_READY:
            oldest = next(iter(self.ready))
            self.ready.pop(oldest)
            self.sizes.pop(oldest, None)

    def forget_wanted(self, component: str | None = None) -> None:
        """A component's weights, or all, are about to change: what was wanted of them can no longer be made."""
        for key in list(self.wanted):
            if component in (None, key.component):
                self._drop(key)

    def _drop(self, key: Key) -> None:
        self.wanted.pop(key).is_current = False

    def release(self) -> None:
        """Give up those that hold weights of their own."""
        self.forget_wanted()
        self.sizes.clear()
        self.ready = {key: evaluation for key, evaluation in self.ready.items() if not key.weights}


def shapes_of(inputs: tuple[Tensor, ...]) -> Shapes:
    """What an evaluation depends on beside its weights."""
    return tuple((one.dtype, tuple(one.shape)) for one in inputs)


def seconds_of(evaluate: Evaluation, inputs: tuple[Tensor, ...], times: int) -> float:
    """The shortest of some evaluations."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        evaluate(*inputs)
        taken.append(time.perf_counter() - began)
    return min(taken)
