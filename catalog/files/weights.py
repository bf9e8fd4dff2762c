"""Which files of a folder in diffusers' layout hold its weights: a variant, or several files with an index.

Catalog and engine both ask here, so that what is listed as usable is what is read. Source of the names: diffusers and
transformers (`variant=`, sharded checkpoints). What is in a file's header, `headers.py`.
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


def weights_files(part: Path) -> tuple[Path, ...]:
    """The weights of one part of a diffusers folder, in order; the headers are read and found sound.

    Raises:
        ModelProblem: there are none that can be used; says what is there instead.
    """
    try:
        names = sorted(name for name in os.listdir(part) if not name.startswith(".") and os.path.isfile(part / name))
    except FileNotFoundError:
        raise ModelProblem(f"{part.name} is missing.", _AGAIN) from None
    except OSError as error:
        raise UnreadableModel(f"{part.name} can't be read ({error.strerror}).", "Correct its permissions.") from None
    candidates = sorted(filter(None, map(_candidate, names)))
    alone = [name for name in names if name.endswith(".safetensors") and not _SHARD.fullmatch(name)]
    if candidates:
        chosen = candidates[0][-1]
    elif len(alone) == 1:
        chosen = alone[0]
    else:
        raise _nothing_usable(part.name, names)
    if chosen.endswith(".json"):
        return _shards(part, chosen)
    read_header(part / chosen)
    return (part / chosen,)


def _candidate(name: str) -> tuple[int, str, bool, str] | None:
    """What to prefer comes first: (rank and name of the variant, whole files before several, the file)."""
    whole, index = _WHOLE.fullmatch(name), _INDEX.fullmatch(name)
    if _SHARD.fullmatch(name) or not (whole or index):
        return None
    variant = (whole["variant"] if whole else index and (index["early"] or index["late"])) or ""
    return _RANKS.get(variant, _OTHER_VARIANT), variant, whole is None, name


def _shards(part: Path, index: str) -> tuple[Path, ...]:
    """The files that an index names. Only plain names count: an index must not lead to other places."""
    where = f"{part.name}/{index}"
    table = read_json(part / index).get("weight_map")
    names = sorted(set(table.values())) if isinstance(table, dict) and _are_texts(table.values()) else []
    if not names or len(names) > _MOST_SHARDS:
        raise ModelProblem(f"{where} does not say which tensor is in which file.", _AGAIN)
    seen: set[str] = set()
    for name in names:
        if name != os.path.basename(name) or "\\" in name or not name.endswith(".safetensors"):
            raise ModelProblem(
                f"{where} names “{printable(name, 80)}”, which is no file beside it.", "Use another model."
            )
        if not (part / name).is_file():
            raise ModelProblem(f"{part.name}/{name} is missing, one of {len(names)} files of its weights.", _AGAIN)
        header = read_header(part / name)
        if twice := seen & header.keys():
            raise ModelProblem(f"{part.name} has the tensor “{printable(min(twice), 80)}” in two of its files.", _AGAIN)
        seen |= header.keys()
    return tuple(part / name for name in names)


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _nothing_usable(part: str, names: Iterable[str]) -> ModelProblem:
    """What a folder holds in place of weights that can be read."""
    if any(_SHARD.fullmatch(name) for name in names):
        return ModelProblem(
            f"{part} is split into several files, and the index that says what is in them is missing "
            "(….safetensors.index.json).",
            _AGAIN,
        )
    suffixes = {os.path.splitext(name)[1].lower() for name in names}
    if several := [name for name in names if name.endswith(".safetensors")]:
        return ModelProblem(
            f"{part} has {len(several)} .safetensors files, none with a name that diffusers gives: "
            "which to use is not clear.",
            "Keep one of them.",
        )
    for suffix, form in FORMATS.items():
        if suffix in suffixes:
            hint = (
                "Download its files as safetensors." if form.label == PICKLE.label else form.hint
            )  # a file is converted
            return ModelProblem(f"{part} holds {form.label} ({suffix}), {form.problem}.", hint)
    return ModelProblem(f"{part} has no weights (.safetensors).", _AGAIN)
