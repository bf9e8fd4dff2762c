"""Figures 6, 7 and 8 of the performance page: what a LoRA costs a job, and what a change of its strength does.

`python -m benchmarks.lora` measures on an SD 1.5-shaped checkpoint of random weights at 256², with a LoRA of rank 16
on every attention and feed-forward layer.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import load_file

from benchmarks.measure import Figure, Work, figure, report
from benchmarks.subjects.checkpoints import checkpoints, write_lora
from benchmarks.subjects.shapes import MEDIUM, SD15, Shape
from catalog.models import ModelEntry
from contract.recipe import LoraUse, Recipe
from contract.tasks import Generate
from contract.work import WorkDone, WorkItem, path_key
from engine.device.devices import choose_device
from engine.device.memory import hold_freed_memory
from engine.engine import Engine, EngineOptions
from engine.images.preprocessors import Preprocessors
from engine.job_models import acquire
from engine.models.manager import ModelManager

FIGURES = ("6", "7", "8")


@dataclass(frozen=True, slots=True)
class Subject:
    """A checkpoint and a LoRA for it."""

    model: ModelEntry
    lora: ModelEntry
    steps: int

    def work_item(self, weight: float | None) -> WorkItem:
        """A job with the LoRA so strong; None without it."""
        uses = (
            ()
            if weight is None
            else (LoraUse(model=self.lora.ref.model_copy(update={"family": self.model.ref.family}), weight=weight),)
        )
        recipe = Recipe(
            prompt="a red barn",
            model=self.model.ref,
            sampler="euler",
            schedule="simple",
            steps=self.steps,
            guidance=7.0,
            width=256,
            height=256,
            seed=1,
            loras=uses,
        )
        paths = {path_key(entry.ref): str(entry.path) for entry in (self.model, self.lora)}
        return WorkItem("bench", 1, Generate(recipe=recipe), model_paths=paths, wants_previews=False)


@contextmanager
def subject(shape: Shape, steps: int) -> Iterator[Subject]:
    """Made in a moment, gone afterwards."""
    with checkpoints(shape) as (model,), tempfile.TemporaryDirectory(prefix="darkroom-bench-") as folder:
        yield Subject(model, write_lora(Path(folder) / "ink.safetensors", shape), steps)


def job(engine: Engine, work_item: WorkItem) -> Work:
    """A whole job; every event is taken."""

    def run() -> None:
        *_, ending = engine.generate(work_item, lambda: False)
        assert isinstance(ending, WorkDone), ending

    return run


def whole_job(what: Subject, rounds: int) -> Figure:
    """Figure 6. Each job changes the set, so the LoRA is put on (or taken off) every time."""
    engine = Engine(EngineOptions())
    plain, with_lora = job(engine, what.work_item(None)), job(engine, what.work_item(0.8))
    return figure(
        "6",
        f"LoRA job, {what.steps} steps",
        plain,
        with_lora,
        peer="the same job without",
        goal=1.015,
        limit=1.03,
        rounds=rounds,
    )


class Applying:
    """Times what it takes until a set of LoRAs is on the modules, within a lease."""

    def __init__(self, what: Subject) -> None:
        self._what, self._device = what, choose_device()
        self._models = ModelManager(self._device, budget_bytes=2**40)
        self._preprocessors = Preprocessors([], self._device.torch_device)
        self(0.5)
        self(None)

    def __call__(self, weight: float | None) -> float:
        work_item = self._what.work_item(weight)
        assert isinstance(work_item.task, Generate)
        recipe, entry = work_item.task.recipe, self._what.model
        with self._models.lease(entry.ref, str(entry.path)) as bundle:
            began = time.perf_counter()
            with acquire(recipe, work_item, self._models, self._preprocessors, bundle):
                return time.perf_counter() - began


class Repatching:
    """What other programs do when a strength changes: the weights back from a copy, then the LoRA added anew."""

    def __init__(self, what: Subject) -> None:
        models, entry = ModelManager(choose_device()), what.model
        lora = load_file(what.lora.path)
        names = {name.removesuffix(".lora_A.weight") for name in lora if name.endswith(".lora_A.weight")}
        with models.lease(entry.ref, str(entry.path)) as bundle:
            self._layers = []
            for name in sorted(names):
                part, _, module = name.partition(".")
                weight = bundle.onload(part).get_submodule(module).weight.detach().clone()
                self._layers.append(
                    (weight, weight.clone(), lora[f"{name}.lora_B.weight"], lora[f"{name}.lora_A.weight"])
                )

    @torch.inference_mode()
    def __call__(self, strength: float) -> float:
        began = time.perf_counter()
        for weight, copy, up, down in self._layers:
            weight.copy_(copy)
            weight += (strength * (up.float() @ down.float())).to(weight.dtype)
        return time.perf_counter() - began


def strength(what: Subject, rounds: int) -> Figure:
    """Figure 7: another strength, against restoring and patching."""
    apply, repatch, ratios = Applying(what), Repatching(what), []
    apply(0.8)
    for number in range(rounds):
        wanted = 0.6 + 0.1 * (number % 2)
        ratios.append((apply(wanted) + apply(1 - wanted)) / (repatch(wanted) + repatch(1 - wanted)))
    return _figure("7", "LoRA strength change", ratios, "weights back from a copy, LoRA added", 0.25, 0.5)


def rerun(what: Subject, rounds: int) -> Figure:
    """Figure 8: the same set in the next job."""
    apply, ratios = Applying(what), []
    for _ in range(rounds):
        apply(None)
        first = apply(0.8)
        ratios.append(apply(0.8) / first)
    return _figure("8", "same LoRA set again", ratios, "its first apply", 0.01, 0.02)


def _figure(number: str, name: str, ratios: list[float], peer: str, goal: float, limit: float) -> Figure:
    kept = ratios[1:]
    return Figure(number, name, median(kept), min(kept), max(kept), len(kept), peer, goal, limit)


def measure_all(wanted: argparse.Namespace) -> Iterator[Figure]:
    """The wanted figures, each when it is measured."""
    with subject(MEDIUM if wanted.small else SD15, wanted.steps) as what:
        made: dict[str, Callable[[Subject, int], Figure]] = {"6": whole_job, "7": strength, "8": rerun}
        for number in wanted.figures:
            yield made[number](what, wanted.rounds)


def main() -> None:
    hold_freed_memory()  # as the engine's process does
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="the first one is dropped")
    parser.add_argument("--steps", type=int, default=20, help="of the jobs of figure 6")
    parser.add_argument("--figures", nargs="+", default=list(FIGURES), choices=FIGURES)
    parser.add_argument("--small", action="store_true", help="a model of 170 MB instead, to try it out")
    report("lora", measure_all(parser.parse_args()))


if __name__ == "__main__":
    main()
