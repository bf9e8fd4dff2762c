"""Checkpoints with random weights of a known shape, to measure on.

They are diffusers folders, made in a moment and gone afterwards.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from safetensors.torch import save_file

from benchmarks.subjects.shapes import SCHEDULER, Shape
from catalog.models import ModelEntry, describe
from engine.families import builder_of, family_of
from tests.support.tiny import make_tokenizer

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
    family = family_of(shape.family)
    with torch.device("meta"):
        return {name: builder_of(family, name)(dict(config)) for name, config in shape.parts.items()}


def _write(folder: Path, shape: Shape, seed: int) -> Path:
    noise = (torch.randn(2**22, generator=torch.Generator().manual_seed(seed)) * 0.02).half()
    index = {}
    for part, module in _parts(shape).items():
        (folder / part).mkdir(parents=True)
        kind = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
        weights = {}
        for key, tensor in module.state_dict().items():
            weights[key] = noise.repeat(-(-tensor.numel() // noise.numel()))[: tensor.numel()].view(tensor.shape)
        save_file(weights, folder / part / f"{kind}.safetensors")
        (folder / part / "config.json").write_text(_config(module), "utf-8")
        index[part] = ["transformers" if kind == "model" else "diffusers", type(module).__name__]
    make_tokenizer().save_pretrained(folder / "tokenizer")
    if "text_encoder_2" in shape.parts:
        make_tokenizer("!").save_pretrained(folder / "tokenizer_2")
    is_flow = "transformer" in shape.parts
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0) if is_flow else EulerDiscreteScheduler(**SCHEDULER)
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(index), "utf-8")
    return folder


def _config(module: torch.nn.Module) -> str:
    return str(module.config.to_json_string() if hasattr(module.config, "to_json_string") else module.to_json_string())
