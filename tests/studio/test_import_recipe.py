"""What a dropped picture says: ours, A1111's, hostile ones. It fills a form and nothing else."""

import json
from pathlib import Path

import pytest
from PIL import Image

from catalog.models import ModelEntry
from contract.errors import InvalidInput
from contract.recipe import ModelKind, ModelRef, Recipe, RecipeDraft
from studio.library.model_list import ModelList
from studio.metadata.image_files import KEYWORD, PictureFacts
from studio.metadata.import_recipe import FoundRecipe, read_recipe
from tests.support.images import encoded, png
from tests.support.model_folders import make_model

FORGE = (
    "a red barn, oil\nNegative prompt: blurry\nSteps: 30, Sampler: DPM++ 2M Karras, CFG scale: 6.5, Seed: 123, "
    "Size: 832x1216, Model hash: {hash}, Model: {model}, VAE: x.safetensors, Clip skip: 2, Version: v1.10.1"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelList:
    root = tmp_path_factory.mktemp("models")
    make_model(root, "starter")
    return ModelList((root,))


@pytest.fixture(scope="module")
def library(models: ModelList) -> ModelList:
    """The same with a LoRA, a VAE and a hypernetwork."""
    kinds: dict[str, ModelKind] = {"ink": "lora", "bend": "hypernetwork", "soft": "vae"}
    more = [ModelEntry(ModelRef(kind=kind, name=name, family="sd1"), Path(name), name) for name, kind in kinds.items()]

    class Library(ModelList):
        def all(self, *, fresh: bool = False) -> tuple[ModelEntry, ...]:
            return (*models.all(), *more)

    return Library(())


def found(models: ModelList, data: bytes) -> FoundRecipe:
    return read_recipe(data, models, lambda sha256: models.find("starter") if sha256 == "ABCDEF1234" else None)


def infotext(models: ModelList, text: str) -> FoundRecipe:
    result = found(models, png(texts={"parameters": text}))
    if result.draft is not None:
        RecipeDraft.model_validate(result.draft)
    return result


def test_an_infotext_fills_the_form(models: ModelList) -> None:
    result = infotext(models, FORGE.format(hash="1111111111", model="starter"))
    assert result.draft == {
        "prompt": "a red barn, oil",
        "negative_prompt": "blurry",
        "steps": 30,
        "guidance": 6.5,
        "seed": 123,
        "width": 832,
        "height": 1216,
        "sampler": "dpmpp_2m",
        "schedule": "karras",
        "clip_skip": 2,
        "model": "starter",
        "noise": {"source": "nv"},
    }
    assert result.notices == ("VAE “x.safetensors” is not here; the model's own is used.",)
    assert result.unknown == ("x.safetensors",)


@pytest.mark.parametrize(
    ("pairs", "hires", "notices"),
    [
        (
            "Denoising strength: 0.6, Hires upscale: 1.5, Hires steps: 9, Hires upscaler: Latent (nearest)",
            {"scale": 1.5, "upscaler": "latent_nearest", "steps": 9, "strength": 0.6},
            (),
        ),
        ("Hires upscale: 2, Hires upscaler: Lanczos, Hires steps: 0", {"scale": 2.0, "upscaler": "lanczos"}, ()),
        ("Hires upscale: 2, Hires upscaler: 4x-Odd", None, ("Not used: Hires upscale, Hires upscaler.",)),
        ("Hires upscale: 99", None, ("Upscale by is 99.0. It was left out.", "Not used: Hires upscale.")),
        ("Denoising strength: 0.6", None, ("Not used: Denoising strength.",)),
    ],
)
def test_a_hires_pass_comes_back_where_its_upscaler_is_here(
    models: ModelList, pairs: str, hires: dict[str, object] | None, notices: tuple[str, ...]
) -> None:
    result = infotext(models, f"a barn\nSteps: 4, Seed: 1, Size: 64x64, {pairs}")
    assert result.draft is not None and result.draft.get("hires") == hires and result.notices == notices


@pytest.mark.parametrize(
    ("model", "written", "clip_skip"),
    [
        ("starter", 2, 2),
        ("starter", 1, 1),
        ("large", 1, 1),
        ("large", 2, 1),
        ("large", 3, 2),
        ("large", 5, 4),
        ("second", 2, 1),
        ("second", 4, 3),
    ],
)
def test_clip_skip_is_read_by_the_model_s_family(models: ModelList, model: str, written: int, clip_skip: int) -> None:
    more = [
        ModelEntry(ModelRef(name=name, family=family), Path(name), name)
        for name, family in (("large", "sdxl"), ("second", "sd2"))
    ]

    class Library(ModelList):
        def all(self, *, fresh: bool = False) -> tuple[ModelEntry, ...]:
            return (*models.all(), *more)

    result = infotext(Library(()), f"a barn\nSteps: 4, Seed: 1, Size: 64x64, Model: {model}, Clip skip: {written}")
    assert result.draft is not None and result.draft["clip_skip"] == clip_skip and result.notices == ()


@pytest.mark.parametrize(("written", "tiling"), [("True", "xy"), ("False", None), ("xy", "xy"), ("y", "y")])
def test_tiling_is_read_as_a1111_writes_it(models: ModelList, written: str, tiling: str | None) -> None:
    result = infotext(models, f"a barn\nSteps: 4, Seed: 1, Size: 64x64, Model: starter, Tiling: {written}")
    assert result.draft is not None and result.draft.get("tiling") == tiling and result.notices == ()


def test_clip_skip_of_a_model_that_is_not_here_says_how_it_counts(models: ModelList) -> None:
    result = infotext(models, "a barn\nSteps: 4, Seed: 1, Size: 64x64, Model: elsewhere, Clip skip: 2")
    assert result.draft is not None and result.draft["clip_skip"] == 2
    assert "Clip skip 2 is as SD 1.x counts; for SD 2.x, SDXL or SD 3 use 1." in result.notices


def test_a_model_that_is_not_here_is_named_and_the_rest_is_used(models: ModelList) -> None:
    result = infotext(models, FORGE.format(hash="1111111111", model="Nordlys 2"))
    assert result.unknown == ("Nordlys 2", "x.safetensors") and "model" not in (result.draft or {})
    assert "Made with “Nordlys 2”, which is not here. The rest is in the form." in result.notices


def test_a_model_is_known_by_its_hash_under_another_name(models: ModelList) -> None:
    result = infotext(models, FORGE.format(hash="ABCDEF1234", model="renamed"))
    assert result.draft is not None and result.draft["model"] == "starter"


def read(library: ModelList, texts: dict[str, str]) -> FoundRecipe:
    by_hash = {"abcdef0123": "ink", "a" * 64: "ink"}
    return read_recipe(png(texts=texts), library, lambda sha256: library.find(by_hash.get(sha256, "?"), "lora"))


def test_nets_of_an_infotext_come_back_by_name_or_hash(library: ModelList) -> None:
    text = (
        "a barn <lora:ink:0.8> <lora:brush_v2:0.5:1> <lora:gone:1>\nNegative prompt: <lora:Ink:-1>\nSteps: 4, Seed: 1, "
        'Size: 64x64, VAE: soft.safetensors, Lora hashes: "ink: 1, brush_v2: abcdef0123", Hypernet: bend, '
        "Hypernet strength: 0.4"
    )
    result = read(library, {"parameters": text})
    assert result.draft is not None
    assert result.draft["prompt"] == "a barn <lora:ink:0.8> <lora:ink:0.5:1>"
    assert result.draft["negative_prompt"] == "<lora:Ink:-1>"
    assert (result.draft["vae"], result.draft["hypernetworks"]) == ("soft", [{"model": "bend", "weight": 0.4}])
    assert result.notices == ("LoRA “gone” is not here.",) and result.unknown == ("gone",)
    RecipeDraft.model_validate_json(json.dumps(result.draft))


def test_nets_of_our_own_recipe_come_back_as_parts(library: ModelList) -> None:
    ref = {"family": "sd1", "sha256": "a" * 64}
    recipe = Recipe.model_validate_json(
        json.dumps(
            {
                "prompt": "style",
                "model": {"name": "starter", "family": "sd1"},
                "sampler": "euler",
                "schedule": "karras",
                "steps": 4,
                "guidance": 7.0,
                "width": 64,
                "height": 64,
                "seed": 1,
                "loras": [
                    {"model": {**ref, "kind": "lora", "name": "renamed"}, "weight": 0.5, "text_weight": 0.1},
                    {"model": {"family": "sd1", "kind": "lora", "name": "gone"}},
                ],
                "hypernetworks": [{"model": {"family": "sd1", "kind": "hypernetwork", "name": "lost"}}],
                "embeddings": [{"family": "sd1", "kind": "embedding", "name": "style"}],
                "vae": {"family": "sd", "kind": "vae", "name": "soft"},
            }
        )
    )
    facts = PictureFacts(
        id="0" * 22, job_id="0" * 22, job_image=0, created_at=1.0, owner_key="x", recipe=recipe, width=64, height=64
    )
    result = read(library, {KEYWORD: facts.to_json()})
    assert result.draft is not None
    assert result.draft["loras"] == [{"model": "ink", "weight": 0.5, "text_weight": 0.1}]
    assert result.draft["vae"] == "soft" and not {"hypernetworks", "embeddings"} & set(result.draft)
    assert result.unknown == ("gone", "lost")
    assert result.notices == ("LoRA “gone” is not here.", "Hypernetwork “lost” is not here.")


def test_loras_beside_the_prompt_are_found_too(library: ModelList) -> None:
    """Fooocus lists them with weights, Civitai as resources; embeddings are told by their hashes."""
    pairs = 'Lora weights: "brush_v2: 0.5, gone: -1.25", Lora hashes: "brush_v2: abcdef0123", Scheduler: karras, Sampler: Euler'
    result = read(library, {"parameters": f"a barn\nSteps: 4, Seed: 1, Size: 64x64, {pairs}"})
    assert result.draft is not None
    assert result.draft["loras"] == [{"model": "ink", "weight": 0.5}] and result.draft["schedule"] == "karras"
    assert result.notices == ("LoRA “gone” is not here.",)
    resources = json.dumps(
        [
            {"type": "checkpoint", "modelName": "starter"},
            {"type": "lora", "weight": 0.7, "modelName": "Ink"},
            {"type": "lora", "modelVersionName": "lost"},
            "odd",
        ],
        separators=(",", ":"),
    )
    result = read(
        library,
        {"parameters": f"a barn\nSteps: 4, Seed: 1, Size: 64x64, Civitai resources: {resources}, Clip skip: false"},
    )
    assert result.draft is not None
    assert result.draft["loras"] == [{"model": "ink", "weight": 0.7}] and result.draft["model"] == "starter"
    assert result.notices == ("LoRA “lost” is not here.",)
    result = read(
        library,
        {
            "parameters": 'x\nNegative prompt: bad-hands\nSteps: 4, Seed: 1, Size: 64x64, TI hashes: "bad-hands: 0123456789"'
        },
    )
    assert result.notices == ("Embedding “bad-hands” is not here.",)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("coding", ["utf-16-be", "utf-16-le", "ascii"])
def test_jpeg_and_webp_carry_it_in_exif(models: ModelList, kind: str, coding: str) -> None:
    text = FORGE.format(hash="1", model="starter")
    exif = Image.Exif()
    head = b"ASCII\0\0\0" if coding == "ascii" else b"UNICODE\0"
    exif.get_ifd(0x8769)[0x9286] = head + text.encode(coding)
    result = found(models, encoded(Image.new("RGB", (16, 16)), kind, exif=exif))
    assert result.infotext == text and result.draft is not None and result.draft["seed"] == 123


@pytest.mark.parametrize(
    ("pair", "field", "words"),
    [
        ("Steps: 1e9", "steps", "Steps is"),
        ("Steps: 999", "steps", "Steps is 999. It was left out."),
        ("Seed: -5", "seed", "Seed is -5. It was left out."),
        ("Seed: 18446744073709551616", "seed", "Seed is"),
        ("Seed: abc", "seed", "Seed is “abc”. It was left out."),
        ("CFG scale: nan", "guidance", "Guidance"),
        ("CFG scale: inf", "guidance", "Guidance"),
        ("Clip skip: 99", "clip_skip", "Clip skip is 99. It was left out."),
        ("Size: axb", "width", "Width is “a”."),
        ("Sampler: Undefined", "sampler", "Sampler “Undefined” is not known here; the model's own is used."),
        ("Seed: " + "9" * 5000, "seed", "Seed is"),
    ],
)
def test_md01_03_what_is_out_of_range_is_left_out_and_named(
    models: ModelList, pair: str, field: str, words: str
) -> None:
    result = infotext(models, f"a barn\nVersion: 1, {pair}, ENSD: 1, RNG: CPU")
    assert result.draft is not None and field not in result.draft and result.draft["prompt"] == "a barn"
    assert any(notice.startswith(words) for notice in result.notices), result.notices


def test_md05_foreign_keys_are_listed_and_ignored(models: ModelList) -> None:
    result = infotext(
        models, 'x\nSteps: 4, Seed: 1, Size: 64x64, outdir_samples: /etc, Override: "sd_vae: /root/x", User: admin'
    )
    assert result.draft == {"prompt": "x", "steps": 4, "seed": 1, "width": 64, "height": 64}
    assert result.notices == ("Not used: outdir_samples, Override, User.",)


def test_md08_deep_json_is_not_ours_and_the_infotext_is_used(models: ModelList) -> None:
    deep = png(texts={"darkroom": "[" * 100_000, "parameters": "a barn"})
    assert found(models, deep).draft == {"prompt": "a barn"}


def test_im06_a_text_of_two_megabytes_is_cut_with_a_notice(models: ModelList) -> None:
    result = found(models, png(texts={"parameters": "word " * 400_000}))
    assert result.notices[0].startswith("The picture's text is very long")
    assert result.draft is None or len(str(result.draft.get("prompt", ""))) <= 200_000


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "0 bytes"),
        (png(), "no recipe inside"),
        (b"GIF89a" + b"\0" * 20, "format"),
        (png(texts={"parameters": "  "}), "no recipe inside"),
        (encoded(Image.new("RGB", (4, 4)), "JPEG"), "no recipe inside"),
    ],
)
def test_a_picture_without_a_recipe_is_said(models: ModelList, data: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        found(models, data)


def test_a_scan_of_the_folder_is_not_needed_for_names_with_paths(models: ModelList, tmp_path: Path) -> None:
    result = infotext(models, FORGE.format(hash="1", model="../../etc/passwd"))
    assert result.unknown == ("../../etc/passwd", "x.safetensors")
