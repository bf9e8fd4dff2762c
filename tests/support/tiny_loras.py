"""Tiny LoRA files with random numbers for the models of `tiny.py`, in every form of names that is in use.

What a file should do is worked out here once more, in another way than the engine does it: by running the small
layers one after another on unit inputs.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

ALPHA, RANK = 2.0, 4
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0", "q_proj", "k_proj", "v_proj", "out_proj")
LINEAR = (*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "fc1", "fc2")
CONV = (*LINEAR, "conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj")
Modules = Mapping[str, nn.Module]
Name = tuple[str, str]  # part, module


@dataclass(frozen=True)
class Made:
    """A file's tensors and what each should add to a module's weight at strength 1."""

    tensors: dict[str, Tensor]
    deltas: dict[Name, Tensor]

    def save(self, file: Path) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in self.tensors.items()}, file)
        return file


def chosen(parts: Modules, endings: Iterable[str]) -> dict[Name, nn.Module]:
    """The modules of some endings."""
    return {
        (part, name): child
        for part, module in parts.items()
        if part != "vae"
        for name, child in module.named_modules()
        if isinstance(child, (nn.Linear, nn.Conv2d)) and name.endswith(tuple(endings))
    }


def kohya(part: str, module: str) -> str:
    """As kohya's trainer names a module; SDXL's encoders are numbered (see `kohya_xl`)."""
    return _kohya({"unet": "lora_unet", "text_encoder": "lora_te"}, part, module)


def kohya_xl(part: str, module: str) -> str:
    """The same for SDXL."""
    return _kohya({"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}, part, module)


def _kohya(heads: Mapping[str, str], part: str, module: str) -> str:
    head = heads[part] if part == "unet" else f"{heads[part]}_text_model"
    return f"{head}_{module.removeprefix('text_model.').replace('.', '_')}"


def dotted(part: str, module: str) -> str:
    """As diffusers and peft name it."""
    return f"{part}.{module}" if part == "unet" else f"{part}.text_model.{module.removeprefix('text_model.')}"


def make(
    modules: Mapping[Name, nn.Module],
    name_of: Callable[[str, str], str],
    roles: tuple[str, str] = ("lora_down.weight", "lora_up.weight"),
    *,
    alpha: float | None = ALPHA,
    seed: int = 5,
    dtype: torch.dtype = torch.float32,
) -> Made:
    """A plain LoRA (for convolutions a LoCon)."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    deltas = {}
    for (part, name), module in modules.items():
        weight = module.weight
        down = (torch.randn(RANK, *weight.shape[1:], generator=generator) * 0.1).to(dtype)
        up_shape = (weight.shape[0], RANK) if weight.dim() == 2 else (weight.shape[0], RANK, 1, 1)
        up = (torch.randn(up_shape, generator=generator) * 0.1).to(dtype)
        stem = name_of(part, name)
        tensors |= {f"{stem}.{roles[0]}": down, f"{stem}.{roles[1]}": up}
        if alpha is not None:
            tensors[f"{stem}.alpha"] = torch.tensor(alpha)
        scale = 1.0 if alpha is None else alpha / RANK
        deltas[part, name] = scale * one_after_another([down.float(), up.float()], weight)
    return Made(tensors, deltas)


def turn(modules: Mapping[Name, nn.Module], name_of: Callable[[str, str], str], *, alpha: float = 0.01) -> Made:
    """Rotations (OFT) in blocks of 8 rows, as kohya's trainer writes them."""
    generator = torch.Generator().manual_seed(2)
    tensors: dict[str, Tensor] = {}
    deltas = {}
    for (part, name), module in modules.items():
        weight = module.weight.detach()
        blocks = 0.2 * torch.randn(len(weight) // 8, 8, 8, generator=generator)
        stem = name_of(part, name).replace("lora_unet", "oft_unet")
        tensors |= {f"{stem}.oft_blocks": blocks, f"{stem}.alpha": torch.tensor(alpha)}
        skew = blocks - blocks.mT
        skew = skew * min(1.0, alpha * len(weight) / float(skew.norm()))
        turned = torch.block_diag(*[torch.linalg.solve(torch.eye(8) + q, torch.eye(8) - q) for q in skew])
        flat = weight.float().flatten(1)
        deltas[part, name] = (turned @ flat - flat).reshape(weight.shape)
    return Made(tensors, deltas)


def one_after_another(layers: list[Tensor], weight: Tensor) -> Tensor:
    """The weight that acts as these layers do, found by showing them every unit input."""
    if weight.dim() == 2:
        seen = torch.eye(weight.shape[1])
        for layer in layers:
            seen = functional.linear(seen, layer.flatten(1))
        return seen.T
    into, height, width = weight.shape[1:]
    units = torch.eye(into * height * width).reshape(-1, into, height, width)
    for layer in layers:
        units = functional.conv2d(units, layer)
    return units.flatten(1).T.reshape(weight.shape)
