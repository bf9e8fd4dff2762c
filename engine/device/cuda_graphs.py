"""CUDA graphs: the kernels of an evaluation, recorded once and launched as one, so that no kernel waits for Python.

A graph is recorded at the second use of its shapes and used where it gives the eager bits. It reads the module's
weights at their addresses: whoever moves them calls `Graphs.forget`; what is copied into them (swaps, LoRAs) is seen.
Knows no models; `card_evaluator.py` decides what is recorded.
"""

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from engine.device.devices import release

MOST_GRAPHS = 8  # of a denoiser; the least recently used goes first
_MOST_SEEN = 64  # shapes that were used once
_WARM_UPS = 2  # on the stream of the recording; the first use was one more

Result = TypeVar("Result", Tensor, tuple[Tensor, ...])

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recorded(Generic[Result]):
    """A recorded evaluation.

    Attributes:
        replay: Computes again from what the recorded inputs hold by then.
        output: Where the result is until anything else is replayed or recorded.
    """

    replay: Callable[[], None]
    output: Result


class Recorder(Protocol):
    """Records what an evaluation launches; raises a RuntimeError where it can't."""

    def __call__(self, evaluate: Callable[[], Result]) -> Recorded[Result]:
        """The evaluation, recorded but not yet computed."""


class CudaRecorder:
    """Records on a card. Its graphs share one memory pool: none computes while another does, and results are copied."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        self._graphs: WeakSet[torch.cuda.CUDAGraph] = WeakSet()

    def __call__(self, evaluate: Callable[[], Result]) -> Recorded[Result]:
        """Warm up and record on a stream of its own, which the current one waits for.

        https://docs.pytorch.org/docs/2.10/notes/cuda.html#cuda-graphs
        """
        stream = self._stream = self._stream or torch.cuda.Stream(self._device)
        current = torch.cuda.current_stream(self._device)
        # The outer context brings the current stream back: torch's own does not where a recording fails.
        with torch.cuda.device(self._device), torch.cuda.stream(current):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UPS):
                    evaluate()
            current.wait_stream(stream)
            # The pool of a graph that lives: torch refuses one whose graphs are all gone.
            other = next(iter(self._graphs), None)
            pool = torch.cuda.graph_pool_handle() if other is None else other.pool()
            graph = torch.cuda.CUDAGraph()
            # "thread_local": a model that is read ahead in another thread may use the card's memory meanwhile.
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                output = evaluate()
            self._graphs.add(graph)
        return Recorded(graph.replay, output)


class _Graph(Generic[Result]):
    """A recorded evaluation as a function of its inputs, whose result is the caller's own."""

    def __init__(self, inputs: tuple[Tensor, ...], recorded: Recorded[Result]) -> None:
        self._inputs = inputs
        self._recorded: Recorded[Result] = recorded

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Result:
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._recorded.replay()
        result: Result = tree_map(torch.clone, self._recorded.output)  # the pool's next graph may write to that
        return result


class Graphs:
    """The graphs of one denoiser, by what is evaluated and by its inputs' dtypes, shapes and strides."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._seen: dict[Hashable, None] = {}
        self._graphs: dict[Hashable, _Graph[Any] | None] = {}  # None: can't be recorded, or gives other bits

    @property
    def count(self) -> int:
        """How many are recorded."""
        return sum(graph is not None for graph in self._graphs.values())

    @torch.inference_mode()
    def find(
        self, kind: Hashable, evaluate: Callable[..., Result], inputs: tuple[Tensor, ...]
    ) -> Callable[..., Result] | None:
        """The graph for inputs like these, recorded if they come for the second time; None: evaluate them eagerly.

        Args:
            kind: What `evaluate` is: equal for those that compute the same from the same inputs.
            inputs: On the card.
        """
        key = (kind, tuple((one.dtype, one.shape, one.stride()) for one in inputs))
        if key in self._graphs:
            self._graphs[key] = self._graphs.pop(key)  # now the most recently used
        elif key not in self._seen:
            self._seen[key] = None
            if len(self._seen) > _MOST_SEEN:
                self._seen.pop(next(iter(self._seen)))
            return None
        else:
            del self._seen[key]
            while len(self._graphs) >= MOST_GRAPHS:
                self._graphs.pop(next(iter(self._graphs)))
            self._graphs[key] = self._record(evaluate, inputs)
        return self._graphs[key]

    def forget(self) -> None:
        """Drop all graphs and their memory: weights are no longer where they were."""
        self._graphs.clear()
        self._seen.clear()

    def _record(self, evaluate: Callable[..., Result], inputs: tuple[Tensor, ...]) -> _Graph[Result] | None:
        """Record for inputs like these; None where that fails or the result is not the eager one, to the bit."""
        shape = "x".join(map(str, inputs[0].shape))
        try:
            own = tuple(one.clone() for one in inputs)
            expected = evaluate(*own)
            graph = _Graph(own, self._recorder(lambda: evaluate(*own)))
            pairs = zip(tree_leaves(graph(*inputs)), tree_leaves(expected), strict=True)
            is_equal = all(torch.equal(ours, theirs) for ours, theirs in pairs)
        except RuntimeError as error:  # out of memory too, which the job itself may well have enough of
            log.warning("no CUDA graph for %s: %s", shape, str(error).splitlines()[0][:150])
            graph, is_equal = None, False
        if graph is not None and is_equal:
            log.info("a CUDA graph is recorded for %s", shape)
            return graph
        if graph is not None:
            log.warning("the CUDA graph for %s gives other bits and is not used", shape)
        graph = None
        release()
        return None
