"""Several workers against one: `python -m benchmarks.workers`, some minutes; on the CPU, one thread each.

Jobs go through the whole studio: queue, routing, dispatchers, spawned workers, saving. What the machine itself allows
is measured in the same rounds: as many bare processes that evaluate the same U-Net in torch alone.
"""

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from benchmarks.measure import Figure, report
from catalog.models import ModelEntry, bundled_model
from contract.recipe import RecipeDraft
from studio.settings import Settings
from studio.studio import Studio
from studio.workers import make_workers

MODELS = Path(__file__).resolve().parents[1] / "models"
COUNTS = (1, 2, 3)
JOBS = 6  # a round; divisible by each count
ROUNDS = 5  # the first is dropped
STEPS = 10
READY_S = 300.0
REST_S = 8.0  # in which an engine does its idle work
Round = Callable[[], float]  # takes a round's steps; returns how many a second


def bare(pipe: Connection, path: str, evaluations: int) -> None:
    """A process that evaluates the U-Net so often each time it is told to; a guided step is one evaluation of two."""
    from diffusers import UNet2DConditionModel

    torch.set_num_threads(1)
    unet = UNet2DConditionModel.from_pretrained(path, subfolder="unet").eval()
    latents = torch.zeros(2, unet.config["in_channels"], 16, 16)
    embeds = torch.zeros(2, 77, unet.config["cross_attention_dim"])
    with torch.inference_mode():
        unet(latents, 500, embeds)
        pipe.send("ready")
        while pipe.recv():
            for _ in range(evaluations):
                unet(latents, 500, embeds)
            pipe.send("done")


@contextmanager
def bare_processes(entry: ModelEntry, count: int) -> Iterator[Round]:
    """So many of them, started."""
    context = multiprocessing.get_context("spawn")
    share = JOBS * STEPS // count
    pipes, processes = [], []
    for _ in range(count):
        ours, theirs = context.Pipe()
        process = context.Process(target=bare, args=(theirs, str(entry.path), share), daemon=True)
        process.start()
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()

    def measure() -> float:
        began = time.perf_counter()
        for pipe in pipes:
            pipe.send(True)
        for pipe in pipes:
            pipe.recv()
        return share * count / (time.perf_counter() - began)

    yield measure
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(False)
        process.join()


@contextmanager
def workers(entry: ModelEntry, count: int) -> Iterator[Round]:
    """A studio with so many workers; a round ends when the last image is saved."""
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder:
        settings = Settings(
            backend="torch",  # as the bare processes
            data_dir=Path(folder),
            model_dirs=(entry.path.parent,),
            device=",".join(["cpu"] * count),
            threads=1,
            precision="float32",
            previews=False,
        )
        found, more = make_workers(settings)
        studio = Studio(settings, *found, more=more)
        studio.start()
        draft = RecipeDraft(prompt="a lighthouse", steps=STEPS, width=128, height=128)

        def measure() -> float:
            began = time.perf_counter()
            ids = [studio.submit(draft, "bench").id for _ in range(JOBS)]
            for job_id in ids:
                while studio.job(job_id, "bench").job.state != "done":
                    time.sleep(0.005)
            return JOBS * STEPS / (time.perf_counter() - began)

        try:
            deadline = time.monotonic() + READY_S
            while studio.engine().state != "ready" or any(one.state != "ready" for one in studio.engine().devices):
                assert time.monotonic() < deadline, studio.engine().text
                time.sleep(0.1)
            measure()
            time.sleep(REST_S)
            yield measure
        finally:
            studio.stop()


def main() -> None:
    entry = bundled_model((MODELS,))
    assert entry is not None, "the bundled model is not there"
    with ExitStack() as stack:
        ours = {count: stack.enter_context(workers(entry, count)) for count in COUNTS}
        bares = {count: stack.enter_context(bare_processes(entry, count)) for count in COUNTS}
        speedups: dict[int, list[float]] = {count: [] for count in COUNTS}
        ceilings: dict[int, list[float]] = {count: [] for count in COUNTS}
        for _ in range(ROUNDS):
            one, bare_one = ours[1](), bares[1]()
            for count in COUNTS:  # of 1, an A/A
                speedups[count].append(ours[count]() / one)
                ceilings[count].append(bares[count]() / bare_one)
    noise, bare_noise = (statistics.median(found[1][1:]) for found in (speedups, ceilings))
    figures = []
    for count in COUNTS[1:]:
        speedup, ceiling = (statistics.median(found[count][1:]) for found in (speedups, ceilings))
        shares = [ceilings[count][n] / speedups[count][n] for n in range(1, ROUNDS)]
        note = f"{count} workers / 1: {speedup:.3f}; {count} bare / 1: {ceiling:.3f}; A/A {noise:.3f}, {bare_noise:.3f}"
        figures.append(
            Figure(
                f"workers {count}",
                "bare speedup / ours",
                statistics.median(shares),
                min(shares),
                max(shares),
                ROUNDS - 1,
                f"{count} bare torch processes / 1",
                1.1,
                1.25,
                note,
            )
        )
    report("workers", figures)


if __name__ == "__main__":
    main()
