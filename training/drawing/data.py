"""Pools of drawn scenes on disk: pictures and coverage as .npy, their parameters as one .json beside them."""

import json
import logging
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from training.drawing.drawing import draw_all, draw_portrait
from training.drawing.scenes import Scene, random_scene

LOG = logging.getLogger(__name__)
SIZES = {"square": (128, 128), "wide": (160, 96), "tall": (96, 160), "large": (256, 256)}
_CHUNK = 32
Drawn = tuple[np.ndarray, np.ndarray]  # picture (H, W, 3) and coverage (H/8, W/8), both uint8


def scenes_of(seed: int, count: int, thing_share: float = 0.86) -> list[Scene]:
    """The scenes of a pool, the same for the same seed: rarer weather is shown more often than it is asked for."""
    rng = np.random.default_rng(seed)
    return [random_scene(rng, thing_share, clear_share=0.35) for _ in range(count)]


def drawn_scene(scene: Scene, size: tuple[int, int]) -> Drawn:
    """A scene as arrays; size is (width, height)."""
    drawing = draw_all(scene, *size)
    return np.asarray(drawing.picture), (drawing.covered * 255).astype(np.uint8)


def drawn_portrait(scene: Scene, size: tuple[int, int]) -> Drawn:
    """The things of a scene alone, large; all of it counts as covered."""
    return np.asarray(draw_portrait(scene, size[0])), np.full((size[1] // 8, size[0] // 8), 255, np.uint8)


def _draw_chunk(scenes: list[Scene], size: tuple[int, int], draw: Callable[[Scene, tuple[int, int]], Drawn]) -> Drawn:
    pictures, covered = zip(*(draw(scene, size) for scene in scenes), strict=True)
    return np.stack(pictures), np.stack(covered)


def make_pool(
    path: Path,
    scenes: list[Scene],
    size: tuple[int, int],
    draw: Callable[[Scene, tuple[int, int]], Drawn] = drawn_scene,
    processes: int | None = None,
) -> Path:
    """Draw scenes once and keep them; a finished pool is used again.

    Args:
        path: Where the pictures go, uint8 (N, H, W, 3) as .npy; .json and .covered.npy are written beside it.
        size: (width, height) in pixels.
        processes: As many as there are cores where none is given.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    chunks = [scenes[i : i + _CHUNK] for i in range(0, len(scenes), _CHUNK)]
    with ProcessPoolExecutor(processes) as workers:
        drawn = list(workers.map(partial(_draw_chunk, size=size, draw=draw), chunks))
    path.with_suffix(".json").write_text(json.dumps([asdict(scene) for scene in scenes]))
    np.save(path.with_suffix(".covered.npy"), np.concatenate([covered for _, covered in drawn]))
    temporary = path.with_suffix(".part.npy")
    np.save(temporary, np.concatenate([pictures for pictures, _ in drawn]))
    temporary.rename(path)
    LOG.info("pool %s: %d pictures of %dx%d", path.stem, len(scenes), *size)
    return path


def read_scenes(path: Path) -> list[Scene]:
    """The scenes of a pool, in the order of its pictures."""
    return [Scene(**entry) for entry in json.loads(path.with_suffix(".json").read_text())]


def read_coverage(path: Path) -> np.ndarray:
    """How much of each 8x8 block of a pool's pictures holds a thing: uint8 (N, H/8, W/8)."""
    return np.load(path.with_suffix(".covered.npy"))
