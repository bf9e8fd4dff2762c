"""Tasks: one JSON form for every kind of work, and what each needs."""

import json

import pytest

from contract.recipe import ImageRef, ModelRef
from contract.tasks import TASK, Generate, Preprocess, Task, Upscale, task_json
from tests.contract.test_recipe import recipe

IMAGE = ImageRef(sha256="a" * 64)
ESRGAN = ModelRef(kind="upscaler", name="esrgan", family="esrgan")


@pytest.mark.parametrize(
    "task",
    [
        Generate(recipe=recipe(count=3), parent="0" * 22),
        Upscale(image=IMAGE, upscaler=ESRGAN, scale=4.0),
        Preprocess(image=IMAGE, preprocessor="canny", low=10.0),
    ],
    ids=lambda task: task.type,
)
def test_a_task_survives_json(task: Task) -> None:
    assert TASK.validate_json(task_json(task)) == task


def test_defaults_are_left_out_of_a_task() -> None:
    assert json.loads(task_json(Upscale(image=IMAGE))) == {"type": "upscale", "image": {"sha256": IMAGE.sha256}}


def test_a_task_names_its_models_and_pictures() -> None:
    painting = Generate(recipe=recipe(count=3, init_image={"image": {"sha256": "b" * 64}}))
    assert (painting.picture_count, [image.sha256[0] for image in painting.images]) == (3, ["b"])
    assert [ref.name for ref in painting.models] == ["starter"]
    assert Upscale(image=IMAGE, upscaler=ESRGAN).models == (ESRGAN,) and Upscale(image=IMAGE).models == ()
    assert Preprocess(image=IMAGE, preprocessor="canny").images == (IMAGE,)
