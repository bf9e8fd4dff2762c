"""Tiny decoders for live previews: TAESD (Bohan 2023, github.com/madebyollin/taesd) and alike, by diffusers' class."""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file
from torch import Tensor, nn

_LAYER = re.compile(r"(?:(?:taesd_)?decoder\.)?(\d+)\.(.+)")  # TAESD's own names; its layer 0 clamps and has no weights
_HOPELESS_S = 0.5  # no warming up takes so long
_CORNER = 32  # latents a side


@dataclass(slots=True)
class TinyDecoder:
    """Latents as the U-Net has them -> a picture, in milliseconds on a card.

    Attributes:
        seconds: What a decode took, by shape of the latents.
    """

    module: nn.Module
    channels: int
    dtype: torch.dtype
    seconds: dict[tuple[int, ...], float] = field(default_factory=dict)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 3, 8h, 8w), values 0 to 1, float32, on the same device."""
        return self.module(latents.to(self.dtype)).float().add(1).div(2).clamp(0, 1)

    def is_quick(self, latents: Tensor, limit_s: float) -> bool:
        """Whether a decode of this shape takes no longer; tried out once, after one that warms up.

        On a processor a large one would hold up the first picture: it is judged by a corner of it.
        """
        shape = tuple(latents.shape)
        if shape not in self.seconds:
            tried = latents[..., :_CORNER, :_CORNER] if latents.device.type == "cpu" else latents
            tries = []
            for _ in range(3):
                began = time.perf_counter()
                self.decode(tried)[0, 0, 0, 0].item()  # waits for the device
                tries.append(time.perf_counter() - began)
                if tries[-1] > _HOPELESS_S:
                    break
            self.seconds[shape] = min(tries) * latents.numel() / tried.numel()
        return self.seconds[shape] <= limit_s


def load_tiny_decoder(path: Path, device: torch.device, dtype: torch.dtype) -> TinyDecoder:
    """A diffusers folder, or a file with TAESD's own or diffusers' names.

    Raises:
        OSError, ValueError, RuntimeError, KeyError: it is damaged, or of another kind.
    """
    if path.is_dir():
        whole = AutoencoderTiny.from_pretrained(path, local_files_only=True, torch_dtype=dtype)
    else:
        tensors = {
            _name_in_diffusers(name): tensor
            for name, tensor in load_file(path).items()
            if not name.startswith(("encoder.", "taesd_encoder."))
        }
        whole = AutoencoderTiny(latent_channels=tensors["layers.0.weight"].shape[1])
        whole.decoder.load_state_dict(tensors)
    decoder = whole.decoder.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return TinyDecoder(decoder, decoder.layers[0].in_channels, dtype)


def _name_in_diffusers(name: str) -> str:
    found = _LAYER.fullmatch(name)
    return f"layers.{int(found[1]) - 1}.{found[2]}" if found else name.removeprefix("decoder.")
