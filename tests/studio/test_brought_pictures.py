"""Jobs that work from pictures: their bytes reach the worker, parents are remembered, maps are kept apart."""

import json
import sqlite3
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from contract import events
from contract.errors import InvalidInput, NotFound
from contract.hooks import hookimpl
from contract.recipe import ImageRef
from contract.records import ImageRecord
from contract.tasks import Preprocess, Upscale
from contract.work import RawImage
from studio.metadata.image_files import read_picture_facts
from studio.storage.database import MIGRATIONS, Database
from studio.studio import Studio
from studio.uploads.png_text import read_text
from studio.uploads.uploads import KEPT_S
from tests.studio.conftest import ME, YOU, draft, finish, run
from tests.support.fakes import FakeWorker
from tests.support.images import png

PICTURE, MASK = png((64, 64), color="navy"), png((64, 64), "L", 255)


def saved(said: list[events.JobEvent]) -> ImageRecord:
    return next(event.record for event in said if isinstance(event, events.Saved))


def brought(studio: Studio, data: bytes = PICTURE) -> ImageRef:
    return ImageRef(sha256=studio.add_upload(data, ME).sha256)


def test_the_bytes_of_every_picture_reach_the_worker(studio: Studio, worker: FakeWorker) -> None:
    start, mask = brought(studio), brought(studio, MASK)
    run(studio, init_image={"image": start}, mask={"image": mask})
    assert worker.work_items[-1].images == {
        ref.sha256: studio.upload_file(ref.sha256, ME).read_bytes() for ref in (start, mask)
    }


@pytest.mark.parametrize(
    ("harm", "code"),
    [(lambda path: path.unlink(), "upload_gone"), (lambda path: path.write_bytes(PICTURE), "upload_damaged")],
)
def test_a_picture_that_goes_while_the_job_waits_fails_it_in_one_sentence(
    harm: Callable[[Path], None], code: str, studio: Studio, worker: FakeWorker
) -> None:
    worker.gate.clear()
    first = studio.submit(draft(), ME)
    start = brought(studio)
    waiting = studio.submit(draft(init_image={"image": start}), ME)
    harm(studio.upload_file(start.sha256, ME))
    worker.gate.set()
    ending = finish(studio, waiting.id)[-1]
    assert isinstance(ending, events.Failed) and ending.code == code and ending.hint == "Add it again."
    assert isinstance(finish(studio, first.id)[-1], events.Done) and isinstance(run(studio)[-1], events.Done)


def test_a_picture_that_was_never_brought_is_refused_at_once(studio: Studio) -> None:
    with pytest.raises(InvalidInput, match="The start picture is not here"):
        studio.submit(draft(init_image={"image": ImageRef(sha256="0" * 64)}), ME)


def test_a_picture_of_someone_else_can_not_be_looked_at_or_worked_from(studio: Studio) -> None:
    """Its hash is in every recipe that used it, and recipes travel in pictures."""
    mine = brought(studio)
    run(studio, init_image={"image": mine})
    with pytest.raises(NotFound):
        studio.upload_file(mine.sha256, YOU)
    with pytest.raises(InvalidInput, match="The start picture is not here"):
        studio.submit(draft(init_image={"image": mine, "strength": 0.0}), YOU)
    with pytest.raises(InvalidInput, match="The picture is not here"):
        studio.upscale(Upscale(image=mine), YOU)
    with pytest.raises(InvalidInput, match="The picture is not here"):
        studio.preprocess(Preprocess(image=mine, preprocessor="canny"), YOU)
    studio.add_upload(PICTURE, YOU)
    assert studio.upload_file(mine.sha256, YOU).is_file()


def test_who_has_a_picture_made_with_one_may_use_it_after_the_table_is_lost(studio: Studio) -> None:
    mine = brought(studio)
    run(studio, init_image={"image": mine})
    studio._database.write("DELETE FROM upload_owners")
    assert studio.upload_file(mine.sha256, ME).is_file()
    with pytest.raises(NotFound):
        studio.upload_file(mine.sha256, YOU)


def test_a_parent_is_in_the_record_and_in_the_png(studio: Studio) -> None:
    parent = saved(run(studio))
    start = studio.upload_from_image(parent.id, ME)
    child = saved(run(studio, init_image={"image": ImageRef(sha256=start.sha256)}, parent=parent.id))
    facts = read_picture_facts(studio.image_file(child.id, ME))
    assert facts is not None
    assert child.parent == studio.image(child.id, ME).parent == facts.parent == parent.id
    assert child.recipe is not None and "parent" not in child.recipe.canonical_json()


def test_a_parent_that_is_gone_or_someone_elses_is_left_out(studio: Studio) -> None:
    theirs, mine = saved(run(studio, owner=YOU)), saved(run(studio))
    ref = brought(studio)
    studio.delete_image(mine.id, ME)
    for parent in (theirs.id, mine.id):
        assert saved(run(studio, parent=parent)).parent is None
        upscaled = studio.upscale(Upscale(image=ref, scale=2.0, parent=parent), ME)
        assert saved(finish(studio, upscaled.id)).parent is None
    with pytest.raises(NotFound):
        studio.upload_from_image(theirs.id, ME)


def test_an_enlarged_picture_carries_the_recipe_of_what_was_enlarged(studio: Studio, worker: FakeWorker) -> None:
    parent = saved(run(studio))
    asked = Upscale(image=brought(studio), upscaler="Lanczos", scale=3.0, parent=parent.id)
    record = saved(finish(studio, studio.upscale(asked, ME).id))
    assert record.recipe is None and record.parent == parent.id
    assert record.upscale == asked.model_copy(update={"upscaler": "lanczos"})
    assert studio.image(record.id, ME) == record and record.path.endswith("-upscaled.png")
    facts = read_picture_facts(studio.image_file(record.id, ME))
    assert facts is not None and facts.upscale == record.upscale
    assert studio.queue(ME)[0].prompt == "Upscale 3×"
    again = Upscale(image=brought(studio), upscaler="Lanczos", scale=1.5, parent=record.id)
    for made in (record, saved(finish(studio, studio.upscale(again, ME).id))):
        data = studio.image_file(made.id, ME).read_bytes()
        found = studio.read_recipe(data)
        assert found.draft is not None and found.draft["prompt"] == parent.recipe.prompt
        assert found.draft["seed"] == parent.recipe.seed
        texts = read_text(BytesIO(data))
        assert (
            texts["postprocessing"] == f"Postprocess upscale by: {made.upscale.scale:g}, Postprocess upscaler: Lanczos"
        )


def test_what_was_brought_and_enlarged_has_no_recipe(studio: Studio, worker: FakeWorker) -> None:
    record = saved(finish(studio, studio.upscale(Upscale(image=brought(studio)), ME).id))
    with pytest.raises(InvalidInput, match="no recipe"):
        studio.read_recipe(studio.image_file(record.id, ME).read_bytes())


def test_extensions_finish_enlarged_pictures_too(studio: Studio, worker: FakeWorker) -> None:
    class Inverts:
        @hookimpl
        def finish_image(self, image: RawImage) -> RawImage:
            return RawImage(image.width, image.height, bytes(255 - value for value in image.rgb))

    plain = studio.image_file(saved(finish(studio, studio.upscale(Upscale(image=brought(studio)), ME).id)).id, ME)
    studio.extensions.register(Inverts(), "inverts")
    turned = studio.image_file(saved(finish(studio, studio.upscale(Upscale(image=brought(studio)), ME).id)).id, ME)
    with Image.open(plain) as one, Image.open(turned) as other:
        assert bytes(255 - value for value in one.tobytes()) == other.tobytes()


def test_a_control_map_is_kept_with_the_brought_pictures(studio: Studio) -> None:
    job = studio.preprocess(Preprocess(image=brought(studio), preprocessor="canny"), ME)
    (event,) = [event for event in finish(studio, job.id) if isinstance(event, events.Prepared)]
    assert studio.job(job.id, ME).job.prepared == (event.upload,)
    assert studio.images(ME).total == 0
    assert isinstance(run(studio, init_image={"image": ImageRef(sha256=event.upload.sha256)})[-1], events.Done)


def test_what_a_job_or_a_picture_names_is_kept(studio: Studio) -> None:
    start, mask, depth = brought(studio), brought(studio, MASK), brought(studio, png((65, 64)))
    run(studio, init_image={"image": start, "depth": depth}, mask={"image": mask})
    finish(studio, studio.preprocess(Preprocess(image=start, preprocessor="canny"), ME).id)
    (made,) = studio._queue.records("prepared != '[]'", ())[0].prepared
    loose = brought(studio, png((66, 64)))
    late = studio._uploads
    late._clock = lambda: time.time() + 2 * KEPT_S
    assert late.sweep(studio._queue.named_uploads()) == 1
    assert late.size(loose.sha256) is None
    assert all(late.size(name) for name in (start.sha256, mask.sha256, depth.sha256, made.sha256))


def test_jobs_of_an_older_version_wait_on(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite3"
    connection = sqlite3.connect(path)
    for number, migration in enumerate(MIGRATIONS[:2], 1):
        connection.executescript(f"{migration}; PRAGMA user_version={number};")
    recipe = {
        "guidance": 7.0,
        "height": 64,
        "model": {"family": "sd1", "name": "starter"},
        "prompt": "a “quoted” one",
        "sampler": "euler",
        "schedule": "karras",
        "seed": 1,
        "steps": 4,
        "width": 64,
    }
    connection.execute(
        "INSERT INTO jobs (id, owner, state, recipe, cost, rank, created_at) VALUES ('1', 'me', 'queued', ?, 1, 1, 1)",
        (json.dumps(recipe, ensure_ascii=False),),
    )
    connection.commit()
    connection.close()
    database = Database(path)
    database.open()
    assert json.loads(database.value("SELECT task FROM jobs")) == {"type": "generate", "recipe": recipe}
    database.close()
