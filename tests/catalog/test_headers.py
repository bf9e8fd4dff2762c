"""Malformed safetensors files (the CK family): each refused with its own reason, quickly, unread."""

import json
import os
import struct
import time
from pathlib import Path

import pytest

from catalog.files.headers import read_header
from contract.errors import ModelProblem
from tests.support.model_folders import write_safetensors


def file(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


BAD = {
    "ck03 pickle": (b"\x80\x02}q\0.", "PyTorch pickle"),
    "ck01 zip pickle": (b"PK\x03\x04abcd", "PyTorch pickle"),
    "ck05 empty": (b"", "empty file"),
    "ck06 seven bytes": (b"1234567", "7 bytes long"),
    "ck08 cut in the header": (file(b'{"a":', length=500), "cut off inside its header"),
    "ck10 lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git-lfs pointer"),
    "web page": (b"<!DOCTYPE html><html>", "web page"),
    "ck13 huge header": (struct.pack("<Q", 200_000_000) + b"{}", "too large"),
    "ck15 deep": (file(b"[" * 200_000), "not JSON"),
    "ck16 twice": (
        file(
            b'{"a":'
            + json.dumps(tensor([1], 0, 4)).encode()
            + b',"a":'
            + json.dumps(tensor([1], 0, 4)).encode()
            + b"}",
            b"1234",
        ),
        "twice",
    ),
    "ck18 gap": (file({"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, b"1" * 12), "gap or an overlap"),
    "overlap": (file({"a": tensor([2], 0, 8), "b": tensor([1], 4, 8)}, b"1" * 8), "gap or an overlap"),
    "ck20 overflow": (file({"a": tensor([2**62, 8], 0, 4)}, b"1234"), "its shape needs"),
    "ck21 shape": (file({"a": tensor([3], 0, 4)}, b"1234"), "its shape needs"),
    "ck23 trailing": (file({"a": tensor([1], 0, 4)}, b"12345678"), "4 bytes more"),
    "cut": (file({"a": tensor([2], 0, 8)}, b"1234"), "4 bytes are missing"),
    "ck26 none": (file({}), "no tensors"),
    "only metadata": (file({"__metadata__": {"x": "y"}}), "no tensors"),
    "list": (file([1]), "not a table"),
    "dtype": (file({"a": tensor([1], 0, 4, "X")}, b"1234"), "can't be read"),
    "negative": (file({"a": tensor([-1], 0, 4)}, b"1234"), "can't be read"),
    "bool": (file({"a": tensor([True], 0, 4)}, b"1234"), "can't be read"),  # type: ignore[list-item]
    "not utf-8": (file(b"\xff\xfe{}"), "not JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_file_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    data, words = BAD[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelProblem) as refused:
        read_header(path)
    assert words in refused.value.message and refused.value.message.startswith("model.safetensors")
    assert str(tmp_path) not in refused.value.message and refused.value.hint and len(refused.value.message) < 400


def test_ck14_three_hundred_thousand_tensors_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(file({f"t{n}": tensor([0], 0, 0) for n in range(300_000)}))
    began = time.thread_time()
    with pytest.raises(ModelProblem):
        read_header(path)
    assert time.thread_time() - began < 2.0


def test_folders_pipes_and_missing_files_are_refused_without_waiting(tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    os.mkfifo(tmp_path / "pipe.safetensors")
    for name in ("folder.safetensors", "pipe.safetensors", "nothing.safetensors"):
        with pytest.raises(ModelProblem):
            read_header(tmp_path / name)


def test_a_good_file_is_read(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "m.safetensors")
    found = read_header(tmp_path / "m.safetensors")
    assert found["t"].shape == (1,) and found["t"].end - found["t"].begin == 4
    assert found["t"].end == (tmp_path / "m.safetensors").stat().st_size
