"""Which files of a folder in diffusers' layout hold its weights: a variant, or several files with an index.

Catalog and engine both ask here, so the engine reads the files that the catalog lists as usable. Source of the names:
diffusers and transformers (`variant=`, sharded checkpoints). Headers are read in `headers.py`.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from catalog.files.folders import read_json
from catalog.files.formats import FORMATS, PICKLE
from catalog.files.headers import UnreadableModel, read_header
from catalog.files.plain_text import printable
from contract.errors import ModelProblem

_STEMS = r"(?:diffusion_pytorch_model|model)"
_WHOLE = re.compile(rf"{_STEMS}(?:\.(?P<variant>[\w.-]+))?\.safetensors")
_INDEX = re.compile(rf"{_STEMS}(?:\.(?P<early>[\w.-]+))?\.safetensors\.index(?:\.(?P<late>[\w.-]+))?\.json")
_SHARD = re.compile(r".*-\d{5}-of-\d{5}(?:\..*)?\.safetensors")
_MOST_SHARDS = 200
# Of several variants: the one without a name, then the smaller ones; what was not averaged comes last.
_RANKS: Mapping[str, int] = MappingProxyType({"": 0, "fp16": 1, "bf16": 2, "fp32": 3, "non_ema": 9})
_OTHER_VARIANT = 4
_AGAIN = "Download the model again."


def weights_files(component: Path) -> tuple[Path, ...]:
    """The weights of one component of a diffusers folder, in order; their headers are read and found sound.

    Raises:
        ModelProblem: there are none that can be used; names what is there instead.
    """
    try:
        names = [name for name in os.listdir(component) if not name.startswith(".")]
        names = sorted(name for name in names if os.path.isfile(component / name))
    except FileNotFoundError:
        raise ModelProblem(f"{component.name} is missing.", _AGAIN) from None
    except OSError as error:
        raise UnreadableModel(
            f"{component.name} can't be read ({error.strerror}).", "Correct its permissions."
        ) from None
    candidates: list[tuple[int, str, bool, str]] = []  # rank and name of the variant, whether several files, the file
    alone: list[str] = []
    for name in names:
        if _SHARD.fullmatch(name):
            continue
        if name.endswith(".safetensors"):
            alone.append(name)
        whole, index = _WHOLE.fullmatch(name), _INDEX.fullmatch(name)
        if whole:
            variant = whole["variant"] or ""
        elif index:
            variant = index["early"] or index["late"] or ""
        else:
            continue
        candidates.append((_RANKS.get(variant, _OTHER_VARIANT), variant, whole is None, name))
    if candidates:
        chosen = min(candidates)[-1]
    elif len(alone) == 1:
        chosen = alone[0]
    else:
        raise _nothing_usable(component.name, names)
    if chosen.endswith(".json"):
        return _shards(component, chosen)
    read_header(component / chosen)
    return (component / chosen,)


def _shards(component: Path, index: str) -> tuple[Path, ...]:
    """The files that an index names. Only plain names count: an index must not lead to other places."""
    where = f"{component.name}/{index}"
    table = read_json(component / index).get("weight_map")
    files = list(table.values()) if isinstance(table, dict) else []
    names = sorted(set(files)) if all(isinstance(name, str) for name in files) else []
    if not names or len(names) > _MOST_SHARDS:
        raise ModelProblem(f"{where} does not say which tensor is in which file.", _AGAIN)
    seen: set[str] = set()
    for name in names:
        if name != os.path.basename(name) or "\\" in name or not name.endswith(".safetensors"):
            raise ModelProblem(
                f"{where} names “{printable(name, 80)}”, which is no file beside it.", "Use another model."
            )
        if not (component / name).is_file():
            raise ModelProblem(f"{component.name}/{name} is missing, one of {len(names)} files of its weights.", _AGAIN)
        tensors = read_header(component / name).keys()
        twice = seen & tensors
        if twice:
            raise ModelProblem(
                f"{component.name} has the tensor “{printable(min(twice), 80)}” in two of its files.", _AGAIN
            )
        seen |= tensors
    return tuple(component / name for name in names)


def _nothing_usable(component: str, names: Iterable[str]) -> ModelProblem:
    """Names what a folder holds in place of weights that can be read."""
    if any(_SHARD.fullmatch(name) for name in names):
        return ModelProblem(
            f"{component} is split into several files, and the index that says what is in them is missing "
            "(….safetensors.index.json).",
            _AGAIN,
        )
    count = sum(name.endswith(".safetensors") for name in names)
    if count:
        return ModelProblem(
            f"{component} has {count} .safetensors files, none with a name that diffusers gives: "
            "which to use is not clear.",
            "Keep one of them.",
        )
    suffixes = {os.path.splitext(name)[1].lower() for name in names}
    if ".gguf" in suffixes:
        return ModelProblem(
            f"{component} holds GGUF weights, which are not read within a folder.",
            "Put the .gguf file into models/unet/.",
        )
    for suffix, form in FORMATS.items():
        if suffix in suffixes:
            # Only a single file can be converted here.
            hint = "Download its files as safetensors." if form.label == PICKLE.label else form.hint
            return ModelProblem(f"{component} holds {form.label} ({suffix}), {form.problem}.", hint)
    return ModelProblem(f"{component} has no weights (.safetensors).", _AGAIN)
