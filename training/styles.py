"""Three styles as LoRAs: woodblock print, cyanotype, neon night.

A style is a change of a drawn picture, so it can be measured.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from scipy import ndimage
from torch import Tensor

from training.diffusion import EMPTY_SHARE, noised, timesteps
from training.loops.checkpoints import Budget
from training.loops.loop import Loop, load_averaged
from training.loops.together import best_device, bfloat
from training.models import new_scheduler
from training.tokenizer import token_ids

RANK, BATCH, PEAK = 8, 16, 4e-3
Stops = tuple[tuple[float, tuple[int, int, int]], ...]  # how bright, 0 to 1, and its RGB, 0 to 255


def _outlines(picture: np.ndarray, width: float) -> np.ndarray:
    """How strongly a picture (H, W, 3) changes at each pixel, 0 to 1."""
    values = ndimage.gaussian_filter(picture.astype(np.float32), (width, width, 0))
    steepness = np.hypot(ndimage.sobel(values, 0), ndimage.sobel(values, 1)).max(2)
    return np.clip(steepness / 420, 0, 1)[..., None]


def _toned(picture: np.ndarray, stops: Stops) -> np.ndarray:
    """Each pixel of (H, W, 3) by how bright it is: colors between the stops; float32."""
    bright = np.clip((picture.astype(np.float32) @ np.asarray((0.3, 0.59, 0.11), np.float32) / 255 - 0.1) / 0.8, 0, 1)
    places, colors = [stop for stop, _ in stops], np.asarray([color for _, color in stops], np.float32)
    return np.stack([np.interp(bright, places, colors[:, channel]) for channel in range(3)], -1).astype(np.float32)


_PRINT: Stops = ((0.0, (22, 40, 74)), (0.4, (58, 106, 128)), (0.7, (212, 170, 122)), (1.0, (250, 236, 204)))
_CYAN: Stops = ((0.0, (6, 20, 60)), (0.35, (16, 62, 130)), (0.7, (110, 164, 206)), (1.0, (244, 248, 244)))
_NEON: Stops = (
    (0.0, (14, 4, 38)), (0.35, (92, 16, 150)), (0.65, (240, 40, 150)), (0.85, (255, 120, 190)), (1.0, (110, 245, 255)),
)  # fmt: skip


def woodblock(picture: np.ndarray) -> np.ndarray:
    """Prussian blue and ochre on warm paper, with dark outlines; uint8 (H, W, 3)."""
    inked = _toned(picture, _PRINT) * 0.68 + picture.astype(np.float32) * 0.32
    return np.clip(inked * (1 - 0.6 * _outlines(picture, 1.0) ** 2), 0, 255).astype(np.uint8)


def cyanotype(picture: np.ndarray) -> np.ndarray:
    """Prussian blue to white, as an early photograph; uint8 (H, W, 3)."""
    return _toned(picture, _CYAN).astype(np.uint8)


def neon_night(picture: np.ndarray) -> np.ndarray:
    """Light as neon: dark violet, magenta, and cyan where it was brightest; uint8 (H, W, 3)."""
    return _toned(picture, _NEON).astype(np.uint8)


TITLES = {
    "woodblock": ("Woodblock print", "Prussian blue and ochre on warm paper, with dark outlines."),
    "cyanotype": ("Cyanotype", "Prussian blue to white, as an early photograph."),
    "neon-night": ("Neon night", "Dark violet, magenta and cyan, as light from neon tubes."),
}  # fmt: skip
STYLES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "woodblock": woodblock,
    "cyanotype": cyanotype,
    "neon-night": neon_night,
}


def add_lora(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Freeze a U-Net and add LoRA layers to its attention and to its residual blocks."""
    unet.requires_grad_(False)
    torch.manual_seed(9)
    targets = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_in", "conv_out", "time_emb_proj"]
    unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=targets))
    return unet


def style_loss(
    pipeline: StableDiffusionPipeline,
    unet: UNet2DConditionModel,
    latents: Tensor,
    ids: Tensor,
    rng: np.random.Generator,
) -> Tensor:
    """The v loss on styled latents (N, 4, h, w) with their captions' ids (N, K, LENGTH).

    There is no trigger word: the weight is the dose. Some captions are empty: otherwise guidance would push pictures
    far beyond the style.
    """
    device = unet.device
    rows = torch.from_numpy(rng.integers(0, len(latents), BATCH))
    x0 = latents[rows].float().to(device)
    noise = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32)).to(device)
    t = timesteps(rng, BATCH)
    noisy, target = noised(x0, noise, new_scheduler().alphas_cumprod[t].to(device))
    said = ids[rows, int(rng.integers(ids.shape[1]))].long()
    is_empty = torch.from_numpy(rng.random(BATCH) < 2 * EMPTY_SHARE)
    said = torch.where(is_empty[:, None], token_ids(pipeline.tokenizer, [""]), said).to(device)
    with bfloat(device):
        words = pipeline.text_encoder(said).last_hidden_state
        made = unet(noisy, t.to(device), encoder_hidden_states=words).sample
    return (made.float() - target).square().mean()


def train_style(
    path: Path,
    pipeline: StableDiffusionPipeline,
    latents: Tensor,
    ids: Tensor,
    budget: Budget,
    rank: int = 0,
    world: int = 1,
) -> None:
    """Train one style's LoRA to the end of the budget; goes on from the checkpoint at path."""
    pipeline.to(best_device())
    pipeline.text_encoder.requires_grad_(False)
    unet = add_lora(pipeline.unet)
    loop = Loop(path, unet, budget, PEAK, rank=rank, world=world)
    while not loop.is_over():
        loop.apply(style_loss(pipeline, unet, latents, ids, np.random.default_rng((9, rank, loop.step))))


def write_style(path: Path, pipeline: StableDiffusionPipeline, target: Path) -> None:
    """Write the averaged LoRA as one file in half precision, which says what it is.

    Args:
        pipeline: The shipped model, without LoRA layers.
        target: Its place; the stem ends with the style's name.
    """
    unet = load_averaged(path, add_lora(pipeline.unet))
    layers = {name: value.half() for name, value in get_peft_model_state_dict(unet).items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    StableDiffusionPipeline.save_lora_weights(target.parent, unet_lora_layers=layers, weight_name=target.name)
    title, description = TITLES[target.stem.removeprefix("starter-")]
    about = {
        "modelspec.architecture": "stable-diffusion-v1/lora", "modelspec.title": title,
        "modelspec.description": f"{description} For the bundled Starter; weight 0.4 to 1, prompts as usual.",
    }  # fmt: skip
    save_file(load_file(target), target, metadata={"format": "pt", "license": "Apache-2.0", **about})


def likeness(pictures: np.ndarray, plain: np.ndarray, style: str) -> float:
    """How far pictures (N, H, W, 3) went from plain ones to their styled selves: 0 not at all, 1 all the way.

    The projection of the change on the style's own change, on pictures reduced to quarters, so that noise counts
    little.
    """
    styled = np.stack([STYLES[style](picture) for picture in plain])
    change, wanted = (_reduced(after) - _reduced(plain) for after in (pictures, styled))
    return float((change * wanted).sum() / (wanted * wanted).sum())


def _reduced(pictures: np.ndarray) -> np.ndarray:
    count, height, width, _ = pictures.shape
    return pictures.astype(np.float32).reshape(count, height // 4, 4, width // 4, 4, 3).mean((2, 4))
