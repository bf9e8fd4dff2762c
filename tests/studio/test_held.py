"""No room for pictures: the queue waits, says why, and goes on by itself (F04); closed folders are named (F06)."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from contract import events
from studio.metadata import image_files
from studio.studio import Studio
from tests.studio.conftest import ME, draft, finish, wait_until


def test_f04_a_full_disk_holds_the_queue_until_there_is_room(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with monkeypatch.context() as patch:
        patch.setattr(image_files, "_free_bytes", lambda folder: 1_000)
        first, second = (studio.submit(draft(), ME).id for _ in range(2))
        wait_until(lambda: bool(studio.engine().held))
        assert (
            studio.engine().held == "No space left in outputs/ (1.0 kB free). Free some; what waits goes on by itself."
        )
        studio.cancel(second, ME)
        assert [studio.job(job, ME).job.state for job in (first, second)] == ["queued", "cancelled"]
    assert isinstance(finish(studio, first)[-1], events.Done)
    assert studio.engine().held == ""
    assert [r.message for r in caplog.records] == [
        "No space left in outputs/ (1.0 kB free). Free some; what waits goes on by itself.",
        "the queue continues",
    ]


def test_nothing_is_held_while_nothing_waits(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(image_files, "_free_bytes", lambda folder: 0)
        job = studio.submit(draft(), ME).id
        wait_until(lambda: bool(studio.engine().held))
        studio.cancel(job, ME)
        wait_until(lambda: not studio.engine().held)


def test_f06_closed_folders_are_named_at_the_start_and_the_queue_says_why_it_waits(
    tmp_path: Path,
    make_studio: Callable[..., Studio],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    closed, true_access = {tmp_path / "outputs", tmp_path / "more"}, os.access  # the tests may run as root
    (tmp_path / "more").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path not in closed and true_access(path, mode))
    studio = make_studio(model_dirs=(tmp_path / "models", tmp_path / "more"))
    assert [r.message for r in caplog.records] == [
        "outputs/ can't be written. Correct its permissions; what waits goes on by itself.",
        f"{tmp_path / 'more'}/ can't be read: its models are left out. Correct its permissions.",
    ]
    job = studio.submit(draft(), ME).id
    wait_until(lambda: studio.engine().held.startswith("outputs/ can't be written."))
    assert studio.job(job, ME).job.state == "queued"
    closed.clear()
    assert isinstance(finish(studio, job)[-1], events.Done)
