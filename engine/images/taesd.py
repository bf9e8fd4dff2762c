"""Tiny decoders for live previews: TAESD (Bohan 2023, github.com/madebyollin/taesd) and kin, by diffusers' class."""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file
from torch import Tensor, nn

_LAYER = re.compile(r"(?:(?:taesd_)?decoder\.)?(\d+)\.(.+)")  # TAESD's own names; its layer 0 clamps and has no weights
_HOPELESS_S = 0.5  # no warm-up takes so long
_CORNER = 32  # latents on each side


@dataclass(slots=True)
class TinyDecoder:
    """Latents as the U-Net has them -> an image, in milliseconds on a card.

    Attributes:
        seconds: How long a decode took, by shape of the latents.
    """

    module: nn.Module
    channels: int
    dtype: torch.dtype
    seconds: dict[tuple[int, ...], float] = field(default_factory=dict)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 3, 8h, 8w), values 0 to 1, float32, on the same device."""
        decoded: Tensor = self.module(latents.to(self.dtype))
        return decoded.float().add(1).div(2).clamp(0, 1)

    def is_quick(self, latents: Tensor, limit_s: float) -> bool:
        """Whether a decode of this shape takes no longer; measured once, after a warm-up.

        On a CPU large latents would delay the first image: a corner of them is decoded instead.
        """
        shape = tuple(latents.shape)
        if shape not in self.seconds:
            sample = latents
            if latents.device.type == "cpu":
                sample = latents[..., :_CORNER, :_CORNER]
            measured = []
            for _ in range(3):
                began = time.perf_counter()
                self.decode(sample)[0, 0, 0, 0].item()  # waits for the device
                measured.append(time.perf_counter() - began)
                if measured[-1] > _HOPELESS_S:
                    break
            self.seconds[shape] = min(measured) * latents.numel() / sample.numel()
        return self.seconds[shape] <= limit_s


def load_tiny_decoder(path: Path, device: torch.device, dtype: torch.dtype) -> TinyDecoder:
    """A diffusers folder, or a file with TAESD's own or diffusers' names.

    Raises:
        OSError, ValueError, RuntimeError, KeyError: it is damaged, or of another kind.
    """
    if path.is_dir():
        whole = AutoencoderTiny.from_pretrained(path, local_files_only=True, torch_dtype=dtype)
    else:
        tensors = {}
        for name, tensor in load_file(path).items():
            if name.startswith(("encoder.", "taesd_encoder.")):
                continue
            layer = _LAYER.fullmatch(name)
            if layer:
                tensors[f"layers.{int(layer[1]) - 1}.{layer[2]}"] = tensor
            else:
                tensors[name.removeprefix("decoder.")] = tensor
        whole = AutoencoderTiny(latent_channels=tensors["layers.0.weight"].shape[1])
        whole.decoder.load_state_dict(tensors)
    decoder = whole.decoder.to(device=device, dtype=dtype).eval().requires_grad_(False)
    return TinyDecoder(decoder, decoder.layers[0].in_channels, dtype)
