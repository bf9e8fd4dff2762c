"""torch.compile of a denoiser, in idle time and by request (`--compile`): minutes once, kept on the disk for later.

Only shapes that were used are compiled, each with its own code. The result is used where it is quicker and near the
eager one: its bits are others. It reads the module's own weights, so that it outlives swaps and sees LoRAs. What it
does not see are hooks and other attention processors; `models/manager.py` leaves it out there. Nothing is compiled in
a job.
"""

import hashlib
import importlib.util
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from contract.errors import JobError
from engine import errors
from engine.device.devices import is_lent
from engine.device.evaluations import Call


class TensorForm(NamedTuple):
    """All that compiled code depends on of a tensor. is_inference: made in inference mode, which torch tells apart."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    device: torch.device
    is_inference: bool

    @classmethod
    def of(cls, tensor: Tensor) -> "TensorForm":
        return cls(tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.device, tensor.is_inference())

    def draw(self) -> Tensor:
        """A tensor of this form with random numbers, or ones."""
        with torch.inference_mode(self.is_inference):
            made = torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device=self.device)
            return made.normal_() if self.dtype.is_floating_point else made.fill_(1)


Key = tuple[Call, tuple[TensorForm, ...]]
Compiled = Callable[..., Tensor]  # of the module, and of the call's inputs: its first output

MOST_SHAPES = 4
_LEAST_CAPABILITY = (7, 0)  # of what Triton compiles for
_NEAR = 0.05  # of the largest number of the eager result
_LEAST_GAIN = 0.97  # compiled over eager
_TIMED = 5
_MOST_CODES = 64  # of one function, as many as torch may keep: it counts those of all models together

log = logging.getLogger(__name__)


def can_compile(device: torch.device) -> bool:
    """Whether torch can compile for a device: a card that Triton knows, and that stays, and Triton."""
    if device.type != "cuda" or is_lent() or torch.cuda.get_device_capability(device) < _LEAST_CAPABILITY:
        return False
    return importlib.util.find_spec("triton") is not None


class Compiler:
    """Compiles one denoiser, shape by shape.

    Args:
        stamp: Changes with the denoiser's form; what was compiled is stored under it.
        cache_dir: Where that is; None keeps nothing.
        backend: Of torch.compile.
    """

    def __init__(
        self, stamp: str, cache_dir: Path | None = None, backend: str | Callable[..., Any] = "inductor"
    ) -> None:
        self._stamp, self._cache_dir, self._backend = stamp, cache_dir, backend
        self._compiled: dict[Key, Compiled | None] = {}  # None: no quicker, or far from the eager result
        self._wanted: dict[Key, None] = {}
        self._is_loaded = False

    def find(self, call: Call, inputs: tuple[Tensor, ...]) -> Compiled | None:
        """The compiled call for inputs like these; None while there is none, which is noted for idle time."""
        key = (call, tuple(TensorForm.of(one) for one in inputs))
        if key in self._compiled:
            self._compiled[key] = self._compiled.pop(key)  # now the most recently used
            return self._compiled[key]
        self._wanted.pop(key, None)
        self._wanted[key] = None
        if len(self._wanted) > MOST_SHAPES:
            self._wanted.pop(next(iter(self._wanted)))
        return None

    def compile_wanted(self, module: nn.Module) -> bool:
        """Compile for the shapes that were used last; whether any were wanted."""
        if not self._wanted:
            return False
        key, _ = self._wanted.popitem()
        if not self._is_loaded:
            self._is_loaded = True
            self._load()
        self._compiled[key] = self._try(module, key)
        if len(self._compiled) > MOST_SHAPES:
            self._compiled.pop(next(iter(self._compiled)))
        if self._compiled[key] is not None:
            self._store()
        return True

    @torch.inference_mode()
    def _try(self, module: nn.Module, key: Key) -> Compiled | None:
        import torch._dynamo

        call, forms = key
        inputs = tuple(form.draw() for form in forms)
        size = "x".join(map(str, inputs[0].shape))

        def first_output(module: nn.Module, *given: Tensor) -> Tensor:
            return call(module, *given)[0]

        compiled = torch.compile(first_output, dynamic=False, backend=self._backend)

        def evaluate(*arguments: Any) -> Tensor:
            # A job never waits for a compiler: what is not as it was compiled is evaluated eagerly.
            with torch.compiler.set_stance("eager_on_recompile"):
                result: Tensor = compiled(*arguments)
            return result

        began = time.perf_counter()
        limits = torch._dynamo.config.patch(recompile_limit=_MOST_CODES, accumulated_recompile_limit=4 * _MOST_CODES)
        try:
            with limits, errors.mapped(_not_compiled):
                compiled(module, *inputs)
        except JobError as error:
            log.warning("the U-Net is not compiled for %s: %s", size, error.message)
            return None
        took_s = time.perf_counter() - began
        expected = first_output(module, *inputs)
        difference = float((evaluate(module, *inputs) - expected).abs().max() / expected.abs().max().clamp_min(1e-6))
        eager_s, compiled_s = _seconds(first_output, module, inputs), _seconds(evaluate, module, inputs)
        is_used = difference <= _NEAR and compiled_s < eager_s * _LEAST_GAIN
        log.info(
            "the U-Net compiled for %s in %.0f s: %.1f ms instead of %.1f, %.1e apart; %s",
            size,
            took_s,
            1000 * compiled_s,
            1000 * eager_s,
            difference,
            "used" if is_used else "not used",
        )
        return evaluate if is_used else None

    def _load(self) -> None:
        """What an earlier session compiled: torch finds it there instead of compiling again."""
        path = self._path()
        if path is None or not path.is_file():
            return
        try:
            with errors.mapped(_not_compiled):
                torch.compiler.load_cache_artifacts(path.read_bytes())
        except JobError as error:
            log.info("%s can't be read and is made again: %s", path.name, error.message)

    def _store(self) -> None:
        path = self._path()
        artifacts = torch.compiler.save_cache_artifacts()
        if path is None or artifacts is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}.part")
            part.write_bytes(artifacts[0])
            os.replace(part, path)
        except OSError as error:
            log.warning("what was compiled can't be kept (%s)", error.strerror)

    def _path(self) -> Path | None:
        if self._cache_dir is None:
            return None
        facts = [torch.__version__, self._stamp, str(self._backend)]
        if torch.cuda.is_available():
            facts += [torch.cuda.get_device_name(), str(torch.cuda.get_device_capability())]
        digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
        return self._cache_dir / f"compiled-{digest}.bin"


def _not_compiled(error: Exception) -> Exception:
    """torch's compilers raise whatever they like: of libraries, of the C++ compiler, of the disk."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return JobError(text[:150], code="not_compiled")


def _seconds(evaluate: Compiled, module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """The shortest of some evaluations, until their results are there."""
    taken = []
    for _ in range(_TIMED):
        began = time.perf_counter()
        evaluate(module, *inputs)[0, 0].sum().item()  # waits for the device
        taken.append(time.perf_counter() - began)
    return min(taken)
