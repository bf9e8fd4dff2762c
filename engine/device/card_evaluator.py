"""How a card evaluates a denoiser: by a CUDA graph, compiled, or kernel by kernel; alone or with a second card.

`cuda_graphs.py` and `compiling.py` do the work; here it is decided which of them is used, and noted for the provenance.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from engine.device.compiling import Compiler
from engine.device.cuda_graphs import CudaRecorder, Graphs
from engine.device.devices import Device
from engine.device.evaluations import Call, Outputs

Inputs = tuple[Tensor, ...]  # latents, timestep, prompt embeds, and what else the call takes


@dataclass(slots=True)
class CardEvaluator:
    """Evaluates one denoiser on one card.

    Attributes:
        graphs: None where none are recorded.
        compiler: None where nothing is compiled.
        elsewhere: Evaluates on a second card; None without one.
        used: What evaluated since this was cleared: "CUDA graph", "compiled", "two cards". For the provenance.
    """

    graphs: Graphs | None = None
    compiler: Compiler | None = None
    elsewhere: Callable[[Call, Inputs], Tensor] | None = None
    used: set[str] = field(default_factory=set)

    def __call__(self, module: nn.Module, call: Call, inputs: Inputs) -> Tensor:
        """The first output of `call(module, *inputs)`, of the batch of the latents; the result is the caller's own."""
        batch = inputs[0].shape[0]
        if self.elsewhere is None or batch % 2:
            return self._here(module, call, inputs)
        self.used.add("two cards")
        first, second = [], []
        for one in inputs:
            is_shared = one.dim() == 0 or one.shape[0] != batch
            halves = (one, one) if is_shared else one.chunk(2)
            first.append(halves[0])
            second.append(halves[1])
        uncond = self.elsewhere(call, tuple(first))
        cond = self._here(module, call, tuple(second))
        return torch.cat([uncond.to(cond.device, non_blocking=True), cond])

    def _here(self, module: nn.Module, call: Call, inputs: Inputs) -> Tensor:
        """On this card."""
        compiled = self.compiler.find(call, inputs) if self.compiler else None

        def evaluate(*given: Tensor) -> Tensor:
            prediction: Tensor = call(module, *given)[0] if compiled is None else compiled(module, *given)
            return prediction

        if compiled is not None:
            self.used.add("compiled")
        graph = self.graphs.find((compiled is not None, call), evaluate, inputs) if self.graphs else None
        if graph is None:
            return evaluate(*inputs)
        self.used.add("CUDA graph")
        return graph(*inputs)

    def outputs(self, module: nn.Module, call: Call, inputs: Inputs) -> Outputs:
        """All outputs of a call, recorded but never compiled: of a ControlNet, whose results are many."""
        graph = self.graphs.find(call, partial(call, module), inputs) if self.graphs else None
        return call(module, *inputs) if graph is None else graph(*inputs)

    def compile_wanted(self, module: nn.Module) -> bool:
        """Compile for one of the shapes that were used; called in idle time. Whether one was wanted."""
        return self.compiler is not None and self.compiler.compile_wanted(module)

    def give_up(self) -> bool:
        """Do without graphs and a second card from now on, because memory ran out; whether that frees any."""
        graphs, elsewhere = self.graphs, self.elsewhere
        self.graphs = self.elsewhere = None
        return elsewhere is not None or (graphs is not None and graphs.count > 0)

    def forget(self) -> None:
        """Weights are no longer where they were: what holds their addresses is dropped."""
        if self.graphs is not None:
            self.graphs.forget()


def evaluator_for(device: Device, shape: str) -> CardEvaluator | None:
    """An evaluator for one denoiser; None on devices that evaluate kernel by kernel.

    Args:
        shape: Of its modules, as text.
    """
    graphs = Graphs(CudaRecorder(device.torch_device)) if device.records_graphs else None
    compiler = Compiler(shape, device.compiled_dir) if device.compiles else None
    is_plain = graphs is None and compiler is None and device.second is None
    return None if is_plain else CardEvaluator(graphs, compiler)
