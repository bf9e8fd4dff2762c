"""The judge: one small network that names the parts of a picture, trained on drawn scenes only.

It never sees a generated picture while it learns. Some of its training pictures went through the VAE and back, others
are blurred, so that it judges what is painted and not how sharp it is.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from training.drawing.scenes import LANDS, SKIES, TIMES, Scene
from training.drawing.things.table import THINGS
from training.loops.checkpoints import Budget
from training.loops.loop import Loop, load_averaged
from training.loops.together import best_device, bfloat
from training.vae import to_tensor

KEPT = Path(__file__).with_name("judge.safetensors")  # the one that judged RESULTS.md, half precision
BATCH, PEAK, MOVE = 32, 2e-3, 5
LIGHTS = (
    "",
    "sun",
    "full moon",
    "crescent moon",
    "stars",
    "aurora",
    "rainbow",
    "lightning",
    "lanterns",
    "fireworks",
    "comet",
)
THING_NAMES = (*THINGS, "flamingo")  # the embedding's thing last
ANSWERS: dict[str, tuple[str, ...]] = {"time": TIMES, "sky": SKIES, "land": tuple(LANDS), "light": LIGHTS}
PLACES = (slice(0, 3), slice(3, 5), slice(5, 8))  # columns of the 8x8 map: left, middle, right


@dataclass(frozen=True)
class Labels:
    """What is true of N pictures: an index (N,) for each attribute of ANSWERS, and where things are (N, things, 3)."""

    whole: dict[str, Tensor]
    things: Tensor

    def rows(self, index: Tensor) -> "Labels":
        """The labels of some of the pictures."""
        return Labels({name: values[index] for name, values in self.whole.items()}, self.things[index])

    def mirrored(self) -> "Labels":
        """What is true of the pictures with left and right changed."""
        return Labels(self.whole, self.things.flip(2))

    def to(self, device: torch.device) -> "Labels":
        """The same on a device."""
        return Labels({name: values.to(device) for name, values in self.whole.items()}, self.things.to(device))


def places_of(scene: Scene) -> list[tuple[str, int]]:
    """The things of a scene, each with its place: 0 left, 1 middle, 2 right."""
    names = [scene.thing] * scene.count + ([scene.second] if scene.second else [])
    spots = {1: ({"left": 0, "right": 2}.get(scene.side, 1),), 2: (0, 2), 3: (0, 1, 2)}[len(names)]
    return list(zip(names, spots, strict=True)) if scene.thing else []


def labels_of(scenes: list[Scene]) -> Labels:
    """What is true of drawn scenes."""
    things = torch.zeros(len(scenes), len(THING_NAMES), len(PLACES))
    for row, scene in enumerate(scenes):
        for name, place in places_of(scene):
            things[row, THING_NAMES.index(name), place] = 1
    whole = {
        name: torch.tensor([answers.index(getattr(scene, name)) for scene in scenes])
        for name, answers in ANSWERS.items()
    }
    return Labels(whole, things)


class Judge(nn.Module):
    """Pictures (B, 3, 128, 128) from -1 to 1 to logits.

    The logits are (B, answers) by attribute, and (B, things, 3) for where things are.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        layers: list[nn.Module] = []
        for before, after, repeats in ((3, 24, 1), (24, 48, 2), (48, 96, 2), (96, 160, 3)):
            for index in range(repeats):
                layers += [
                    nn.Conv2d(after if index else before, after, 3, stride=1 if index else 2, padding=1),
                    nn.GroupNorm(8, after),
                    nn.SiLU(),
                ]
        self.body = nn.Sequential(*layers)
        self.whole = nn.ModuleDict({name: nn.Linear(160 * 18, len(answers)) for name, answers in ANSWERS.items()})
        self.map = nn.Conv2d(160, len(THING_NAMES), 1)

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Logits by attribute; those of "things" are independent yes or no."""
        features = self.body(pictures)
        grid = functional.adaptive_avg_pool2d(features, 4).flatten(1)
        whole = torch.cat([features.mean((2, 3)), features.amax((2, 3)), grid], 1)
        spots = self.map(features).float()
        things = torch.stack([spots[..., columns].flatten(2).logsumexp(2) for columns in PLACES], 2) - 3
        return {**{name: layer(whole) for name, layer in self.whole.items()}, "things": things}


def judge_loss(logits: dict[str, Tensor], labels: Labels) -> Tensor:
    """Cross entropy of the attributes, and of each thing in each place, where things that are there weigh more."""
    things = functional.binary_cross_entropy_with_logits(
        logits["things"].float(), labels.things, pos_weight=torch.tensor(8.0, device=labels.things.device)
    )
    return sum((functional.cross_entropy(logits[name].float(), labels.whole[name]) for name in ANSWERS), 20 * things)


def softened(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """A batch as it is, or blurred a little: reduced by a third to a half and upscaled again."""
    if rng.random() < 0.5:
        return pictures
    size = int(rng.integers(60, 100))
    small = functional.interpolate(pictures, size=size, mode="bilinear", antialias=True)
    return functional.interpolate(small, size=pictures.shape[-1], mode="bilinear")


def moved(pictures: Tensor, rng: np.random.Generator) -> Tensor:
    """A batch shifted by up to MOVE pixels in each direction; what comes in repeats the edge."""
    down, right = rng.integers(0, 2 * MOVE + 1, 2)
    height, width = pictures.shape[-2:]
    return functional.pad(pictures, (MOVE,) * 4, mode="replicate")[..., down : down + height, right : right + width]


class JudgeLesson:
    """Pictures (N, 128, 128, 3) and what is true of them."""

    def __init__(self, pictures: np.ndarray, scenes: list[Scene]) -> None:
        self.device, self.pictures, self.labels = best_device(), pictures, labels_of(scenes)

    def loss(self, judge: Judge, rng: np.random.Generator) -> Tensor:
        """The loss of one batch; one in two is mirrored, labels and all."""
        rows = np.sort(rng.integers(0, len(self.pictures), BATCH))
        batch, labels = to_tensor(self.pictures[rows]).to(self.device), self.labels.rows(torch.from_numpy(rows))
        if rng.random() < 0.5:
            batch, labels = batch.flip(3), labels.mirrored()
        batch = softened(moved(batch, rng), rng)
        grain = torch.from_numpy(rng.standard_normal(batch.shape, dtype=np.float32)).to(self.device)
        with bfloat(self.device):
            logits = judge(batch + 0.02 * grain)
        return judge_loss(logits, labels.to(self.device))


def train_judge(
    path: Path, lesson: JudgeLesson, budget: Budget, rank: int = 0, world: int = 1, start: Path | None = None
) -> None:
    """Train a judge to the end of the budget.

    Goes on from the checkpoint at path, else from the judge kept at start, else from nothing.
    """
    judge = (load_judge(start) if start else Judge()).train().to(lesson.device, memory_format=torch.channels_last)
    loop = Loop(path, judge, budget, PEAK, rank=rank, world=world)
    while not loop.is_over():
        loop.apply(lesson.loss(judge, np.random.default_rng((4, rank, loop.step))))


def load_judge(path: Path) -> Judge:
    """A trained judge, of a checkpoint or of a file that `keep_judge` wrote."""
    if path.suffix != ".safetensors":
        return load_averaged(path, Judge())
    judge = Judge()
    judge.load_state_dict(load_file(path))
    return judge.eval()


def keep_judge(judge: Judge, path: Path) -> None:
    """Write a judge in half precision."""
    save_file(
        {name: value.half().contiguous() for name, value in judge.state_dict().items()},
        path,
        metadata={"format": "pt", "license": "Apache-2.0"},
    )


@torch.inference_mode()
def judged(judge: Judge, pictures: np.ndarray) -> dict[str, Tensor]:
    """The logits of pictures, uint8 (N, 128, 128, 3): the mean of those of each picture and of its mirror image."""
    parts = [_both_ways(judge, to_tensor(pictures[start : start + 32])) for start in range(0, len(pictures), 32)]
    return {name: torch.cat([part[name] for part in parts]).float() for name in parts[0]}


def _both_ways(judge: Judge, batch: Tensor) -> dict[str, Tensor]:
    plain, mirrored = judge(batch), judge(batch.flip(3))
    mirrored["things"] = mirrored["things"].flip(2)
    return {name: (values + mirrored[name]) / 2 for name, values in plain.items()}
