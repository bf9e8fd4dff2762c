"""Gives the text encoder a start of its own: its last tokens draw the picture that the prompt speaks of.

The last 16 positions, padding in all but the longest prompts, regress through one throw-away Linear two pictures, a 4x4
patch of latents each: the prompt's canonical scene, and its things alone and large. The shape of a thing then stands in
the prompt, where the U-Net reads it. The file stays a plain CLIPTextModel.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from training.drawing.captions import caption
from training.drawing.scenes import Scene
from training.loops.checkpoints import Budget
from training.loops.loop import Loop, load_averaged
from training.loops.together import best_device, bfloat
from training.models import TEXT_WIDTH, new_text_encoder
from training.tokenizer import token_ids

SLOTS = 16
PEAK = 1.5e-3
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def prompt_of(scene: Scene, rng: np.random.Generator) -> str:
    """A caption to train on, rarely with a word that nobody knows."""
    words = caption(scene, rng).split(" ")
    if rng.random() < 0.04:
        unknown = "".join(_LETTERS[i] for i in rng.integers(0, 26, rng.integers(3, 8)))
        words.insert(int(rng.integers(len(words) + 1)), unknown)
    return " ".join(words)


def phrasings(tokenizer: CLIPTokenizer, scenes: list[Scene], count: int, seed: int) -> Tensor:
    """Token ids (N, count, LENGTH) of several captions a scene."""
    rng = np.random.default_rng(seed)
    texts = [prompt_of(scene, rng) for scene in scenes for _ in range(count)]
    return token_ids(tokenizer, texts).view(len(scenes), count, -1).to(torch.int16)


def patches(latents: Tensor) -> Tensor:
    """Latents (B, C, 16, 16) as 16 patches of 4x4: (B, 16, 16 C), rows first."""
    return functional.unfold(latents, 4, stride=4).transpose(1, 2)


def unpatched(slots: Tensor) -> Tensor:
    """The inverse of `patches`."""
    return functional.fold(slots.transpose(1, 2), (16, 16), 4, stride=4)


class Slots(nn.Module):
    """The text encoder and the Linear that reads pictures from its last positions."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.encoder, self.head = new_text_encoder(tokenizer), nn.Linear(TEXT_WIDTH, 128)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids (B, LENGTH) to patches of scene and portrait, (B, 16, 64) each."""
        scene, portrait = self.head(self.encoder(ids).last_hidden_state[:, -SLOTS:]).chunk(2, -1)
        return scene, portrait


class TextLesson:
    """Phrasings of canonical scenes, and what the slots should draw for them.

    Args:
        ids: Token ids (N, K, LENGTH) of K phrasings a scene.
        latents: Of canonical scenes and of portraits, (N, 4, 16, 16) each.
        covered: Coverage of the canonical scenes, 0 to 1, (N, 16, 16): covered latents weigh four times as much.
        batch: Captions a step.
    """

    def __init__(self, ids: Tensor, latents: tuple[Tensor, Tensor], covered: Tensor, batch: int = 64) -> None:
        self.device, self.batch = best_device(), batch
        self.ids = ids.to(self.device)
        self.scenes, self.portraits = (patches(part.float()).to(self.device) for part in latents)
        self.weights = patches((1 + 3 * covered.float())[:, None].expand(-1, 4, -1, -1)).to(self.device)

    def loss(self, slots: Slots, rng: np.random.Generator) -> Tensor:
        """The loss of one batch."""
        rows = torch.from_numpy(rng.integers(0, len(self.ids), self.batch)).to(self.device)
        ids = self.ids[rows, int(rng.integers(self.ids.shape[1]))].long()
        with bfloat(self.device):
            scene, portrait = slots(ids)
        error = (scene.float() - self.scenes[rows]).square() * self.weights[rows]
        return error.mean() + 0.5 * functional.mse_loss(portrait.float(), self.portraits[rows])


def new_slots(tokenizer: CLIPTokenizer, start: Path | None = None) -> Slots:
    """An untrained text encoder with its head; where a model folder is given, that folder's encoder, standing still."""
    slots = Slots(tokenizer)
    if start:
        known = CLIPTextModel.from_pretrained(start, subfolder="text_encoder", torch_dtype=torch.float32)
        slots.encoder.load_state_dict(known.state_dict())
        slots.encoder.requires_grad_(False)
    return slots


def train_text(path: Path, slots: Slots, lesson: TextLesson, budget: Budget, rank: int = 0, world: int = 1) -> None:
    """Train what does not stand still of `Slots` to the end of the budget; goes on from the checkpoint at path."""
    slots = slots.to(lesson.device)
    loop = Loop(path, slots, budget, PEAK, rank=rank, world=world)
    while not loop.is_over():
        loop.apply(lesson.loss(slots, np.random.default_rng((2, rank, loop.step))))


def load_slots(path: Path, tokenizer: CLIPTokenizer) -> Slots:
    """The text encoder and its head as training left them; untrained where it never ran."""
    return load_averaged(path, Slots(tokenizer))
