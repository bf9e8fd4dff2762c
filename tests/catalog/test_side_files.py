"""Words and pictures beside a model are read, cleaned and cut; none of them can do anything."""

import json
from pathlib import Path

import pytest

from catalog.files.side_files import MAX_NOTES, clean, notes_of, preview_of, read_metadata, read_notes
from catalog.models import scan
from tests.support import layouts


@pytest.mark.parametrize(
    ("names", "picture"),
    [
        ({"ink.png"}, "ink.png"),
        ({"ink.png", "ink.preview.png"}, "ink.preview.png"),
        ({"ink.webp"}, "ink.webp"),
        ({"ink.preview.jpeg"}, "ink.preview.jpeg"),
        ({"other.png", "ink.gif"}, None),
    ],
)
def test_a_picture_is_found_by_the_names_in_use(tmp_path: Path, names: set[str], picture: str | None) -> None:
    assert preview_of(tmp_path / "ink.safetensors", names) == (tmp_path / picture if picture else None)


@pytest.mark.parametrize(
    ("name", "content", "notes", "words"),
    [
        ("ink.txt", "Paint with it.\r\nOften.", "Paint with it.\nOften.", ()),
        (
            "ink.json",
            json.dumps({"activation text": "ink wash, black", "notes": "0.8", "description": "An ink."}),
            "0.8\nAn ink.",
            ("ink wash, black",),
        ),
        (
            "ink.civitai.info",
            json.dumps(
                {
                    "trainedWords": ["ink wash", "ink wash", 5, " old ink, "],
                    "model": {"description": "<p>An <b>ink</b> &amp; pen.</p><p>Two</p>"},
                }
            ),
            "An ink & pen.\nTwo",
            ("ink wash", "old ink"),
        ),
        ("ink.json", "[1, 2]", "", ()),
        ("ink.json", "{", "", ()),
        ("ink.json", "[" * 100_000, "", ()),
        ("ink.json", json.dumps({"trainedWords": {"a": 1}, "notes": [1], "model": "x"}), "", ()),
    ],
)
def test_notes_are_read_in_the_forms_in_use(
    tmp_path: Path, name: str, content: str, notes: str, words: tuple[str, ...]
) -> None:
    (tmp_path / name).write_text(content)
    found = read_notes(notes_of(tmp_path / "ink.safetensors", {name}))
    assert (found.notes, found.trigger_words) == (notes, words)


def test_notes_that_are_gone_or_too_large_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "ink.txt").write_bytes(b"x" * 5_000_000)
    assert read_notes((tmp_path / "ink.txt", tmp_path / "gone.txt")).notes == ""


def test_modelspec_and_the_trainers_own_fields_are_read() -> None:
    found = read_metadata(
        {
            "modelspec.title": "Old Ink",
            "modelspec.description": "An ink.",
            "ss_output_name": "x",
            "modelspec.usage_hint": "Use 0.8.",
            "modelspec.trigger_phrase": "ink wash",
        }
    )
    assert (found.title, found.notes, found.trigger_words) == ("Old Ink", "An ink.\nUse 0.8.", ("ink wash",))
    tags = {"10_ink": {"ink wash": 100, "black": 95, "cat": 40}, "5_more": {"ink wash": 20, "dog": 3}}
    found = read_metadata({"ss_output_name": "ink", "ss_tag_frequency": json.dumps(tags)})
    assert (found.title, found.trigger_words) == ("ink", ("ink wash",))
    assert read_metadata({"ss_tag_frequency": json.dumps({"a": {"b": "x"}, "c": 5})}).trigger_words == ()


def test_ck25_markup_and_a_large_picture_in_the_metadata_do_nothing(tmp_path: Path) -> None:
    metadata = {
        "modelspec.title": "<img src=x onerror=alert(1)>Ink\u202e",
        "modelspec.thumbnail": "data:image/png;base64," + "A" * 5_000_000,
    }
    layouts.write(tmp_path / "ink.safetensors", {"emb_params": (1, 768)}, metadata)
    (entry,) = scan([tmp_path])
    assert entry.problem is None and entry.alias == ""  # the file's own name, once it is clean
    assert entry.notes == "The picture inside the file (5.0 MB) is not shown."


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("a < b and c > d", "a < b and c > d"),
        ("<script>x</script>", "x"),
        ("one<br/>two", "one\ntwo"),
        ("a\x00b\x1b[0m", "ab[0m"),
        ("&lt;b&gt;", "<b>"),
        ("x" * 9_000, "x" * MAX_NOTES),
        ("a\n\n\n\n\nb", "a\n\nb"),
    ],
)
def test_foreign_text_becomes_plain(text: str, plain: str) -> None:
    assert clean(text, MAX_NOTES) == plain
