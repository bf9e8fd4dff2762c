"""What does not go with a model of rectified flow and a transformer is refused by name, before anything is queued."""

from pathlib import Path

import pytest

from catalog.families import FAMILIES
from catalog.models import ModelEntry
from contract.errors import InvalidRecipe
from contract.recipe import ModelRef
from studio.resolve.model_finder import require_family
from studio.resolve.sampler_choice import choose_sampler

SD3 = ModelEntry(
    ModelRef(name="sd35", family="sd3"), Path("sd35"), "SD 3.5", defaults=FAMILIES["sd3"].by_detail["SD 3.5 medium"]
)
SD1 = ModelEntry(ModelRef(name="dream", family="sd1"), Path("dream"), "Dream")


def test_a_draft_that_names_no_sampler_gets_the_models_own() -> None:
    sampler, schedule = choose_sampler(None, None, SD3)
    assert (sampler.id, schedule) == ("euler", "uniform")


@pytest.mark.parametrize(
    ("sampler", "schedule"), [("Euler a", "sgm_uniform"), ("DPM++ 2M", "sgm_uniform"), ("lms", "uniform")]
)
def test_samplers_that_know_no_rectified_flow_solve_it_in_their_own_latents(sampler: str, schedule: str) -> None:
    assert choose_sampler(sampler, None, SD3)[1] == schedule


@pytest.mark.parametrize(
    ("sampler", "schedule", "words"),
    [
        ("LCM", None, "LCM does not go with SD 3.5, a model of rectified flow"),
        ("DPM adaptive", "karras", "a model of rectified flow"),
        ("euler", "align_your_steps", "SD 3.5 does not go with Align Your Steps"),
    ],
)
def test_other_samplers_and_tables_are_refused(sampler: str, schedule: str | None, words: str) -> None:
    with pytest.raises(InvalidRecipe, match=words):
        choose_sampler(sampler, schedule, SD3)
    choose_sampler(sampler, schedule, SD1)


def test_vaes_of_other_latents_are_refused() -> None:
    shared = ModelEntry(ModelRef(kind="vae", name="mse", family="sd"), Path("mse"), "mse")
    own = ModelEntry(ModelRef(kind="vae", name="sd3", family="sd3"), Path("sd3"), "sd3")
    require_family(shared, SD1, "vae")
    require_family(own, SD3, "vae")
    with pytest.raises(InvalidRecipe, match="VAE “mse” is for SD and SDXL; SD 3.5 is SD 3"):
        require_family(shared, SD3, "vae")
    with pytest.raises(InvalidRecipe, match="VAE “sd3” is for SD 3; Dream is SD 1.x"):
        require_family(own, SD1, "vae")
