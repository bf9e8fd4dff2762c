"""What every model's folder has: configurations to read, a fingerprint. Knows no kind of model; weights: `weights.py`."""

import hashlib
import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contract.errors import ModelProblem

MAX_CONFIG_BYTES = 4_000_000


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
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise ModelProblem(f"{where} is not a regular file.", "Download the model again.")
        if status.st_size > MAX_CONFIG_BYTES:
            raise ModelProblem(f"{where} is too large for a configuration.", "Download it again.")
        data = json.loads(path.read_bytes())  # in UTF-8, UTF-16 or UTF-32, with a byte-order mark or without
    except FileNotFoundError:
        raise ModelProblem(f"{where} is missing.", "Download the model again.") from None
    except (OSError, ValueError, RecursionError):
        raise ModelProblem(f"{where} can't be read as JSON.", "Download the model again.") from None
    if not isinstance(data, dict):
        raise ModelProblem(f"{where} is not a table.", "Download the model again.")
    return data
