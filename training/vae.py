"""The VAE: 8x smaller, 4 channels; trained on crops of scenes, then its decoder alone, then normalised.

Loss: L1 + squares + L1 of gradients + L1 at three scales + KL, and a small term that keeps latents legible as
colors, so that live previews by a linear map look right. Knows pictures only, no words.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn
from torch.nn import functional

from training.loops.checkpoints import Budget
from training.loops.loop import Loop
from training.loops.together import best_device, bfloat

LOG = logging.getLogger(__name__)


VAE_PEAK, DECODER_PEAK = 8e-4, 6e-4
LEGIBLE, KL = 0.05, 5e-5  # what legible latents and small latents weigh beside the picture
# The share of the budget after which whole pictures take the place of crops: the norms see a whole picture later.
WHOLE = 0.6


@dataclass(frozen=True)
class Pools:
    """What a VAE learns from and is measured on.

    Attributes:
        pictures: uint8 (N, H, W, 3).
        covered: How much of each 8x8 block a thing covers, uint8 (N, H/8, W/8).
        held_out: Pictures that no training sees.
    """

    pictures: np.ndarray
    covered: np.ndarray
    held_out: np.ndarray


def new_vae() -> AutoencoderKL:
    """An untrained VAE of 2.6 M parameters; one norm group, because more hide absolute color on flat areas."""
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(16, 32, 64, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,
        mid_block_add_attention=False,
        sample_size=128,
        scaling_factor=1.0,
    )


def _gradients(pictures: Tensor) -> tuple[Tensor, Tensor]:
    return pictures[..., 1:] - pictures[..., :-1], pictures[..., 1:, :] - pictures[..., :-1, :]


def picture_loss(made: Tensor, real: Tensor) -> Tensor:
    """Distance of two batches of pictures (B, 3, H, W) from -1 to 1."""
    difference = made - real
    loss = difference.abs().mean() + 2 * difference.square().mean()
    for part in _gradients(difference):
        loss = loss + part.abs().mean()
    for scale in (2, 4, 8):
        loss = loss + 0.33 * functional.avg_pool2d(difference, scale).abs().mean()
    return loss


def vae_loss(vae: AutoencoderKL, legible: nn.Module, pictures: Tensor) -> Tensor:
    """The whole training loss of one batch (B, 3, H, W)."""
    with bfloat(pictures.device):
        moments = vae.quant_conv(vae.encoder(pictures))
    spread = DiagonalGaussianDistribution(moments.float())
    latents = spread.sample()
    colors = functional.avg_pool2d(pictures, 8)
    kl = spread.kl().mean() / latents[0].numel()
    with bfloat(pictures.device):
        made = vae.decode(latents).sample
    return picture_loss(made.float(), pictures) + KL * kl + LEGIBLE * functional.l1_loss(legible(latents), colors)


def to_tensor(pictures: np.ndarray) -> Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) from -1 to 1, channels last in memory."""
    return (torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(
        memory_format=torch.channels_last
    )


def _corner(covered: np.ndarray, rng: np.random.Generator, size: int) -> tuple[int, int]:
    """Where a crop begins (y, x): anywhere, or half of the time with a block in its middle that a thing covers."""
    room = [edge * 8 - size for edge in covered.shape]
    blocks = np.argwhere(covered > 64)
    if len(blocks) and rng.random() < 0.5:
        middle = blocks[rng.integers(len(blocks))] * 8 + 4 - size // 2 + rng.integers(-8, 9, 2)
        return int(np.clip(middle[0], 0, room[0])), int(np.clip(middle[1], 0, room[1]))
    return int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))


def crops(pool: np.ndarray, covered: np.ndarray, rng: np.random.Generator, batch: int, size: int) -> Tensor:
    """Crops of a pool, sometimes mirrored, half of them around things; one in thirty is a plain color or a ramp of two.

    Args:
        covered: How much of each 8x8 block a thing covers, uint8 (N, H/8, W/8).
    """
    out = np.empty((batch, size, size, 3), np.uint8)
    for row in range(batch):
        index = rng.integers(len(pool))
        y, x = _corner(covered[index], rng, size)
        crop = pool[index, y : y + size, x : x + size]
        out[row] = crop[:, ::-1] if rng.random() < 0.5 else crop
    for row in np.flatnonzero(rng.random(batch) < 1 / 30):
        ends = rng.integers(0, 256, (2, 3))
        ramp = np.linspace(0, rng.integers(0, 2), size)[:, None, None]
        out[row] = ends[0] * (1 - ramp) + ends[1] * ramp + np.zeros((size, size, 3))
    return to_tensor(out)


def decibels(vae: AutoencoderKL, pictures: np.ndarray) -> float:
    """Mean PSNR in dB of encode then decode on whole pictures (N, H, W, 3)."""
    total = 0.0
    with torch.inference_mode():
        for start in range(0, len(pictures), 16):
            real = to_tensor(pictures[start : start + 16]).to(vae.device)
            made = vae.decode(vae.encode(real).latent_dist.mode()).sample.clamp(-1, 1)
            error = ((made - real) / 2).square().mean(dim=(1, 2, 3)).clamp_min(1e-7)
            total += float((-10 * error.log10()).sum())
    return total / len(pictures)


def train_vae(
    folder: Path, vae: AutoencoderKL, pools: Pools, budget: Budget, batch: int = 16, rank: int = 0, world: int = 1
) -> AutoencoderKL:
    """Train encoder and decoder together until the budget is spent, on 64-pixel crops, at last on whole pictures.

    Args:
        vae: What to begin from where there is no checkpoint in the folder.
        batch: Crops a step; of whole pictures as many as have their pixels.
    """
    torch.manual_seed(0)
    device = best_device()
    vae, legible = vae.to(device, memory_format=torch.channels_last), nn.Conv2d(4, 3, 1).to(device)
    for values in legible.parameters():
        nn.init.zeros_(values)
    whole = pools.pictures.shape[1]
    loop = Loop(
        folder / "vae.pt",
        nn.ModuleDict({"vae": vae, "legible": legible}),
        budget,
        VAE_PEAK,
        kept=vae,
        rank=rank,
        world=world,
    )
    while not loop.is_over():
        rng = np.random.default_rng((100, rank, loop.step))
        size = 64 if budget.progress(loop.step, loop.spent_s) < WHOLE else whole
        pictures = crops(pools.pictures, pools.covered, rng, max(1, batch * 64 * 64 // size**2), size)
        loop.apply(vae_loss(vae, legible, pictures.to(device)))
    model = loop.average.module
    if rank == 0:
        LOG.info("vae: held out %.2f dB", decibels(model, pools.held_out))
    return model


def train_decoder(
    folder: Path,
    vae: AutoencoderKL,
    pools: Pools,
    latents: Tensor,
    budget: Budget,
    batch: int = 6,
    rank: int = 0,
    world: int = 1,
) -> None:
    """Train the decoder in place on whole pictures, from cached latents (N, 4, h, w) with 2 to 20% noise.

    Latents are little more than a 16x16 thumbnail: what makes a shape sharp is that the decoder knows the shapes.
    """
    device = best_device()
    parts = nn.ModuleList([vae.to(device).decoder, vae.post_quant_conv])
    loop = Loop(folder / "decoder.pt", parts, budget, DECODER_PEAK, rank=rank, world=world)
    while not loop.is_over():
        rng = np.random.default_rng((200, rank, loop.step))
        rows = rng.integers(0, len(pools.pictures), batch)
        codes = latents[torch.from_numpy(rows)].float()
        codes = codes + rng.uniform(0.02, 0.2) * torch.from_numpy(rng.standard_normal(codes.shape, dtype=np.float32))
        with bfloat(device):
            made = vae.decode(codes.to(device)).sample
        loop.apply(picture_loss(made.float(), to_tensor(pools.pictures[rows]).to(device)))
    parts.load_state_dict(loop.average.module.state_dict())


def encode_pool(vae: AutoencoderKL, pool: np.ndarray, batch: int = 25) -> Tensor:
    """The mean latents (N, 4, H/8, W/8) of a pool of pictures, half precision."""
    out = []
    with torch.inference_mode(), bfloat(vae.device):
        for start in range(0, len(pool), batch):
            out.append(
                vae.encode(to_tensor(pool[start : start + batch]).to(vae.device)).latent_dist.mode().half().cpu()
            )
    return torch.cat(out)


def fold_normalisation(vae: AutoencoderKL, latents: Tensor) -> None:
    """Make latents of mean 0 and deviation 1 a channel by changing the two 1x1 convolutions beside them.

    Args:
        latents: A sample of them, (N, 4, h, w), as the VAE gives them now.
    """
    mean, deviation = latents.float().mean(dim=(0, 2, 3)), latents.float().std(dim=(0, 2, 3))
    with torch.no_grad():
        weight, bias = vae.quant_conv.weight, vae.quant_conv.bias
        weight[:4] /= deviation[:, None, None, None]
        bias[:4] = (bias[:4] - mean) / deviation
        bias[4:] -= 2 * deviation.log()  # the log variance
        post = vae.post_quant_conv
        post.bias += (post.weight[:, :, 0, 0] * mean[None]).sum(1)
        post.weight *= deviation[None, :, None, None]
