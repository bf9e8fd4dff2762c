"""What the browser is told: everything from contract and catalog, and no list of models."""

import json
from pathlib import Path

import pytest

from catalog.samplers import SAMPLERS
from contract.fields import LABELS
from contract.recipe import GUIDANCE, SIDE, STEPS
from studio.settings import load_settings
from studio.studio import Studio
from tabs.page_config import page_config
from tests.support.fakes import FakeWorker
from tests.support.model_folders import make_model


def config_of(tmp_path: Path) -> dict[str, object]:
    settings = load_settings(["--data", str(tmp_path / "data")], {}, tmp_path)
    return json.loads(json.dumps(page_config(Studio(settings, FakeWorker()))))  # type: ignore[no-any-return]


def test_ranges_labels_and_pairs_are_those_of_the_contract(tmp_path: Path) -> None:
    make_model(tmp_path / "models", words=("sea", "hill"))
    config = config_of(tmp_path)
    assert config["limits"] == {
        **config["limits"],
        "steps": [*STEPS],
        "guidance": [*GUIDANCE],
        "side": [*SIDE],  # type: ignore[dict-item]
        "max_seed": "18446744073709551615",
    }
    assert config["labels"] == {**LABELS, "loops": "Rounds"}
    assert [row["id"] for row in config["samplers"]] == list(SAMPLERS)  # type: ignore[attr-defined]
    model = config["model"]
    assert isinstance(model, dict)
    assert model["name"] == "starter" and model["sizes"] == {"square": [64, 64]}


def test_size_does_not_grow_with_the_number_of_models(tmp_path: Path) -> None:
    make_model(tmp_path / "models")
    few = len(json.dumps(config_of(tmp_path)))
    for number in range(30):
        make_model(tmp_path / "models", f"model-{number}")
    assert len(json.dumps(config_of(tmp_path))) == few


def test_page_without_any_model_is_still_told_everything_else(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert config["model"] is None and config["counts"] == [1, 2, 4, 8]


@pytest.mark.parametrize("field", list(LABELS))
def test_every_field_has_a_hint(tmp_path: Path, field: str) -> None:
    hints = config_of(tmp_path)["hints"]
    assert isinstance(hints, dict) and hints[field].startswith("Use ")


@pytest.mark.parametrize(
    "environment", [{"DARKROOM_PASSWORD": "x", "DARKROOM_LAN": "true"}, {"SPACE_HOST": "a.hf.space"}]
)
def test_visitors_from_elsewhere_are_told_no_path_of_this_machine(tmp_path: Path, environment: dict[str, str]) -> None:
    make_model(tmp_path / "models")
    settings = load_settings(["--data", str(tmp_path / "data")], environment, tmp_path)
    config = page_config(Studio(settings, FakeWorker()))
    assert str(tmp_path) not in json.dumps(config)
