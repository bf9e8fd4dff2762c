"""What a checkpoint that is one file was trained to predict: said beside it, marked in it, or read from it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from catalog.families import FAMILIES
from catalog.models import ModelEntry, describe
from contract.recipe import ModelRef
from contract.tasks import Generate
from contract.work import WorkImage, path_key
from engine.checkpoints.predictions import scheduler_config
from engine.engine import Engine
from tests.support.tiny_files import TELLTALE

Make = Callable[..., Any]
FIRST = "model.diffusion_model.input_blocks.0.0.weight"


def made(file: Path, channels: int = 4, **more: torch.Tensor) -> Path:
    save_file({FIRST: torch.zeros(8, channels, 3, 3), **more}, file)
    return file


def test_without_a_sign_it_predicts_noise(tmp_path: Path) -> None:
    config = scheduler_config(made(tmp_path / "one.safetensors"), FAMILIES["sd1"])
    assert config == {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "epsilon",
        "rescale_betas_zero_snr": False,
    }


def test_metadata_is_believed(tmp_path: Path) -> None:
    file = tmp_path / "one.safetensors"
    save_file({FIRST: torch.zeros(8, 4, 3, 3)}, file, metadata={"modelspec.prediction_type": "v"})
    assert scheduler_config(file, FAMILIES["sd1"])["prediction_type"] == "v_prediction"


@pytest.mark.parametrize(("variant", "expected"), [(4, "v_prediction"), (9, "epsilon"), (5, "epsilon")])
def test_sd2_without_a_sign_predicts_what_is_usual(variant: int, expected: str, tmp_path: Path) -> None:
    file = made(tmp_path / "one.safetensors", variant)
    assert scheduler_config(file, FAMILIES["sd2"])["prediction_type"] == expected


@pytest.mark.parametrize(("marks", "is_zero_snr"), [(("v_pred",), False), (("v_pred", "ztsnr"), True)])
def test_marks_in_the_file_are_believed(marks: tuple[str, ...], is_zero_snr: bool, tmp_path: Path) -> None:
    file = made(tmp_path / "one.safetensors", **{mark: torch.zeros(0) for mark in marks})
    config = scheduler_config(file, FAMILIES["sdxl"])
    assert (config["prediction_type"], config["rescale_betas_zero_snr"]) == ("v_prediction", is_zero_snr)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("one.yaml", 'model:\n  params:\n    parameterization: "v"\n', "v_prediction"),
        ("one.yaml", "model:\n  params:\n    linear_start: 0.00085\n", "epsilon"),
        ("one.json", '{"prediction_type": "v_prediction"}', "v_prediction"),
        ("one.json", "not JSON", "epsilon"),
        ("other.yaml", "parameterization: v", "epsilon"),
    ],
)
def test_a_side_file_says_it(name: str, text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert scheduler_config(made(tmp_path / "one.safetensors"), FAMILIES["sd1"])["prediction_type"] == expected


def test_a_side_file_overrules_the_marks(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("    parameterization: eps\n")
    file = made(tmp_path / "one.safetensors", v_pred=torch.zeros(0))
    assert scheduler_config(file, FAMILIES["sdxl"])["prediction_type"] == "epsilon"


@pytest.mark.parametrize(
    ("family", "channels", "spread", "expected"),
    [
        ("sd2", 4, 0.2, "v_prediction"),
        ("sd2", 4, 0.02, "epsilon"),
        ("sd2", 9, 0.2, "epsilon"),
        ("sd1", 4, 0.2, "epsilon"),
    ],
)
def test_sd2_is_told_by_a_tensor_that_v_prediction_spreads(
    family: str, channels: int, spread: float, expected: str, tmp_path: Path
) -> None:
    bias = torch.tensor([-spread, spread] * 8, dtype=torch.float16)
    file = made(tmp_path / "one.safetensors", channels, **{TELLTALE: bias})
    assert scheduler_config(file, FAMILIES[family])["prediction_type"] == expected


def test_what_was_set_counts_more_than_the_file_says(
    entries: dict[str, ModelEntry], engine: Engine, make_recipe: Make, make_work_item: Make, tmp_path: Path
) -> None:
    """The same weights in a folder that says so itself give the same picture, bit for bit."""
    folder = tmp_path / "says_so"
    shutil.copytree(entries["sd1"].path, folder)
    config = folder / "scheduler" / "scheduler_config.json"
    told = json.loads(config.read_text()) | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    config.write_text(json.dumps(told))
    says_so = describe(folder, "says_so")

    def picture(ref: ModelRef, path: Path) -> bytes:
        recipe = make_recipe("sd1", schedule="sgm_uniform").model_copy(update={"model": ref})
        item = replace(make_work_item(make_recipe("sd1")), task=Generate(recipe=recipe))
        (image,) = [
            event
            for event in engine.generate(replace(item, model_paths={path_key(ref): str(path)}), lambda: False)
            if isinstance(event, WorkImage)
        ]
        return image.pixels.rgb

    plain = entries["sd1"]
    set_so = plain.ref.model_copy(update={"prediction": "v_zero_snr"})
    assert picture(set_so, plain.path) == picture(says_so.ref, says_so.path)
    before = picture(plain.ref, plain.path)
    assert before != picture(set_so, plain.path)
    assert before == picture(plain.ref, plain.path), "nothing of it stays with the weights"
