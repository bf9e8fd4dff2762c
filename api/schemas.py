"""What goes out as JSON: contract records flattened for programs and pages.

Seeds are decimal text beside the recipe (JavaScript loses integer bits above 2^53), times are seconds since
the epoch, owners stay inside.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from catalog.families import label_of
from catalog.models import ModelEntry
from catalog.samplers import SAMPLERS, SCHEDULES, schedules_for
from catalog.upscalers import UPSCALERS
from contract.events import JobEvent, Saved, Step
from contract.recipe import Recipe
from contract.records import EngineStatus, ImageRecord, JobRecord, JobView, QueueRow, StoredUpload
from contract.tasks import Upscale


class Failure(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    hint: str


class Accepted(BaseModel):
    """A job that waits: `position` jobs run or wait before it."""

    id: str
    position: int


class JobStatus(BaseModel):
    """A job, where it is, and what it made."""

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
    notices: tuple[str, ...] = ()  # what is worth knowing and stopped nothing; of one job looked at
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
    """What a picture says of how it was made. `draft` can be posted as a job."""

    draft: dict[str, Any] | None
    infotext: str | None
    unknown: tuple[str, ...]
    notices: tuple[str, ...]


class ModelRow(BaseModel):
    """A model that was found; `problem` says why it can't be used, `warnings` what its settings say wrongly.

    Names are unique within a kind.
    """

    name: str
    kind: str
    title: str
    alias: str  # the name its maker gave it, where that is another
    family: str
    family_label: str
    detail: str  # more of what it is: LoCon, LoHa, SD 3.5 medium
    format: str  # folder, file, pickle
    folder: str  # the subfolder it lies in, to group by
    size_bytes: int
    modified: float  # seconds since the epoch
    short_hash: str  # the first ten digits of its sha256; "" until it is known
    description: str
    sizes: dict[str, tuple[int, int]]  # a checkpoint's
    defaults: dict[str, str | int | float]  # a checkpoint's
    examples: tuple[str, ...]
    trigger_words: tuple[str, ...]
    zero_snr: bool
    variant: str  # what a checkpoint works from: text, inpaint, edit, depth
    has_vae: bool
    token_limit: int
    words: tuple[str, ...]
    control_type: tuple[str, ...]
    has_preview: bool
    problem: str | None
    hint: str
    warnings: tuple[str, ...]


class Model(ModelRow):
    """A model with all that is known of it."""

    notes: str


class ModelList(BaseModel):
    models: tuple[ModelRow, ...]


class SamplerFacts(BaseModel):
    """A solver and the schedules that make sense with it."""

    id: str
    label: str
    aliases: tuple[str, ...]
    schedules: tuple[str, ...]
    zero_snr_schedules: tuple[str, ...]
    automatic: str
    is_stochastic: bool


class ScheduleFacts(BaseModel):
    id: str
    label: str
    aliases: tuple[str, ...]


class SamplerList(BaseModel):
    samplers: tuple[SamplerFacts, ...]
    schedules: tuple[ScheduleFacts, ...]


class UpscalerFacts(BaseModel):
    """A way to upscale, by its name in recipes."""

    name: str
    label: str
    is_latent: bool
    is_model: bool


class UpscalerList(BaseModel):
    upscalers: tuple[UpscalerFacts, ...]


class Health(BaseModel):
    """That the program answers, and what its engine does."""

    status: str
    name: str
    version: str
    engine: EngineStatus


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
        seed=_seed(job.recipe),
        recipe=job.recipe,
        prepared=job.prepared,
        session=job.session,
        attempt=job.attempt,
        created_at=job.created_at,
        finished_at=job.finished_at,
    )


def _seed(recipe: Recipe | None) -> str | None:
    return str(recipe.seed) if recipe else None


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
        seed=_seed(record.recipe),
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
        data = event.preview and base64.b64encode(event.preview).decode()
        fields["preview"] = f"data:image/jpeg;base64,{data}" if data else None
    if isinstance(event, Saved):
        fields["record"] = picture(event.record).model_dump(mode="json")
    return fields


def draft_fields(draft: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A draft whose seed survives JavaScript."""
    if draft is None:
        return None
    seed = draft.get("seed")
    return {**draft, "seed": str(seed)} if isinstance(seed, int) else dict(draft)


def model(entry: ModelEntry) -> Model:
    """A model without its place on this machine."""
    return Model(**_model_fields(entry), notes=entry.notes)


def model_list(entries: Iterable[ModelEntry]) -> ModelList:
    """Models without their notes, which may be long."""
    return ModelList(models=tuple(ModelRow(**_model_fields(entry)) for entry in entries))


def _model_fields(entry: ModelEntry) -> dict[str, Any]:
    defaults = entry.defaults
    return {
        "name": entry.ref.name,
        "kind": entry.ref.kind,
        "title": entry.title,
        "alias": entry.alias,
        "family": entry.ref.family,
        "family_label": label_of(entry.ref.family),
        "detail": entry.detail,
        "format": entry.format,
        "folder": entry.folder,
        "size_bytes": entry.size_bytes,
        "modified": entry.modified,
        "short_hash": entry.short_hash,
        "description": entry.description,
        "sizes": dict(entry.sizes),
        "defaults": {}
        if entry.ref.kind != "checkpoint"
        else {
            "sampler": defaults.sampler,
            "schedule": defaults.schedule,
            "steps": defaults.steps,
            "guidance": defaults.guidance,
            "width": defaults.width,
            "height": defaults.height,
        },
        "examples": entry.examples,
        "trigger_words": entry.trigger_words,
        "zero_snr": entry.zero_snr,
        "variant": entry.variant,
        "has_vae": entry.has_vae,
        "token_limit": entry.token_limit,
        "words": tuple(sorted(entry.words)),
        "control_type": entry.control_type,
        "has_preview": entry.preview_path is not None,
        "problem": entry.problem,
        "hint": entry.hint,
        "warnings": entry.warnings,
    }


def upscalers(entries: Iterable[ModelEntry]) -> UpscalerList:
    """The built-in ones, then the models that can be used."""
    built_in = (
        UpscalerFacts(name=u.id, label=u.label, is_latent=u.is_latent, is_model=False) for u in UPSCALERS.values()
    )
    models = (
        UpscalerFacts(name=entry.ref.name, label=entry.title, is_latent=False, is_model=True)
        for entry in entries
        if entry.problem is None
    )
    return UpscalerList(upscalers=(*built_in, *models))


def samplers() -> SamplerList:
    """All samplers and schedules with the pairs that are offered."""
    return SamplerList(
        samplers=tuple(
            SamplerFacts(
                id=s.id,
                label=s.label,
                aliases=s.aliases,
                schedules=s.schedules,
                zero_snr_schedules=schedules_for(s, zero_snr=True),
                automatic=s.automatic,
                is_stochastic=s.is_stochastic,
            )
            for s in SAMPLERS.values()
        ),
        schedules=tuple(ScheduleFacts(id=s.id, label=s.label, aliases=s.aliases) for s in SCHEDULES.values()),
    )
