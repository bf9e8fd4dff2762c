"""Pools of drawn scenes on disk: pictures as one .npy, their parameters as one .json beside it."""

import json
import logging
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from training.scenes import Scene, draw, random_scene

LOG = logging.getLogger(__name__)
SIZES = {"square": (128, 128), "wide": (160, 96), "tall": (96, 160)}
_CHUNK = 64


def scenes_of(seed: int, count: int) -> list[Scene]:
    """The scenes of a pool: the same for the same seed."""
    rng = np.random.default_rng(seed)
    return [random_scene(rng) for _ in range(count)]


def _draw_chunk(scenes: list[Scene], size: tuple[int, int]) -> np.ndarray:
    return np.stack([np.asarray(draw(scene, *size)) for scene in scenes])


def make_pool(folder: Path, name: str, scenes: list[Scene], size: tuple[int, int], processes: int = 2) -> Path:
    """Draw scenes once and keep them; a finished pool is used again.

    Args:
        size: (width, height) in pixels.
    Returns:
        Path of a uint8 array (N, H, W, 3); the scenes are in the .json of the same name.
    """
    path = folder / f"{name}.npy"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    chunks = [scenes[i : i + _CHUNK] for i in range(0, len(scenes), _CHUNK)]
    with ProcessPoolExecutor(processes) as workers:
        pictures = np.concatenate(list(workers.map(partial(_draw_chunk, size=size), chunks)))
    (folder / f"{name}.json").write_text(json.dumps([asdict(scene) for scene in scenes]))
    temporary = folder / f"{name}.part.npy"
    np.save(temporary, pictures)
    temporary.rename(path)
    LOG.info("pool %s: %d pictures of %dx%d", name, len(scenes), *size)
    return path


def read_scenes(path: Path) -> list[Scene]:
    """The scenes of a pool, in the order of its pictures."""
    return [Scene(**entry) for entry in json.loads(path.with_suffix(".json").read_text())]
