"""Makes one checkpoint of two or three, tensor by tensor: no more than one tensor of each is in memory.

The result has the names and leftovers of the first source, which is a single file; the others may be folders.
How it was made is in its metadata. LoRAs are baked in by `baking.py`.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
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
from engine.checkpoints.components import components_of
from engine.convert.baking import Key, bake
from engine.weights.reading import DTYPES, TensorSlice, read_tensor, scaled
from engine.weights.writing import write_tensors

if TYPE_CHECKING:
    from contract.tasks import Merge

Say = Callable[[str, float | None], None]
HASHING, MERGING = "Reading what is merged", "Merging"
_CHUNK = 2**22
_WRITTEN = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_AVERAGED = "model_ema."
_PICTURE_CHANNELS = "conv_in.weight"  # of the U-Net: inpainting and editing models have more of them


@dataclass(frozen=True, slots=True)
class _Spot:
    """One tensor of a source."""

    file: Path
    info: TensorInfo
    piece: TensorSlice
    scale: TensorInfo | None = None

    def read(self) -> Tensor:
        """Its numbers in float32, as the modules have them."""
        scale = None if self.scale is None else read_tensor(self.file, self.scale)
        tensor = scaled(read_tensor(self.file, self.info), scale).float()
        return tensor.T if self.piece.is_transposed else tensor


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is written of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]


def merge(task: "Merge", paths: Mapping[str, str], target: Path, say: Say) -> str:
    """Write the merged checkpoint.

    Args:
        paths: Where each model lies, by "kind/name".
        say: Told what is done, and which fraction of it.
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
    plan = components_of(first, home)
    spots = {ref.name: _spots(components_of(ref, Path(paths[path_key(ref)]))) for ref in others} | {
        first.name: _spots(plan)
    }
    for ref in others:
        _refuse_other(first, ref, spots)
    whole = read_header(home)
    header = without_companions(whole)  # what is written needs no scales
    keys = _keys(spots[first.name])
    described = {
        name: _Shape(_dtype(info, task.dtype), info.shape)
        for name, info in header.items()
        if not name.startswith(_AVERAGED)
    }
    baked = bake(first.name, plan, [(use, Path(paths[path_key(use.model)])) for use in task.loras])
    metadata = {"darkroom.merge": _account(task, paths, say), "format": "pt"}
    blend = _blend(task, [spots[ref.name] for ref in others])
    tensors = (
        _merged(
            _left_over(home, name, whole),
            keys.get(name, []),
            spots[first.name],
            lambda key, tensor: baked.of(key, blend(key, tensor)),
            described[name].dtype,
        )
        for name in described
    )
    for fraction in write_tensors(target, described, tensors, metadata):
        say(MERGING, fraction)
    kept = [key for key in spots[first.name] if any(key not in spots[ref.name] for ref in others)]
    kept_notice = f"{len(kept)} tensors are only in {first.name} and were kept." if kept else ""
    return " ".join(filter(None, [kept_notice, baked.notice]))


def _spots(plan: Mapping[str, Component]) -> dict[Key, _Spot]:
    """Where each tensor of a checkpoint's parts is."""
    found = {}
    for part, one in plan.items():
        for file in one.weights():
            header = read_header(file)
            slices = (
                one.slices
                if one.slices is not None
                else {name: TensorSlice(name) for name in without_companions(header)}
            )
            for name, piece in slices.items():
                scale = piece.cut_scale(scale_of(piece.name, header))
                found[part, name.removeprefix("text_model.")] = _Spot(file, piece.cut(header[piece.name]), piece, scale)
    return found


def _refuse_other(first: ModelRef, other: ModelRef, spots: Mapping[str, Mapping[Key, _Spot]]) -> None:
    if first.family != other.family:
        raise ModelProblem(
            f"{first.name} is {label_of(first.family)}; {other.name} is {label_of(other.family)}.",
            "Only models of one family can be merged.",
        )
    ours, theirs = spots[first.name], spots[other.name]
    for key in ours.keys() & theirs.keys():
        one, two = _sides(ours[key]), _sides(theirs[key])
        if one != two and not (key == ("unet", _PICTURE_CHANNELS) and one[1] > two[1]):
            raise ModelProblem(
                f"“{key[1]}” is {_by(one)} in {first.name} and {_by(two)} in {other.name}.",
                "Only models of one shape can be merged; an inpainting model has to be the first.",
            )


def _sides(spot: _Spot) -> tuple[int, ...]:
    shape = spot.info.shape[::-1] if spot.piece.is_transposed else spot.info.shape
    return shape[:2] if all(side == 1 for side in shape[2:]) else shape


def _by(sides: tuple[int, ...]) -> str:
    return "×".join(map(str, sides))


def _keys(spots: Mapping[Key, _Spot]) -> dict[str, list[Key]]:
    """Of each tensor of the file the modules' tensors that it holds, in order."""
    found: dict[str, list[Key]] = {}
    for key, spot in sorted(spots.items(), key=lambda pair: pair[1].piece.share):
        found.setdefault(spot.piece.name, []).append(key)
    return found


def _blend(task: "Merge", others: list[Mapping[Key, _Spot]]) -> Callable[[Key, Tensor], Tensor]:
    """The method as a function of a tensor of the first model."""

    def blended(key: Key, tensor: Tensor) -> Tensor:
        if not others or any(key not in other for other in others):
            return tensor
        values = [other[key].read().reshape(tensor.shape) for other in others]
        if task.method == "weighted":
            return tensor * (1 - task.ratio) + values[0] * task.ratio
        return tensor + task.ratio * (values[0] - values[1])

    def of_shared_channels(key: Key, tensor: Tensor) -> Tensor:
        if key != ("unet", _PICTURE_CHANNELS):
            return blended(key, tensor)
        shared = min([tensor.shape[1], *(other[key].info.shape[1] for other in others if key in other)])
        return torch.cat([blended(key, tensor[:, :shared]), tensor[:, shared:]], dim=1)

    return of_shared_channels


def _left_over(home: Path, name: str, header: Mapping[str, TensorInfo]) -> _Spot:
    """A tensor of the first model as it is, for what no module reads."""
    return _Spot(home, header[name], TensorSlice(name), scale_of(name, header))


def _merged(
    left_over: _Spot,
    keys: list[Key],
    spots: Mapping[Key, _Spot],
    blend: Callable[[Key, Tensor], Tensor],
    dtype: torch.dtype,
) -> Tensor:
    """One tensor of the result; what no module reads is passed on as it is."""
    if not keys:
        return left_over.read().to(dtype) if left_over.scale else read_tensor(left_over.file, left_over.info).to(dtype)
    blended = []
    for key in keys:
        tensor = blend(key, spots[key].read())
        blended.append(tensor.T if spots[key].piece.is_transposed else tensor)
    merged = torch.cat(blended).to(dtype) if len(blended) > 1 else blended[0].to(dtype)
    if not merged.isfinite().all():
        raise ModelProblem(f"“{keys[0][1]}” is no finite number after merging.", "Use another ratio, or float32.")
    return merged


def _dtype(info: TensorInfo, wanted: str) -> torch.dtype:
    found = DTYPES[info.dtype]
    return found if not found.is_floating_point else _WRITTEN[wanted]


def _account(task: "Merge", paths: Mapping[str, str], say: Say) -> str:
    """What the result was made of, as JSON: its recipe."""
    models = {}
    for role in ("a", "b", "c"):
        ref = getattr(task, role)
        if ref is not None:
            path = Path(paths[path_key(ref)])
            sha256 = ref.sha256 or (_sha256(path, say) if path.is_file() else None)
            models[role] = {"name": ref.name, "sha256": sha256}
    loras = [
        {
            "name": use.model.name,
            "sha256": use.model.sha256 or _sha256(Path(paths[path_key(use.model)]), say),
            "weight": use.weight,
            "text_weight": use.text_weight,
            "blocks": use.blocks,
        }
        for use in task.loras
    ]
    told = {"method": task.method, "ratio": task.ratio, "dtype": task.dtype, "models": models}
    return json.dumps(told | {"loras": loras} if loras else told)


def _sha256(file: Path, say: Say) -> str:
    digest, size, done = hashlib.sha256(), file.stat().st_size, 0
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            say(HASHING, done / size)
    return digest.hexdigest()
