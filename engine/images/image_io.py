"""Images as pixels: the studio's PNGs opened, resized, filled in, blended. Knows no latents."""

import io
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from contract.errors import InvalidInput
from contract.recipe import ImageRef
from contract.values import BACKGROUND
from contract.work import RawImage

Shares = np.ndarray  # (H, W), float32, 0..1: how much of each pixel may change


def open_input(ref: ImageRef, images: Mapping[str, bytes], background: str = BACKGROUND) -> Image.Image:
    """An image of the work item as RGB; what is transparent has the background color.

    Raises:
        InvalidInput: it is missing in the work item, or its bytes are no PNG.
    """
    if ref.sha256 not in images:
        raise InvalidInput(
            "A picture that the job works from did not reach the engine.", "Add it again.", code="upload_gone"
        )
    try:
        with Image.open(io.BytesIO(images[ref.sha256]), formats=["PNG"]) as file:
            file.load()
            if file.mode != "RGBA":
                return file.convert("RGB")
            return Image.alpha_composite(Image.new("RGBA", file.size, background), file).convert("RGB")
    except (OSError, SyntaxError, ValueError):
        raise InvalidInput(
            "A picture that the job works from can't be read.", "Add it again.", code="upload_damaged"
        ) from None


def fit(
    image: Image.Image, size: tuple[int, int], resize: str, resample: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    """Bring an image (RGB, or L for masks) to a size.

    Args:
        resize: "stretch"; "crop" (cover, then cut the rest off); "fill" (all of it, the border continued;
            a mask's border is black).
    """
    if image.size == size:
        return image
    if resize not in ("crop", "fill"):
        return image.resize(size, resample)
    ratios = (size[0] / image.width, size[1] / image.height)
    ratio = max(ratios) if resize == "crop" else min(ratios)
    inner = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
    scaled = image.resize(inner, resample)
    corner = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
    placed = Image.new(image.mode, size)
    placed.paste(scaled, corner)
    if resize == "crop" or image.mode != "RGB" or inner == size:
        return placed
    known = Image.new("L", size)
    known.paste(255, (*corner, corner[0] + inner[0], corner[1] + inner[1]))
    return fill_in(placed, np.asarray(known) > 0)


def fill_in(image: Image.Image, known: np.ndarray) -> Image.Image:
    """Continue what is known smoothly into the rest: the mean of ever larger neighborhoods.

    Args:
        known: (H, W), bool. Known pixels come back unchanged.
    Source: the pull-push algorithm of Gortler et al. 1996, "The Lumigraph", section 3.4.
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    filled = _fill(pixels, torch.from_numpy(np.array(known))[None, None].float())
    return Image.fromarray(filled[0].permute(1, 2, 0).clamp(0, 255).round().to(torch.uint8).numpy())


def _fill(pixels: Tensor, known: Tensor) -> Tensor:
    if bool((known > 0).all()):
        return pixels
    if max(pixels.shape[-2:]) == 1:
        return torch.full_like(pixels, 127.5)  # nothing is known at all
    share = functional.avg_pool2d(known, 2, ceil_mode=True)
    mean = functional.avg_pool2d(pixels * known, 2, ceil_mode=True) / share.clamp(min=1e-6)
    coarse = _fill(mean, (share > 0).float())
    smooth = functional.interpolate(coarse, size=pixels.shape[-2:], mode="bilinear", align_corners=False)
    return torch.lerp(smooth, pixels, known)


def blend(under: Image.Image, over: Image.Image, share: Shares) -> Image.Image:
    """Put one image over another of its size; where share is 0 the lower one comes back bit for bit."""
    below, above = np.asarray(under, dtype=np.float32), np.asarray(over, dtype=np.float32)
    mixed = below + (above - below) * share[..., None]
    return Image.fromarray(np.rint(mixed).clip(0, 255).astype(np.uint8))


def as_image(raw: RawImage) -> Image.Image:
    """Raw pixels as a Pillow image."""
    return Image.frombytes("RGB", (raw.width, raw.height), raw.rgb)


def as_raw(image: Image.Image) -> RawImage:
    """A Pillow image (RGB) as raw pixels."""
    return RawImage(image.width, image.height, image.tobytes())
