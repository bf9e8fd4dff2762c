"""The scheduler configuration of a checkpoint that is one file: its betas and its prediction type.

Most files don't state it. Side files, marks in the file, and the family's telltale are looked at in this order.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from catalog.families.family import Family
from catalog.families.ldm_checkpoints import UNET, VARIANTS, prediction_of
from catalog.files.folders import MAX_CONFIG_BYTES, SIDE_SETTINGS
from catalog.files.headers import read_whole_header
from catalog.files.plain_text import printable
from catalog.files.tensor_names import first_shape
from catalog.samplers import EDM_PREDICTIONS
from contract.errors import ModelProblem
from contract.values import Prediction
from engine.checkpoints.edm import edm_config_of_file
from engine.weights.reading import read_tensor

# The same in CompVis' and Stability's configurations of every family.
_BETAS = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
FLOW_PREDICTION = "flow_prediction"
_MOST_SHIFT = 100
_FIRST_LAYERS = (f"{UNET}input_blocks.0.0.weight", "input_blocks.0.0.weight", "conv_in.weight")
# An LDM configuration, and the notes of other programs.
_SIDE_FILES = dict(
    zip(
        SIDE_SETTINGS,
        (r"""(?m)^\s*parameterization:\s*["']?(v|eps)""", r""""prediction_type"\s*:\s*"(v|eps)"""),
        strict=True,
    )
)


def scheduler_config(file: Path, family: Family) -> dict[str, Any]:
    """The configuration that diffusers' schedulers take for a checkpoint.

    Raises:
        ModelProblem: the file can't be read.
    """
    if family.flow_shift:
        return flow_config(family)
    header = read_whole_header(file)
    marked, zero_snr = prediction_of(header.tensors, header.metadata)
    if marked in EDM_PREDICTIONS:
        return edm_config_of_file(file, header.tensors, marked)
    prediction = _prediction_in_side_file(file) or marked
    if not prediction:
        first = first_shape(header.tensors, *_FIRST_LAYERS)
        in_channels = first[1] if len(first) > 1 else 0
        prediction = family.usual_prediction(VARIANTS.get(in_channels, "text"))
        telltale = family.telltale
        shown = None
        if prediction != "epsilon" and telltale is not None:
            names = (telltale.tensor, telltale.tensor.removeprefix(UNET))
            shown = next((header.tensors[name] for name in names if name in header.tensors), None)
        if shown is not None and telltale is not None:
            spread = float(read_tensor(file, shown).float().std(correction=0))
            if spread <= telltale.least_v:
                prediction = "epsilon"
    # With zero terminal SNR there is nothing to predict at the last timestep but v.
    return {
        **_BETAS,
        "prediction_type": prediction,
        "rescale_betas_zero_snr": zero_snr and prediction == "v_prediction",
    }


def set_prediction(config: Mapping[str, Any], prediction: Prediction | None) -> Mapping[str, Any]:
    """The configuration of a checkpoint that predicts this; None: as its files say."""
    if prediction is None:
        return config
    named = "epsilon" if prediction == "epsilon" else "v_prediction"
    return {**config, "prediction_type": named, "rescale_betas_zero_snr": prediction == "v_zero_snr"}


def flow_config(family: Family, table: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """The same of a family of rectified flow, whose schedulers don't name what is predicted.

    Args:
        table: A folder's scheduler_config.json.
    Raises:
        ModelProblem: it says a shift that is none.
    """
    shift = table.get("shift", family.flow_shift)
    if isinstance(shift, bool) or not isinstance(shift, (int, float)) or not 0 < shift <= _MOST_SHIFT:
        raise ModelProblem(
            f"scheduler/scheduler_config.json says “shift” is {printable(repr(shift)[:80], 60)}, which is none.",
            f"Use {family.flow_shift:g}, as the models were published.",
        )
    return {"prediction_type": FLOW_PREDICTION, "num_train_timesteps": _BETAS["num_train_timesteps"], "shift": shift}


def _prediction_in_side_file(file: Path) -> str:
    """The prediction type in a file beside the checkpoint; empty where there is none."""
    for suffix, pattern in _SIDE_FILES.items():
        side_file = file.with_suffix(suffix)
        try:
            if not side_file.is_file() or side_file.stat().st_size > MAX_CONFIG_BYTES:
                continue
            found = re.search(pattern, side_file.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if found:
            return "v_prediction" if found[1] == "v" else "epsilon"
    return ""
