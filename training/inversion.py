"""One textual-inversion embedding: a flamingo, which no training picture shows, learned as a few vectors of its own.

The file holds `emb_params`, as web UIs write it: any of them, and diffusers, load it by its name.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from training.diffusion import noised, timesteps
from training.drawing.canvas import Brush, Canvas, Color
from training.drawing.drawing import draw
from training.drawing.scenes import Scene
from training.drawing.things.palette import BLACK, arc, eye, shade
from training.loops.checkpoints import Budget
from training.loops.loop import Loop, load_averaged
from training.loops.together import best_device, bfloat
from training.models import new_scheduler

VECTORS, BATCH, PEAK = 8, 16, 3e-2
NAME = "flamingo"
_ABOUT = {
    "modelspec.architecture": "stable-diffusion-v1/textual-inversion",
    "modelspec.title": "Flamingo",
    "modelspec.trigger_phrase": NAME,
    "modelspec.description": (
        "A bird that the bundled Starter was never shown: write its name in a prompt, and where it stands."
    ),
}
_PINK: Color = (0.98, 0.50, 0.60)
PLACES = ("by a lake", "on the beach, at noon", "at sunset", "in a meadow", "in the morning", "at dawn, the sun")


def flamingo(brush: Brush) -> None:
    """A flamingo on one leg."""
    brush.box(-0.02, 0.0, 0.03, 0.46, shade(_PINK, 0.75))
    brush.line([(-0.08, 0.44), (-0.22, 0.32), (0.0, 0.26)], 0.04, shade(_PINK, 0.75))
    brush.ellipse(-0.06, 0.54, 0.33, 0.18, _PINK)
    brush.polygon([(-0.34, 0.56), (-0.58, 0.40), (-0.20, 0.42)], shade(_PINK, 0.85))
    brush.line([(0.20, 0.56), (0.36, 0.70), (0.20, 0.86), *arc(0.32, 0.88, 0.12, 0.12, 180, 20)], 0.075, _PINK)
    brush.ellipse(0.42, 0.92, 0.10, 0.08, _PINK)
    brush.polygon([(0.48, 0.95), (0.62, 0.84), (0.56, 0.76), (0.46, 0.87)], BLACK)
    eye(brush, 0.42, 0.94, 0.03)


def background(scene: Scene) -> Scene:
    """A scene without things."""
    return replace(scene, thing="", second="", count=1)


def flamingo_scene(scene: Scene, size: int = 128) -> Image.Image:
    """A scene without things, with a flamingo in the middle."""
    around = np.asarray(draw(background(scene), size, size), np.float32) / 255
    canvas = Canvas(size, size, scene.horizon, np.random.default_rng(scene.seed))
    canvas.pixels = around
    brush = Brush(canvas, (0.5, 0.84), 0.62, np.ones(3, np.float32))
    flamingo(brush)
    layer = brush.finish()
    canvas.blend(layer[..., 3], layer[..., :3])
    return canvas.image(1)


class Words(nn.Module):
    """The vectors that stand for the name, (VECTORS, width); they begin near the mean of all words."""

    def __init__(self, pipeline: StableDiffusionPipeline) -> None:
        super().__init__()
        table = pipeline.text_encoder.get_input_embeddings().weight.detach().float().cpu()
        noise = torch.randn(VECTORS, table.shape[1], generator=torch.Generator().manual_seed(10))
        self.vectors = nn.Parameter(table.mean(0) + table.std(0) * noise * 0.3)


def named_ids(pipeline: StableDiffusionPipeline, ids: Tensor) -> Tensor:
    """Token ids (B, LENGTH) with the name before their words; its tokens come after all that the tokenizer knows."""
    known = len(pipeline.tokenizer)
    name = torch.arange(known, known + VECTORS).expand(len(ids), -1)
    return torch.cat([ids[:, :1], name, ids[:, 1:-VECTORS]], 1)


def text_states(pipeline: StableDiffusionPipeline, words: Words, ids: Tensor) -> Tensor:
    """The text encoder's states (B, LENGTH, width) with the name's vectors in place; gradients reach those alone."""
    encoder = pipeline.text_encoder
    place = next(name for name, _ in encoder.named_parameters() if name.endswith("token_embedding.weight"))
    table = torch.cat([encoder.get_input_embeddings().weight.detach(), words.vectors])
    return torch.func.functional_call(encoder, {place: table}, (ids,)).last_hidden_state


def train_name(
    path: Path,
    pipeline: StableDiffusionPipeline,
    latents: Tensor,
    ids: Tensor,
    budget: Budget,
    rank: int = 0,
    world: int = 1,
) -> None:
    """Train the vectors on scenes with a flamingo; goes on from the checkpoint at path.

    Args:
        latents: The scenes, (N, 4, h, w).
        ids: What is said of them but the flamingo, a few captions each: (N, K, LENGTH). The vectors learn only what is
            not said.
    """
    device = best_device()
    pipeline.to(device)
    for part in (pipeline.unet, pipeline.text_encoder):
        part.requires_grad_(False)
    words = Words(pipeline).to(device)
    loop = Loop(path, words, budget, PEAK, rank=rank, world=world)
    while not loop.is_over():
        rng = np.random.default_rng((10, rank, loop.step))
        rows = torch.from_numpy(rng.integers(0, len(latents), BATCH))
        x0 = latents[rows].float().to(device)
        noise = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32)).to(device)
        t = timesteps(rng, BATCH)
        noisy, target = noised(x0, noise, new_scheduler().alphas_cumprod[t].to(device))
        said = named_ids(pipeline, ids[rows, int(rng.integers(ids.shape[1]))].long()).to(device)
        with bfloat(device):
            made = pipeline.unet(noisy, t.to(device), encoder_hidden_states=text_states(pipeline, words, said)).sample
        loop.apply((made.float() - target).square().mean())


def write_name(path: Path, pipeline: StableDiffusionPipeline, target: Path) -> None:
    """Write the averaged vectors as one file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    vectors = load_averaged(path, Words(pipeline)).vectors.detach()
    save_file(
        {"emb_params": vectors.half().contiguous()}, target, metadata={"name": NAME, "license": "Apache-2.0", **_ABOUT}
    )
