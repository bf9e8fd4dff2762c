"""Fixtures: a studio on an empty data folder with a fake worker."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from catalog.models import ModelEntry
from contract.events import JobEvent, is_ending
from contract.recipe import Recipe, RecipeDraft
from contract.work import Worker
from studio.library.model_list import ModelList
from studio.resolve.draft import resolve
from studio.resolve.model_finder import Finder
from studio.settings import Settings
from studio.studio import Studio
from tests.support.fakes import FakeWorker
from tests.support.model_folders import make_model

ME, YOU = "owner-me", "owner-you"


def settings_for(folder: Path, **changes: object) -> Settings:
    """Settings of a data folder with one tiny model."""
    if not (folder / "models").exists():
        make_model(folder / "models")
    values = {"model_dirs": (folder / "models",), **changes}
    return Settings(data_dir=folder, **values)  # type: ignore[arg-type]


def draft(prompt: str = "a red barn", **fields: object) -> RecipeDraft:
    return RecipeDraft.model_validate({"prompt": prompt, **fields})


class FixedModels(ModelList):
    """A list of models without files."""

    def __init__(self, entries: Sequence[ModelEntry]) -> None:
        super().__init__(())
        self._fixed = tuple(entries)

    def all(self, *, fresh: bool = False) -> tuple[ModelEntry, ...]:
        return self._fixed

    def now(self, entry: ModelEntry) -> ModelEntry:
        return entry


def resolved(models: ModelList, **fields: Any) -> Recipe:
    """The recipe that a draft becomes."""
    return resolve(draft(**fields), Finder(models), max_pixels=2048 * 2048).recipe


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Ask until it holds; fails when it does not in time."""
    deadline = time.monotonic() + timeout_s
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        tick.wait(0.005)


def finish(studio: Studio, job_id: str, owner: str = ME, timeout_s: float = 10.0) -> list[JobEvent]:
    """Follow a job to its end; returns all its events as a late follower sees them."""
    event_log = studio.event_log(job_id, owner)
    woken = threading.Event()
    unsubscribe = event_log.subscribe(woken.set)
    deadline = time.monotonic() + timeout_s
    while not event_log.since(0).ended:
        assert time.monotonic() < deadline, event_log.since(0).events
        woken.wait(0.05)
        woken.clear()
    unsubscribe()
    events = list(event_log.since(0).events)
    assert is_ending(events[-1])
    wait_until(lambda: studio.job(job_id, owner).job.state not in ("queued", "running"))
    return events


def run(studio: Studio, prompt: str = "a red barn", owner: str = ME, **fields: object) -> list[JobEvent]:
    """Submit a job and follow it to its end."""
    return finish(studio, studio.submit(draft(prompt, **fields), owner).id, owner)


@pytest.fixture
def worker() -> FakeWorker:
    return FakeWorker()


@pytest.fixture
def make_studio(tmp_path: Path) -> Iterator[Callable[..., Studio]]:
    """A function that starts a studio on the test's folder; all are stopped at the end."""
    started: list[Studio] = []

    def make(worker: Worker | None = None, **changes: object) -> Studio:
        studio = Studio(settings_for(tmp_path, **changes), worker or FakeWorker())
        started.append(studio)
        studio.start()
        return studio

    yield make
    for studio in started:
        studio.stop()


@pytest.fixture
def studio(make_studio: Callable[..., Studio], worker: FakeWorker) -> Studio:
    return make_studio(worker)
