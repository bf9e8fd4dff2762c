"""A job is done when its pictures are on the disk and in the gallery; else it failed by name and a retry saves them."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from contract import events
from contract.errors import NotFound, StorageFull, StudioError
from contract.hooks import hookimpl
from contract.tasks import Preprocess, Upscale
from contract.work import WorkDone, WorkerEvent, WorkImage, WorkItem
from studio.gallery.gallery import Gallery
from studio.gallery.gallery_search import GallerySearch
from studio.gallery.thumbnails import Thumbnails
from studio.jobs import run as job_run
from studio.jobs import saver
from studio.jobs.queue import JobQueue
from studio.metadata import image_files
from studio.studio import Studio
from studio.uploads.uploads import Uploads
from tests.studio.conftest import ME, draft, finish, run, wait_until
from tests.support.fakes import FakeWorker
from tests.support.images import png

Harm = Callable[[Studio, pytest.MonkeyPatch], Callable[[], None]]  # does it; returns what takes it back


def _today(studio: Studio) -> Path:
    folder = studio._folder._day(time.time())
    folder.mkdir(exist_ok=True)
    return folder


def _outputs_is_a_file(studio: Studio, patch: pytest.MonkeyPatch) -> Callable[[], None]:
    outputs = studio.settings.outputs_dir
    shutil.rmtree(outputs)
    outputs.write_bytes(b"")
    return outputs.unlink


def _outputs_leads_nowhere(studio: Studio, patch: pytest.MonkeyPatch) -> Callable[[], None]:
    outputs = studio.settings.outputs_dir
    shutil.rmtree(outputs)
    outputs.symlink_to(outputs.with_name("nowhere"))
    return outputs.unlink


def _today_is_a_file(studio: Studio, patch: pytest.MonkeyPatch) -> Callable[[], None]:
    today = _today(studio)
    today.rmdir()
    today.write_bytes(b"")
    return today.unlink


def _today_leads_nowhere(studio: Studio, patch: pytest.MonkeyPatch) -> Callable[[], None]:
    today = _today(studio)
    today.rmdir()
    today.symlink_to("nowhere")
    return today.unlink


def _raising(target: object, name: str, error: BaseException) -> Harm:
    def harm(studio: Studio, patch: pytest.MonkeyPatch) -> Callable[[], None]:
        def refuse(*arguments: object, **options: object) -> None:
            raise error

        patch.setattr(target, name, refuse)
        return patch.undo

    return harm


def _unreadable_today(studio: Studio, patch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Mode 000, which stops no test that runs as root: nothing in the folder can be listed, written or removed."""
    today, denied = _today(studio), PermissionError(errno.EACCES, "Permission denied")
    true_list, true_open, true_unlink = os.listdir, Path.open, Path.unlink

    def on_today(true: Callable[..., object]) -> Callable[..., object]:
        def act(path: Path, *arguments: object, **options: object) -> object:
            if today in (Path(path), Path(path).parent):
                raise denied
            return true(path, *arguments, **options)

        return act

    patch.setattr(os, "listdir", on_today(true_list))
    patch.setattr(Path, "open", on_today(true_open))
    patch.setattr(Path, "unlink", on_today(true_unlink))
    return patch.undo


def _fsync_fails(studio: Studio, patch: pytest.MonkeyPatch) -> Callable[[], None]:
    return _raising(image_files.os, "fsync", OSError(errno.EIO, "Input/output error"))(studio, patch)


def _disk_keeps_half(studio: Studio, patch: pytest.MonkeyPatch) -> Callable[[], None]:
    patch.setattr(image_files, "write_through", lambda path, data: path.write_bytes(data[: len(data) // 2]))
    return patch.undo


HARMS: dict[str, tuple[Harm, str]] = {
    "outputs is a file": (_outputs_is_a_file, "outputs is a file, not a folder: no picture can be saved there."),
    "outputs leads nowhere": (_outputs_leads_nowhere, "outputs is a link that leads to no folder"),
    "today is a file": (_today_is_a_file, "is a file, not a folder: no picture can be saved there."),
    "today leads nowhere": (_today_leads_nowhere, "is a link that leads to no folder"),
    "today is unreadable": (_unreadable_today, "can't be written (Permission denied)."),
    "no space": (
        _raising(image_files, "write_through", OSError(errno.ENOSPC, "No space left on device")),
        "No space left",
    ),
    "quota": (_raising(image_files, "write_through", OSError(errno.EDQUOT, "Disk quota exceeded")), "No space left"),
    "read-only": (_raising(image_files, "write_through", OSError(errno.EROFS, "Read-only file system")), "Read-only"),
    "rename": (_raising(image_files.os, "replace", OSError(errno.EXDEV, "Invalid cross-device link")), "cross-device"),
    "disk flush": (_fsync_fails, "Input/output error"),
    "half a file": (_disk_keeps_half, "the disk kept only a part of it"),
    "metadata": (
        _raising(image_files.infotext, "write", UnicodeEncodeError("utf-8", "x", 0, 1, "no")),
        "The picture could not be saved (UnicodeEncodeError).",
    ),
    "encoding": (_raising(image_files, "encode_png", MemoryError()), "The picture could not be saved (MemoryError)."),
    "index": (
        _raising(Gallery, "add", StudioError("The database is locked.", code="database_locked")),
        "but the gallery can't list it: The database is locked.",
    ),
    "index full": (_raising(Gallery, "add", StorageFull("Darkroom can't record anything.")), "can't record anything"),
    "index bug": (_raising(Gallery, "add", ValueError("x")), "could not be saved (ValueError)"),
    "hashes": (_raising(saver, "with_hashes", KeyError("x")), "could not be saved (KeyError)"),
}


def _submit(studio: Studio, kind: str, sha256: str) -> str:
    if kind == "paint":
        return studio.submit(draft(count=2), ME).id
    return studio.upscale(Upscale.model_validate({"image": {"sha256": sha256}}), ME).id


@pytest.mark.skipif(os.name != "posix", reason="links")
@pytest.mark.parametrize("kind", ["paint", "upscale"])
@pytest.mark.parametrize("name", HARMS)
def test_a_picture_that_can_not_be_kept_fails_by_name_and_is_saved_later(
    make_studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    if kind == "upscale" and name in ("metadata", "hashes"):
        name = "no space"  # an upscale of a brought picture has neither
    studio = make_studio()
    assert studio.wait_until_indexed(10)
    image = studio.add_upload(png((64, 64)), ME)
    harm, sentence = HARMS[name]
    take_back = harm(studio, monkeypatch)
    job_id = _submit(studio, kind, image.sha256)
    count = 2 if kind == "paint" else 1
    said = finish(studio, job_id)
    assert isinstance(said[-1], events.Failed) and said[-1].code.startswith("storage"), said[-1]
    assert sentence in said[-1].message and "Try again" in said[-1].hint, said[-1]
    assert not [e for e in said if isinstance(e, events.Saved)] and studio.job(job_id, ME).job.state == "failed"
    with pytest.raises(StorageFull):
        studio.retry_save(job_id, ME)  # the cause is still there, and so are the pixels
    take_back()
    assert len(studio.retry_save(job_id, ME)) == count
    assert studio.images(ME).total == count and studio.job(job_id, ME).job.state == "done"
    assert all(
        studio.image_file(image.id, ME).read_bytes().startswith(b"\x89PNG") for image in studio.images(ME).images
    )
    later = [e.type for e in studio.event_log(job_id, ME).since(0).events]
    assert later[-1] == "done" and later.count("saved") == count
    files = [path for path in studio.settings.outputs_dir.rglob("*") if path.is_file()]
    assert len(files) == count  # nothing half written, nothing twice
    assert isinstance(run(studio)[-1], events.Done)
    with pytest.raises(NotFound):
        studio.retry_save(job_id, ME)


@pytest.mark.parametrize(
    ("target", "name", "error"),
    [
        (Uploads, "add_raw", StorageFull("inputs/ is full.")),
        (Uploads, "add_raw", ValueError("x")),
        (JobQueue, "add_prepared", StudioError("The database is locked.", code="database_locked")),
    ],
)
def test_a_control_map_that_can_not_be_kept_is_kept_later(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, target: type, name: str, error: Exception
) -> None:
    image = studio.add_upload(png((64, 64)), ME)
    take_back = _raising(target, name, error)(studio, monkeypatch)
    task = Preprocess.model_validate({"image": {"sha256": image.sha256}, "preprocessor": "canny"})
    job_id = studio.preprocess(task, ME).id
    said = finish(studio, job_id)
    assert isinstance(said[-1], events.Failed) and said[-1].code.startswith("storage")
    take_back()
    assert studio.retry_save(job_id, ME) == ()
    job = studio.job(job_id, ME).job
    assert job.state == "done" and len(job.prepared) == 1
    assert studio.upload_file(job.prepared[0].sha256, ME).is_file()
    assert [e.type for e in studio.event_log(job_id, ME).since(0).events][-2:] == ["prepared", "done"]


def test_what_an_extension_finished_is_what_a_retry_saves(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Turns:
        @staticmethod
        @hookimpl
        def finish_image(image: object) -> object:
            calls.append(image)
            return None

    studio.extensions.register(Turns, "turns")
    take_back = _raising(image_files, "write_through", OSError(errno.ENOSPC, ""))(studio, monkeypatch)
    said = run(studio)
    assert isinstance(said[-1], events.Failed)
    take_back()
    studio.retry_save(said[-1].job_id, ME)
    assert len(calls) == 1


def test_only_what_failed_is_missing_and_a_retry_that_fails_again_keeps_the_rest(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_save, left = image_files.PictureFolder.save, iter([True, False, False, True, False])

    def save(self: image_files.PictureFolder, *arguments: object) -> str:
        if not next(left, True):
            raise StorageFull("No space left.", "Press Try again.")
        return true_save(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(image_files.PictureFolder, "save", save)
    said = run(studio, count=3)
    job_id = said[-1].job_id
    assert isinstance(said[-1], events.Failed) and [e.image for e in said if isinstance(e, events.Saved)] == [0]
    with pytest.raises(StorageFull):
        studio.retry_save(job_id, ME)  # one is saved, one is refused again
    assert studio.job(job_id, ME).job.state == "failed"
    said = list(studio.event_log(job_id, ME).since(0).events)
    assert [e.image for e in said if isinstance(e, events.Saved)] == [0, 1] and isinstance(said[-1], events.Failed)
    assert len(studio.retry_save(job_id, ME)) == 1 and studio.job(job_id, ME).job.state == "done"


def test_pictures_that_memory_had_no_room_for_leave_the_job_failed(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = pytest.MonkeyPatch()
    monkeypatch.setattr(saver, "KEPT_BYTES", 3 * 512 * 512)
    take_back = _raising(image_files, "write_through", OSError(errno.ENOSPC, ""))(studio, refusing)
    said = run(studio, count=2, width=512, height=512)
    take_back()
    assert len(studio.retry_save(said[-1].job_id, ME)) == 1
    assert studio.job(said[-1].job_id, ME).job.state == "failed"


def test_a_worker_that_ends_too_early_is_not_done(make_studio: Callable[..., Studio]) -> None:
    class Lazy(FakeWorker):
        def run(self, work_items: list[WorkItem]) -> Iterator[WorkerEvent]:  # type: ignore[override]
            for event in super().run(work_items):
                if not (isinstance(event, WorkImage) and event.image == 1):
                    yield event

    studio = make_studio(Lazy())
    said = run(studio, count=2)
    assert isinstance(said[-1], events.Failed) and said[-1].message == "The engine ended after 1 of 2 pictures."
    assert not any(isinstance(e, WorkDone) for e in said)


@pytest.mark.parametrize(
    ("target", "name", "error"),
    [
        (Thumbnails, "make", OSError(errno.ENOSPC, "full")),
        (Thumbnails, "make", ValueError("x")),
        (GallerySearch, "_find", StudioError("x")),
        (image_files.os, "open", OSError(errno.EINVAL, "no")),
    ],
)
def test_what_is_no_part_of_a_picture_costs_none(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, target: object, name: str, error: Exception
) -> None:
    if target is image_files.os:  # a disk of another machine that can't flush folders
        target, name = image_files.os, "fsync"
        true_fsync = os.fsync

        def fsync(handle: int) -> None:
            if os.path.isdir(f"/proc/self/fd/{handle}"):
                raise error
            true_fsync(handle)

        monkeypatch.setattr(target, name, fsync)
    else:
        _raising(target, name, error)(studio, monkeypatch)
    assert isinstance(run(studio)[-1], events.Done)


def test_after_a_refusal_the_others_wait_until_writing_works(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert studio.wait_until_indexed(10)
    take_back = _outputs_is_a_file(studio, monkeypatch)
    first = run(studio)
    assert isinstance(first[-1], events.Failed)
    second = studio.submit(draft(), ME).id
    wait_until(lambda: bool(studio.engine().held))
    assert studio.engine().held == (
        "outputs is a file, not a folder: no picture can be saved there. Move it away; what waits goes on by itself."
    )
    assert studio.job(second, ME).job.state == "queued"
    take_back()
    assert isinstance(finish(studio, second)[-1], events.Done)
    assert len(studio.retry_save(first[-1].job_id, ME)) == 1


def test_a_running_job_has_nothing_to_try_again(make_studio: Callable[..., Studio]) -> None:
    worker = FakeWorker()
    worker.gate.clear()
    studio = make_studio(worker)
    job_id = studio.submit(draft(), ME).id
    with pytest.raises(StudioError, match="still runs"):
        studio.retry_save(job_id, ME)
    worker.gate.set()
    assert isinstance(finish(studio, job_id)[-1], events.Done)


def test_a_hash_that_never_comes_holds_up_no_picture(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    never: Future[str] = Future()
    monkeypatch.setattr(studio._hashes, "request", lambda folder: never)
    monkeypatch.setattr(job_run, "_HASH_S", 0.0)
    (saved,) = [event for event in run(studio) if isinstance(event, events.Saved)]
    assert saved.record.recipe and saved.record.recipe.model and not saved.record.recipe.model.sha256
