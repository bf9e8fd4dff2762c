"""Weights files that are neither safetensors nor GGUF, recognized by their first bytes, else by their suffix.

A suffix is somebody's choice; the first bytes are the file's own. Nothing else of such a file is read here.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from catalog.files.gguf import MAGIC as GGUF

CONVERT_HINT = "Convert it to safetensors; Darkroom can do that."
_ONLY_SAFETENSORS = "Use a version of the model as safetensors."
_START_BYTES = 64
_MOST_HEADER_BYTES = 2**40  # of a safetensors file; `headers.py` refuses headers that are too large


@dataclass(frozen=True, slots=True)
class Format:
    """A way to keep weights.

    Attributes:
        label: In words, with an article where it takes one.
        problem: Why it isn't used, as the end of a sentence.
        is_anywhere: Worth listing wherever it lies; others only where a folder says what they would be.
    """

    label: str
    problem: str
    hint: str = _ONLY_SAFETENSORS
    is_anywhere: bool = False


PICKLE = Format("a pickle", "which can run code when opened", CONVERT_HINT)
_NOT_RUN = "which Darkroom can't run"
_GGML = Format(
    "GGML weights", _NOT_RUN + " (the form before GGUF)", "Use a version as GGUF or safetensors.", is_anywhere=True
)
_ONNX = Format("an ONNX model", _NOT_RUN)
_TENSORRT = Format("a TensorRT engine", _NOT_RUN + " (it is built for one card and one size)")
_COREML = Format("a Core ML model", _NOT_RUN)
_FLAX = Format("Flax weights", _NOT_RUN)
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        ".ckpt": Format(PICKLE.label, PICKLE.problem, PICKLE.hint, is_anywhere=True),
        ".bin": PICKLE,
        ".pt": PICKLE,
        ".pth": PICKLE,
        ".pkl": PICKLE,
        ".ggml": _GGML,
        ".onnx": _ONNX,
        ".engine": _TENSORRT,
        ".trt": _TENSORRT,
        ".plan": _TENSORRT,
        ".mlmodel": _COREML,
        ".msgpack": _FLAX,
        ".h5": Format("Keras weights", _NOT_RUN),
        ".tflite": Format("a TensorFlow Lite model", _NOT_RUN),
    }
)
# Other files under the name of weights: an answer that a download program kept, or an archive with the weights.
_JSON = Format("a text in JSON", "not the weights", "Download it again; the site may ask you to log in first.")
_PICTURE = Format("a picture", "not the weights", "Download the model itself.")
_ARCHIVES = {
    kind: Format(f"{kind} archive", "not the weights themselves", "Unpack it, and put here what is in it.")
    for kind in ("a 7-Zip", "a RAR", "a gzip")
}
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
WEIGHTS = (".safetensors", ".sft", ".gguf")
_STARTS: Mapping[bytes, Format] = MappingProxyType(
    {
        b"PK\x03\x04": PICKLE,
        **{bytes((0x80, protocol)): PICKLE for protocol in range(2, 6)},
        b"\x89HDF": FORMATS[".h5"],
        b"\x89PNG": _PICTURE,
        b"\xff\xd8\xff": _PICTURE,
        b"7z\xbc\xaf": _ARCHIVES["a 7-Zip"],
        b"Rar!": _ARCHIVES["a RAR"],
        b"\x1f\x8b": _ARCHIVES["a gzip"],
    }
)


def start_of(path: Path) -> bytes:
    """The first bytes of a file; b"" where it can't be read, is empty or is no file."""
    try:
        if not os.path.isfile(path):
            return b""
        with path.open("rb") as file:
            return file.read(_START_BYTES)
    except OSError:
        return b""


def is_safetensors(start: bytes) -> bool:
    """Whether these first bytes are those of a safetensors file: a length, then a table in JSON."""
    return len(start) > 8 and start[8:9] == b"{" and 2 <= int.from_bytes(start[:8], "little") < _MOST_HEADER_BYTES


def format_of(path: Path, start: bytes) -> Format | None:
    """The format of a file that is neither safetensors nor GGUF; None where the reader of headers judges."""
    if is_safetensors(start) or start.startswith(GGUF):
        return None
    for magic, form in _STARTS.items():
        if start.startswith(magic):
            return form
    first_sign = start.lstrip()[:1]
    if first_sign in (b"{", b"[") and b"\0" not in start:
        return _JSON
    is_text = first_sign == b"<" or start.startswith(b"version https://git-lfs")
    return None if is_text else FORMATS.get(path.suffix.lower())
