"""Figures 4, 5, 13 and 17 of the performance page: what loading, swapping, getting ready and keeping a model cost.
Also the swap on the page's own path: another model chosen, a job submitted, the time to its first step.

`python -m benchmarks.loading` measures on SD 1.5-shaped checkpoints of random half-precision weights (2.1 GB each,
4.3 GB in the CPU's float32; two are in memory at once, so 12 GB are needed). `--shape SDXL` and `--shape "SD 3.5
medium"` measure on those (6.9 and 6.8 GB), kept in half precision, as where memory is short; two need 16 GB.
"""

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
from safetensors import safe_open

from benchmarks.jobs import READY_LIMIT_S, running
from benchmarks.measure import Figure, Work, figure, report
from benchmarks.subjects.checkpoints import checkpoints
from benchmarks.subjects.shapes import BY_NAME, SD15
from catalog.models import ModelEntry
from contract.events import Failed, Step
from contract.recipe import ModelRef, RecipeDraft
from engine.device.devices import choose_device
from engine.device.memory import give_back_freed_memory
from engine.models.layerwise_casting import StorageChoice
from engine.models.manager import ModelManager
from studio.settings import Settings
from studio.studio import Studio
from studio.workers.process import ProcessWorker

FIGURES = ("4", "5", "13", "17", "page")
_WITH_TWO = {"5", "page"}
_LOOK_S = 0.002


def weights_dtype(storage: StorageChoice) -> torch.dtype:
    """In which a model's weights are kept: the run dtype, or that of the files made here."""
    return torch.float16 if storage == "half" else choose_device().dtype


def read_and_cast(entry: ModelEntry, storage: StorageChoice) -> Work:
    """The floor of a load: every file is read once, every tensor copied once into the dtype that it is kept in.

    Into memory fresh from the system and given back after, as a load's is: a heap with room from before would spare it
    the clearing of its pages.
    """
    dtype = weights_dtype(storage)
    files = sorted(entry.path.rglob("*.safetensors"))

    def run() -> None:
        kept = []
        for path in files:
            with safe_open(path, "pt") as file:
                kept += [file.get_tensor(name).to(dtype, copy=True) for name in file.keys()]  # noqa: SIM118 (safetensors\' file is no mapping)
        kept.clear()
        give_back_freed_memory()

    return run


def cold_load(entry: ModelEntry, storage: StorageChoice) -> Work:
    """A load by a manager that has never seen the shape."""

    def run() -> None:
        list(ModelManager(choose_device(), storage=storage).prepare(entry.ref, str(entry.path)))

    return run


def swaps(one: ModelEntry, other: ModelEntry, storage: StorageChoice) -> Work:
    """From one model in memory to another."""
    models = ModelManager(choose_device(), budget_bytes=2**40, storage=storage)
    for entry in (one, other):
        list(models.prepare(entry.ref, str(entry.path)))
    turn = [one, other]

    def run() -> None:
        turn.reverse()
        with models.lease(turn[0].ref, str(turn[0].path)) as bundle:
            assert bundle.onload("vae") is not None

    return run


def ready(entry: ModelEntry, storage: StorageChoice, rounds: int) -> Figure:
    """Figure 13: from the start of the worker until its model is loaded.

    Its preview map is known from the first round.
    """
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder:
        return _ready(entry, storage, rounds, folder)


def _ready(entry: ModelEntry, storage: StorageChoice, rounds: int, cache_dir: str) -> Figure:
    ratios = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch, diffusers"], check=True)
        cold_load(entry, storage)()
        floor = time.perf_counter() - began
        began = time.perf_counter()
        with running(ProcessWorker({"cache_dir": cache_dir, "storage": storage}, (str(entry.path), entry.ref))):
            ratios.append((time.perf_counter() - began) / floor)
    kept = ratios[1:]
    return Figure(
        "13",
        "model ready",
        median(kept),
        min(kept),
        max(kept),
        len(kept),
        "import torch, diffusers + cold load",
        1.15,
        1.3,
    )


def on_the_page(one: ModelEntry, other: ModelEntry, storage: StorageChoice, rounds: int) -> Figure:
    """From submit to the first step: another model of those in memory each time, against the same model each time."""
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder:
        settings = Settings(data_dir=Path(folder), model_dirs=(one.path.parent,))
        worker = ProcessWorker({"memory_budget_bytes": 2**40, "storage": storage}, (str(one.path), one.ref))
        studio = Studio(settings, worker)
        studio.start()
        try:
            turn = [one.ref.name, other.ref.name]

            def same() -> None:
                first_step(studio, one.ref.name)

            def swapped() -> None:
                turn.reverse()
                first_step(studio, turn[0])

            swapped()
            swapped()
            return figure(
                "page",
                "submit to first step after a swap",
                same,
                swapped,
                peer="without a swap",
                goal=1.03,
                limit=1.1,
                rounds=rounds,
            )
        finally:
            studio.stop()


def first_step(studio: Studio, model: str) -> None:
    """Submit a job of two steps, and return at the first; the rest is cancelled before the next begins."""
    draft = RecipeDraft(prompt="a red barn", model=model, steps=2, width=256, height=256, seed=1, sampler="euler")
    job_id = studio.submit(draft, "bench").id
    event_log, woken = studio.event_log(job_id, "bench"), threading.Event()
    unsubscribe = event_log.subscribe(woken.set)
    while not any(isinstance(event, (Step, Failed)) for event in event_log.since(0).events):
        assert woken.wait(READY_LIMIT_S)
        woken.clear()
    studio.cancel(job_id, "bench")
    while not event_log.since(0).ended:
        woken.wait(0.01)
        woken.clear()
    unsubscribe()


def memory(entry: ModelEntry, storage: StorageChoice) -> Figure:
    """Figure 17: the most anonymous memory that a process has while it loads and holds a model."""
    bare = _in_new_process(_import_only)
    dtype = weights_dtype(storage)
    weights = 0
    for path in entry.path.rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (safetensors' file is no mapping)
                weights += torch.Size(file.get_slice(name).get_shape()).numel() * dtype.itemsize
    peak, after = _in_new_process(_load, entry.ref, str(entry.path), storage)
    floor = weights + bare[0]
    return Figure(
        "17",
        "memory",
        after / floor,
        after / floor,
        peak / floor,
        1,
        "weights + import torch, diffusers",
        1.10,
        1.3,
        f"peak of the load {peak / floor:.3f}, {peak / 1e9:.2f} GB of {floor / 1e9:.2f}",
    )


def _in_new_process(work: Callable[..., tuple[int, ...]], *arguments: object) -> tuple[int, ...]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def anonymous_bytes() -> int:
    """Of this process, as Linux counts."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def _import_only() -> tuple[int, ...]:
    import diffusers  # noqa: F401

    return (anonymous_bytes(),)


def _load(ref: ModelRef, path: str, storage: StorageChoice) -> tuple[int, ...]:
    """The peak while it loads, and what is left then."""
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK_S):
            peak[0] = max(peak[0], anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    models = ModelManager(choose_device(), storage=storage)
    with models.lease(ref, path):
        done.set()
        watcher.join()
        return peak[0], anonymous_bytes()


def measure_all(wanted: argparse.Namespace) -> Iterator[Figure]:
    """The wanted figures, each when it is measured."""
    storage: StorageChoice = "half" if BY_NAME[wanted.shape].is_xl else "full"
    with checkpoints(BY_NAME[wanted.shape], 2 if _WITH_TWO & set(wanted.figures) else 1) as made_now:
        one, other = made_now[0], made_now[-1]
        made: dict[str, Callable[[], Figure]] = {
            "4": lambda: figure(
                "4",
                "cold load",
                read_and_cast(one, storage),
                cold_load(one, storage),
                peer="read once + cast once",
                goal=1.2,
                limit=1.5,
                rounds=wanted.rounds,
            ),
            "5": lambda: figure(
                "5",
                "resident swap",
                cold_load(one, storage),
                swaps(one, other, storage),
                peer="its cold load",
                goal=0.01,
                limit=0.03,
                rounds=wanted.rounds,
            ),
            "13": lambda: ready(one, storage, wanted.rounds),
            "17": lambda: memory(one, storage),
            "page": lambda: on_the_page(one, other, storage, wanted.rounds),
        }
        for number in wanted.figures:
            yield made[number]()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="the first one is dropped")
    parser.add_argument("--figures", nargs="+", default=list(FIGURES), choices=FIGURES)
    parser.add_argument("--shape", default=SD15.name, choices=BY_NAME, help="medium has 170 MB, to try it out")
    wanted = parser.parse_args()
    report("loading", measure_all(wanted), wanted.shape)


if __name__ == "__main__":
    main()
