"""Merges two or three checkpoints, tensor by tensor: no more than one tensor of each is in memory.

The result has the names and leftovers of the first source, which is a single file; the others may be folders.
How it was made is in its metadata. LoRAs are baked in by `baking.py`.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from catalog.detect.quantized import scale_of, without_companions
from catalog.families import label_of
from catalog.files.headers import TensorInfo, read_header
from contract.errors import ModelProblem
from contract.recipe import ModelRef
from contract.work import path_key
from engine.checkpoints.component import Component
from engine.convert.baking import Key, bake
from engine.models.components import components_of
from engine.weights.reading import DTYPES, TensorSlice, read_tensor, scaled
from engine.weights.writing import write_tensors

if TYPE_CHECKING:
    from contract.tasks import Merge

Say = Callable[[str, float | None], None]
HASHING, MERGING = "Reading what is merged", "Merging"
_CHUNK = 2**22
_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_EMA_PREFIX = "model_ema."
_CONV_IN = ("unet", "conv_in.weight")  # inpainting and editing models have more input channels


@dataclass(frozen=True, slots=True)
class _Source:
    """Where one tensor of a checkpoint is."""

    file: Path
    info: TensorInfo
    slice: TensorSlice
    scale: TensorInfo | None = None

    def read(self) -> Tensor:
        """In float32, as the modules have it."""
        scale = None if self.scale is None else read_tensor(self.file, self.scale)
        tensor = scaled(read_tensor(self.file, self.info), scale).float()
        return self.slice.arranged(tensor)


Sources = Mapping[Key, _Source]


@dataclass(frozen=True, slots=True)
class _Described:
    """What is written of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]


def merge(task: "Merge", paths: Mapping[str, str], target: Path, say: Say) -> str:
    """Write the merged checkpoint.

    Args:
        paths: Where each model is, by "kind/name".
        say: Called with what is being done, and which fraction of it.
    Returns:
        A sentence about what could not be merged; empty where all could.
    Raises:
        ModelProblem: the sources don't go together; names both.
    """
    first, others = task.a, [ref for ref in (task.b, task.c) if ref is not None]
    home = Path(paths[path_key(first)])
    if not home.is_file():
        raise ModelProblem(
            f"{first.name} is a folder; the result of a merge takes the form of its first model.",
            "Choose a checkpoint that is one file as the first model.",
        )
    components = components_of(first, home)
    by_name: dict[str, Sources] = {}
    for ref in others:
        by_name[ref.name] = _sources_of(components_of(ref, Path(paths[path_key(ref)])))
    by_name[first.name] = _sources_of(components)
    own = by_name[first.name]
    for ref in others:
        _check_mergeable(first, ref, own, by_name[ref.name])
    other_sources = [by_name[ref.name] for ref in others]

    whole = read_header(home)
    described = {}
    for name, info in without_companions(whole).items():  # what is written needs no scales
        if not name.startswith(_EMA_PREFIX):
            dtype = DTYPES[info.dtype]
            if dtype.is_floating_point:
                dtype = _DTYPES[task.dtype]
            described[name] = _Described(dtype, info.shape)
    # Of each tensor of the file the modules' tensors that it holds, in order.
    keys: dict[str, list[Key]] = {}
    for key, source in sorted(own.items(), key=lambda item: item[1].slice.share):
        keys.setdefault(source.slice.name, []).append(key)
    baked = bake(first.name, components, [(use, Path(paths[path_key(use.model)])) for use in task.loras])
    metadata = {"darkroom.merge": _provenance_of(task, paths, say), "format": "pt"}

    def tensors() -> Iterator[Tensor]:
        for name, wanted in described.items():
            if name not in keys:  # no module reads it: passed on as it is
                tensor, scale = read_tensor(home, whole[name]), scale_of(name, whole)
                if scale:
                    tensor = scaled(tensor, read_tensor(home, scale)).float()
                yield tensor.to(wanted.dtype)
                continue
            blended = []
            for key in keys[name]:
                tensor = baked.of(key, _blend(task, key, own[key].read(), other_sources))
                blended.append(own[key].slice.arranged(tensor))
            result = blended[0] if len(blended) == 1 else torch.cat(blended)
            result = result.to(wanted.dtype)
            if not result.isfinite().all():
                raise ModelProblem(
                    f"“{keys[name][0][1]}” is no finite number after merging.", "Use another ratio, or float32."
                )
            yield result

    for fraction in write_tensors(target, described, tensors(), metadata):
        say(MERGING, fraction)
    shared = set(own)
    for other in other_sources:
        shared &= other.keys()
    notices = []
    if len(shared) < len(own):
        notices.append(f"{len(own) - len(shared)} tensors are only in {first.name} and were kept.")
    if baked.notice:
        notices.append(baked.notice)
    return " ".join(notices)


def _sources_of(components: Mapping[str, Component]) -> Sources:
    """Where each tensor of a checkpoint's components is."""
    found = {}
    for part, component in components.items():
        for file in component.weights():
            header = read_header(file)
            slices = component.slices
            if slices is None:
                slices = {name: TensorSlice(name) for name in without_companions(header)}
            for name, piece in slices.items():
                info = piece.cut(header[piece.name])
                scale = piece.cut_scale(scale_of(piece.name, header))
                found[part, name.removeprefix("text_model.")] = _Source(file, info, piece, scale)
    return found


def _check_mergeable(first: ModelRef, other: ModelRef, ours: Sources, theirs: Sources) -> None:
    if first.family != other.family:
        raise ModelProblem(
            f"{first.name} is {label_of(first.family)}; {other.name} is {label_of(other.family)}.",
            "Only models of one family can be merged.",
        )
    for key in ours.keys() & theirs.keys():
        own, their = _shape_of(ours[key]), _shape_of(theirs[key])
        has_more_channels = key == _CONV_IN and own[1] > their[1]
        if own != their and not has_more_channels:
            own_text, their_text = "×".join(map(str, own)), "×".join(map(str, their))
            raise ModelProblem(
                f"“{key[1]}” is {own_text} in {first.name} and {their_text} in {other.name}.",
                "Only models of one shape can be merged; an inpainting model has to be the first.",
            )


def _shape_of(source: _Source) -> tuple[int, ...]:
    """As the modules have it; a 1×1 convolution counts as a linear layer."""
    shape = source.info.shape[::-1] if source.slice.is_transposed else source.info.shape
    return shape[:2] if all(side == 1 for side in shape[2:]) else shape


def _blend(task: "Merge", key: Key, tensor: Tensor, others: Sequence[Sources]) -> Tensor:
    """A tensor of the first model, blended with the others'; of conv_in the channels that all have."""
    if key == _CONV_IN:
        counts = [other[key].info.shape[1] for other in others if key in other]
        shared = min([tensor.shape[1], *counts])
        tensor, rest = tensor[:, :shared], tensor[:, shared:]
    if others and all(key in other for other in others):
        values = [other[key].read().reshape(tensor.shape) for other in others]
        if task.method == "weighted":
            tensor = tensor * (1 - task.ratio) + values[0] * task.ratio
        else:
            tensor = tensor + task.ratio * (values[0] - values[1])
    if key == _CONV_IN:
        return torch.cat([tensor, rest], dim=1)
    return tensor


def _provenance_of(task: "Merge", paths: Mapping[str, str], say: Say) -> str:
    """What the result is made of, as JSON: its recipe."""
    models: dict[str, dict[str, object]] = {}
    for role in ("a", "b", "c"):
        ref = getattr(task, role)
        if ref is not None:
            path = Path(paths[path_key(ref)])
            sha256 = ref.sha256
            if not sha256 and path.is_file():
                sha256 = _sha256_of(path, say)
            models[role] = {"name": ref.name, "sha256": sha256 or None}
    provenance: dict[str, object] = {"method": task.method, "ratio": task.ratio, "dtype": task.dtype, "models": models}
    loras = []
    for use in task.loras:
        loras.append(
            {
                "name": use.model.name,
                "sha256": use.model.sha256 or _sha256_of(Path(paths[path_key(use.model)]), say),
                "weight": use.weight,
                "text_weight": use.text_weight,
                "blocks": use.blocks,
            }
        )
    if loras:
        provenance["loras"] = loras
    return json.dumps(provenance)


def _sha256_of(file: Path, say: Say) -> str:
    digest, size, done = hashlib.sha256(), file.stat().st_size, 0
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            say(HASHING, done / size)
    return digest.hexdigest()
