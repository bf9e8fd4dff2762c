"""The benchmark of a card is run without one, with tiny models: no part may fail on the day there is a card."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import cuda
from benchmarks.cuda import PARTS, PROJECT, Log, Part, run_part
from benchmarks.cuda_parts import Bench, Row
from engine.device.devices import Device

FIGURES = {"19", "20", "21", "22", "23", "24", "25", "26", "27", "28"}
MEASURED = [name for name in PARTS if name not in ("tests", "training")]  # these two are a suite of their own


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "benchmarks.cuda", *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def entries(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "cuda.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.slow
def test_every_part_runs_dry_and_is_stored(tmp_path: Path) -> None:
    done = run("--dry-run", "--results", str(tmp_path), "--parts", *MEASURED)
    assert done.returncode == 0, done.stdout + done.stderr
    stored = entries(tmp_path)
    assert {entry.get("figure") for entry in stored} >= FIGURES
    assert {"machine", "card"} <= set(stored[0])
    assert stored[-1]["profile"] and stored[-1]["left_out"] == []
    assert "left out: nothing" in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so() -> None:
    done = run()
    assert done.returncode == 2
    assert "no CUDA card" in done.stdout


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log((tmp_path / "cuda.jsonl").open("a", encoding="utf-8"), {"run": 1})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Device(torch.device("cpu"), "CPU"), tmp_path, True, 2, 2)


def test_a_part_that_fails_or_takes_too_long_is_said_and_keeps_its_rows(
    log: Log, bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: Bench):  # type: ignore[no-untyped-def]
        yield Row("20", "kept", 1.0, "", None, None, 2.0, 1.0, True)
        raise KeyError("a slip")

    def sleeps(_: Bench):  # type: ignore[no-untyped-def]
        yield Row("", "kept too", 1.0)
        while True:
            pass

    run_part("fails", Part(fails, 5), bench, log, 10)
    run_part("sleeps", Part(sleeps, 0.05), bench, log, 10)
    run_part("late", Part(sleeps, 20), bench, log, 1)
    log.file.close()
    assert [entry.get("name") or entry["part"] for entry in entries(tmp_path)] == [
        "kept",
        "fails",
        "kept too",
        "sleeps",
        "late",
    ]
    assert [one.partition(":")[0] for one in log.left_out] == ["fails", "sleeps", "late"]
    assert "left out: fails: KeyError: 'a slip'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "is_higher_better", "verdict"),
    [(2.0, True, "goal"), (1.6, True, "limit"), (1.4, True, "MISSED"), (1.4, False, "goal"), (1.9, False, "MISSED")],
)
def test_verdicts_know_which_way_is_better(value: float, is_higher_better: bool, verdict: str) -> None:
    goal, limit = (1.8, 1.5) if is_higher_better else (1.5, 1.8)
    assert Row("20", "x", value, "", None, None, goal, limit, is_higher_better).verdict == verdict


def test_a_command_that_fails_is_no_success() -> None:
    row = cuda._outcome("x", [sys.executable, "-c", "print('why'); raise SystemExit(3)"])
    assert (row.value, row.verdict) == (0.0, "MISSED")
    assert row.note.endswith("why")
