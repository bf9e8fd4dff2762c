"""Whatever lies in outputs/, and wherever its folders lead: nothing hides the other pictures, no text leads out."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from contract import events
from contract.errors import NotFound, StudioError
from studio.metadata import image_files
from studio.metadata.image_files import PictureFolder, parse_facts, read_picture_facts
from studio.studio import Studio
from tests.studio.conftest import ME, run, wait_until
from tests.studio.test_gallery import House
from tests.support.fakes import gradient
from tests.support.images import png

DAY_S = 86_400.0


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Pictures of four days."""
    made = House(tmp_path / "house")
    for number in range(4):
        made.save(f"day {number}")
        made.now += DAY_S
    return made


def rebuilt(house: House) -> House:
    """The same folder with an index that was read from it anew."""
    house.database.close()
    house.database.path.unlink()
    again = House(house.root)
    again.index()
    return again


def shown(house: House) -> set[str]:
    return {image.recipe.prompt for image in house.gallery.page(ME).images if image.recipe and not image.missing}


ALL = {f"day {number}" for number in range(4)}


def _move_and_link(outputs: Path, day: Path, away: Path) -> set[str]:
    day.rename(away)
    day.symlink_to(away)
    return ALL


def _link_relatively(outputs: Path, day: Path, away: Path) -> set[str]:
    day.rename(outputs.parent / "other disk")
    day.symlink_to(Path("..") / "other disk")
    return ALL


def _link_all(outputs: Path, day: Path, away: Path) -> set[str]:
    outputs.rename(away)
    outputs.symlink_to(away)
    return ALL


def _twice(outputs: Path, day: Path, away: Path) -> set[str]:
    (outputs / "2020-01-01").symlink_to(day)
    return ALL


def _dangling(outputs: Path, day: Path, away: Path) -> set[str]:
    (outputs / "9999-01-01").symlink_to(outputs / "nowhere")
    return ALL


def _loop(outputs: Path, day: Path, away: Path) -> set[str]:
    (outputs / "9999-01-01").symlink_to("9999-01-01")
    (outputs / "9999-01-02").symlink_to("9999-01-03")
    (outputs / "9999-01-03").symlink_to("9999-01-02")
    (outputs / "all").symlink_to(".")
    (day / "deeper").symlink_to("..")
    return ALL


def _file_like_a_day(outputs: Path, day: Path, away: Path) -> set[str]:
    (outputs / "9999-01-01").write_bytes(b"no folder")
    return ALL


def _fifo(outputs: Path, day: Path, away: Path) -> set[str]:
    os.mkfifo(day / "00009-1.png")
    os.mkfifo(outputs / "9999-01-01")
    return ALL


def _odd_names(outputs: Path, day: Path, away: Path) -> set[str]:
    (outputs / os.fsdecode(b"9999-\xff")).mkdir()
    (outputs / os.fsdecode(b"9999-\xff") / "00001-1.png").write_bytes(png())
    (day / os.fsdecode(b"\xe9t\xe9.png")).write_bytes(png())
    (outputs / "a\nb\x1b[31m").mkdir()
    (day / "a\nb.png").write_bytes(png())
    (outputs / ("x" * 255)).mkdir()
    return ALL


def _hostile_facts(outputs: Path, day: Path, away: Path) -> set[str]:
    found = json.loads(_chunk(next(day.glob("*.png"))))
    for number, change in enumerate(
        [
            {"width": 10**30},
            {"job": "\ud800"},
            {"owner": "\udfff"},
            {"created_at": 1e999},
            {"image": -(10**40)},
            {"seconds": float("nan")},
            {"parent": "\ud83d"},
            {"height": 0},
            {"provenance": []},
            {"owner": 5},
            {"parent": 7},
            {"job": None},
        ]
    ):
        changed = {**found, "id": f"0{number:021x}", **change}
        (day / f"0100{number}-1.png").write_bytes(png(texts={"darkroom": json.dumps(changed)}))
    return ALL


def _linked_file(outputs: Path, day: Path, away: Path) -> set[str]:
    away.mkdir()
    picture = next(day.glob("*.png"))
    picture.rename(away / "x.png")
    picture.symlink_to(away / "x.png")
    hidden = read_picture_facts(away / "x.png")
    assert hidden and hidden.recipe
    return ALL - {hidden.recipe.prompt}  # folders are followed, files are not


def _chunk(path: Path) -> str:
    facts = read_picture_facts(path)
    assert facts is not None
    return facts.to_json()


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
@pytest.mark.parametrize(
    "harm",
    [
        _move_and_link,
        _link_relatively,
        _link_all,
        _twice,
        _dangling,
        _loop,
        _file_like_a_day,
        _fifo,
        _odd_names,
        _hostile_facts,
        _linked_file,
    ],
)
def test_nothing_in_outputs_hides_the_other_pictures(
    house: House, tmp_path: Path, harm: Callable[[Path, Path, Path], set[str]]
) -> None:
    expected = harm(house.folder.root, house.folder.days()[1], tmp_path / "away")
    house.index()
    for image in house.gallery.page(ME).images:
        if image.recipe and image.recipe.prompt in expected:
            assert house.gallery.file(image.id, ME).read_bytes().startswith(b"\x89PNG") and not image.missing
    again = rebuilt(house)
    assert shown(again) == expected and again.gallery.page(ME).total == len(expected)
    assert again.index() == 0
    again.folder.sweep()


@pytest.mark.parametrize("broken", ["scandir", "stat", "is_dir"])
def test_a_day_that_can_not_be_read_hides_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    """As a folder of mode 000; permissions don't stop a test that runs as root."""
    closed = house.folder.days()[1].name
    true_scandir, true_stat = os.scandir, Path.stat

    class Closed:
        def __init__(self, entry: "os.DirEntry[str]") -> None:
            self.entry, self.name, self.path = entry, entry.name, entry.path
            self.is_symlink = entry.is_symlink

        def is_dir(self) -> bool:
            if broken == "is_dir" and self.name == closed:
                raise PermissionError(13, "Permission denied")
            return self.entry.is_dir()

    class Listing(list):  # type: ignore[type-arg]
        def __enter__(self) -> "Listing":
            return self

        def __exit__(self, *error: object) -> None:
            pass

    def scandir(path: Path) -> Listing:
        if broken == "scandir" and Path(path).name == closed:
            raise PermissionError(13, "Permission denied")
        with true_scandir(path) as found:
            return Listing(map(Closed, found))

    def stat(self: Path, **options: bool) -> os.stat_result:
        if closed in self.parts and self.suffix == ".png":
            raise PermissionError(13, "Permission denied")
        return true_stat(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr(image_files.os, "scandir", scandir)
        patch.setattr(Path, "stat", stat)
        house.index()
        house.folder.sweep()
        assert shown(house) == ALL - {"day 2"} and house.gallery.page(ME).total == 4
        if broken != "stat":
            assert (
                f"{closed}/ can't be read: Permission denied" in caplog.text
                or f"outputs/{closed} can't be read: Permission denied" in caplog.text
            )
    assert shown(house) == ALL  # the cause is gone, and so is "File missing"


@pytest.mark.parametrize(
    "text",
    [
        "../x.png",
        "day/../../x.png",
        "/etc/passwd",
        "",
        ".",
        "..",
        "day/./x.png",
        "day//x.png",
        "day/\0.png",
        "../outputs-2/x.png",
    ],
)
def test_no_text_leads_out_of_the_folder(house: House, text: str) -> None:
    with pytest.raises(NotFound):
        house.folder.locate(text)
    assert not house.folder.has(text)
    house.folder.root.joinpath("x.png").write_bytes(b"kept")
    house.folder.remove(text)
    assert house.folder.root.joinpath("x.png").exists()


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_linked_picture_is_removed_as_a_link(house: House, tmp_path: Path) -> None:
    day = house.folder.days()[0]
    (tmp_path / "private.png").write_bytes(b"private")
    (day / "00007-1.png").symlink_to(tmp_path / "private.png")
    house.folder.remove(f"{day.name}/00007-1.png")
    assert not os.path.lexists(day / "00007-1.png") and (tmp_path / "private.png").exists()


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_new_pictures_are_saved_into_a_linked_day(make_studio: Callable[..., Studio], tmp_path: Path) -> None:
    studio = make_studio()
    first = next(e for e in run(studio) if isinstance(e, events.Saved)).record
    day = studio.settings.outputs_dir / first.path.partition("/")[0]
    day.rename(tmp_path / "other disk")
    day.symlink_to(tmp_path / "other disk")
    said = run(studio, count=2)
    assert isinstance(said[-1], events.Done)
    assert len(list((tmp_path / "other disk").glob("*.png"))) == 3
    assert all(studio.image_file(image.id, ME).is_file() and not image.missing for image in studio.images(ME).images)
    assert studio.thumbnail_file(first.id, ME).is_file()
    studio.delete_image(first.id, ME)
    studio._gallery.purge(0.0)
    assert len(list((tmp_path / "other disk").glob("*.png"))) == 2


def test_a_path_is_never_given_twice_though_its_folder_was_moved_away(make_studio: Callable[..., Studio]) -> None:
    studio = make_studio()
    first = next(e for e in run(studio, seed=5) if isinstance(e, events.Saved)).record
    outputs = studio.settings.outputs_dir
    outputs.rename(outputs.with_name("elsewhere"))
    second = next(e for e in run(studio, seed=5) if isinstance(e, events.Saved)).record
    assert second.path != first.path and studio.images(ME).total == 2
    assert studio.image_file(second.id, ME).is_file()
    with pytest.raises(NotFound):
        studio.image_file(first.id, ME)
    assert [image.missing for image in studio.images(ME).images] == [False, True]
    for day in outputs.with_name("elsewhere").iterdir():
        for file in day.iterdir():
            file.rename(outputs / day.name / file.name)
    assert [image.missing for image in studio.images(ME).images] == [False, False]  # it is back, and so is its picture
    assert studio.image(first.id, ME).missing is False and studio.image_file(first.id, ME).is_file()


def test_a_picture_in_another_s_place_takes_its_path(house: House) -> None:
    old = house.save("old")
    path = house.gallery.get(old.id, ME).path
    house.folder.locate(path).unlink()
    new = house.facts("new")
    house.folder.locate(path).write_bytes(image_files.encode_png(gradient(64, 64, 1), new))
    assert house.gallery.add(path, new)
    assert house.gallery.get(new.id, ME).path == path and house.gallery.get(old.id, ME).missing


def test_a_file_that_can_not_be_removed_holds_up_no_other_deletion(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [image.id for image in house.gallery.page(ME).images]
    for image_id in ids[:2]:
        house.gallery.delete(image_id, ME)
    stuck = house.database.value("SELECT path FROM images WHERE id = ?", (ids[0],))
    true_remove = PictureFolder.remove

    def remove(self: PictureFolder, relative: str) -> None:
        if relative == stuck:
            raise PermissionError(13, "Permission denied")
        true_remove(self, relative)

    with monkeypatch.context() as patch:
        patch.setattr(PictureFolder, "remove", remove)
        house.gallery.purge(0.0)
        house.gallery.purge(0.0)
    left = [row["id"] for row in house.database.rows("SELECT id FROM images WHERE deleted_at IS NOT NULL")]
    assert left == [ids[0]] and caplog.text.count("can't be removed yet") == 1
    house.gallery.purge(0.0)
    assert house.database.value("SELECT COUNT(*) FROM images") == 2


def test_facts_with_half_characters_or_impossible_numbers_are_not_ours(house: House) -> None:
    facts = house.facts()
    assert parse_facts(facts.to_json()) is not None
    for change in ({"owner_key": "\ud800"}, {"job_id": "\udc00"}, {"width": 2**70}, {"created_at": float("inf")}):
        assert parse_facts(dataclasses.replace(facts, **change).to_json()) is None


def test_a_whole_folder_that_went_and_came_back_is_there_again(house: House) -> None:
    away = house.root / "unplugged"
    house.folder.root.rename(away)
    for image in house.gallery.page(ME).images:
        with pytest.raises(NotFound):
            house.gallery.file(image.id, ME)
    house.thumbnails.remove(house.gallery.page(ME).images[0].id)
    with pytest.raises(NotFound):
        house.gallery.thumbnail(house.gallery.page(ME).images[0].id, ME)
    assert shown(house) == set()
    away.rename(house.folder.root)
    assert shown(house) == ALL
    assert house.gallery.thumbnail(house.gallery.page(ME).images[0].id, ME).is_file()
    wait_until(lambda: house.database.value("SELECT COUNT(*) FROM images WHERE missing") == 0)


@pytest.mark.parametrize("damage", [b"", b"\xff\xd8\xff\xe0 cut", b"\0" * 900])
def test_a_damaged_thumbnail_is_made_again(house: House, damage: bytes) -> None:
    image = house.gallery.page(ME).images[0]
    path = house.gallery.thumbnail(image.id, ME)
    whole = path.read_bytes()
    path.write_bytes(damage)
    assert house.gallery.thumbnail(image.id, ME).read_bytes() == whole


@pytest.mark.parametrize("name", ["outputs", "inputs", "thumbnails"])
def test_a_file_where_a_folder_belongs_is_named_at_the_start(
    make_studio: Callable[..., Studio], tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(StudioError, match=f"{name} in the data folder is a file, not a folder"):
        make_studio()
    (tmp_path / name).unlink()
    assert isinstance(run(make_studio())[-1], events.Done)
