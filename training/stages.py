"""The stages of training in their order, each from files to files, so that any can be run again alone.

pools -> vae -> freeze -> decoder -> text -> unet -> export -> sheet
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTokenizer

from training import captions, data, diffusion, export, sheet, text, tokenizer, vae
from training.checkpoints import Budget, load_checkpoint
from training.together import run_together

LOG = logging.getLogger(__name__)
_POOLS = {"square": 10, "wide": 11, "tall": 12}  # name: seed
_HELD_OUT_SEED = 999
_CANONICAL, _OTHER_SHAPES = 3000, 2000  # pictures, at most


@dataclass(frozen=True)
class Plan:
    """Where a run keeps its files, how much it draws, and how many minutes each stage has."""

    out: Path
    target: Path
    pictures: int
    processes: int
    minutes: dict[str, float]

    def budget(self, stage: str) -> Budget:
        """The wall-clock budget of a stage."""
        return Budget(seconds=self.minutes[stage] * 60)

    def pool(self, name: str) -> Path:
        """The path of a pool of pictures."""
        return self.out / "pools" / f"{name}.npy"


def draw_pools(plan: Plan) -> None:
    """Draw the square, wide, tall, canonical and held-out pictures."""
    folder, square = plan.out / "pools", data.scenes_of(_POOLS["square"], plan.pictures)
    data.make_pool(folder, "square", square, data.SIZES["square"])
    data.make_pool(folder, "canonical", [scene.canonical() for scene in square[:_CANONICAL]], data.SIZES["square"])
    for name in ("wide", "tall"):
        data.make_pool(folder, name, data.scenes_of(_POOLS[name], min(plan.pictures, _OTHER_SHAPES)), data.SIZES[name])
    data.make_pool(folder, "held_out", data.scenes_of(_HELD_OUT_SEED, 64), data.SIZES["square"])


def _vae_worker(rank: int, plan: Plan) -> None:
    pool, held_out = np.load(plan.pool("square"), mmap_mode="r"), np.load(plan.pool("held_out"))
    vae.train_vae(plan.out, pool, held_out, plan.budget("vae"), rank, plan.processes)


def train_vae(plan: Plan) -> None:
    """Train encoder and decoder together."""
    run_together(partial(_vae_worker, plan=plan), plan.processes, plan.out)


def freeze(plan: Plan) -> None:
    """Fold the normalisation into the trained VAE, keep it, and encode all pools with it."""
    model = vae.new_vae().to(memory_format=torch.channels_last)
    average = vae.averaged(model)
    load_checkpoint(plan.out / "vae.pt", average=average)
    model = average.module.eval()
    pictures = np.load(plan.pool("square"), mmap_mode="r")
    vae.fold_normalisation(model, vae.encode_pool(model, pictures[:512]))
    model.save_pretrained(plan.out / "vae")
    for name in ("square", "wide", "tall", "canonical"):
        torch.save(vae.encode_pool(model, np.load(plan.pool(name), mmap_mode="r")), plan.out / "pools" / f"{name}.latents.pt")
        LOG.info("encoded %s", name)


def _frozen_vae(plan: Plan) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(plan.out / "vae").to(memory_format=torch.channels_last)


def _latents(plan: Plan, name: str) -> Tensor:
    return torch.load(plan.out / "pools" / f"{name}.latents.pt", weights_only=True)


def _decoder_worker(rank: int, plan: Plan) -> None:
    model = _frozen_vae(plan)
    vae.train_decoder(plan.out, model, np.load(plan.pool("square"), mmap_mode="r"), _latents(plan, "square"), plan.budget("decoder"), rank, plan.processes)
    if rank == 0:
        LOG.info("decoder: held out %.2f dB", vae.decibels(model, np.load(plan.pool("held_out"))))
        model.save_pretrained(plan.out / "vae_final")


def train_decoder(plan: Plan) -> None:
    """Train the decoder alone on whole pictures from slightly noisy latents, and keep it beside the frozen encoder."""
    run_together(partial(_decoder_worker, plan=plan), plan.processes, plan.out)


def _tokenizer(plan: Plan) -> CLIPTokenizer:
    return tokenizer.write_tokenizer(plan.out / "tokenizer", captions.vocabulary())


def train_text(plan: Plan) -> None:
    """Train the text encoder alone on the canonical pictures."""
    text.train_text(plan.out, _tokenizer(plan), data.read_scenes(plan.pool("canonical")), _latents(plan, "canonical"), plan.budget("text"))


def _unet_worker(rank: int, plan: Plan) -> None:
    words = CLIPTokenizer.from_pretrained(plan.out / "tokenizer")
    trainer = diffusion.Trainer(diffusion.new_painter(words, text.load_text(plan.out, words)), words, plan.out / "unet.pt")
    buckets = [diffusion.Bucket(_latents(plan, name), data.read_scenes(plan.pool(name))) for name in _POOLS]
    trainer.run(buckets, plan.budget("unet"), rank, plan.processes)


def train_unet(plan: Plan) -> None:
    """Train U-Net and text encoder together."""
    _tokenizer(plan)
    run_together(partial(_unet_worker, plan=plan), plan.processes, plan.out)


def export_model(plan: Plan) -> None:
    """Write the averaged weights as the model folder."""
    words = _tokenizer(plan)
    painter = diffusion.load_average(plan.out / "unet.pt", words)
    final = plan.out / "vae_final"
    model = AutoencoderKL.from_pretrained(final if final.exists() else plan.out / "vae")
    size = export.export(plan.target, words, painter.text_encoder.eval(), painter.unet.eval(), model.eval())
    LOG.info("%s: %.2f MiB", plan.target, size / 2**20)


def paint_sheet(plan: Plan) -> None:
    """Paint the fixed prompts with the exported model into sheet.png."""
    sheet.paint_sheet(plan.target, plan.out / "sheet.png")


STAGES: dict[str, Callable[[Plan], None]] = {
    "pools": draw_pools, "vae": train_vae, "freeze": freeze, "decoder": train_decoder,
    "text": train_text, "unet": train_unet, "export": export_model, "sheet": paint_sheet,
}  # fmt: skip
