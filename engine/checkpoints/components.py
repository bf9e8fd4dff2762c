"""Which parts a model has, by its kind: the configuration of each, how it is built, where its weights are.

A checkpoint has several, in folders of their own; a ControlNet or T2I-Adapter (a folder or a file) is one; an
IP-Adapter is a file without a configuration, and the encoder of its pictures a folder; a LoRA, an embedding or a
hypernetwork is a file of named numbers. What a family's checkpoint has, `families/`; what a file without a
configuration is, `single_file.py`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, ControlNetUnionModel, T2IAdapter
from torch import nn
from transformers import CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

from catalog.detect.control_models import UNION_CLASS
from catalog.detect.pipelines import Pipeline
from catalog.detect.quantized import without_companions
from catalog.files.folders import read_json
from catalog.files.headers import read_header
from catalog.files.weights import weights_files
from catalog.models import optional_components
from contract.recipe import ModelRef
from engine.checkpoints.component import Component
from engine.checkpoints.predictions import scheduler_config
from engine.checkpoints.single_file import checkpoint_components, control_of, padding_of, vae_component
from engine.checkpoints.tokenizers import clip_tokenizer, read_tokenizer
from engine.families import builder_of, family_of
from engine.families.family import Config
from engine.weights.named_tensors import NamedTensors

__all__ = ["Component", "components_of", "scheduler_of", "tokenizers_of", "zeroes_empty_prompt"]


def components_of(ref: ModelRef, path: Path) -> dict[str, Component]:
    """The parts of a model, by name.

    Raises:
        ModelProblem: a configuration is missing, or the family is not known.
    """
    if ref.kind == "ip_adapter":
        return _encoder(path) if path.is_dir() else _adapter(path)
    if ref.kind in ("lora", "embedding", "hypernetwork"):
        return {ref.kind: _tensors(path)}
    if ref.kind in ("controlnet", "t2i_adapter"):
        return {ref.kind: _control(ref, path)}
    if path.is_file():
        return (
            {ref.kind: vae_component(path, ref.family)}
            if ref.kind == "vae"
            else checkpoint_components(path, ref.family)
        )
    family = family_of(ref.family)
    if ref.kind == "vae":
        return {ref.kind: Component(read_json(path / "config.json"), builder_of(family, "vae"), _finder(path))}
    return {
        part: Component(read_json(path / part / "config.json"), builder_of(family, part), _finder(path / part))
        for part in (*family.builders, *optional_components(path))
    }


def tokenizers_of(ref: ModelRef, path: Path) -> tuple[CLIPTokenizer, ...]:
    """A checkpoint's tokenizers, in the order of its text encoders.

    Raises:
        ModelProblem: its folder has none that can be read.
    """
    if path.is_file():
        return tuple(clip_tokenizer(padding) for padding in padding_of(ref.family))
    return tuple(read_tokenizer(path / name) for name in family_of(ref.family).tokenizers)


def scheduler_of(ref: ModelRef, path: Path) -> dict[str, Any]:
    """How a checkpoint was trained, as its folder says or as its file shows.

    Raises:
        ModelProblem: it can't be read.
    """
    if path.is_file():
        return scheduler_config(path, ref.family)
    return read_json(path / "scheduler" / "scheduler_config.json")


def zeroes_empty_prompt(ref: ModelRef, path: Path) -> bool:
    """Whether a checkpoint of a family that does so was trained with zeros for an empty negative prompt.

    Raises:
        ModelProblem: its index can't be read.
    """
    return path.is_file() or Pipeline.of(read_json(path / "model_index.json")).zeroes_empty_prompt


def _finder(folder: Path) -> Callable[[], tuple[Path, ...]]:
    return lambda: weights_files(folder)


def _control(ref: ModelRef, path: Path) -> Component:
    build = _controlnet if ref.kind == "controlnet" else _t2i_adapter
    if path.is_file():
        config, slices = control_of(path, ref.kind, ref.family)
        return Component(config, build, lambda: (path,), slices)
    return Component(read_json(path / "config.json"), build, lambda: weights_files(path))


def _controlnet(config: Config) -> nn.Module:
    kind = ControlNetUnionModel if config.get("_class_name") == UNION_CLASS else ControlNetModel
    return kind.from_config(dict(config))


def _t2i_adapter(config: Config) -> nn.Module:
    return T2IAdapter.from_config(dict(config))


def _encoder(folder: Path) -> dict[str, Component]:
    return {"image_encoder": Component(read_json(folder / "config.json"), _image_encoder, _finder(folder))}


def _image_encoder(config: Config) -> nn.Module:
    return CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(dict(config)))


def _adapter(file: Path) -> dict[str, Component]:
    shapes = {name: list(info.shape) for name, info in without_companions(read_header(file)).items()}
    return {"adapter": Component(shapes, NamedTensors, lambda: (file,))}


def _tensors(file: Path) -> Component:
    """Numbers by name, in the precision they were kept in: what they do to a checkpoint is computed in float32."""
    header = without_companions(read_header(file))
    shapes = {name: list(info.shape) for name, info in header.items()}
    is_half = {info.dtype for info in header.values()} <= {"F16"}
    return Component(shapes, NamedTensors, lambda: (file,), dtype=torch.float16 if is_half else torch.float32)
