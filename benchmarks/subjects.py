"""Checkpoints with random weights of a known shape, to measure on.

They are diffusers folders, made in a moment and gone afterwards.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from catalog.models import ModelEntry, describe
from tests.support.tiny import make_tokenizer


@dataclass(frozen=True, slots=True)
class Shape:
    """What a checkpoint's configurations say. name: also of its folder."""

    name: str
    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text: Mapping[str, Any] = field(
        default_factory=lambda: {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
        }
    )


_LORA_LAYERS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "ff.net.0.proj",
    "ff.net.2",
    "q_proj",
    "k_proj",
    "v_proj",
    "out_proj",
    "fc1",
    "fc2",
)
SD15 = Shape(
    "sd15-shaped",
    {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
)
MEDIUM = Shape(
    "medium",
    {
        "sample_size": 32,
        "cross_attention_dim": 256,
        "attention_head_dim": 4,
        "layers_per_block": 1,
        "block_out_channels": (128, 256, 384, 384),
    },
    {"block_out_channels": (32, 64, 64, 64), "layers_per_block": 1},
    {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4, "num_hidden_layers": 4},
)


@contextmanager
def checkpoints(shape: Shape, count: int = 1) -> Iterator[tuple[ModelEntry, ...]]:
    """Checkpoints of one shape and other weights, in half precision."""
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-") as name:
        names = [shape.name if number == 0 else f"{shape.name}-{number}" for number in range(count)]
        folders = [_write(Path(name) / own, shape, number) for number, own in enumerate(names)]
        yield tuple(describe(folder, folder.name) for folder in folders)


def write_lora(path: Path, shape: Shape, seed: int = 0, rank: int = 16) -> ModelEntry:
    """A LoRA on every attention and feed-forward layer of a checkpoint's U-Net and text encoder, names as of peft."""
    chance, tensors = torch.Generator().manual_seed(seed), dict[str, torch.Tensor]()
    for part, module in _parts(shape).items():
        for name, layer in module.named_modules():
            if part != "vae" and name.endswith(_LORA_LAYERS) and isinstance(layer, torch.nn.Linear):
                for letter, form in (("A", (rank, layer.in_features)), ("B", (layer.out_features, rank))):
                    tensors[f"{part}.{name}.lora_{letter}.weight"] = (torch.randn(form, generator=chance) * 0.02).half()
    save_file(tensors, path)
    return describe(path, path.stem)


def _parts(shape: Shape) -> dict[str, torch.nn.Module]:
    with torch.device("meta"):
        return {
            "unet": UNet2DConditionModel(**shape.unet),
            "vae": AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                latent_channels=4,
                **shape.vae,
            ),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**shape.text)),
        }


def _write(folder: Path, shape: Shape, seed: int) -> Path:
    chance = torch.Generator().manual_seed(seed)
    for part, module in _parts(shape).items():
        (folder / part).mkdir(parents=True)
        kind = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        weights = {
            key: (torch.randn(tensor.shape, generator=chance) * 0.02).half()
            for key, tensor in module.state_dict().items()
        }
        save_file(weights, folder / part / f"{kind}.safetensors")
        (folder / part / "config.json").write_text(_config(module), "utf-8")
    make_tokenizer().save_pretrained(folder / "tokenizer")
    EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").save_pretrained(
        folder / "scheduler"
    )
    (folder / "model_index.json").write_text('{"text_encoder": ["transformers", "CLIPTextModel"]}', "utf-8")
    return folder


def _config(module: torch.nn.Module) -> str:
    return str(module.config.to_json_string() if hasattr(module.config, "to_json_string") else module.to_json_string())
