"""The strengths that peft and diffusers keep apart from a LoRA's tensors, by part and layer.

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


@dataclass(frozen=True, slots=True)
class Alphas:
    """Settings by part; of "" for all parts."""

    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, part: str, module: str, rank: int) -> float | None:
        """A layer's alpha; None where nothing is said of it."""
        table = self.settings.get(part) or self.settings.get(_ALL) or {}
        pattern = table.get("alpha_pattern")
        own = pattern if isinstance(pattern, dict) else {}
        alpha = next(
            (value for name, value in own.items() if f".{module}".endswith(f".{name}")), table.get("lora_alpha")
        )
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
            return None
        return alpha * math.sqrt(rank) if table.get("use_rslora") is True else float(alpha)


def stamp_of_settings(file: Path) -> str:
    """Changes with the configuration beside a file; "" where there is none."""
    return stamp_of(file.parent / ADAPTER_CONFIG) if (file.parent / ADAPTER_CONFIG).is_file() else ""


def alphas_of(file: Path) -> Alphas:
    """What a file, or the configuration beside it, says. What can't be read says nothing."""
    text = read_whole_header(file).metadata.get(_METADATA)
    if text is not None:
        return Alphas(_by_part(text))
    if not (file.parent / ADAPTER_CONFIG).is_file():
        return Alphas()
    try:
        return Alphas({_ALL: read_json(file.parent / ADAPTER_CONFIG)})
    except ModelProblem:
        return Alphas()


def _by_part(text: str) -> dict[str, dict[str, Any]]:
    """ "unet.lora_alpha" and the like as tables."""
    try:
        flat = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    settings: dict[str, dict[str, Any]] = {}
    for key, value in flat.items() if isinstance(flat, dict) else ():
        part, _, name = key.partition(".")
        settings.setdefault(part, {})[name] = value
    return settings
