"""From a draft to a recipe: gaps filled, names found, the rest refused in one sentence."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.samplers import SAMPLERS, SCHEDULES
from contract.errors import InvalidRecipe, ModelProblem
from contract.parts import NoiseSettings, SamplerSettings
from contract.recipe import ModelRef, RecipeDraft
from studio.library.model_list import ModelList
from studio.resolve.draft import Resolved, resolve
from studio.resolve.model_finder import Finder
from studio.resolve.sampler_choice import check_settings, settle_noise
from studio.resolve.vocabulary import unknown_words
from tests.studio.conftest import draft
from tests.support.model_folders import make_model

PIXELS = 2048 * 2048


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelList:
    root = tmp_path_factory.mktemp("models")
    make_model(root, "starter", words=("airplane", "balloon", "hill", "red", "sailboat", "ink"))
    make_model(root, "sub/zero", title="Zero", zero_snr=True)
    broken = make_model(root, "broken", title="Broken")
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"\x80\x02pickle")
    return ModelList((root,))


def resolved(models: ModelList, max_pixels: int = PIXELS, **fields: object) -> Resolved:
    return resolve(draft(**fields), Finder(models), max_pixels=max_pixels)


def test_gaps_are_filled_from_the_model(models: ModelList) -> None:
    recipe = resolved(models, model="starter").recipe
    assert (recipe.steps, recipe.width, recipe.height, recipe.guidance) == (4, 64, 64, 7.0)
    assert (recipe.sampler, recipe.schedule, recipe.model.name) == ("euler_a", "uniform", "starter")


def test_seeds_are_drawn_and_a_given_one_is_kept(models: ModelList) -> None:
    seeds = {resolved(models).recipe.seed for _ in range(20)}
    assert len(seeds) > 15 and max(seeds) < 2**32
    assert resolved(models, seed=0).recipe.seed == 0


@pytest.mark.parametrize(
    ("sampler", "schedule", "expected"),
    [
        ("Euler a", None, ("euler_a", "uniform")),
        ("k_euler", "Karras", ("euler", "karras")),
        ("DPM++ 2M Karras", None, ("dpmpp_2m", "karras")),
        ("DPM++ 2M SDE Exponential", None, ("dpmpp_2m_sde", "exponential")),
        ("DPM++ 2M", None, ("dpmpp_2m", "karras")),
        ("ddim", "SGM Uniform", ("ddim", "sgm_uniform")),
        ("Euler Beta", "Simple", ("euler", "simple")),
        ("LCM", "automatic", ("lcm", "sgm_uniform")),
    ],
)
def test_samplers_are_found_by_every_name_in_use(
    models: ModelList, sampler: str, schedule: str | None, expected: tuple[str, str]
) -> None:
    recipe = resolved(models, model="starter", sampler=sampler, schedule=schedule).recipe
    assert (recipe.sampler, recipe.schedule) == expected


@pytest.mark.parametrize(
    ("fields", "code", "message", "hint"),
    [
        (
            {"sampler": "DDIM", "schedule": "Karras"},
            "invalid_schedule",
            "DDIM does not go with Karras.",
            "Use Automatic, Uniform or SGM Uniform.",
        ),
        (
            {"sampler": "Eular a"},
            "invalid_sampler",
            "Sampler is “Eular a”, which is not known.",
            "Near: Euler a, Euler, Euler a CFG++.",
        ),
        ({"schedule": "Karas"}, "invalid_schedule", "Schedule is “Karas”, which is not known.", "Near: Karras."),
        ({"model": "startr"}, "invalid_model", "Model “startr” is not here.", "Near: Starter."),
        (
            {"model": "sub/zero", "schedule": "karras"},
            "invalid_schedule",
            "Zero does not go with Karras.",
            "Use Automatic, Uniform, SGM Uniform, Simple, Turbo or Beta (ComfyUI).",
        ),
        (
            {"width": 2048, "height": 1024, "max_pixels": 1024 * 1024},
            "invalid_width",
            "2048 × 1024 is more than this studio makes (1.0 megapixels).",
            "The largest of this shape is 1448 × 720.",
        ),
        (
            {"refiner": {"model": ModelRef(name="x", family="sdxl")}},
            "invalid_refiner_model",
            "Model “x” is not here.",
            "Choose one of the models that are there.",
        ),
    ],
)
def test_what_can_not_be_done_is_said_in_one_sentence(
    models: ModelList, fields: dict[str, object], code: str, message: str, hint: str
) -> None:
    with pytest.raises(InvalidRecipe) as refused:
        resolved(models, **fields)  # type: ignore[arg-type]
    assert (refused.value.code, refused.value.message, refused.value.hint) == (code, message, hint)


def test_a_damaged_model_gives_its_own_reason(models: ModelList) -> None:
    with pytest.raises(ModelProblem, match="is a PyTorch pickle"):
        resolved(models, model="broken")


def test_a_model_is_found_by_its_weights_before_its_name(models: ModelList) -> None:
    hashes = {"starter": "a" * 64, "sub/zero": "b" * 64}
    known = lambda entry: hashes.get(entry.ref.name)  # noqa: E731
    having = lambda sha256: next((e for e in models.all() if known(e) == sha256), None)  # noqa: E731
    ref = ModelRef(name="starter", family="sd1", sha256="b" * 64)
    found = resolve(RecipeDraft(prompt="x", model=ref), Finder(models, known, having), max_pixels=PIXELS)
    assert found.recipe.model.name == "sub/zero" and not found.notices
    other = ModelRef(name="starter", family="sd1", sha256="c" * 64)
    found = resolve(RecipeDraft(prompt="x", model=other), Finder(models, known, having), max_pixels=PIXELS)
    assert found.recipe.model.name == "starter" and found.notices[0][0] == "other_model"


def test_no_model_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match="There is no model that can be used"):
        resolved(ModelList((tmp_path,)))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(SAMPLERS)), st.sampled_from(sorted(SCHEDULES)))
def test_every_recipe_is_a_draft_that_resolves_to_itself(models: ModelList, sampler: str, schedule: str) -> None:
    if schedule not in SAMPLERS[sampler].schedules:
        return
    recipe = resolved(models, model="starter", sampler=sampler, schedule=schedule).recipe
    again = resolve(RecipeDraft.model_validate_json(recipe.canonical_json()), Finder(models), max_pixels=PIXELS).recipe
    assert again == recipe and recipe.schedule != "automatic"


def test_unknown_words_are_named_with_what_is_near(models: ModelList) -> None:
    entry = models.get("starter")
    assert unknown_words("The red hills, 12 sailboats and an airplane (in:1.2) <x:y>!", entry) == ()
    assert unknown_words("red hills, embedding:bad_hand-v2.pt", entry) == ()  # which has a notice of its own
    assert unknown_words("a zeppelin and a baloon", entry) == (
        ("unknown_word", "Starter does not know “zeppelin”."),
        ("unknown_word", "Starter does not know “baloon”. Near: balloon."),
    )
    assert len(unknown_words("aaa bbb ccc ddd eee", entry)) == 3
    assert unknown_words("anything", models.get("sub/zero")) == ()
    assert len(unknown_words("wörd " * 40_000, entry)) == 1
    assert unknown_words("red Ghibli-Ink, easyneg", entry, ("ghibli-ink", "easyneg")) == ()


@pytest.mark.parametrize(
    ("sampler", "schedule", "settings", "message"),
    [
        ("euler", "karras", {"eta": 0.5}, "Eta changes nothing with Euler."),
        ("euler_a", "karras", {"s_churn": 2.0}, "Sigma churn changes nothing with Euler a."),
        ("euler", "simple", {"sigma_min": 0.1}, "Smallest sigma changes nothing with Simple."),
        ("euler", "align_your_steps", {"sigma_max": 9.0}, "Largest sigma changes nothing with Align Your Steps."),
        ("euler", "exponential", {"rho": 5.0}, "Rho changes nothing with Exponential."),
    ],
)
def test_settings_that_change_nothing_are_refused_by_name(
    sampler: str, schedule: str, settings: dict[str, float], message: str
) -> None:
    made = SamplerSettings.model_validate(settings)
    with pytest.raises(InvalidRecipe, match=message) as found:
        check_settings(made, [(SAMPLERS[sampler], schedule)])
    assert found.value.field == f"sampling.{next(iter(settings))}" and "Leave it out" in found.value.hint


def test_settings_count_for_every_pass_and_none_are_no_settings() -> None:
    eta = SamplerSettings(eta=0.5)
    passes = [(SAMPLERS["euler"], "simple"), (SAMPLERS["euler_a"], "simple")]
    assert check_settings(eta, passes) is eta
    assert check_settings(SamplerSettings(), passes) is None and check_settings(None, passes) is None
    every = SamplerSettings(rho=5.0, sigma_min=0.1, sigma_max=9.0, s_churn=1.0, discard_penultimate=True)
    assert check_settings(every, [(SAMPLERS["euler"], "karras")]) is every


def test_noise_is_settled_when_it_is_asked_for() -> None:
    assert settle_noise(NoiseSettings(), 4) is None and settle_noise(None, 4) is None
    drawn = settle_noise(NoiseSettings(variation_strength=0.2), 1)
    assert drawn is not None and drawn.variation_seed is not None
    back = settle_noise(NoiseSettings(walk_from=0.2), 2)
    assert back is not None and back.variation_seed is not None
    last = NoiseSettings(source="comfyui", batch_index=60)
    assert settle_noise(last, 4) is last
    with pytest.raises(InvalidRecipe, match="5 pictures from place 60 on are more than a batch of 64.") as found:
        settle_noise(last, 5)
    assert found.value.field == "noise.batch_index"


def test_a_second_prompt_is_for_families_with_a_second_encoder(models: ModelList, tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match=r"Second prompt: Starter \(SD 1.x\) has one text encoder") as caught:
        resolved(models, model="starter", prompt_2="oil")
    assert (caught.value.field, caught.value.hint) == ("prompt_2", "Leave “prompt_2” out.")
    with pytest.raises(InvalidRecipe) as caught:
        resolved(models, model="starter", negative_prompt_2="")
    assert caught.value.field == "negative_prompt_2"
    folder = make_model(tmp_path, "large")
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    (folder / "unet" / "config.json").write_text('{"in_channels": 4, "cross_attention_dim": 2048}')
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(folder / part, folder / f"{part}_2")
    recipe = resolved(ModelList((tmp_path,)), prompt_2="oil", negative_prompt_2="").recipe
    assert (recipe.model.family, recipe.prompt_2, recipe.negative_prompt_2) == ("sdxl", "oil", "")
