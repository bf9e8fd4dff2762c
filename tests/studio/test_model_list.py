"""The list of models: ready at once, brought up to date behind whoever asks, and never in the way."""

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catalog.detect import file_models
from catalog.files.headers import Header
from contract.errors import InvalidRecipe, NotFound
from studio.library import model_list
from studio.library.hashes import HashKeeper, ModelHashes
from studio.library.model_facts import ModelFacts
from studio.library.model_list import ModelList
from studio.storage.database import Database
from studio.studio import Studio
from tests.studio.conftest import ME, draft, finish, wait_until
from tests.support import layouts
from tests.support.fakes import FakeWorker
from tests.support.model_folders import make_model

EMBEDDING: layouts.Shapes = {"emb_params": (1, 768)}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(tmp_path / "data.sqlite3")
    found.open()
    yield found
    found.close()


def put(root: Path, *names: str) -> None:
    for name in names:
        layouts.write(root / "models" / f"{name}.safetensors", EMBEDDING)


class Clock:
    """A time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_new_files_show_up_and_removed_ones_vanish(tmp_path: Path) -> None:
    put(tmp_path, "one")
    clock = Clock()
    models = ModelList((tmp_path / "models",), clock)
    assert [entry.title for entry in models.all()] == ["one"]
    generation = models.generation
    put(tmp_path, "two")
    assert len(models.all()) == 1 and models.generation == generation
    clock.now += 100
    wait_until(lambda: [entry.title for entry in models.all()] == ["one", "two"])
    assert models.generation > generation
    (tmp_path / "models" / "one.safetensors").unlink()
    assert [entry.title for entry in models.all(fresh=True)] == ["two"]


def test_a_name_that_is_not_known_is_looked_for_on_the_disk(tmp_path: Path) -> None:
    models = ModelList((tmp_path / "models",), Clock())
    assert models.all() == ()
    put(tmp_path, "new", "newer")
    assert models.find("new", "embedding") and models.find("newer", "embedding")
    assert models.find("nothing", "embedding") is None


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("ink/old", "ink/old"),
        ("INK/OLD", "ink/old"),
        ("old", "old"),
        ("Old", "old"),
        ("deep", "a/deep"),
        ("Maker's Name", "a/b/deep"),
        ("Lora/pen", "pen"),
        ("../old", None),
        ("/etc/old", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_a_model_is_found_by_name_alias_and_last_part(tmp_path: Path, asked: str, found: str | None) -> None:
    for name in ("ink/old", "old", "a/deep", "a/b/deep", "pen"):
        metadata = {"modelspec.title": "Maker's name"} if name == "a/b/deep" else None
        layouts.write(tmp_path / "embeddings" / f"{name}.safetensors", EMBEDDING, metadata)
    entry = ModelList((tmp_path,)).find(asked, "embedding")
    assert (entry.ref.name if entry else None) == found


def test_kinds_may_share_a_name(tmp_path: Path) -> None:
    put(tmp_path, "ink")
    make_model(tmp_path / "models", "ink")
    models = ModelList((tmp_path / "models",))
    assert models.get("ink", "embedding").ref.kind == "embedding"
    assert models.get("ink", "checkpoint").ref.kind == "checkpoint"
    now = models.as_it_is_now("ink", "embedding")
    assert now is not None and now.format == "file"
    with pytest.raises(NotFound):
        models.get("ink", "lora")


def test_ck40_41_a_model_is_read_again_before_it_is_used(tmp_path: Path) -> None:
    put(tmp_path, "ink")
    models = ModelList((tmp_path / "models",))
    before = models.get("ink").ref.fingerprint
    layouts.write(tmp_path / "models" / "ink.safetensors", {"emb_params": (2, 768)})
    now = models.as_it_is_now("ink", "embedding")
    assert now is not None and now.ref.fingerprint not in ("", before)
    (tmp_path / "models" / "ink.safetensors").unlink()
    assert models.as_it_is_now("ink", "embedding") is None


@pytest.mark.alone
def test_f27_a_slow_disk_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, *(f"e{number}" for number in range(60)))
    make_model(tmp_path / "models", "starter")
    read = file_models.read_whole_header

    def slow(path: Path) -> Header:
        time.sleep(0.05)
        return read(path)

    monkeypatch.setattr(file_models, "read_whole_header", slow)
    monkeypatch.setattr(model_list, "WAIT_S", 0.3)
    models = ModelList((tmp_path / "models",))
    began = time.perf_counter()
    models.begin()
    assert time.perf_counter() - began < 0.2
    models.all()
    assert time.perf_counter() - began < 1.5
    began = time.perf_counter()
    for _ in range(20):
        models.all()
    assert time.perf_counter() - began < 0.3
    wait_until(lambda: len(models.all()) > 1)  # what was found until then, the checkpoint first
    first = models.first_usable()
    assert first is not None and first.ref.name == "starter"
    wait_until(lambda: len(models.listed()) == 61, 20)


def test_a_restart_opens_no_file_again(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "one", "two")
    layouts.write(
        tmp_path / "models" / "Lora" / "x.safetensors",
        {"lora_unet_a.lora_up.weight": (1, 1)},
        {"modelspec.trigger_phrase": "ink"},
    )
    first = ModelList((tmp_path / "models",), kept=ModelFacts(database)).all(fresh=True)

    def again(path: Path) -> Header:
        raise AssertionError(f"{path} is opened again")

    monkeypatch.setattr(file_models, "read_whole_header", again)
    second = ModelList((tmp_path / "models",), kept=ModelFacts(database)).all(fresh=True)
    assert second == first and len(first) == 3
    database.write("UPDATE model_facts SET version = 'old'")
    assert ModelFacts(database).load() == {}


@pytest.mark.parametrize("facts", ["", "[]", "{}", '{"sniffed": {"kind": 1, "colour": 2}, "about": {}}'])
def test_facts_that_are_damaged_are_read_again(tmp_path: Path, database: Database, facts: str) -> None:
    put(tmp_path, "one")
    first = ModelList((tmp_path / "models",), kept=ModelFacts(database)).all(fresh=True)
    database.write("UPDATE model_facts SET facts = ?", (facts,))
    assert ModelList((tmp_path / "models",), kept=ModelFacts(database)).all(fresh=True) == first


def test_without_a_database_the_list_is_there_all_the_same(tmp_path: Path) -> None:
    put(tmp_path, "one")
    closed = Database(tmp_path / "closed.sqlite3")
    assert len(ModelList((tmp_path / "models",), kept=ModelFacts(closed)).all(fresh=True)) == 1


def test_hashes_are_kept_by_the_way_and_shown(tmp_path: Path, database: Database) -> None:
    put(tmp_path, "one", "two")
    make_model(tmp_path / "models", "starter")
    hashes = ModelHashes(database)
    clock = Clock()
    models = ModelList((tmp_path / "models",), clock, short_hash=hashes.short)
    assert [entry.short_hash for entry in models.all()] == ["", "", ""]
    busy = [True]
    keeper = HashKeeper(hashes, models.listed, lambda: busy[0], look_s=0.01)
    keeper.start()
    time.sleep(0.05)
    assert not any(hashes.short(entry) for entry in models.listed())  # never while something works
    busy[0] = False
    wait_until(lambda: all(hashes.short(entry) for entry in models.listed()))
    keeper.stop()
    found = {entry.title: entry.short_hash for entry in models.all(fresh=True)}
    for name in ("one", "two"):
        data = (tmp_path / "models" / f"{name}.safetensors").read_bytes()
        assert found[name] == hashlib.sha256(data).hexdigest()[:10]
    assert len(found["Starter"]) == 10
    again = ModelList((tmp_path / "models",), short_hash=ModelHashes(database).short)
    assert {entry.title: entry.short_hash for entry in again.all()} == found
    one = tmp_path / "models" / "one.safetensors"
    assert one in hashes.folders_of(found["one"])
    layouts.write(one, {"emb_params": (3, 768)})
    assert next(entry for entry in models.all(fresh=True) if entry.title == "one").short_hash == ""


def test_a_thousand_models_are_listed_again_in_no_time(tmp_path: Path) -> None:
    put(tmp_path, *(f"folder{number % 50}/e{number}" for number in range(1000)))
    models = ModelList((tmp_path / "models",))
    wait_until(lambda: len(models.all()) == 1000, 60)
    began = time.thread_time()
    models.all()
    assert time.thread_time() - began < 0.05


def test_f28_a_file_that_went_away_fails_its_job_by_name_and_others_run(make_studio: Callable[..., Studio]) -> None:
    worker = FakeWorker()
    studio = make_studio(worker)
    root = studio.settings.model_dirs[0]
    gone = layouts.write(root / "gone.safetensors", layouts.checkpoint("sd1"))
    changed = layouts.write(root / "changed.safetensors", layouts.checkpoint("sd1"))
    studio.models(fresh=True)
    worker.gate.clear()
    jobs = [studio.submit(draft(model=name), ME).id for name in ("starter", "gone", "changed", "starter")]
    gone.unlink()
    layouts.write(changed, layouts.checkpoint("sd1", 9))
    worker.gate.set()
    endings = [finish(studio, job_id)[-1] for job_id in jobs]
    assert [ending.type for ending in endings] == ["done", "failed", "failed", "done"]
    assert endings[1].message == "Model “gone” is gone."  # type: ignore[union-attr]
    assert "changed on the disk" in endings[2].message  # type: ignore[union-attr]


def test_ck31_a_model_of_another_kind_is_named_as_what_it_is(make_studio: Callable[..., Studio]) -> None:
    studio = make_studio()
    layouts.write(studio.settings.model_dirs[0] / "Stable-diffusion" / "mse.safetensors", layouts.ldm_vae())
    studio.models(fresh=True)
    with pytest.raises(InvalidRecipe, match="“mse” is a VAE, no checkpoint."):
        studio.submit(draft(model="mse"), ME)
    with pytest.raises(InvalidRecipe, match="“starter” is a checkpoint, no LoRA."):
        studio.submit(draft("a cat <lora:starter:1>"), ME)
