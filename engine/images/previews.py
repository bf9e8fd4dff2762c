"""Previews: a small image of the denoised estimate, by a linear map from latents to RGB, or by a tiny decoder.

The map is fitted once per VAE, at its first use, on smooth images drawn here and encoded by the VAE itself, so that no
table of constants is needed; it is kept in a cache folder under the VAE's digest. Which tiny decoder reads a VAE's
latents is tried on the same images: names are not trusted. The first use encodes as many images as half a second
allows; the others are encoded when the engine is idle.
"""

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from catalog.files.folders import stamp_of
from contract.work import RawImage
from engine.device.host_copy import HostCopy
from engine.device.wrapped_padding import wrapped_padding
from engine.images.taesd import TinyDecoder, load_tiny_decoder
from engine.images.vae import scale as scale_latents
from engine.models.bundle import Bundle

SIDE = 256  # longest side of a preview, pixels
_SAMPLES, _SAMPLE_SIDE = 6, 128
_LIMIT_S = {"cpu": 0.02}  # a slower tiny decoder would delay the next step; the map is used instead
_LIMIT_ELSEWHERE_S = 0.01
_FIT_S = 0.5  # a running job waits no longer for its previews, one encoded image apart
_RETRY_S = 60.0  # after a decoder could not be read
_WORSE_DB = 3.0  # than the map on smooth images, where that is strong; a decoder of other latents is far below
_MOST_ENLARGED = 8  # pixels of a preview per latent

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Samples:
    """The drawn images, and as many of their latents as are encoded: float32, on the CPU, in the U-Net's scale.

    Attributes:
        pixels: (N, 3, H, W), 0 to 1.
    """

    pixels: Tensor
    latents: list[Tensor] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return len(self.latents) == len(self.pixels)

    @torch.inference_mode()
    def encode(self, vae: Any, device: torch.device, dtype: torch.dtype, limit_s: float) -> None:
        """Encode at least one more image, and no new one after the limit."""
        began = time.perf_counter()
        for one in self.pixels[len(self.latents) :]:
            inputs = (one[None] * 2 - 1).to(device=device, dtype=dtype)
            moments = vae.encode(inputs, return_dict=False)[0]
            self.latents.append(scale_latents(moments.mode().float().cpu(), vae.config))
            if time.perf_counter() - began >= limit_s:
                return

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """Images and latents, as far as they are encoded."""
        return self.pixels[: len(self.latents)], torch.cat(self.latents)


@dataclass(frozen=True, slots=True)
class _LoadedDecoder:
    """What a path held: a decoder or none, of which stamp, and until when (monotonic) that counts."""

    stamp: str
    decoder: TinyDecoder | None
    until: float


class PreviewMaker:
    """Makes previews for any VAE.

    Args:
        cache_dir: Where maps are kept between runs; None keeps them in memory only.
        stream: Of a card, beside the one that steps; None elsewhere.
    """

    def __init__(self, cache_dir: Path | None = None, stream: "torch.cuda.Stream | None" = None) -> None:
        self._cache_dir, self._stream = cache_dir, stream
        self._maps: dict[str, Tensor] = {}
        self._samples: dict[str, _Samples] = {}  # by VAE, while there is use for them
        self._tiny: dict[str, _LoadedDecoder] = {}  # by path
        self._chosen: dict[tuple[str, tuple[str, ...]], TinyDecoder | None] = {}  # by VAE and what there was

    def prepare(self, bundle: Bundle) -> Tensor:
        """The map of the bundle's VAE, (C + 1, 3), on its device; the last row is the offset."""
        digest = bundle.digests["vae"]
        if digest not in self._maps:
            path, linear_map = self._path(digest), None
            if path is not None and path.is_file():
                try:
                    linear_map = np.array(json.loads(path.read_text("utf-8")), dtype=np.float32)
                except (OSError, ValueError, TypeError):
                    log.info("the preview map %s can't be read and is fitted again", path.name)
            if (
                linear_map is None
                or linear_map.ndim != 2
                or linear_map.shape[1] != 3
                or not np.isfinite(linear_map).all()
            ):
                linear_map = _fit_map(*self._encoded_samples(bundle).pairs)
                self._write_map(digest, linear_map)
            self._maps[digest] = torch.from_numpy(linear_map).to(bundle.device.torch_device)
        return self._maps[digest]

    def is_rough(self, bundle: Bundle) -> bool:
        """Whether the map of its VAE was fitted in haste, so that `refine` makes it better."""
        samples = self._samples.get(bundle.digests["vae"])
        return samples is not None and not samples.is_complete

    def refine(self, bundle: Bundle) -> bool:
        """Encode one more image for a rough map; whether there is more to do."""
        digest = bundle.digests["vae"]
        samples = self._samples[digest]
        samples.encode(bundle.onload("vae"), bundle.device.torch_device, bundle.device.vae_dtype, 0.0)
        if not samples.is_complete:
            return True
        linear_map = _fit_map(*samples.pairs)
        self._write_map(digest, linear_map)
        self._maps[digest] = torch.from_numpy(linear_map).to(bundle.device.torch_device)
        return False

    def _encoded_samples(self, bundle: Bundle) -> _Samples:
        """At least one image through the bundle's VAE; of a slow one not all, for now."""
        digest = bundle.digests["vae"]
        if digest not in self._samples:
            samples = _draw_samples()
            samples.encode(bundle.onload("vae"), bundle.device.torch_device, bundle.device.vae_dtype, _FIT_S)
            self._samples[digest] = samples
        return self._samples[digest]

    def choose(
        self, bundle: Bundle, paths: Sequence[str], latents: Tensor, limit_s: float | None = None
    ) -> TinyDecoder | None:
        """The tiny decoder that reads the latents of the bundle's VAE best, and is quick enough for these.

        Args:
            paths: Of the decoders that are installed.
            latents: (1, C, h, w) on the device; only their shape counts.
            limit_s: The longest that a decode may take; None is what delays no step.
        """
        device = bundle.device.torch_device
        if limit_s is None:
            limit_s = _LIMIT_S.get(device.type, _LIMIT_ELSEWHERE_S)
        quick: list[TinyDecoder] = []
        stamps: list[str] = []
        try:
            for path in paths:
                loaded = self.load_decoder(path, bundle)
                decoder = loaded.decoder
                if decoder and decoder.channels == latents.shape[1] and decoder.is_quick(latents, limit_s):
                    quick.append(decoder)
                    stamps.append(f"{path} {loaded.stamp}")
            key = (bundle.digests["vae"], tuple(stamps))
            if not quick:
                return None
            if key not in self._chosen:
                self._chosen[key] = _best_decoder(quick, self.prepare(bundle), self._encoded_samples(bundle), device)
        except torch.OutOfMemoryError:
            return None
        return self._chosen[key]

    def load_decoder(self, path: str, bundle: Bundle) -> _LoadedDecoder:
        """The decoder of a path; loaded again when its file changed, or a while after it could not be read."""
        stamp, before = stamp_of(Path(path)), self._tiny.get(path)
        if before is not None and before.stamp == stamp and time.monotonic() < before.until:
            return before
        decoder, until = None, float("inf")
        try:
            decoder = load_tiny_decoder(Path(path), bundle.device.torch_device, bundle.device.dtype)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            log.warning("%s is no preview decoder: %s", Path(path).name, error)
            until = time.monotonic() + _RETRY_S
        self._tiny[path] = _LoadedDecoder(stamp, decoder, until)
        return self._tiny[path]

    def draft(self, latents: Tensor, bundle: Bundle, paths: Sequence[str], limit_s: float) -> RawImage | None:
        """The finished latents at full size by a tiny decoder; None without one that takes no longer than the limit."""
        decoder = self.choose(bundle, paths, latents, limit_s)
        return None if decoder is None else finished_preview(self.begin(latents, bundle, decoder, side=None))

    @torch.inference_mode()
    def begin(
        self, denoised: Tensor, bundle: Bundle, decoder: TinyDecoder | None = None, side: int | None = SIDE
    ) -> HostCopy:
        """(1, C, h, w), the denoised estimate -> (H, W, 3) bytes; waits for no card.

        Args:
            side: Its longest side in pixels at most; None leaves what a decoder gives.
        """
        linear_map = self.prepare(bundle) if decoder is None else None

        def preview(denoised: Tensor) -> Tensor:
            if decoder is None:
                assert linear_map is not None
                rgb = _apply_map(denoised[0].float(), linear_map)
            else:
                with wrapped_padding(bundle.tiling):
                    rgb = decoder.decode(denoised)[0]
                height, width = rgb.shape[1:]
                scale = side / max(height, width) if side else 1.0
                if scale < 1:
                    size = (max(1, round(height * scale)), max(1, round(width * scale)))
                    rgb = functional.interpolate(rgb[None], size=size, mode="area")[0]
            return rgb.clamp(0, 1).mul(255).round().nan_to_num().to(torch.uint8).permute(1, 2, 0).contiguous()

        return HostCopy(preview, denoised, self._stream)

    def _write_map(self, digest: str, linear_map: np.ndarray) -> None:
        path = self._path(digest)
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}.part")
            part.write_text(json.dumps(linear_map.tolist()), "utf-8")
            os.replace(part, path)
        except OSError as error:
            log.warning("the preview map can't be kept: %s", error)

    def _path(self, digest: str) -> Path | None:
        return self._cache_dir and self._cache_dir / f"preview-{digest}.json"


def finished_preview(preview: HostCopy) -> RawImage:
    """The image of a preview that was begun; waits for it."""
    pixels = preview.value()
    return RawImage(pixels.shape[1], pixels.shape[0], pixels.contiguous().numpy().tobytes())


def _apply_map(latents: Tensor, linear_map: Tensor) -> Tensor:
    """(C, h, w) -> (3, H, W), smoothly upscaled."""
    rgb = torch.einsum("chw,cr->rhw", latents, linear_map[:-1]) + linear_map[-1][:, None, None]
    height, width = rgb.shape[1:]
    scale = min(SIDE / max(height, width), _MOST_ENLARGED)
    if scale <= 1:
        return rgb
    size = (round(height * scale), round(width * scale))
    return functional.interpolate(rgb[None], size=size, mode="bicubic", align_corners=False)[0]


@torch.inference_mode()
def _best_decoder(
    decoders: Sequence[TinyDecoder], linear_map: Tensor, samples: _Samples, device: torch.device
) -> TinyDecoder | None:
    """The one that decodes the samples best; None where all are far worse than the map."""
    pixels, latents = (tensor.to(device) for tensor in samples.pairs)
    by_map = torch.stack([_apply_map(one, linear_map) for one in latents]).clamp(0, 1)
    map_db = _decibels(by_map, pixels)
    best, best_db = decoders[0], float("-inf")
    for decoder in decoders:
        decoder_db = _decibels(decoder.decode(latents), pixels)
        log.debug("a preview decoder: %.1f dB, the map %.1f dB", decoder_db, map_db)
        if decoder_db > best_db:
            best, best_db = decoder, decoder_db
    return best if best_db >= map_db - _WORSE_DB else None


def _decibels(decoded: Tensor, original: Tensor) -> float:
    """PSNR of images from 0 to 1; minus infinity where a number is not finite."""
    error = (decoded - original).square().mean()
    return float(-10 * error.clamp_min(1e-9).log10()) if error.isfinite() else float("-inf")


def _draw_samples() -> _Samples:
    return _Samples(torch.from_numpy(draw_pictures(_SAMPLES, _SAMPLE_SIDE)).permute(0, 3, 1, 2))


def fit_preview_map(vae: nn.Module, device: torch.device, dtype: torch.dtype) -> np.ndarray:
    """Fit the map of a VAE to all samples; (C + 1, 3), float32, from latents to RGB of 0..1."""
    samples = _draw_samples()
    samples.encode(vae, device, dtype, float("inf"))
    return _fit_map(*samples.pairs)


@torch.inference_mode()
def _fit_map(pixels: Tensor, stacked: Tensor) -> np.ndarray:
    """The map by least squares. pixels: (N, 3, H, W), 0 to 1; stacked: their latents, (N, C, h, w)."""
    if not stacked.isfinite().all():
        return np.full((stacked.shape[1] + 1, 3), 0.5, dtype=np.float32)
    # The edge of an image is encoded with padding: leave it out.
    inner = stacked[:, :, 1:-1, 1:-1].permute(0, 2, 3, 1).reshape(-1, stacked.shape[1]).double().numpy()
    small = functional.avg_pool2d(pixels, pixels.shape[-1] // stacked.shape[-1])[:, :, 1:-1, 1:-1]
    colors = small.permute(0, 2, 3, 1).reshape(-1, 3).double().numpy()
    columns = np.concatenate([inner, np.ones((len(inner), 1))], axis=1)
    # A little ridge keeps the map finite for a VAE that ignores a channel.
    ridge = 1e-4 * len(inner) * np.eye(columns.shape[1])
    return np.linalg.solve(columns.T @ columns + ridge, columns.T @ colors).astype(np.float32)


def draw_pictures(count: int, side: int) -> np.ndarray:
    """Smooth colored images: waves of many lengths and a few soft discs; (count, side, side, 3), 0..1."""
    chance = np.random.default_rng(7)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    images = np.empty((count, side, side, 3), dtype=np.float32)
    for image in images:
        drawn: np.ndarray = np.zeros((side, side, 3), dtype=np.float32)
        for _ in range(6):
            fx, fy = chance.uniform(-2.5, 2.5, 2)
            wave = np.sin(2 * np.pi * (fx * x + fy * y + chance.uniform()))
            drawn += wave[..., None] * chance.uniform(-0.4, 0.4, 3)
        drawn = 0.5 + drawn + chance.uniform(-0.3, 0.3, 3)
        for _ in range(4):
            cx, cy, radius = *chance.uniform(0, 1, 2), chance.uniform(0.08, 0.3)
            distance = np.hypot(x - cx, y - cy)
            cover = np.clip((radius - distance) * side / 6, 0, 1)[..., None]
            drawn = drawn * (1 - cover) + chance.uniform(0, 1, 3) * cover
        image[:] = np.clip(drawn, 0, 1)
    return images
