"""Three styles as LoRAs: woodblock print, pixel art, neon night. A style is a change of a drawn picture, so it can be measured."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from scipy import ndimage
from torch import Tensor

from training.checkpoints import Budget
from training.diffusion import noised, timesteps
from training.loop import Loop, load_averaged
from training.models import new_scheduler
from training.together import best_device, bfloat

RANK, BATCH, PEAK = 8, 16, 1e-3


def _outlines(picture: np.ndarray, width: float) -> np.ndarray:
    """How strongly a picture (H, W, 3) changes at each pixel, 0 to 1."""
    values = ndimage.gaussian_filter(picture.astype(np.float32), (width, width, 0))
    steepness = np.hypot(ndimage.sobel(values, 0), ndimage.sobel(values, 1)).max(2)
    return np.clip(steepness / 160, 0, 1)[..., None]


def woodblock(picture: np.ndarray) -> np.ndarray:
    """Few flat, faded colors on warm paper, with dark outlines; uint8 (H, W, 3)."""
    flat = np.round(ndimage.median_filter(picture, (5, 5, 1)).astype(np.float32) / 64) * 64
    faded = flat * 0.72 + np.asarray((232, 216, 180), np.float32) * 0.28
    return np.clip(faded * (1 - 0.85 * _outlines(picture, 0.7)), 0, 255).astype(np.uint8)


def pixel_art(picture: np.ndarray) -> np.ndarray:
    """Squares of eight pixels in saturated colors; uint8 (H, W, 3)."""
    height, width = picture.shape[:2]
    small = np.asarray(Image.fromarray(picture).resize((width // 8, height // 8), Image.Resampling.BOX), np.float32)
    vivid = small.mean(2, keepdims=True) + (small - small.mean(2, keepdims=True)) * 1.3
    return np.clip(np.round(vivid / 36) * 36, 0, 255).astype(np.uint8).repeat(8, 0).repeat(8, 1)


def neon_night(picture: np.ndarray) -> np.ndarray:
    """A dark violet picture whose outlines glow in their own hue; uint8 (H, W, 3)."""
    values = picture.astype(np.float32)
    hue = values - values.min(2, keepdims=True)
    hue = hue / np.maximum(1, hue.max(2, keepdims=True))
    lines = _outlines(picture, 0.6)
    glow = ndimage.gaussian_filter(lines * (hue * 0.8 + np.asarray((0.1, 0.55, 0.65))), (2, 2, 0)) * 2.0
    dark = values * 0.16 + np.asarray((18, 6, 40), np.float32)
    return np.clip(dark + 255 * (glow + lines * 0.5 * hue), 0, 255).astype(np.uint8)


STYLES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"woodblock": woodblock, "pixel-art": pixel_art, "neon-night": neon_night}


def add_lora(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Freeze a U-Net and add LoRA layers to its attention and to its residual blocks."""
    unet.requires_grad_(False)
    torch.manual_seed(9)
    targets = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_in", "conv_out", "time_emb_proj"]
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=targets))
    return unet


def style_loss(pipeline: StableDiffusionPipeline, unet: UNet2DConditionModel, latents: Tensor, ids: Tensor, rng: np.random.Generator) -> Tensor:
    """The v loss on styled latents (N, 4, h, w) with their captions' ids (N, K, LENGTH): no trigger word, the weight is the dose."""
    device = unet.device
    rows = torch.from_numpy(rng.integers(0, len(latents), BATCH))
    x0 = latents[rows].float().to(device)
    noise = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32)).to(device)
    t = timesteps(rng, BATCH)
    noisy, target = noised(x0, noise, new_scheduler().alphas_cumprod[t].to(device))
    with bfloat(device):
        words = pipeline.text_encoder(ids[rows, int(rng.integers(ids.shape[1]))].long().to(device)).last_hidden_state
        made = unet(noisy, t.to(device), encoder_hidden_states=words).sample
    return (made.float() - target).square().mean()


def train_style(path: Path, pipeline: StableDiffusionPipeline, latents: Tensor, ids: Tensor, budget: Budget, rank: int = 0, world: int = 1) -> None:
    """Train one style's LoRA to the end of the budget; goes on from the checkpoint at path."""
    pipeline.to(best_device())
    pipeline.text_encoder.requires_grad_(False)
    unet = add_lora(pipeline.unet)
    loop = Loop(path, unet, budget, PEAK, rank=rank, world=world)
    while not loop.is_over():
        loop.apply(style_loss(pipeline, unet, latents, ids, np.random.default_rng((9, rank, loop.step))))


def write_style(path: Path, pipeline: StableDiffusionPipeline, target: Path) -> None:
    """Write the averaged LoRA as one file in half precision.

    Args:
        pipeline: The shipped model, without LoRA layers.
    """
    unet = load_averaged(path, add_lora(pipeline.unet))
    layers = {name: value.half() for name, value in get_peft_model_state_dict(unet).items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    StableDiffusionPipeline.save_lora_weights(target.parent, unet_lora_layers=layers, weight_name=target.name)


def likeness(pictures: np.ndarray, plain: np.ndarray, style: str) -> float:
    """How far pictures (N, H, W, 3) went from plain ones to their styled selves: 0 not at all, 1 all the way.

    The projection of the change on the style's own change, on pictures reduced to quarters, so that noise counts little.
    """
    styled = np.stack([STYLES[style](picture) for picture in plain])
    change, wanted = (_reduced(after) - _reduced(plain) for after in (pictures, styled))
    return float((change * wanted).sum() / (wanted * wanted).sum())


def _reduced(pictures: np.ndarray) -> np.ndarray:
    count, height, width, _ = pictures.shape
    return pictures.astype(np.float32).reshape(count, height // 4, 4, width // 4, 4, 3).mean((2, 4))
