"""Builds the work item that a worker gets for a job: the task, the paths of its models, the bytes of its images."""

from pathlib import Path

from catalog.detect.preview_decoders import preview_decoders
from contract.errors import ModelProblem
from contract.records import JobRecord
from contract.tasks import Generate
from contract.work import WorkItem, path_key
from studio.library.model_list import ModelList
from studio.uploads.uploads import Uploads


def build_work_item(
    job: JobRecord, models: ModelList, uploads: Uploads, finished: frozenset[int], *, previews: bool
) -> WorkItem:
    """A work item for one attempt.

    Raises:
        ModelProblem: a model is gone, damaged, or no longer the one that was queued.
        InvalidInput: an image that it names is gone or damaged.
    """
    paths: dict[str, str] = {}
    has_own_latents = False
    for ref in job.task.models:
        entry = models.as_it_is_now(ref.name, ref.kind)
        if entry is None:
            raise ModelProblem(f"Model “{ref.name}” is gone.", "Put it back, or choose another model.")
        if entry.problem:
            raise ModelProblem(entry.problem, entry.hint)
        if ref.fingerprint and entry.ref.fingerprint != ref.fingerprint:
            raise ModelProblem(
                f"{entry.title} changed on the disk after the job was queued.",
                "Run the job again to use it as it is now.",
            )
        paths[path_key(ref)] = str(entry.path)
        has_own_latents = has_own_latents or entry.has_own_latents
    decoders: tuple[Path, ...] = ()
    if previews and isinstance(job.task, Generate) and not has_own_latents:  # which tiny decoders don't know
        decoders = preview_decoders(Path(paths[path_key(job.task.recipe.model)]), models.folders)
    return WorkItem(
        job_id=job.id,
        attempt=job.attempt,
        task=job.task,
        images={image.sha256: uploads.read(image.sha256) for image in job.task.images},
        model_paths=paths,
        finished=finished,
        wants_previews=previews,
        preview_decoders=tuple(map(str, decoders)),
    )
