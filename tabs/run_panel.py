"""The handler of the Generate button: one JSON value in, a stream of them out. Starts a job or follows one.

The job lives in the studio; this handler only follows, so closing the page ends nothing. Each value
that goes out describes the whole job so far (a browser that skips one misses nothing but a preview).
page/jobs/job.js and page/result/result_view.js draw them.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import gradio as gr

from contract import events
from contract.errors import InvalidRecipe, StudioError
from contract.recipe import Frozen, Recipe
from contract.records import ImageRecord, JobView
from contract.sizes import hires_size, upscaled_size
from contract.tasks import Generate, Task, Upscale
from contract.validation import parse_draft
from studio.jobs.follow import follow_with_heartbeats
from studio.studio import Studio

_PROMPT_SHOWN = 300
_MAX_NAME = 100
_HEARTBEAT_S = 5.0


class RunRequest(Frozen):
    """A request of the page; every answer carries its `stream`.

    draft: make this; once, however often it comes with the same `key`. follow: follow this job, from its event
    `cursor` on. Neither: follow the job that this window should show after a reload.
    """

    stream: str
    session: str
    draft: dict[str, Any] | None = None
    key: str | None = None
    follow: str | None = None
    cursor: int = 0

    @classmethod
    def read(cls, raw: str) -> "RunRequest":
        """Read the page's JSON. Raises InvalidRecipe."""
        try:
            # Python's own reader: `parse_draft` names half a surrogate pair in a draft.
            wanted = cls.model_validate(json.loads(raw))
        except (ValueError, TypeError, RecursionError):
            raise InvalidRecipe("The page sent something that is not a request.", "Reload the page.") from None
        if max(len(wanted.stream), len(wanted.session), len(wanted.key or "")) > _MAX_NAME:
            raise InvalidRecipe("The page sent a name that is too long.", "Reload the page.")
        return wanted


class Panel:
    """The state of one job for one window, folded from its events."""

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
                if event.preview_uri is not None:
                    self._facts["preview"] = event.preview_uri
            case _:
                self._facts.update(facts, state=event.type)

    def as_dict(self) -> dict[str, Any]:
        """The job so far, as JSON values."""
        return self._facts


def describe_task(task: Task) -> dict[str, Any]:
    """The facts of a task for the result pane: its recipe's, or its title alone."""
    if isinstance(task, Generate):
        return describe_recipe(task.recipe)
    facts: dict[str, Any] = {"prompt": task.title, "count": task.picture_count}
    if task.images:
        facts["before"] = task.images[0].sha256
    return facts


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """The facts of a recipe for the result pane; long prompts are cut, seeds are text.

    before: sha256 of the picture that the result can be compared with, laid out as `resize` says.
    """
    facts = {
        "prompt": recipe.prompt[:_PROMPT_SHOWN],
        "model": recipe.model.name,
        "sampler": recipe.sampler,
        "schedule": recipe.schedule,
        "steps": recipe.steps,
        "guidance": recipe.guidance,
        "width": recipe.width,
        "height": recipe.height,
        "seed": recipe.seed_text,
        "count": recipe.count,
    }
    init_image = recipe.init_image
    if init_image and not init_image.outpaint:
        facts |= {"before": init_image.image.sha256, "resize": init_image.resize}
    return facts


def describe_image(record: ImageRecord) -> dict[str, Any]:
    """A finished picture for a cell of the result pane."""
    return {
        "id": record.id,
        "width": record.width,
        "height": record.height,
        "seed": record.recipe.seed_text if record.recipe else "",
        "favorite": record.favorite,
    }


def make_runner(studio: Studio) -> Callable[[str, gr.Request], AsyncIterator[str]]:
    """The generation event of a page over this studio."""

    async def run(raw: str, request: gr.Request) -> AsyncIterator[str]:
        stream = ""
        try:
            wanted = RunRequest.read(raw)
            stream = wanted.stream
            async for facts in _follow_job(studio, wanted, page_owner(request)):
                yield _without_markup({"stream": stream, **facts})
        except StudioError as error:
            yield _without_markup({"stream": stream, "type": "refused", **error.as_dict()})

    return run


def _without_markup(facts: dict[str, Any]) -> str:
    """JSON without "<": gradio looks for tags in everything that it takes for HTML."""
    return json.dumps(facts).replace("<", "\\u003c")


async def _follow_job(studio: Studio, wanted: RunRequest, owner: str) -> AsyncIterator[dict[str, Any]]:
    job_id = await asyncio.to_thread(_submit_or_find, studio, wanted, owner)
    if job_id is None:
        yield {"type": "nothing"}
        return
    view = await asyncio.to_thread(studio.job, job_id, owner)
    panel = Panel(view, await asyncio.to_thread(_result_size, studio, view.job.task, owner))
    if view.job.state in ("queued", "running"):  # the events of an ended job come at once
        yield panel.as_dict()
    # Gradio ends a handler whose page has gone only when it yields again; until then the job would count as followed,
    # and no other window would take it up.
    followed = follow_with_heartbeats(studio.event_log(job_id, owner), wanted.cursor, _HEARTBEAT_S)
    async with aclosing(followed) as items:
        async for item in items:
            if item is not None:
                panel.add(*item)
            yield panel.as_dict()


def _submit_or_find(studio: Studio, wanted: RunRequest, owner: str) -> str | None:
    """The id of the job to follow, which a draft begins."""
    if wanted.draft is not None:
        draft = parse_draft(json.dumps(wanted.draft))
        return studio.submit(draft, owner, session=wanted.session, key=wanted.key).id
    if wanted.follow is not None:
        return wanted.follow
    record = studio.job_to_follow(owner, wanted.session)
    return record.id if record else None


def _result_size(studio: Studio, task: Task, owner: str) -> dict[str, int]:
    """Width and height of the result where they are not the recipe's: upscaled, a hires pass, or pasted back."""
    size = None
    if isinstance(task, Upscale):
        before = studio.upload_size(task.image.sha256, owner)
        size = upscaled_size(before, task.scale) if before else None
    elif isinstance(task, Generate):
        recipe, mask = task.recipe, task.recipe.mask
        if recipe.hires:
            size = hires_size((recipe.width, recipe.height), recipe.hires.scale)
        elif mask and recipe.init_image and (mask.area == "masked" or mask.keep_size):
            size = studio.upload_size(recipe.init_image.image.sha256, owner)
    # The engine reports a missing image.
    return {"width": size[0], "height": size[1]} if size else {}


def page_owner(request: gr.Request) -> str:
    """The owner of a page: the middleware read it from the signed cookie."""
    owner = request.request.scope["state"]["owner"]  # type: ignore[union-attr]
    return str(owner)
