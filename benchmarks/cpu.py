"""Figures 35 to 38 of the performance page: a CPU, with OpenVINO and without, and with weights in half precision.

`python -m benchmarks.cpu` measures on an SD 1.5-shaped checkpoint of random weights and on the bundled starter.
35: a guided step at 256² on one thread, CPU seconds: ours through OpenVINO / the same U-Net bare in OpenVINO.
36: a step of the starter with nothing but torch, as the idle engine leaves it / with the U-Net as it is.
37: a starter picture of 20 steps on all cores, in seconds, at 128² and 256², in OpenVINO and without.
38: anonymous memory that an SD 1.5-shaped checkpoint takes with weights in half precision, after a picture, in GB.
"""

import argparse
import gc
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Figure, Work, figure, report
from benchmarks.overhead import bare_loop, job
from benchmarks.subjects.checkpoints import checkpoints
from benchmarks.subjects.shapes import MEDIUM, SD15, Shape
from catalog.models import ModelEntry, describe
from contract.recipe import Recipe
from contract.tasks import Generate
from contract.work import WorkItem, path_key
from engine.adapters.prompt_encoder import EmbeddingCache, encode_prompts
from engine.device.evaluations import Positional
from engine.device.memory import give_back_freed_memory
from engine.device.openvino_backend import import_openvino
from engine.engine import Engine, EngineOptions
from engine.families.unet import UNetCall, predict_with
from engine.models.bundle import Bundle
from engine.pipeline import first_noise, sampling_of
from engine.sampling.denoise import denoise
from engine.sampling.noise import OwnNoise

STARTER = Path(__file__).resolve().parent.parent / "models" / "starter"
FIGURES = ("35", "36", "37", "38")
_STEPS = 2  # of SD 1.5


def recipe_of(entry: ModelEntry, side: int, steps: int, seed: int = 1) -> Recipe:
    """A guided picture, of which every step is one evaluation."""
    return Recipe(
        prompt="green hills at sunset",
        model=entry.ref,
        sampler="euler",
        schedule="simple",
        steps=steps,
        guidance=7.0,
        width=side,
        height=side,
        seed=seed,
    )


def work_item(entry: ModelEntry, side: int, steps: int) -> WorkItem:
    """The picture as a job without previews."""
    task = Generate(recipe=recipe_of(entry, side, steps))
    paths = {path_key(entry.ref): str(entry.path)}
    return WorkItem("bench", 1, task, model_paths=paths, wants_previews=False)


def rested(options: EngineOptions, item: WorkItem) -> Engine:
    """An engine that has done all it does for such a job when it is idle."""
    engine = Engine(options)
    job(engine, item)()
    while engine.tidy():
        pass
    return engine


def our_loop(bundle: Bundle, recipe: Recipe) -> Callable[[], torch.Tensor]:
    """`engine/sampling/denoise.py` with whatever is ready to evaluate the U-Net."""
    told = encode_prompts(recipe, bundle, EmbeddingCache())
    noise = first_noise(recipe, OwnNoise(torch.Generator().manual_seed(recipe.seed)))
    predict = predict_with(bundle.onload, bundle.device.dtype, evaluate=bundle.evaluate)

    def run() -> torch.Tensor:
        *_, last = denoise(lambda _: predict, told.at, sampling_of(recipe, bundle), noise, recipe.guidance)
        return last.latents

    return run


def bare_openvino(bundle: Bundle, recipe: Recipe) -> Callable[[], torch.Tensor]:
    """What anyone would write over OpenVINO: the U-Net converted and compiled by its own functions."""
    openvino = import_openvino()
    told = encode_prompts(recipe, bundle, EmbeddingCache()).at(0).prompt_embeds
    shape = (2, 4, recipe.height // 8, recipe.width // 8)
    module = Positional(bundle.onload("unet"), UNetCall())
    with torch.inference_mode():
        model = openvino.convert_model(module, example_input=(torch.zeros(shape), torch.tensor(1.0), told))
    model.reshape({0: list(shape), 1: [], 2: list(told.shape)})
    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
    noise = first_noise(recipe, OwnNoise(torch.Generator().manual_seed(recipe.seed)))
    sampling = sampling_of(recipe, bundle)
    inputs: dict[int, Any] = {2: told.numpy()}

    def run() -> torch.Tensor:
        latents = noise * sampling.init_noise_sigma
        for sigma, following in zip(sampling.sigmas[:-1], sampling.sigmas[1:], strict=True):
            level = sampling.level(sigma)
            inputs[0] = torch.cat([latents / level.scale] * 2).numpy()
            inputs[1] = level.timestep.float().numpy()
            uncond, cond = torch.from_numpy(request.infer(inputs)[0]).chunk(2)
            denoised = level.denoised(latents, uncond + recipe.guidance * (cond - uncond))
            latents = latents + (latents - denoised) / sigma * (following - sigma)
        return latents

    return run


def spent(work: Work) -> float:
    """Processor seconds."""
    began = time.process_time()
    work()
    return time.process_time() - began


def by_processor(name: str, number: str, bare: Work, ours: Work, rounds: int, **rest: Any) -> Figure:
    """A figure of processor seconds, in turns; the note has the A/A."""
    spent(bare), spent(ours)
    noise, found = [], []
    for _ in range(rounds):
        first, own, second = spent(bare), spent(ours), spent(bare)
        noise.append(second / first)
        found.append(2 * own / (first + second))
    return Figure(
        number, name, statistics.median(found), min(found), max(found), rounds,
        note=f"A/A {statistics.median(noise):.4f} ({min(noise):.3f}-{max(noise):.3f})", **rest,
    )  # fmt: skip


def openvino_step(shape: Shape, rounds: int) -> Figure:
    """Figure 35."""
    torch.set_num_threads(1)
    with checkpoints(shape) as (entry,), tempfile.TemporaryDirectory(prefix="darkroom-bench-") as cache:
        options = EngineOptions(
            device="cpu", threads=1, precision="float32", backend="openvino", cache_dir=Path(cache),
            memory_budget_bytes=2**40,
        )  # fmt: skip
        recipe = recipe_of(entry, 256, _STEPS)
        engine = rested(options, work_item(entry, 256, _STEPS))
        with engine._models.lease(entry.ref, str(entry.path)) as bundle:
            bare, ours = bare_openvino(bundle, recipe), our_loop(bundle, recipe)
            difference = float((bare() - ours()).abs().max() / bare().abs().max())
            plain = bare_loop(bundle, recipe)
            found = by_processor(
                f"{shape.name} step, OpenVINO", "35", bare, ours, rounds, peer="bare OpenVINO", goal=1.05, limit=1.1
            )
            torch_s = spent(plain) / spent(ours)
    note = f"{found.note}, latents differ by {difference:.0e}, torch takes {torch_s:.2f} times as long"
    return replace(found, note=note)


def traced_step(rounds: int) -> Figure:
    """Figure 36."""
    entry = describe(STARTER, STARTER.name)
    recipe = recipe_of(entry, 128, 20)
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as cache:
        options = EngineOptions(device="cpu", precision="float32", backend="torch", cache_dir=Path(cache))
        engine = rested(options, work_item(entry, 128, 20))
        with engine._models.lease(entry.ref, str(entry.path)) as bundle:
            bare, ours = bare_loop(bundle, recipe), our_loop(bundle, recipe)
            name = "starter step without OpenVINO"
            return figure("36", name, bare, ours, peer="torch eager", goal=1 / 1.3, limit=1 / 1.2, rounds=rounds)


def pictures(rounds: int) -> Iterator[Figure]:
    """Figure 37."""
    entry = describe(STARTER, STARTER.name)
    for backend in ("openvino", "torch"):
        for precision in ("float32", "auto"):
            for side, goal in ((128, 0.4), (256, 0.8)):
                with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as cache:
                    options = EngineOptions(device="cpu", precision=precision, backend=backend, cache_dir=Path(cache))  # type: ignore[arg-type]
                    item = work_item(entry, side, 20)
                    engine = rested(options, item)
                    taken, processor_s = [], []
                    for _ in range(rounds):
                        began = time.perf_counter()
                        processor_s.append(spent(job(engine, item)))
                        taken.append(time.perf_counter() - began)
                name = f"starter {side}², {backend}, {engine._device.dtype_label}"
                middle = statistics.median(taken)
                note = f"{statistics.median(processor_s):.2f} processor seconds"
                yield Figure("37", name, middle, min(taken), max(taken), rounds, "seconds", goal, goal, note)


def half_weights() -> Figure:
    """Figure 38; the note has the highest that is seen, looked at every 5 ms."""
    with checkpoints(SD15) as (entry,), tempfile.TemporaryDirectory(prefix="darkroom-bench-") as cache:
        options = EngineOptions(device="cpu", precision="float32", storage="half", cache_dir=Path(cache))
        engine = Engine(options)
        gc.collect()  # what making the checkpoint took
        give_back_freed_memory()
        before, seen = anonymous_bytes(), [0]
        is_over = threading.Event()

        def look() -> None:
            while not is_over.wait(0.005):
                seen.append(anonymous_bytes())

        watch = threading.Thread(target=look, daemon=True)
        watch.start()
        job(engine, work_item(entry, 256, 1))()
        is_over.set()
        watch.join()
        while engine.tidy():
            pass
        held = (anonymous_bytes() - before) / 1e9
        weights = engine.describe().models[0].bytes / 1e9
    highest = (max(seen) - before) / 1e9
    note = f"of which {weights:.2f} are weights; {highest:.2f} at most, during a picture of 256²"
    return Figure("38", "SD 1.5 in half precision", held, held, held, 1, "GB, at rest after it", 2.3, 2.5, note)


def anonymous_bytes() -> int:
    """Memory of this process that is no file's."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not say")


def figures(wanted: tuple[str, ...], rounds: int, shape: Shape) -> Iterator[Figure]:
    """Those that were asked for; memory first, while there is nothing in it."""
    if "38" in wanted:
        yield half_weights()
    if "36" in wanted:
        yield traced_step(rounds)
    if "37" in wanted:
        yield from pictures(rounds)
    if "35" in wanted:
        yield openvino_step(shape, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--figures", nargs="*", default=FIGURES, choices=FIGURES)
    parser.add_argument("--medium", action="store_true", help="figure 35 on a smaller model: else it needs 13 GB")
    given = parser.parse_args()
    report("cpu", figures(tuple(given.figures), given.rounds, MEDIUM if given.medium else SD15))


if __name__ == "__main__":
    main()
