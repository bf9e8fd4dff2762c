"""Figures 3 and 18 of the performance page: what the worker process and the queue cost a job.

Called by `overhead.py`, with the same subjects. Jobs go through the very parts that the program uses.
"""

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch

from benchmarks.measure import Figure, Work, figure
from catalog.models import ModelEntry
from contract.recipe import Recipe, RecipeDraft
from contract.records import EngineStatus
from contract.work import WorkDone, Worker, WorkItem
from engine.device.devices import choose_device
from engine.images import vae
from engine.models.bundle import Bundle
from engine.models.manager import ModelManager
from studio.settings import Settings
from studio.studio import Studio
from studio.workers.inline import InlineWorker
from studio.workers.process import ProcessWorker

JOBS = 4
READY_LIMIT_S = 300.0
BareLoop = Callable[[Bundle, Recipe], Callable[[], torch.Tensor]]


class Subject(Protocol):
    """What overhead.py measures on."""

    entry: ModelEntry

    def recipe(self) -> Recipe: ...

    def work_item(self, *, wants_previews: bool) -> WorkItem: ...


@contextmanager
def running(worker: Worker) -> Iterator[Worker]:
    """A worker that has loaded its model."""
    ready = threading.Event()

    def hear(status: EngineStatus) -> None:
        if status.state == "ready":
            ready.set()

    worker.start(hear)
    try:
        assert ready.wait(READY_LIMIT_S), worker.status().text
        yield worker
    finally:
        worker.stop()


def job(worker: Worker, work_item: WorkItem) -> Work:
    """One job on a worker; every event is taken."""

    def run() -> None:
        *_, ending = worker.run([work_item])
        assert isinstance(ending, WorkDone), ending

    return run


def through_the_process(subject: Subject, name: str, rounds: int) -> Figure:
    """Figure 3."""
    warm = (str(subject.entry.path), subject.entry.ref)
    work_item = subject.work_item(wants_previews=True)
    with running(InlineWorker({}, warm)) as inline, running(ProcessWorker({}, warm)) as process:
        return figure(
            "3",
            f"worker, {name}",
            job(inline, work_item),
            job(process, work_item),
            peer="inline worker",
            goal=1.01 if name.startswith("SD") else 1.05,
            limit=1.05,
            rounds=rounds,
        )


def through_the_queue(subject: Subject, name: str, rounds: int, bare_loop: BareLoop) -> Figure:
    """Figure 18: so many jobs submitted at once, until the last picture is saved."""
    models = ModelManager(choose_device())
    recipe = subject.recipe()
    warm = (str(subject.entry.path), subject.entry.ref)
    with (
        models.lease(subject.entry.ref, str(subject.entry.path)) as bundle,
        tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder,
    ):
        loop = bare_loop(bundle, recipe)

        def bare() -> None:
            for _ in range(JOBS):
                vae.decode(loop(), bundle)

        settings = Settings(data_dir=Path(folder), model_dirs=(subject.entry.path.parent,))
        studio = Studio(settings, ProcessWorker({}, warm))
        studio.start()
        try:
            draft = RecipeDraft.model_validate_json(recipe.canonical_json())
            queued = submit_and_wait(studio, draft)
            queued()  # the engine is loaded, the model's hash is known
            return figure(
                "18",
                f"queue of {JOBS}, {name}",
                bare,
                queued,
                peer="bare loops and decodes",
                goal=1.03,
                limit=1.1,
                rounds=rounds,
            )
        finally:
            studio.stop()


def submit_and_wait(studio: Studio, draft: RecipeDraft) -> Work:
    """Put the jobs in the queue and wait until all have ended."""

    def run() -> None:
        ids = [studio.submit(draft, "bench").id for _ in range(JOBS)]
        for job_id in ids:
            event_log, woken = studio.event_log(job_id, "bench"), threading.Event()
            unsubscribe = event_log.subscribe(woken.set)
            while not event_log.since(0).ended:
                assert woken.wait(READY_LIMIT_S)
                woken.clear()
            unsubscribe()
            assert studio.job(job_id, "bench").job.state == "done"

    return run
