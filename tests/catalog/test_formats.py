"""A file is what it begins with: safetensors by any suffix are read, other forms are listed as what they are."""

import json
from pathlib import Path

import pytest

from catalog.detect.file_models import facts_version
from catalog.models import ModelEntry, scan
from studio.library.model_facts import ModelFacts
from studio.storage.database import Database
from tests.support import layouts

LORA = {"lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": (4, 768)}
EMBEDDING = {"emb_params": (2, 768)}


def only(root: Path) -> ModelEntry:
    (entry,) = scan([root])
    return entry


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".pth", ".sft", ".safetensors", ".CKPT", ".pkl"])
def test_good_safetensors_are_read_whatever_they_are_called(tmp_path: Path, suffix: str) -> None:
    path = layouts.write(tmp_path / "Lora" / "ink.safetensors", LORA)
    path.rename(path.with_suffix(suffix))
    entry = only(tmp_path)
    assert (entry.ref.kind, entry.ref.family, entry.problem, entry.format) == ("lora", "sd1", None, "file")
    assert len(entry.ref.fingerprint) == 16


@pytest.mark.parametrize("start", [b"\x80\x02}q\x00.", b"PK\x03\x04xxxxxxxxxx", b"\x80\x04\x95aaaaaaaaaaaa"])
def test_a_pickle_called_safetensors_is_told_and_how_to_convert_it(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "Lora").mkdir()
    (tmp_path / "Lora" / "ink.safetensors").write_bytes(start)
    entry = only(tmp_path)
    assert entry.problem == "ink.safetensors is a PyTorch pickle, not safetensors: it can run code when opened."
    assert "Rename it to .ckpt" in entry.hint


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("checkpoints/sd.ggml", b"lmgg\x03\x00\x00\x00", "GGML weights"),
        ("sd.onnx", b"\x08\x08\x12\x07pytorch", "an ONNX model"),
        ("unet/sd.onnx", b"\x08\x08\x12\x07pytorch", "an ONNX model"),
        ("checkpoints/sd.engine", b"ftrt" * 9, "a TensorRT engine"),
        ("Stable-diffusion/sd.trt", b"x" * 9, "a TensorRT engine"),
        ("checkpoints/sd.msgpack", b"x" * 9, "Flax weights"),
        ("checkpoints/sd.h5", b"\x89HDF\r\n", "Keras weights"),
        ("vae/sd.mlmodel", b"x" * 9, "a Core ML model"),
    ],
)
def test_other_forms_are_listed_as_what_they_are(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    entry = only(tmp_path)
    assert entry.problem and words in entry.problem and "Darkroom can't run" in entry.problem and entry.hint
    assert entry.format == "file" and "run code" not in entry.problem


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is an empty file"),
        (b"<!DOCTYPE html><p>Log in", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (b"GGUF\x03\x00", "is cut off inside its header"),
    ],
)
def test_what_is_called_a_pickle_and_is_none_is_said_to_be_what_it_is(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "sd.ckpt").write_bytes(data)
    entry = only(tmp_path)
    assert entry.problem and words in entry.problem and entry.format == "file"


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"error": "Unauthorized", "message": "The creator asks you to log in"}', "a text in JSON"),
        (b"[]\n", "a text in JSON"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "a picture"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 40, "a picture"),
        (b"7z\xbc\xaf\x27\x1c" + b"\0" * 40, "a 7-Zip archive"),
        (b"Rar!\x1a\x07\x01" + b"\0" * 40, "a RAR archive"),
        (b"\x1f\x8b\x08" + b"\0" * 40, "a gzip archive"),
    ],
)
def test_what_came_in_place_of_a_model_is_said_to_be_what_it_is(
    tmp_path: Path, suffix: str, data: bytes, words: str
) -> None:
    (tmp_path / f"sd{suffix}").write_bytes(data)
    entry = only(tmp_path)
    assert entry.problem and entry.problem.startswith(f"sd{suffix} is {words}, not the weights") and entry.hint
    assert entry.format == "file"


def test_a_kept_fact_without_the_new_field_is_read_again(tmp_path: Path) -> None:
    facts = {
        "sniffed": {"kind": "lora", "control_type": []},
        "about": {"title": "", "notes": "", "trigger_words": []},
        "fingerprint": "",
    }
    database = Database(tmp_path / "darkroom.db")
    database.open()
    kept = ModelFacts(database)
    with database.change() as connection:
        for path, table in (("old", facts), ("new", {**facts, "is_pickle": True})):
            row = (path, "stamp", facts_version(), json.dumps(table))
            connection.execute("INSERT INTO model_facts (path, stamp, version, facts) VALUES (?, ?, ?, ?)", row)
    assert list(kept.load()) == ["new"]
    database.close()
