"""Builds what a worker gets for a job: the task, where its models lie, the pixels of its input pictures."""

from contract.errors import ModelProblem
from contract.records import JobRecord
from contract.tasks import Paint
from contract.work import Ticket
from studio.model_list import ModelList


def build_ticket(job: JobRecord, models: ModelList, finished: frozenset[int], *, previews: bool) -> Ticket:
    """A ticket for one attempt.

    Raises:
        ModelProblem: the model is gone, damaged, or no longer the one that was asked for.
    """
    wanted = job.recipe.model
    entry = models.as_it_is_now(wanted.name)
    if entry is None:
        raise ModelProblem(f"Model “{wanted.name}” is gone.", "Put it back, or choose another model.")
    if entry.problem:
        raise ModelProblem(entry.problem, entry.hint)
    if wanted.fingerprint and entry.ref.fingerprint != wanted.fingerprint:
        raise ModelProblem(f"{entry.title} changed on the disk after the job was queued.",
                           "Run the job again to use it as it is now.")
    return Ticket(job_id=job.id, attempt=job.attempt, task=Paint(recipe=job.recipe),
                  model_paths={wanted.name: str(entry.path)}, finished=finished, wants_previews=previews)
