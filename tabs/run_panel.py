"""One JSON value from the page in, one after another out: starts a job or follows one.

The job lives in the studio; this handler only follows, so closing the page ends nothing. Each value
that goes out describes the whole job so far (a browser that skips one misses nothing but a preview).
Drawing them is page/jobs/job.js and page/result/result_view.js.
"""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, cast

import gradio as gr

from contract import events
from contract.errors import InvalidRecipe, StudioError
from contract.recipe import Frozen, Recipe
from contract.records import ImageRecord, JobView
from contract.sizes import hires_size, upscaled_size
from contract.tasks import Generate, Task, Upscale
from contract.validation import parse_draft
from studio.jobs.event_log import EventLog
from studio.jobs.follow import follow
from studio.studio import Studio

_PROMPT_SHOWN = 300
_MAX_NAME = 100
_BEAT_S = 5.0


class RunRequest(Frozen):
    """What the page asks for; `stream` comes back with every answer.

    draft: make this; once, however often it comes with the same `key`. follow: take this job up, from its event
    `cursor` on. Neither: take up whatever this window should see after a reload.
    """

    stream: str
    session: str
    draft: dict[str, Any] | None = None
    key: str | None = None
    follow: str | None = None
    cursor: int = 0


class Panel:
    """What one window knows of one job, folded from its events."""

    def __init__(self, view: JobView, size: Mapping[str, int] | None = None) -> None:
        """size: width and height of the result, where the task does not say them."""
        self._facts: dict[str, Any] = {
            "type": "job",
            "job": view.job.id,
            "state": "queued",
            "recipe": {**describe_task(view.job.task), **(size or {})},
            "position": view.position,
            "saved": [],
            "notices": [],
        }
        if view.step:
            self._facts.update(
                state="running", image=view.image, index=view.step, total=view.total_steps, left_s=view.left_s
            )

    def add(self, cursor: int, event: events.JobEvent) -> None:
        """Take in one event."""
        facts = event.model_dump(exclude={"record", "preview", "job_id", "type"})
        self._facts.pop("preview", None)
        self._facts["cursor"] = cursor
        match event:
            case events.Saved():
                self._facts["saved"].append({"image": event.image, **describe_image(event.record)})
            case events.Prepared():
                self._facts["prepared"] = event.upload.model_dump()
            case events.Notice():
                self._facts["notices"].append(event.message)
            case events.Step():
                self._facts.update(facts, state="running")
                if event.preview is not None:
                    data = base64.b64encode(event.preview).decode()
                    self._facts["preview"] = f"data:image/jpeg;base64,{data}"
            case _:
                self._facts.update(facts, state=event.type)

    def as_dict(self) -> dict[str, Any]:
        """The job so far, as JSON values."""
        return self._facts


def describe_task(task: Task) -> dict[str, Any]:
    """What a stage says of a job: its recipe, or its title alone."""
    if isinstance(task, Generate):
        return describe_recipe(task.recipe)
    before = {"before": task.images[0].sha256} if task.images else {}
    return {"prompt": task.title, "count": task.picture_count, **before}


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """The parts of a recipe that a stage shows; long prompts are cut, seeds are text.

    before: sha256 of the picture that the result can be compared with, laid out as `resize` says.
    """
    start = recipe.init_image
    before = {"before": start.image.sha256, "resize": start.resize} if start and not start.outpaint else {}
    return {
        **before,
        "prompt": recipe.prompt[:_PROMPT_SHOWN],
        "model": recipe.model.name,
        "sampler": recipe.sampler,
        "schedule": recipe.schedule,
        "steps": recipe.steps,
        "guidance": recipe.guidance,
        "width": recipe.width,
        "height": recipe.height,
        "seed": str(recipe.seed),
        "count": recipe.count,
    }


def describe_image(record: ImageRecord) -> dict[str, Any]:
    """A finished picture for a cell of the stage."""
    return {
        "id": record.id,
        "width": record.width,
        "height": record.height,
        "seed": str(record.recipe.seed) if record.recipe else "",
        "favorite": record.favorite,
    }


def make_runner(studio: Studio) -> Callable[[str, gr.Request], AsyncIterator[str]]:
    """The generation event of a page over this studio."""

    async def run(raw: str, request: gr.Request) -> AsyncIterator[str]:
        stream = ""
        try:
            asked = _read(raw)
            stream = asked.stream
            async for facts in _answers(studio, asked, owner_of(request)):
                yield _sealed({"stream": stream, **facts})
        except StudioError as error:
            yield _sealed({"stream": stream, "type": "refused", **error.as_dict()})

    return run


def _sealed(facts: dict[str, Any]) -> str:
    """JSON in which no markup can be seen: gradio looks for tags in what it takes for HTML."""
    return json.dumps(facts).replace("<", "\\u003c")


async def _answers(studio: Studio, asked: RunRequest, owner: str) -> AsyncIterator[dict[str, Any]]:
    job_id = await asyncio.to_thread(_job_id, studio, asked, owner)
    if job_id is None:
        yield {"type": "nothing"}
        return
    view = await asyncio.to_thread(studio.job, job_id, owner)
    panel = Panel(view, await asyncio.to_thread(_result_size, studio, view.job.task, owner))
    if view.job.state in ("queued", "running"):  # of one that has ended the events come at once
        yield panel.as_dict()
    async with aclosing(_with_beats(studio.event_log(job_id, owner), asked.cursor)) as told:
        async for item in told:
            if item is not None:
                panel.add(*item)
            yield panel.as_dict()


async def _with_beats(event_log: EventLog, cursor: int) -> AsyncGenerator[tuple[int, events.JobEvent] | None]:
    """Follow, with None whenever nothing was said for a while.

    Gradio ends a handler whose page has gone only when it yields again, and until then the job would
    count as followed and no other window would take it up.
    """
    async with aclosing(cast("AsyncGenerator[tuple[int, events.JobEvent]]", follow(event_log, cursor))) as told:
        waiting: asyncio.Future[tuple[int, events.JobEvent]] | None = None
        try:
            while True:
                waiting = waiting or asyncio.ensure_future(anext(told))
                if not (await asyncio.wait({waiting}, timeout=_BEAT_S))[0]:
                    yield None
                    continue
                try:
                    item = waiting.result()
                except StopAsyncIteration:
                    return
                waiting = None
                yield item
        finally:
            if waiting is not None and not waiting.done():
                waiting.cancel()
                await asyncio.wait({waiting})


def _job_id(studio: Studio, asked: RunRequest, owner: str) -> str | None:
    if asked.draft is not None:
        return studio.submit(parse_draft(json.dumps(asked.draft)), owner, session=asked.session, key=asked.key).id
    if asked.follow is not None:
        return asked.follow
    record = studio.job_to_follow(owner, asked.session)
    return record.id if record else None


def _result_size(studio: Studio, task: Task, owner: str) -> dict[str, int]:
    """Of a hires pass and of an upscaled picture; where what is painted is put back, of the picture."""
    size = None
    if isinstance(task, Upscale):
        before = studio.upload_size(task.image.sha256, owner)
        size = upscaled_size(before, task.scale) if before else None
    elif isinstance(task, Generate) and task.recipe.hires:
        size = hires_size((task.recipe.width, task.recipe.height), task.recipe.hires.scale)
    elif (
        isinstance(task, Generate)
        and task.recipe.mask
        and task.recipe.init_image
        and (task.recipe.mask.area == "masked" or task.recipe.mask.keep_size)
    ):
        size = studio.upload_size(task.recipe.init_image.image.sha256, owner)
    return dict(zip(("width", "height"), size, strict=True)) if size else {}  # the engine will say what is missing


def _read(raw: str) -> RunRequest:
    try:
        # Python's own reader: half a surrogate pair in a draft is for `parse_draft` to name.
        asked = RunRequest.model_validate(json.loads(raw))
    except (ValueError, TypeError, RecursionError):
        raise InvalidRecipe("The page sent something that is not a request.", "Reload the page.") from None
    if max(len(asked.stream), len(asked.session), len(asked.key or "")) > _MAX_NAME:
        raise InvalidRecipe("The page sent a name that is too long.", "Reload the page.")
    return asked


def owner_of(request: gr.Request) -> str:
    """Whose page this is: what the guard read from the signed cookie."""
    owner = request.request.scope["state"]["owner"]  # type: ignore[union-attr]
    return str(owner)
