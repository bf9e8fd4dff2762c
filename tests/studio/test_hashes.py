"""Hashes of model folders: computed once, changed with the files, deaf to side files."""

from pathlib import Path

import pytest

from catalog.models import scan
from studio.database import Database
from studio.hashes import ModelHashes
from tests.folders import make_controlnet, make_model, write_safetensors
from tests.studio.conftest import wait_until


@pytest.fixture
def hashes(tmp_path: Path) -> ModelHashes:
    database = Database(tmp_path / "darkroom.sqlite3")
    database.open()
    return ModelHashes(database)


def test_a_hash_is_remembered_until_the_files_change(hashes: ModelHashes, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    assert hashes.known(folder) is None
    first = hashes.get(folder)
    assert first and len(first) == 64
    wait_until(lambda: hashes.known(folder) == first)
    (folder / "README.md").write_text("new words")
    assert hashes.known(folder) == first
    write_safetensors(folder / "unet" / "diffusion_pytorch_model.safetensors", 7)
    second = hashes.get(folder)
    assert second != first


def test_equal_folders_have_equal_hashes_and_names_do_not_count(hashes: ModelHashes, tmp_path: Path) -> None:
    assert hashes.get(make_model(tmp_path / "a", "x")) == hashes.get(make_model(tmp_path / "b", "y"))


def test_a_folder_is_found_by_the_beginning_of_its_hash(hashes: ModelHashes, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m")
    sha256 = hashes.get(folder)
    assert sha256 is not None
    wait_until(lambda: hashes.folders_of(sha256[:10].upper()) == {folder})
    assert hashes.folders_of(sha256[:7]) == hashes.folders_of("%") == hashes.folders_of("0" * 100) == frozenset()


def test_a_part_alone_has_a_hash_of_its_weights_and_configuration(hashes: ModelHashes, tmp_path: Path) -> None:
    folder = make_controlnet(tmp_path, "canny")
    first = hashes.get(folder)
    (folder / "README.md").write_text("of no account")
    assert first is not None and hashes.get(folder) == first
    (folder / "config.json").write_text("{}")
    assert hashes.get(folder) != first


def test_a_folder_that_is_gone_has_none(hashes: ModelHashes, tmp_path: Path) -> None:
    assert hashes.get(tmp_path / "nothing") is None


def test_learning_hashes_ends_quietly_with_the_program(tmp_path: Path) -> None:
    database = Database(tmp_path / "darkroom.sqlite3")
    database.open()
    hashes = ModelHashes(database)
    (entry,) = scan([make_model(tmp_path / "m").parent])
    assert not hashes.is_learnt(entry)
    database.close()
    hashes.learn(entry, lambda: None)
    assert hashes.is_learnt(entry) and hashes.short(entry) == ""
