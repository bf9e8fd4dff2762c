"""Reads the header of a weights file and nothing else, refusing every malformed one with its reason.

Safetensors here, GGUF in `gguf.py`.
"""

import json
import os
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

from catalog.files.bitsandbytes import SCALES, STATE, with_packings
from catalog.files.gguf import MAGIC, NotReadable, read_gguf
from contract.errors import ModelProblem

MAX_HEADER_BYTES = 8_000_000
MAX_TENSORS = 20_000
MAX_DEPTH = 3
_BITS = {
    "F64": 64,
    "I64": 64,
    "U64": 64,
    "C64": 64,
    "F32": 32,
    "I32": 32,
    "U32": 32,
    "F16": 16,
    "BF16": 16,
    "I16": 16,
    "U16": 16,
    "I8": 8,
    "U8": 8,
    "BOOL": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}
_LENGTH_BYTES = 8  # before the header of a safetensors file
_START_BYTES = 64
_AGAIN = "Download or copy it again."
_PICKLE_HINT = "Convert it to safetensors first; pickles can run code when opened."


class UnreadableModel(ModelProblem):
    """The system refused to read a file. The cause lies outside the file, so it is tried again and never remembered."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """dtype as safetensors spells it (of packed tensors as `gguf.py` and `bitsandbytes.py`), shape, place in the file.

    Attributes:
        begin, end: Its bytes, [begin, end).
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A file's tensors by name, and its maker's metadata: never trusted, only shown."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Names, shapes and places of a file's tensors.

    Raises:
        ModelProblem: names the file (not its folder) and what is wrong with it; UnreadableModel, if the system
            refused to read it.
    """
    return dict(read_whole_header(path).tensors)


def read_whole_header(path: Path) -> Header:
    """As `read_header`, with the metadata: only its texts.

    Raises:
        ModelProblem: as `read_header`.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _bad(path, "is not a regular file")
        with path.open("rb") as file:
            first = file.read(_START_BYTES)
            if first.startswith(MAGIC):
                found, texts = read_gguf(file, status.st_size)
                tensors = {name: TensorInfo(one.dtype, one.shape, one.begin, one.end) for name, one in found.items()}
                return Header(tensors, texts)
            header = _parsed(path, _header_bytes(path, file, first), status.st_size)
            if any(STATE in name or name.endswith(SCALES) for name in header.tensors):
                header = replace(header, tensors=with_packings(header.tensors, partial(_bytes_of, file)))
            return header
    except NotReadable as problem:
        raise _bad(path, problem.cause, _AGAIN if problem.is_cut_off else "Use another file.") from None
    except OSError as error:
        raise UnreadableModel(
            f"{path.name} can't be read ({os.strerror(error.errno or 5)}).", "Put it back, or correct its permissions."
        ) from None


def _parsed(path: Path, raw: bytes, file_size: int) -> Header:
    """A safetensors file's header, of its text."""
    start = _LENGTH_BYTES + len(raw)
    try:
        header = json.loads(raw, object_pairs_hook=_table_without_duplicates)
    except _Duplicate as error:
        raise _bad(path, f"names the tensor “{str(error)[:80]}” twice") from None
    except (ValueError, RecursionError):
        raise _bad(path, "has a header that is not JSON") from None
    if not isinstance(header, dict):
        raise _bad(path, "has a header that is not a table")
    metadata = header.pop("__metadata__", None)
    if not header:
        raise _bad(path, "holds no tensors")
    if len(header) > MAX_TENSORS:
        raise _bad(path, f"names {len(header):,} tensors; at most {MAX_TENSORS:,} are read")
    tensors = {name: _tensor(path, name, entry, start) for name, entry in header.items()}
    position = start
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != position:
            raise _bad(path, "has a gap or an overlap between its tensors")
        position = tensor.end
    missing = position - file_size
    if missing > 0:
        raise _bad(path, f"is cut off: {missing:,} bytes are missing", _AGAIN)
    if missing < 0:
        raise _bad(path, f"has {-missing:,} bytes more than its header says", _AGAIN)
    texts = metadata.items() if isinstance(metadata, dict) else ()
    return Header(tensors, {key: value for key, value in texts if isinstance(value, str)})


def _bytes_of(file: BinaryIO, info: TensorInfo) -> bytes:
    file.seek(info.begin)
    return file.read(info.end - info.begin)


def _header_bytes(path: Path, file: BinaryIO, first: bytes) -> bytes:
    """The text of a safetensors file's header. `first`: the file's first bytes."""
    _refuse_other_formats(path, first)
    (length,) = struct.unpack("<Q", first[:_LENGTH_BYTES])
    if length > MAX_HEADER_BYTES:
        raise _bad(path, "is not a safetensors file (its header would be too large)")
    file.seek(_LENGTH_BYTES)
    raw = file.read(length)
    if len(raw) < length:
        raise _bad(path, "is cut off inside its header", _AGAIN)
    return raw


def _refuse_other_formats(path: Path, start: bytes) -> None:
    if not start:
        raise _bad(path, "is an empty file", _AGAIN)
    if start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        raise _bad(path, "is a PyTorch pickle, not safetensors", _PICKLE_HINT)
    if start.startswith(b"version https://git-lfs"):
        raise _bad(path, "is a git-lfs pointer, not the weights", "Run git lfs pull.")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise _bad(path, "is a web page, not the weights", "Download it again.")
    if len(start) < 8:
        raise _bad(path, f"is only {len(start)} bytes long", _AGAIN)


class _Duplicate(ValueError):
    pass


def _table_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table: dict[str, object] = {}
    for key, value in pairs:
        if key in table:
            raise _Duplicate(key)
        table[key] = value
    return table


def _tensor(path: Path, name: str, entry: object, start: int) -> TensorInfo:
    try:
        assert isinstance(entry, dict)
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        for number in (*shape, begin, end):
            assert type(number) is int and number >= 0
        assert begin <= end
        size = _BITS[dtype]
    except (AssertionError, KeyError, TypeError, ValueError):
        raise _bad(path, f"describes the tensor “{name[:80]}” in a way that can't be read") from None
    for side in shape:
        size *= side
        if size > 2**53:
            break
    if size != 8 * (end - begin):
        raise _bad(path, f"gives the tensor “{name[:80]}” {end - begin} bytes; its shape needs {-(-size // 8)}")
    return TensorInfo(dtype, shape, start + begin, start + end)


def _bad(path: Path, cause: str, hint: str = "Use another file.") -> ModelProblem:
    return ModelProblem(f"{path.name} {cause}.", hint)
