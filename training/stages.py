"""The stages of training in their order, each from files to files, so that any can be run again alone.

pools -> vae -> freeze -> encode -> decoder -> text -> unet -> export -> upscaler -> preview -> sheet
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTokenizer

from training import diffusion, export, parts, sheet, text, tokenizer, vae
from training.drawing import captions, data
from training.loops.checkpoints import Budget
from training.loops.loop import load_averaged
from training.loops.together import best_device, run_together

LOG = logging.getLogger(__name__)
_SHAPES = {
    "square": (10, 0.0),
    "wide": (11, 0.14),
    "tall": (12, 0.14),
    "large": (14, 0.12),
}  # name: seed, share of late steps
_POOLS = (*_SHAPES, "canonical", "portraits")
_HELD_OUT_SEED, _CANONICAL_SEED = 999, 13
_CANONICAL = 5600  # pictures, at most
_PHRASINGS = {"unet": 4, "text": 8}  # captions a scene


@dataclass(frozen=True)
class Plan:
    """Where a run keeps its files, how much it draws, and how many minutes each stage has.

    Attributes:
        start: A model folder whose VAE, text encoder and U-Net the training goes on from; None begins with random
            weights.
        batch: Samples a U-Net step and process; the other trainings take as many as cost about the same.
        last_minutes: How many of the U-Net's minutes, at the end, are its last part, see `diffusion.py`.
    """

    out: Path
    target: Path
    pictures: int
    processes: int
    batch: int
    minutes: dict[str, float]
    start: Path | None = None
    last_minutes: float | None = None

    def budget(self, stage: str) -> Budget:
        """The budget of a stage, in seconds of its own time."""
        return Budget(seconds=self.minutes[stage] * 60)

    def unet_budget(self) -> Budget:
        """The budget of the U-Net, whose last part is two fifths of it where nothing else is asked."""
        share = 0.4 if self.last_minutes is None else self.last_minutes / self.minutes["unet"]
        return replace(self.budget("unet"), last=min(1.0, share))

    def pool(self, name: str) -> Path:
        """The path of a pool of pictures."""
        return self.out / "pools" / f"{name}.npy"


def draw_pools(plan: Plan) -> None:
    """Draw the canonical pictures and portraits, the square, wide, tall and large scenes, and the held-out ones."""
    canonical = [
        scene.canonical() for scene in data.scenes_of(_CANONICAL_SEED, min(_CANONICAL, plan.pictures), thing_share=0.94)
    ]
    data.make_pool(plan.pool("canonical"), canonical, data.SIZES["square"])
    data.make_pool(plan.pool("portraits"), canonical, data.SIZES["square"], data.drawn_portrait)
    data.make_pool(plan.pool("held_out"), data.scenes_of(_HELD_OUT_SEED, 64), data.SIZES["square"])
    for name, (seed, share) in _SHAPES.items():
        count = plan.pictures if name == "square" else int(plan.pictures * share * (0.4 if name == "large" else 0.8))
        data.make_pool(plan.pool(name), data.scenes_of(seed, count), data.SIZES[name])


def _pictures(plan: Plan) -> vae.Pools:
    square = plan.pool("square")
    return vae.Pools(np.load(square, mmap_mode="r"), data.read_coverage(square), np.load(plan.pool("held_out")))


def _vae_worker(rank: int, plan: Plan) -> None:
    model = (
        vae.new_vae()
        if plan.start is None
        else AutoencoderKL.from_pretrained(plan.start, subfolder="vae", torch_dtype=torch.float32)
    )
    vae.train_vae(plan.out, model, _pictures(plan), plan.budget("vae"), plan.batch // 2, rank, plan.processes)


def train_vae(plan: Plan) -> None:
    """Train encoder and decoder together."""
    run_together(partial(_vae_worker, plan=plan), plan.processes, plan.out)


def freeze(plan: Plan) -> None:
    """Fold the normalisation into the trained VAE and keep it; a folder `vae` that is there already is kept."""
    if (plan.out / "vae").exists():
        return
    model = load_averaged(plan.out / "vae.pt", vae.new_vae()).to(memory_format=torch.channels_last)
    vae.fold_normalisation(model, vae.encode_pool(model, np.load(plan.pool("square"), mmap_mode="r")[:512]))
    model.save_pretrained(plan.out / "vae")


def _frozen_vae(plan: Plan) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(plan.out / "vae").to(best_device(), memory_format=torch.channels_last)


def _latents_path(plan: Plan, name: str) -> Path:
    return plan.out / "pools" / f"{name}.latents.pt"


def _not_encoded(plan: Plan) -> list[str]:
    """The pools that are drawn and have no latents yet."""
    return [name for name in _POOLS if plan.pool(name).exists() and not _latents_path(plan, name).exists()]


def _encode_worker(rank: int, plan: Plan) -> None:
    model, parts = _frozen_vae(plan), plan.processes
    for name in _not_encoded(plan):
        pictures = np.array_split(np.load(plan.pool(name), mmap_mode="r"), parts)[rank]
        torch.save(vae.encode_pool(model, pictures), _latents_path(plan, f"{name}.{rank}"))


def encode(plan: Plan) -> None:
    """Encode all drawn pools that are not yet."""
    names = _not_encoded(plan)
    run_together(partial(_encode_worker, plan=plan), plan.processes, plan.out)
    for name in names:
        shares = [_latents_path(plan, f"{name}.{rank}") for rank in range(plan.processes)]
        torch.save(torch.cat([torch.load(share, weights_only=True) for share in shares]), _latents_path(plan, name))
        for share in shares:
            share.unlink()


def _latents(plan: Plan, name: str) -> Tensor:
    return torch.load(_latents_path(plan, name), weights_only=True)


def _decoder_worker(rank: int, plan: Plan) -> None:
    model = _frozen_vae(plan)
    vae.train_decoder(
        plan.out,
        model,
        _pictures(plan),
        _latents(plan, "square"),
        plan.budget("decoder"),
        plan.batch // 5,
        rank,
        plan.processes,
    )
    if rank == 0:
        LOG.info("decoder: held out %.2f dB", vae.decibels(model, np.load(plan.pool("held_out"))))
        model.save_pretrained(plan.out / "vae_final")


def train_decoder(plan: Plan) -> None:
    """Train the decoder alone on whole pictures from slightly noisy latents, and keep it beside the frozen encoder."""
    run_together(partial(_decoder_worker, plan=plan), plan.processes, plan.out)


def _tokenizer(plan: Plan) -> CLIPTokenizer:
    return tokenizer.write_tokenizer(plan.out / "tokenizer", captions.vocabulary())


def _lesson(plan: Plan, words: CLIPTokenizer, batch: int) -> text.TextLesson:
    ids = text.phrasings(words, data.read_scenes(plan.pool("canonical")), _PHRASINGS["text"], seed=20)
    covered = torch.from_numpy(data.read_coverage(plan.pool("canonical"))) / 255
    return text.TextLesson(ids, (_latents(plan, "canonical"), _latents(plan, "portraits")), covered, batch)


def _text_worker(rank: int, plan: Plan) -> None:
    words = CLIPTokenizer.from_pretrained(plan.out / "tokenizer")
    slots = text.new_slots(words, plan.start)
    text.train_text(
        plan.out / "text.pt", slots, _lesson(plan, words, plan.batch * 2), plan.budget("text"), rank, plan.processes
    )


def train_text(plan: Plan) -> None:
    """Train the text encoder alone on the canonical pictures; of one that goes on, what reads pictures from it."""
    _tokenizer(plan)
    run_together(partial(_text_worker, plan=plan), plan.processes, plan.out)


def _buckets(plan: Plan, words: CLIPTokenizer) -> list[diffusion.Bucket]:
    """The pools of all shapes; a large picture counts as four."""
    buckets = []
    for number, (name, (_, share)) in enumerate(_SHAPES.items()):
        ids = text.phrasings(words, data.read_scenes(plan.pool(name)), _PHRASINGS["unet"], seed=30 + number)
        covered = torch.from_numpy(data.read_coverage(plan.pool(name)))
        buckets.append(
            diffusion.Bucket(
                _latents(plan, name), covered, ids, share, plan.batch // 4 if name == "large" else plan.batch
            )
        )
    return buckets


def _unet_worker(rank: int, plan: Plan) -> None:
    words = CLIPTokenizer.from_pretrained(plan.out / "tokenizer")
    painter = diffusion.new_painter(text.load_slots(plan.out / "text.pt", words), plan.start)
    trainer = diffusion.Trainer(painter, words, plan.out / "unet.pt", _lesson(plan, words, plan.batch // 2))
    trainer.run(_buckets(plan, words), plan.unet_budget(), rank, plan.processes)


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


def _upscaler_worker(rank: int, plan: Plan) -> None:
    parts.train_upscaler(
        plan.out / "upscaler.pt",
        np.load(plan.pool("large"), mmap_mode="r"),
        plan.budget("upscaler"),
        rank,
        plan.processes,
    )


def train_upscaler(plan: Plan) -> None:
    """Train the upscaler and write it beside the model folder."""
    run_together(partial(_upscaler_worker, plan=plan), plan.processes, plan.out)
    parts.write_upscaler(plan.out / "upscaler.pt", plan.target.parent / parts.UPSCALER)


def _preview_worker(rank: int, plan: Plan) -> None:
    pool = np.load(plan.pool("square"), mmap_mode="r")
    parts.train_preview(
        plan.out / "preview.pt", pool, _latents(plan, "square"), plan.budget("preview"), rank, plan.processes
    )


def train_preview(plan: Plan) -> None:
    """Train the preview decoder and write it into the model folder."""
    run_together(partial(_preview_worker, plan=plan), plan.processes, plan.out)
    parts.write_preview(plan.out / "preview.pt", plan.target / parts.PREVIEW)


def paint_sheet(plan: Plan) -> None:
    """Paint the fixed prompts with the exported model into sheet.png."""
    sheet.paint_sheet(plan.target, plan.out / "sheet.png")


STAGES: dict[str, Callable[[Plan], None]] = {
    "pools": draw_pools, "vae": train_vae, "freeze": freeze, "encode": encode, "decoder": train_decoder,
    "text": train_text, "unet": train_unet, "export": export_model, "upscaler": train_upscaler,
    "preview": train_preview, "sheet": paint_sheet,
}  # fmt: skip
