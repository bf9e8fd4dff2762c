"""What does not go with a model of EDM is refused by name, before anything is queued."""

from pathlib import Path

import pytest

from catalog.families import FAMILIES
from catalog.models import ModelEntry
from contract.errors import InvalidRecipe
from contract.recipe import ModelRef
from studio.library.model_list import ModelList
from tests.studio.conftest import FixedModels, resolved

SDXL = FAMILIES["sdxl"]


def entry_of(name: str, prediction: str) -> ModelEntry:
    _, defaults = SDXL.usual_for("text", prediction)
    ref = ModelRef(name=name, family="sdxl", fingerprint=name)
    return ModelEntry(ref, Path(name), name.capitalize(), defaults=defaults, prediction=prediction)


@pytest.fixture(scope="module")
def models() -> ModelList:
    entries = [entry_of("playground", "edm"), entry_of("cosxl", "edm_v"), entry_of("plain", "")]
    entries.append(ModelEntry(ModelRef(kind="vae", name="fix", family="sd"), Path("fix"), "Fix"))
    return FixedModels(entries)


def test_a_draft_that_says_nothing_gets_what_the_makers_advise(models: ModelList) -> None:
    recipe = resolved(models, model="playground")
    assert (recipe.sampler, recipe.schedule, recipe.guidance) == ("dpmpp_2m", "karras", 3.0)
    assert resolved(models, model="playground", sampler="euler").schedule == "karras"
    assert resolved(models, model="cosxl", vae="fix").vae is not None, "its latents are SDXL's"


@pytest.mark.parametrize(
    ("model", "fields", "field", "words"),
    [
        ("playground", {"sampler": "ddim"}, "sampler", "DDIM does not go with Playground, a model of EDM"),
        ("cosxl", {"sampler": "lcm"}, "sampler", "a model of EDM"),
        ("playground", {"sampler": "euler", "schedule": "simple"}, "schedule", "Playground does not go with Simple"),
        ("playground", {"sampler": "euler", "schedule": "align_your_steps"}, "schedule", "does not go with"),
        ("playground", {"vae": "fix"}, "vae", "another VAE does not go with it"),
        ("playground", {"refiner": {"model": "plain"}}, "refiner.model", "only one is a model of EDM"),
        ("plain", {"refiner": {"model": "playground"}}, "refiner.model", "only one is a model of EDM"),
        ("playground", {"refiner": {"model": "cosxl"}}, "refiner.model", "scaled"),
        (
            "playground",
            {"guidance_methods": ({"id": "epsilon_scaling", "values": {"scale": 1.01}},)},
            "guidance_methods.0.id",
            "a model of EDM",
        ),
        (
            {"kind": "checkpoint", "name": "cosxl", "family": "sdxl", "prediction": "epsilon"},
            {},
            "model",
            "does not leave open what it predicts",
        ),
    ],
)
def test_what_does_not_go_with_it_is_refused(
    models: ModelList, model: object, fields: dict[str, object], field: str, words: str
) -> None:
    with pytest.raises(InvalidRecipe, match=words) as caught:
        resolved(models, model=model, **fields)
    assert caught.value.field.startswith(field.removesuffix(".id"))
