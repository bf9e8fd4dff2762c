"""Models are found by what their files say, and a bad one is listed with its reason."""

import json
from pathlib import Path

import pytest

from catalog.models import ModelEntry, scan
from tests.folders import make_model


def only(root: Path) -> ModelEntry:
    entries = scan([root])
    assert len(entries) == 1
    return entries[0]


def change(folder: Path, path: str, **values: object) -> None:
    data = json.loads((folder / path).read_text())
    (folder / path).write_text(json.dumps(data | values))


def test_a_folder_says_what_it_is(tmp_path: Path) -> None:
    make_model(tmp_path, "art/ink", title="Ink", words=("red", "Barn "), defaults={"guidance": 4.0}, zero_snr=True)
    entry = only(tmp_path)
    assert (entry.ref.name, entry.title, entry.ref.family, entry.problem) == ("art/ink", "Ink", "sd1", None)
    assert entry.words == {"red", "barn"} and entry.zero_snr and entry.defaults.guidance == 4.0
    assert entry.sizes == {"square": (64, 64)} and len(entry.ref.fingerprint) == 16


def test_families_are_told_by_configuration(tmp_path: Path) -> None:
    change(make_model(tmp_path, "two"), "unet/config.json", cross_attention_dim=1024)
    assert only(tmp_path).ref.family == "sd2"


def test_the_fingerprint_changes_with_the_weights(tmp_path: Path) -> None:
    make_model(tmp_path)
    first = only(tmp_path).ref.fingerprint
    assert only(tmp_path).ref.fingerprint == first
    make_model(tmp_path, seed=1)
    assert only(tmp_path).ref.fingerprint != first


def _pickle(folder: Path) -> None:
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(b"\x80\x02")


@pytest.mark.parametrize(("harm", "words"), [
    (lambda f: (f / "None.py").write_text("x"), "Python code"), (_pickle, "pickle"),
    (lambda f: (f / "vae/diffusion_pytorch_model.safetensors").unlink(), "vae has no .safetensors file"),
    (lambda f: (f / "unet/config.json").write_text("{"), "unet/config.json can't be read as JSON"),
    (lambda f: (f / "unet/config.json").write_text("[]"), "is not a table"),
    (lambda f: (f / "unet/config.json").write_text("[" * 100_000), "can't be read as JSON"),
    (lambda f: (f / "unet/config.json").unlink(), "unet/config.json is missing"),
    (lambda f: change(f, "unet/config.json", in_channels=7), "7 channels"),
    (lambda f: change(f, "model_index.json", text_encoder_2=["a", "b"]), "refiner"),
    (lambda f: change(f, "darkroom.json", defaults={"steps_": 1}), "darkroom.json can't be understood"),
    (lambda f: change(f, "darkroom.json", sizes={"square": 5}), "darkroom.json can't be understood")])
def test_a_damaged_model_is_listed_with_its_reason(tmp_path: Path, harm: object, words: str) -> None:
    folder = make_model(tmp_path)
    harm(folder)  # type: ignore[operator]
    entry = only(tmp_path)
    assert entry.problem and words in entry.problem and str(tmp_path) not in entry.problem


def test_hidden_and_half_loaded_things_are_not_listed(tmp_path: Path) -> None:
    make_model(tmp_path, ".cache/x")
    (tmp_path / "model.safetensors.part").write_bytes(b"x")
    (tmp_path / "loop").symlink_to(tmp_path)
    make_model(tmp_path, "a")
    assert [e.ref.name for e in scan([tmp_path, tmp_path / "nothing"])][0] == "a"


def test_the_first_folder_wins_a_name(tmp_path: Path) -> None:
    make_model(tmp_path / "one", "same", title="First")
    make_model(tmp_path / "two", "same", title="Second")
    assert [e.title for e in scan([tmp_path / "one", tmp_path / "two"])] == ["First"]
