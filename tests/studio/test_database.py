"""What may happen to the database file, and what the studio makes of it (F05, F22, F25)."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from contract import events
from contract.errors import StorageFull, StudioError
from studio.storage import database as database_module
from studio.storage.database import MIGRATIONS, Database
from studio.storage.lock import DataLock
from studio.studio import Studio
from tests.studio.conftest import ME, draft, finish, run, wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "darkroom.sqlite3"


def with_job(path: Path) -> Database:
    database = Database(path)
    database.open()
    with database.change() as connection:
        for number in range(200):
            connection.execute("INSERT INTO model_rates VALUES (?, 1.0)", (f"model {number}" * 20,))
    return database


def _zero_a_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(3 * 4096))


def _zero_the_head(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(4096))


def _cut(path: Path) -> None:
    os.truncate(path, 5000)


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database " * 500)


@pytest.mark.parametrize("harm", [_zero_a_page, _zero_the_head, _cut, _garbage])
def test_a_damaged_file_is_kept_as_bad_and_a_new_one_made(path: Path, harm: Callable[[Path], None]) -> None:
    with_job(path).close()
    harm(path)
    database = Database(path)
    database.open()
    assert database.is_new and database.value("PRAGMA integrity_check") == "ok"
    assert [p.name for p in path.parent.glob("*.bad")]
    database.close()


@pytest.mark.parametrize("harm", [lambda p: p.unlink(), lambda p: os.truncate(p, 0)])
def test_a_missing_or_empty_file_is_made(path: Path, harm: Callable[[Path], None]) -> None:
    with_job(path).close()
    harm(path)
    database = Database(path)
    database.open()
    assert database.is_new
    database.close()


def test_losing_the_wal_of_a_killed_program_loses_no_integrity(path: Path) -> None:
    database = with_job(path)
    other = path.with_name("copy.sqlite3")
    shutil.copy(path, other)  # without -wal: as after a careless copy
    database.close()
    again = Database(other)
    again.open()
    assert again.value("PRAGMA integrity_check") == "ok"
    again.close()


def test_a_file_of_an_older_version_is_brought_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_job(path).close()
    monkeypatch.setattr(database_module, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE later (x)"))
    database = Database(path)
    database.open()
    assert database.value("SELECT COUNT(*) FROM later") == 0 and not database.is_new
    assert database.value("SELECT COUNT(*) FROM model_rates") == 200
    database.close()


def test_a_file_with_the_names_of_before_keeps_favorites_jobs_and_uploads(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "MIGRATIONS", MIGRATIONS[:6])
    old = Database(path)
    old.open()
    recipe = {"prompt": 'a "type":"paint" sign', "start": {"image": {"sha256": "0" * 64}}}
    task = json.dumps({"recipe": recipe, "type": "paint"}, separators=(",", ":"))
    old.write(
        "INSERT INTO jobs (id, owner, window, state, task, cost, rank, created_at) VALUES ('j', 'me', 'w', 'queued', ?, 1, 1, 1)",
        (task,),
    )
    old.write(
        "INSERT INTO images (id, path, created_at, width, height, recipe, job_id, job_image, owner_key, favourite) "
        "VALUES ('i', 'p', 1, 8, 8, '{}', 'j', 0, 'k', 1)"
    )
    old.write("INSERT INTO input_owners VALUES ('sha', 'k')")
    old.close()
    monkeypatch.undo()
    database = Database(path)
    database.open()
    assert not database.is_new and database.value("PRAGMA user_version") == len(MIGRATIONS)
    assert database.value("SELECT favorite FROM images WHERE id = 'i'") == 1
    assert database.value("SELECT session FROM jobs WHERE id = 'j'") == "w"
    assert json.loads(database.value("SELECT task FROM jobs")) == {"recipe": recipe, "type": "generate"}
    assert database.value("SELECT owner_key FROM upload_owners WHERE sha256 = 'sha'") == "k"
    database.close()


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_job(path).close()
    monkeypatch.setattr(database_module, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE later (x); SELECT nonsense"))
    with pytest.raises(StudioError):
        Database(path).open()
    monkeypatch.undo()
    database = Database(path)
    database.open()
    assert database.value("PRAGMA user_version") == len(MIGRATIONS)
    database.close()


def test_a_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StudioError, match="newer Darkroom"):
        Database(path).open()


def test_a_locked_file_is_waited_for_then_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_job(path).close()
    monkeypatch.setattr(database_module, "BUSY_START_S", 0.1)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StudioError, match="locked by another program") as locked:
        Database(path).open()
    assert locked.value.code == "database_locked"
    holder.execute("ROLLBACK")
    holder.close()
    database = Database(path)
    database.open()
    database.close()


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (sqlite3.SQLITE_READONLY, StudioError, "can't be written"),
        (sqlite3.SQLITE_CANTOPEN, StudioError, "can't be written"),
        (sqlite3.SQLITE_FULL, StorageFull, "can't record anything"),
        (sqlite3.SQLITE_IOERR, StorageFull, "can't record"),
        (sqlite3.SQLITE_BUSY, StudioError, "locked"),
    ],
)
def test_every_refusal_of_the_file_is_a_sentence(path: Path, code: int, kind: type[StudioError], words: str) -> None:
    error = sqlite3.OperationalError("x")
    error.sqlite_errorcode = code
    with pytest.raises(kind, match=words) as refused, database_module.explained(path):
        raise error
    assert refused.value.hint and str(path.parent) not in refused.value.message


def test_a_change_that_fails_is_taken_back(path: Path) -> None:
    database = with_job(path)
    with pytest.raises(ZeroDivisionError), database.change() as connection:
        connection.execute("DELETE FROM model_rates")
        raise ZeroDivisionError
    assert database.value("SELECT COUNT(*) FROM model_rates") == 200
    database.close()


def test_many_threads_read_and_write(path: Path) -> None:
    database = with_job(path)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(30):
                with database.change() as connection:
                    connection.execute("INSERT INTO model_rates VALUES (?, 2.0)", (f"{number}-{step}",))
                assert database.value("SELECT COUNT(*) FROM model_rates WHERE model = ?", (f"{number}-{step}",)) == 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and database.value("SELECT COUNT(*) FROM model_rates") == 440
    database.close()


def test_f22_a_damaged_database_costs_no_picture(make_studio: Callable[..., Studio]) -> None:
    studio = make_studio()
    saved = next(e for e in run(studio, count=2) if isinstance(e, events.Saved))
    studio.stop()
    _zero_the_head(studio.settings.database_path)
    again = make_studio()
    assert again.wait_until_indexed(5)
    assert again.images(ME).total == 2 and again.image(saved.record.id, ME).recipe == saved.record.recipe
    assert list(studio.settings.data_dir.glob("*.bad"))
    assert isinstance(run(again)[-1], events.Done)


def test_f05_jobs_are_refused_when_they_can_not_be_recorded(make_studio: Callable[..., Studio]) -> None:
    studio = make_studio()
    run(studio)
    pages = studio._database.value("PRAGMA page_count")
    assert studio._database._writer is not None
    studio._database._writer.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StorageFull, match="can't record anything"):
        for _ in range(50):
            finish(studio, studio.submit(draft("long " * 20_000), ME).id)
    assert studio._database.value("PRAGMA integrity_check") == "ok"
    studio._database._writer.execute("PRAGMA max_page_count=1000000")
    assert isinstance(run(studio)[-1], events.Done)


def test_f25_a_second_program_on_the_same_folder_is_refused(tmp_path: Path, make_studio: Callable[..., Studio]) -> None:
    studio = make_studio()
    with pytest.raises(StudioError, match="Another Darkroom .* uses this data folder") as refused:
        make_studio()
    assert refused.value.code == "data_folder_in_use" and str(os.getpid()) in refused.value.message
    studio.stop()
    make_studio()


def test_f25_the_lock_of_a_killed_program_is_free_again(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from studio.storage.lock import DataLock\n"
        "lock = DataLock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    lock = DataLock(tmp_path)
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(StudioError, match=f"process {holder.pid}"):
            lock.acquire()
        holder.kill()
    wait_until(lambda: _can_lock(lock))
    lock.release()
    lock.release()


def _can_lock(lock: DataLock) -> bool:
    try:
        lock.acquire()
    except StudioError:
        return False
    return True
