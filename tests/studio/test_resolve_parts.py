"""Pictures, models and sizes of a draft's optional parts, judged before anything waits in the queue."""

import json
import struct
from pathlib import Path

import pytest

from contract.errors import StudioError
from contract.recipe import Hires, ModelRef, RecipeDraft
from contract.tasks import Upscale
from studio.library.model_list import ModelList
from studio.resolve.draft import resolve
from studio.resolve.model_finder import Finder
from studio.resolve.parts import resolve_upscale
from tests.support.model_folders import make_model

SIZES = {
    "a" * 64: (512, 512),
    "b" * 64: (1024, 1024),
    "c" * 64: (512, 384),
    "d" * 64: (3000, 2000),
    "e" * 64: (500, 333),
}
START, LARGE, OTHER, PHOTO, ODD = ({"sha256": sha256} for sha256 in SIZES)
GONE = {"sha256": "f" * 64}


def write_header(path: Path, **shapes: tuple[int, ...]) -> None:
    """A file whose tensors are all of one byte a number (nothing reads them)."""
    place, header = 0, {}
    for name, shape in shapes.items():
        size = 1
        for side in shape:
            size *= side
        header[name.replace("__", ".")] = {"dtype": "U8", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(place))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelList:
    root = tmp_path_factory.mktemp("models")
    make_model(root, "starter", defaults={"width": 512, "height": 512})
    for name, channels in (("edit", 8), ("depth", 5)):
        folder = make_model(root, name)
        (folder / "unet/config.json").write_text(json.dumps({"in_channels": channels, "cross_attention_dim": 16}))
    for name, config in (("canny", {}), ("canny_xl", {"addition_embed_type": "text_time"})):
        write_header(root / name / "diffusion_pytorch_model.safetensors", t=(1,))
        (root / name / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel", **config}))
    write_header(root / "upscalers" / "esrgan.safetensors", conv_first__weight=(8, 3, 3, 3))
    write_header(root / "upscalers" / "other.safetensors", conv_first__weight=(8, 7, 3, 3))
    return ModelList((root,))


def draft(**fields: object) -> RecipeDraft:
    return RecipeDraft.model_validate_json(json.dumps({"prompt": "", "model": "starter", **fields}))


def resolved(models: ModelList, max_pixels: int = 2048**2, **fields: object):  # type: ignore[no-untyped-def]
    return resolve(draft(**fields), Finder(models), max_pixels=max_pixels, size_of=SIZES.get).recipe


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"init_image": {"image": START}}, (512, 512)),
        ({"init_image": {"image": OTHER}}, (512, 384)),
        ({"init_image": {"image": ODD}}, (496, 336)),
        ({"init_image": {"image": LARGE}}, (512, 512)),
        ({"init_image": {"image": PHOTO}}, (624, 416)),
        ({"init_image": {"image": START}, "width": 256}, (256, 512)),
        ({"init_image": {"image": OTHER, "outpaint": {"left": 64, "down": 128}}}, (576, 512)),
        ({"init_image": {"image": ODD, "outpaint": {"right": 8}}}, (504, 328)),
        ({"init_image": {"image": PHOTO}, "mask": {"image": PHOTO, "area": "masked"}}, (512, 512)),
    ],
)
def test_a_start_picture_gives_the_size_that_a_draft_leaves_open(
    fields: dict[str, object], size: tuple[int, int], models: ModelList
) -> None:
    recipe = resolved(models, **fields)
    assert (recipe.width, recipe.height) == size
    assert recipe.init_image == draft(**fields).init_image and recipe.mask == draft(**fields).mask


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"init_image": {"image": GONE}}, "invalid_init_image_image", "The start picture is not here."),
        ({"init_image": {"image": START}, "mask": {"image": GONE}}, "invalid_mask_image", "The mask is not here."),
        ({"init_image": {"image": START, "depth": GONE}}, "invalid_init_image_depth", "The depth picture is not here."),
        (
            {"init_image": {"image": START}, "mask": {"image": OTHER}},
            "invalid_mask_image",
            "The mask is 512 × 384; the start picture is 512 × 512.",
        ),
        (
            {"init_image": {"image": START, "outpaint": {"left": 64}}, "width": 512},
            "invalid_width",
            "The extended canvas would be 576 × 512; width is 512.",
        ),
        (
            {"init_image": {"image": START, "outpaint": {"left": 1984}}},
            "invalid_init_image_outpaint",
            "The extended canvas would be 2496 × 512.",
        ),
        ({"model": "edit"}, "invalid_init_image", "Edit edits a picture, and there is none."),
        ({"model": "depth"}, "invalid_init_image", "Depth paints by the depth of a picture, and there is none."),
        ({"controls": [{"model": "cany", "image": START}]}, "invalid_controls_model", "“cany” is not here."),
        ({"controls": [{"model": "starter", "image": START}]}, "invalid_controls_model", "“starter” is not here."),
        (
            {"controls": [{"model": "canny", "image": GONE}]},
            "invalid_controls_image",
            "The control picture is not here.",
        ),
        (
            {"controls": [{"model": "canny_xl", "image": START}]},
            "invalid_controls_model",
            "ControlNet “canny_xl” is for SDXL; “starter” is SD 1.x.",
        ),
        ({"hires": {"upscaler": "esrgn"}}, "invalid_hires_upscaler", "“esrgn” is not here."),
        (
            {"hires": {"sampler": "DDIM", "schedule": "Karras"}},
            "invalid_hires_schedule",
            "DDIM does not go with Karras.",
        ),
        (
            {"hires": {"scale": 8.0}},
            "invalid_hires_scale",
            "4096 × 4096 is more than this studio makes (4.2 megapixels).",
        ),
    ],
)
def test_a_part_that_does_not_fit_is_refused_in_one_sentence(
    fields: dict[str, object], code: str, words: str, models: ModelList
) -> None:
    with pytest.raises(StudioError) as refused:
        resolved(models, **fields)
    assert (refused.value.code, refused.value.message) == (code, words)
    assert refused.value.hint


def test_the_largest_hires_pass_that_fits_is_named(models: ModelList) -> None:
    with pytest.raises(StudioError) as refused:
        resolved(models, hires={"scale": 8.0})
    assert refused.value.hint == "Upscale by at most 4."


def test_names_become_refs(models: ModelList) -> None:
    recipe = resolved(
        models,
        controls=[{"model": "Canny", "image": START, "weight": 0.5}],
        hires={"upscaler": "ESRGAN", "sampler": "DPM++ 2M"},
        width=512,
        height=512,
    )
    (control,) = recipe.controls
    assert (control.model.name, control.model.kind, control.weight) == ("canny", "controlnet", 0.5)
    assert isinstance(recipe.hires, Hires) and isinstance(recipe.hires.upscaler, ModelRef)
    assert (recipe.hires.upscaler.name, recipe.hires.sampler, recipe.hires.schedule) == ("esrgan", "dpmpp_2m", "karras")
    again = resolve(
        RecipeDraft.model_validate_json(recipe.canonical_json()), Finder(models), max_pixels=2048**2, size_of=SIZES.get
    )
    assert again.recipe == recipe


@pytest.mark.parametrize(
    ("asked", "name"), [("Latent (nearest-exact)", "latent_nearest_exact"), ("Lanczos", "lanczos"), ("None", "nearest")]
)
def test_upscalers_are_found_by_the_fields_names(asked: str, name: str, models: ModelList) -> None:
    assert resolved(models, hires={"upscaler": asked}).hires.upscaler == name


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"image": GONE}, "invalid_image", "The picture is not here."),
        (
            {"image": START, "upscaler": "latent"},
            "invalid_upscaler",
            "Latent upscales latents, and this is a finished picture.",
        ),
        ({"image": START, "upscaler": "another"}, "invalid_upscaler", "“another” is not here."),
        (
            {"image": PHOTO, "scale": 8.0},
            "invalid_scale",
            "3000 × 2000 upscaled 8 times is more than this studio makes (67 megapixels).",
        ),
    ],
)
def test_an_upscale_that_can_not_be_done_is_refused_in_one_sentence(
    fields: dict[str, object], code: str, words: str, models: ModelList
) -> None:
    with pytest.raises(StudioError) as refused:
        resolve_upscale(Upscale.model_validate_json(json.dumps(fields)), Finder(models), SIZES.get, 2048**2)
    assert (refused.value.code, refused.value.message) == (code, words)


@pytest.mark.parametrize(
    ("fields", "size", "keeps"),
    [
        ({"init_image": {"image": ODD}, "mask": {"image": ODD}}, (496, 336), True),
        ({"init_image": {"image": LARGE}, "mask": {"image": LARGE}}, (1024, 1024), True),
        ({"init_image": {"image": PHOTO}, "mask": {"image": PHOTO}}, (624, 416), True),
        ({"init_image": {"image": LARGE}, "mask": {"image": LARGE}, "width": 512, "height": 512}, (512, 512), False),
        (
            {"init_image": {"image": LARGE}, "mask": {"image": LARGE, "keep_size": True}, "width": 512, "height": 512},
            (512, 512),
            True,
        ),
        ({"init_image": {"image": PHOTO}, "mask": {"image": PHOTO, "area": "masked"}}, (512, 512), False),
    ],
)
def test_under_a_mask_the_picture_keeps_its_size_unless_one_is_asked_for(
    fields: dict[str, object], size: tuple[int, int], keeps: bool, models: ModelList
) -> None:
    recipe = resolved(models, **fields)
    assert (recipe.width, recipe.height) == size and recipe.mask.keep_size is keeps


def test_a_studio_that_makes_less_paints_a_masked_picture_smaller_and_does_not_refuse_it(models: ModelList) -> None:
    recipe = resolved(models, max_pixels=600 * 600, init_image={"image": LARGE}, mask={"image": LARGE})
    assert (recipe.width, recipe.height) == (512, 512) and recipe.mask.keep_size
