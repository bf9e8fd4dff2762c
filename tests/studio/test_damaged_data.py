"""A damaged secret, database or setting is said at the start with what to do, and costs nobody a picture (F21, F22)."""

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from contract import events
from contract.errors import InvalidInput
from studio.settings import load_settings
from studio.storage.owner_keys import OwnerKeys
from studio.storage.secret_file import secret_or_new
from studio.studio import Studio
from studio.uploads.uploads import Uploads
from tests.studio.conftest import ME, YOU, draft, finish, run, wait_until
from tests.support.fakes import FakeWorker
from tests.support.images import png

Make = Callable[..., Studio]


def _empty(path: Path) -> str:
    path.write_bytes(b"")
    return "(it is empty)"


def _cut(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:7])
    return "(7 bytes)"


def _longer(path: Path) -> str:
    path.write_bytes(path.read_bytes() + b"\n")
    return "(33 bytes)"


def _zeros(path: Path) -> str:
    path.write_bytes(bytes(32))
    return "(it holds nothing but zeros)"


def _folder(path: Path) -> str:
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(b"x")
    return "(it is a folder)"


HARMS = [_empty, _cut, _longer, _zeros, _folder]


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_secret_is_kept_aside_and_named(tmp_path: Path, harm: Callable[[Path], str]) -> None:
    path = tmp_path / "owner.key"
    first = secret_or_new(path).value
    cause = harm(path)
    found = secret_or_new(path)
    assert found.is_new and len(found.value) == 32 and found.value != first and cause in found.problem
    assert "kept as owner.key.bad" in found.problem and "put the copy in the place of owner.key" in found.problem
    assert (tmp_path / "owner.key.bad").exists() and secret_or_new(path).value == found.value
    harm(path)
    secret_or_new(path)  # a second time: the first damaged one is still there
    assert sorted(p.name for p in tmp_path.iterdir()) == ["owner.key", "owner.key.2.bad", "owner.key.bad"]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_secret_that_can_not_be_read_is_kept_for_when_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = secret_or_new(tmp_path / "owner.key").value

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        found = secret_or_new(tmp_path / "owner.key")
    assert "(it can't be read: Permission denied)" in found.problem
    assert (tmp_path / "owner.key.bad").read_bytes() == first


@pytest.mark.parametrize(
    "harm", [*HARMS, lambda path: path.unlink() or "", lambda path: path.write_bytes(b"k" * 32) or ""]
)
def test_owners_are_found_again_by_their_jobs(
    make_studio: Make, tmp_path: Path, harm: Callable[[Path], str], caplog: pytest.LogCaptureFixture
) -> None:
    studio = make_studio()
    mine = [e.record.id for e in run(studio, "mine", count=2) if isinstance(e, events.Saved)]
    yours = [e.record.id for e in run(studio, "yours", owner=YOU) if isinstance(e, events.Saved)]
    kept = studio.add_upload(png(), ME)
    studio.stop()
    harm(tmp_path / "owner.key")
    caplog.set_level(logging.WARNING)
    again = make_studio()
    assert [image.id for image in again.images(ME).images] == mine[::-1]
    assert [image.id for image in again.images(YOU).images] == yours
    assert again.upload_size(kept.sha256, ME) == (8, 8) and again.upload_size(kept.sha256, YOU) is None
    assert any("owner.key" in notice and "found again" in notice for notice in again.notices)
    assert [r.message for r in caplog.records if "owner.key" in r.message] == list(again.notices)
    assert not again.has_lost_pictures
    run(again, "later")
    again.stop()
    third = make_studio()
    assert third.notices == () and third.images(ME).total == 3  # said once, at the start where it was found


def test_pictures_whose_owner_nobody_knows_go_to_who_administers(make_studio: Make, tmp_path: Path) -> None:
    """Key and database are both lost: only the PNGs are left."""
    studio = make_studio()
    run(studio, "old", count=2)
    studio.stop()
    (tmp_path / "owner.key").write_bytes(b"")
    for path in tmp_path.glob("darkroom.sqlite3*"):
        path.unlink()
    again = make_studio()
    assert again.wait_until_indexed(10) and again.has_lost_pictures
    assert again.images(ME).total == 0  # nobody is taken for the owner unasked
    run(again, "new", owner=YOU)
    again.adopt_lost_pictures(ME)
    assert {image.recipe.prompt for image in again.images(ME).images if image.recipe} == {"old"}
    assert again.images(YOU).total == 1 and not again.has_lost_pictures
    again.stop()
    third = make_studio()
    assert third.images(ME).total == 2 and not third.has_lost_pictures


def test_pictures_of_before_come_back_though_key_and_database_are_lost_one_after_the_other(
    make_studio: Make, tmp_path: Path
) -> None:
    studio = make_studio()
    run(studio, "old")
    studio.stop()
    (tmp_path / "owner.key").write_bytes(b"")
    second = make_studio()
    run(second, "new", owner=YOU)
    second.stop()
    for path in tmp_path.glob("darkroom.sqlite3*"):
        path.unlink()
    third = make_studio()
    assert third.wait_until_indexed(10) and third.has_lost_pictures
    assert third.images(YOU).total == 1  # made with the key that is there: still theirs
    third.adopt_lost_pictures(ME)
    assert [image.recipe.prompt for image in third.images(ME).images if image.recipe] == ["old"]
    assert third.images(YOU).total == 1


def test_browsers_of_before_are_forgotten_with_the_secret_of_the_cookies(make_studio: Make) -> None:
    studio = make_studio()
    run(studio, "mine")
    studio.forget_browsers("cookies.key was damaged (it is empty).")
    assert "shown to who opens it on this machine" in studio.notices[-1] and studio.has_lost_pictures
    studio.adopt_lost_pictures("another")
    assert studio.images("another").total == 1 and studio.images(ME).total == 0


def test_a_first_start_says_nothing(make_studio: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    studio = make_studio()
    studio.forget_browsers("")
    assert studio.notices == () and not studio.has_lost_pictures and not caplog.records


def test_an_update_of_the_program_keeps_owners(make_studio: Make, tmp_path: Path) -> None:
    studio = make_studio()
    run(studio)
    studio.stop()
    connection = sqlite3.connect(tmp_path / "darkroom.sqlite3")
    connection.execute("DELETE FROM marks")  # as a version wrote it that had none
    connection.commit()
    connection.close()
    again = make_studio()
    assert again.notices == () and again.images(ME).total == 1


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database " * 500)


def _zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _is_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _of_another_program(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE jobs (x)")
    connection.commit()
    connection.close()


def _tables_are_gone(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE images")
    connection.commit()
    connection.close()


def _version_is_zero(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=0")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "harm", [_garbage, _zeroed, _is_a_folder, _of_another_program, _tables_are_gone, _version_is_zero]
)
def test_a_damaged_database_is_said_and_costs_no_picture(
    make_studio: Make, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    studio = make_studio()
    first = next(e for e in run(studio, "a castle") if isinstance(e, events.Saved)).record
    studio.stop()
    harm(tmp_path / "darkroom.sqlite3")
    again = make_studio()
    assert again.wait_until_indexed(10)
    assert [image.id for image in again.images(ME, search="astl").images] == [first.id]
    (notice,) = again.notices
    assert notice.startswith("darkroom.sqlite3 was damaged. It is kept as darkroom.sqlite3.") and "favorites" in notice
    assert list(tmp_path.glob("darkroom.sqlite3.*.bad"))
    assert isinstance(run(again)[-1], events.Done)


def test_one_unreadable_row_hides_no_other(make_studio: Make, tmp_path: Path) -> None:
    worker = FakeWorker()
    studio = make_studio(worker)
    run(studio, "good")
    run(studio, "bad")
    worker.gate.clear()
    studio.submit(draft("running"), ME)
    wait_until(lambda: bool(worker.work_items) and len(worker.work_items) == 3)
    waiting, other = (studio.submit(draft("waiting"), ME).id for _ in range(2))
    studio.stop()
    connection = sqlite3.connect(tmp_path / "darkroom.sqlite3")
    connection.execute(
        "UPDATE images SET recipe = '{\"from\":\"a newer version\"}', tags = '{' WHERE recipe LIKE '%bad%'"
    )
    connection.execute("UPDATE jobs SET task = '{\"type\":\"dream\"}' WHERE id = ? OR state = 'done'", (waiting,))
    connection.commit()
    connection.close()
    again = make_studio()
    assert [image.recipe and image.recipe.prompt for image in again.images(ME).images[-2:]] == [None, "good"]
    assert isinstance(finish(again, other)[-1], events.Done)
    assert {row.state for row in again.queue(ME)} == {"done"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xef\xbb\xbfport = 7999\n", ""),
        (b"\0" * 40, "settings.toml can't be read (it is not valid TOML)"),
        (b"port = \xff", "settings.toml can't be read (it is not valid TOML)"),
        (b"x = " + b"[" * 5000, "not valid TOML"),
        (None, "settings.toml can't be read (Is a directory)"),
    ],
)
def test_f21_settings_that_can_not_be_read_are_said_and_left(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "settings.toml"
    path.mkdir() if content is None else path.write_bytes(content)
    settings = load_settings(["--data", str(tmp_path)], {}, tmp_path)
    assert settings.port == (7999 if not said else 7860)
    assert said in " ".join(settings.notices) and bool(settings.notices) == bool(said)
    assert path.is_dir() if content is None else path.read_bytes() == content


def test_a_brought_picture_that_was_damaged_is_repaired_by_bringing_it_again(tmp_path: Path) -> None:
    inputs = Uploads(tmp_path)
    kept = inputs.add(png())
    for damage in (b"", b"\x89PNG\r\n\x1a\n" + bytes(40), inputs.path(kept.sha256).read_bytes()[:-3]):
        inputs.path(kept.sha256).write_bytes(damage)
        with pytest.raises(InvalidInput, match="damaged"):
            inputs.read(kept.sha256)
        assert inputs.add(png()) == kept and inputs.read(kept.sha256)


def test_one_brought_picture_that_can_not_be_removed_holds_up_no_other(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    inputs = Uploads(tmp_path, lambda: now)
    kept = [inputs.add(png(color=color)) for color in ("red", "green", "blue")]
    (tmp_path / "aa").mkdir(exist_ok=True)
    (tmp_path / "aa" / "folder.png").mkdir()
    (tmp_path / "aa" / "gone.png").symlink_to(tmp_path / "nowhere")
    for path in tmp_path.rglob("*.p*"):
        if path.exists():
            os.utime(path, (0, 0))
    assert inputs.sweep(frozenset({kept[0].sha256})) == 2
    assert inputs.path(kept[0].sha256).is_file()


def test_the_mark_of_a_secret_says_nothing_of_an_owner(tmp_path: Path) -> None:
    owners = OwnerKeys(tmp_path)
    assert owners.mark == OwnerKeys(tmp_path).mark != owners.key_of("")


def test_a_folder_that_comes_while_the_program_runs_is_shown(make_studio: Make, tmp_path: Path) -> None:
    studio = make_studio()
    run(studio, "first")
    studio.wait_until_indexed(10)
    outputs = studio.settings.outputs_dir
    day = next(path for path in outputs.iterdir())
    studio.stop()
    other = tmp_path / "other"
    day.rename(other)
    for path in tmp_path.glob("darkroom.sqlite3*"):
        path.unlink()
    again = make_studio()
    assert again.wait_until_indexed(10) and again.images(ME).total == 0
    again._index_again()
    (outputs / day.name).symlink_to(other)  # the disk is there now
    again._index_again()
    assert again.images(ME).total == 1
    (outputs / day.name).unlink()
    again._index_again()
    assert [image.missing for image in again.images(ME).images] == [True]
