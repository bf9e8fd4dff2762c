"""Hashes of model folders: computed once, changed with the files, deaf to side files."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from catalog.models import scan
from studio.library import hashes as module
from studio.library.hashes import ModelHashes
from studio.storage.database import Database
from tests.studio.conftest import wait_until
from tests.support.model_folders import make_controlnet, make_model, write_safetensors


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


def test_equal_names_sizes_times_and_beginnings_in_two_places_are_two_files(
    hashes: ModelHashes, tmp_path: Path
) -> None:
    """As models of one shape are: only their weights differ, behind a long header."""
    found = {}
    for name in ("a", "b"):
        file = tmp_path / name / "model.safetensors"
        file.parent.mkdir()
        file.write_bytes(bytes(100_000) + name.encode())
        os.utime(file, ns=(0, 10**18))
        found[name] = hashes.get(file)
        assert found[name] == hashlib.sha256(file.read_bytes()).hexdigest()
        wait_until(lambda file=file: hashes.known(file) is not None)
    assert found["a"] != found["b"]
    shutil.rmtree(tmp_path / "a")
    assert hashes.known(tmp_path / "b" / "model.safetensors") == found["b"]


def test_a_file_that_was_changed_and_given_its_old_time_is_hashed_again(hashes: ModelHashes, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"one")
    status = file.stat()
    first = hashes.get(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert hashes.known(file) is None and hashes.get(file) != first


def test_a_file_that_changes_while_it_is_hashed_has_no_hash(
    hashes: ModelHashes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"one")
    real = ModelHashes._hash_file

    def meanwhile(self: ModelHashes, path: Path, wait: object) -> str:
        made = real(self, path, lambda: None)
        path.write_bytes(b"another")
        return made

    with monkeypatch.context() as patched:
        patched.setattr(ModelHashes, "_hash_file", meanwhile)
        assert hashes.get(file) is None and hashes.known(file) is None
    assert hashes.get(file) == hashlib.sha256(b"another").hexdigest()


def test_a_file_that_could_not_be_read_is_tried_again(
    hashes: ModelHashes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (entry,) = scan([make_model(tmp_path / "m").parent])

    def refuse(self: ModelHashes, path: Path, wait: object) -> str:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(ModelHashes, "_hash_file", refuse)
        hashes.learn(entry, lambda: None)
    assert hashes.is_learnt(entry) and hashes.short(entry) == ""
    monkeypatch.setattr(module, "_TRY_AGAIN_S", 0.0)
    assert not hashes.is_learnt(entry)
    hashes.learn(entry, lambda: None)
    assert hashes.is_learnt(entry) and len(hashes.short(entry)) == 10


def test_what_the_first_version_hashed_at_a_place_is_still_known_there(tmp_path: Path) -> None:
    database = Database(tmp_path / "darkroom.sqlite3")
    database.open()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"one")
        os.utime(tmp_path / name / "model.safetensors", ns=(0, 10**18))
    line = f"model.safetensors\0{3}\0{10**18}\n"
    database.write(
        "INSERT INTO model_hashes (stamp, sha256, folder) VALUES (?, ?, ?)",
        (hashlib.sha256(line.encode()).hexdigest(), "5" * 64, str(tmp_path / "a" / "model.safetensors")),
    )
    hashes = ModelHashes(database)
    assert hashes.known(tmp_path / "a" / "model.safetensors") == "5" * 64
    assert hashes.known(tmp_path / "b" / "model.safetensors") is None
