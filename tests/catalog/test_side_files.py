"""Words and pictures beside a model are read, cleaned and cut; none of them can do anything."""

import json
from pathlib import Path

import pytest

from catalog.files.side_files import MAX_NOTES, clean, notes_of, preview_of, read_metadata, read_notes
from catalog.model_fields import about_fields, model_fields
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


CIVITAI = {
    "id": 130072,
    "modelId": 4201,
    "name": "V6.0 B1",
    "baseModel": "SD 1.5",
    "trainedWords": ["analog style"],
    "description": "<p>Better hands.</p>",
    "model": {"name": "Realistic", "type": "Checkpoint", "description": "<script>x</script>For photos"},
    "creator": {"username": "someone"},
}


@pytest.mark.parametrize(
    ("name", "table", "expected"),
    [
        (
            "ink.civitai.info",
            CIVITAI,
            {
                "title": "Realistic",
                "version": "V6.0 B1",
                "base_model": "SD 1.5",
                "author": "someone",
                "link": "https://civitai.com/models/4201?modelVersionId=130072",
                "trigger_words": ("analog style",),
            },
        ),
        (  # A1111's own, as people fill it in
            "ink.json",
            {"sd version": "SDXL", "activation text": "ink", "preferred weight": "0.8", "negative text": "fog, rain"},
            {"base_model": "SDXL", "preferred_weight": 0.8, "negative_text": "fog, rain", "trigger_words": ("ink",)},
        ),
        (  # Civitai Browser+
            "ink.json",
            {"modelId": 7, "modelVersionId": 9, "preferred weight": 0, "sd version": "SD1"},
            {"link": "https://civitai.com/models/7?modelVersionId=9", "preferred_weight": None},
        ),
        (  # SD.Next keeps a model with all its versions
            "ink.json",
            {
                "id": 4201,
                "name": "Realistic",
                "type": "Checkpoint",
                "modelVersions": [
                    {"id": 1, "name": "V1", "trainedWords": ["one"], "files": [{"name": "other.safetensors"}]},
                    {"id": 2, "name": "V2", "trainedWords": ["two"], "files": [5, {"name": "ink.safetensors"}]},
                ],
            },
            {
                "title": "Realistic",
                "version": "V2",
                "trigger_words": ("two",),
                "link": "https://civitai.com/models/4201?modelVersionId=2",
            },
        ),
        (
            "ink.json",
            {"id": 3, "name": "R", "modelVersions": [{"name": "a", "trainedWords": ["a"]}, {"trainedWords": ["b"]}]},
            {"trigger_words": (), "version": "", "link": "https://civitai.com/models/3"},
        ),
        (  # what makes no sense is nothing
            "ink.json",
            {"modelId": "javascript:alert(1)", "id": True, "preferred weight": "nan", "name": ["x"], "model": 5},
            {"link": "", "preferred_weight": None, "title": "", "version": ""},
        ),
        ("ink.json", {"modelVersions": {"a": 1}, "preferred weight": "9" * 400}, {"preferred_weight": None}),
    ],
)
def test_what_helpers_of_civitai_keep_is_told(
    tmp_path: Path, name: str, table: dict[str, object], expected: dict[str, object]
) -> None:
    (tmp_path / name).write_text(json.dumps(table))
    found = read_notes((tmp_path / name,))
    assert {key: getattr(found, key) for key in expected} == expected
    assert "<" not in found.notes


@pytest.mark.parametrize(
    ("text", "size"),
    [("1024x1024", (1024, 1024)), ("768x1152", (768, 1152)), ("1024", ()), ("9x9", ()), ("1001x1000", ()), ("", ())],
)
def test_the_resolution_of_modelspec_counts_where_an_image_can_have_it(text: str, size: tuple[int, ...]) -> None:
    assert read_metadata({"modelspec.resolution": text}).resolution == size


def test_what_a_checkpoint_says_of_itself_is_where_the_form_begins(tmp_path: Path) -> None:
    metadata = {
        "modelspec.resolution": "768x640",
        "modelspec.encoder_layer": "2",
        "modelspec.license": "CreativeML Open RAIL-M",
        "modelspec.author": "someone",
    }
    layouts.write(tmp_path / "ink.safetensors", layouts.checkpoint("sd1"), metadata)
    (tmp_path / "ink.civitai.info").write_text(json.dumps(CIVITAI))
    (entry,) = scan((tmp_path,))
    assert (entry.defaults.width, entry.defaults.height) == (768, 640)
    fields = model_fields(entry)
    assert fields["advice"] == {"clip_skip": 2} and fields["trigger_words"] == ("analog style",)
    assert about_fields(entry)["about"] == {
        "version": "V6.0 B1",
        "base_model": "SD 1.5",
        "author": "someone",
        "license": "CreativeML Open RAIL-M",
        "link": "https://civitai.com/models/4201?modelVersionId=130072",
    }
