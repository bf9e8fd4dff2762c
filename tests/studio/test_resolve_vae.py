"""A checkpoint without a VAE inside gets the one that lies beside it, or is refused by name."""

from pathlib import Path

import pytest

from contract.errors import ModelProblem
from studio.resolve.draft import resolve
from studio.resolve.model_finder import Finder
from tests.studio.conftest import draft
from tests.studio.test_resolve_loras import Shelf, entry


def test_the_vae_beside_is_taken() -> None:
    checkpoint = entry("checkpoint", "dream.safetensors", has_vae=False)
    models = Shelf(checkpoint, entry("vae", "other.vae.safetensors"), entry("vae", "dream.vae.safetensors"))
    recipe = resolve(draft("a barn", model="dream.safetensors"), Finder(models), max_pixels=2048**2).recipe
    assert recipe.vae and recipe.vae.name == "dream.vae.safetensors"
    chosen = resolve(
        draft("a barn", model="dream.safetensors", vae="other.vae.safetensors"), Finder(models), max_pixels=2048**2
    )
    assert chosen.recipe.vae and chosen.recipe.vae.name == "other.vae.safetensors"


def test_without_one_it_is_refused_by_name() -> None:
    models = Shelf(entry("checkpoint", "dream.safetensors", has_vae=False), entry("vae", "other.vae.safetensors"))
    with pytest.raises(ModelProblem) as caught:
        resolve(draft("a barn", model="dream.safetensors"), Finder(models), max_pixels=2048**2)
    assert caught.value.message == "Dream.safetensors has no VAE inside."


def test_one_that_is_lent_is_the_checkpoints_own_unless_one_lies_beside() -> None:
    alone = entry("checkpoint", "dream.gguf", has_vae=False, borrows_vae=True)
    asked = draft("a barn", model="dream.gguf")
    assert resolve(asked, Finder(Shelf(alone)), max_pixels=2048**2).recipe.vae is None
    beside = Shelf(alone, entry("vae", "dream.vae.safetensors"))
    recipe = resolve(asked, Finder(beside), max_pixels=2048**2).recipe
    assert recipe.vae and recipe.vae.name == "dream.vae.safetensors"


def test_a_checkpoint_with_a_vae_keeps_its_own() -> None:
    models = Shelf(entry("checkpoint", "dream.safetensors"), entry("vae", "dream.vae.safetensors"))
    assert resolve(draft("a barn", model="dream.safetensors"), Finder(models), max_pixels=2048**2).recipe.vae is None
    assert Path("dream.safetensors").with_suffix(".vae.safetensors") == Path("dream.vae.safetensors")
