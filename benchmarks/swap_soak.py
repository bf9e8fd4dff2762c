"""Swaps and LoRA changes by the hundred: what memory is like afterwards, and whether the weights are still theirs.

`python -m benchmarks.swap_soak` swaps 300 times among four checkpoints of which two fit the budget, changes LoRAs 600
times, and lets every seventh load fail. Ends with an error unless memory is flat (at most 0.2 MB a swap), no model
lives on after it has gone, and the weights without LoRAs are the file's, to the bit.
"""

import argparse
import gc
import json
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from safetensors.torch import load_file, save_file

from benchmarks.measure import RESULTS, machine
from benchmarks.subjects.checkpoints import checkpoints, write_lora
from benchmarks.subjects.shapes import MEDIUM
from catalog.models import ModelEntry, describe
from contract.errors import ModelProblem
from contract.recipe import LoraUse, Recipe
from contract.tasks import Generate
from contract.work import WorkItem, path_key
from engine.device.devices import choose_device
from engine.device.memory import give_back_freed_memory
from engine.images.preprocessors import Preprocessors
from engine.job_models import acquire
from engine.models.bundle import Bundle
from engine.models.manager import ModelManager

SLOPE_LIMIT_MB = 0.2
FAILS_EVERY = 7
_SETTLE = 0.2  # of the swaps come before the slope is taken


@dataclass(frozen=True, slots=True)
class Soak:
    """What was seen."""

    swaps: int
    failed: int
    lora_changes: int
    slope_mb: float
    alive: int
    wrong_weights: int

    @property
    def is_good(self) -> bool:
        """Whether all three laws hold."""
        return self.slope_mb <= SLOPE_LIMIT_MB and not self.alive and not self.wrong_weights


class Soaker:
    """Four checkpoints, three LoRAs, a broken checkpoint, and a manager with room for two."""

    def __init__(self, models: tuple[ModelEntry, ...], loras: tuple[ModelEntry, ...], broken: ModelEntry) -> None:
        self._entries, self._loras, self._broken = models, loras, broken
        self._device = choose_device()
        self._models = ModelManager(self._device, budget_bytes=int(models[0].size_bytes * 5))  # float32: 2 each
        self._preprocessors = Preprocessors([], self._device.torch_device)
        self._memories: list[weakref.ref[torch.Tensor]] = []
        self._own = [load_file(next((entry.path / "unet").glob("*.safetensors"))) for entry in models]
        self.failed = self.deltas = self.wrong = 0

    def swap(self, number: int) -> None:
        """To the next checkpoint; two sets of LoRAs on, then none, and its weights compared."""
        if number % FAILS_EVERY == FAILS_EVERY - 1:
            self._fail()
        place = number % len(self._entries)
        entry = self._entries[place]
        with self._models.lease(entry.ref, str(entry.path)) as bundle:
            memory = next(held.buffer.segments[0] for held in self._models._models.values() if held.ref == entry.ref)
            if not any(one() is memory for one in self._memories):
                self._memories.append(weakref.ref(memory))
            for weight in (0.8, 0.4):
                self._wear(entry, bundle, ((self._loras[number % len(self._loras)], weight),))
            self._wear(entry, bundle, ())
            self.wrong += not self._is_own(bundle, place)

    def alive(self) -> int:
        """Checkpoints in memory of which the manager knows nothing."""
        gc.collect()
        known = {id(held.buffer.segments[0]) for held in self._models._models.values()}
        return sum(memory is not None and id(memory) not in known for memory in (one() for one in self._memories))

    def _fail(self) -> None:
        try:
            with self._models.lease(self._broken.ref, str(self._broken.path)):
                raise AssertionError("the broken checkpoint was lent")
        except ModelProblem:
            self.failed += 1

    def _wear(self, entry: ModelEntry, bundle: Bundle, loras: tuple[tuple[ModelEntry, float], ...]) -> None:
        uses = tuple(
            LoraUse(model=lora.ref.model_copy(update={"family": entry.ref.family}), weight=weight)
            for lora, weight in loras
        )
        recipe = Recipe(
            prompt="",
            model=entry.ref,
            sampler="euler",
            schedule="simple",
            steps=1,
            guidance=1.0,
            width=64,
            height=64,
            seed=1,
            loras=uses,
        )
        paths = {path_key(one.ref): str(one.path) for one in (entry, *self._loras)}
        work_item = WorkItem("soak", 1, Generate(recipe=recipe), model_paths=paths)
        with acquire(recipe, work_item, self._models, self._preprocessors, bundle):
            self.deltas += bool(loras)

    def _is_own(self, bundle: Bundle, place: int) -> bool:
        ours = bundle.onload("unet").state_dict()
        return all(torch.equal(ours[name], tensor.to(ours[name].dtype)) for name, tensor in self._own[place].items())


def soak(swaps: int) -> Iterator[tuple[int, float] | Soak]:
    """Yields the swap and the resident megabytes, and last what was seen."""
    with checkpoints(MEDIUM, 4) as models, tempfile.TemporaryDirectory(prefix="darkroom-bench-") as name:
        folder = Path(name)
        loras = tuple(write_lora(folder / f"lora{seed}.safetensors", MEDIUM, seed) for seed in range(3))
        soaker = Soaker(models, loras, _break(models[0], folder / "broken"))
        resident: list[float] = []
        for number in range(swaps):
            soaker.swap(number)
            give_back_freed_memory()
            resident.append(psutil.Process().memory_info().rss / 1e6)
            yield number, resident[-1]
        kept = resident[int(swaps * _SETTLE) :]
        slope = float(np.polyfit(range(len(kept)), kept, 1)[0]) if len(kept) > 1 else 0.0
        yield Soak(swaps, soaker.failed, soaker.deltas, round(slope, 4), soaker.alive(), soaker.wrong)


def _break(entry: ModelEntry, folder: Path) -> ModelEntry:
    """A copy whose last tensor is not a number: the load fails when nearly all is read."""
    shutil.copytree(entry.path, folder)
    (path,) = (folder / "text_encoder").glob("*.safetensors")
    tensors = load_file(path)
    tensors[sorted(tensors)[-1]].fill_(float("nan"))
    save_file(tensors, path)
    return describe(folder, "broken")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=300)
    began = time.monotonic()
    result = None
    for seen in soak(parser.parse_args().swaps):
        if isinstance(seen, Soak):
            result = seen
        elif seen[0] % 25 == 0:
            sys.stdout.write(f"swap {seen[0]:4}  {seen[1]:8.1f} MB  {time.monotonic() - began:6.0f} s\n")
            sys.stdout.flush()
    assert result is not None
    sys.stdout.write(f"{result}\n{'good' if result.is_good else 'BAD'}\n")
    facts = {"at": time.time(), "machine": machine(), **{key: getattr(result, key) for key in Soak.__slots__}}
    with (RESULTS / "swap_soak.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(facts) + "\n")
    return 0 if result.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
