"""The VAE: images to latents and back, never a black image for a success. Large ones go through it in tiles."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from contract.errors import NoValidPicture
from contract.work import RawImage
from engine.device.devices import free_bytes, release
from engine.device.evaluations import Call, Outputs
from engine.device.wrapped_padding import wrapped_padding
from engine.errors import is_out_of_memory
from engine.images.seams import across_seams
from engine.models.bundle import Bundle

TILED_FROM = 1536 * 1536  # pixels; below, one pass is faster and has no seams to hide
_TILE = 768  # pixels
_SEAM = 128  # pixels beyond an end of a seamless tiling: far more than a convolution there sees
_TENSORS_AT_ONCE = 13  # of the widest layers, about 3.5 GB for 1024 × 1024 in half precision

log = logging.getLogger(__name__)


@torch.inference_mode()
def encode(image: Image.Image | np.ndarray, bundle: Bundle, *, is_scaled: bool = True) -> Tensor:
    """An image's latents: the mode of the VAE's distribution, so that nothing is random.

    Args:
        image: RGB, sides multiples of the VAE's factor; or such pixels, (H, W, 3) of 0..255.
        is_scaled: As the U-Net takes them; else as the VAE gives them.
    Returns:
        (1, C, h, w), float32.
    Raises:
        NoValidPicture: the numbers are not finite.
    """
    vae: Any = bundle.onload("vae")
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
    height, width = pixels.shape[-2:]
    pixels = pixels.to(device=bundle.device.torch_device, dtype=bundle.device.vae_dtype)
    latents = _whole_or_tiled(vae, encode_mode, pixels, width * height, bundle).float()
    if not latents.isfinite().all():
        raise NoValidPicture(f"The VAE of {bundle.ref.name} can't take this picture.", "Use another VAE or model.")
    return scale(latents, vae.config) if is_scaled else latents


@torch.inference_mode()
def decode(latents: Tensor, bundle: Bundle) -> tuple[RawImage, bool]:
    """Decode finished latents.

    Args:
        latents: (1, C, h, w), float32, in the sampler's final space (noise-free).
    Returns:
        The image, and whether the VAE had to be run once more in float32.
    Raises:
        NoValidPicture: the numbers are not finite even so.
    """
    vae: Any = bundle.onload("vae")
    scaled = unscale(latents, vae.config)
    dtype = bundle.device.vae_dtype
    area = scaled.shape[-1] * scaled.shape[-2] * bundle.family.facts.latents.factor**2
    pixels = _whole_or_tiled(vae, decode_whole, scaled.to(dtype), area, bundle)
    is_retry = dtype != torch.float32 and not pixels.isfinite().all()
    if is_retry:
        log.warning("the VAE of %s overflows in %s", bundle.ref.name, dtype)
        with wrapped_padding(bundle.tiling):
            pixels = _decode_in_float32(scaled, vae)
    if not pixels.isfinite().all():
        raise NoValidPicture(
            f"The VAE of {bundle.ref.name} gave numbers that are no picture.",
            "Use another VAE or model; this one may be damaged.",
        )
    # (1, 3, H, W) of -1..1 -> 8 bits, rounded as the stock pipelines do.
    rounded = (pixels[0].float() * 0.5 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    height, width = rounded.shape[1:]
    image = RawImage(width, height, rounded.permute(1, 2, 0).contiguous().cpu().numpy().tobytes())
    return image, is_retry


def encode_mode(vae: Any, pixels: Tensor) -> Outputs:
    """The mode of the VAE's distribution for an image of -1..1."""
    return (vae.encode(pixels, return_dict=False)[0].mode(),)


def decode_whole(vae: Any, latents: Tensor) -> Outputs:
    """An image of -1..1 from latents as the VAE has them."""
    return (vae.decode(latents, return_dict=False)[0],)


def _whole_or_tiled(vae: Any, call: Call, inputs: Tensor, pixels: int, bundle: Bundle) -> Tensor:
    """Run the VAE whole if there is enough memory, else in tiles; and in tiles when memory runs out."""
    need = working_bytes(vae, pixels, bundle.device.vae_dtype)
    if pixels < TILED_FROM and need < free_bytes(bundle.device):
        try:
            return bundle.evaluate("vae", call, inputs)[0]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)
            log.warning("the VAE of %s ran out of memory at %d pixels and works in tiles", bundle.ref.name, pixels)
        release()
    height, width = inputs.shape[-2:]
    # Of an image's pixels or of latents: what comes out is as many times as large, or as small.
    factor = bundle.family.facts.latents.factor
    target = (width // factor, height // factor) if call is encode_mode else (width * factor, height * factor)
    seam = _SEAM if call is encode_mode else _SEAM // factor
    with in_tiles(vae):
        return across_seams(lambda values: call(vae, values)[0], inputs, bundle.tiling, target, seam)


def working_bytes(vae: Any, pixels: int, dtype: torch.dtype) -> int:
    """What a VAE needs beside its weights for an image, roughly: its widest layers at full size. An estimate."""
    channels = vae.config.block_out_channels[0]
    return int(pixels * channels * dtype.itemsize * _TENSORS_AT_ONCE)


@contextmanager
def in_tiles(vae: Any) -> Iterator[None]:
    """While it lasts, a VAE works in tiles: memory for one instead of all."""
    vae.enable_tiling()
    factor = 2 ** (len(vae.config.block_out_channels) - 1)  # pixels on each side of a latent
    vae.tile_sample_min_size, vae.tile_latent_min_size = _TILE, _TILE // factor
    try:
        yield
    finally:
        vae.disable_tiling()


def scale(latents: Tensor, config: Any) -> Tensor:
    """Latents as the VAE gives them -> as the U-Net takes them."""
    factor: float = config.scaling_factor
    mean, std = _statistics(latents, config)
    if mean is not None and std is not None:
        return (latents - mean) / std * factor
    shift: float = getattr(config, "shift_factor", None) or 0.0
    return (latents - shift) * factor


def unscale(latents: Tensor, config: Any) -> Tensor:
    """Latents as the U-Net gives them -> as the VAE takes them."""
    factor: float = config.scaling_factor
    mean, std = _statistics(latents, config)
    if mean is not None and std is not None:
        return latents * std / factor + mean
    shift: float = getattr(config, "shift_factor", None) or 0.0
    return latents / factor + shift


def _statistics(latents: Tensor, config: Any) -> tuple[Tensor | None, Tensor | None]:
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or std is None:
        return None, None
    mean, std = (torch.tensor(values, device=latents.device).view(1, -1, 1, 1) for values in (mean, std))
    return mean, std


def _decode_in_float32(latents: Tensor, vae: Any) -> Tensor:
    """Without touching the module's own (shared, fixed) weights."""

    def call(module: torch.nn.Module, value: Tensor) -> Tensor:
        weights = {name: tensor.float() for name, tensor in module.state_dict().items()}
        result: Tensor = torch.func.functional_call(module, weights, (value,))
        return result

    value = latents.float()
    if vae.post_quant_conv is not None:
        value = call(vae.post_quant_conv, value)
    return call(vae.decoder, value)
