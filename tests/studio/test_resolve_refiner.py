"""A refiner and size conditioning, as drafts ask for them: found, refused in one sentence, or said to change nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catalog.families import FAMILIES
from catalog.models import ModelEntry
from contract.errors import InvalidRecipe
from contract.recipe import ModelRef
from studio.library.model_list import ModelList
from studio.metadata.recipe_hashes import with_hashes
from studio.resolve.no_effect import without_effect
from tests.studio.conftest import FixedModels, resolved

MODELS = {"base": "sdxl", "other": "sdxl", "refiner": "sdxl_refiner", "old": "sd1", "second": "sd2"}


def entry_of(name: str, family: str, **more: Any) -> ModelEntry:
    ref = ModelRef(name=name, family=family, fingerprint=name)
    return ModelEntry(ref, Path(name), name.capitalize(), defaults=FAMILIES[family].defaults, **more)


@pytest.fixture(scope="module")
def models() -> ModelList:
    entries = [entry_of(name, family) for name, family in MODELS.items()]
    entries.append(entry_of("hole", "sdxl", variant="inpaint"))
    entries.append(entry_of("edit", "sd1", variant="edit"))
    entries.append(replace(entry_of("broken", "sdxl"), problem="It is cut short."))
    return FixedModels(entries)


def test_a_refiner_is_found_and_hashed(models: ModelList) -> None:
    recipe = resolved(models, model="base", refiner={"model": "Refiner"})
    assert recipe.refiner is not None
    assert (recipe.refiner.model.name, recipe.refiner.at) == ("refiner", 0.8)
    assert recipe.models == (recipe.model, recipe.refiner.model)
    hashed = with_hashes(recipe, {"checkpoint/refiner": "a" * 64})
    assert hashed.refiner is not None and hashed.refiner.model.sha256 == "a" * 64


@pytest.mark.parametrize(("first", "second"), [("base", "other"), ("old", "second"), ("hole", "base")])
def test_any_checkpoint_of_the_same_latents_may_refine(models: ModelList, first: str, second: str) -> None:
    recipe = resolved(models, model=first, refiner={"model": second, "at": 0.5})
    assert recipe.refiner is not None and recipe.refiner.model.name == second


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("base", "base", "is the model itself"),
        ("base", "old", "“Old” is for SD 1.x; Base is SDXL, which has other latents."),
        ("base", "hole", "works from a picture or a mask"),
        ("base", "broken", "It is cut short."),
        ("base", "gone", "is not here"),
    ],
)
def test_what_can_not_refine_is_refused(models: ModelList, first: str, second: str, words: str) -> None:
    with pytest.raises(Exception, match=words) as caught:
        resolved(models, model=first, refiner={"model": second})
    assert caught.value.field == "refiner.model"  # type: ignore[attr-defined]


def test_sizes_are_told_only_to_models_that_listen(models: ModelList) -> None:
    told = {"original_width": 512, "aesthetic_score": 7.0}
    for name in ("base", "refiner"):
        recipe = resolved(models, model=name, size_conditioning=told)
        assert recipe.size_conditioning is not None and recipe.size_conditioning.original_width == 512
    with pytest.raises(InvalidRecipe, match="Old .SD 1.x. is not told the size"):
        resolved(models, model="old", size_conditioning=told)


def said(models: ModelList, **fields: Any) -> list[str]:
    recipe = resolved(models, **fields)
    entry = models.find(recipe.model.name)
    assert entry is not None
    found = without_effect(recipe, entry, lambda sha256: None, lambda sha256: (), lambda sha256: None)
    return [sentence for _, sentence in found]


def test_what_changes_nothing_is_said(models: ModelList) -> None:
    scored = {"size_conditioning": {"aesthetic_score": 7.0}}
    assert said(models, model="base", **scored) == ["The aesthetic score changes nothing: Base is not told one."]
    assert not said(models, model="base", refiner={"model": "refiner"}, **scored)
    assert not said(models, model="refiner", **scored)
    (late,) = said(models, model="base", refiner={"model": "refiner", "at": 1.0})
    assert "leaves it nothing to do" in late
