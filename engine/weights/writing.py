"""Writes safetensors files tensor by tensor, so that only one is in memory; reading is `reading.py`."""

import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from engine.weights.reading import DTYPES

_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
STORABLE = frozenset(_DTYPE_NAMES)


class Described(Protocol):
    """What a header says about a tensor."""

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""

    @property
    def shape(self) -> Iterable[int]:
        """Its sides."""


def write_tensors(
    target: Path, described: Mapping[str, Described], tensors: Iterable[Tensor], metadata: Mapping[str, str]
) -> Iterator[float]:
    """Write a file, through to the disk; yields the fraction written.

    Args:
        described: dtype and shape of each tensor, by name.
        tensors: The tensors in the same order, taken one at a time.
    """
    header: dict[str, object] = {}
    if metadata:
        header["__metadata__"] = dict(metadata)
    end = 0
    for name, one in described.items():
        shape = list(one.shape)
        begin, end = end, end + torch.Size(shape).numel() * one.dtype.itemsize
        header[name] = {"dtype": _DTYPE_NAMES[one.dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    done = 0
    with target.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor, one in zip(tensors, described.values(), strict=True):
            assert (tensor.dtype, list(tensor.shape)) == (one.dtype, list(one.shape))
            file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
            done += tensor.numel() * tensor.element_size()
            yield done / max(1, end)
        file.flush()
        os.fsync(file.fileno())
