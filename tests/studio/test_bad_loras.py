"""The LR family of bad inputs: each refused before a job exists, by a sentence with the file's name and the cause."""

import struct

import pytest

from contract.errors import StudioError
from studio.library.model_list import ModelList
from studio.resolve.draft import resolve
from studio.resolve.model_finder import Finder
from tests.studio.conftest import draft
from tests.support.model_folders import make_lora, make_model, write_safetensors


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelList:
    root = tmp_path_factory.mktemp("models")
    make_model(root, "starter")
    folder = root / "loras"
    whole = make_lora(folder, "whole").read_bytes()
    make_lora(folder, "for_xl", width=2048)
    write_safetensors(folder / "numbers.safetensors")
    bad = {
        "empty": b"",
        "cut": whole[:-40],
        "longer": whole + b"1234",
        "head": whole[:60],
        "pickle": b"\x80\x02evil" * 9,
        "page": b"<!DOCTYPE html><title>404</title>",
        "huge": struct.pack("<Q", 2**40) + b"{}",
        "pointer": b"version https://git-lfs.github.com/spec/v1\n",
    }
    for name, data in bad.items():
        (folder / f"{name}.safetensors").write_bytes(data)
    (folder / "evil.bin").write_bytes(b"PK\x03\x04evil")
    (folder / "coming.safetensors.part").write_bytes(whole)
    return ModelList((root,))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("for_xl", "is for SDXL"),
        ("empty", "empty file"),
        ("cut", "bytes are missing"),
        ("longer", "bytes more"),
        ("head", "cut off inside its header"),
        ("pickle", "PyTorch pickle"),
        ("page", "is a web page"),
        ("huge", "header"),
        ("pointer", "git-lfs pointer"),
        ("evil", "code when opened"),
        ("numbers", "numbers"),
        ("coming", "is not here"),
        ("nowhere", "is not here"),
    ],
)
def test_lr01_16_bad_files_are_refused_by_name_and_cause(models: ModelList, name: str, words: str) -> None:
    for fields in ({"prompt": f"a barn <lora:{name}:1>"}, {"loras": ({"model": name},)}):
        with pytest.raises(StudioError) as refused:
            resolve(draft(**fields), Finder(models), max_pixels=2048**2)  # type: ignore[arg-type]
        error = refused.value
        assert name in error.message and words in error.message and error.hint, (error.message, error.hint)
        assert len(error.message) + len(error.hint) < 400 and str(models.folders[0]) not in error.message + error.hint
    assert resolve(draft("a barn <lora:whole:1>"), Finder(models), max_pixels=2048**2).recipe.loras
