"""Controls and previews are judged before anything waits in the queue: one clear sentence for each that can't be."""

import json
import shutil
from pathlib import Path

import pytest

from contract.errors import StudioError
from contract.recipe import RecipeDraft
from contract.tasks import Preprocess
from contract.validation import parse_draft
from studio.library.model_list import ModelList
from studio.resolve.controls import resolve_preprocess
from studio.resolve.draft import resolve
from studio.resolve.model_finder import Finder
from tests.catalog.test_control_models import write_names
from tests.support.model_folders import make_model, write_safetensors

SIZES = {"a" * 64: (512, 512), "b" * 64: (1, 5000), "c" * 64: (1, 1)}
PICTURE, NARROW, DOT = ({"sha256": sha256} for sha256 in SIZES)


def make_control(root: Path, name: str, **config: object) -> Path:
    write_safetensors(root / name / "diffusion_pytorch_model.safetensors")
    (root / name / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel", **config}))
    return root / name


def make_sd3(root: Path, name: str, layers: int) -> None:
    """A folder of SD 3.5, medium or large by its layers."""
    folder = make_model(root, name)
    (folder / "unet").rename(folder / "transformer")
    shutil.copytree(folder / "text_encoder", folder / "text_encoder_2")
    parts = {"transformer": "SD3Transformer2DModel", "text_encoder": "a", "text_encoder_2": "a"}
    index = {"_class_name": "StableDiffusion3Pipeline", **{part: ["b", name] for part, name in parts.items()}}
    (folder / "model_index.json").write_text(json.dumps(index))
    config = {"in_channels": 16, "num_layers": layers, "qk_norm": "rms_norm"}
    (folder / "transformer" / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelList:
    root = tmp_path_factory.mktemp("models")
    make_model(root, "starter")
    index = {"_class_name": "StableDiffusionXLPipeline", "text_encoder": ["a", "b"], "text_encoder_2": ["a", "b"]}
    write_safetensors(make_model(root, "large") / "text_encoder_2" / "model.safetensors")
    (root / "large" / "model_index.json").write_text(json.dumps(index))
    make_control(root, "canny")
    make_control(root, "canny_xl", addition_embed_type="text_time")
    make_control(root, "union", _class_name="ControlNetUnionModel", addition_embed_type="text_time")
    make_control(root, "adapter", _class_name="T2IAdapter", adapter_type="full_adapter")
    (make_control(root, "broken") / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    make_sd3(root, "medium", 24)
    make_sd3(root, "wide", 38)
    for name, config in {
        "canny3": {"num_attention_heads": 24},
        "hole3": {"num_attention_heads": 24, "extra_conditioning_channels": 1},
        "wide3": {"num_attention_heads": 38, "use_pos_embed": False},
    }.items():
        make_control(root, name, _class_name="SD3ControlNetModel", **config)
    write_names(root / "lllite.safetensors", "lllite_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q.up.0.weight")
    (root / "annotators").mkdir()
    (root / "annotators" / "table5_pidinet.pth").write_bytes(b"x")
    return ModelList((root,))


def resolved(  # type: ignore[no-untyped-def]
    models: ModelList, checkpoint: str, *, is_masked: bool = False, **control: object
):
    masked = {"init_image": {"image": PICTURE}, "mask": {"image": PICTURE}} if is_masked else {}
    draft = RecipeDraft.model_validate_json(
        json.dumps({"prompt": "", "model": checkpoint, "controls": [{"image": PICTURE, **control}], **masked})
    )
    return resolve(draft, Finder(models), max_pixels=2048**2, size_of=SIZES.get).recipe.controls[0]


def test_a_control_gets_its_ref_and_its_preprocessors_id(models: ModelList) -> None:
    control = resolved(models, "starter", model="Canny", preprocessor="PiDiNet", weight=0.5)
    assert (control.model.kind, control.model.name, control.model.family) == ("controlnet", "canny", "sd1")
    assert control.preprocessor == "softedge_pidinet" and control.weight == 0.5 and control.model.fingerprint
    assert resolved(models, "starter", model="adapter").model.kind == "t2i_adapter"


def test_a_union_is_told_what_a_map_shows_by_its_preprocessor_or_by_name(models: ModelList) -> None:
    assert resolved(models, "large", model="union", preprocessor="canny").control_type == ""
    assert resolved(models, "large", model="union", control_type="openpose").control_type == "openpose"


@pytest.mark.parametrize(
    ("checkpoint", "control", "code", "words"),
    [
        ("starter", {"model": "canny_xl"}, "invalid_controls_model", "“canny_xl” is for SDXL; “starter” is SD 1.x."),
        ("large", {"model": "canny"}, "invalid_controls_model", "“canny” is for SD 1.x; “large” is SDXL."),
        ("starter", {"model": "cany"}, "invalid_controls_model", "“cany” is not here."),
        ("starter", {"model": "starter"}, "invalid_controls_model", "“starter” is not here."),
        ("canny", {"model": "canny"}, "invalid_model", "“canny” is a ControlNet, no checkpoint."),
        ("starter", {"model": "broken"}, "model_problem", "empty file"),
        ("starter", {"model": "canny", "preprocessor": "cany"}, "invalid_preprocessor", "“cany”, which is not known"),
        ("starter", {"model": "canny", "preprocessor": "hed"}, "preprocessor_not_installed", "HED” is not installed"),
        ("starter", {"model": "canny", "preprocessor": "canny", "image": NARROW}, "invalid_controls_image", "1 × 5000"),
        ("starter", {"model": "canny", "preprocessor": "inpaint"}, "invalid_controls_preprocessor", "there is no mask"),
        ("starter", {"model": "canny", "preprocessor": "scribble_xdog", "low": 200}, "invalid_controls_low", "is 200"),
        ("large", {"model": "union"}, "invalid_controls_control_type", "must be told what the picture shows"),
        (
            "large",
            {"model": "union", "control_type": "tile"},
            "invalid_controls_control_type",
            "does not know “tile”",
        ),
        ("medium", {"model": "canny"}, "invalid_controls_model", "“canny” is for SD 1.x; “medium” is SD 3."),
        ("medium", {"model": "wide3"}, "invalid_controls_model", "is for SD 3.5 large; “Medium” is SD 3.5 medium."),
        (
            "wide",
            {"model": "canny3"},
            "invalid_controls_model",
            "is for SD 3 and SD 3.5 medium; “Wide” is SD 3.5 large.",
        ),
        ("wide", {"model": "wide3"}, "invalid_controls_control_type", "must be told what the picture shows"),
        ("wide", {"model": "wide3", "control_type": "pose"}, "invalid_controls_control_type", "does not know “pose”"),
        ("medium", {"model": "hole3"}, "invalid_controls_preprocessor", "was trained on what a mask hides"),
        ("large", {"model": "lllite", "mode": "prompt"}, "invalid_controls_mode", "there is no mode “prompt”"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(
    models: ModelList, checkpoint: str, control: dict[str, object], code: str, words: str
) -> None:
    with pytest.raises(StudioError) as caught:
        resolved(models, checkpoint, **control)
    assert caught.value.code == code and words in caught.value.message and caught.value.hint


@pytest.mark.parametrize("image", [DOT, NARROW], ids=["1×1", "1×5000"])
def test_extreme_pictures_pass_where_nothing_enlarges_them(models: ModelList, image: dict[str, str]) -> None:
    assert resolved(models, "starter", model="canny", image=image).preprocessor == "none"


def test_an_end_before_the_begin_is_refused() -> None:
    with pytest.raises(StudioError) as caught:
        parse_draft(
            json.dumps({"prompt": "", "controls": [{"model": "canny", "image": PICTURE, "start": 0.8, "end": 0.2}]})
        )
    assert caught.value.code == "invalid_controls_end"
    assert caught.value.message == "ControlNet 1: it begins at 0.8 of the steps and ends at 0.2."


def preview(models: ModelList, **fields: object) -> Preprocess:
    task = Preprocess.model_validate_json(json.dumps({"image": PICTURE, "preprocessor": "canny", **fields}))
    return resolve_preprocess(task, models, SIZES.get)


def test_controlnets_of_sd3_go_with_what_they_were_made_for(models: ModelList) -> None:
    assert resolved(models, "medium", model="canny3").model.family == "sd3"
    assert resolved(models, "wide", model="wide3", preprocessor="canny").control_type == ""
    assert resolved(models, "wide", model="wide3", control_type="depth").control_type == "depth"
    assert resolved(models, "large", model="lllite", mode="control").model.family == "sdxl"
    with pytest.raises(StudioError) as caught:
        resolved(models, "medium", is_masked=True, model="canny3", preprocessor="inpaint")
    assert "which ControlNet “canny3” was not trained on" in caught.value.message
    hole = resolved(models, "medium", is_masked=True, model="hole3", preprocessor="inpaint")
    assert hole.preprocessor == "inpaint_only"


def test_a_reference_needs_no_model_and_goes_with_few_other_parts(models: ModelList) -> None:
    control = resolved(models, "starter", preprocessor="Reference", low=0.2)
    assert (control.model, control.preprocessor, control.low) == (None, "reference_only", 0.2)
    assert resolved(models, "starter", preprocessor="reference_only", model="canny").model is None
    unit = {"image": PICTURE, "preprocessor": "reference_adain+attn"}
    region = {"prompt": "a dog", "box": {"left": 0, "top": 0, "width": 0.5, "height": 1}}
    for checkpoint, more, words in (
        ("medium", {}, "does not go with “Medium”"),
        ("starter", {"controls": [unit, unit]}, "does not go with another reference"),
        ("starter", {"regions": {"regions": [region]}}, "does not go with regions"),
    ):
        draft = RecipeDraft.model_validate_json(
            json.dumps({"prompt": "a cat", "model": checkpoint, "controls": [unit], **more})
        )
        with pytest.raises(StudioError) as caught:
            resolve(draft, Finder(models), max_pixels=2048**2, size_of=SIZES.get)
        assert words in caught.value.message and caught.value.hint
        assert str(caught.value.field).endswith(".preprocessor")
    for control, code in (
        ({"preprocessor": "canny"}, "invalid_controls_model"),
        ({"preprocessor": "reference_only", "low": 2}, "invalid_controls_low"),
    ):
        with pytest.raises(StudioError) as caught:
            resolved(models, "starter", **control)
        assert caught.value.code == code


def test_a_preview_is_judged_like_a_control(models: ModelList) -> None:
    assert preview(models, preprocessor="Canny").preprocessor == "canny"
    for fields, code in (
        ({"preprocessor": "cany"}, "invalid_preprocessor"),
        ({"preprocessor": "depth"}, "preprocessor_not_installed"),
        ({"image": NARROW}, "invalid_controls_image"),
        ({"preprocessor": "inpaint"}, "invalid_preprocessor"),
        ({"preprocessor": "reference_only"}, "invalid_preprocessor"),
        ({"high": 0}, "invalid_controls_high"),
        ({"image": {"sha256": "f" * 64}}, "invalid_image"),
    ):
        with pytest.raises(StudioError) as caught:
            preview(models, **fields)
        assert caught.value.code == code


def test_a_recipe_finds_its_control_models_by_their_weights(models: ModelList) -> None:
    hashes = {"canny": "a" * 64, "adapter": "b" * 64, "starter": "c" * 64}

    def finder() -> Finder:
        return Finder(
            models,
            lambda entry: hashes.get(entry.ref.name),
            lambda sha256: next((found for found in models.all() if hashes.get(found.ref.name) == sha256), None),
        )

    def asked(name: str, sha256: str) -> tuple[str, str | None, tuple[tuple[str, str], ...]]:
        model = {"kind": "controlnet", "name": name, "family": "sd1", "sha256": sha256}
        draft = RecipeDraft.model_validate_json(
            json.dumps({"prompt": "", "model": "starter", "controls": [{"image": PICTURE, "model": model}]})
        )
        found = resolve(draft, finder(), max_pixels=2048**2, size_of=SIZES.get)
        return found.recipe.controls[0].model.name, found.recipe.controls[0].model.sha256, found.notices

    assert asked("canny", "a" * 64) == ("canny", "a" * 64, ())
    assert asked("renamed", "b" * 64) == ("adapter", "b" * 64, ())
    other = "ControlNet “canny” is not the same file as the “canny” of this recipe; the picture can differ."
    assert asked("canny", "c" * 64) == ("canny", "a" * 64, (("other_model", other),))
