"""`python -m training.extras --out DIR --part NAME ...`: what hangs on the shipped model, all of it or some parts.

ControlNets for edges and depth, three style LoRAs, one embedding. Each begins from models/starter as it is, goes on
from its checkpoint in DIR after a stop, and is written to its place under models/.
"""

import argparse
import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training import control, inversion, styles, text, vae
from training.drawing import data
from training.drawing.scenes import Scene
from training.loops.checkpoints import Budget
from training.loops.together import best_device, run_together
from training.sheet import load_pipeline

CONTROLS = ("edges", "depth")
PARTS = (*CONTROLS, *styles.STYLES, inversion.NAME)
_SEED = 60


def place_of(part: str, models: Path) -> Path:
    """Where a part belongs in the folder of models."""
    if part in CONTROLS:
        return models / "controlnet" / f"starter-{part}"
    if part == inversion.NAME:
        return models / "embeddings" / f"{part}.safetensors"
    return models / "loras" / f"starter-{part}.safetensors"


@dataclass(frozen=True)
class Extra:
    """One part to train, from which model, with how much."""

    part: str
    out: Path
    starter: Path
    pictures: int
    minutes: float
    processes: int

    def kept(self, name: str) -> Path:
        """A file of this part in the working folder."""
        return self.out / "extras" / name

    def target(self) -> Path:
        """Where the finished part belongs."""
        return place_of(self.part, self.starter.parent)


def plain_scenes(count: int) -> list[Scene]:
    """Scenes in no style of their own."""
    return [replace(scene, style="") for scene in data.scenes_of(_SEED, count)]


def flamingo_scenes(extra: Extra) -> list[Scene]:
    """Scenes by day for the embedding's thing to stand in."""
    return [scene for scene in plain_scenes(extra.pictures // 8) if scene.time not in ("night", "dusk")]


def pictures_of(extra: Extra) -> np.ndarray:
    """The part's pictures, uint8 (N, 128, 128, 3 or 5), drawn where they are not yet."""
    if extra.part in CONTROLS:
        return np.load(
            data.make_pool(extra.kept("controls.npy"), plain_scenes(extra.pictures), (128, 128), control.drawn_control)
        )
    if extra.part == inversion.NAME:
        return np.stack([np.asarray(inversion.flamingo_scene(scene)) for scene in flamingo_scenes(extra)])
    drawn = np.load(data.make_pool(extra.kept("plain.npy"), plain_scenes(extra.pictures), (128, 128)))
    return np.stack([styles.STYLES[extra.part](picture) for picture in drawn])


def prepare(extra: Extra) -> None:
    """Draw, encode and keep what the part learns from."""
    kept = extra.kept(f"{extra.part}.latents.pt")
    if kept.exists():
        return
    kept.parent.mkdir(parents=True, exist_ok=True)
    pictures = pictures_of(extra)
    model = load_pipeline(extra.starter).vae.to(best_device(), memory_format=torch.channels_last)
    torch.save(vae.encode_pool(model, pictures[..., :3]), kept)


def _latents(extra: Extra) -> Tensor:
    return torch.load(extra.kept(f"{extra.part}.latents.pt"), weights_only=True)


def _worker(rank: int, extra: Extra) -> None:
    pipeline, budget, path = (
        load_pipeline(extra.starter),
        Budget(seconds=extra.minutes * 60),
        extra.kept(f"{extra.part}.pt"),
    )
    if extra.part == inversion.NAME:
        said = text.phrasings(
            pipeline.tokenizer, [inversion.background(scene) for scene in flamingo_scenes(extra)], 4, seed=62
        )
        inversion.train_name(path, pipeline, _latents(extra), said, budget, rank, extra.processes)
        return
    ids = text.phrasings(pipeline.tokenizer, plain_scenes(extra.pictures), 4, seed=61)
    if extra.part in CONTROLS:
        shown = np.load(extra.kept("controls.npy"), mmap_mode="r")[..., control.CHANNELS[extra.part]]
        lesson, lines = (
            control.ControlLesson(pipeline, _latents(extra), ids, shown),
            place_of("edges", extra.starter.parent),
        )
        start = lines if extra.part == "depth" and lines.exists() else None
        control.train_control(path, lesson, budget, rank, extra.processes, start)
    else:
        styles.train_style(path, pipeline, _latents(extra), ids, budget, rank, extra.processes)


def make(extra: Extra) -> None:
    """Prepare, train and write one part."""
    prepare(extra)
    run_together(partial(_worker, extra=extra), extra.processes, extra.out)
    write(extra)


def write(extra: Extra) -> None:
    """Write the trained part to its place."""
    path, pipeline = extra.kept(f"{extra.part}.pt"), load_pipeline(extra.starter)
    if extra.part in CONTROLS:
        control.write_control(path, pipeline, extra.target())
    elif extra.part == inversion.NAME:
        inversion.write_name(path, pipeline, extra.target())
    else:
        styles.write_style(path, pipeline, extra.target())


def main() -> None:
    """Make the parts that were asked for, in order."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    parser = argparse.ArgumentParser(
        prog="python -m training.extras", description="Train what hangs on the starter model."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for pictures and checkpoints")
    parser.add_argument("--part", choices=PARTS, nargs="+", default=PARTS, help="one or several (default all)")
    parser.add_argument("--starter", type=Path, default=Path("models/starter"))
    parser.add_argument("--pictures", type=int, default=3000, help="scenes to draw")
    parser.add_argument("--minutes", type=float, default=10, help="for each part")
    parser.add_argument("--processes", type=int, default=1 if best_device().type == "cuda" else 2)
    arguments = vars(parser.parse_args())
    for part in arguments.pop("part"):
        make(Extra(part, **arguments))


if __name__ == "__main__":
    main()
