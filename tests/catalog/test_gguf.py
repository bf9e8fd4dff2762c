"""Headers of GGUF files: read as the library reads them, and refused by name where they lie."""

import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from catalog.files.gguf import PACKINGS
from catalog.files.headers import read_header, read_whole_header
from catalog.models import describe, scan
from contract.errors import ModelProblem
from tests.support.gguf_files import write_gguf

_STRING, _LIST, _NUMBER = 8, 9, 4


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def tensor(name: str, sides: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(sides)}QIQ", len(sides), *sides, kind, offset)


def file_of(*described: bytes, entries: tuple[bytes, ...] = (), data: int = 0, version: int = 3) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(described), len(entries)) + b"".join((*entries, *described))
    return head + b"\0" * (-len(head) % 32) + b"\1" * data


def test_sizes_of_blocks_are_the_librarys() -> None:
    for name, packing in PACKINGS.items():
        assert tuple(packing) == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]], name


def test_names_shapes_and_places_are_the_librarys(tmp_path: Path) -> None:
    tensors = {
        "out.weight": torch.randn(4, 256),
        "conv.weight": torch.randn(64, 8, 3, 3),
        "norm.bias": torch.randn(7),
        "pos_embed": torch.randn(1, 9, 64),
    }
    file = tmp_path / "one.gguf"
    write_gguf(tensors, file, "Q4_K")
    header = read_header(file)
    assert {name: info.shape for name, info in header.items()} == {name: one.shape for name, one in tensors.items()}
    theirs = {one.name: one for one in gguf.GGUFReader(file).tensors}
    for name, info in header.items():
        assert (info.begin, info.end - info.begin) == (theirs[name].data_offset, theirs[name].n_bytes)
        assert info.dtype == theirs[name].tensor_type.name
    assert header["conv.weight"].dtype == "Q4_K" and header["norm.bias"].dtype == "F32"


def test_what_a_maker_says_is_read_and_long_lists_are_passed_over(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "one.gguf", "t5encoder")
    writer.add_token_list([f"word {number}" for number in range(32_000)])
    writer.add_token_scores([0.5] * 32_000)
    writer.add_name("a name")
    writer.add_tensor("enc.blk.0.attn_q.weight", np.ones((4, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_whole_header(tmp_path / "one.gguf")
    assert header.metadata == {"general.architecture": "t5encoder", "general.name": "a name"}
    assert list(header.tensors) == ["encoder.block.0.layer.0.SelfAttention.q.weight"]


GOOD = tensor("a", (32, 2))
CASES: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut in the magic": (lambda: b"GGU", "is only 3 bytes long"),
    "cut in the counts": (lambda: file_of(GOOD)[:20], "is cut off inside its header"),
    "cut in a name": (lambda: file_of(GOOD)[:34], "is cut off inside its header"),
    "cut in the data": (lambda: file_of(GOOD, data=200), "is cut off: 56 bytes are missing"),
    "more data": (lambda: file_of(GOOD, data=288), "has 32 bytes more than its header says"),
    "old": (lambda: file_of(GOOD, data=256, version=1), "is GGUF of a version that is not known"),
    "big endian": (lambda: b"GGUF\0\0\0\3" + b"\0" * 64, "is GGUF of big-endian machines"),
    "no tensors": (lambda: file_of(), "holds no tensors"),
    "many tensors": (lambda: b"GGUF" + struct.pack("<IQQ", 3, 2**62, 0), "names 4,611,686,018,427,387,904 tensors"),
    "many entries": (lambda: b"GGUF" + struct.pack("<IQQ", 3, 1, 2**40), "has a header that can't be read"),
    "a long name": (lambda: b"GGUF" + struct.pack("<IQQQ", 3, 1, 0, 2**63), "has a header that can't be read"),
    "a name past the end": (lambda: b"GGUF" + struct.pack("<IQQQ", 3, 1, 0, 900_000), "is cut off inside its header"),
    "twice": (lambda: file_of(GOOD, GOOD, data=256), "names the tensor “a” twice"),
    "many sides": (lambda: file_of(tensor("a", (1,) * 9)), "describes the tensor “a” in a way"),
    "an endless shape": (lambda: file_of(tensor("a", (2**62, 8)), data=8), "a shape that can't be"),
    "half a block": (lambda: file_of(tensor("a", (31,), 2), data=18), "a shape that can't be"),
    "an unknown type": (lambda: file_of(tensor("a", (32,), 99), data=18), "(type 99)"),
    "an overlap": (lambda: file_of(GOOD, tensor("b", (32, 2)), data=256), "has a gap or an overlap"),
    "a gap": (lambda: file_of(GOOD, tensor("b", (32, 2), offset=512), data=768), "has a gap or an overlap"),
    "an offset past the end": (lambda: file_of(tensor("a", (4,), offset=2**63)), "has a gap or an overlap"),
    "an alignment of 0": (
        lambda: file_of(GOOD, entries=(text("general.alignment") + struct.pack("<II", 4, 0),), data=256),
        "has a header that can't be read",
    ),
    "two shapes": (
        lambda: file_of(
            GOOD,
            entries=(text("comfy.gguf.orig_shape.a") + struct.pack("<IIQ2I", _LIST, _NUMBER, 2, 32, 3),),
            data=256,
        ),
        "two shapes that differ in size",
    ),
    "an endless list": (
        lambda: file_of(GOOD, entries=(text("x") + struct.pack("<IIQ", _LIST, _STRING, 2**62),), data=256),
        "has a header that can't be read",
    ),
    "an endless list of numbers": (
        lambda: file_of(GOOD, entries=(text("x") + struct.pack("<IIQ", _LIST, _NUMBER, 2**60),), data=256),
        "is cut off inside its header",
    ),
    "a list of lists": (
        lambda: file_of(GOOD, entries=(text("x") + struct.pack("<IIQ", _LIST, _LIST, 3),), data=256),
        "has a header that can't be read",
    ),
    "an entry of no type": (
        lambda: file_of(GOOD, entries=(text("x") + struct.pack("<I", 77),), data=256),
        "has a header that can't be read",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_header_that_lies_is_refused_by_name_in_no_time_and_no_memory(case: str, tmp_path: Path) -> None:
    made, words = CASES[case]
    file = tmp_path / "one.gguf"
    file.write_bytes(made())
    tracemalloc.start()
    began = time.thread_time()
    with pytest.raises(ModelProblem) as caught:
        read_header(file)
    spent, (_, peak) = time.thread_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert words in caught.value.message and caught.value.message.startswith("one.gguf ")
    assert spent < 0.5 and peak < 2**22


def test_a_good_one_is_read_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "one.gguf").write_bytes(file_of(GOOD, tensor("b", (), offset=256), data=288))
    header = read_header(tmp_path / "one.gguf")
    assert {name: info.shape for name, info in header.items()} == {"a": (2, 32), "b": ()}


def test_every_cut_and_every_flipped_byte_of_a_header_is_an_entry(tmp_path: Path) -> None:
    """Whatever a header holds, reading it ends with a header or a sentence."""
    write_gguf({"a.weight": torch.randn(4, 8, 8, 8), "b": torch.randn(3)}, tmp_path / "good.gguf", "Q4_0")
    raw = (tmp_path / "good.gguf").read_bytes()
    file = tmp_path / "bad.gguf"
    for place in range(4, 260):
        for changed in (raw[:place], raw[:place] + bytes([raw[place] ^ 0xFF]) + raw[place + 1 :]):
            file.write_bytes(changed)
            try:
                read_header(file)
            except ModelProblem as problem:
                assert "bad.gguf" in problem.message


def test_types_that_are_not_expanded_are_named(tmp_path: Path) -> None:
    shapes = {
        "joint_blocks.0.x_block.attn.qkv.weight": (64, 768),
        "joint_blocks.0.context_block.attn.qkv.weight": (64, 768),
        "y_embedder.mlp.0.weight": (256, 256),
        "context_embedder.weight": (256, 256),
    }
    described, offset = [], 0
    for name, (rows, width) in shapes.items():
        described.append(tensor(name, (width, rows), 16, offset))
        offset += rows * width // 256 * 66
        offset += -offset % 32
    (tmp_path / "one.gguf").write_bytes(file_of(*described, data=offset))
    entry = describe(tmp_path / "one.gguf", "one")
    assert entry.problem == "one: Its weights are IQ2_XXS (GGUF), which Darkroom can't read."
    assert "Q4" in entry.hint or "fp16" in entry.hint


def test_other_models_as_gguf_are_named_too(tmp_path: Path) -> None:
    """A language model in the folder of checkpoints, and a file that only says it were GGUF."""
    home = tmp_path / "checkpoints"
    home.mkdir()
    (home / "llama.gguf").write_bytes(file_of(tensor("blk.0.attn_q.weight", (32, 2)), data=256))
    (home / "page.gguf").write_bytes(b"<html>not found</html>")
    found = {entry.title: entry.problem for entry in scan([tmp_path])}
    assert found["llama"] and "is no checkpoint that is known" in found["llama"]
    assert found["page"] and "is a web page" in found["page"]
