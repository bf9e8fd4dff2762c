"""What a generated picture is measured by.

Every measure is a function of pictures and of the scenes that were asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import Tensor

from training.drawing.captions import caption
from training.drawing.drawing import draw
from training.drawing.scenes import Scene, any_scene, held_out_scene, random_scene
from training.evaluation.judge import ANSWERS, THING_NAMES, Judge, judged, places_of
from training.vae import to_tensor

STEPS, GUIDANCE, BATCH = 20, 4.0, 16


@dataclass(frozen=True)
class Task:
    """One picture to paint: what is asked, in which words, from which seed."""

    scene: Scene
    prompt: str
    seed: int


def fresh_tasks(count: int, seed: int, held_out_share: float = 0.15) -> list[Task]:
    """Prompts that say all their scene has; the first `held_out_share` of them with pairs never drawn in training."""
    rng = np.random.default_rng((4711, seed))
    tasks = []
    for number in range(count):
        scene = held_out_scene(rng) if number < count * held_out_share else random_scene(rng)
        scene = replace(scene, style="")
        tasks.append(Task(scene, caption(scene, rng, is_complete=True), number + 10_000 * seed))
    return tasks


def paint(
    pipeline: StableDiffusionPipeline,
    tasks: Sequence[Task],
    guidance: float = GUIDANCE,
    negative: Sequence[str] | None = None,
    size: int = 128,
) -> np.ndarray:
    """Paint every task, STEPS steps; uint8 (N, size, size, 3)."""
    pictures = []
    for start in range(0, len(tasks), BATCH):
        part = tasks[start : start + BATCH]
        made = pipeline(
            [task.prompt for task in part], negative_prompt=list(negative[start : start + BATCH]) if negative else None,
            num_inference_steps=STEPS, guidance_scale=guidance, width=size, height=size, output_type="np",
            generator=[torch.Generator().manual_seed(task.seed) for task in part],
        ).images  # fmt: skip
        pictures.append((made * 255 + 0.5).astype(np.uint8))
    return np.concatenate(pictures)


def drawn(scenes: Sequence[Scene]) -> np.ndarray:
    """The scenes as they are drawn for training; uint8 (N, 128, 128, 3)."""
    return np.stack([np.asarray(draw(scene)) for scene in scenes])


@torch.inference_mode()
def round_trip(vae: AutoencoderKL, pictures: np.ndarray) -> np.ndarray:
    """Pictures through the VAE and back."""
    parts = []
    for start in range(0, len(pictures), BATCH):
        latents = vae.encode(to_tensor(pictures[start : start + BATCH])).latent_dist.mode()
        made = vae.decode(latents).sample.clamp(-1, 1).permute(0, 2, 3, 1)
        parts.append(((made + 1) * 127.5 + 0.5).numpy().astype(np.uint8))
    return np.concatenate(parts)


def _share(hits: Sequence[bool]) -> float:
    return float(np.mean(hits)) if len(hits) else float("nan")


def presence(logits: dict[str, Tensor]) -> Tensor:
    """How sure the judge is of each thing anywhere in the picture: (N, things)."""
    return logits["things"].amax(2)


def scores(judge: Judge, pictures: np.ndarray, scenes: Sequence[Scene]) -> dict[str, float]:
    """The share of pictures that are right, by attribute, each over the scenes that have it."""
    logits = judged(judge, pictures)
    found = {}
    for name, answers in ANSWERS.items():
        best = [answers[index] for index in logits[name].argmax(1).tolist()]
        found[name] = _share(
            [best[row] == getattr(scene, name) for row, scene in enumerate(scenes) if name != "light" or scene.light]
        )
    ranked = presence(logits).argsort(1, descending=True).tolist()
    order = [[THING_NAMES[index] for index in row[:5]] for row in ranked]
    alone = [(row, scene) for row, scene in enumerate(scenes) if scene.thing and not scene.second]
    found["thing"] = _share([order[row][0] == scene.thing for row, scene in alone])
    found["thing, top 5"] = _share([scene.thing in order[row] for row, scene in alone])
    found["left or right"] = _share(
        [_is_at_its_side(logits, row, scene) for row, scene in alone if scene.side in ("left", "right")]
    )
    found["two things, both"] = _share(
        [{scene.thing, scene.second} == set(order[row][:2]) for row, scene in enumerate(scenes) if scene.second]
    )
    found["number"] = _share([_has_its_number(logits, row, scene) for row, scene in alone])
    return found


def _is_at_its_side(logits: dict[str, Tensor], row: int, scene: Scene) -> bool:
    (name, place), *_ = places_of(scene)
    return int(logits["things"][row, THING_NAMES.index(name)].argmax()) == place


def _has_its_number(logits: dict[str, Tensor], row: int, scene: Scene) -> bool:
    """Whether the thing is seen in exactly the places where it should be."""
    seen = (logits["things"][row, THING_NAMES.index(scene.thing)] > 0).tolist()
    return [place for place, is_seen in enumerate(seen) if is_seen] == [place for _, place in places_of(scene)]


def sharpness(pictures: np.ndarray) -> float:
    """Mean absolute difference of neighboring pixels, 0 to 255."""
    values = pictures.astype(np.float32)
    return float((np.abs(np.diff(values, axis=1)).mean() + np.abs(np.diff(values, axis=2)).mean()) / 2)


def burnt(pictures: np.ndarray) -> float:
    """The share of channel values at the very ends of the range."""
    return float(((pictures <= 2) | (pictures >= 253)).mean())


def things_seen(judge: Judge, pictures: np.ndarray, names: Sequence[str]) -> float:
    """The share of pictures in which the judge sees the thing named for it."""
    sure = presence(judged(judge, pictures))
    return _share([bool(sure[row, THING_NAMES.index(name)] > 0) for row, name in enumerate(names)])


def light_seen(judge: Judge, pictures: np.ndarray) -> list[str]:
    """The light that the judge sees in each picture, "" where none."""
    return [ANSWERS["light"][index] for index in judged(judge, pictures)["light"].argmax(1).tolist()]


def thing_seen(judge: Judge, pictures: np.ndarray) -> list[str]:
    """The thing that the judge is surest of in each picture, "" where it is sure of none."""
    sure, index = presence(judged(judge, pictures)).max(1)
    return [THING_NAMES[best] if value > 0 else "" for value, best in zip(sure.tolist(), index.tolist(), strict=True)]


def fresh_scenes(count: int, seed: int) -> list[Scene]:
    """Scenes that no training saw, in any pair."""
    rng = np.random.default_rng((815, seed))
    return [any_scene(rng) for _ in range(count)]
