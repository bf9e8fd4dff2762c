"""Pages by id, words, owners apart, undo; rebuilt from the PNGs whatever happened to the database."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contract import events
from contract.errors import NotFound, StorageFull
from contract.recipe import ModelRef, Recipe
from studio.gallery.gallery import Gallery
from studio.gallery.gallery_index import reconcile
from studio.gallery.thumbnails import Thumbnails
from studio.metadata.image_files import PictureFacts, PictureFolder, read_picture_facts
from studio.storage.database import Database
from studio.storage.ids import IdSource
from studio.storage.owner_keys import OwnerKeys
from studio.studio import Studio
from tests.studio.conftest import ME, YOU, run
from tests.support.fakes import gradient
from tests.support.images import png


class House:
    """A gallery on a folder of its own, with a clock that can be moved."""

    def __init__(self, root: Path) -> None:
        self.now = 1_790_000_000.0
        self.root = root
        root.mkdir(exist_ok=True)
        self.database = Database(root / "darkroom.sqlite3")
        self.database.open()
        self.ids = IdSource(clock=lambda: self.now)
        self.folder = PictureFolder(root / "outputs")
        self.thumbnails = Thumbnails(root / "thumbnails")
        self.owners = OwnerKeys(root)
        self.gallery = Gallery(self.database, self.folder, self.thumbnails, self.owners, clock=lambda: self.now)

    def facts(self, prompt: str = "a red barn", owner: str = ME, job_image: int = 0, **changes: object) -> PictureFacts:
        recipe = Recipe.model_validate(
            {
                "prompt": prompt,
                "model": ModelRef(name="starter", family="sd1"),
                "sampler": "euler",
                "schedule": "uniform",
                "steps": 4,
                "guidance": 7.0,
                "width": 64,
                "height": 64,
                "seed": 1,
                **changes,
            }
        )
        return PictureFacts(
            id=self.ids.new(),
            job_id="j",
            job_image=job_image,
            created_at=self.now,
            owner_key=self.owners.key_of(owner),
            recipe=recipe,
            width=64,
            height=64,
            seconds=0.5,
            provenance={"device": "CPU"},
        )

    def save(self, prompt: str = "a red barn", owner: str = ME, **changes: object) -> PictureFacts:
        facts = self.facts(prompt, owner, **changes)
        self.gallery.add(self.folder.save(gradient(64, 64, 1), facts), facts)
        return facts

    def index(self) -> int:
        return reconcile(self.database, self.gallery, self.folder, self.ids)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "house")


def test_what_is_written_into_a_picture_is_read_back(house: House) -> None:
    facts = house.facts(
        "“odd”, 日本語\nprompt: \x00 with <tags>",
        extras={"grain": {"on": True}},
        negative_prompt="ugly",
        clip_skip=2,
        seed=2**64 - 1,
    )
    path = house.folder.save(gradient(64, 64, 1), facts)
    assert read_picture_facts(house.folder.locate(path)) == facts


def test_texts_stand_before_the_pixels_and_nothing_is_left_half_written(house: House) -> None:
    path = house.folder.locate(house.folder.save(gradient(64, 64, 1), house.facts()))
    data = path.read_bytes()
    assert data.index(b"parameters") < data.index(b"darkroom") < data.index(b"IDAT")
    assert [p.name for p in path.parent.iterdir()] == ["00001-1.png"]


def test_names_are_unique_whatever_the_clock_does(house: House) -> None:
    names = []
    for hours in (0, -1, 2, 24 * 365 * 10, 0, 0):
        house.now = 1_790_000_000.0 + 3600 * hours
        names.append(house.folder.save(gradient(8, 8, 1), house.facts()))
    again = PictureFolder(house.folder.root)
    names.append(again.save(gradient(8, 8, 1), house.facts()))
    assert len(set(names)) == 7


def test_pages_go_by_id_newest_first(house: House) -> None:
    made = [house.save(f"picture {n}").id for n in range(7)]
    house.save(owner=YOU)
    first = house.gallery.page(ME, 3)
    assert [i.id for i in first.images] == made[:3:-1] and first.total == 7
    second = house.gallery.page(ME, 3, before=first.next_before)
    house.save("newer")  # something new above shifts nothing below
    third = house.gallery.page(ME, 3, before=second.next_before)
    assert [i.id for i in (*second.images, *third.images)] == made[3::-1] and third.next_before is None
    assert house.gallery.page(ME, 3, before="nonsense").total == 8


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("barn", 2),
        ("red barn", 1),
        ("BARN", 2),
        ("bar", 2),
        ("hill* OR barn", 0),
        ('"barn', 2),
        ("NEAR(", 0),
        ("'; DROP TABLE images;--", 0),
        ("starter", 3),
        ("-", 0),
        ("   ", 3),
        ("x" * 5000, 0),
        ("日本語", 1),
    ],
)
def test_search_finds_words_and_survives_hostile_ones(house: House, search: str, found: int) -> None:
    for prompt in ("a red barn", "a blue barn", "hills 日本語"):
        house.save(prompt)
    house.save("a red barn", owner=YOU)
    page = house.gallery.page(ME, search=search)
    assert (len(page.images), page.total) == (found, found)


def test_a_deleted_picture_can_be_restored_for_two_minutes(house: House) -> None:
    facts = house.save()
    path = house.gallery.file(facts.id, ME)
    house.gallery.delete(facts.id, ME)
    house.now += 115
    assert house.gallery.purge() == 0 and house.gallery.page(ME).total == 0
    with pytest.raises(NotFound):
        house.gallery.file(facts.id, ME)
    house.gallery.restore(facts.id, ME)
    assert house.gallery.get(facts.id, ME).id == facts.id
    house.gallery.delete(facts.id, ME)
    house.now += 121
    assert house.gallery.purge() == 1 and not path.exists()
    with pytest.raises(NotFound, match="gone"):
        house.gallery.restore(facts.id, ME)


def test_favorites_are_kept(house: House) -> None:
    facts = house.save()
    house.gallery.set_favorite(facts.id, ME, True)
    assert house.gallery.get(facts.id, ME).favorite
    house.gallery.set_favorite(facts.id, ME, False)
    assert not house.gallery.get(facts.id, ME).favorite


def test_a_thumbnail_is_remade_when_it_is_missing_and_small(house: House) -> None:
    facts = house.save()
    path = house.gallery.thumbnail(facts.id, ME)
    made = path.read_bytes()
    path.unlink()
    assert house.gallery.thumbnail(facts.id, ME).read_bytes() == made


def test_a_thumbnail_that_can_not_be_remade_does_not_make_its_picture_missing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = house.save()
    house.gallery.thumbnail(facts.id, ME).unlink()

    def refuse(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(StorageFull, match="No space left"):
        patch.setattr("studio.gallery.thumbnails.os.replace", refuse)
        house.gallery.thumbnail(facts.id, ME)
    assert not house.gallery.get(facts.id, ME).missing
    assert house.gallery.thumbnail(facts.id, ME).is_file()


def test_several_who_ask_for_a_missing_thumbnail_all_get_it(house: House) -> None:
    facts = house.save()
    path = house.gallery.thumbnail(facts.id, ME)
    for _ in range(10):
        path.unlink()
        with ThreadPoolExecutor(4) as pool:
            assert all(found == path for found in pool.map(lambda _: house.gallery.thumbnail(facts.id, ME), range(4)))
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_missing_file_leaves_the_recipe(house: House) -> None:
    facts = house.save()
    house.folder.locate(house.gallery.get(facts.id, ME).path).unlink()
    with pytest.raises(NotFound, match="missing"):
        house.gallery.file(facts.id, ME)
    record = house.gallery.get(facts.id, ME)
    assert record.missing and record.recipe.prompt == "a red barn"


def test_the_index_is_rebuilt_from_the_pictures_with_owners_apart(house: House, tmp_path: Path) -> None:
    mine, yours = house.save("mine").id, house.save("yours", owner=YOU).id
    before = house.gallery.get(mine, ME)
    house.database.close()
    (house.root / "darkroom.sqlite3").unlink()
    again = House(house.root)
    assert again.index() == 2
    assert [i.id for i in again.gallery.page(ME).images] == [mine]
    assert [i.id for i in again.gallery.page(YOU).images] == [yours]
    assert again.gallery.get(mine, ME) == before
    assert again.ids.new() > max(mine, yours)
    again.database.close()
    (house.root / "owner.key").unlink()  # nobody can say whose they are any more: nobody sees them
    third = House(house.root)
    assert third.gallery.page(ME).total == 0 and third.index() == 0


def test_f23_bad_files_never_stop_the_index(house: House) -> None:
    good = house.save("good")
    day = house.folder.locate(house.gallery.get(good.id, ME).path).parent
    (day / "00002-1.png").write_bytes(b"")
    (day / "00003-1.png").mkdir()
    (day / "00004-1.png").write_bytes(png())
    (day / "00005-1.png").write_bytes(png(texts={"darkroom": "[" * 100_000}))
    (day / "00006-1.png").write_bytes(png(texts={"darkroom": '{"id": "../../x", "recipe": {}}'}))
    os.symlink("/etc/passwd", day / "00007-1.png")
    (day / "00008-1.png").write_bytes(day.joinpath("00001-1.png").read_bytes())  # a copy: the same id
    unreadable = house.folder.save(gradient(8, 8, 1), house.facts("unreadable"))
    house.database.close()
    (house.root / "darkroom.sqlite3").unlink()
    again = House(house.root)
    again.index()
    assert {i.recipe.prompt for i in again.gallery.page(ME).images} == {"good", "unreadable"}
    again.folder.locate(unreadable).unlink()
    assert again.index() == 0
    assert [i.missing for i in again.gallery.page(ME).images] == [True, False]


def test_a_file_without_a_row_is_indexed_and_one_that_came_back_is_not_missing(house: House) -> None:
    facts = house.facts("written before the crash")
    path = house.folder.locate(house.folder.save(gradient(8, 8, 1), facts))
    assert house.index() == 1 and house.index() == 0
    away = path.rename(path.with_suffix(".away"))
    house.index()
    assert house.gallery.get(facts.id, ME).missing
    away.rename(path)
    house.index()
    assert not house.gallery.get(facts.id, ME).missing
    moved = house.folder.root / "2020-01-01" / "x.png"
    moved.parent.mkdir()
    path.rename(moved)
    house.index()
    assert house.gallery.file(facts.id, ME) == moved


def test_half_written_files_are_swept(house: House) -> None:
    house.save()
    day = house.folder.days()[0]
    (day / ".0123.png.part").write_bytes(b"half")
    assert house.folder.sweep() == 1 and len(list(day.iterdir())) == 1


def test_the_owner_in_a_picture_is_not_the_cookie(house: House) -> None:
    facts = house.save(owner="very-secret-cookie")
    data = house.folder.locate(house.gallery.get(facts.id, "very-secret-cookie").path).read_bytes()
    assert b"very-secret-cookie" not in data
    assert (house.root / "owner.key").stat().st_mode & 0o777 == 0o600


def test_a_page_of_ten_thousand_pictures_costs_no_more_than_one_of_a_hundred(house: House) -> None:
    def fill(count: int) -> None:
        rows = []
        recipe = house.facts("a red barn").recipe.canonical_json()
        for _ in range(count):
            house.now += 0.001
            image_id = house.ids.new()
            rows.append(
                (
                    int(image_id[:16], 16),
                    image_id,
                    f"d/{image_id}.png",
                    house.now,
                    64,
                    64,
                    recipe,
                    "j",
                    0,
                    house.owners.key_of(ME),
                )
            )
        with house.database.change() as connection:
            connection.executemany(
                "INSERT INTO images (row, id, path, created_at, width, height, recipe, job_id, "
                "job_image, owner_key) VALUES (?,?,?,?,?,?,?,?,?,?)",
                rows,
            )
            connection.executemany(
                "INSERT INTO image_words (rowid, prompt, negative_prompt, model) "
                "VALUES (?, 'a red barn', '', 'starter')",
                [(row[0],) for row in rows],
            )

    def seconds(**question: object) -> float:
        times = []
        for _ in range(7):
            began = time.thread_time()
            assert len(house.gallery.page(ME, **question).images) == 60  # type: ignore[arg-type]
            times.append(time.thread_time() - began)
        return sorted(times)[2]

    fill(100)
    few = seconds()
    fill(9_900)
    middle = house.database.value("SELECT id FROM images ORDER BY row LIMIT 1 OFFSET 5000")
    assert seconds() < 3 * few + 0.005
    assert seconds(before=middle) < 3 * few + 0.005
    assert seconds(search="barn") < 5 * few + 0.02
    plan = house.database.rows(
        "EXPLAIN QUERY PLAN SELECT * FROM images WHERE owner_key = 'x' AND deleted_at IS NULL "
        "AND row < 5 ORDER BY row DESC LIMIT 60"
    )
    assert "USING INDEX images_by_owner" in plan[0]["detail"] and len(plan) == 1


def test_f31_a_thumbnail_that_can_not_be_written_costs_no_picture(
    make_studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = make_studio()

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Thumbnails, "make", refuse)
        said = run(studio)
    saved = next(e for e in said if isinstance(e, events.Saved))
    assert isinstance(said[-1], events.Done)
    assert studio.thumbnail_file(saved.record.id, ME).read_bytes().startswith(b"\xff\xd8")


def test_f07_outputs_that_went_away_are_made_again(make_studio: Callable[..., Studio]) -> None:
    studio = make_studio()
    run(studio)
    studio.settings.outputs_dir.rename(studio.settings.outputs_dir.with_name("elsewhere"))
    assert isinstance(run(studio)[-1], events.Done)
