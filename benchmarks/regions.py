"""What regional prompts cost, and whether what they ask for lands where it was asked.

`overhead.py` calls `regional_loop` with its subjects. `python -m benchmarks.regions --pictures 64` paints the starter's
pictures of two things side by side, each in its own land, with regions and with the same words in one prompt, and lets
the judge look at each half.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import Figure, figure
from catalog.models import ModelEntry, describe
from contract.recipe import Recipe
from contract.regions import Box, Region, Regions
from contract.tasks import Generate
from contract.work import WorkImage, WorkItem, path_key
from engine.adapters.prompt_encoder import EmbeddingCache
from engine.device.devices import choose_device
from engine.engine import Engine
from engine.images.image_io import as_image
from engine.models.manager import ModelManager
from engine.options import EngineOptions
from engine.pipeline import ImagePlan, PassInputs, plan_image, run_pass
from training.drawing.captions import caption
from training.drawing.scenes import Scene, random_scene
from training.evaluation.judge import ANSWERS, KEPT, THING_NAMES, judged, load_judge
from training.evaluation.measures import presence

STARTER = Path(__file__).resolve().parent.parent / "models" / "starter"
HALVES = (Box(left=0.0, top=0.0, width=0.5, height=1.0), Box(left=0.5, top=0.0, width=0.5, height=1.0))
SIDE = 128  # of each half, in pixels: what the judge looks at
STEPS = 10


def regional_loop(entry: ModelEntry, recipe: Recipe, name: str, rounds: int) -> Figure:
    """Loop time with a region for each half over that of one prompt of as many chunks."""
    regions = [Region(prompt=f"{side} side", box=box) for side, box in zip(("left", "right"), HALVES, strict=True)]
    with ModelManager(choose_device()).lease(entry.ref, str(entry.path)) as bundle:
        inputs = PassInputs({}, EmbeddingCache(), lambda *_: iter(()))
        loops: list[Callable[[], None]] = []
        for one in (recipe, recipe.model_copy(update={"regions": Regions(regions=tuple(regions))})):
            plan = plan_image(one, bundle, inputs)

            def run(plan: ImagePlan = plan, one: Recipe = one) -> None:
                for _ in run_pass(plan, one, inputs):
                    pass

            loops.append(run)
        return figure(
            "regions", f"two regions, {name}", *loops, peer="loop with one prompt", goal=1.15, limit=1.2, rounds=rounds
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """Two scenes side by side, and their words."""

    scenes: tuple[Scene, Scene]
    words: tuple[str, str]


def pairs(count: int, seed: int = 5) -> list[Pair]:
    """Scenes of two things in two lands. The words say the sides, as the starter learned to read places."""
    rng = np.random.default_rng((951, seed))
    found: list[Pair] = []
    while len(found) < count:
        drawn = []
        for side in ("left", "right"):
            scene = random_scene(rng)
            bare = {"second": "", "second_color": "", "light": "", "backdrop": "", "tint": "", "style": "", "size": ""}
            drawn.append(replace(scene, **bare, sky="clear", count=1, side=side))
        left, right = drawn
        if left.thing and right.thing and left.thing != right.thing and left.land != right.land:
            words = (caption(left, rng, is_complete=True), caption(right, rng, is_complete=True))
            found.append(Pair((left, right), words))
    return found


def painter() -> Callable[[Pair, int, bool], Image.Image]:
    """A function that paints a pair by its number, with regions or without, on the starter."""
    entry = describe(STARTER, "starter")
    engine = Engine(EngineOptions(device="cpu", threads=1))

    def paint(pair: Pair, seed: int, with_regions: bool) -> Image.Image:
        parts = [Region(prompt=words, box=box) for words, box in zip(pair.words, HALVES, strict=True)]
        recipe = Recipe(
            prompt="" if with_regions else ", ".join(pair.words),
            regions=Regions(base=0.0, regions=tuple(parts)) if with_regions else None,
            model=entry.ref,
            sampler="ddim",
            schedule="sgm_uniform",
            steps=STEPS,
            guidance=4.0,
            width=2 * SIDE,
            height=SIDE,
            seed=seed,
        )
        paths = {path_key(entry.ref): str(entry.path)}
        work_item = WorkItem("pair", 1, Generate(recipe=recipe), wants_previews=False, model_paths=paths)
        (made,) = [event.pixels for event in engine.generate(work_item, lambda: False) if isinstance(event, WorkImage)]
        return as_image(made)

    return paint


def landed(painted: list[Image.Image], asked: list[Pair]) -> list[bool]:
    """Whether each half shows its thing and its land, by the judge."""
    judge = load_judge(KEPT)
    right = [True] * len(asked)
    for half in range(len(HALVES)):
        pixels = np.stack([np.asarray(image)[:, half * SIDE : (half + 1) * SIDE] for image in painted])
        logits = judged(judge, pixels)
        lands = [ANSWERS["land"][index] for index in logits["land"].argmax(1).tolist()]
        sure = presence(logits)
        for row, pair in enumerate(asked):
            scene = pair.scenes[half]
            right[row] &= lands[row] == scene.land and bool(sure[row, THING_NAMES.index(scene.thing)] > 0)
    return right


def proof(count: int) -> Iterator[str]:
    """One line for each way to paint the pairs."""
    asked, paint = pairs(count), painter()
    for name, with_regions in (("two regions", True), ("the same words in one prompt", False)):
        began = time.monotonic()
        painted = [paint(pair, seed, with_regions) for seed, pair in enumerate(asked)]
        share = float(np.mean(landed(painted, asked)))
        seconds = time.monotonic() - began
        yield f"{name}: both things, each in its land, where asked in {share:.1%} of {count} pictures ({seconds:.0f} s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=64)
    torch.set_num_threads(1)
    for line in proof(parser.parse_args().pictures):
        print(line, flush=True)


if __name__ == "__main__":
    main()
