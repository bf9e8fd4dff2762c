"""Conversions and merges in a process of their own: whole results or none, and no process left behind."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.errors import NotFound
from contract.model_tasks import Convert, Merge
from contract.recipe import ModelRef
from contract.work import WorkCancelled, WorkDone, WorkerEvent, WorkFailed, WorkItem, WorkLoading, WorkNotice
from studio.workers.model_tasks import DiskWorker

FUNCTIONS = ("tests.support.fake_model_tasks:convert", "tests.support.fake_model_tasks:merge")


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], DiskWorker]:
    """A worker whose pickle says this."""

    def worker(words: str) -> DiskWorker:
        (tmp_path / "old.ckpt").write_text(words)
        return DiskWorker(
            lambda task: tmp_path / "out" / "new.safetensors",
            lambda task: tmp_path / "old.ckpt",
            lambda: None,
            FUNCTIONS,
        )

    return worker


def run(worker: DiskWorker, task: Convert | Merge | None = None) -> list[WorkerEvent]:
    work_item = WorkItem("job", 1, task or Convert(model="old"), model_paths={"checkpoint/a": "/a"})
    return list(worker.run([work_item]))


def test_a_conversion_says_how_far_it_is_and_leaves_one_whole_file(
    make: Callable[[str], DiskWorker], tmp_path: Path
) -> None:
    said = run(make("partly fine"))
    assert [type(event) for event in said] == [WorkLoading, WorkNotice, WorkDone]
    assert said[0] == WorkLoading("job", "Reading", 0.5)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new.safetensors"]


def test_a_merge_gets_its_models_paths(make: Callable[[str], DiskWorker], tmp_path: Path) -> None:
    a = ModelRef(name="a", family="sd1")
    assert isinstance(run(make(""), Merge(name="m", a=a, b=a, ratio=0.25))[-1], WorkDone)
    assert (tmp_path / "out" / "new.safetensors").read_text() == "weighted 0.25 ['checkpoint/a']"


def test_a_name_that_was_taken_while_it_waited_is_left_as_it_is(
    make: Callable[[str], DiskWorker], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "new.safetensors").write_text("the first of this name")
    failed = run(make("fine"))[-1]
    assert isinstance(failed, WorkFailed) and failed.code == "name_taken" and "out/new.safetensors" in failed.message
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["the first of this name"]


@pytest.mark.parametrize(
    ("words", "code"), [("refuse", "model_problem"), ("break", "internal"), ("die", "model_task_died")]
)
def test_a_failure_has_words_and_leaves_no_file(
    make: Callable[[str], DiskWorker], tmp_path: Path, words: str, code: str
) -> None:
    failed = run(make(words))[-1]
    assert isinstance(failed, WorkFailed) and failed.code == code and failed.hint
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("end", ["cancel", "stop"])
def test_what_hangs_is_ended_from_outside_with_its_process(
    make: Callable[[str], DiskWorker], tmp_path: Path, end: str
) -> None:
    worker, said = make("hang"), []
    thread = threading.Thread(target=lambda: said.extend(run(worker)))
    thread.start()
    pid_file = tmp_path / "out" / "pid"
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < deadline
        thread.join(0.02)
    worker.cancel("another")
    began = time.monotonic()
    worker.cancel("job") if end == "cancel" else worker.stop()
    thread.join(5)
    assert time.monotonic() - began < 4 and isinstance(said[-1], WorkCancelled)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
    assert not (tmp_path / "out" / "new.safetensors").exists()


def test_a_source_that_is_gone_is_said(tmp_path: Path) -> None:
    def gone(task: object) -> Path:
        raise NotFound("There is no model “old”.", "Choose another.")

    failed = run(DiskWorker(gone, gone, lambda: None, FUNCTIONS))[-1]
    assert isinstance(failed, WorkFailed) and failed.code == "not_found"
