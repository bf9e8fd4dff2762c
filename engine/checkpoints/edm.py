"""Checkpoints of EDM (Karras et al. 2022, arXiv 2206.00364): their range of noise and the scale of their latents.

Playground v2.5 and CosXL. A folder says it in its scheduler's configuration; a file in tensors of a few numbers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catalog.families.ldm_checkpoints import EDM_MEAN, EDM_STD, EDM_V_MAX, EDM_V_MIN
from catalog.files.headers import TensorInfo
from catalog.files.plain_text import printable
from contract.errors import ModelProblem
from engine.weights.reading import read_tensor

_LEAST, _MOST = 1e-6, 1e4
_USUAL = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5}  # table 1 of the paper, and diffusers' defaults
_COSXL = {"sigma_min": 0.002, "sigma_max": 120.0, "sigma_data": 1.0}
_SCALE = 0.5  # of Playground's latents after their statistics: they have the deviation of sigma_data


def is_edm(config: Mapping[str, Any]) -> bool:
    """Whether a folder's scheduler_config.json is of one of diffusers' EDM schedulers."""
    return str(config.get("_class_name", "")).startswith("EDM")


def edm_config(table: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder's scheduler_config.json says of the noise.

    Raises:
        ModelProblem: a number in it is none that a model could have.
    """
    ranges = {}
    for name, usual in _USUAL.items():
        value = table.get(name, usual)
        if isinstance(value, bool) or not isinstance(value, int | float) or not _LEAST < value < _MOST:
            raise ModelProblem(
                f"scheduler/scheduler_config.json says “{name}” is {printable(repr(value)[:80], 60)}, which is none.",
                f"Use {usual:g}, as the models were published.",
            )
        ranges[name] = float(value)
    return _config("edm_v" if table.get("prediction_type") == "v_prediction" else "edm", ranges)


def edm_config_of_file(file: Path, tensors: Mapping[str, TensorInfo], prediction: str) -> dict[str, Any]:
    """The same of a file. Raises ModelProblem."""
    if prediction == "edm":
        return _config(prediction, _USUAL)
    ranges = dict(_COSXL)
    for name, tensor in (("sigma_min", EDM_V_MIN), ("sigma_max", EDM_V_MAX)):
        info = tensors.get(tensor)
        if info is not None and info.end > info.begin:
            ranges[name] = float(read_tensor(file, info).float().flatten()[0])
    return _config(prediction, ranges)


def latent_statistics(file: Path, tensors: Mapping[str, TensorInfo], channels: int) -> dict[str, Any]:
    """What a file says of its latents, as fields of the VAE's configuration; empty of one that says nothing.

    Raises:
        ModelProblem: the statistics are not those of so many channels.
    """
    if EDM_MEAN not in tensors or EDM_STD not in tensors:
        return {}
    mean, std = (read_tensor(file, tensors[name]).float().flatten().tolist() for name in (EDM_MEAN, EDM_STD))
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise ModelProblem(f"{file.name} has statistics of latents that are none.", "Download it again.")
    return {"latents_mean": mean, "latents_std": std, "scaling_factor": _SCALE}


def _config(prediction: str, ranges: Mapping[str, float]) -> dict[str, Any]:
    if ranges["sigma_min"] >= ranges["sigma_max"]:
        raise ModelProblem(
            f"The model's noise would range from {ranges['sigma_min']:g} to {ranges['sigma_max']:g}.",
            "Download it again.",
        )
    return {"prediction_type": prediction, "num_train_timesteps": 1000, **ranges}
