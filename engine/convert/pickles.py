"""Converts a PyTorch pickle to safetensors, in a process of its own that can do little else.

`convert` starts `python -m engine.convert.pickles` with a bare environment and reads its output; what is below `main`
runs there, behind limits on memory, time and size, without network, files or further programs. torch reads weights
only; what a pickle names beside tensors is refused, or, where trainers left objects of their own, ignored.
"""

import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from catalog.files.headers import read_header
from contract.errors import ModelProblem
from engine.errors import mapped
from engine.weights.writing import STORABLE, write_tensors

Say = Callable[[str, float | None], None]
ROOT = Path(__file__).parents[2]
READING, WRITING = "Reading the pickle", "Writing safetensors"
_KEPT_ENVIRONMENT = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "TMPDIR", "TEMP")
_TORCH_BYTES = 2**30  # beside the weights, for torch itself
_SLOWEST_BYTES_PER_S = 5_000_000
_MINIMUM_S = 120
_MOST_NESTING = 8
_METADATA_CHARACTERS = 2_000  # of a value that is kept as metadata
# Where programs put the weights, in the order of preference.
_WRAPPERS = ("state_dict", "params_ema", "params", "string_to_param", "model_state_dict", "module")
# What trainers pickle beside weights. It is read as nothing.
_IGNORED_CLASSES = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "torch.nn.modules.container.ParameterDict",
    "pytorch_lightning.utilities.argparse.AttributeDict",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "collections.defaultdict",
    "builtins.dict",
)
_EMBEDDING_NAME = "emb_params"
_FORBIDDEN = (
    "socket.",
    "subprocess.",
    "ctypes.dlopen",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "os.startfile",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "shutil.",
    "pty.",
    "urllib.",
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def convert(source: Path, target: Path, say: Say) -> str:
    """Write the weights of a pickle as safetensors.

    Args:
        say: Called with what is being done, and which fraction of it.
    Returns:
        A sentence about what was left out; empty where nothing was.
    Raises:
        ModelProblem: it is no pickle of weights, or holds more than weights; `target` is then of no use.
    """
    environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    command = [sys.executable, "-E", "-s", "-m", "engine.convert.pickles", str(source.resolve()), str(target.resolve())]
    ending: dict[str, str] | None = None
    # The child ends with its standard input, so it does not outlive this process.
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            message = json.loads(line)
            if "progress" in message:
                say(message["progress"], message["fraction"])
            else:
                ending = message
    if ending is None:
        raise ModelProblem(
            f"Reading {source.name} was stopped: it asked for more memory or time than its size allows.",
            "Use another version of the model, as safetensors.",
        )
    if "message" in ending:
        raise ModelProblem(ending["message"], ending["hint"])
    read_header(target)
    return ending["left_out"]


def main(source: Path, target: Path) -> None:
    """The child's work; writes lines of JSON."""

    def end_with_parent() -> None:
        sys.stdin.read()
        os._exit(1)

    def write(**message: object) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        _check_sizes(source)
        lock_down(source, target)
        write(progress=READING, fraction=None)
        weights, metadata, left_out = weights_of(source)
        if not weights:
            raise ModelProblem(f"{source.name} holds no weights.", "Choose another file.")
        if sum(tensor.numel() * tensor.element_size() for tensor in weights.values()) > 2 * source.stat().st_size:
            raise ModelProblem(
                f"{source.name} describes larger tensors than it holds.", "It is damaged, or made to harm."
            )
        metadata["converted_from"] = source.name
        for fraction in write_tensors(target, weights, weights.values(), metadata):
            write(progress=WRITING, fraction=fraction)
    except ModelProblem as problem:
        write(message=problem.message, hint=problem.hint)
    except (MemoryError, OSError) as error:
        write(
            message=f"{source.name} can't be converted: {str(error)[:200] or 'there is not enough memory'}.",
            hint="Free memory and disk space, or use another version of the model.",
        )
    else:
        notice = ""
        if left_out:
            notice = f"Left out: {', '.join(sorted(left_out)[:6])}."
        write(left_out=notice)


def _check_sizes(source: Path) -> None:
    """torch packs nothing when it saves, so a file that unpacks to more than it is was not made by it."""
    if not zipfile.is_zipfile(source):
        return
    size = source.stat().st_size
    try:
        with zipfile.ZipFile(source) as package:
            unpacked = sum(entry.file_size for entry in package.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise ModelProblem(f"{source.name} is a damaged archive.", "Download it again.") from None
    if unpacked > size:
        raise ModelProblem(
            f"{source.name} is {size:,} bytes and would unpack to {unpacked:,}, as PyTorch's own files never do.",
            "It may be made to fill your memory. Delete it.",
        )


def lock_down(source: Path, target: Path) -> None:
    """Allow no more memory, time or disk than the weights need, no network, no other file, no program."""
    size = source.stat().st_size
    if sys.platform != "win32":
        import resource

        seconds = _MINIMUM_S + size // _SLOWEST_BYTES_PER_S
        limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: seconds, resource.RLIMIT_FSIZE: 2 * size + 2**20}
        if sys.platform == "linux":
            pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
            limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + 3 * size + _TORCH_BYTES
        for limit, value in limits.items():
            resource.setrlimit(limit, (value, value))
    own = str(target)

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        is_writing = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
        if event.startswith(_FORBIDDEN) or (is_writing and str(arguments[0]) != own):
            raise PermissionError(f"a pickle asked for {event}")

    sys.addaudithook(refuse)


class _Ignored:
    """Stands for a trainer's object: it takes any arguments and keeps only a table of parameters."""

    def __new__(cls, *_: object) -> "_Ignored":
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        self.parameters: dict[object, object] = {}

    def __setstate__(self, state: object) -> None:
        found = state.get("_parameters") if isinstance(state, dict) else None
        self.parameters = dict(found) if isinstance(found, dict) else {}


def _load_pickle(source: Path) -> object:
    ignored: list[Any] = [(_Ignored, name) for name in _IGNORED_CLASSES]

    def explain(error: Exception) -> Exception:
        if isinstance(error, (OSError, MemoryError)):
            return error  # says nothing of the file
        if isinstance(error, UnpicklingError):
            found = re.search(r"GLOBAL (\S+)", str(error))
            problem = "holds more than weights"
            if found:
                problem = f"names “{found[1][:80]}”, which could run code"
            return ModelProblem(
                f"{source.name} {problem}; it was not opened further.", "Use a version of the model as safetensors."
            )
        return ModelProblem(
            f"{source.name} can't be read as a PyTorch file: {str(error).splitlines()[0][:150]}",
            "Download it again, or use a version as safetensors.",
        )

    with mapped(explain), torch.serialization.safe_globals(ignored):
        return torch.load(source, map_location="cpu", weights_only=True)


def weights_of(source: Path) -> tuple[dict[str, Tensor], dict[str, str], set[str]]:
    """Tensors by name, values worth keeping as metadata, and the names of what is neither.

    Raises:
        ModelProblem: it can't be read, or names more than weights.
    """
    data = _load_pickle(source)
    metadata: dict[str, str] = {}
    left_out: set[str] = set()
    if isinstance(data, Mapping):
        metadata = _metadata_of(data)
        wrappers = [name for name in _WRAPPERS if isinstance(data.get(name), Mapping | _Ignored)]
        if not wrappers:
            data = {name: value for name, value in data.items() if name not in metadata}
        else:
            left_out = {str(name) for name in data if name != wrappers[0] and str(name) not in metadata}
            inner = data[wrappers[0]]
            if wrappers[0] == "string_to_param":  # of a textual inversion: one table of vectors
                tables = inner.parameters if isinstance(inner, _Ignored) else inner
                inner = {_EMBEDDING_NAME: next(iter(tables.values()))} if tables else {}
            data = inner

    weights: dict[str, Tensor] = {}
    for name, value in _flattened(data, "", _MOST_NESTING):
        if isinstance(value, Tensor) and value.layout == torch.strided and value.dtype in STORABLE:
            if name.startswith("model_ema."):
                left_out.add("the averaged copy (EMA)")
            else:
                # Layers of later hypernetworks by the names of the first ones.
                layer = re.match(r"(\d+\.[01]\.)linear([12])\.", name)
                if layer:
                    name = f"{layer[1]}linear.{int(layer[2]) - 1}.{name[layer.end() :]}"
                weights[name] = value.detach()
        else:
            left_out.add(name)
    if len(weights) == 1:
        # A file of one vector or a few, by the token that calls them, is a textual inversion of diffusers.
        ((name, tensor),) = weights.items()
        if "." not in name and tensor.dim() in (1, 2) and name != _EMBEDDING_NAME:
            weights = {_EMBEDDING_NAME: tensor.reshape(-1, tensor.shape[-1])}
    return weights, metadata, left_out


def _metadata_of(data: Mapping[Any, object]) -> dict[str, str]:
    """Text, numbers and lists of them beside the weights: how a hypernetwork is built, how long it was trained."""
    metadata = {}
    for name, value in data.items():
        if isinstance(name, str) and isinstance(value, str | int | float | bool | list | tuple | None):
            try:
                text = value if isinstance(value, str) else json.dumps(value)
            except (TypeError, ValueError, RecursionError):
                continue
            if len(text) <= _METADATA_CHARACTERS:
                metadata[name] = text
    return metadata


def _flattened(data: object, prefix: str, depth: int) -> Iterator[tuple[str, object]]:
    """Everything in nested tables and lists, by its path."""
    inner: Mapping[Any, object] | None = None
    if isinstance(data, _Ignored):
        inner = data.parameters
    elif isinstance(data, Mapping):
        inner = data
    elif isinstance(data, list | tuple) and not isinstance(data, torch.Size):
        inner = dict(enumerate(data))
    if inner is None or not depth:
        yield prefix, data
        return
    for name, value in inner.items():
        yield from _flattened(value, f"{prefix}.{name}" if prefix else str(name), depth - 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
