"""What makes no sense in a model's own settings is left out and said; the model stays, with the usual in its place."""

import json
from pathlib import Path

import pytest

from catalog.models import ModelEntry, scan
from contract.recipe import RecipeDraft
from studio.library.model_list import ModelList
from studio.resolve.draft import resolve
from studio.resolve.model_finder import Finder
from tests.support.model_folders import make_model


def with_settings(root: Path, **settings: object) -> ModelEntry:
    folder = make_model(root)
    (folder / "darkroom.json").write_text(json.dumps(settings))
    (entry,) = scan([root])
    return entry


@pytest.mark.parametrize(
    ("defaults", "words"),
    [
        ({"steps": "abc"}, '“steps” is "abc", not a whole number from 1 to 150; 20 is used.'),
        ({"steps": 1e9}, "“steps” is 1000000000.0"),
        ({"steps": 0}, "“steps” is 0"),
        ({"steps": 2.5}, "“steps” is 2.5"),
        ({"steps": True}, "“steps” is true"),
        ({"steps": [20]}, "“steps” is [20]"),
        ({"width": -8}, "“width” is -8, not a multiple of 8 from 64 to 2048; 512 is used."),
        ({"width": 500}, "“width” is 500"),
        ({"height": 10**12}, "“height” is 1000000000000"),
        ({"height": None}, "“height” is null"),
        ({"guidance": "7"}, '“guidance” is "7"'),
        ({"guidance": float("nan")}, "“guidance” is NaN"),
        ({"guidance": -1}, "“guidance” is -1"),
        ({"guidance": {}}, "“guidance” is {}"),
        ({"sampler": "nonsense"}, '“sampler” is "nonsense", not a sampler that is known; euler_a is used.'),
        ({"sampler": 5}, "“sampler” is 5"),
        ({"schedule": "nonsense"}, '“schedule” is "nonsense"'),
        ({"sampler": "ddim", "schedule": "karras"}, "“karras” does not go with “ddim”"),
        ({"seed": 5}, "“seed” is no default that is known."),
        (5, "“defaults” is 5, not a table"),
        ([], "“defaults” is [], not a table"),
        ("abc", '“defaults” is "abc"'),
    ],
)
def test_a_default_without_sense_is_left_out_and_said(tmp_path: Path, defaults: object, words: str) -> None:
    entry = with_settings(tmp_path, defaults=defaults)
    assert entry.problem is None and len(entry.warnings) == 1 and words in entry.warnings[0]
    found = resolve(RecipeDraft(prompt="a hill", model="starter"), Finder(ModelList((tmp_path,))), max_pixels=2**22)
    said = [sentence for code, sentence in found.notices if code == "model_settings"]
    assert said == [f"{entry.title}: {entry.warnings[0]}"]
    recipe = found.recipe
    assert (recipe.steps, recipe.width, recipe.height, recipe.guidance) == (20, 512, 512, 7.0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sizes": {"square": 5}}, "the size “square” is 5"),
        ({"sizes": {"square": [512]}}, "the size “square” is [512]"),
        ({"sizes": {"square": [512, "512"]}}, "the size “square”"),
        ({"sizes": {"": [512, 512]}}, "the size “”"),
        ({"sizes": []}, "“sizes” is []"),
        ({"examples": "a hill"}, '“examples” is "a hill", not a list'),
        ({"examples": [5, "a hill"]}, "holds more than texts"),
        ({"title": 5}, "“title” is 5, not a text"),
        ({"description": ["x"]}, '“description” is ["x"]'),
    ],
)
def test_so_is_anything_else(tmp_path: Path, settings: dict[str, object], words: str) -> None:
    entry = with_settings(tmp_path, **settings)
    assert entry.problem is None and entry.sizes and words in " ".join(entry.warnings)


def test_what_makes_sense_is_taken(tmp_path: Path) -> None:
    entry = with_settings(
        tmp_path,
        title="Mine",
        description="Of hills.",
        examples=["a hill", "two hills"],
        sizes={"big": [768, 640]},
        defaults={
            "steps": 30.0,
            "guidance": 5,
            "width": 768,
            "height": 640,
            "sampler": "DPM++ 2M",
            "schedule": "Karras",
        },
    )
    defaults = entry.defaults
    assert (entry.title, entry.description, entry.examples, dict(entry.sizes)) == (
        "Mine",
        "Of hills.",
        ("a hill", "two hills"),
        {"big": (768, 640)},
    )
    assert (defaults.steps, defaults.guidance, defaults.width, defaults.sampler, defaults.schedule) == (
        30,
        5,
        768,
        "dpmpp_2m",
        "karras",
    )
    assert entry.warnings == ()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("hügel\n".encode("latin-1"), "not in UTF-8"),
        ("hill\n".encode("utf-16"), "not in UTF-8"),
        (b"x\n" * 3_000_000, "too large"),
    ],
)
def test_a_vocabulary_that_cannot_be_read_is_not_used(tmp_path: Path, data: bytes, words: str) -> None:
    (make_model(tmp_path) / "vocabulary.txt").write_bytes(data)
    (entry,) = scan([tmp_path])
    assert entry.problem is None and entry.words == frozenset() and words in entry.warnings[0]


@pytest.mark.parametrize("text", ["{", "[]", "5", "null", "", "\ufeff[", "[" * 100_000])
def test_a_file_that_is_no_table_is_not_used(tmp_path: Path, text: str) -> None:
    (make_model(tmp_path) / "darkroom.json").write_text(text, "utf-8")
    (entry,) = scan([tmp_path])
    assert entry.problem is None and entry.warnings == (
        "darkroom.json can't be read as a table in JSON; the usual settings are used.",
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_of_json_are_read(tmp_path: Path, encoding: str) -> None:
    folder = make_model(tmp_path)
    for name in ("darkroom.json", "model_index.json", "unet/config.json"):
        (folder / name).write_text((folder / name).read_text("utf-8"), encoding)
    (entry,) = scan([tmp_path])
    assert entry.problem is None and entry.warnings == () and entry.title == "Starter"
