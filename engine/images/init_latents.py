"""A start picture in latents: where the loop begins, and what a mask keeps on the way. Knows no pixels' way back.

Also what models with more input channels are shown: inpainting (mask and masked picture), InstructPix2Pix
(the picture), depth-to-image (the depth). A canvas is this for one picture's noise.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from contract.parts import made_steps
from engine.images.inpaint_region import InpaintRegion
from engine.images.vae import encode, scale
from engine.models.manager import Bundle
from engine.sampling.denoise import Predict
from engine.sampling.samplers import Sampling

PLAIN_CHANNELS, INPAINT_CHANNELS, EDIT_CHANNELS, DEPTH_CHANNELS = 4, 9, 8, 5
_FACTOR = 8
_LATENT_MODES = {
    "latent": "bilinear",
    "latent_bicubic": "bicubic",
    "latent_nearest": "nearest",
    "latent_nearest_exact": "nearest-exact",
}


@dataclass(frozen=True, slots=True)
class MaskBlend:
    """The loop's `LatentBlend` for one picture.

    Attributes:
        first_step: Steps that are left out: the start picture stands for what they would have made.
        start: Latents of the start picture, (1, C, h, w), float32, noise-free.
        noise: Of this picture's seed, (1, C, h, w).
        mask: Where latents may change, (1, 1, h, w), 0..1; None everywhere.
        is_soft: Gray changes later.
        keeps: Whether what is masked out is put back at each step.
        content: What to begin from instead of the start picture.
    """

    first_step: int
    start: Tensor
    noise: Tensor
    sampling: Sampling
    mask: Tensor | None = None
    is_soft: bool = False
    keeps: bool = True
    content: Tensor | None = None

    def begin(self, noise: Tensor, sampling: Sampling) -> Tensor:
        """The start picture with the noise of the first step; noise alone where a mask is wholly repainted."""
        if self.first_step == 0 and self.mask is not None and not self.is_soft:
            return noise * sampling.init_noise_sigma
        under = self.start if self.content is None else self.content
        first = self.first_step * sampling.order
        return sampling.alphas[first] * under + sampling.sigmas[first] * noise

    def keep(self, latents: Tensor, evaluation: int) -> Tensor:
        """Put the start picture back where the mask keeps it, at the noise level that comes next."""
        if self.mask is None or not self.keeps:
            return latents
        following = evaluation + 1
        kept = self.start
        if following < len(self.sampling.sigmas):
            kept = self.sampling.alphas[following] * kept + self.sampling.sigmas[following] * self.noise
        return torch.lerp(kept, latents, self._deltas(evaluation))

    def _deltas(self, evaluation: int) -> Tensor:
        """Differential: a gray of 0.3 changes in the last 30 % of the steps only.

        Source: Levin and Fried 2023 (arXiv 2306.00950), algorithm 1.
        """
        assert self.mask is not None
        if not self.is_soft:
            return self.mask
        first = self.first_step * self.sampling.order
        left = 1 - (evaluation + 1 - first) / (len(self.sampling.sigmas) - first)
        return (self.mask > left).float()


@dataclass(frozen=True, slots=True)
class InitLatents:
    """What is the same for every picture that a job makes of one start picture.

    Attributes:
        latents: Of the framed picture; None where the model begins from noise alone (InstructPix2Pix).
        mask: Where latents may change, (1, 1, h, w), 0..1; None everywhere.
        is_soft, content: As of the frame.
        channels: Further inputs of the U-Net, (1, c, h, w); None for plain models.
        keeps: Whether what is masked out is put back at each step. An inpainting model is shown what surrounds
            the mask instead, and paints a seam of its own.
        takes_strength: Whether the picture stands for the first steps; InstructPix2Pix makes them all.
    """

    latents: Tensor | None
    mask: Tensor | None = None
    is_soft: bool = False
    content: str = "original"
    channels: Tensor | None = None
    keeps: bool = True
    takes_strength: bool = True

    def mask_blend(
        self, sampling: Sampling, strength: float, noise: Tensor, generator: torch.Generator
    ) -> MaskBlend | None:
        """The canvas of one picture; None where it begins from noise and keeps nothing."""
        if self.latents is None:
            return None
        content = None
        if self.mask is not None and self.content != "original":
            chance = torch.randn(self.latents.shape, generator=generator).to(self.latents.device)
            new = chance if self.content == "noise" else torch.zeros_like(self.latents)
            content = torch.lerp(self.latents, new, (self.mask > 0.5).float())
        first = first_step(sampling.steps, strength) if self.takes_strength else 0
        return MaskBlend(first, self.latents, noise, sampling, self.mask, self.is_soft, self.keeps, content)


def input_channels(bundle: Bundle) -> int:
    """Input channels of the U-Net: what tells inpainting, editing and depth models apart."""
    return int(bundle.modules["unet"].config.in_channels)


def first_step(steps: int, strength: float) -> int:
    """How many steps a strength leaves out: the first that is made, 0-based."""
    return steps - made_steps(steps, strength)


def init_latents_of(
    region: InpaintRegion, size: tuple[int, int], bundle: Bundle, depth: Callable[[], Tensor] | None = None
) -> InitLatents:
    """Encode a frame for a model.

    Args:
        size: Width and height that are painted, pixels.
        depth: For depth-to-image: estimates the picture's depth, (1, 1, H, W), larger is nearer.
    """
    shape = (size[1] // _FACTOR, size[0] // _FACTOR)
    mask = None if region.mask is None else _latent_mask(region, shape).to(bundle.device.torch_device)
    takes = input_channels(bundle)
    if takes == EDIT_CHANNELS:
        plain = _resized(encode(_cut(region.picture), bundle, is_scaled=False), shape)
        latents = None if mask is None else scale(plain, bundle.onload("vae").config)
        return InitLatents(latents, mask, region.is_soft, region.content, plain, takes_strength=False)
    init_latents = InitLatents(
        _resized(encode(_cut(region.picture), bundle), shape), mask, region.is_soft, region.content
    )
    if takes == INPAINT_CHANNELS and mask is not None:
        return replace(init_latents, channels=_inpaint_channels(region, mask, bundle), keeps=region.is_soft)
    if takes == DEPTH_CHANNELS and depth is not None:
        return replace(init_latents, channels=_depth_channel(depth(), shape))
    return init_latents


def blank_channels(bundle: Bundle, size: tuple[int, int]) -> Tensor | None:
    """What an inpainting model is shown without a mask: all of a gray picture is to be painted."""
    if input_channels(bundle) != INPAINT_CHANNELS:
        return None
    masked = encode(Image.new("RGB", size, (128, 128, 128)), bundle)
    return torch.cat([torch.ones_like(masked[:, :1]), masked], dim=1)


def with_channels(predict: Predict, channels: Tensor | None) -> Predict:
    """A model that is shown further channels. channels: (1 or rows, c, h, w)."""
    if channels is None:
        return predict

    def shown(rows: Tensor, t: Tensor, conditions: object, residuals: object) -> Tensor:
        more = channels if channels.shape[0] == rows.shape[0] else channels.expand(rows.shape[0], -1, -1, -1)
        return predict(torch.cat([rows, more], dim=1), t, conditions, residuals)

    return shown


def stretch_latents(latents: Tensor, upscaler: str, shape: tuple[int, int]) -> Tensor:
    """Latents to another (h, w), by the name of a latent upscaler."""
    mode = _LATENT_MODES[upscaler.removesuffix("_antialiased")]
    smooth = {"align_corners": False, "antialias": upscaler.endswith("_antialiased")} if mode.startswith("bi") else {}
    return functional.interpolate(latents, size=shape, mode=mode, **smooth)


def _cut(picture: Image.Image) -> Image.Image:
    """Sides down to multiples of 8 (only a picture whose latents are stretched has others)."""
    width, height = (max(_FACTOR, side // _FACTOR * _FACTOR) for side in picture.size)
    return picture if picture.size == (width, height) else picture.resize((width, height), Image.Resampling.LANCZOS)


def _resized(latents: Tensor, shape: tuple[int, int]) -> Tensor:
    return latents if tuple(latents.shape[-2:]) == shape else stretch_latents(latents, "latent", shape)


def _latent_mask(region: InpaintRegion, shape: tuple[int, int]) -> Tensor:
    """A latent may change if any of its pixels may; of a soft mask as much as they may together."""
    assert region.mask is not None
    share = torch.from_numpy(np.ascontiguousarray(region.mask))[None, None]
    if tuple(share.shape[-2:]) != (shape[0] * _FACTOR, shape[1] * _FACTOR):
        share = functional.interpolate(share, size=(shape[0] * _FACTOR, shape[1] * _FACTOR), mode="nearest")
    pool = functional.avg_pool2d if region.is_soft else functional.max_pool2d
    return pool(share, _FACTOR)


def _inpaint_channels(region: InpaintRegion, mask: Tensor, bundle: Bundle) -> Tensor:
    """(1, 5, h, w): the mask, and the latents of the picture with gray under the mask."""
    assert region.mask is not None
    pixels = np.array(region.picture).astype(np.float32)
    pixels[region.mask >= 0.5] = 127.5
    return torch.cat([(mask >= 0.5).float(), encode(pixels, bundle)], dim=1)


def _depth_channel(depth: Tensor, shape: tuple[int, int]) -> Tensor:
    """(1, 1, h, w), from -1 (far) to 1."""
    small = functional.interpolate(depth, size=shape, mode="bicubic", align_corners=False)
    low, high = small.amin(), small.amax()
    return 2.0 * (small - low) / (high - low).clamp(min=1e-6) - 1.0
