"""Jobs side by side: what several of them ask of the denoiser is evaluated in one batch. A job may join at any step.

Each job runs in a thread of its own as it would alone, but only while `SideBySide` waits for it, so that one thread
runs at a time. It gives up its turn with every event, and where it calls the denoiser. When all have asked, their
latents are evaluated together, as far as their shapes are equal, and each goes on with its part. Timesteps, seeds,
guidance and samplers stay each job's own.
Equal noise, not equal bits: on a card a larger batch rounds otherwise. What runs alone has the bits that it always had.
"""

import logging
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from catalog.batching import batch_key
from contract.errors import StudioError
from contract.tasks import Generate, Task
from contract.work import WorkerEvent, WorkImage, WorkStep
from engine.device.batch_table import BatchTable, synchronized_clock
from engine.device.devices import release
from engine.errors import is_out_of_memory
from engine.sampling.denoise import Conditions, ControlResiduals, Predict

log = logging.getLogger(__name__)


class _Abandoned(BaseException):
    """Ends a job's thread at the place where it waits."""


@dataclass(slots=True)
class Request:
    """One evaluation of the denoiser that a job waits for. Attributes as of `Predict`.

    Attributes:
        kind: Requests of different kinds are never evaluated together.
        prediction: The answer; None where the job has to evaluate alone.
    """

    predict: Predict
    kind: str
    latents: Tensor
    timestep: Tensor
    conditions: Conditions
    prediction: Tensor | None = None

    @property
    def shapes(self) -> tuple[object, ...]:
        """Equal for requests that can be evaluated together."""
        embeds, added = self.conditions.prompt_embeds, self.conditions.added or {}
        of_added = tuple((name, value.dtype, value.shape[1:]) for name, value in sorted(added.items()))
        return (self.kind, self.latents.shape[1:], embeds.dtype, embeds.shape[1:], of_added)

    def repeat(self, times: int) -> None:
        """Evaluate it so many times in one batch, to see how long that takes."""
        evaluate_together([replace(self) for _ in range(times)])


def shape_of(task: Task) -> str:
    """What a device's batches are measured by."""
    if not isinstance(task, Generate):
        return ""
    recipe = task.recipe
    guided = "" if recipe.guidance == 1 else ", guided"
    return f"{recipe.model.family} {recipe.width}×{recipe.height}{guided}"


@torch.inference_mode()
def evaluate_together(requests: Sequence[Request]) -> None:
    """Evaluate requests of equal shapes in one batch, and set their predictions."""
    sizes = [len(request.latents) for request in requests]
    # Whole timesteps and those between them: the same numbers in float32.
    steps = [request.timestep.float().expand(size) for request, size in zip(requests, sizes, strict=True)]
    embeds = torch.cat([request.conditions.prompt_embeds for request in requests])
    added = {
        name: torch.cat([(request.conditions.added or {})[name] for request in requests])
        for name in requests[0].conditions.added or {}
    }
    latents = torch.cat([request.latents for request in requests])
    predictions = requests[0].predict(latents, torch.cat(steps), Conditions(embeds, added=added or None), None)
    for request, prediction in zip(requests, predictions.split(sizes), strict=True):
        request.prediction = prediction


class SharingJob:
    """A job in a thread of its own, which runs only within `go_on`.

    Attributes:
        request: What it waits for; None while it has something else to do.
        is_done: Its events are over.
    """

    def __init__(self, device: torch.device) -> None:
        self.request: Request | None = None
        self.is_done = False
        self._batches: list[int] = []
        self._device = device
        self._event: WorkerEvent | None = None
        self._is_abandoned = False
        self._turn, self._turn_is_over = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="job")
        self._outcome: Future[None] | None = None

    def start(self, events: Generator[WorkerEvent, None, None]) -> None:
        """Take the events that the thread is to make; none is made before `go_on`."""
        self._outcome = self._thread.submit(self._run, events)
        self._thread.shutdown(wait=False)  # when it is done

    def go_on(self) -> WorkerEvent | None:
        """Let it run until its next event, which is returned, until it asks for an evaluation, or ends.

        Raises:
            Exception: what its events raised.
        """
        self._event = None
        self._turn.release()
        self._turn_is_over.acquire()
        if self.is_done and self._outcome is not None:
            self._outcome.result()
        return self._event

    def abandon(self) -> None:
        """End it where it waits; its leases are released."""
        self._is_abandoned = True
        while not self.is_done:
            self._turn.release()
            self._turn_is_over.acquire()

    def begin_image(self) -> None:
        """Count batches anew."""
        self._batches.clear()

    @property
    def batch(self) -> int:
        """The most jobs, itself included, that one evaluation took since `begin_image`."""
        return max(self._batches, default=1)

    @property
    def share(self) -> float:
        """Its part of these evaluations."""
        return sum(1 / batch for batch in self._batches) / len(self._batches) if self._batches else 1.0

    def count(self, batch: int) -> None:
        """An evaluation for so many jobs is done."""
        self._batches.append(batch)

    def sharing(self, predict: Predict, kind: str) -> Predict:
        """A denoiser as the loop calls it that shares its evaluations with those of other jobs.

        Args:
            kind: Of the evaluation; others are not of one batch with it.
        """

        def shared(
            latents: Tensor, timestep: Tensor, conditions: Conditions, residuals: ControlResiduals | None
        ) -> Tensor:
            if residuals is not None:
                return predict(latents, timestep, conditions, residuals)
            request = self.request = Request(predict, kind, latents, timestep, conditions)
            self._give_up_turn()
            self.request = None
            if request.prediction is None:
                return predict(latents, timestep, conditions, None)
            return request.prediction

        return shared

    def _run(self, events: Generator[WorkerEvent, None, None]) -> None:
        self._turn.acquire()
        try:
            if self._device.type == "cuda":
                torch.cuda.set_device(self._device)  # each thread has a current device of its own
            with closing(events):
                if self._is_abandoned:
                    return
                for event in events:
                    self._event = event
                    self._give_up_turn()
        finally:
            self.is_done = True
            self._turn_is_over.release()

    def _give_up_turn(self) -> None:
        if self._is_abandoned:
            raise _Abandoned
        self._turn_is_over.release()
        self._turn.acquire()
        if self._is_abandoned:
            raise _Abandoned


EventsOf = Callable[[SharingJob | None], Generator[WorkerEvent, None, None]]


class SideBySide:
    """The jobs that run at the moment: one, and those that joined it. For one thread.

    Attributes:
        most: How many may run at once.
    """

    def __init__(self, device: torch.device, table: BatchTable) -> None:
        self.most = 1
        self._device = device
        self._table = table
        self._key: tuple[object, ...] | None = None
        self._shape = ""
        self._jobs: list[SharingJob] = []
        self._latest: Request | None = None

    def run(self, task: Task, events_of: EventsOf) -> Iterator[WorkerEvent]:
        """The events of a job and of those that join it between two of them, until none is left.

        Args:
            events_of: Makes the job's events; it is given what the job shares its evaluations by, None if it can't.
        """
        key = batch_key(task)
        self._shape = shape_of(task)
        most = self._table.most(self._shape)
        if key is None or (most == 1 and self._table.knows(self._shape)):
            yield from events_of(None)
            return
        self._key, self.most = key, most
        self._add(events_of)
        try:
            while self._jobs:
                had_turns: set[SharingJob] = set()
                while left := [job for job in self._jobs if job not in had_turns]:  # those that join now included
                    had_turns.add(left[0])
                    yield from self._one_turn(left[0])
                self._evaluate([job for job in self._jobs if job.request is not None])
        finally:
            for job in self._jobs:
                job.abandon()
            self._jobs.clear()
            self._key, self._latest, self.most = None, None, 1

    def join(self, task: Task, events_of: EventsOf) -> bool:
        """Run another job beside those that run, from their next step on. Arguments as of `run`.

        Returns:
            False if it can't: nothing runs, it computes with other weights or at another size, or no more fit.
        """
        if self._key is None or batch_key(task) != self._key or len(self._jobs) >= self.most:
            return False
        self._add(events_of)
        return True

    def _add(self, events_of: EventsOf) -> None:
        job = SharingJob(self._device)
        job.start(events_of(job))
        self._jobs.append(job)

    def _one_turn(self, job: SharingJob) -> Iterator[WorkerEvent]:
        """Let a job go on to its next evaluation; what else it does takes one turn at a time, so that others go on."""
        while True:
            event = job.go_on()
            if job.is_done:
                self._jobs.remove(job)
            if event is not None:
                yield event
            if isinstance(event, WorkImage) and self._latest is not None and not self._table.knows(self._shape):
                # The image is there, and the job has not let go of the model yet.
                self._table.measure(self._shape, self._latest.repeat, synchronized_clock(self._device))
                self.most = self._table.most(self._shape)
            if job.is_done or job.request is not None or not isinstance(event, WorkStep):
                return

    def _evaluate(self, asking: Sequence[SharingJob]) -> None:
        groups: dict[tuple[object, ...], list[SharingJob]] = {}
        for job in asking:
            assert job.request is not None
            groups.setdefault(job.request.shapes, []).append(job)
            self._latest = job.request
        for group in groups.values():
            if len(group) == 1:
                group[0].count(1)
                continue  # it evaluates alone, in its own thread: to the bit as without others
            try:
                evaluate_together([job.request for job in group if job.request is not None])
            except (RuntimeError, MemoryError, ValueError, TypeError, StudioError) as error:
                # Each tries alone: then only the one at fault fails, or has less memory.
                log.warning("a batch of %d jobs is evaluated one by one: %s", len(group), str(error)[:150])
                traceback.clear_frames(error.__traceback__)
                if is_out_of_memory(error):
                    self.most = max(1, len(group) - 1)
                    release()
            for job in group:
                is_shared = job.request is not None and job.request.prediction is not None
                job.count(len(group) if is_shared else 1)
