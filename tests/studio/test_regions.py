"""Regions of a draft: resolved with their masks and LoRAs, refused in one sentence, written and read back."""

import json
from typing import Any

import pytest
from PIL import Image, ImageDraw, PngImagePlugin

from contract.errors import InvalidInput, StudioError
from contract.recipe import LoraUse, ModelRef, Recipe, RecipeDraft
from contract.records import ImageRecord
from contract.regions import MAX_REGIONS
from contract.validation import parse_draft
from contract.work import path_key
from studio.library.model_list import ModelList
from studio.metadata import infotext
from studio.metadata.import_recipe import read_recipe
from studio.metadata.recipe_hashes import with_hashes
from studio.metadata.region_texts import region_fields
from studio.prompts.library import PromptLibrary
from studio.resolve.draft import Resolved, resolve
from studio.resolve.no_effect import without_effect
from studio.resolve.prompt_notes import prompt_notes
from studio.studio import Studio
from tests.studio.conftest import ME, YOU, run
from tests.studio.test_infotext import recipe as plain_recipe
from tests.studio.test_resolve_loras import Shelf, entry, loras
from tests.studio.test_resolve_loras import with_hashes as finder_of
from tests.support.images import encoded

BOX = {"left": 0.25, "top": 0.0, "width": 0.5, "height": 1.0}
SIZES = {"a" * 64: (512, 512), "b" * 64: (1024, 1024), "c" * 64: (512, 384)}
SQUARE, LARGE, WIDE = ({"sha256": sha256} for sha256 in SIZES)


@pytest.fixture(scope="module")
def models() -> ModelList:
    return Shelf(
        entry("checkpoint", "starter"),
        entry("checkpoint", "edit", variant="edit"),
        entry("lora", "ink"),
        entry("lora", "ink_xl", "sdxl"),
        entry("hypernetwork", "bend"),
        entry("embedding", "style"),
    )


def region(prompt: str = "a dog", **fields: Any) -> dict[str, Any]:
    place = {} if "mask" in fields else {"box": BOX}
    return {"prompt": prompt, **place, **fields}


def read(*regions: dict[str, Any], **fields: Any) -> RecipeDraft:
    parts = {"regions": {"regions": regions, **fields.pop("shared", {})}}
    return parse_draft(
        json.dumps({"prompt": "a barn", "model": "starter", "width": 512, "height": 512, **parts, **fields})
    )


def resolved(models: ModelList, *regions: dict[str, Any], **fields: Any) -> Resolved:
    return resolve(read(*regions, **fields), finder_of(models), max_pixels=2048**2, size_of=SIZES.get)


def regions_of(recipe: Recipe) -> Any:
    assert recipe.regions is not None
    return recipe.regions.regions


def test_tags_of_a_region_s_prompt_are_its_loras_alone(models: ModelList) -> None:
    recipe = resolved(
        models, region("a dog <lora:ink:0.5:0.8>", loras=[{"model": "ink", "weight": 0.1}]), region("style")
    ).recipe
    first, second = regions_of(recipe)
    assert (first.prompt, second.prompt, recipe.loras) == ("a dog", "style", ())
    assert loras(recipe.model_copy(update={"loras": first.loras})) == [("ink", 0.9, 0.6, 0)]
    assert [ref.name for ref in recipe.embeddings] == ["style"]
    assert {ref.name for ref in recipe.models} == {"starter", "ink", "style"}
    again = resolve(RecipeDraft.read(recipe.canonical_json()), finder_of(models), max_pixels=2048**2)
    assert again.recipe == recipe


NOT_HERE = {"sha256": "f" * 64}


@pytest.mark.parametrize(
    ("regions", "fields", "field", "words"),
    [
        ([region()] * (MAX_REGIONS + 1), {}, "regions.regions", "9 regions are asked for"),
        ([], {}, "regions.regions", "“regions.regions” is an empty list"),
        ([region(), region(weight=float("nan"))], {}, "regions.regions.1.weight", "Region weight is nan"),
        ([region(weight=-1)], {}, "regions.regions.0.weight", "Region weight is -1"),
        ([region(weight=True)], {}, "regions.regions.0.weight", "Region weight is true"),
        ([region(weight="1")], {}, "regions.regions.0.weight", "Region weight is “1”"),
        ([region(mask=SQUARE, box=BOX)], {}, "regions.regions.0.mask", "Region 1: it has a box and a mask"),
        ([{"prompt": "a"}], {}, "regions.regions.0.box", "Region 1: it has no place"),
        ([region(box={**BOX, "width": 0.8})], {}, "regions.regions.0.box.width", "reaches beyond the picture"),
        ([region(box={**BOX, "height": 0})], {}, "regions.regions.0.box.height", "Box height is 0"),
        ([region(box={**BOX, "left": 10**400})], {}, "regions.regions.0.box.left", "Left is"),
        ([region("\ud800")], {}, "regions.regions.0.prompt", "half of a character"),
        ([region("x" * 200_001)], {}, "regions.regions.0.prompt", "200,001 characters"),
        ([region(name="x")], {}, "regions.regions.0.name", "is not a field"),
        ([region()], {"shared": {"base": 2}}, "regions.base", "Base share is 2"),
        ([region()], {"shared": {"common": 1}}, "regions.common", "Common words first is 1"),
        ([region(), region(mask=NOT_HERE)], {}, "regions.regions.1.mask", "The mask of a region is not here"),
        ([region(mask=WIDE)], {}, "regions.regions.0.mask", "mask of region 1 is 512 × 384; the picture is 512 × 512"),
        ([region("<lora:gone>")], {}, "regions.regions.0.prompt", "“gone”"),
        ([region(loras=[{"model": "gone"}])], {}, "regions.regions.0.loras.0.model", "“gone”"),
        ([region(loras=[{"model": "ink_xl"}])], {}, "regions.regions.0.loras.0.model", "SDXL"),
        ([region("<lora:../../x:1>")], {}, "regions.regions.0.prompt", "is a path"),
        ([region(loras=[{"model": "ink", "blocks": [1]}])], {}, "regions.regions.0.loras.0.blocks", "LoRA 1: it has 1"),
        ([region("<hypernet:bend>")], {}, "regions.regions.0.prompt", "can't act in one region"),
        ([region(f"(dog:{'9' * 400})")], {}, "regions.regions.0.prompt", "beyond every number"),
        ([region(), region("dog AND cat")], {}, "regions.regions.1.prompt", "Region 2 has several prompts"),
        ([region()], {"guidance_methods": [{"id": "nag"}]}, "guidance_methods.0.id", "NAG and regions both"),
        (
            [region()],
            {"model": "edit", "init_image": {"image": SQUARE}},
            "regions",
            "Regions do not go with Edit, which guides by the picture",
        ),
    ],
)  # fmt: skip
def test_what_can_t_be_painted_is_refused_by_its_field(
    models: ModelList, regions: list[dict[str, Any]], fields: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(StudioError) as refused:
        prompt_notes(resolved(models, *regions, **fields).recipe)
    assert refused.value.field == field
    assert words in refused.value.message and len(refused.value.message) < 300 and refused.value.hint


def test_a_mask_has_the_shape_of_what_it_is_a_part_of(models: ModelList) -> None:
    assert regions_of(resolved(models, region(mask=LARGE)).recipe)[0].mask
    part = {"init_image": {"image": WIDE}, "mask": {"image": WIDE, "area": "masked"}}
    assert regions_of(resolved(models, region(mask=WIDE), **part).recipe)[0].mask  # of the start picture
    with pytest.raises(InvalidInput, match="mask of region 1 is 512 × 512; the picture is 512 × 384"):
        resolved(models, region(mask=SQUARE), **part)


def test_what_changes_nothing_is_said(models: ModelList) -> None:
    parts = region(weight=0), region("embedding:gone", loras=[{"model": "ink", "weight": 0}])
    found = resolved(models, *parts, shared={"base": 1})
    notices = [
        text for _, text in without_effect(found.recipe, found.entry, lambda _: None, lambda _: (), lambda _: None)
    ]
    assert notices[:3] == [
        "The base share is 1: the prompts of the regions change nothing.",
        "Region 1 has weight 0: it changes nothing.",
        "LoRA “ink” of region 2 has weight 0: it changes nothing.",
    ]
    assert any("“gone” is not here" in text for text in notices)
    strong = resolved(models, region("a (dog:12)"))
    assert "The prompt of region 1 gives “dog”" in prompt_notes(strong.recipe)[0][1]


def mask_of(*boxes: tuple[int, int, int, int]) -> bytes:
    image = Image.new("RGB", (64, 64))
    for box in boxes:
        ImageDraw.Draw(image).rectangle(box, fill="white")
    return encoded(image, "PNG")


def test_a_mask_that_is_empty_or_another_s_is_refused_before_it_waits(studio: Studio) -> None:
    def ask(mask: bytes, owner: str = ME) -> None:
        ref = {"sha256": studio.add_upload(mask, ME).sha256}
        asked = {"regions": {"regions": [region(), region(mask=ref)]}, "width": 64, "height": 64}
        studio.submit(parse_draft(json.dumps({"prompt": "a barn", **asked})), owner)

    with pytest.raises(InvalidInput, match="mask of region 2 is empty") as empty:
        ask(mask_of())
    assert empty.value.field == "regions.regions.1.mask"
    with pytest.raises(InvalidInput, match="mask of a region is not here") as foreign:
        ask(mask_of((0, 0, 9, 9)), YOU)
    assert foreign.value.field == "regions.regions.1.mask"
    ask(mask_of((0, 0, 9, 9)))


def test_a_picture_s_file_gives_its_regions_back(studio: Studio) -> None:
    kept = studio.add_upload(mask_of((0, 0, 9, 9)), ME)
    parts = [region("a cow", negative_prompt="", weight=0.5), region(mask={"sha256": kept.sha256})]
    asked = read(*parts, width=64, height=64, model=None)
    (record,) = [event.record for event in run_draft(studio, asked) if hasattr(event, "record")]
    assert isinstance(record, ImageRecord) and record.recipe is not None
    found = studio.read_recipe(studio.image_file(record.id, ME).read_bytes(), ME)
    assert found.draft is not None
    assert RecipeDraft.model_validate_json(json.dumps(found.draft)).regions == asked.regions
    # Where the mask is gone, the other region stays.
    elsewhere = studio.read_recipe(studio.image_file(record.id, ME).read_bytes(), YOU)
    assert elsewhere.draft is not None
    assert [one["prompt"] for one in elsewhere.draft["regions"]["regions"]] == ["a cow"]
    assert any("mask of a region is not here" in text for text in elsewhere.notices)


def run_draft(studio: Studio, asked: RecipeDraft) -> Any:
    return run(studio, **{name: getattr(asked, name) for name in asked.model_fields_set if name != "schema_"})


INK = LoraUse(model=ModelRef(kind="lora", name="ink", family="sd1", sha256="cd" * 32), weight=0.5, text_weight=0.25)


@pytest.mark.parametrize("common", [True, False])
def test_an_infotext_names_regions_and_reads_back_the_same(models: ModelList, common: bool) -> None:
    parts = {
        "base": 0.125,
        "common": common,
        "regions": (
            {"prompt": 'a "red" boat: at sea, new\nline', "box": BOX, "weight": 1.5, "loras": (INK,)},
            {"prompt": "", "mask": {"sha256": "a" * 64}, "negative_prompt": "fog, rain"},
            {"prompt": "a cow # the brown one", "box": {**BOX, "top": 1 / 3, "height": 1e-7}, "negative_prompt": ""},
        ),
    }
    text = infotext.write(plain_recipe(regions=parts, height=512))
    words = "common words first" if common else "each prompt alone"
    assert f'Regions: "base 0.125, {words}", Region 1: "box 0.25 0 0.5 1, weight 1.5: a' in text
    assert "Region 2 negative prompt" in text and 'Lora hashes: "ink: cdcdcdcdcd"' in text
    pairs = infotext.parse_infotext(text).pairs
    fields, used = region_fields(pairs, lambda prompt: prompt)
    assert used == {key for key in pairs if key.startswith("Region")}
    assert fields["regions"] == {
        "base": 0.125,
        "common": common,
        "regions": [
            {"prompt": 'a "red" boat: at sea, new\nline <lora:ink:0.25:0.5>', "box": BOX, "weight": 1.5},
            {"prompt": "", "mask": {"sha256": "a" * 64}, "negative_prompt": "fog, rain", "weight": 1.0},
            {
                "prompt": "a cow # the brown one",
                "box": {**BOX, "top": 1 / 3, "height": 1e-7},
                "negative_prompt": "",
                "weight": 1.0,
            },
        ],
    }
    written = PngImagePlugin.PngInfo()
    written.add_text("parameters", text)
    draft = read_recipe(encoded(Image.new("RGB", (8, 8)), "PNG", pnginfo=written), models, lambda _: None).draft
    assert draft is not None
    first = resolve(
        RecipeDraft.model_validate_json(json.dumps(draft)), finder_of(models), max_pixels=2048**2, size_of=SIZES.get
    )
    assert regions_of(first.recipe)[0].loras[0].weight == 0.5


def test_what_an_infotext_says_of_regions_in_other_words_is_left_alone() -> None:
    for pairs in (
        {"Regions": "two"},
        {"Region 1": "box 0 0 1 1, weight 1: a"},
        {"Regions": "base 1, common words first"},
    ):
        assert region_fields(pairs, str) == ({}, set())


def test_hashes_reach_the_loras_of_regions() -> None:
    bare = INK.model_copy(update={"model": INK.model.model_copy(update={"sha256": None, "fingerprint": "f"})})
    recipe = plain_recipe(regions={"regions": ({"prompt": "a", "box": BOX, "loras": (bare,)},)})
    hashed = with_hashes(recipe, {path_key(bare.model): "ef" * 32})
    assert regions_of(hashed)[0].loras[0].model.sha256 == "ef" * 32


def test_choices_in_a_region_s_prompt_are_drawn_and_styles_are_the_picture_s(tmp_path: Any) -> None:
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\nfilm,{prompt} on film,blur\n")
    library = PromptLibrary(tmp_path, ())
    asked = read(region("a {dog|dog}"), dynamic=True, styles=["film"], seed=4)
    (done,) = library.concrete(asked)
    assert done.prompt == "a barn on film" and done.regions is not None
    assert [one.prompt for one in done.regions.regions] == ["a dog"]
    (written,) = library.concrete(read(region("a {dog|dog}"), styles=["film"]))
    assert written.regions == read(region("a {dog|dog}")).regions
