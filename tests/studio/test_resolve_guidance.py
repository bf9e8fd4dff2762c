"""Methods of guidance in a draft: filled, refused by name, or left out with a notice; and in infotexts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catalog.families import FAMILIES
from catalog.guidance import GUIDANCE_METHODS
from contract.errors import InvalidRecipe
from contract.parts import GuidanceMethod
from contract.recipe import Recipe, RecipeDraft
from contract.tasks import Generate
from studio.jobs.costs import cost
from studio.library.model_list import ModelList
from studio.metadata.guidance_texts import add_hires_guidance, guidance_fields, guidance_pairs
from studio.metadata.infotext import parse_infotext, write
from studio.resolve.draft import Resolved, resolve
from studio.resolve.guidance import resolve_guidance
from studio.resolve.model_finder import Finder
from tests.studio.conftest import draft
from tests.support.model_folders import make_model

RESCALE = (GuidanceMethod(id="cfg_rescale"),)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelList:
    root = tmp_path_factory.mktemp("models")
    make_model(root, "starter", title="Starter")
    make_model(root, "zero", title="Zero", zero_snr=True)
    return ModelList((root,))


def resolved(models: ModelList, **fields: object) -> Resolved:
    return resolve(draft(**fields), Finder(models), max_pixels=2**22, size_of=lambda _: (64, 64))


def methods(**values: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return tuple({"id": name, "values": one} for name, one in values.items())


def test_only_what_is_not_a_default_is_kept_in_the_catalogs_order(models: ModelList) -> None:
    asked = ({"id": "PAG", "values": {"scale": 3.0, "adaptive": 0.002}}, {"id": "SAG"})
    found = resolved(models, guidance_methods=(asked[1], asked[0])).recipe.guidance_methods
    assert found == (GuidanceMethod(id="pag", values={"adaptive": 0.002}), GuidanceMethod(id="sag"))
    other = resolved(models, seed=1, guidance_methods=asked).recipe
    assert other.identity == resolved(models, seed=1, guidance_methods=(asked[1], asked[0])).recipe.identity


def test_a_recipe_without_methods_is_what_it_was(models: ModelList) -> None:
    recipe = resolved(models, seed=1).recipe
    assert "guidance_methods" not in recipe.canonical_json()
    off = tuple(
        {"id": method.id, "values": dict(method.off)}
        for method in GUIDANCE_METHODS.values()
        if "unet" in method.denoisers
    )
    for one in off:
        if not one["values"]:
            continue
        found = resolved(models, seed=1, guidance_methods=(one,))
        label = GUIDANCE_METHODS[one["id"]].label
        assert found.recipe == recipe
        assert found.notices == (("no_effect", f"{label} is off with these values: it changes nothing."),)


def test_zero_snr_models_get_the_rescale_that_people_use(models: ModelList) -> None:
    assert resolved(models, model="zero").recipe.guidance_methods == RESCALE
    assert RESCALE[0].values == {} and GUIDANCE_METHODS["cfg_rescale"].values({}) == {"phi": 0.7}
    assert resolved(models, model="starter").recipe.guidance_methods == ()
    assert resolved(models, model="zero", guidance_methods=()).recipe.guidance_methods == ()
    assert resolved(models, model="zero", guidance=1.0).recipe.guidance_methods == ()
    # What was made without it is made without it again.
    before = resolved(models, model="zero", guidance_methods=()).recipe
    again = resolve(RecipeDraft.read(before.canonical_json()), Finder(models), max_pixels=2**22).recipe
    assert again.guidance_methods == () and again.identity == before.identity


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    (
        {"guidance_methods": methods(mood={})},
        "Guidance method is “mood”, which is not known.",
        "guidance_methods.0.id",
    ),
    (
        {"guidance_methods": ({"id": "pag"}, {"id": "PAG"})},
        "PAG is there twice.",
        "guidance_methods.1.id",
    ),
    (
        {"guidance_methods": methods(pag={"scale": 21.0})},
        "PAG: Scale is 21.",
        "guidance_methods.0.values.scale",
    ),
    (
        {"guidance_methods": methods(pag={"mood": 1.0})},
        "PAG has no value “mood”.",
        "guidance_methods.0.values",
    ),
    (
        {"guidance_methods": methods(freeu={}, detail={"smooth": "rough"})},
        "Detail amount: Course is “rough”.",
        "guidance_methods.1.values.smooth",
    ),
    (
        {"guidance_methods": methods(nag={"tau": "high"})},
        "NAG: Limit (τ) is “high”.",
        "guidance_methods.0.values.tau",
    ),
    (
        {"guidance_methods": methods(guidance_curve={"points": "7, 1"})},
        "Guidance curve: Points is “7, 1”.",
        "guidance_methods.0.values.points",
    ),
    (
        {"guidance_methods": methods(skip_layer={})},
        "Skip-layer guidance is for models with a transformer; Starter has a U-Net.",
        "guidance_methods.0.id",
    ),
    (
        {"guidance_methods": methods(apg={}, cfg_zero={})},
        "APG and CFG-Zero* do not go together: both put a formula of their own in place of guidance.",
        "guidance_methods.1.id",
    ),
    (
        {"guidance_methods": methods(cfg_rescale={}, dynamic_thresholding={})},
        "CFG rescale and Dynamic thresholding do not go together: both take back the contrast of guidance.",
        "guidance_methods.1.id",
    ),
    (
        {"hires": {"guidance_methods": methods(apg={}, cfg_zero={})}},
        "APG and CFG-Zero* do not go together: both put a formula of their own in place of guidance.",
        "hires.guidance_methods.1.id",
    ),
    (
        {"hires": {"guidance_methods": methods(pag={"scale": 50.0})}},
        "PAG: Scale is 50.",
        "hires.guidance_methods.0.values.scale",
    ),
]


@pytest.mark.parametrize(("fields", "sentence", "field"), REFUSED, ids=[case[1] for case in REFUSED])
def test_what_makes_no_sense_is_refused_by_name(
    models: ModelList, fields: dict[str, Any], sentence: str, field: str
) -> None:
    with pytest.raises(InvalidRecipe) as caught:
        resolved(models, **{"model": "starter", **fields})
    assert (caught.value.message, caught.value.field) == (sentence, field)
    assert caught.value.hint.endswith(".")


def test_without_guidance_a_notice_says_what_has_no_effect(models: ModelList) -> None:
    found = resolved(models, guidance=1.0, guidance_methods=methods(cfg_rescale={}, pag={}))
    assert found.notices == (("no_effect", "CFG rescale changes nothing at guidance 1."),)
    rising = methods(cfg_rescale={}, guidance_curve={"end": 7.0})
    assert resolved(models, guidance=1.0, guidance_methods=rising).notices == ()


def test_a_hires_pass_takes_over_the_methods_or_has_its_own(models: ModelList) -> None:
    pag, rescale = methods(pag={}), methods(cfg_rescale={})

    def hires_of(**hires: object) -> Recipe:
        return resolved(models, seed=1, guidance_methods=pag, hires=hires).recipe

    taken, none, own = hires_of(), hires_of(guidance_methods=()), hires_of(guidance_methods=rescale)
    assert taken.hires and taken.hires.guidance_methods is None and taken.passes[1].methods == taken.guidance_methods
    assert none.hires and none.hires.guidance_methods == () == none.passes[1].methods
    assert own.passes[1].methods == RESCALE and own.passes[0].methods == taken.guidance_methods
    assert len({taken.identity, none.identity, own.identity}) == 3
    # What a pass without guidance makes idle is said of that pass alone.
    idle = resolved(models, hires={"guidance": 1.0, "guidance_methods": rescale})
    assert idle.notices == (("no_effect", "CFG rescale changes nothing at guidance 1."),)
    assert resolved(models, guidance_methods=rescale, hires={"guidance": 1.0}).notices == ()
    assert resolved(models, guidance=1.0, guidance_methods=rescale, hires={"guidance": 5.0}).notices == ()


def test_a_hires_pass_without_methods_comes_back_from_its_infotext(models: ModelList) -> None:
    for asked in ((), methods(pag={"scale": 2.0}, freeu={})):
        recipe = resolved(models, seed=1, hires={"guidance_methods": asked}).recipe
        assert recipe.hires
        hires: dict[str, Any] = {"hires": {}}
        pairs = parse_infotext(write(recipe)).pairs
        assert add_hires_guidance(hires, pairs) >= {key for key in pairs if "pag" in key or "freeu" in key}
        found = [GuidanceMethod.model_validate(one) for one in hires["hires"]["guidance_methods"]]
        assert [one.id for one in found] == [one.id for one in recipe.hires.guidance_methods or ()]
        assert not found or found[0].values["scale"] == 2.0
        assert guidance_fields(pairs) == ([], set())


def test_a_jobs_cost_counts_what_is_evaluated(models: ModelList) -> None:
    def of(**fields: object) -> float:
        return cost(Generate(recipe=resolved(models, steps=10, **fields).recipe))

    plain = of()
    assert of(guidance=1.0) == plain / 2
    assert of(guidance_methods=methods(pag={})) == pytest.approx(1.5 * plain)
    assert of(guidance_methods=methods(cfg_interval={})) == pytest.approx(0.8 * plain)
    hires = {"scale": 2.0, "strength": 1.0}
    assert of(hires=hires) == pytest.approx(5 * plain)
    assert of(hires=hires, guidance_methods=methods(sag={})) == pytest.approx(7.5 * plain)
    assert of(hires=hires | {"guidance_methods": ()}, guidance_methods=methods(sag={})) == pytest.approx(5.5 * plain)


# Infotexts


def test_every_method_comes_back_from_its_infotext(models: ModelList) -> None:
    recipe = resolved(models, seed=1).recipe
    for method in GUIDANCE_METHODS.values():
        if not method.maker:
            continue
        changed: dict[str, float | str] = {}
        for parameter in method.parameters:
            if parameter.choices:
                changed[parameter.id] = parameter.choices[-1][0]
            elif isinstance(parameter.default, str):
                changed[parameter.id] = "0:6, 1:2.5"
            else:
                changed[parameter.id] = round((parameter.least + parameter.most) / 2 + parameter.step, 6)
        for values in ({}, changed):
            made = recipe.model_copy(update={"guidance_methods": (GuidanceMethod(id=method.id, values=values),)})
            pairs = parse_infotext(write(made)).pairs
            found, used = guidance_fields(pairs)
            assert found == [{"id": method.id, "values": method.values(values)}]
            assert used == set(guidance_pairs(made.guidance_methods)), method.id
            assert Recipe.model_validate(made.model_dump()) == made


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("CFG Rescale φ: 0.7", {"cfg_rescale": {"phi": 0.7}}),
        ("CFG rescale: 0.5", {"cfg_rescale": {"phi": 0.5}}),
        ("pag_enabled: True, pag_scale: 3", {"pag": {"scale": 3}}),
        ("PAG scale: 2.5, PAG adaptive: 0.01", {"pag": {"scale": 2.5, "adaptive": 0.01}}),
        ("PAG Active: False, PAG Scale: 3", {}),
        ("sag_enabled: False", {}),
        ("Skip Early CFG: 0.2", {"cfg_interval": {"start": 0.2, "end": 1.0}}),
        (
            "dynthres_enabled: True, dynthres_mimic_scale: 7, dynthres_threshold_percentile: 0.99, "
            "dynthres_scaling_startpoint: MEAN, dynthres_variability_measure: AD, dynthres_interpolate_phi: 1",
            {
                "dynamic_thresholding": {
                    "mimic_scale": 7,
                    "percentile": 0.99,
                    "start_point": "mean",
                    "measure": "ad",
                    "phi": 1,
                }
            },
        ),
        (
            "Dynamic thresholding enabled: True, Mimic scale: 7, Threshold percentile: 99.5",
            {"dynamic_thresholding": {"mimic_scale": 7, "percentile": 0.995}},
        ),
        ("freeu_enabled: True, freeu_b1: 1.01, freeu_b2: 1.02", {"freeu": {"b1": 1.01, "b2": 1.02}}),
        ("DD Enabled: True, DD Amount: 0.25, DD Smooth: True", {"detail": {"amount": 0.25, "smooth": "smooth"}}),
        ("DD Enabled: False, DD Amount: 0.25", {}),
    ],
)
def test_other_programs_words_are_read(text: str, wanted: dict[str, Any]) -> None:
    infotext = f"a barn\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, {text}"
    pairs = parse_infotext(infotext).pairs
    found, used = guidance_fields(pairs)
    assert {one["id"]: one["values"] for one in found} == wanted
    assert len(used) == text.count(": ")


def test_what_a_model_or_another_part_leaves_no_room_for_is_refused(models: ModelList) -> None:
    entry = models.find("starter")
    assert entry is not None
    image = {"sha256": "0" * 64}
    with_images = draft(guidance_methods=methods(nag={}), ip_adapters=({"image": image, "model": "eye"},))
    with pytest.raises(InvalidRecipe, match="NAG and pictures as prompt both change the cross-attention"):
        resolve_guidance(with_images, Finder(models), entry)
    editing = replace(entry, variant="edit")
    for method in GUIDANCE_METHODS.values():
        asked = draft(guidance_methods=({"id": method.id},))
        if method.suits_edit:
            assert resolve_guidance(asked, Finder(models), editing)[0]
        elif "unet" in method.denoisers:
            with pytest.raises(InvalidRecipe, match="does not go with Starter, which guides by the picture too"):
                resolve_guidance(asked, Finder(models), editing)
    asks_for_rescale = replace(editing, defaults=replace(entry.defaults, cfg_rescale=0.7))
    assert resolve_guidance(draft(), Finder(models), asks_for_rescale)[0] == ()


def test_a_model_may_ask_for_another_rescale_or_none(tmp_path: Path) -> None:
    for share, wanted in ((0.4, ({"phi": 0.4},)), (0, ())):
        make_model(tmp_path / str(share), "zero", zero_snr=True, defaults={"cfg_rescale": share})
        found = resolved(ModelList((tmp_path / str(share),))).recipe.guidance_methods
        assert tuple(one.values for one in found) == wanted


@pytest.mark.parametrize(
    ("family", "prediction", "zero_snr", "rescale"),
    [
        ("sdxl", "v_prediction", True, 0.7),  # NoobAI
        ("sdxl", "v_prediction", False, 0.7),
        ("sdxl", "", False, 0.0),
        ("sd1", "", True, 0.7),
        ("sd2", "v_prediction", False, 0.0),  # as all of its family
        ("sd2", "", False, 0.0),
    ],
)
def test_which_checkpoints_ask_for_it(family: str, prediction: str, zero_snr: bool, rescale: float) -> None:
    facts = FAMILIES[family]
    assert facts.with_rescale(facts.defaults, "text", prediction, zero_snr=zero_snr).cfg_rescale == rescale
