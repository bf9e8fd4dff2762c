"""Figures 19 to 28 of the performance page: what a CUDA card makes of the engine.

`python -m benchmarks.cuda` takes under eight minutes on one H100 or H200: it makes its own random models in memory,
runs the parts in the order of the performance page, each within its own time, and writes every row to
results/cuda.jsonl as it has it, so that a run that is ended keeps what it had. What did not fit or failed is said.
`--dry-run` runs every part on the CPU with tiny models, to see that nothing is broken before the day with a card.
"""

import argparse
import gc
import json
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO

import torch

from benchmarks import cuda_parts
from benchmarks.cuda_parts import Bench, NotHere, Row
from benchmarks.measure import RESULTS, machine
from contract.errors import StudioError
from engine.device.devices import Device, choose_device
from engine.errors import mapped

PROJECT = Path(__file__).resolve().parent.parent
_LIMIT_S = 470.0
_END_S = 5.0  # left for the table
_QUERY = "name,driver_version,clocks.sm,power.limit,temperature.gpu"


class OutOfTime(BaseException):
    """A part's time is over. Not an Exception: no library may swallow it."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is run, and how many seconds it may take."""

    run: Callable[[Bench], Iterator[Row]]
    limit_s: float


def card_tests(bench: Bench) -> Iterator[Row]:
    """The tests that are marked `gpu`; in a dry run only found."""
    more = ["--collect-only"] if bench.is_dry else []
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/engine", *more]
    yield _outcome("tests of a card", command)


def training(bench: Bench) -> Iterator[Row]:
    """The smallest training there is: scenes are drawn, and a VAE is trained for two seconds."""
    out = bench.folder / "training"
    command = [sys.executable, "-m", "training", "--out", str(out), "--target", str(out / "model")]
    command += ["--stage", "pools", "vae", "--pictures", "64", "--batch", "4", "--vae-minutes", "0.03"]
    yield _outcome("training", [*command, "--processes", "1"])


def _outcome(name: str, command: list[str]) -> Row:
    """1 for a command that succeeds, else 0, with its last line and what pytest says of failures."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines() or [""]
    if done.returncode:
        _say("\n".join(lines[-60:]))
    told = [lines[-1], *(line for line in lines if line.startswith(("FAILED", "ERROR", "E  ")))]
    note = f"{time.perf_counter() - began:.0f} s: {'; '.join(line[:160] for line in told[:20])}"
    return Row("", name, float(done.returncode == 0), "passed", None, None, 1.0, 1.0, True, note)


PARTS: Mapping[str, Part] = MappingProxyType(
    {
        "raw": Part(cuda_parts.raw, 20),
        "sd15": Part(cuda_parts.sd15, 40),
        "sd15-batches": Part(cuda_parts.sd15_batches, 45),
        "sd15-compiled": Part(cuda_parts.sd15_compiled, 110),
        "xl": Part(cuda_parts.sdxl, 60),
        "xl-batches": Part(cuda_parts.sdxl_batches, 60),
        "people": Part(cuda_parts.people, 45),
        "swaps": Part(cuda_parts.swaps, 45),
        "two-cards": Part(cuda_parts.two_cards, 45),
        "lora": Part(cuda_parts.lora, 30),
        "vae": Part(cuda_parts.vae, 20),
        "previews": Part(cuda_parts.previews, 45),
        "first-press": Part(cuda_parts.first_press, 30),
        "tests": Part(card_tests, 90),
        "training": Part(training, 60),
        # Last, since it takes longest: on a slow host it is what does not fit.
        "xl-compiled": Part(cuda_parts.sdxl_compiled, 180),
    }
)


@dataclass(slots=True)
class Log:
    """Prints rows and writes them to a file at once."""

    file: IO[str]
    facts: Mapping[str, object]
    left_out: list[str] = field(default_factory=list)

    def add(self, part: str, row: Row) -> None:
        spread = "" if row.low is None or row.high is None else f"{row.low:.4f}-{row.high:.4f}"
        asked = "" if row.goal is None else f"goal {row.goal:g}, limit {row.limit:g} [{row.verdict}]"
        _say(f"{row.figure:>3} {row.name:<46}{row.value:>10.4g} {row.unit:<7}{spread:<16}{asked:<32}{row.note}")
        self._write({"part": part, **asdict(row), "verdict": row.verdict})

    def leave_out(self, part: str, reason: str, *, is_failure: bool = True) -> None:
        if is_failure:
            self.left_out.append(f"{part}: {reason}")
        _say(f"    left out: {part}: {reason}")
        self._write({"part": part, "left_out": reason})

    def finish(self, bench: Bench) -> None:
        self._write({"profile": bench.curves, "left_out": self.left_out, "card": card()})

    def _write(self, entry: Mapping[str, object]) -> None:
        self.file.write(json.dumps({"at": time.time(), **self.facts, **entry}) + "\n")
        self.file.flush()


def _say(line: str) -> None:
    sys.stdout.write(line.rstrip() + "\n")
    sys.stdout.flush()


def card() -> str:
    """The card, its driver, its clock and its power limit as nvidia-smi says; empty without one."""
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise OutOfTime after so many seconds, where the system has such a clock."""

    def end(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_part(name: str, part: Part, bench: Bench, log: Log, left_s: float) -> None:
    """Run a part within its time and what is left of the whole; whatever fails in it costs this part alone."""
    if left_s < part.limit_s / 4:
        log.leave_out(name, f"{left_s:.0f} s are left of the whole, and it may take {part.limit_s:.0f}")
        return
    limit_s = min(part.limit_s, left_s)
    try:
        with within(limit_s), mapped(_told):
            for row in part.run(bench):
                log.add(name, row)
    except OutOfTime:
        log.leave_out(name, f"what follows took longer than {limit_s:.0f} s")
    except NotHere as error:
        log.leave_out(name, error.message, is_failure=False)
    except StudioError as error:
        log.leave_out(name, error.message)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # page-locked memory is kept: the next part needs as much again


def _told(error: Exception) -> Exception:
    traceback.print_exception(error)
    return StudioError(f"{type(error).__name__}: {str(error).strip()[:200]}")


def main() -> int:
    """Run the parts; the exit status is 1 where one was left out, 2 without a card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="every part on the CPU with tiny models")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--rounds", type=int, default=5, help="of each comparison; the first one is dropped")
    parser.add_argument("--steps", type=int, default=10, help="of each loop")
    parser.add_argument("--limit-s", type=float, default=_LIMIT_S, help="of the whole")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    wanted = parser.parse_args()
    if wanted.dry_run:
        cpu = torch.device("cpu")
        device = Device(cpu, "a dry run", copies_weights=True, keeps_copies=True, memory_bytes=2**30)
        wanted.rounds, wanted.steps = 2, 2
        torch.set_num_threads(1)  # tiny work is slower on several, much slower beside other work
    elif not torch.cuda.is_available():
        _say("This machine has no CUDA card that PyTorch can use. --dry-run tries the parts on the CPU.")
        return 2
    else:
        device = choose_device("cuda")
    began = time.monotonic()
    wanted.results.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder,
        (wanted.results / "cuda.jsonl").open("a", encoding="utf-8") as file,
    ):
        log = Log(file, {"run": round(time.time()), "device": device.label})
        log._write({"machine": machine(), "card": card(), "dry_run": wanted.dry_run})
        bench = Bench(device, Path(folder), wanted.dry_run, wanted.rounds, wanted.steps)
        for name in wanted.parts:
            run_part(name, PARTS[name], bench, log, wanted.limit_s - _END_S - (time.monotonic() - began))
        log.finish(bench)
    _say(f"{time.monotonic() - began:.0f} s; left out: {'; '.join(log.left_out) or 'nothing'}")
    return 1 if log.left_out else 0


if __name__ == "__main__":
    sys.exit(main())
