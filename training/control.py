"""ControlNets for the starter: one that follows edges, one that follows depth; ordinary `ControlNetModel`s.

They learn on drawn scenes whose edges and true depth are known, beside the frozen, shipped model.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionPipeline
from scipy import ndimage
from torch import Tensor

from training.diffusion import EMPTY_SHARE, noised, timesteps
from training.drawing.drawing import draw_all
from training.drawing.scenes import Scene
from training.loops.checkpoints import Budget
from training.loops.loop import Loop, load_averaged
from training.loops.together import best_device, bfloat
from training.models import new_scheduler
from training.tokenizer import token_ids

Kind = Literal["edges", "depth"]
CHANNELS: dict[Kind, int] = {"edges": 3, "depth": 4}  # of the pool's pictures
BATCH, PEAK = 24, 1e-3


def edges(picture: np.ndarray) -> np.ndarray:
    """White lines on black where a picture (H, W, 3) changes sharply; uint8 (H, W)."""
    gray = ndimage.gaussian_filter(picture.astype(np.float32).mean(2), 0.8)
    steepness = np.hypot(ndimage.sobel(gray, 0), ndimage.sobel(gray, 1))
    peaks = steepness >= ndimage.maximum_filter(steepness, 3) * 0.8
    return ((steepness > 60) & peaks).astype(np.uint8) * 255


def drawn_control(scene: Scene, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A scene as (H, W, 5): RGB, edges, depth; and its coverage. For `data.make_pool`."""
    drawing = draw_all(scene, *size)
    picture = np.asarray(drawing.picture)
    depth = (drawing.depth * 255).astype(np.uint8)
    return np.dstack([picture, edges(picture), depth]), (drawing.covered * 255).astype(np.uint8)


def new_control(pipeline: StableDiffusionPipeline) -> ControlNetModel:
    """A ControlNet that begins as the U-Net's own encoder and changes nothing yet: 2.2 M parameters.

    It has no attention, which lines and depths need little: two of them must fit beside the rest.
    """
    torch.manual_seed(8)
    source = pipeline.unet
    shared = (
        "in_channels",
        "block_out_channels",
        "layers_per_block",
        "norm_num_groups",
        "cross_attention_dim",
        "attention_head_dim",
    )
    plain = ("DownBlock2D",) * len(source.config.block_out_channels)
    net = ControlNetModel(
        **{name: source.config[name] for name in shared}, down_block_types=plain, mid_block_type="UNetMidBlock2D",
        conditioning_embedding_out_channels=(8, 16, 32, 64),
    )  # fmt: skip
    known = source.state_dict()
    net.load_state_dict({name: known.get(name, value) for name, value in net.state_dict().items()})
    return net


@dataclass(frozen=True)
class ControlLesson:
    """Pictures with what controls them.

    Attributes:
        latents: (N, 4, h, w).
        ids: Token ids of a few captions each, (N, K, LENGTH).
        controls: uint8 (N, H, W), white where the control is strong.
    """

    pipeline: StableDiffusionPipeline
    latents: Tensor
    ids: Tensor
    controls: np.ndarray

    def loss(self, net: ControlNetModel, rng: np.random.Generator) -> Tensor:
        """The v loss of the frozen U-Net with the control's residuals; half of the prompts are empty."""
        device = next(net.parameters()).device
        rows = torch.from_numpy(rng.integers(0, len(self.latents), BATCH))
        ids = self.ids[rows, int(rng.integers(self.ids.shape[1]))].long()
        is_empty = torch.from_numpy(rng.random(BATCH) < max(0.5, EMPTY_SHARE))
        ids = torch.where(is_empty[:, None], token_ids(self.pipeline.tokenizer, [""]), ids).to(device)
        x0 = self.latents[rows].float().to(device)
        noise = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32)).to(device)
        t = timesteps(rng, BATCH)
        noisy, target = noised(x0, noise, new_scheduler().alphas_cumprod[t].to(device))
        t = t.to(device)
        lines = torch.from_numpy(self.controls[rows.numpy()]).to(device).float()[:, None].expand(-1, 3, -1, -1) / 255
        with bfloat(device):
            words = self.pipeline.text_encoder(ids).last_hidden_state
            down, middle = net(noisy, t, encoder_hidden_states=words, controlnet_cond=lines, return_dict=False)
            made = self.pipeline.unet(
                noisy,
                t,
                encoder_hidden_states=words,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
            ).sample
        return (made.float() - target).square().mean()


def train_control(
    path: Path, lesson: ControlLesson, budget: Budget, rank: int = 0, world: int = 1, start: Path | None = None
) -> None:
    """Train a ControlNet to the end of the budget; goes on from the checkpoint at path.

    Args:
        start: A ControlNet's folder that a new one begins from, instead of the U-Net's encoder: depth begins from the
            one that follows edges.
    """
    device = best_device()
    lesson.pipeline.to(device)
    for part in (lesson.pipeline.unet, lesson.pipeline.text_encoder):
        part.requires_grad_(False)
    net = ControlNetModel.from_pretrained(start, torch_dtype=torch.float32) if start else new_control(lesson.pipeline)
    net = net.to(device)
    loop = Loop(path, net, budget, PEAK, rank=rank, world=world)
    while not loop.is_over():
        loop.apply(lesson.loss(net, np.random.default_rng((8, rank, loop.step))))


def write_control(path: Path, pipeline: StableDiffusionPipeline, target: Path) -> None:
    """Write the averaged ControlNet as a diffusers folder in half precision."""
    load_averaged(path, new_control(pipeline)).half().save_pretrained(target)


def agreement(wanted: np.ndarray, found: np.ndarray, reach_px: int = 2) -> float:
    """F1 of two edge pictures (H, W), 0 or 255: a line counts as met when the other has one within reach."""
    a, b = wanted > 0, found > 0
    near = [ndimage.binary_dilation(mask, iterations=reach_px) for mask in (a, b)]
    precision = (b & near[0]).sum() / max(1, b.sum())
    recall = (a & near[1]).sum() / max(1, a.sum())
    return float(2 * precision * recall / max(1e-9, precision + recall))
