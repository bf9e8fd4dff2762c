"""Model tasks in the studio: a queue of their own, cancelled, resumed after a restart, and what is refused at once."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract import events
from contract.errors import InvalidRecipe, NotAllowed, NotFound, QueueFull, RequestError
from contract.model_tasks import Convert, Download, MergeDraft
from contract.recipe import ModelRef
from contract.tasks import Preprocess
from studio.downloads import download_task
from studio.studio import Studio
from tests.studio.conftest import ME, YOU, draft, finish, run, wait_until
from tests.support.fakes import FakeWorker
from tests.support.hub import HubHere, hub_here
from tests.support.model_folders import make_controlnet, make_model

REPOSITORY = "owner/model"
DATA = os.urandom(200_000)
Make = Callable[..., Studio]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubHere]:
    monkeypatch.setattr(download_task, "_FLOOR_BYTES", 0)
    with hub_here() as here:
        for name in "abc":
            here.add(REPOSITORY, f"{name}.safetensors", DATA)
        yield here


@pytest.fixture
def studio(make_studio: Make, hub: HubHere) -> Studio:
    return make_studio(hub_endpoint=hub.endpoint)


def task(name: str = "a") -> Download:
    return Download(source=REPOSITORY, files=(f"{name}.safetensors",), kind="lora")


def hold(studio: Studio, hub: HubHere, name: str = "a") -> str:
    """A download that is under way and stays so."""
    hub.gate.clear()
    job = studio.model_tasks.download(task(name), ME).id
    wait_until(lambda: bool(hub.ranges()))
    return job


def test_a_download_is_a_job_with_progress_and_an_end(studio: Studio, hub: HubHere, tmp_path: Path) -> None:
    said = finish(studio, studio.model_tasks.download(task(), ME, "w").id)
    assert isinstance(said[0], events.Queued) and isinstance(said[-1], events.Done)
    assert (tmp_path / "models" / "loras" / "a.safetensors").read_bytes() == DATA
    row = studio.queue(ME)[0]
    assert (row.type, row.prompt, row.state, row.image_ids) == ("download", "Download a.safetensors", "done", ())


def test_painting_waits_for_no_download_and_positions_are_of_the_queue(studio: Studio, hub: HubHere) -> None:
    first = hold(studio, hub)
    second = studio.model_tasks.download(task("b"), ME)
    assert second.position == 1
    assert studio.submit(draft(), ME).position == 0
    assert isinstance(run(studio)[-1], events.Done)
    assert studio.job(first, ME).job.state == "running" and studio.job(second.id, ME).position == 1
    view = studio.job(first, ME)
    assert view.total_bytes in (None, len(DATA))
    hub.gate.set()
    assert isinstance(finish(studio, second.id)[-1], events.Done)


def test_a_window_is_not_given_a_download_to_show(studio: Studio, hub: HubHere) -> None:
    hub.gate.clear()
    studio.model_tasks.download(task(), ME, "w")
    assert studio.job_to_follow(ME, "w") is None
    assert studio.job_to_follow(ME, "other") is None


def test_a_running_download_is_cancelled_at_once(studio: Studio, hub: HubHere, tmp_path: Path) -> None:
    job = hold(studio, hub)
    with pytest.raises(NotFound):
        studio.cancel(job, YOU)
    studio.cancel(job, ME)
    assert isinstance(finish(studio, job, timeout_s=2)[-1], events.Cancelled)
    assert not (tmp_path / "models" / "loras" / "a.safetensors").exists()


def test_the_same_download_is_not_queued_twice(studio: Studio, hub: HubHere) -> None:
    hold(studio, hub)
    with pytest.raises(RequestError, match="in the queue already"):
        studio.model_tasks.download(task(), YOU)


def test_the_caps_of_downloads_leave_room_for_pictures(make_studio: Make, hub: HubHere) -> None:
    studio = make_studio(hub_endpoint=hub.endpoint, max_jobs_per_owner=1)
    hold(studio, hub)
    studio.model_tasks.download(task("b"), ME)
    with pytest.raises(QueueFull):
        studio.model_tasks.download(task("c"), ME)
    assert isinstance(run(studio)[-1], events.Done)


def test_a_download_goes_on_after_a_restart_however_often(make_studio: Make, hub: HubHere, tmp_path: Path) -> None:
    hub.gate.clear()
    studio = make_studio(hub_endpoint=hub.endpoint)
    job = studio.model_tasks.download(task(), ME).id
    for times in range(1, 4):
        wait_until(lambda times=times: len(hub.ranges()) >= times)  # type: ignore[misc]
        studio.stop()
        studio = make_studio(hub_endpoint=hub.endpoint)
    hub.gate.set()
    assert isinstance(finish(studio, job)[-1], events.Done)
    assert (tmp_path / "models" / "loras" / "a.safetensors").read_bytes() == DATA
    assert hub.ranges()[-1].startswith("bytes=")


def test_the_studio_stops_in_time_under_a_download(make_studio: Make, hub: HubHere) -> None:
    studio = make_studio(hub_endpoint=hub.endpoint)
    hold(studio, hub)
    stopping = threading.Thread(target=studio.stop)
    stopping.start()
    stopping.join(5)
    assert not stopping.is_alive()


def test_a_failed_download_says_why_in_the_queue(studio: Studio, hub: HubHere) -> None:
    said = finish(studio, studio.model_tasks.download(Download(source="no/body"), ME).id)
    assert isinstance(said[-1], events.Failed) and said[-1].code == "not_found"
    assert (studio.queue(ME)[0].message, studio.queue(ME)[0].hint) == (said[-1].message, said[-1].hint)
    assert studio.queue(YOU) == ()


def test_a_preview_is_not_held_when_pictures_have_no_room(make_studio: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from contract.errors import StorageFull
    from tests.support.images import png

    worker = FakeWorker()
    studio = make_studio(worker)

    def full(job: object) -> None:
        raise StorageFull("No space left in outputs/.", "Free some.")

    monkeypatch.setattr(studio._saver, "check_room", full)
    picture = studio.add_upload(png(), ME)
    from contract.recipe import ImageRef

    job = studio.preprocess(Preprocess(image=ImageRef(sha256=picture.sha256), preprocessor="canny"), ME)
    assert isinstance(finish(studio, job.id)[-1], events.Done)


# Refused at once


def test_a_merge_needs_models_of_one_family_that_are_here(studio: Studio, tmp_path: Path) -> None:
    make_model(tmp_path / "models", "other")
    studio.models(fresh=True)
    with pytest.raises(NotFound, match="no checkpoint “gone”"):
        studio.model_tasks.merge(MergeDraft(name="m", a="starter", b="gone"), ME)
    xl = next(entry for entry in studio.models() if entry.ref.name == "other")
    import dataclasses

    other = dataclasses.replace(xl, ref=ModelRef(name="other", family="sdxl"))
    studio._models.find = lambda name, kind="checkpoint": other if name == "other" else xl  # type: ignore[method-assign]
    with pytest.raises(InvalidRecipe, match="SDXL"):
        studio.model_tasks.merge(MergeDraft(name="m", a="starter", b="other"), ME)


def test_a_merge_overwrites_nothing(studio: Studio, tmp_path: Path) -> None:
    make_model(tmp_path / "models", "other")
    (tmp_path / "models" / "checkpoints").mkdir()
    (tmp_path / "models" / "checkpoints" / "m.safetensors").write_bytes(b"x")
    studio.models(fresh=True)
    with pytest.raises(RequestError, match=r"checkpoints/m\.safetensors is there already"):
        studio.model_tasks.merge(MergeDraft(name="m", a="starter", b="other"), ME)


def test_only_a_pickle_is_converted(studio: Studio) -> None:
    with pytest.raises(NotFound):
        studio.model_tasks.convert(Convert(model="gone"), ME)
    with pytest.raises(RequestError, match="is not a pickle"):
        studio.model_tasks.convert(Convert(model="starter"), ME)


# Deleting


def test_a_deleted_model_is_gone_and_what_is_built_in_stays(studio: Studio, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "models", "sub/mine")
    studio.models(fresh=True)
    with pytest.raises(NotAllowed):
        studio.model_tasks.delete("starter")
    for name in ("gone", "../models/sub/mine", str(folder), "Mine"):
        with pytest.raises(NotFound):
            studio.model_tasks.delete(name)
    name = next(entry.ref.name for entry in studio.models() if entry.path == folder)
    studio.model_tasks.delete(name)
    assert not folder.exists() and all(entry.path != folder for entry in studio.models())


def test_a_folder_of_models_that_is_a_model_itself_stays(make_studio: Make, tmp_path: Path) -> None:
    root = make_model(tmp_path / "elsewhere", "whole")
    studio = make_studio(model_dirs=(tmp_path / "models", root))
    name = next(entry.ref.name for entry in studio.models(fresh=True) if entry.path == root)
    with pytest.raises(NotAllowed, match="outside the model folders"):
        studio.model_tasks.delete(name)
    assert root.exists()


def test_side_files_go_with_their_model_and_other_files_stay(studio: Studio, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "vae"
    folder.mkdir()
    from tests.support.layouts import write

    write(
        folder / "soft.safetensors",
        {"decoder.conv_in.weight": (512, 4, 3, 3), "encoder.conv_in.weight": (128, 3, 3, 3)},
    )
    for name in ("soft.png", "soft.txt", "soft.preview.png", "softer.txt", "soft.zip"):
        (folder / name).write_text("x")
    found = [entry for entry in studio.models(fresh=True) if entry.path.name == "soft.safetensors"]
    studio.model_tasks.delete(found[0].ref.name, found[0].ref.kind)
    assert sorted(path.name for path in folder.iterdir()) == ["soft.zip", "softer.txt"]


def test_of_two_kinds_of_one_name_the_one_that_is_meant_is_deleted(studio: Studio, tmp_path: Path) -> None:
    model = make_model(tmp_path / "models" / "checkpoints", "twin")
    control = make_controlnet(tmp_path / "models" / "controlnet", "twin")
    names = {entry.ref.name for entry in studio.models(fresh=True) if entry.path in (model, control)}
    assert len(names) == 1
    with pytest.raises(RequestError, match="2 models are called"):
        studio.model_tasks.delete(*names)
    studio.model_tasks.delete(*names, "controlnet")
    assert model.exists() and not control.exists()


def test_a_link_is_taken_away_and_what_it_leads_to_stays(studio: Studio, tmp_path: Path) -> None:
    elsewhere = make_model(tmp_path / "models" / "real", "mine")
    (tmp_path / "models" / "linked").symlink_to(elsewhere)
    studio.models(fresh=True)
    name = next(entry.ref.name for entry in studio.models() if entry.path.name == "linked")
    studio.model_tasks.delete(name)
    assert elsewhere.exists() and not (tmp_path / "models" / "linked").is_symlink()
