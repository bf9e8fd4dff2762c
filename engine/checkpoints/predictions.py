"""How a checkpoint that is one file was trained: its noise levels, and what it predicts.

Most files don't say. What is beside them, marks in them, and of SD 2 one tensor, are asked in this order.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catalog.detect.sniff import VARIANTS, prediction_of
from catalog.families import usual_prediction
from catalog.files.folders import MAX_CONFIG_BYTES, SIDE_SETTINGS
from catalog.files.headers import TensorInfo, read_whole_header
from engine.checkpoints.key_maps import UNET
from engine.weights.reading import read_tensor

# CompVis' and Stability's configurations agree in these, for every family.
_LEVELS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
# SD 2 was trained both ways with the same shapes. In models that predict v this tensor is spread wider; other
# programs tell them apart by it, too.
_SD2_TELLTALE, _SD2_SPREAD = f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias", 0.09
# The first programs' configuration, and notes as other programs keep them.
_SIDE_FILES = dict(
    zip(
        SIDE_SETTINGS,
        (r"""(?m)^\s*parameterization:\s*["']?(v|eps)""", r""""prediction_type"\s*:\s*"(v|eps)"""),
        strict=True,
    )
)


def scheduler_config(file: Path, family: str) -> dict[str, Any]:
    """What diffusers' schedulers are told of a checkpoint.

    Raises:
        ModelProblem: the file can't be read.
    """
    header = read_whole_header(file)
    marked, zero_snr = prediction_of(header.tensors, header.metadata)
    prediction = _said_beside(file) or marked or _usual(file, header.tensors, family)
    # Only such models have something to predict where there is no signal.
    return {
        **_LEVELS,
        "prediction_type": prediction,
        "rescale_betas_zero_snr": zero_snr and prediction == "v_prediction",
    }


def _usual(file: Path, tensors: Mapping[str, TensorInfo], family: str) -> str:
    """What the variant of a family predicts; where there are both, one tensor tells."""
    first, telltale = tensors.get(f"{UNET}input_blocks.0.0.weight"), tensors.get(_SD2_TELLTALE)
    variant = VARIANTS.get(first.shape[1] if first and len(first.shape) > 1 else 0, "text")
    usual = usual_prediction(family, variant)
    if usual == "epsilon" or telltale is None:
        return usual
    return usual if float(read_tensor(file, telltale).float().std(correction=0)) > _SD2_SPREAD else "epsilon"


def _said_beside(file: Path) -> str:
    """What a side file says that the model predicts; empty where none does."""
    for suffix, pattern in _SIDE_FILES.items():
        side = file.with_suffix(suffix)
        try:
            text = side.read_text("utf-8") if side.is_file() and side.stat().st_size <= MAX_CONFIG_BYTES else ""
        except (OSError, ValueError):
            continue
        if found := re.search(pattern, text):
            return "v_prediction" if found[1] == "v" else "epsilon"
    return ""
