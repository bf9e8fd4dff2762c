"""Trains the U-Net and the text encoder on cached latents: v prediction, prompt dropout, EMA.

The text encoder stands still until the last part of the budget, in which the rate falls and other shapes join; it then
learns along and goes on drawing its pictures (`text.py`), which keeps its slots sharp.

Each process has its own batches; parameters are averaged every few steps. A step's batch depends on (rank, step) alone,
so a run that goes on from a checkpoint sees what it would have seen.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import CLIPTextModel, CLIPTokenizer

from training.loops.checkpoints import Budget, Stopwatch, load_checkpoint, save_checkpoint, set_rate
from training.loops.optimizers import MatrixOptimizer
from training.loops.together import best_device, bfloat, meet
from training.models import new_scheduler, new_unet
from training.text import Slots, TextLesson
from training.tokenizer import token_ids

LOG = logging.getLogger(__name__)
PEAK = 1.2e-3
EMPTY_SHARE = 0.1
SLOTS_WEIGHT = 0.5  # of the loss of the text encoder's own pictures
THING_WEIGHT = 2.0  # what a latent that a thing covers weighs beyond the others
AVERAGE_EVERY = 8
SAVE_EVERY_S = 120


@dataclass(frozen=True)
class Bucket:
    """Pictures of one size.

    Attributes:
        latents: (N, 4, h, w), of deviation 1.
        covered: How much of each latent a thing covers, uint8, (N, h, w).
        ids: Token ids of a few captions each, (N, K, LENGTH).
        share: The share of the late steps that this size gets; the first bucket has all the others.
        batch: Samples a step.
    """

    latents: Tensor
    covered: Tensor
    ids: Tensor
    share: float = 0.0
    batch: int = 32

    def to(self, device: torch.device) -> "Bucket":
        """The same on a device."""
        return Bucket(self.latents.to(device), self.covered.to(device), self.ids.to(device), self.share, self.batch)


def noised(x0: Tensor, noise: Tensor, alphas: Tensor) -> tuple[Tensor, Tensor]:
    """Forward noising and its v target.

    Args:
        x0: Clean latents (B, 4, h, w).
        noise: Of the same shape, normal.
        alphas: Cumulative alpha of each row's timestep (B,).
    Returns:
        x_t = sqrt(a) x0 + sqrt(1 - a) noise and v = sqrt(a) noise - sqrt(1 - a) x0.
    Source: Salimans and Ho 2022 (arXiv 2202.00512), appendix D.
    """
    keep, add = alphas.sqrt()[:, None, None, None], (1 - alphas).sqrt()[:, None, None, None]
    return keep * x0 + add * noise, keep * noise - add * x0


def timesteps(rng: np.random.Generator, count: int) -> Tensor:
    """Timesteps (count,) from 0 to 999, one from each stratum, leaning to high noise."""
    shares = (np.arange(count) + rng.random(count)) / count
    return torch.from_numpy(np.minimum(999, shares**0.68 * 1000).astype(np.int64))


class Painter(nn.Module):
    """The text encoder with its slots and the U-Net as one module, so that they are averaged and saved together."""

    def __init__(self, slots: Slots, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.slots, self.unet = slots, unet

    @property
    def text_encoder(self) -> CLIPTextModel:
        """The text encoder alone, as it is shipped."""
        return self.slots.encoder

    def forward(self, latents: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        """The v prediction (B, 4, h, w) for noisy latents, timesteps (B,) and token ids (B, LENGTH)."""
        words = self.text_encoder(ids).last_hidden_state
        return self.unet(latents, t, encoder_hidden_states=words).sample


def pick_bucket(buckets: list[Bucket], rng: np.random.Generator, is_last_part: bool) -> Bucket:
    """The first size alone, in the last part the others as often as they ask."""
    chance = rng.random()
    for bucket in buckets[1:] if is_last_part else ():
        if chance < bucket.share:
            return bucket
        chance -= bucket.share
    return buckets[0]


def new_painter(slots: Slots, start: Path | None = None) -> Painter:
    """A U-Net beside a text encoder.

    Args:
        start: A model folder whose U-Net goes on, but for layers of another shape; untrained where none is given.
    """
    torch.manual_seed(3)
    unet = new_unet()
    if start:
        fresh, known = (
            unet.state_dict(),
            UNet2DConditionModel.from_pretrained(start, subfolder="unet", torch_dtype=torch.float32).state_dict(),
        )
        unet.load_state_dict(
            {name: known[name] if known[name].shape == value.shape else value for name, value in fresh.items()}
        )
    return Painter(slots, unet)


class Trainer:
    """Painter, its average and its optimizer; `run` trains until the budget is spent.

    The average takes 2% of the parameters every AVERAGE_EVERY steps. Without a lesson the slots learn from the U-Net
    alone.
    """

    def __init__(
        self, painter: Painter, tokenizer: CLIPTokenizer, path: Path, lesson: TextLesson | None = None, seed: int = 7
    ) -> None:
        self.device = best_device()
        self.painter, self.path, self.lesson, self.seed = painter.to(self.device), path, lesson, seed
        self.empty = token_ids(tokenizer, [""]).to(self.device)
        self.average = AveragedModel(painter, multi_avg_fn=get_ema_multi_avg_fn(0.98))
        self.optimizer = MatrixOptimizer(self.painter, PEAK)
        self.alphas = new_scheduler().alphas_cumprod.to(self.device)
        self.step, self.spent_s = load_checkpoint(path, painter=painter, average=self.average, optimizer=self.optimizer)

    def batch_loss(self, bucket: Bucket, rng: np.random.Generator) -> Tensor:
        """The weighted v loss of one batch drawn from a bucket with this generator."""
        rows = torch.from_numpy(rng.integers(0, len(bucket.latents), bucket.batch)).to(self.device)
        ids = bucket.ids[rows, int(rng.integers(bucket.ids.shape[1]))].long()
        is_empty = torch.from_numpy(rng.random(bucket.batch) < EMPTY_SHARE).to(self.device)
        ids = torch.where(is_empty[:, None], self.empty, ids)
        x0 = bucket.latents[rows].float()
        noise = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32)).to(self.device)
        t = timesteps(rng, bucket.batch).to(self.device)
        noisy, target = noised(x0, noise, self.alphas[t])
        with bfloat(self.device):
            predicted = self.painter(noisy, t, ids)
        weights = 1 + THING_WEIGHT * bucket.covered[rows].float()[:, None] / 255
        return ((predicted.float() - target).square() * weights).mean()

    def train_step(self, buckets: list[Bucket], budget: Budget, rank: int = 0) -> float:
        """One optimizer step; returns the v loss."""
        rng, is_last_part = (
            np.random.default_rng((self.seed, rank, self.step)),
            budget.is_last_part(self.step, self.spent_s),
        )
        set_rate(self.optimizer, budget.rate(PEAK, self.step, self.spent_s, warm_up=200))
        self.painter.slots.requires_grad_(is_last_part)
        painted = self.batch_loss(
            pick_bucket(buckets, np.random.default_rng((self.seed, self.step)), is_last_part), rng
        )
        loss = (
            painted + SLOTS_WEIGHT * self.lesson.loss(self.painter.slots, rng)
            if self.lesson and is_last_part
            else painted
        )
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.painter.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return painted.item()

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(
            self.path, self.step, self.spent_s, painter=self.painter, average=self.average, optimizer=self.optimizer
        )

    def run(self, buckets: list[Bucket], budget: Budget, rank: int = 0, world: int = 1) -> None:
        """Train to the end of the budget; rank 0 keeps the clock, the average and the checkpoint."""
        buckets = [bucket.to(self.device) for bucket in buckets]
        watch, saved, losses = Stopwatch(), self.spent_s, []
        while budget.progress(self.step, self.spent_s) < 1:
            losses.append(self.train_step(buckets, budget, rank))
            if self.step % AVERAGE_EVERY == 0:
                self.spent_s = meet(self.painter.parameters(), self.spent_s + watch.lap(), world)
                if rank == 0:
                    self.average.update_parameters(self.painter)
            if rank == 0 and self.spent_s - saved > SAVE_EVERY_S:
                LOG.info(
                    "u-net step %d, %.0f s, loss %.4f, about %d samples",
                    self.step,
                    self.spent_s,
                    np.mean(losses),
                    self.step * buckets[0].batch * world,
                )
                losses, saved = [], self.spent_s
                self.save()
        if rank == 0:
            self.save()


def load_average(path: Path, tokenizer: CLIPTokenizer) -> Painter:
    """The averaged painter of a checkpoint, for export."""
    average = AveragedModel(new_painter(Slots(tokenizer)))
    load_checkpoint(path, average=average)
    return average.module
