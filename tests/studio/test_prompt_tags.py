"""Tags to complete: our own list, and files that a person drops in, whatever is in them."""

import os
from pathlib import Path

import pytest

from studio.prompts.tags import OWN_TAGS, read_tags


def test_the_shipped_list_is_small_plain_and_without_doubles() -> None:
    data = OWN_TAGS.read_bytes()
    assert len(data) <= 60_000 and data.isascii()
    names = [line.split(",")[0] for line in data.decode().splitlines()]
    assert len(names) == len(set(names)) > 800
    assert [tag[0] for tag in read_tags(Path("none")).tags] == names


def test_a_dropped_file_is_read_and_the_most_used_come_first(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        'rare_thing,0,3,\n1girl,0,6008644,"1girls,sole_female"\nportrait,5,40,\njust a name\n', "utf-8"
    )
    found = read_tags(tmp_path)
    assert found.tags[:3] == (
        ("1girl", 0, 6008644, ("1girls", "sole_female")),
        ("portrait", 5, 40, ()),
        ("rare_thing", 0, 3, ()),
    )
    assert found.notices == () and ("just a name", 0, 0, ()) in found.tags
    assert sum(tag[0] == "portrait" for tag in found.tags) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfea\x00,\x000\x00\n\x00",
        b"caf\xe9,0,1\r\nb\r",
        b'"never closed,0,1\nx,0,2\n' * 3,
        b"name,category,count\n,,,\n,0,1\nx,-1,1e9,\n" + b"y," + b"9" * 5000 + b"\n",
        b"x" * 5_000_000,
        b'\xef\xbb\xbfx,0,1,"' + b"a," * 10_000 + b'"',
    ],
)
def test_odd_files_do_no_harm(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "odd.csv").write_bytes(data)
    found = read_tags(tmp_path)
    assert len(found.tags) >= 800 and all(len(tag[0]) <= 120 for tag in found.tags)


def test_what_is_no_text_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"a\0b" * 100)
    (tmp_path / "secret.txt").write_text("hidden,0,1")
    (tmp_path / "link.csv").symlink_to(tmp_path / "secret.txt")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    found = read_tags(tmp_path)
    assert len(found.notices) == 4 and all(".csv" in notice for notice in found.notices)
    assert "hidden" not in {tag[0] for tag in found.tags}
