"""What the switch to a refiner costs, in steps, when both models are in memory.

`python -m benchmarks.refiner` paints jobs of four steps on two checkpoints of one shape: one model alone, the same with
the other from the middle, and one model alone with two steps more, which say what a step costs. Each prompt is new, so
the second model's text encoders are part of it. SDXL's shape needs 16 GB.
"""

import argparse
import statistics
import time
from collections.abc import Iterator

from benchmarks.measure import Figure, quiet, report
from benchmarks.subjects.checkpoints import checkpoints
from benchmarks.subjects.shapes import BY_NAME, SD15
from catalog.models import ModelEntry
from contract.parts import Refiner
from contract.recipe import Recipe
from contract.tasks import Generate
from contract.work import WorkDone, WorkItem, path_key
from engine.engine import Engine, EngineOptions

_STEPS = 4


def seconds(engine: Engine, models: tuple[ModelEntry, ...], prompt: str, steps: int, refiner: Refiner | None) -> float:
    """Of a job from its start to its end."""
    recipe = Recipe(
        prompt=prompt,
        model=models[0].ref,
        sampler="euler",
        schedule="simple",
        steps=steps,
        guidance=7.0,
        width=256,
        height=256,
        seed=1,
        refiner=refiner,
    )
    paths = {path_key(model.ref): str(model.path) for model in models}
    began = time.perf_counter()
    *_, ending = engine.generate(WorkItem("bench", 1, Generate(recipe=recipe), model_paths=paths), lambda: False)
    assert isinstance(ending, WorkDone), ending
    return time.perf_counter() - began


def switch(wanted: argparse.Namespace) -> Iterator[Figure]:
    """The figure: (with the refiner - without) / a step."""
    storage = "half" if BY_NAME[wanted.shape].is_xl else "full"
    with checkpoints(BY_NAME[wanted.shape], 2) as models, quiet():
        engine = Engine(EngineOptions(storage=storage, memory_budget_bytes=2**40))
        refiner, costs = Refiner(model=models[1].ref, at=0.5), []
        for number in range(wanted.rounds):
            jobs = [(_STEPS, None), (_STEPS, refiner), (_STEPS + 2, None)]
            spent = [
                seconds(engine, models, f"a sea, {number}, {place}", *job)
                for place, job in enumerate(jobs + jobs[::-1])
            ]
            alone, refined, longer = spent[0] + spent[5], spent[1] + spent[4], spent[2] + spent[3]
            costs.append((refined - alone) / ((longer - alone) / 2))
        kept = costs[1:]
        yield Figure("refiner", "switch", statistics.median(kept), min(kept), max(kept), len(kept), "a step", 1.0, 1.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="the first one is dropped")
    parser.add_argument("--shape", default=SD15.name, choices=BY_NAME)
    wanted = parser.parse_args()
    report("refiner", switch(wanted), wanted.shape)


if __name__ == "__main__":
    main()
