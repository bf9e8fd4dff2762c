"""Trains the U-Net and the text encoder on cached latents: v prediction, prompt dropout, EMA.

Each process has its own batches; parameters are averaged every few steps. A step's batch depends on (rank, step) alone,
so a run that goes on from a checkpoint sees what it would have seen.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import CLIPTextModel, CLIPTokenizer

from training.checkpoints import Budget, load_checkpoint, save_checkpoint, set_rate
from training.models import new_scheduler, new_text_encoder, new_unet
from training.scenes import Scene
from training.text import prompt_of
from training.together import meet
from training.tokenizer import token_ids

LOG = logging.getLogger(__name__)
BATCH = 32
PEAK = 1e-3
AVERAGE_EVERY = 8
SAVE_EVERY_S = 120


@dataclass(frozen=True)
class Bucket:
    """Pictures of one size: latents (N, 4, h, w) of deviation 1, and their scenes."""

    latents: Tensor
    scenes: list[Scene]


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
    """The text encoder and the U-Net as one module, so that they are averaged and saved together."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet

    def forward(self, latents: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        """The v prediction (B, 4, h, w) for noisy latents, timesteps (B,) and token ids (B, 32)."""
        words = self.text_encoder(ids).last_hidden_state
        return self.unet(latents, t, encoder_hidden_states=words).sample


def pick_bucket(buckets: list[Bucket], rng: np.random.Generator, progress: float) -> Bucket:
    """Squares alone at first; other shapes a quarter of the time in the last third."""
    if len(buckets) == 1 or progress < 0.66 or rng.random() < 0.72:
        return buckets[0]
    return buckets[1 + int(rng.integers(len(buckets) - 1))]


def batch_loss(painter: Painter, tokenizer: CLIPTokenizer, bucket: Bucket, rng: np.random.Generator, alphas: Tensor) -> Tensor:
    """The v loss of one batch drawn from a bucket with this generator."""
    rows = rng.integers(0, len(bucket.scenes), BATCH)
    x0 = bucket.latents[torch.from_numpy(rows)].float()
    noise = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32))
    t = timesteps(rng, BATCH)
    ids = token_ids(tokenizer, [prompt_of(bucket.scenes[row], rng) for row in rows])
    noisy, target = noised(x0, noise, alphas[t])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predicted = painter(noisy, t, ids)
    return functional.mse_loss(predicted.float(), target)


def new_painter(tokenizer: CLIPTokenizer, text: CLIPTextModel | None = None) -> Painter:
    """An untrained U-Net beside a text encoder (untrained too where none is given)."""
    torch.manual_seed(3)
    unet = new_unet()
    return Painter(text if text is not None else new_text_encoder(tokenizer), unet)


class Trainer:
    """Painter, its average and its optimizer; `run` trains until the budget is spent.

    The average takes 2% of the parameters every AVERAGE_EVERY steps.
    """

    def __init__(self, painter: Painter, tokenizer: CLIPTokenizer, path: Path, seed: int = 7) -> None:
        self.painter, self.tokenizer, self.path, self.seed = painter, tokenizer, path, seed
        self.average = AveragedModel(painter, multi_avg_fn=get_ema_multi_avg_fn(0.98))
        groups = [{"params": painter.unet.parameters(), "scale": 1.0}, {"params": painter.text_encoder.parameters(), "scale": 0.4}]
        self.optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        self.alphas = new_scheduler().alphas_cumprod
        self.step, self.spent_s = load_checkpoint(path, painter=painter, average=self.average, optimizer=self.optimizer)

    def train_step(self, buckets: list[Bucket], budget: Budget, rank: int = 0) -> float:
        """One optimizer step; returns its loss."""
        rng = np.random.default_rng((self.seed, rank, self.step))
        set_rate(self.optimizer, budget.rate(PEAK, self.step, self.spent_s, warm_up=200))
        bucket = pick_bucket(buckets, np.random.default_rng((self.seed, self.step)), budget.progress(self.step, self.spent_s))
        loss = batch_loss(self.painter, self.tokenizer, bucket, rng, self.alphas)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.painter.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return loss.item()

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.path, self.step, self.spent_s, painter=self.painter, average=self.average, optimizer=self.optimizer)

    def run(self, buckets: list[Bucket], budget: Budget, rank: int = 0, world: int = 1) -> None:
        """Train to the end of the budget; rank 0 keeps the clock, the average and the checkpoint."""
        clock, saved, losses = time.monotonic(), self.spent_s, []
        while budget.progress(self.step, self.spent_s) < 1:
            losses.append(self.train_step(buckets, budget, rank))
            if self.step % AVERAGE_EVERY == 0:
                now = time.monotonic()
                self.spent_s, clock = meet(self.painter.parameters(), self.spent_s + now - clock, world), now
                if rank == 0:
                    self.average.update_parameters(self.painter)
            if rank == 0 and self.spent_s - saved > SAVE_EVERY_S:
                LOG.info("u-net step %d, %.0f s, loss %.4f, %d samples", self.step, self.spent_s, np.mean(losses), self.step * BATCH * world)
                losses, saved = [], self.spent_s
                self.save()
        if rank == 0:
            self.save()


def load_average(path: Path, tokenizer: CLIPTokenizer) -> Painter:
    """The averaged painter of a checkpoint, for export."""
    trainer = Trainer(new_painter(tokenizer), tokenizer, path)
    return trainer.average.module
