"""Measuring ratios on a noisy machine: A/A first, then ABBA rounds, the first dropped, the median told.

`compare` times two callables against each other; `report` prints a table and appends JSON to results/.
Knows nothing of what is measured; `overhead.py` and `pages.py` do.
"""

import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
ROUNDS = 8  # the first one is dropped
RESOLUTION = 0.005  # an A/A further than this from 1 resolves nothing
_LIBRARIES = ("torch", "diffusers", "transformers", "gradio")

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of wall time and of process CPU time: median, lowest and highest of the rounds."""

    wall: float
    low: float
    high: float
    cpu: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. number: as on the performance page. goal, limit: the ratio must not be above."""

    number: str
    name: str
    ratio: float
    low: float
    high: float
    rounds: int
    peer: str
    goal: float
    limit: float
    note: str = ""

    @property
    def verdict(self) -> str:
        """ "goal", "limit" or "MISSED"."""
        return "goal" if self.ratio <= self.goal else "limit" if self.ratio <= self.limit else "MISSED"


@contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection inside what is timed."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def compare(bare: Work, ours: Work, rounds: int = ROUNDS) -> Ratio:
    """ours / bare, in rounds of ours, bare, bare, ours (and turned around every other round)."""
    walls, cpus = [], []
    with quiet():
        for number in range(rounds):
            order = (ours, bare, bare, ours) if number % 2 else (bare, ours, ours, bare)
            spent = {ours: [0.0, 0.0], bare: [0.0, 0.0]}
            for work in order:
                wall, cpu = _timed(work)
                spent[work][0] += wall
                spent[work][1] += cpu
            walls.append(spent[ours][0] / spent[bare][0])
            cpus.append(spent[ours][1] / max(spent[bare][1], 1e-9))
            gc.collect()
    kept = walls[1:]
    return Ratio(statistics.median(kept), min(kept), max(kept), statistics.median(cpus[1:]), len(kept))


def _timed(work: Work) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def against_itself(bare: Work, rounds: int = ROUNDS) -> Ratio:
    """A/A: what this machine makes of two equal things."""
    return compare(bare, lambda: bare(), rounds)


def is_resolved(noise: Ratio) -> bool:
    """Whether an A/A is near enough to 1 for the ratios of this run to mean something."""
    return abs(noise.wall - 1) <= RESOLUTION


def figure(
    number: str, name: str, bare: Work, ours: Work, *, peer: str, goal: float, limit: float, rounds: int = ROUNDS
) -> Figure:
    """A/A, then the comparison; the note says the A/A, the CPU ratio and whether it is resolved."""
    noise = against_itself(bare, rounds)
    ratio = compare(bare, ours, rounds)
    note = f"A/A {noise.wall:.4f}, CPU seconds {ratio.cpu:.4f}"
    if not is_resolved(noise):
        note = f"not resolved: {note}"
    return Figure(number, name, ratio.wall, ratio.low, ratio.high, ratio.rounds, peer, goal, limit, note)


def report(name: str, figures: Iterable[Figure], subject: str = "") -> None:
    """Print the table line by line as it is measured, and append it to results/<name>.jsonl.

    What was measured before a failure is kept too. subject: what it was measured on, where there is a choice.
    """
    _say(f"{'figure':<34}{'ratio':>8}  {'spread':<17}{'n':>3}  {'goal':>6}  {'limit':>6}  peer")
    measured: list[Figure] = []
    try:
        for one in figures:
            measured.append(one)
            _say(
                f"{one.number + ' ' + one.name:<34}{one.ratio:>8.4f}  {f'{one.low:.4f}-{one.high:.4f}':<17}"
                f"{one.rounds:>3}  {one.goal:>6g}  {one.limit:>6g}  {one.peer}  [{one.verdict}] {one.note}"
            )
    finally:
        RESULTS.mkdir(exist_ok=True)
        entry = {
            "at": time.time(),
            "machine": machine(),
            "subject": subject,
            "figures": [asdict(one) for one in measured],
        }
        with (RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    found = {
        "cpu": _processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "commit": _commit(),
        "load": " ".join(f"{one:.1f}" for one in _load()),
    }
    for library in _LIBRARIES:
        found[library] = metadata.version(library)
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        found["threads"] = str(torch.get_num_threads())
        found["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return found


def _load() -> tuple[float, ...]:
    return os.getloadavg() if hasattr(os, "getloadavg") else ()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parent, check=False
    )
    return done.stdout.strip()
