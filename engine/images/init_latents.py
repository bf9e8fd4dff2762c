"""An init image in latents: where the loop begins, the latent mask, and further input channels of the U-Net.

Inpainting models are shown the mask and the masked image, InstructPix2Pix the image, depth-to-image models the depth.
What the mask keeps in each step is `sampling/mask_blend.py`; the way back to pixels is `inpaint_region.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from contract.parts import made_steps
from contract.values import Tiling
from engine.images.inpaint_region import InpaintRegion
from engine.images.seams import continued, folded, margins
from engine.images.vae import encode, scale
from engine.models.bundle import Bundle
from engine.sampling.denoise import Conditions, ControlResiduals, Predict
from engine.sampling.mask_blend import MaskBlend
from engine.sampling.noise import NoiseSource
from engine.sampling.samplers import Sampling

_SEAM = 8  # latents beyond an end of a seamless tiling
_INTERPOLATION = {
    "latent": "bilinear",
    "latent_bicubic": "bicubic",
    "latent_nearest": "nearest",
    "latent_nearest_exact": "nearest-exact",
}


@dataclass(frozen=True, slots=True)
class InitLatents:
    """What is the same for every image that a job makes from one init image.

    Attributes:
        latents: Of the inpaint region; None where the model begins from noise alone (InstructPix2Pix).
        mask: Where latents may change, (1, 1, h, w), 0..1; None everywhere.
        is_soft, content: As of the inpaint region.
        channels: Further input channels of the U-Net, (1, c, h, w); None for plain models.
        is_blended: Whether the init latents are put back outside the mask at each step. An inpainting model is shown
            what surrounds the mask instead, and paints its own seam.
        takes_strength: Whether the init image stands for the first steps; InstructPix2Pix runs them all.
    """

    latents: Tensor | None
    mask: Tensor | None = None
    is_soft: bool = False
    content: str = "original"
    channels: Tensor | None = None
    is_blended: bool = True
    takes_strength: bool = True

    def mask_blend(self, sampling: Sampling, strength: float, noise: Tensor, source: NoiseSource) -> MaskBlend | None:
        """The mask blend of one image; None where it begins from noise and keeps nothing."""
        if self.latents is None:
            return None
        masked_content = None
        if self.mask is not None and self.content != "original":
            # Drawn for "nothing" too, so that later draws of the seed stay the same.
            filling = source.filling(self.latents.shape).to(self.latents.device)
            if self.content != "noise":
                filling = torch.zeros_like(self.latents)
            masked_content = torch.lerp(self.latents, filling, (self.mask > 0.5).float())
        return MaskBlend(
            first_step=first_step(sampling.steps, strength) if self.takes_strength else 0,
            init_latents=self.latents,
            noise=noise,
            sampling=sampling,
            mask=self.mask,
            is_soft=self.is_soft,
            is_blended=self.is_blended,
            masked_content=masked_content,
        )


def variant_of(bundle: Bundle) -> str:
    """What a model works from, by the input channels of its denoiser: "text", "inpaint", "edit" or "depth"."""
    config: Any = bundle.modules[bundle.family.facts.denoiser].config
    return bundle.family.facts.latents.variants.get(config.in_channels, "text")


def first_step(steps: int, strength: float) -> int:
    """The first step that is run at a strength, 0-based: as many are left out."""
    return steps - made_steps(steps, strength)


def encode_init_image(
    region: InpaintRegion, size: tuple[int, int], bundle: Bundle, depth: Callable[[], Tensor] | None = None
) -> InitLatents:
    """Encode the inpaint region of an init image for a model.

    Args:
        size: Width and height of the pass, pixels.
        depth: For depth-to-image: estimates the image's depth, (1, 1, H, W), larger is nearer.
    """
    factor = bundle.family.facts.latents.factor
    latent_size = (size[1] // factor, size[0] // factor)
    mask = None
    if region.mask is not None:
        # A latent may change if any of its pixels may; under a soft mask by the mean of its pixels.
        pixels_mask = torch.from_numpy(np.ascontiguousarray(region.mask))[None, None]
        pixel_size = (latent_size[0] * factor, latent_size[1] * factor)
        if tuple(pixels_mask.shape[-2:]) != pixel_size:
            pixels_mask = functional.interpolate(pixels_mask, size=pixel_size, mode="nearest")
        pool = functional.avg_pool2d if region.is_soft else functional.max_pool2d
        mask = pool(pixels_mask, factor).to(bundle.device.torch_device)
    # Only an image whose latents are stretched has sides that are no multiples of the factor.
    image = region.image
    width, height = (max(factor, side // factor * factor) for side in image.size)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)

    variant = variant_of(bundle)
    is_edit = variant == "edit"
    latents = encode(image, bundle, is_scaled=not is_edit)
    if tuple(latents.shape[-2:]) != latent_size:
        latents = stretch_latents(latents, "latent", latent_size, bundle.tiling)
    if is_edit:
        scaled = None if mask is None else scale(latents, bundle.onload("vae").config)
        return InitLatents(scaled, mask, region.is_soft, region.content, latents, takes_strength=False)
    init_latents = InitLatents(latents, mask, region.is_soft, region.content)

    if variant == "inpaint" and mask is not None and region.mask is not None:
        pixels = np.array(region.image).astype(np.float32)
        pixels[region.mask >= 0.5] = 127.5
        channels = torch.cat([(mask >= 0.5).float(), encode(pixels, bundle)], dim=1)
        return replace(init_latents, channels=channels, is_blended=region.is_soft)
    if variant == "depth" and depth is not None:
        small = functional.interpolate(depth(), size=latent_size, mode="bicubic", align_corners=False)
        far, near = small.amin(), small.amax()
        return replace(init_latents, channels=2.0 * (small - far) / (near - far).clamp(min=1e-6) - 1.0)
    return init_latents


def blank_channels(bundle: Bundle, size: tuple[int, int]) -> Tensor | None:
    """What an inpainting model is shown without a mask: a gray image, all of which is masked."""
    if variant_of(bundle) != "inpaint":
        return None
    masked = encode(Image.new("RGB", size, (128, 128, 128)), bundle)
    return torch.cat([torch.ones_like(masked[:, :1]), masked], dim=1)


def with_channels(predict: Predict, channels: Tensor | None) -> Predict:
    """A model that is shown further input channels. channels: (1 or batch, c, h, w)."""
    if channels is None:
        return predict

    def predict_with_channels(
        latents: Tensor, t: Tensor, conditions: Conditions, residuals: ControlResiduals | None
    ) -> Tensor:
        batch = latents.shape[0]
        further = channels
        if channels.shape[0] != batch:
            further = channels.expand(batch, -1, -1, -1)
        return predict(torch.cat([latents, further], dim=1), t, conditions, residuals)

    return predict_with_channels


def stretch_latents(latents: Tensor, upscaler: str, size: tuple[int, int], tiling: Tiling | None = None) -> Tensor:
    """Latents at another (h, w), by the name of a latent upscaler; fitting around the axes of a tiling."""
    mode = _INTERPOLATION[upscaler.removesuffix("_antialiased")]
    options = {}
    if mode in ("bilinear", "bicubic"):
        options = {"align_corners": False, "antialias": upscaler.endswith("_antialiased")}
    before, after = margins(tiling or "", (latents.shape[-1], latents.shape[-2]), (size[1], size[0]), _SEAM)
    wide = (size[0] + 2 * after[1], size[1] + 2 * after[0])
    stretched = functional.interpolate(continued(latents, before), size=wide, mode=mode, **options)
    return folded(stretched, after)
