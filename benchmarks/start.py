"""Figures 29 to 33 of the performance page: the first minute, and what an idle program costs.

`python -m benchmarks.start` starts the whole program on fresh and on used data folders, in turn with fresh interpreters
that only import torch or gradio, and prints ratios only.
29: process start until the first 200 on "/" / `import gradio`; and until the page itself is there, not "starting".
30: `import engine.engine`, as a worker does it, / `import torch`.
31: process start until the engine is ready, on a new data folder / on one that was used before.
32: process start until the first image of the bundled model is saved / (`import torch` + `import gradio`).
33: processor seconds of the page's process per second, while nothing happens.
"""

import argparse
import http.cookiejar
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Figure, report
from benchmarks.pages import PROJECT, free_port, ours

_LIMIT_S = 300.0
_IDLE_S = 20.0
_IMPORT_ENGINE = """
from engine.lean_imports import lean_imports
with lean_imports():
    import engine.engine
"""
_DRAFT = {"prompt": "green hills at sunset, a sailboat on the lake", "seed": 1}


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from the start of the process until the first answer, the page, the engine's readiness, a saved image."""

    answer: float
    page: float
    engine: float
    image: float
    idle_share: float


def seconds_of(statements: str) -> float:
    """How long a fresh interpreter takes to run some statements and end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statements], cwd=PROJECT, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


@contextmanager
def running(data: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str, float]]:
    """The program on a data folder: its process, its address, when it was started."""
    port, began = free_port(), time.perf_counter()
    process = subprocess.Popen(
        ours(port, data), cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process, f"http://127.0.0.1:{port}", began
    finally:
        process.terminate()
        process.wait(30)


def start_on(data: Path, *, is_idle_measured: bool = False) -> Start:
    """One start of the program, up to its first image."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def answer(request: str | urllib.request.Request) -> Any:
        with opener.open(request, timeout=30) as reply:
            return reply.read()

    with running(data) as (process, address, began):

        def until(condition: Callable[[], bool]) -> float:
            while process.poll() is None and time.perf_counter() - began < _LIMIT_S:
                try:
                    if condition():
                        return time.perf_counter() - began
                except (urllib.error.URLError, ConnectionError, TimeoutError):
                    pass
                time.sleep(0.02)
            raise RuntimeError(f"the program ended with {process.returncode}, or took longer than {_LIMIT_S:g} s")

        first = until(lambda: bool(answer(f"{address}/")))
        page = until(lambda: json.loads(answer(f"{address}/api/v1/page"))["ready"])
        body = json.dumps(_DRAFT).encode()
        headers = {"Content-Type": "application/json"}
        job = json.loads(answer(urllib.request.Request(f"{address}/api/v1/jobs", body, headers)))["id"]
        engine = until(lambda: json.loads(answer(f"{address}/api/v1/engine"))["state"] != "starting")
        image = until(lambda: json.loads(answer(f"{address}/api/v1/jobs/{job}"))["state"] == "done")
        idle_share = 0.0
        if is_idle_measured:
            time.sleep(10.0)  # what follows a first image: its thumbnail, the preview map, freed memory
            before, since = _processor_seconds(process.pid), time.perf_counter()
            time.sleep(_IDLE_S)
            idle_share = (_processor_seconds(process.pid) - before) / (time.perf_counter() - since)
    return Start(first, page, engine, image, idle_share)


def _processor_seconds(pid: int) -> float:
    """Of a process, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def figures(rounds: int) -> Iterator[Figure]:
    """Every figure, measured in turns: imports, a start on a new data folder, one on the same folder."""
    rows = (
        ("29", "server answers", "import gradio", 0.8, 1.0),
        ("29", "page is there", "import gradio", 1.2, 1.5),
        ("30", "engine imports", "import torch", 1.8, 2.2),
        ("31", "engine ready on new data", "on used data", 1.1, 1.5),
        ("32", "first image saved", "import torch + gradio", 1.25, 1.5),
        ("33", "idle, of a core", "one second", 0.005, 0.01),
    )
    found: list[list[float]] = [[] for _ in rows]
    for _ in range(rounds):
        folder = Path(tempfile.mkdtemp(prefix="darkroom-bench-"))
        torch_s, gradio_s = seconds_of("import torch"), seconds_of("import gradio")
        engine_s = seconds_of(_IMPORT_ENGINE)
        first = start_on(folder / "data")
        second = start_on(folder / "data", is_idle_measured=True)
        shutil.rmtree(folder, ignore_errors=True)
        measured = (
            second.answer / gradio_s,
            second.page / gradio_s,
            engine_s / torch_s,
            first.engine / second.engine,
            second.image / (torch_s + gradio_s),
            second.idle_share,
        )
        for values, value in zip(found, measured, strict=True):
            values.append(value)
    for (number, name, peer, goal, limit), values in zip(rows, found, strict=True):
        yield Figure(number, name, statistics.median(values), min(values), max(values), len(values), peer, goal, limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    report("start", figures(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
