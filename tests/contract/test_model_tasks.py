"""Model tasks: their JSON, their queues, and what no request may name."""

import pytest
from pydantic import ValidationError

from contract.errors import InvalidRecipe
from contract.model_tasks import Convert, Download, Merge, MergeDraft
from contract.recipe import ModelRef
from contract.tasks import TASK, Generate, Task, task_json
from contract.validation import parse_request
from tests.contract.test_recipe import recipe

A, B = (ModelRef(name=name, family="sd1") for name in "ab")


@pytest.mark.parametrize(
    "task",
    [
        Download(source="owner/model"),
        Download(source="a/b", files=("x/y.safetensors",), kind="lora", name="ink"),
        Convert(model="old", kind="vae"),
        Merge(name="both", a=A, b=B, ratio=0.25),
    ],
    ids=task_json,
)
def test_a_model_task_survives_json_and_makes_no_picture(task: Task) -> None:
    assert TASK.validate_json(task_json(task)) == task
    assert (task.picture_count, task.images) == (0, ())


def test_each_kind_of_work_has_its_queue() -> None:
    assert Generate(recipe=recipe()).queue_name == "engine"
    assert Download(source="a/b").queue_name == "network"
    assert Convert(model="old").queue_name == Merge(name="m", a=A, b=B).queue_name == "disk"


def test_a_merge_reads_its_models() -> None:
    assert Merge(name="m", method="add_difference", a=A, b=B, c=A).models == (A, B, A)


@pytest.mark.parametrize(
    "path",
    ["../x.safetensors", "a/../../x", "/etc/passwd", "C:\\x", "a\\b", ".git/config", "a//b", "x\n", "con.", "~/x", ""],
)
def test_a_download_names_plain_paths_only(path: str) -> None:
    with pytest.raises(ValidationError):
        Download(source="owner/model", files=(path,))


@pytest.mark.parametrize("source", ["model", "a/b/c", "../x", "https://evil.example/a", "a b/c", "-a/b", "a/.b"])
def test_a_repository_is_owner_and_model(source: str) -> None:
    with pytest.raises(InvalidRecipe, match="Repository is"):
        parse_request(Download, f'{{"source": "{source}"}}')


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "x\\y", "end."])
def test_a_merge_has_a_plain_name(name: str) -> None:
    with pytest.raises(ValidationError):
        MergeDraft(name=name, a="a", b="b")


def test_what_a_method_needs_is_said() -> None:
    with pytest.raises(ValidationError, match="second model"):
        Merge(name="m", a=A)
    with pytest.raises(ValidationError, match="second model"):
        Merge(name="m", a=A, c=B, method="add_difference")
    with pytest.raises(ValidationError, match="third model"):
        Merge(name="m", a=A, b=B, method="add_difference")
    with pytest.raises(ValidationError, match="third model"):
        Merge(name="m", a=A, b=B, c=B)


def test_a_refusal_names_the_field_and_what_to_use() -> None:
    with pytest.raises(InvalidRecipe) as refused:
        parse_request(MergeDraft, '{"name": "m", "a": "x", "b": "y", "ratio": 2}')
    assert (refused.value.message, refused.value.hint) == ("Ratio is 2.", "Use a number, 0 to 1.")
    with pytest.raises(InvalidRecipe) as refused:
        parse_request(Download, '{"source": "a/b", "files": ["ok.safetensors", "../x"]}')
    assert refused.value.message == "File 2: “../x” is not a plain path."
