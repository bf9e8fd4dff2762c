"""How a checkpoint that is one file was trained: its noise levels, and what it predicts.

Most files don't say. What is beside them, marks in them, and of SD 2 one tensor, are asked in this order.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catalog.folders import MAX_CONFIG_BYTES
from catalog.headers import TensorInfo, read_header
from engine.blocks import read_tensor
from engine.originals import UNET

# CompVis' and Stability's configurations agree in these, for every family.
_LEVELS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
# SD 2 was trained both ways with the same shapes. In models that predict v this tensor is spread wider; other
# programs tell them apart by it, too.
_SD2_TELLTALE, _SD2_SPREAD = f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias", 0.09
# The first programs' configuration, and notes as other programs keep them.
_SIDE_FILES = {".yaml": r"""(?m)^\s*parameterization:\s*["']?(v|eps)""",
               ".json": r'''"prediction_type"\s*:\s*"(v|eps)'''}


def scheduler_config(file: Path, family: str) -> dict[str, Any]:
    """What diffusers' schedulers are told of a checkpoint.

    Raises:
        ModelProblem: the file can't be read.
    """
    header = read_header(file)
    zero_snr = "ztsnr" in header
    prediction = _said_beside(file) or ("v_prediction" if "v_pred" in header or zero_snr else "")
    if not prediction and family == "sd2":
        prediction = _sd2_prediction(file, header)
    return {**_LEVELS, "prediction_type": prediction or "epsilon", "rescale_betas_zero_snr": zero_snr}


def _sd2_prediction(file: Path, header: Mapping[str, TensorInfo]) -> str:
    """Of SD 2's checkpoints only those that work from text alone were ever trained to predict v."""
    first, telltale = header.get(f"{UNET}input_blocks.0.0.weight"), header.get(_SD2_TELLTALE)
    if first is None or telltale is None or first.shape[1:2] != (4,):
        return ""
    return "v_prediction" if float(read_tensor(file, telltale).float().std(correction=0)) > _SD2_SPREAD else ""


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
