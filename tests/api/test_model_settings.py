"""What is remembered about models: a person's own defaults, and what a checkpoint predicts by its owner's word."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.recipe import RecipeDraft
from tests.support.model_folders import make_model
from tests.support.serving import Site, served, until

OWN = {"sampler": "euler", "steps": 9, "guidance": 3.5, "clip_skip": 2, "negative_prompt": "fog", "width": 128}
AT, PREDICTS = "/api/v1/models/art/ink/defaults", "/api/v1/models/art/ink/prediction"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("remembered")
    make_model(folder / "models", "art/ink")
    make_model(folder / "models", "doomed")
    with served(folder) as running:
        until(lambda: len([one for one in running.studio.models() if one.ref.kind == "checkpoint"]) == 3)
        yield running


def test_defaults_are_a_persons_own_and_can_be_forgotten(site: Site) -> None:
    me, you = site.visitor(), site.visitor()
    assert me.get(AT).json() == {"left_out": []}
    assert me.put(AT, json=OWN).status_code == 200
    assert me.get(AT).json() == {"defaults": OWN, "left_out": []}
    assert me.get("/api/v1/model-defaults").json() == {"models": {"art/ink": OWN}}
    assert you.get(AT).json() == {"left_out": []} and you.get("/api/v1/model-defaults").json() == {"models": {}}
    me.put(AT, json={"steps": 5, "is_distilled": False, "trigger_words": ["ink wash"]})
    kept = {"steps": 5, "is_distilled": False, "trigger_words": ["ink wash"]}
    assert me.get(AT).json()["defaults"] == kept, "all in place of those before"
    assert me.delete(AT).status_code == 204 and me.get(AT).json() == {"left_out": []}
    me.put(AT, json=OWN)
    assert me.put(AT, json={}).status_code == 200 and me.get("/api/v1/model-defaults").json() == {"models": {}}


def test_a_draft_that_names_no_value_takes_the_models_own(site: Site) -> None:
    """Nobody's button changes what a program gets."""
    someone = site.visitor()
    someone.put(AT, json=OWN)
    job = someone.paint(model="art/ink")
    recipe = site.studio.job(job, _owner(site, someone)).job.task.recipe  # type: ignore[union-attr]
    assert (recipe.steps, recipe.negative_prompt, recipe.clip_skip) == (4, "", 1)


def _owner(site: Site, visitor: Any) -> str:
    (owner,) = {job["owner"] for job in site.studio._database.rows("SELECT owner FROM jobs ORDER BY id DESC LIMIT 1")}
    return str(owner)


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"sampler": "eulr"}, "sampler", "not known"),
        ({"sampler": "lcm", "schedule": "karras"}, "schedule", "does not go with"),
        ({"vae": "gone"}, "vae", "is not here"),
        ({"steps": 0}, "steps", "Steps is 0"),
        ({"width": 65}, "width", "Width is 65"),
        ({"seed": 1}, "", "is not a field"),
        ({"negative_prompt": "x" * 10_001}, "negative_prompt", "Negative prompt"),
        ({"trigger_words": ["x"] * 25}, "trigger_words", "25 entries"),
    ],
)
def test_what_can_not_be_used_is_refused_at_its_field(
    site: Site, body: dict[str, object], field: str, words: str
) -> None:
    someone = site.visitor()
    answer = someone.put(AT, json=body)
    assert answer.status_code == 422 and words in answer.json()["message"], answer.json()
    assert not field or answer.json()["field"] == field
    assert someone.get(AT).json() == {"left_out": []}


def test_a_model_that_is_gone_has_none_and_one_that_is_back_has_them_again(site: Site) -> None:
    someone, at = site.visitor(), "/api/v1/models/doomed/defaults"
    someone.put(at, json={"steps": 7})
    folder = site.studio.settings.model_dirs[0]
    shutil.move(folder / "doomed", folder.parent / "elsewhere")
    until(lambda: all(one.ref.name != "doomed" for one in site.studio.models(fresh=True)))
    assert someone.get(at).status_code == someone.put(at, json={"steps": 7}).status_code == 404
    assert someone.get("/api/v1/model-defaults").json() == {"models": {}}
    shutil.move(folder.parent / "elsewhere", folder / "doomed")
    until(lambda: any(one.ref.name == "doomed" for one in site.studio.models(fresh=True)))
    assert someone.get(at).json()["defaults"] == {"steps": 7}
    assert someone.delete(at).status_code == 204


def test_a_value_that_is_no_longer_valid_is_left_out_with_a_sentence(site: Site) -> None:
    someone = site.visitor()
    someone.put(AT, json={"sampler": "euler", "schedule": "karras", "steps": 7})
    site.studio._database.write("UPDATE model_defaults SET defaults = replace(defaults, '\"euler\"', '\"of_old\"')")
    found = someone.get(AT).json()
    assert found["defaults"] == {"steps": 7}
    assert found["left_out"] == ["Sampler is “of_old”, which is not known. It is left out."]
    assert someone.get("/api/v1/model-defaults").json() == {"models": {"art/ink": {"steps": 7}}}
    site.studio._database.write("UPDATE model_defaults SET defaults = 'torn'")
    assert "remember it again" in someone.get(AT).json()["left_out"][0]
    someone.delete(AT)


def test_what_a_model_predicts_is_set_for_all_and_stands_in_recipes(site: Site) -> None:
    someone, studio = site.program(), site.studio
    row = someone.get("/api/v1/models/art/ink").json()
    assert (row["prediction"], row["zero_snr"], row["defaults"]["cfg_rescale"]) == (None, False, 0)
    assert row["predictions"] == ["epsilon", "v_prediction", "v_zero_snr"]
    assert someone.put(PREDICTS, json={"prediction": "v_zero_snr"}).status_code == 204
    row = someone.get("/api/v1/models/art/ink").json()
    assert (row["prediction"], row["zero_snr"], row["defaults"]["cfg_rescale"]) == ("v_zero_snr", True, 0.7)

    def recipe_of(model: object, **fields: object) -> Any:
        draft = RecipeDraft.model_validate({"prompt": "sea", "model": model, **fields})
        job = studio.submit(draft, "me")
        return studio.job(job.id, "me").job.task.recipe  # type: ignore[union-attr]

    set_so = recipe_of("art/ink")
    assert set_so.model.prediction == "v_zero_snr" and set_so.schedule == "sgm_uniform"
    # A recipe from before comes back as it was, and this one will after it is forgotten.
    plain = {"kind": "checkpoint", "name": "art/ink", "family": "sd1"}
    assert recipe_of(plain).model.prediction is None and recipe_of(plain, schedule="karras").schedule == "karras"
    assert someone.delete(PREDICTS).status_code == 204
    assert recipe_of("art/ink").model.prediction is None
    again = RecipeDraft.read(set_so.canonical_json())
    assert again.model is not None and recipe_of(again.model).model.prediction == "v_zero_snr"
    assert set_so.identity != recipe_of("art/ink").identity


@pytest.mark.parametrize(("body", "status"), [({"prediction": "edm"}, 422), ({}, 422)])
def test_only_what_a_schedule_can_be_trained_for_is_set(site: Site, body: object, status: int) -> None:
    assert site.program().put(PREDICTS, json=body).status_code == status


def test_a_model_of_rectified_flow_has_no_choice(tmp_path: Path) -> None:
    from catalog.models import ModelEntry
    from contract.recipe import ModelRef

    flow = ModelEntry(ModelRef(name="sd35", family="sd3"), Path("sd35"), "SD 3.5")
    assert not flow.has_prediction_choice
    assert not ModelEntry(ModelRef(kind="vae", name="v", family="sd1"), Path("v"), "V").has_prediction_choice
