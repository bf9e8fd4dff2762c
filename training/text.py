"""Gives the text encoder a start of its own: its last tokens draw a canonical picture of the prompt.

The last 16 positions, padding in all but the longest prompts, regress through one throw-away Linear
the 4x4 patches of the latents of the prompt's canonical scene. The file stays a plain CLIPTextModel.
"""

import logging
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from training.captions import caption
from training.checkpoints import Budget, load_checkpoint, save_checkpoint, set_rate
from training.models import TEXT_WIDTH, new_text_encoder
from training.scenes import Scene
from training.tokenizer import token_ids

LOG = logging.getLogger(__name__)
SLOTS = 16
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def prompt_of(scene: Scene, rng: np.random.Generator, empty: float = 0.1) -> str:
    """A caption to train on: empty now and then for guidance, and rarely with a word nobody knows."""
    if rng.random() < empty:
        return ""
    words = caption(scene, rng).split(" ")
    if rng.random() < 0.05:
        unknown = "".join(_LETTERS[i] for i in rng.integers(0, 26, rng.integers(3, 8)))
        words.insert(int(rng.integers(len(words) + 1)), unknown)
    return " ".join(words)


def patches(latents: Tensor) -> Tensor:
    """Latents (B, 4, 16, 16) as 16 patches of 4x4: (B, 16, 64), rows first."""
    rows = functional.unfold(latents, 4, stride=4)
    return rows.transpose(1, 2)


def train_text(folder: Path, tokenizer: CLIPTokenizer, scenes: list[Scene], latents: Tensor, budget: Budget) -> CLIPTextModel:
    """Train the text encoder alone on captions against canonical latents (N, 4, 16, 16)."""
    torch.manual_seed(1)
    encoder, head = new_text_encoder(tokenizer), nn.Linear(TEXT_WIDTH, 64)
    modules = nn.ModuleDict({"encoder": encoder, "head": head})
    optimizer = torch.optim.AdamW(modules.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01)
    step, spent = load_checkpoint(folder / "text.pt", modules=modules, optimizer=optimizer)
    targets = patches(latents.float())
    clock = time.monotonic()
    while budget.progress(step, spent) < 1:
        set_rate(optimizer, budget.rate(1e-3, step, spent))
        rng = np.random.default_rng((2, step))
        rows = rng.integers(0, len(scenes), 64)
        ids = token_ids(tokenizer, [prompt_of(scenes[row], rng, empty=0) for row in rows])
        made = head(encoder(ids).last_hidden_state[:, -SLOTS:])
        loss = functional.mse_loss(made, targets[torch.from_numpy(rows)])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        now = time.monotonic()
        spent, clock = spent + now - clock, now
        if step % 500 == 0 or budget.progress(step, spent) >= 1:
            LOG.info("text step %d, %.0f s, loss %.4f", step, spent, loss.item())
            save_checkpoint(folder / "text.pt", step, spent, modules=modules, optimizer=optimizer)
    return encoder


def load_text(folder: Path, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The text encoder as `train_text` left it; untrained where it never ran."""
    modules = nn.ModuleDict({"encoder": new_text_encoder(tokenizer), "head": nn.Linear(TEXT_WIDTH, 64)})
    load_checkpoint(folder / "text.pt", modules=modules)
    return modules["encoder"]
