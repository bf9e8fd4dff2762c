"""Recipes of schema 1: the same fields under older names, in a picture made then, a queue, and JSON by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from contract.errors import InvalidRecipe
from contract.recipe import Recipe, RecipeDraft
from contract.schema_1 import upgraded_json
from contract.tasks import Generate, read_task
from contract.validation import parse_draft
from studio.metadata.image_files import read_picture_facts

PICTURE = Path(__file__).parents[1] / "data" / "schema-1.png"  # written by the program of November 2026
IMAGE = {"sha256": "0" * 64}
CONTROL = {"model": "canny", "image": IMAGE}


def draft(**fields: Any) -> RecipeDraft:
    return RecipeDraft.read(json.dumps({"prompt": "sea", **fields}))


def test_a_picture_made_before_keeps_its_whole_recipe() -> None:
    recipe = read_picture_facts(PICTURE).recipe  # type: ignore[union-attr]
    assert recipe is not None and recipe.init_image is not None and recipe.mask is not None
    assert recipe.init_image.strength == 0.4 and recipe.init_image.depth is not None
    outpaint = recipe.init_image.outpaint
    assert outpaint is not None and (outpaint.left, outpaint.right, outpaint.overlap) == (8, 16, 10)
    assert (recipe.mask.blur, recipe.mask.soft) == (9, True)
    (control,), (ip_adapter,) = recipe.controls, recipe.ip_adapters
    assert (control.start, control.end, control.control_type) == (0.1, 0.8, "depth")
    assert (ip_adapter.start, ip_adapter.weight, ip_adapter.model.name) == (0.2, 0.6, "face")
    assert recipe.seed == 2**60 + 1 and recipe.loras[0].model.name == "ink"
    again = recipe.canonical_json()
    assert Recipe.read(again) == recipe == Recipe.model_validate_json(again)


def test_a_task_that_was_queued_before_is_read() -> None:
    recipe = json.loads(read_picture_facts(PICTURE).recipe.canonical_json())  # type: ignore[union-attr]
    recipe["start"] = recipe.pop("init_image") | {"extend": None}
    recipe["start"].pop("outpaint")
    recipe["references"] = recipe.pop("ip_adapters")
    task = read_task(json.dumps({"type": "generate", "recipe": recipe}))
    assert isinstance(task, Generate) and task.recipe.init_image is not None and task.recipe.ip_adapters


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"start": {"image": IMAGE}}, {"init_image": {"image": IMAGE}}),
        ({"start": {"image": IMAGE, "extend": {"up": 8}}}, {"init_image": {"image": IMAGE, "outpaint": {"up": 8}}}),
        (
            {"start": {"image": IMAGE}, "mask": {"image": IMAGE, "feather": 2}},
            {"init_image": {"image": IMAGE}, "mask": {"image": IMAGE, "blur": 2}},
        ),
        (
            {"controls": [{**CONTROL, "begin": 0.5, "shows": "pose"}, CONTROL]},
            {"controls": [{**CONTROL, "start": 0.5, "control_type": "pose"}, CONTROL]},
        ),
        ({"references": [{**CONTROL, "begin": 0.5}]}, {"ip_adapters": [{**CONTROL, "start": 0.5}]}),
        ({"schema": 1}, {"schema": 2}),
        ({"schema": 1, "init_image": {"image": IMAGE}}, {"init_image": {"image": IMAGE}}),
    ],
)
def test_each_old_name_is_the_new_one(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert draft(**old) == draft(**new) == parse_draft(json.dumps({"prompt": "sea", **old}))


@pytest.mark.parametrize(
    "fields",
    [
        {"schema": 2, "start": {"image": IMAGE}},
        {"start": {"image": IMAGE}, "init_image": {"image": IMAGE}},
        {"controls": [{**CONTROL, "begin": 0.1, "start": 0.1}]},
        {"schema": True, "references": []},
    ],
)
def test_an_old_name_is_unknown_beside_the_new_one_and_in_the_new_schema(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecipe):
        parse_draft(json.dumps({"prompt": "sea", **fields}))


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 5000, '{"prompt": "a", "seed": ' + "9" * 5000 + "}", "3", b"\xff", "null"]
)
def test_what_is_no_recipe_is_left_as_it_is(text: str | bytes) -> None:
    assert upgraded_json(text) == text
