"""OpenVINO as a backend on a CPU: an optional library that runs the same modules up to twice as fast.

A module is traced with the weights it has, converted, and kept on the disk as OpenVINO's IR under a digest of all that
decides it; a later session only compiles it. All but the tracing is done in a thread while the engine is idle. What
OpenVINO gives is compared with what the module itself gave before it is used.
"""

import hashlib
import logging
import os
import shutil
import sys
import threading
import time
import warnings
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from contract.errors import JobError
from engine import errors
from engine.device.evaluations import Key, Outputs, Wanted, seconds_of

BackendChoice = Literal["auto", "torch", "openvino"]
INSTALL_COMMAND = "python3 launch.py --openvino"
_FORMAT = 1  # of what is kept on the disk
_LIBRARIES = ("openvino", "torch", "diffusers", "transformers")
_MOST_BYTES = 16 * 10**9  # on the disk
_SPARE_BYTES = 2 * 10**9  # that stay free on the disk
_LEAST_GAIN = 0.97  # OpenVINO over torch, where it was not asked for
_LARGEST_ERROR = {torch.float32: 1e-4, torch.bfloat16: 0.03}  # of the outputs, by root mean squares
_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}
_LONG_S = 1.0  # an evaluation that is timed once
_POLL_S = 0.2  # that a job which comes meanwhile may wait
_WEIGHTS, _ALIGNMENT = "weights.bin", 64  # bytes
_LARGE_BYTES = 1024  # of a constant
_LEFT_OVER_S = 86400.0  # after which an interrupted conversion's files are removed

log = logging.getLogger(__name__)


def is_installed() -> bool:
    """Whether the library is there; imports nothing."""
    return util.find_spec("openvino") is not None


def choose_backend(
    choice: BackendChoice, device: torch.device, dtype: torch.dtype, folder: Path | None
) -> "OpenVino | None":
    """OpenVINO where it was asked for, or is there and might be faster; None: torch alone.

    Args:
        device, dtype: Of U-Net and text encoders.
        folder: For converted models; without one there is no OpenVINO.
    Raises:
        JobError: it was asked for, and can't be used.
    """
    if choice == "torch":
        return None
    if choice == "openvino":
        if not is_installed():
            raise JobError(
                "The backend is to be OpenVINO, which is not installed.",
                f"Install it with `{INSTALL_COMMAND}`, or use --backend auto.",
                code="no_device",
            )
        if device.type != "cpu" or dtype not in _HINTS:
            what = str(dtype).removeprefix("torch.") if device.type == "cpu" else device.type
            raise JobError(
                f"The backend is to be OpenVINO, which runs on a CPU in float32 or bfloat16, not on {what}.",
                "Use --backend auto.",
                code="no_device",
            )
    if folder is None or not is_installed() or device.type != "cpu" or dtype not in _HINTS:
        return None
    return OpenVino(folder, is_required=choice == "openvino")


def offer(device: torch.device) -> str:
    """A sentence for whoever runs a CPU without it; empty elsewhere."""
    if device.type != "cpu" or is_installed():
        return ""
    return f"Pictures can be up to twice as fast with OpenVINO: stop Darkroom and start it with `{INSTALL_COMMAND}`."


@dataclass(slots=True)
class Compiled:
    """A model that OpenVINO has compiled for inputs of fixed shapes, as an evaluation.

    Attributes:
        dtypes: Of the outputs.
        used: Where the component is noted with each evaluation.
        weights: The mapped file that the request may read.
    """

    component: str
    request: Any
    dtypes: tuple[torch.dtype, ...]
    used: set[str]
    weights: np.ndarray

    def __call__(self, *inputs: Tensor) -> Outputs:
        self.used.add(self.component)
        arrays = {number: _wide(one).contiguous().numpy() for number, one in enumerate(inputs)}
        results = self.request.infer(arrays, share_inputs=True)
        return tuple(torch.from_numpy(results[number]).to(dtype) for number, dtype in enumerate(self.dtypes))


@dataclass(slots=True)
class _Work:
    """What the thread does for one evaluation.

    Attributes:
        size: Bytes of the module's weights.
        traced: With its weights, to be converted; None where the IR is on the disk.
        compiled: The result; None where there is none, and `problem` says why.
    """

    wanted: Wanted
    size: int
    folder: Path
    traced: Any
    compiled: Compiled | None = None
    problem: str = ""
    thread: threading.Thread = field(init=False)


class OpenVino:
    """Makes evaluations with OpenVINO, one after another. For one thread, beside its own.

    Args:
        folder: Where converted models are kept; the least recently used go when they take too much.
        is_required: It was asked for: it need not be faster.

    Attributes:
        used: Components that were evaluated with it since this was last emptied.
        conversions: How many were converted, not read from the disk.
        is_idle: While it is not set, the thread begins nothing more.
    """

    def __init__(self, folder: Path, *, is_required: bool = False) -> None:
        self._folder, self._is_required = folder, is_required
        self._work: _Work | None = None
        self._core: Any = None
        self.version = metadata.version("openvino")
        self.used: set[str] = set()
        self.conversions = 0
        self.is_idle = threading.Event()

    @property
    def label(self) -> str:
        """For the provenance of an image: what it is, and what it computed; empty where nothing."""
        return f"openvino {self.version} ({', '.join(sorted(self.used))})" if self.used else ""

    def is_busy(self) -> bool:
        """Whether the thread works; waits a moment for it."""
        if self._work is None:
            return False
        self._work.thread.join(_POLL_S)
        return self._work.thread.is_alive()

    def begin(self, wanted: Wanted, size: int) -> str:
        """Make an evaluation in the thread.

        Args:
            size: Bytes of the module's weights.
        Returns:
            Why not; empty when it has begun.
        """
        folder, traced = self._folder / f"openvino-{_digest_of(wanted.key)}", None
        if not (folder / "model.xml").is_file():
            try:
                with errors.mapped(_as_problem):
                    _make_room(self._folder, size)
                    traced = _traced(wanted)
            except RuntimeError as error:
                return str(error)
        work = _Work(wanted, size, folder, traced)
        work.thread = threading.Thread(target=self._make, args=(work,), name="openvino", daemon=True)
        work.thread.start()
        self._work = work
        return ""

    def take(self) -> tuple[Wanted, Compiled | None] | None:
        """What the thread has made, if it is of use; None when nothing is done."""
        work, self._work = self._work, None
        if work is None or not work.wanted.is_current:
            return None
        problem, is_used = work.problem, False
        if work.compiled is not None:
            try:
                with errors.mapped(_as_problem):
                    is_used = self._try(work.compiled, work.wanted)
            except RuntimeError as error:
                problem = str(error)
        if problem and work.traced is None:  # what was on the disk is damaged
            log.info("%s is made again: %s", work.folder.name, problem)
            _remove(work.folder)
            problem = self.begin(work.wanted, work.size)
            if not problem:
                return None
        if problem:
            log.info("the %s is left to torch: %s", work.wanted.key.component, problem)
        return work.wanted, work.compiled if is_used else None

    def _try(self, compiled: Compiled, wanted: Wanted) -> bool:
        """Whether a compiled model is quick enough; may raise anything where it is wrong."""
        outputs = compiled(*wanted.inputs)
        error = max(map(_relative_error, outputs, wanted.outputs))
        if not error <= _LARGEST_ERROR[outputs[0].dtype]:
            raise ValueError(f"its results differ by {error:.1e}")
        seconds = seconds_of(compiled, wanted.inputs, 1 if wanted.seconds > _LONG_S else 3)
        is_used = self._is_required or seconds < wanted.seconds * _LEAST_GAIN
        log.info(
            "the %s in OpenVINO for %s: %.1f ms instead of %.1f, difference %.0e; %s",
            wanted.key.component,
            "x".join(map(str, wanted.inputs[0].shape)),
            1000 * seconds,
            1000 * wanted.seconds,
            error,
            "used" if is_used else "not used",
        )
        return is_used

    def _make(self, work: _Work) -> None:
        """Convert what is not on the disk, and compile it. In the thread."""
        try:
            with errors.mapped(_as_problem):
                if work.traced is not None:
                    self._convert(work)
                self.is_idle.wait()
                if work.wanted.is_current:
                    work.compiled = self._compile(work)
        except RuntimeError as error:
            work.problem = str(error)

    def _convert(self, work: _Work) -> None:
        """Write a model's IR to the disk, and its weights apart: OpenVINO holds Python's lock while it writes."""
        openvino = import_openvino()
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        # `openvino.convert_model` does this too, and changes the program's logging.
        inputs = tuple(map(_wide, work.wanted.inputs))
        front_end = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(work.traced, example_input=inputs)
        model = front_end.convert(front_end.load(decoder))
        if len(model.inputs) != len(inputs):
            raise ValueError("it leaves an input out")
        self.is_idle.wait()
        part = work.folder.with_suffix(f".{os.getpid()}.part")
        try:
            part.mkdir(parents=True, exist_ok=True)
            _move_weights(model, part / _WEIGHTS, openvino)
            openvino.save_model(model, part / "model.xml", compress_to_fp16=False)
            if work.wanted.is_current:  # else parts of other weights may be in it
                _remove(work.folder)
                os.replace(part, work.folder)
                self.conversions += 1
        finally:
            _remove(part)

    def _compile(self, work: _Work) -> Compiled:
        openvino = import_openvino()
        self._core = self._core or openvino.Core()
        os.utime(work.folder)  # now the most recently used
        model = self._core.read_model(work.folder / "model.xml")
        weights = np.memmap(work.folder / _WEIGHTS, mode="c")  # the library wants to be able to write
        for parameter in model.get_parameters()[len(work.wanted.inputs) :]:
            begin, kind = int(parameter.get_friendly_name()), parameter.get_element_type()
            shape = parameter.get_partial_shape().to_shape()
            end = begin + kind.size * int(np.prod(shape))
            if end > weights.size:  # it would be read past its end, which is a fault of the whole process
                raise ValueError("its weights are cut short")
            constant = openvino.op.Constant(openvino.Tensor(weights[begin:end], shape, kind), shared_memory=True)
            parameter.output(0).replace(constant.output(0))
            model.remove_parameter(parameter)
        model.reshape({place: list(one.shape) for place, one in enumerate(work.wanted.inputs)})
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": _HINTS[work.wanted.outputs[0].dtype],
        }
        request = self._core.compile_model(model, "CPU", options).create_infer_request()
        dtypes = tuple(one.dtype for one in work.wanted.outputs)
        return Compiled(work.wanted.key.component, request, dtypes, self.used, weights)


def import_openvino() -> Any:
    """The library, without its telemetry: it would report each import to its maker, and write an id to do so.

    It does without where that package can't be imported.
    """
    cast(dict[str, Any], sys.modules)["openvino_telemetry"] = None
    import openvino

    return openvino


def _move_weights(model: Any, file: Path, openvino: Any) -> None:
    """Write a model's large constants to a file; inputs named by their places there stand for them from now on."""
    held = []
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Constant" and node.get_byte_size() >= _LARGE_BYTES:
            held.append(node)
    parameters = []
    with file.open("wb") as target:
        target.write(bytes(_ALIGNMENT))  # an empty file could not be mapped
        for constant in held:
            parameter = openvino.op.Parameter(constant.get_element_type(), openvino.PartialShape(constant.get_shape()))
            parameter.set_friendly_name(str(target.tell()))
            target.write(np.ascontiguousarray(constant.data).data)
            target.write(bytes(-target.tell() % _ALIGNMENT))
            constant.output(0).replace(parameter.output(0))
            parameters.append(parameter)
    model.add_parameters(parameters)


def _digest_of(key: Key) -> str:
    """Names all that decides what is kept on the disk for a key."""
    call = getattr(key.call, "__qualname__", repr(key.call))
    facts = [_FORMAT, key.component, call, key.shapes, key.weights, *map(metadata.version, _LIBRARIES)]
    return hashlib.blake2b("\n".join(map(str, facts)).encode(), digest_size=16).hexdigest()


@torch.inference_mode()
def _traced(wanted: Wanted) -> Any:
    """A trace with float32 in and out, whatever the module computes in: numpy has no bfloat16.

    Of a function and not of the module: torch would read every property of that, which some libraries take amiss.
    """
    dtypes = tuple(one.dtype for one in wanted.inputs)

    def evaluate(*inputs: Tensor) -> Outputs:
        given = (one.to(dtype) for one, dtype in zip(inputs, dtypes, strict=True))
        return tuple(map(_wide, wanted.key.call(wanted.module, *given)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, of what diffusers decides in Python by shapes
        return torch.jit.trace(evaluate, tuple(map(_wide, wanted.inputs)), check_trace=False, strict=False)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _relative_error(output: Tensor, expected: Tensor) -> float:
    """How far they are apart, by root mean squares; not a number where one is not finite."""
    difference = (output.float() - expected.float()).square().mean()
    return float((difference / expected.float().square().mean().clamp_min(1e-12)).sqrt())


def _make_room(folder: Path, size: int) -> None:
    """Remove what was not used for long, until a model of this size has room on the disk.

    Raises:
        OSError: it has none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {}
    for kept in sorted(folder.glob("openvino-*"), key=_modified):
        sizes[kept] = sum(file.stat().st_size for file in kept.glob("*"))
    for kept in list(sizes):
        is_left_over = kept.suffix == ".part" and time.time() - _modified(kept) > _LEFT_OVER_S
        if is_left_over or sum(sizes.values()) + size > _MOST_BYTES:
            _remove(kept)
            sizes.pop(kept)
    free = shutil.disk_usage(folder).free
    if size > _MOST_BYTES or free < size + _SPARE_BYTES:
        raise OSError(f"it would take {size / 1e9:.1f} GB of the disk, of which {free / 1e9:.1f} GB are free")


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _as_problem(error: Exception) -> RuntimeError:
    return RuntimeError(" ".join(str(error).split())[:300] or type(error).__name__)
