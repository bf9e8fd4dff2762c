"""Chooses the model to read ahead: the next job's, while the current one generates."""

from contract.records import JobRecord
from contract.tasks import Generate
from contract.work import Prefetch
from studio.jobs.queue import JobQueue
from studio.library.model_list import ModelList


def read_ahead(running: JobRecord, queue: JobQueue, models: ModelList) -> Prefetch | None:
    """The checkpoint of the job that comes next, unless the running one has it.

    If something is wrong with it, that job will say so itself.
    """
    following = queue.next(0.0)
    if following is None or not isinstance(following.task, Generate):
        return None
    wanted = following.task.recipe.model
    if isinstance(running.task, Generate) and running.task.recipe.model.fingerprint == wanted.fingerprint:
        return None
    entry = models.as_it_is_now(wanted.name)
    if entry is None or entry.problem or entry.ref.fingerprint != wanted.fingerprint:
        return None
    return Prefetch(entry.ref, str(entry.path))
