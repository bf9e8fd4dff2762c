"""How a card evaluates a denoiser: by a CUDA graph, compiled, or kernel by kernel; alone or with a second card.

`cuda_graphs.py` and `compiling.py` do the work; here it is decided which of them is used, and noted for the provenance.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from engine.device.compiling import Compiler
from engine.device.cuda_graphs import CudaRecorder, Graphs
from engine.device.devices import Device
from engine.device.tracing import Evaluate

Inputs = Mapping[str, Any]  # by diffusers' names: tensors, or lists and mappings of them


def call_denoiser(module: nn.Module, latents: Tensor, t: Tensor, inputs: Inputs) -> Tensor:
    """Evaluate as ever: (batch, C, h, w) -> a prediction of that shape."""
    prediction: Tensor = module(latents, t, **inputs, return_dict=False)[0]
    return prediction


@dataclass(slots=True)
class Evaluator:
    """Evaluates one denoiser on one card.

    Attributes:
        graphs: None where none are recorded.
        compiler: None where nothing is compiled.
        elsewhere: Evaluates on a second card; None without one.
        used: What evaluated since this was cleared: "CUDA graph", "compiled", "two cards". For the provenance.
    """

    graphs: Graphs | None = None
    compiler: Compiler | None = None
    elsewhere: Callable[[Tensor, Tensor, Inputs], Tensor] | None = None
    used: set[str] = field(default_factory=set)

    def __call__(self, module: nn.Module, latents: Tensor, t: Tensor, inputs: Inputs) -> Tensor:
        """Like `call_denoiser`; the result is the caller's own."""
        leaves, spec = tree_flatten({name: value for name, value in inputs.items() if name != "return_dict"})
        tensors = (latents, t, *leaves)
        batch = latents.shape[0]
        if self.elsewhere is None or batch % 2:
            return self._here(module, spec, tensors)
        self.used.add("two cards")
        first, second = [], []
        for one in tensors:
            is_shared = one.dim() == 0 or one.shape[0] != batch
            halves = (one, one) if is_shared else one.chunk(2)
            first.append(halves[0])
            second.append(halves[1])
        uncond = self.elsewhere(first[0], first[1], tree_unflatten(first[2:], spec))
        cond = self._here(module, spec, tuple(second))
        return torch.cat([uncond.to(cond.device, non_blocking=True), cond])

    def _here(self, module: nn.Module, spec: TreeSpec, tensors: tuple[Tensor, ...]) -> Tensor:
        """On this card: latents, timestep, and the leaves of the other inputs."""
        compiled = self.compiler.find(spec, tensors) if self.compiler else None
        if compiled is not None:
            self.used.add("compiled")
        evaluate = _of_tensors(compiled or call_denoiser, module, spec)
        graph = self.graphs.find((compiled is not None, spec), evaluate, tensors) if self.graphs else None
        if graph is None:
            return evaluate(*tensors)
        self.used.add("CUDA graph")
        return graph(*tensors)

    def compile_wanted(self, module: nn.Module) -> bool:
        """Compile for one of the shapes that were used; called in idle time. Whether there is more to do."""
        if self.compiler is None:
            return False
        return self.compiler.compile_wanted(module, call_denoiser)

    def give_up(self) -> bool:
        """Do without graphs and a second card from now on, because memory ran out; whether that frees any."""
        graphs, elsewhere = self.graphs, self.elsewhere
        self.graphs = self.elsewhere = None
        return elsewhere is not None or (graphs is not None and graphs.count > 0)

    def forget(self) -> None:
        """Weights are no longer where they were: what holds their addresses is dropped."""
        if self.graphs is not None:
            self.graphs.forget()


def evaluator_for(device: Device, shape: str) -> Evaluator | None:
    """An evaluator for one denoiser; None on devices that evaluate kernel by kernel.

    Args:
        shape: Of its modules, as text.
    """
    graphs = Graphs(CudaRecorder(device.torch_device)) if device.records_graphs else None
    compiler = Compiler(shape, device.compiled_dir) if device.compiles else None
    is_plain = graphs is None and compiler is None and device.second is None
    return None if is_plain else Evaluator(graphs, compiler)


def _of_tensors(call: Callable[..., Tensor], module: nn.Module, spec: TreeSpec) -> Evaluate:
    def evaluate(latents: Tensor, t: Tensor, *leaves: Tensor) -> Tensor:
        return call(module, latents, t, tree_unflatten(leaves, spec))

    return evaluate
