"""The one event of the page: starts or follows a job, and says everything in each value."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest

from studio.settings import load_settings
from studio.studio import Studio
from tabs.run_panel import make_runner
from tests.support.fakes import FakeWorker
from tests.support.images import flat_png
from tests.support.model_folders import make_model

OWNER, OTHER = "someone", "someone-else"


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    make_model(tmp_path / "models")
    settings = load_settings(["--data", str(tmp_path / "data")], {}, tmp_path)
    here = Studio(settings, FakeWorker())
    here.start()
    yield here
    here.stop()


def said(studio: Studio, asked: object, owner: str = OWNER) -> list[dict[str, Any]]:
    """All values that the event gives for one request."""
    raw = (
        asked
        if isinstance(asked, str)
        else json.dumps({"stream": "s", "session": "w", **cast("dict[str, Any]", asked)})
    )
    request = cast(gr.Request, SimpleNamespace(request=SimpleNamespace(scope={"state": {"owner": owner}})))

    async def collect() -> list[str]:
        return [text async for text in make_runner(studio)(raw, request)]

    texts = asyncio.run(collect())
    assert not any("<" in text for text in texts), "gradio takes the value for HTML and looks for tags"
    return [json.loads(text) for text in texts]


def test_draft_is_made_and_each_value_describes_the_whole_job(studio: Studio) -> None:
    values = said(studio, {"draft": {"prompt": "<b>sea</b>", "count": 2, "seed": "18446744073709551615"}})
    assert values[0]["state"] in ("queued", "running"), "the fake worker may have begun before the event was heard"
    assert values[0]["recipe"]["seed"] == "18446744073709551615"
    last = values[-1]
    assert last["state"] == "done" and last["stream"] == "s" and last["recipe"]["prompt"] == "<b>sea</b>"
    assert [(cell["image"], cell["seed"]) for cell in last["saved"]] == [(0, "18446744073709551615"), (1, "0")]
    assert any(value.get("preview", "").startswith("data:image/jpeg;base64,") for value in values)
    assert "preview" not in last


def test_finished_job_can_be_followed_from_the_beginning(studio: Studio) -> None:
    job = said(studio, {"draft": {"prompt": "sea"}})[-1]["job"]
    again = said(studio, {"follow": job})
    assert again[-1]["state"] == "done" and len(again[-1]["saved"]) == 1


def test_after_a_load_without_anything_under_way_there_is_nothing_to_follow(studio: Studio) -> None:
    assert said(studio, {}) == [{"stream": "s", "type": "nothing"}]


def test_another_owners_job_is_not_found(studio: Studio) -> None:
    job = said(studio, {"draft": {"prompt": "sea"}})[-1]["job"]
    values = said(studio, {"follow": job}, OTHER)
    assert [(value["type"], value["code"]) for value in values] == [("refused", "not_found")]


@pytest.mark.parametrize(
    ("draft", "code", "words"),
    [
        ({"prompt": "sea", "steps": 999}, "invalid_steps", "Steps is 999."),
        ({"prompt": "sea", "width": 500}, "invalid_width", "Width is 500."),
        ({"prompt": 5}, "invalid_prompt", "Prompt is 5."),
        ({"steps": 5}, "invalid_prompt", "“prompt” is missing."),
        ({"prompt": "sea", "mode": "x"}, "unknown_field", "“mode” is not a field of a recipe."),
        ({"prompt": "sea \ud83d"}, "invalid_prompt", "Prompt has half of a character at place 5: it was cut in two."),
    ],
)
def test_what_is_wrong_with_a_draft_is_said_in_one_sentence(
    studio: Studio, draft: dict[str, Any], code: str, words: str
) -> None:
    (value,) = said(studio, {"draft": draft})
    assert (value["type"], value["code"], value["message"]) == ("refused", code, words)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "nonsense",
        "[]",
        '{"stream": 5}',
        '{"stream": "s", "session": "w", "more": 1}',
        json.dumps({"stream": "s" * 200, "session": "w"}),
    ],
)
def test_what_is_no_request_is_refused(studio: Studio, raw: str) -> None:
    (value,) = said(studio, raw)
    assert value["type"] == "refused" and value["hint"] == "Reload the page."


def test_failure_carries_code_sentence_and_hint(studio: Studio) -> None:
    last = said(studio, {"draft": {"prompt": "[oom]"}})[-1]
    assert (last["state"], last["code"], last["hint"]) == ("failed", "out_of_memory", "Use 64 × 64.")


def test_long_prompt_does_not_travel_with_every_value(studio: Studio) -> None:
    values = said(studio, {"draft": {"prompt": "sea " * 20_000}})
    assert max(len(json.dumps({**value, "preview": ""})) for value in values) < 2_000


def test_where_only_the_masked_area_is_painted_the_stage_is_told_the_whole_pictures_size(studio: Studio) -> None:
    black = studio.add_upload(flat_png(192, 128), OWNER).sha256
    draft = {
        "prompt": "sea",
        "width": 64,
        "height": 64,
        "init_image": {"image": {"sha256": black}},
        "mask": {"image": {"sha256": black}, "area": "masked", "invert": True},
    }
    for area, size in (("masked", (192, 128)), ("whole", (64, 64))):
        draft["mask"]["area"] = area  # type: ignore[index]
        recipe = said(studio, {"draft": draft})[-1]["recipe"]
        assert (recipe["width"], recipe["height"]) == size
