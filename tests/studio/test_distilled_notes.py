"""Settings far from what a distilled LoRA was made for get one notice; near ones, and other LoRAs, none."""

import pytest

from studio.library.model_list import ModelList
from studio.resolve.distilled_notes import distilled_notes
from studio.resolve.draft import resolve
from studio.resolve.model_finder import Finder
from tests.studio.conftest import draft
from tests.support.model_folders import make_lora, make_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelList:
    root = tmp_path_factory.mktemp("models")
    make_model(root, "starter")
    for name in ("lcm-lora-sdv1-5", "Hyper-SD15-8steps-CFG-lora", "oil"):
        make_lora(root / "loras", name)
    return ModelList((root,))


@pytest.mark.parametrize(
    ("name", "fields", "far"),
    [
        ("lcm-lora-sdv1-5", {"steps": 6, "guidance": 1.5}, ""),
        ("lcm-lora-sdv1-5", {"steps": 12, "guidance": 3.0}, ""),
        ("lcm-lora-sdv1-5", {"steps": 6, "guidance": 7.0}, "guidance 7"),
        ("lcm-lora-sdv1-5", {"steps": 30, "guidance": 7.0}, "guidance 7 and 30 steps"),
        ("lcm-lora-sdv1-5", {"steps": 1, "guidance": 1.0}, "1 step"),
        ("Hyper-SD15-8steps-CFG-lora", {"steps": 8, "guidance": 6.0}, ""),
        ("Hyper-SD15-8steps-CFG-lora", {"steps": 8, "guidance": 1.0}, "guidance 1"),
        ("oil", {"steps": 30, "guidance": 7.0}, ""),
    ],
)
def test_far_settings_are_said_once(models: ModelList, name: str, fields: dict[str, float], far: str) -> None:
    recipe = resolve(draft(f"a barn <lora:{name}:1>", **fields), Finder(models), max_pixels=2048**2).recipe  # type: ignore[arg-type]
    notes = distilled_notes(recipe, models)
    assert len(notes) == bool(far)
    for code, sentence in notes:
        assert code == "distilled_settings" and f"LoRA “{name}” looks made for" in sentence
        assert sentence.endswith(f"Far from it: {far}.")


def test_one_that_hardly_acts_says_nothing(models: ModelList) -> None:
    asked = draft("a barn <lora:lcm-lora-sdv1-5:0.1>", steps=30, guidance=7.0)
    recipe = resolve(asked, Finder(models), max_pixels=2048**2).recipe
    assert distilled_notes(recipe, models) == ()
