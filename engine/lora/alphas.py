"""Settings that peft and diffusers keep apart from a LoRA's tensors: alphas, by component and layer; rotations' series.

diffusers writes them into the header (`lora_adapter_metadata`), peft into `adapter_config.json` beside the file.
Where neither says anything, alpha is the rank, as both take it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalog.files.folders import read_json, stamp_of
from catalog.files.headers import read_whole_header
from contract.errors import ModelProblem

_METADATA = "lora_adapter_metadata"
ADAPTER_CONFIG = "adapter_config.json"
_ALL = ""
_NEUMANN_TERMS = 5  # peft's own
_MOST_TERMS = 100


@dataclass(frozen=True, slots=True)
class Alphas:
    """Settings by component; those of "" are for all of them."""

    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, part: str, module: str, rank: int) -> float | None:
        """A layer's alpha; None where there is none."""
        table = self.settings.get(part) or self.settings.get(_ALL) or {}
        alpha = table.get("lora_alpha")
        pattern = table.get("alpha_pattern")
        if isinstance(pattern, dict):
            for name, value in pattern.items():
                if f".{module}".endswith(f".{name}"):
                    alpha = value
                    break
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
            return None
        return alpha * math.sqrt(rank) if table.get("use_rslora") is True else float(alpha)

    def neumann_terms(self, part: str) -> int:
        """How many terms of a series peft makes a rotation from; 0: it makes it exactly."""
        table = self.settings.get(part) or self.settings.get(_ALL) or {}
        if table.get("use_cayley_neumann") is False:
            return 0
        terms = table.get("num_cayley_neumann_terms")
        if isinstance(terms, bool) or not isinstance(terms, int):
            return _NEUMANN_TERMS
        return min(max(terms, 1), _MOST_TERMS)


def stamp_of_settings(file: Path) -> str:
    """Changes with the configuration beside a file; "" where there is none."""
    config = file.parent / ADAPTER_CONFIG
    return stamp_of(config) if config.is_file() else ""


def alphas_of(file: Path) -> Alphas:
    """The alphas of a file or of the configuration beside it; none where they can't be read."""
    text = read_whole_header(file).metadata.get(_METADATA)
    config = file.parent / ADAPTER_CONFIG
    if text is None:
        try:
            return Alphas({_ALL: read_json(config)}) if config.is_file() else Alphas()
        except ModelProblem:
            return Alphas()
    try:
        flat = json.loads(text)
    except (ValueError, RecursionError):
        return Alphas({})
    settings: dict[str, dict[str, Any]] = {}
    if isinstance(flat, dict):
        for key, value in flat.items():  # "unet.lora_alpha" and the like
            part, _, name = key.partition(".")
            settings.setdefault(part, {})[name] = value
    return Alphas(settings)
