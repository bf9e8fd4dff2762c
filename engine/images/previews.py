"""A small picture of the clean estimate, by a linear map from latents to RGB, or by a tiny decoder where one is.

The map is fitted once per VAE, at its first use, on smooth pictures drawn here and encoded by the VAE
itself, so that no table of constants is needed; it is kept in a cache folder under the VAE's digest.
Which tiny decoder reads a VAE's latents is tried out on the same pictures: no name is believed.
The first use waits for as many pictures as a moment allows; the others are encoded when nothing is asked for.
"""

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from catalog.files.folders import stamp_of
from contract.work import RawImage
from engine.images.taesd import TinyDecoder, load_tiny_decoder
from engine.images.vae import scale as scale_latents
from engine.models.manager import Bundle

SIDE = 256  # longest side of a preview, pixels
_FACTOR = 8  # pixels a latent
_PICTURES, _PICTURE_SIDE = 6, 128
_LIMIT_S = {"cpu": 0.02}  # a tiny decoder that takes longer would hold the next step up; the map then does it
_LIMIT_ELSEWHERE_S = 0.01
_FIT_S = 0.5  # a picture in the making waits no longer for its previews, one encoded picture apart
_TRY_AGAIN_S = 60.0  # a decoder that the system refused to read
_WORSE_DB = 3.0  # than the map on smooth pictures, where that is strong; a decoder of other latents is far below

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Samples:
    """The drawn pictures, and as many of their latents as were encoded: float32, on the CPU, as the U-Net has them.

    Attributes:
        pixels: (N, 3, H, W), 0 to 1.
    """

    pixels: Tensor
    latents: list[Tensor] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return len(self.latents) == len(self.pixels)

    @torch.inference_mode()
    def encode(self, vae: nn.Module, device: torch.device, dtype: torch.dtype, limit_s: float) -> None:
        """At least one picture more, and no new one after the limit."""
        began = time.perf_counter()
        for one in self.pixels[len(self.latents) :]:
            inputs = (one[None] * 2 - 1).to(device=device, dtype=dtype)
            moments = vae.encode(inputs, return_dict=False)[0]
            self.latents.append(scale_latents(moments.mode().float().cpu(), vae.config))
            if time.perf_counter() - began >= limit_s:
                return

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """Pictures and latents, as far as they are encoded."""
        return self.pixels[: len(self.latents)], torch.cat(self.latents)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What a path held: a decoder or none, of which stamp, and until when (monotonic) that counts."""

    stamp: str
    decoder: TinyDecoder | None
    until: float


class PreviewMaker:
    """Makes previews for any VAE.

    Args:
        cache_dir: Where maps are kept between runs; None keeps them in memory only.
    """

    def __init__(self, cache_dir: Path | None = None) -> None:
        self._cache_dir = cache_dir
        self._maps: dict[str, Tensor] = {}
        self._samples: dict[str, _Samples] = {}  # by VAE, while there is use for them
        self._tiny: dict[str, _Loaded] = {}  # by path
        self._chosen: dict[tuple[str, tuple[str, ...]], TinyDecoder | None] = {}  # by VAE and what there was

    def prepare(self, bundle: Bundle) -> Tensor:
        """The map of the bundle's VAE, (C + 1, 3), on its device; the last row is the offset."""
        digest = bundle.digests["vae"]
        if digest not in self._maps:
            rows = self._read(digest)
            if rows is None:
                rows = _solve(*self._encoded(bundle).pairs)
                self._write(digest, rows)
            self._maps[digest] = torch.from_numpy(rows).to(bundle.device.torch_device)
        return self._maps[digest]

    def is_rough(self, bundle: Bundle) -> bool:
        """Whether the map of its VAE was fitted in haste, so that `refine` makes it better."""
        samples = self._samples.get(bundle.digests["vae"])
        return samples is not None and not samples.is_whole

    def refine(self, bundle: Bundle) -> bool:
        """Encode one picture more for a rough map; whether there is more to do."""
        digest = bundle.digests["vae"]
        samples = self._samples[digest]
        samples.encode(bundle.onload("vae"), bundle.device.torch_device, bundle.device.vae_dtype, 0.0)
        if not samples.is_whole:
            return True
        rows = _solve(*samples.pairs)
        self._write(digest, rows)
        self._maps[digest] = torch.from_numpy(rows).to(bundle.device.torch_device)
        return False

    def _encoded(self, bundle: Bundle) -> _Samples:
        """At least one picture through the bundle's VAE; of a slow one not all, for now."""
        digest = bundle.digests["vae"]
        if digest not in self._samples:
            samples = _draw()
            samples.encode(bundle.onload("vae"), bundle.device.torch_device, bundle.device.vae_dtype, _FIT_S)
            self._samples[digest] = samples
        return self._samples[digest]

    def choose(self, bundle: Bundle, paths: Sequence[str], latents: Tensor) -> TinyDecoder | None:
        """The tiny decoder that reads the latents of the bundle's VAE best, and is quick enough for these.

        Args:
            paths: Of those that are there.
            latents: (1, C, h, w) on the device; only their shape counts.
        """
        device = bundle.device.torch_device
        limit = _LIMIT_S.get(device.type, _LIMIT_ELSEWHERE_S)
        loaded = [self._load(path, bundle) for path in paths]
        found = [one.decoder for one in loaded if one.decoder and one.decoder.channels == latents.shape[1]]
        try:
            quick = [tiny for tiny in found if tiny.is_quick(latents, limit)]
            key = (bundle.digests["vae"], tuple(f"{path} {one.stamp}" for path, one in zip(paths, loaded, strict=True)))
            if quick and key not in self._chosen:
                self._chosen[key] = _best(
                    quick, self.prepare(bundle), self._encoded(bundle), bundle.device.torch_device
                )
        except torch.OutOfMemoryError:
            return None
        chosen = self._chosen.get(key) if quick else None
        return chosen if chosen in quick else None

    def _load(self, path: str, bundle: Bundle) -> "_Loaded":
        """A decoder as it lies there now; loaded again when its file changed, or a while after it was refused."""
        stamp, before = stamp_of(Path(path)), self._tiny.get(path)
        if before is not None and before.stamp == stamp and time.monotonic() < before.until:
            return before
        decoder, until = None, float("inf")
        try:
            decoder = load_tiny_decoder(Path(path), bundle.device.torch_device, bundle.device.dtype)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            log.warning("%s is no preview decoder: %s", Path(path).name, error)
            until = time.monotonic() + _TRY_AGAIN_S
        self._tiny[path] = _Loaded(stamp, decoder, until)
        return self._tiny[path]

    @torch.inference_mode()
    def make(self, denoised: Tensor, bundle: Bundle, tiny: TinyDecoder | None = None) -> RawImage:
        """(1, C, h, w), a clean estimate -> a picture of at most SIDE pixels; one copy off the device."""
        if tiny is None:
            rgb = _by_map(denoised[0].float(), self.prepare(bundle))
        else:
            rgb = _at_most(tiny.decode(denoised)[0])
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


def _by_map(latents: Tensor, rows: Tensor) -> Tensor:
    """(C, h, w) -> (3, H, W), smoothly upscaled."""
    rgb = torch.einsum("chw,cr->rhw", latents, rows[:-1]) + rows[-1][:, None, None]
    height, width = rgb.shape[1:]
    scale = min(SIDE / max(height, width), _FACTOR)
    if scale <= 1:
        return rgb
    size = (round(height * scale), round(width * scale))
    return functional.interpolate(rgb[None], size=size, mode="bicubic", align_corners=False)[0]


def _at_most(rgb: Tensor) -> Tensor:
    """(3, H, W) brought to SIDE where it is larger."""
    height, width = rgb.shape[1:]
    scale = SIDE / max(height, width)
    if scale >= 1:
        return rgb
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return functional.interpolate(rgb[None], size=size, mode="area")[0]


@torch.inference_mode()
def _best(decoders: Sequence[TinyDecoder], rows: Tensor, samples: _Samples, device: torch.device) -> TinyDecoder | None:
    """The one whose pictures are truest; None where all are far from what the map makes."""
    pixels, latents = (tensor.to(device) for tensor in samples.pairs)
    by_map = torch.stack([_by_map(one, rows) for one in latents]).clamp(0, 1)
    least = _decibels(by_map, pixels) - _WORSE_DB
    found = {index: _decibels(tiny.decode(latents), pixels) for index, tiny in enumerate(decoders)}
    best = max(found, key=found.__getitem__)
    log.debug(
        "preview decoders: %s dB, the map %.1f dB", [round(value, 1) for value in found.values()], least + _WORSE_DB
    )
    return decoders[best] if found[best] >= least else None


def _decibels(made: Tensor, real: Tensor) -> float:
    """PSNR of pictures from 0 to 1; what is no number is far off."""
    error = (made - real).square().mean()
    return float(-10 * error.clamp_min(1e-9).log10()) if error.isfinite() else float("-inf")


def _draw() -> _Samples:
    return _Samples(torch.from_numpy(draw_pictures(_PICTURES, _PICTURE_SIDE)).permute(0, 3, 1, 2))


def fit(vae: nn.Module, device: torch.device, dtype: torch.dtype) -> np.ndarray:
    """Fit the map of a VAE to all pictures; (C + 1, 3), float32, from latents to RGB of 0..1."""
    samples = _draw()
    samples.encode(vae, device, dtype, float("inf"))
    return _solve(*samples.pairs)


@torch.inference_mode()
def _solve(pixels: Tensor, stacked: Tensor) -> np.ndarray:
    """The map by least squares. pixels: (N, 3, H, W), 0 to 1; stacked: their latents, (N, C, H/8, W/8)."""
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
        drawn = np.zeros((side, side, 3), dtype=np.float32)
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
        picture[:] = np.clip(drawn, 0, 1)
    return pictures
