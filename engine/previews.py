"""A small picture of the clean estimate, by a linear map from latents to RGB.

The map is fitted once per VAE, at its first use, on smooth pictures drawn here and encoded by the VAE
itself, so that no table of constants is needed; it is kept in a cache folder under the VAE's digest.
"""

import json
import logging
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.work import RawImage
from engine.canvas import scale as scale_latents
from engine.models import Bundle

SIDE = 256  # longest side of a preview, pixels
_FACTOR = 8  # pixels a latent
_PICTURES, _PICTURE_SIDE = 6, 128

log = logging.getLogger(__name__)


class PreviewMaker:
    """Makes previews for any VAE.

    Args:
        cache_dir: Where maps are kept between runs; None keeps them in memory only.
    """

    def __init__(self, cache_dir: Path | None = None) -> None:
        self._cache_dir = cache_dir
        self._maps: dict[str, Tensor] = {}

    def prepare(self, bundle: Bundle) -> Tensor:
        """The map of the bundle's VAE, (C + 1, 3), on its device; the last row is the offset."""
        digest = bundle.digests["vae"]
        if digest not in self._maps:
            rows = self._read(digest)
            if rows is None:
                rows = fit(bundle.parts["vae"], bundle.device.torch_device, bundle.device.vae_dtype)
                self._write(digest, rows)
            self._maps[digest] = torch.from_numpy(rows).to(bundle.device.torch_device)
        return self._maps[digest]

    @torch.inference_mode()
    def make(self, denoised: Tensor, bundle: Bundle) -> RawImage:
        """(1, C, h, w), a clean estimate -> a picture of at most SIDE pixels; one copy off the device."""
        rows = self.prepare(bundle)
        rgb = torch.einsum("chw,cr->rhw", denoised[0].float(), rows[:-1]) + rows[-1][:, None, None]
        height, width = rgb.shape[1:]
        scale = min(SIDE / max(height, width), _FACTOR)
        if scale > 1:
            size = (round(height * scale), round(width * scale))
            rgb = functional.interpolate(rgb[None], size=size, mode="bicubic", align_corners=False)[0]
        pixels = rgb.clamp(0, 1).mul(255).round().nan_to_num().to(torch.uint8).permute(1, 2, 0).cpu()
        return RawImage(pixels.shape[1], pixels.shape[0], pixels.contiguous().numpy().tobytes())

    def _read(self, digest: str) -> np.ndarray | None:
        path = self._path(digest)
        if path is None or not path.is_file():
            return None
        try:
            rows = np.array(json.loads(path.read_text("utf-8")), dtype=np.float32)
        except (OSError, ValueError, TypeError):
            return None  # fitted again
        return rows if rows.ndim == 2 and rows.shape[1] == 3 and np.isfinite(rows).all() else None

    def _write(self, digest: str, rows: np.ndarray) -> None:
        path = self._path(digest)
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}.part")
            part.write_text(json.dumps(rows.tolist()), "utf-8")
            os.replace(part, path)
        except OSError as error:
            log.warning("the preview map can't be kept: %s", error)

    def _path(self, digest: str) -> Path | None:
        return self._cache_dir and self._cache_dir / f"preview-{digest}.json"


@torch.inference_mode()
def fit(vae: nn.Module, device: torch.device, dtype: torch.dtype) -> np.ndarray:
    """Fit the map by least squares; (C + 1, 3), float32, from latents to RGB of 0..1."""
    pictures = draw_pictures(_PICTURES, _PICTURE_SIDE)
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    latents = []
    for one in pixels:
        inputs = (one[None] * 2 - 1).to(device=device, dtype=dtype)
        moments = vae.encode(inputs, return_dict=False)[0]
        latents.append(moments.mode().float().cpu())
    stacked = scale_latents(torch.cat(latents), vae.config)
    if not stacked.isfinite().all():
        return np.full((stacked.shape[1] + 1, 3), 0.5, dtype=np.float32)
    # The edge of a picture is encoded with padding: leave it out.
    inner = stacked[:, :, 1:-1, 1:-1].permute(0, 2, 3, 1).reshape(-1, stacked.shape[1]).double().numpy()
    small = functional.avg_pool2d(pixels, _FACTOR)[:, :, 1:-1, 1:-1]
    colors = small.permute(0, 2, 3, 1).reshape(-1, 3).double().numpy()
    columns = np.concatenate([inner, np.ones((len(inner), 1))], axis=1)
    # A little ridge keeps the map finite for a VAE that ignores a channel.
    ridge = 1e-4 * len(inner) * np.eye(columns.shape[1])
    return np.linalg.solve(columns.T @ columns + ridge, columns.T @ colors).astype(np.float32)


def draw_pictures(count: int, side: int) -> np.ndarray:
    """Smooth colored pictures: waves of many lengths and a few soft discs; (count, side, side, 3), 0..1."""
    chance = np.random.default_rng(7)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    pictures = np.empty((count, side, side, 3), dtype=np.float32)
    for picture in pictures:
        canvas = np.zeros((side, side, 3), dtype=np.float32)
        for _ in range(6):
            fx, fy = chance.uniform(-2.5, 2.5, 2)
            wave = np.sin(2 * np.pi * (fx * x + fy * y + chance.uniform()))
            canvas += wave[..., None] * chance.uniform(-0.4, 0.4, 3)
        canvas = 0.5 + canvas + chance.uniform(-0.3, 0.3, 3)
        for _ in range(4):
            cx, cy, radius = *chance.uniform(0, 1, 2), chance.uniform(0.08, 0.3)
            distance = np.hypot(x - cx, y - cy)
            cover = np.clip((radius - distance) * side / 6, 0, 1)[..., None]
            canvas = canvas * (1 - cover) + chance.uniform(0, 1, 3) * cover
        picture[:] = np.clip(canvas, 0, 1)
    return pictures
