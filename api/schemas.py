"""The JSON of all responses: contract records flattened for clients.

Seeds are decimal text beside the recipe (JavaScript loses integer bits above 2^53), times are seconds since
the epoch, owners are left out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel

from catalog.guidance import GUIDANCE_METHODS
from catalog.model_fields import about_fields, model_fields
from catalog.models import ModelEntry
from catalog.samplers import SAMPLERS, SCHEDULES, schedules_for
from catalog.upscalers import UPSCALERS
from contract.events import JobEvent, Saved, Step
from contract.recipe import Recipe
from contract.records import EngineStatus, ImageRecord, JobHandle, JobRecord, JobView, QueueRow, StoredUpload
from contract.tasks import Upscale


class Failure(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    hint: str


class Accepted(BaseModel):
    """A job that waits: `position` jobs run or wait before it.

    `jobs` has the id of every job that the request made, in order, `id` first. There is one, except where a dynamic
    prompt is drawn anew for each of several pictures.
    """

    id: str
    position: int
    jobs: tuple[str, ...]


def accepted(handle: JobHandle) -> Accepted:
    """The answer for jobs that were queued."""
    return Accepted(id=handle.id, position=handle.position, jobs=(handle.id, *handle.further))


class JobStatus(BaseModel):
    """A job, its position and progress, and its results."""

    id: str
    state: str
    position: int | None
    progress: float  # of the whole job, 0..1
    image: int
    step: int
    total_steps: int
    left_s: float | None
    done_bytes: int | None  # of a download
    total_bytes: int | None
    image_ids: tuple[str, ...]
    error: Failure | None
    notices: tuple[str, ...] = ()  # did not stop the job; only for a single job
    type: str
    title: str
    seed: str | None
    recipe: Recipe | None
    prepared: tuple[StoredUpload, ...]
    session: str | None
    attempt: int
    created_at: float
    finished_at: float | None


class JobList(BaseModel):
    """Unfinished jobs, oldest first."""

    jobs: tuple[JobStatus, ...]


class Picture(BaseModel):
    """A picture of the gallery; `url` is the PNG."""

    id: str
    url: str
    thumbnail_url: str
    created_at: float
    width: int
    height: int
    seed: str | None
    recipe: Recipe | None
    upscale: Upscale | None
    job_id: str
    parent: str | None
    favorite: bool
    tags: tuple[str, ...]
    seconds: float | None
    missing: bool


class PicturePage(BaseModel):
    """Newest first; give `next_before` as `before` for the next page."""

    images: tuple[Picture, ...]
    next_before: str | None
    total: int


class Found(BaseModel):
    """The generation parameters of an image. `draft` can be posted as a job."""

    draft: dict[str, Any] | None
    infotext: str | None
    unknown: tuple[str, ...]
    notices: tuple[str, ...]


class Distilled(BaseModel):
    """What a method of distillation wants of a recipe: the least and the most, and what to begin with."""

    method: str
    steps: tuple[int, int]
    guidance: tuple[float, float]
    sampler: str
    schedule: str
    usual_steps: int
    usual_guidance: float
    summary: str  # in words


class ModelRow(BaseModel):
    """A model that was found; `problem` says why it can't be used, `warnings` which of its settings are left out.

    Names are unique within a kind.
    """

    name: str
    kind: str
    title: str
    alias: str  # its maker's name for it, where that is another
    family: str
    family_label: str
    detail: str  # more about its kind: LoCon, LoHa, SD 3.5 medium
    format: str  # folder, file, pickle
    folder: str  # its subfolder, to group by
    size_bytes: int
    modified: float  # seconds since the epoch
    short_hash: str  # the first ten digits of its sha256; "" until it is known
    description: str
    sizes: dict[str, tuple[int, int]]  # a checkpoint's
    defaults: dict[str, str | int | float]  # a checkpoint's
    examples: tuple[str, ...]
    trigger_words: tuple[str, ...]
    advice: dict[str, str | int | float]  # by its notes, for a form to begin with: clip_skip, negative_prompt, weight
    distilled: Distilled | None  # what its names hint it was distilled to want; a hint, and not certain
    zero_snr: bool
    is_edm: bool  # a checkpoint of EDM (Playground v2.5), with which fewer samplers and schedules go
    prediction: str | None  # what a checkpoint predicts by the word of the machine's owner; null: as its files say
    variant: str  # the input of a checkpoint: text, inpaint, edit, depth
    has_vae: bool
    token_limit: int
    words: tuple[str, ...]
    control_type: tuple[str, ...]
    has_preview: bool
    problem: str | None
    hint: str
    warnings: tuple[str, ...]


class Model(ModelRow):
    """A model with its notes. about: version, base_model, author, license, link, as far as its side files say them."""

    notes: str
    about: dict[str, str]
    predictions: tuple[str, ...]  # what a checkpoint may be set to predict; none where its files decide


class ModelList(BaseModel):
    models: tuple[ModelRow, ...]


class SamplerFacts(BaseModel):
    """A sampler and the schedules that go with it."""

    id: str
    label: str
    aliases: tuple[str, ...]
    schedules: tuple[str, ...]
    zero_snr_schedules: tuple[str, ...]
    flow_schedules: tuple[str, ...]  # of models of rectified flow (SD 3); none: it does not go with them
    edm_schedules: tuple[str, ...]  # of models of EDM
    automatic: str
    is_stochastic: bool
    settings: tuple[str, ...]
    difference: str


class ScheduleFacts(BaseModel):
    id: str
    label: str
    aliases: tuple[str, ...]


class SamplerList(BaseModel):
    samplers: tuple[SamplerFacts, ...]
    schedules: tuple[ScheduleFacts, ...]


class GuidanceParameter(BaseModel):
    """A number from `least` to `most`, one of `choices` (id, label) where there are some, or the points of a curve."""

    id: str
    label: str
    default: float | str
    least: float
    most: float
    choices: tuple[tuple[str, str], ...]


class GuidanceMethodFacts(BaseModel):
    """A method beside classifier-free guidance; denoisers: what a model must have."""

    id: str
    label: str
    aliases: tuple[str, ...]
    does: str
    denoisers: tuple[str, ...]
    parameters: tuple[GuidanceParameter, ...]


class GuidanceMethodList(BaseModel):
    guidance_methods: tuple[GuidanceMethodFacts, ...]


class UpscalerFacts(BaseModel):
    """A way to upscale, by its name in recipes."""

    name: str
    label: str
    is_latent: bool
    is_model: bool


class UpscalerList(BaseModel):
    upscalers: tuple[UpscalerFacts, ...]


class Health(BaseModel):
    """The health of the program and the state of its engine."""

    status: str
    name: str
    version: str
    engine: EngineStatus


class PageState(BaseModel):
    """Whether the page at "/" is there; until then it says that Darkroom is starting."""

    ready: bool


class Queue(BaseModel):
    """Now, waiting, and finished today. Rows of others carry no job id, prompt or picture."""

    rows: tuple[QueueRow, ...]


def job_status(view: JobView, notices: tuple[str, ...] = ()) -> JobStatus:
    """A job with its progress."""
    job = view.job
    failure = None
    if job.error_code is not None:
        failure = Failure(code=job.error_code, message=job.error_message or "", hint=job.error_hint or "")
    return JobStatus(
        id=job.id,
        state=job.state,
        position=view.position,
        progress=view.progress,
        image=view.image,
        step=view.step,
        total_steps=view.total_steps,
        left_s=view.left_s,
        done_bytes=view.done_bytes,
        total_bytes=view.total_bytes,
        image_ids=job.image_ids,
        error=failure,
        notices=notices,
        type=job.task.type,
        title=job.task.title,
        seed=job.recipe.seed_text if job.recipe else None,
        recipe=job.recipe,
        prepared=job.prepared,
        session=job.session,
        attempt=job.attempt,
        created_at=job.created_at,
        finished_at=job.finished_at,
    )


def job_row(record: JobRecord) -> JobStatus:
    """A job without its progress."""
    return job_status(JobView(job=record))


def picture(record: ImageRecord) -> Picture:
    """A picture with the addresses of its files."""
    address = f"/api/v1/images/{record.id}"
    return Picture(
        id=record.id,
        url=address,
        thumbnail_url=f"{address}/thumbnail",
        created_at=record.created_at,
        width=record.width,
        height=record.height,
        seed=record.recipe.seed_text if record.recipe else None,
        recipe=record.recipe,
        upscale=record.upscale,
        job_id=record.job_id,
        parent=record.parent,
        favorite=record.favorite,
        tags=record.tags,
        seconds=record.seconds,
        missing=record.missing,
    )


def event_fields(event: JobEvent) -> dict[str, Any]:
    """An event as JSON values: previews are data URIs, pictures have addresses."""
    fields: dict[str, Any] = event.model_dump(mode="json", exclude={"preview", "record"})
    if isinstance(event, Step):
        fields["preview"] = event.preview_uri
    if isinstance(event, Saved):
        fields["record"] = picture(event.record).model_dump(mode="json")
    return fields


def draft_fields(draft: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A draft with its seed as text, which JavaScript can't round."""
    if draft is None:
        return None
    seed = draft.get("seed")
    return {**draft, "seed": str(seed)} if isinstance(seed, int) else dict(draft)


def model_details(entry: ModelEntry) -> Model:
    """A model with its notes, without its path on this machine."""
    return Model(**model_fields(entry), **about_fields(entry), notes=entry.notes)


def model_list(entries: Iterable[ModelEntry]) -> ModelList:
    """Models without their notes, which may be long."""
    return ModelList(models=tuple(ModelRow(**model_fields(entry)) for entry in entries))


def upscaler_list(entries: Iterable[ModelEntry]) -> UpscalerList:
    """The built-in ones, then the models that can be used."""
    found = []
    for upscaler in UPSCALERS.values():
        found.append(
            UpscalerFacts(name=upscaler.id, label=upscaler.label, is_latent=upscaler.is_latent, is_model=False)
        )
    for entry in entries:
        if entry.problem is None:
            found.append(UpscalerFacts(name=entry.ref.name, label=entry.title, is_latent=False, is_model=True))
    return UpscalerList(upscalers=tuple(found))


def guidance_method_list() -> GuidanceMethodList:
    """All methods of guidance, with their parameters."""
    methods = [GuidanceMethodFacts.model_validate(asdict(method)) for method in GUIDANCE_METHODS.values()]
    return GuidanceMethodList(guidance_methods=tuple(methods))


def sampler_list() -> SamplerList:
    """All samplers and schedules with the pairs that are offered."""
    samplers = []
    for sampler in SAMPLERS.values():
        samplers.append(
            SamplerFacts(
                id=sampler.id,
                label=sampler.label,
                aliases=sampler.aliases,
                schedules=sampler.schedules,
                zero_snr_schedules=schedules_for(sampler, zero_snr=True),
                edm_schedules=schedules_for(sampler, is_edm=True),
                flow_schedules=schedules_for(sampler, is_flow=True),
                automatic=sampler.automatic,
                is_stochastic=sampler.is_stochastic,
                settings=sampler.settings,
                difference=sampler.difference,
            )
        )
    schedules = [ScheduleFacts(id=item.id, label=item.label, aliases=item.aliases) for item in SCHEDULES.values()]
    return SamplerList(samplers=tuple(samplers), schedules=tuple(schedules))
