"""Which components a model has, by its kind: the configuration of each, how it is built, where its weights are.

A checkpoint has several, in folders of their own; a ControlNet or T2I-Adapter (a folder or a file) is one; an
IP-Adapter is a file without a configuration, and its image encoder a folder; a LoRA, an embedding or a hypernetwork is
a file of named tensors; T5, which some families read prompts with, is one by itself. Which components a checkpoint
has, and how one that is a file is read, its family says.
"""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, ControlNetUnionModel, ControlNetXSAdapter, T2IAdapter
from torch import nn
from transformers import CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection

from catalog.detect.control_models import TRANSFORMER_CLASS, UNION_CLASS, XS_CLASS, acts_in_unet
from catalog.detect.pipelines import Pipeline
from catalog.detect.quantized import without_companions
from catalog.detect.text_encoders import find_encoders
from catalog.files.folders import read_json
from catalog.files.headers import read_header
from catalog.files.weights import weights_files
from catalog.models import optional_components
from contract.errors import ModelProblem
from contract.recipe import ModelRef
from engine.checkpoints.component import Builder, Component, Config, is_quantized, packings_of, plain_config
from engine.checkpoints.edm import edm_config, is_edm
from engine.checkpoints.predictions import flow_config, scheduler_config
from engine.checkpoints.single_file import (
    blame_shapes,
    clip_component,
    controlnet_file,
    t2i_adapter_file,
    text_encoder,
)
from engine.checkpoints.t5 import t5_component
from engine.checkpoints.tokenizers import END, PADDING_OPEN, ClipTokenizers, read_tokenizer
from engine.families import builder_of, family_of
from engine.families.family import ModelFamily
from engine.families.sd3 import build_transformer_controlnet
from engine.weights.named_tensors import NamedTensors
from engine.weights.reading import TensorSlice

_DENOISERS = ("unet", "transformer")
_READ_ELSEWHERE = ("vae", "depth_estimator")  # small, and their weights are read by more than their layers


def components_of(ref: ModelRef, path: Path) -> dict[str, Component]:
    """The components of a model, by name.

    Raises:
        ModelProblem: a configuration is missing, or the family is not known.
    """
    if ref.kind == "ip_adapter" and path.is_dir():
        return {"image_encoder": _folder_component(path, build_image_encoder)}
    if ref.kind == "ip_adapter":
        return {"adapter": _named_tensors(path)}
    if ref.kind in ("lora", "embedding", "hypernetwork"):
        return {ref.kind: _named_tensors(path, keeps_dtype=True)}
    family = family_of(ref.family)
    if ref.kind == "text_encoder":
        return {"text_encoder_3": t5_component(family.facts, path)}
    if ref.kind in ("controlnet", "t2i_adapter"):
        build = build_controlnet if ref.kind == "controlnet" else build_t2i_adapter
        if path.is_dir():
            return {ref.kind: _folder_component(path, build)}
        if acts_in_unet(read_header(path)):
            return {ref.kind: _named_tensors(path)}
        read = controlnet_file if ref.kind == "controlnet" else t2i_adapter_file
        config, slices = read(path, without_companions(read_header(path)), family.facts)
        return {ref.kind: Component(config, build, lambda: (path,), slices)}
    if path.is_file() and ref.kind == "vae":
        config, slices = family.read_vae_file(path, without_companions(read_header(path)))
        return {ref.kind: Component(config, builder_of(family, "vae"), lambda: (path,), slices)}
    found = {}
    if path.is_file():
        header = read_header(path)
        for name, (config, slices) in family.read_file(path, without_companions(header)).items():
            packings = {} if name in _READ_ELSEWHERE else packings_of(slices, header)
            found[name] = Component(config, builder_of(family, name), lambda: (path,), slices, packings=packings)
        return {**found, **_from_other_files(family, path, found.keys())}
    if ref.kind == "vae":
        return {ref.kind: _folder_component(path, builder_of(family, "vae"))}
    for name in (*family.builders, *optional_components(path)):
        found[name] = _folder_component(path / name, builder_of(family, name))
    return found


def _from_other_files(family: ModelFamily, path: Path, inside: Collection[str]) -> dict[str, Component]:
    """The components of a checkpoint that other files hold: text encoders, maybe the VAE.

    Raises:
        ModelProblem: a text encoder is nowhere, or a file can't be used.
    """
    facts, found = family.facts, {}
    encoders = {encoder.component: encoder for encoder in facts.text_encoders}
    others = find_encoders(path, facts)
    for name, file in others.beside.items():
        header = read_header(file)
        weights = without_companions(header)
        if file in others.lenders:
            component = family.read_file(file, weights).get(name)
        else:
            with blame_shapes(file):
                if facts.unet is None:
                    component = clip_component(encoders[name], weights, "")
                else:
                    component = text_encoder(encoders[name], weights, ("", ""))
        if component is None:
            raise ModelProblem(f"{file.name} has no {name.replace('_', ' ')}.", "Use another file.")
        config, slices = component
        packings = {} if name in _READ_ELSEWHERE else packings_of(slices, header)
        found[name] = Component(config, builder_of(family, name), partial(tuple, [file]), slices, packings=packings)
    for name in encoders:
        if name not in inside and name not in found:
            raise ModelProblem(
                f"{path.name} has no {name.replace('_', ' ')}.",
                f"Put {facts.encoder_files} into models/text_encoders/.",
            )
    return found


def tokenizers_of(ref: ModelRef, path: Path, clip: ClipTokenizers) -> dict[str, CLIPTokenizer]:
    """A checkpoint's tokenizers, by their text encoders and in the order of these.

    Args:
        clip: For a single file, which brings none.
    Raises:
        ModelProblem: its folder has none that can be read.
    """
    tokenizers = {}
    for encoder in family_of(ref.family).facts.text_encoders:
        if path.is_file():
            tokenizers[encoder.component] = clip.padded_with(PADDING_OPEN if encoder.is_open else END)
        else:
            tokenizers[encoder.component] = read_tokenizer(path / encoder.tokenizer)
    return tokenizers


def scheduler_of(ref: ModelRef, path: Path) -> dict[str, Any]:
    """A checkpoint's scheduler configuration, from its folder or inferred from its file.

    Raises:
        ModelProblem: it can't be read.
    """
    if path.is_file():
        return scheduler_config(path, family_of(ref.family).facts)
    table, facts = read_json(path / "scheduler" / "scheduler_config.json"), family_of(ref.family).facts
    if facts.flow_shift:
        return flow_config(facts, table)
    return edm_config(table) if is_edm(table) else table


def zeroes_empty_prompt(ref: ModelRef, path: Path) -> bool:
    """Whether a checkpoint of a family that does so was trained with zeros for an empty negative prompt.

    Raises:
        ModelProblem: its index can't be read.
    """
    return path.is_file() or Pipeline.of(read_json(path / "model_index.json")).zeroes_empty_prompt


def build_controlnet(config: Config) -> nn.Module:
    """A ControlNet, or a union of several, of a U-Net or a transformer."""
    if config.get("_class_name") == TRANSFORMER_CLASS:
        return build_transformer_controlnet(config)
    if config.get("_class_name") == XS_CLASS:
        adapter: nn.Module = ControlNetXSAdapter.from_config(dict(config))
        return adapter
    kind = ControlNetUnionModel if config.get("_class_name") == UNION_CLASS else ControlNetModel
    module: nn.Module = kind.from_config(dict(config))
    return module


def build_t2i_adapter(config: Config) -> nn.Module:
    """A T2I-Adapter."""
    module: nn.Module = T2IAdapter.from_config(dict(config))
    return module


def build_image_encoder(config: Config) -> nn.Module:
    """The CLIP image encoder of an IP-Adapter."""
    module: nn.Module = CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(dict(config)))
    return module


def _folder_component(folder: Path, build: Builder) -> Component:
    config = read_json(folder / "config.json")
    packings: dict[str, str] = {}
    if is_quantized(config) and folder.name in _DENOISERS:
        for file in weights_files(folder):
            header = read_header(file)
            packings |= packings_of({name: TensorSlice(name) for name in without_companions(header)}, header)
    return Component(plain_config(config), build, lambda: weights_files(folder), packings=packings)


def _named_tensors(file: Path, *, keeps_dtype: bool = False) -> Component:
    """A file of tensors by name.

    Args:
        keeps_dtype: float16 stays so, all else is float32: changes to a checkpoint are computed in float32.
    """
    header = without_companions(read_header(file))
    shapes = {name: list(info.shape) for name, info in header.items()}
    dtype = None
    if keeps_dtype:
        is_half = {info.dtype for info in header.values()} <= {"F16"}
        dtype = torch.float16 if is_half else torch.float32
    return Component(shapes, NamedTensors, lambda: (file,), dtype=dtype)
