"""What every model's folder has: configurations to read, weights to find, a fingerprint. Knows no kind of model."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from catalog.headers import read_header
from contract.errors import ModelProblem

MAX_CONFIG_BYTES = 4_000_000


def weights_file(part: Path) -> Path:
    """The weights of one part of a diffusers folder, its header read and found sound.

    Raises:
        ModelProblem: there is none that can be used.
    """
    for name in ("diffusion_pytorch_model", "model"):
        for suffix in (".safetensors", ".fp16.safetensors"):
            if (part / (name + suffix)).exists():
                read_header(part / (name + suffix))
                return part / (name + suffix)
    if any(part.glob("*.safetensors.index.json")):
        raise ModelProblem(f"{part.name} is split into several files, which is not read here.",
                           "Use a version that has it in one file.")
    if any(part.glob("*.bin")):
        raise ModelProblem(f"{part.name} holds a pickle (.bin), which can run code when opened.",
                           "Convert it to safetensors first.")
    raise ModelProblem(f"{part.name} has no .safetensors file.", "Download the model again.")


def fingerprint(folder: Path, weights: Sequence[Path]) -> str:
    """Changes with the size, time or header of any of the weights, and is known without reading them."""
    digest = hashlib.sha256()
    for path in sorted(weights):
        status = path.stat()
        with path.open("rb") as file:
            head = hashlib.sha256(file.read(65536)).hexdigest()
        digest.update(f"{path.relative_to(folder)}|{status.st_size}|{status.st_mtime_ns}|{head}\n".encode())
    return digest.hexdigest()[:16]


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file as a table.

    Raises:
        ModelProblem: it is missing, too large, or not a JSON object.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ModelProblem(f"{where} is too large for a configuration.", "Download it again.")
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelProblem(f"{where} is missing.", "Download the model again.") from None
    except (OSError, ValueError, RecursionError):
        raise ModelProblem(f"{where} can't be read as JSON.", "Download the model again.") from None
    if not isinstance(data, dict):
        raise ModelProblem(f"{where} is not a table.", "Download the model again.")
    return data
