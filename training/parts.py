"""The small parts beside the model: an upscaler that doubles a picture, and a tiny decoder for live previews.

Both learn from drawn pictures and from latents of the frozen VAE, in minutes, and are written in half precision.
"""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact
from torch import Tensor, nn
from torch.nn import functional

from training.loops.checkpoints import Budget
from training.loops.loop import Loop, load_averaged
from training.loops.together import best_device, bfloat
from training.vae import picture_loss, to_tensor

UPSCALER = Path("upscalers/starter-x2.safetensors")  # in the folder of models
PREVIEW = Path("preview_decoder")  # in the folder of the model whose latents it decodes
UPSCALER_CROP = 48  # pixels of the small picture


def new_upscaler() -> Compact:
    """A compact network of 10 convolutions, 40 wide, that doubles RGB pictures (B, 3, H, W) from 0 to 1.

    It has 0.14 M parameters.
    """
    torch.manual_seed(6)
    return Compact(num_in_ch=3, num_out_ch=3, num_feat=40, num_conv=8, upscale=2)


def upscaler_batch(pool: np.ndarray, rng: np.random.Generator, batch: int = 16) -> tuple[Tensor, Tensor]:
    """Small crops and the crops of twice the size that they were reduced from, values 0 to 1."""
    size = UPSCALER_CROP * 2
    crops = np.empty((batch, size, size, 3), np.uint8)
    for row in range(batch):
        picture = pool[rng.integers(len(pool))]
        y, x = (2 * rng.integers((edge - size) // 2 + 1) for edge in picture.shape[:2])
        crops[row] = picture[y : y + size, x : x + size]
    large = (to_tensor(crops) + 1) / 2
    return functional.avg_pool2d(large, 2), large


def train_upscaler(
    path: Path, pool: np.ndarray, budget: Budget, rank: int = 0, world: int = 1, peak: float = 1e-3
) -> None:
    """Train the upscaler on crops of large pictures (N, 256, 256, 3); goes on from the checkpoint at path."""
    device = best_device()
    model = new_upscaler().to(device)
    loop = Loop(path, model, budget, peak, rank=rank, world=world)
    while not loop.is_over():
        small, large = (part.to(device) for part in upscaler_batch(pool, np.random.default_rng((5, rank, loop.step))))
        with bfloat(device):
            made = model(small)
        loop.apply(functional.l1_loss(made.float(), large) * 10)


def write_upscaler(path: Path, target: Path) -> None:
    """Write the averaged upscaler as one file that spandrel loads."""
    target.parent.mkdir(parents=True, exist_ok=True)
    model = load_averaged(path, new_upscaler())
    save_file(
        {name: value.half().contiguous() for name, value in model.state_dict().items()},
        target,
        metadata={"format": "pt", "license": "Apache-2.0"},
    )


def new_preview() -> AutoencoderTiny:
    """A tiny autoencoder, 24 wide, for the latents of the starter's VAE."""
    torch.manual_seed(6)
    return AutoencoderTiny(
        encoder_block_out_channels=(16, 16, 16, 16), decoder_block_out_channels=(24, 24, 24, 24),
        num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(2, 2, 1, 1), latent_channels=4, scaling_factor=1.0,
    )  # fmt: skip


def train_preview(
    path: Path, pool: np.ndarray, latents: Tensor, budget: Budget, rank: int = 0, world: int = 1, peak: float = 2e-3
) -> None:
    """Train the tiny decoder on pictures and their latents with a little noise, and the tiny encoder on the reverse."""
    device = best_device()
    model = new_preview().to(device)
    loop = Loop(path, model, budget, peak, rank=rank, world=world)
    while not loop.is_over():
        rng = np.random.default_rng((6, rank, loop.step))
        rows = rng.integers(0, len(pool), 8)
        codes, pictures = latents[torch.from_numpy(rows)].float().to(device), to_tensor(pool[rows]).to(device)
        noise = torch.from_numpy(rng.standard_normal(codes.shape, dtype=np.float32)).to(device)
        with bfloat(device):
            made = model.decoder(codes + rng.uniform(0, 0.15) * noise)
            found = model.encoder(pictures)
        loop.apply(picture_loss(made.float(), pictures) + 0.1 * functional.mse_loss(found.float(), codes))


def write_preview(path: Path, target: Path) -> None:
    """Write the averaged tiny autoencoder as a diffusers folder."""
    load_averaged(path, new_preview()).half().save_pretrained(target)
    config = target / "config.json"
    values = json.loads(config.read_text())
    for needless in (
        "_name_or_path",
        "block_out_channels",
    ):  # diffusers writes the second and warns of it when it reads
        values.pop(needless, None)
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def decibels_between(made: Tensor, real: Tensor) -> float:
    """Mean PSNR in dB of pictures (N, 3, H, W) from 0 to 1."""
    error = (made.clamp(0, 1) - real).square().mean(dim=(1, 2, 3)).clamp_min(1e-7)
    return float((-10 * error.log10()).mean())


def linear_map(latents: Tensor, pictures: Tensor) -> nn.Conv2d:
    """The best 1x1 map from latents (N, 4, h, w) to pictures (N, 3, H, W) reduced to their size, by least squares."""
    small = functional.avg_pool2d(pictures, pictures.shape[-1] // latents.shape[-1])
    rows = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1]).double()
    rows = torch.cat([rows, torch.ones(len(rows), 1, dtype=rows.dtype)], 1)
    weights = torch.linalg.lstsq(rows, small.permute(0, 2, 3, 1).reshape(-1, 3).double()).solution.float()
    layer = nn.Conv2d(latents.shape[1], 3, 1)
    with torch.no_grad():
        layer.weight.copy_(weights[:-1].T[:, :, None, None])
        layer.bias.copy_(weights[-1])
    return layer
