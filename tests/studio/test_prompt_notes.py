"""What stands in a prompt and never acts is said: once, and only where it is so."""

import pytest

from contract.errors import InvalidRecipe
from contract.recipe import Recipe
from studio.resolve.prompt_notes import prompt_notes

MODEL = {"kind": "checkpoint", "name": "starter", "family": "sd1"}
HALF = {"init_image": {"image": {"sha256": "0" * 64}, "strength": 0.5}}


def said(**changes: object) -> list[str]:
    recipe = Recipe.model_validate(
        {
            "prompt": "a barn",
            "model": MODEL,
            "sampler": "euler",
            "schedule": "uniform",
            "steps": 20,
            "guidance": 7.0,
            "width": 64,
            "height": 64,
            "seed": 1,
            **changes,
        }
    )
    return [sentence for _, sentence in prompt_notes(recipe)]


@pytest.mark.parametrize(
    ("prompt", "more", "words"),
    [
        ("[a:b:0.5]", {}, []),
        ("[a:b:19]", {}, []),
        ("[a|b]", {}, []),
        ("[b:3]", HALF, []),
        ("[a:b:0.45]", HALF, []),
        ("[a:b:20]", {}, ["behind all its 20 steps"]),
        ("[x:1.2]", {}, ["no hires pass follows"]),
        ("[b:c:1.5]", {}, ["never comes"]),
        ("[x:1.2]", {"hires": {}}, []),
        ("[a:b:0.5]", HALF, ["behind 10 steps, and from the start picture only 10 are made"]),
        ("[a:b:1e999]", {}, ["never comes"]),
        ("sea AND [a:b:1.5] :0.5", {}, ["never comes"]),
        ("a barn AND a red cow :30", {}, ["gives “a red cow” a weight of 30"]),
    ],
)
def test_a_change_that_never_comes_is_said(prompt: str, more: dict[str, object], words: list[str]) -> None:
    found = said(prompt=prompt, **more)
    assert len(found) == len(words) and all(one in sentence for one, sentence in zip(words, found, strict=True))


def test_a_model_that_edits_makes_all_steps() -> None:
    recipe = Recipe.model_validate(
        {
            "prompt": "[a:b:0.5]",
            "model": MODEL,
            "sampler": "euler",
            "schedule": "uniform",
            "steps": 20,
            "guidance": 7.0,
            "width": 64,
            "height": 64,
            "seed": 1,
            **HALF,
        }
    )
    assert prompt_notes(recipe) and not prompt_notes(recipe, takes_strength=False)


def test_what_only_the_hires_pass_reads_is_looked_at_as_it_reads_it() -> None:
    assert said(prompt="[a:(b:20):1.9]") == [
        "The prompt changes only behind all its 20 steps, and no hires pass follows: that change never comes."
    ]
    for hires in ({"steps": 20}, {"steps": 20, "prompt": "[a:(b:20):1.9]"}):
        assert ["weight of 20" in sentence for sentence in said(prompt="[a:(b:20):1.9]", hires=hires)] == [True]
    with pytest.raises(InvalidRecipe) as refused:
        said(prompt=f"[a:(b:{'9' * 400}):1.5]", hires={})
    assert refused.value.field == "prompt"
