"""The program is killed, the disk is full, the clock is wrong: nothing made before is lost (F01–F03, F24, F29)."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from contract import events
from studio.studio import Studio
from tests.studio.conftest import ME, draft, finish, run, settings_for, wait_until
from tests.support.fakes import FakeWorker

ROOT = Path(__file__).parents[2]


def kill_child(folder: Path, where: str, after_s: float = 0.0) -> None:
    """Run the program until it says it is ready, then kill it."""
    settings_for(folder)
    command = [sys.executable, "-m", "tests.support.crash_child", str(folder), where]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        threading.Event().wait(after_s)
        child.kill()


def all_pictures_are_whole_and_listed(studio: Studio) -> int:
    """Every file under its final name opens, and the gallery lists exactly the files."""
    assert studio.wait_until_indexed(10)
    files = {
        path.relative_to(studio.settings.outputs_dir).as_posix()
        for path in studio.settings.outputs_dir.rglob("*")
        if path.is_file()
    }
    for name in files:
        assert name.endswith(".png"), name
        with Image.open(studio.settings.outputs_dir / name) as image:
            image.load()
    page = studio.images(ME, limit=200)
    assert {image.path for image in page.images} == files and not any(image.missing for image in page.images)
    return len(files)


@pytest.mark.parametrize("after_s", [0.0, 0.017, 0.045, 0.09])
def test_f01_killed_while_saving_leaves_no_half_picture(
    tmp_path: Path, make_studio: Callable[..., Studio], after_s: float
) -> None:
    kill_child(tmp_path, "save", after_s)
    worker = FakeWorker()
    worker.gate.clear()  # look before the jobs that were put back go on
    studio = make_studio(worker, max_jobs_per_owner=50)
    all_pictures_are_whole_and_listed(studio)
    worker.gate.set()
    wait_until(lambda: not [row for row in studio.queue(ME) if row.state in ("queued", "running")], 20)
    assert all_pictures_are_whole_and_listed(studio) == 20  # 5 jobs of 4, none lost, none made twice
    assert [row.state for row in studio.queue(ME)] == ["done"] * 5


def test_f02_killed_between_file_and_index_the_picture_is_found_and_not_made_again(
    tmp_path: Path, make_studio: Callable[..., Studio]
) -> None:
    kill_child(tmp_path, "replaced")
    worker = FakeWorker()
    studio = make_studio(worker)
    wait_until(lambda: len(studio.images(ME).images) == 4)
    assert all_pictures_are_whole_and_listed(studio) == 4
    assert sorted(worker.work_items[0].finished) == [0] and worker.work_items[0].attempt == 2


def test_a_job_is_put_back_once_then_interrupted(tmp_path: Path, make_studio: Callable[..., Studio]) -> None:
    kill_child(tmp_path, "painting")
    worker = FakeWorker()
    worker.gate.clear()
    studio = make_studio(worker)
    wait_until(lambda: bool(worker.work_items))
    job_id = worker.work_items[0].job_id
    first = studio.event_log(job_id, ME).since(0)
    assert isinstance(first.events[0], events.Queued) and first.events[0].attempt == 2
    studio.stop()  # a clean end under the job counts as well
    later = FakeWorker()
    again = make_studio(later)
    said = again.event_log(job_id, ME).since(0)
    assert said.ended and isinstance(said.events[-1], events.Interrupted)
    ended = again.job(job_id, ME).job
    assert ended.state == "interrupted"
    (row,) = (row for row in again.queue(ME) if row.job_id == job_id)
    assert row.message == ended.error_message == "The program ended under this job, twice." and row.hint
    assert isinstance(run(again)[-1], events.Done)
    assert [t.job_id for t in later.work_items] != [job_id]


def test_f29_stopping_in_mid_job_is_quick_and_the_job_goes_on_at_the_next_start(
    make_studio: Callable[..., Studio], caplog: pytest.LogCaptureFixture
) -> None:
    worker = FakeWorker(pace_s=0.01)
    studio = make_studio(worker)
    job_id = studio.submit(draft(count=4, steps=10), ME).id
    waiting = studio.submit(draft(), ME).id
    wait_until(lambda: len(studio.job(job_id, ME).job.image_ids) == 1)
    before = threading.active_count()
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        studio.stop()
        studio.stop()
    assert time.monotonic() - began < 5 and threading.active_count() < before
    assert not [r for r in caplog.records if r.exc_info]
    again = make_studio()
    said = finish(again, job_id)
    assert isinstance(said[-1], events.Done)
    assert sorted(e.image for e in said if isinstance(e, events.Saved)) == [0, 1, 2, 3]
    assert isinstance(finish(again, waiting)[-1], events.Done)
    assert all_pictures_are_whole_and_listed(again) == 5


def test_a_follower_of_before_the_restart_gets_everything_again(make_studio: Callable[..., Studio]) -> None:
    worker = FakeWorker()
    studio = make_studio(worker)
    worker.gate.clear()
    job_id = studio.submit(draft(), ME).id
    cursor = studio.event_log(job_id, ME).since(0).cursor
    studio.stop()
    again = make_studio()
    finish(again, job_id)
    rest = again.event_log(job_id, ME).since(cursor).events
    assert isinstance(rest[0], events.Queued | events.Loading | events.Saved) and events.is_ending(rest[-1])


FULL = """
import resource, sys
from pathlib import Path
from contract import events
from contract.errors import StorageFull
from studio.studio import Studio
from tests.support.fakes import FakeWorker
from tests.studio.conftest import ME, run, settings_for
studio = Studio(settings_for(Path(sys.argv[1])), FakeWorker())
studio.start()
run(studio)  # the database has its size
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
said = run(studio, "[noise]", width=512, height=512)
assert isinstance(said[-1], events.Failed) and said[-1].code == "storage_full", said[-1]
assert said[-1].message.startswith("No space left in outputs/ ("), said[-1]
assert "kept in memory" in said[-1].hint
try:
    studio.retry_save(said[-1].job_id, ME)
    raise SystemExit("it should not fit")
except StorageFull:
    pass
small = run(studio)
assert isinstance(small[-1], events.Done), small[-1]
assert not list(studio.settings.outputs_dir.rglob("*.part"))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert len(studio.retry_save(said[-1].job_id, ME)) == 1
assert studio.images(ME).total == 3
studio.stop()
"""


def test_f03_a_full_disk_is_named_and_the_picture_saved_later(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_f24_order_and_names_survive_a_clock_that_jumps(
    make_studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = make_studio()
    real, offset = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    studio._ids._clock = studio._saver._clock = studio._queue._clock = time.time
    made = []
    for jump in (0.0, -3600.0, 10 * 365 * 86400.0, 0.0):
        offset[0] = jump
        made += [e.record for e in run(studio) if isinstance(e, events.Saved)]
    assert [image.id for image in studio.images(ME).images] == [image.id for image in reversed(made)]
    assert len({image.path for image in made}) == 4


def test_thumbnails_and_index_come_back_after_everything_but_the_pictures_is_lost(
    make_studio: Callable[..., Studio],
) -> None:
    studio = make_studio()
    run(studio, count=2)
    studio.stop()
    for path in sorted(studio.settings.data_dir.glob("darkroom.sqlite3*")):
        path.unlink()
    for path in studio.settings.thumbnails_dir.rglob("*.jpg"):
        path.unlink()
    again = make_studio()
    assert all_pictures_are_whole_and_listed(again) == 2
    for image in again.images(ME).images:
        assert again.thumbnail_file(image.id, ME).stat().st_size > 100
