"""From latents to a picture, and never a black one for a success. Pictures to latents join with img2img."""

import logging

import torch
from torch import Tensor

from contract.errors import NoValidPicture
from contract.work import RawImage
from engine.models import Bundle

log = logging.getLogger(__name__)


@torch.inference_mode()
def decode(latents: Tensor, bundle: Bundle) -> tuple[RawImage, bool]:
    """Decode finished latents.

    Args:
        latents: (1, C, h, w), float32, in the sampler's final space (noise-free).
    Returns:
        The picture, and whether the VAE had to be run once more in float32.
    Raises:
        NoValidPicture: the numbers are not finite even so.
    """
    vae = bundle.parts["vae"]
    scaled = _unscale(latents, vae.config)
    dtype = bundle.device.vae_dtype
    pixels = vae.decode(scaled.to(dtype), return_dict=False)[0]
    is_retry = dtype != torch.float32 and not pixels.isfinite().all()
    if is_retry:
        log.warning("the VAE of %s overflows in %s", bundle.ref.name, dtype)
        pixels = _decode_in_float32(scaled, vae)
    if not pixels.isfinite().all():
        raise NoValidPicture(f"The VAE of {bundle.ref.name} gave numbers that are no picture.",
                             "Use another VAE or model; this one may be damaged.")
    return _to_image(pixels), is_retry


def _unscale(latents: Tensor, config: object) -> Tensor:
    """Latents as the U-Net sees them -> as the VAE does."""
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and std is not None:
        mean, std = (torch.tensor(values, device=latents.device).view(1, -1, 1, 1) for values in (mean, std))
        return latents * std / config.scaling_factor + mean
    shift = getattr(config, "shift_factor", None) or 0.0
    return latents / config.scaling_factor + shift


def _decode_in_float32(latents: Tensor, vae: torch.nn.Module) -> Tensor:
    """Without touching the module's own (shared, fixed) weights."""
    def call(module: torch.nn.Module, value: Tensor) -> Tensor:
        weights = {name: tensor.float() for name, tensor in module.state_dict().items()}
        return torch.func.functional_call(module, weights, (value,))

    value = latents.float()
    if vae.post_quant_conv is not None:
        value = call(vae.post_quant_conv, value)
    return call(vae.decoder, value)


def _to_image(pixels: Tensor) -> RawImage:
    """(1, 3, H, W) of -1..1 -> 8 bits, rounded as the stock pipelines do."""
    rounded = (pixels[0].float() * 0.5 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    height, width = rounded.shape[1:]
    return RawImage(width, height, rounded.permute(1, 2, 0).contiguous().cpu().numpy().tobytes())
