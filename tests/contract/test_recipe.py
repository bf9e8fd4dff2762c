"""Recipe and draft: strict, frozen, equal text for equal recipes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from contract.recipe import MAX_SEED, ModelRef, Recipe, RecipeDraft

BASE: dict[str, Any] = {
    "prompt": "a red barn",
    "model": {"name": "starter", "family": "sd1"},
    "sampler": "euler",
    "schedule": "karras",
    "steps": 20,
    "guidance": 7.0,
    "width": 512,
    "height": 512,
    "seed": 1,
}

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=50)
recipes = st.builds(
    lambda **fields: Recipe.model_validate_json(json.dumps(BASE | fields)),
    prompt=text,
    negative_prompt=text,
    steps=st.integers(1, 150),
    guidance=st.floats(0, 30),
    width=st.integers(8, 256).map(lambda n: n * 8),
    seed=st.integers(0, MAX_SEED),
    count=st.integers(1, 16),
    clip_skip=st.integers(1, 4),
    extras=st.dictionaries(text, st.integers() | text | st.lists(st.booleans()), max_size=2),
)


@settings(max_examples=150, deadline=None)
@given(recipes)
def test_a_recipe_survives_json_and_is_a_valid_draft(recipe: Recipe) -> None:
    again = Recipe.model_validate_json(recipe.canonical_json())
    assert again == recipe and again.identity == recipe.identity
    draft = RecipeDraft.model_validate_json(recipe.canonical_json())
    assert (draft.seed, draft.prompt, draft.model) == (recipe.seed, recipe.prompt, recipe.model)


def test_defaults_are_left_out_and_order_does_not_matter() -> None:
    plain = Recipe.model_validate_json(json.dumps(BASE))
    full = Recipe.model_validate_json(json.dumps(dict(reversed(BASE.items())) | {"count": 1, "loras": [], "schema": 2}))
    assert plain.canonical_json() == full.canonical_json()
    assert "count" not in plain.canonical_json() and plain.identity == full.identity


def test_pictures_of_a_job_use_the_seeds_that_follow_and_wrap() -> None:
    recipe = Recipe.model_validate_json(json.dumps(BASE | {"seed": MAX_SEED, "count": 3}))
    assert [recipe.for_image(n).seed for n in range(3)] == [MAX_SEED, 0, 1]
    assert recipe.for_image(2).count == 1


def test_only_the_prompt_is_required_of_a_draft() -> None:
    assert RecipeDraft.model_validate_json('{"prompt": ""}').steps is None
    with pytest.raises(ValidationError):
        RecipeDraft.model_validate_json("{}")


@pytest.mark.parametrize(("sent", "seed"), [("5", 5), ("18446744073709551615", MAX_SEED), (7, 7), (None, None)])
def test_seeds_may_travel_as_decimal_text(sent: object, seed: int | None) -> None:
    assert RecipeDraft.model_validate_json(json.dumps({"prompt": "", "seed": sent})).seed == seed


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": 0},
        {"steps": -1},
        {"steps": 10**9},
        {"steps": "20"},
        {"steps": 2.5},
        {"steps": True},
        {"steps": None},
        {"guidance": -5},
        {"guidance": 1e30},
        {"guidance": "7"},
        {"count": 0},
        {"count": 10_000},
        {"clip_skip": -3},
        {"clip_skip": 99},
        {"width": 500},
        {"width": 0},
        {"width": 4096},
        {"height": -8},
        {"seed": -1},
        {"seed": 2**64},
        {"seed": "abc"},
        {"seed": "1" * 30},
        {"seed": 1.5},
        {"prompt": []},
        {"prompt": "x" * 200_001},
        {"sampler": ""},
        {"unknown": 1},
        {"schema": 3},
        {"init_image": {"image": {"sha256": "x"}}},
        {"init_image": {"image": {"sha256": "0" * 64}, "strength": 2}},
        {"loras": [{"ref": {}}]},
    ],
)
def test_pa_values_out_of_range_or_of_the_wrong_type_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate_json(json.dumps(BASE | fields))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_numbers_that_are_not_finite_are_refused(number: str) -> None:
    body = json.dumps(BASE).replace("7.0", number)
    with pytest.raises(ValidationError):
        Recipe.model_validate_json(body)


def test_half_a_character_is_refused() -> None:
    with pytest.raises(ValidationError, match="surrogate|unicode"):
        RecipeDraft(prompt="a \ud800 b")


def test_nothing_can_be_changed() -> None:
    recipe = Recipe.model_validate_json(json.dumps(BASE))
    with pytest.raises(ValidationError):
        recipe.steps = 5  # type: ignore[misc]
    with pytest.raises(ValidationError):
        ModelRef(name="x", family="y").name = "z"  # type: ignore[misc]


SHA = "0" * 64
PICTURE = {"sha256": SHA}
OLD_IDENTITY = "aeea555ea8fcaa015b803df4d87a9037384af55e8efef2e5518451f40b913c1a"


def recipe(**fields: object) -> Recipe:
    return Recipe.model_validate_json(json.dumps(BASE | fields))


def test_parts_that_are_left_out_change_no_identity() -> None:
    assert recipe().identity == OLD_IDENTITY
    assert recipe(init_image=None, mask=None, controls=[], ip_adapters=[], hires=None).identity == OLD_IDENTITY
    assert recipe(loras=[], hypernetworks=[], embeddings=[], vae=None).identity == OLD_IDENTITY


def test_a_recipe_of_all_parts_survives_json_and_is_a_valid_draft() -> None:
    model = {"kind": "controlnet", "name": "canny", "family": "sd1"}
    full = recipe(
        init_image={"image": PICTURE, "strength": 0.4, "resize": "fill", "depth": {"sha256": "1" * 64}},
        mask={"image": {"sha256": "2" * 64}, "area": "masked", "soft": True},
        controls=[{"model": model, "image": {"sha256": "3" * 64}, "start": 0.1, "end": 0.9}],
        ip_adapters=[{"model": model | {"kind": "ip_adapter", "name": "ip"}, "image": {"sha256": "4" * 64}}],
    )
    again = Recipe.model_validate_json(full.canonical_json())
    draft = RecipeDraft.model_validate_json(full.canonical_json())
    assert again == full and again.identity == full.identity
    assert (draft.init_image, draft.mask, draft.controls[0].model) == (
        full.init_image,
        full.mask,
        full.controls[0].model,
    )
    assert [image.sha256[0] for image in full.images] == ["0", "1", "2", "3", "4"]
    assert [ref.name for ref in full.models] == ["starter", "canny", "ip"]


def ref(kind: str, name: str) -> dict[str, str]:
    return {"kind": kind, "name": name, "family": "sd1"}


def test_what_acts_on_weights_and_words_survives_json_and_is_a_valid_draft() -> None:
    full = recipe(
        loras=[
            {"model": ref("lora", "ink")},
            {"model": ref("lora", "oil"), "weight": -0.5, "text_weight": 0.0, "blocks": [0.5] * 17},
        ],
        hypernetworks=[{"model": ref("hypernetwork", "bend"), "weight": 0.3}],
        embeddings=[ref("embedding", "style")],
        vae=ref("vae", "soft"),
    )
    again = Recipe.model_validate_json(full.canonical_json())
    draft = RecipeDraft.model_validate_json(full.canonical_json())
    assert again == full and again.identity == full.identity != OLD_IDENTITY
    assert [lora.model for lora in draft.loras] == [lora.model for lora in full.loras]
    assert (draft.loras[1].text_weight, draft.loras[1].blocks, draft.loras[0].text_weight) == (0.0, (0.5,) * 17, None)
    assert (draft.hypernetworks[0].weight, draft.embeddings, draft.vae) == (0.3, full.embeddings, full.vae)
    assert [(one.kind, one.name) for one in full.models] == [
        ("checkpoint", "starter"),
        ("vae", "soft"),
        ("lora", "ink"),
        ("lora", "oil"),
        ("hypernetwork", "bend"),
        ("embedding", "style"),
    ]
    assert (
        '"weight":1.0' not in full.canonical_json()
        and "blocks" not in recipe(loras=[{"model": ref("lora", "ink"), "blocks": []}]).canonical_json()
    )


def test_a_draft_names_its_loras() -> None:
    draft = RecipeDraft.model_validate_json(
        json.dumps(
            {
                "prompt": "",
                "loras": [{"model": "ink", "weight": 0.8}],
                "hypernetworks": [{"model": "bend"}],
                "vae": "soft",
            }
        )
    )
    assert (draft.loras[0].model, draft.loras[0].weight, draft.hypernetworks[0].model) == ("ink", 0.8, "bend")
    with pytest.raises(ValidationError):
        recipe(loras=[{"model": "ink"}])


def test_the_upscaler_of_a_hires_pass_is_a_name_or_a_model() -> None:
    esrgan = {"kind": "upscaler", "name": "esrgan", "family": "esrgan"}
    assert recipe(hires={}).models == recipe().models
    assert [ref.name for ref in recipe(hires={"upscaler": esrgan}).models] == ["starter", "esrgan"]


def test_a_draft_names_its_models_and_its_parent() -> None:
    draft = RecipeDraft.model_validate_json(
        json.dumps({"prompt": "", "parent": "0" * 22, "controls": [{"model": "canny", "image": PICTURE}]})
    )
    assert draft.controls[0].model == "canny" and draft.parent == "0" * 22
    with pytest.raises(ValidationError):
        recipe(parent="0" * 22)


@pytest.mark.parametrize(
    "fields",
    [
        {"mask": {"image": PICTURE}},
        {"init_image": {"image": PICTURE, "outpaint": {}}},
        {"init_image": {"image": PICTURE, "outpaint": {"left": 4}}},
        {"init_image": {"image": PICTURE, "resize": "bend"}},
        {"init_image": {"image": PICTURE}, "mask": {"image": PICTURE}, "hires": {}},
        {"hires": {"scale": 1.0}},
        {"init_image": {"image": PICTURE, "outpaint": {"up": 8}}, "hires": {}},
        {"hires": {"scale": 16}},
        {"init_image": {"image": PICTURE, "outpaint": {"up": 8}}, "mask": {"image": PICTURE, "area": "masked"}},
        {"controls": [{"model": "canny", "image": PICTURE, "start": 0.5, "end": 0.5}]},
        {"controls": [{"model": "canny", "image": PICTURE}] * 9},
        {"loras": [{"model": "ink"}] * 33},
        {"loras": [{"model": "ink", "weight": 10.5}]},
        {"loras": [{"model": "ink", "blocks": [1.0] * 13}]},
        {"loras": [{"model": "ink", "blocks": [1.0] * 11 + [11.0]}]},
        {"loras": [{"name": "ink"}]},
        {"hypernetworks": [{"model": "bend", "weight": -11}]},
        {"vae": ""},
        {"noise": {"walk_from": 0.0, "variation_strength": 1.0}},
        {"count": 4, "noise": {"walk_from": 0.0}},
        {"count": 4, "noise": {"walk_from": 1.5}},
        {"count": 4, "noise": {"source": "comfyui", "walk_from": 0.5}},
    ],
)
def test_parts_that_do_not_go_together_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RecipeDraft.model_validate_json(json.dumps({"prompt": ""} | fields))
