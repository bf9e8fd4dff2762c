"""What can be known before a job waits is said before it waits; the queue never holds what must fail."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from contract import events
from contract.errors import InvalidInput, InvalidRecipe, ModelProblem
from contract.recipe import RecipeDraft
from contract.tasks import Preprocess, Upscale
from contract.validation import parse_draft
from studio.studio import Studio
from tests.studio.conftest import ME, finish, run
from tests.support.images import encoded, png
from tests.support.model_folders import make_model

SIZE = (64, 64)


def draft(**fields: Any) -> RecipeDraft:
    return parse_draft(json.dumps({"prompt": "sea", **fields}))


def _drawn(ground: object, mark: object | None = None, mode: str = "RGB") -> bytes:
    image = Image.new(mode, SIZE, ground)  # type: ignore[arg-type]
    if mark is not None:
        ImageDraw.Draw(image).rectangle((8, 8, 24, 24), fill=mark)  # type: ignore[arg-type]
    return encoded(image, "PNG")


def _inpaint(studio: Studio, mask: bytes, **fields: Any) -> dict[str, Any]:
    start, kept = studio.add_upload(png(SIZE, color="blue"), ME), studio.add_upload(mask, ME)
    return {"init_image": {"image": {"sha256": start.sha256}}, "mask": {"image": {"sha256": kept.sha256}, **fields}}


@pytest.mark.parametrize(
    ("mask", "fields"),
    [
        (_drawn("black"), {}),
        (_drawn("white"), {"invert": True}),
        (_drawn("black"), {"soft": True}),
        (_drawn("black", (127, 127, 127)), {}),
        (_drawn("white", (129, 129, 129)), {"invert": True}),
        (_drawn((0, 0, 0, 0), mode="RGBA"), {}),
        (_drawn((255, 255, 255, 0), mode="RGBA"), {}),
        (_drawn("black"), {"area": "masked"}),
        (encoded(Image.new("L", SIZE, 0), "PNG"), {}),
        (encoded(Image.new("1", SIZE, 0), "PNG"), {}),
        (encoded(Image.new("L", SIZE, 255), "PNG"), {"invert": True, "soft": True}),
    ],
    ids=range(11),
)
def test_an_empty_mask_is_refused_before_it_waits(studio: Studio, mask: bytes, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="mask is empty") as caught:
        studio.submit(draft(**_inpaint(studio, mask, **fields)), ME)
    assert caught.value.code == "invalid_mask" and studio.queue(ME) == ()


@pytest.mark.parametrize(
    ("mask", "fields", "said"),
    [
        (_drawn("black", "white"), {}, []),
        (_drawn("white", "black"), {"invert": True}, []),
        (_drawn("black", (9, 9, 9)), {"soft": True}, []),
        (_drawn("black", (128, 128, 128)), {}, []),
        (_drawn((0, 0, 0, 0), (255, 255, 255, 190), "RGBA"), {}, []),
        (_drawn("white"), {}, ["mask_of_all"]),
        (_drawn("black"), {"invert": True}, ["mask_of_all"]),
    ],
    ids=range(7),
)
def test_a_mask_with_something_in_it_goes_on(
    studio: Studio, mask: bytes, fields: dict[str, Any], said: list[str]
) -> None:
    told = finish(studio, studio.submit(draft(**_inpaint(studio, mask, **fields)), ME).id)
    assert isinstance(told[-1], events.Done)
    assert [e.code for e in told if isinstance(e, events.Notice) and e.code.startswith("mask")] == said


def _gone(path: Path) -> None:
    path.unlink()


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def _zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("harm", [_gone, _emptied, _cut, _zeroed])
def test_a_picture_that_is_gone_or_damaged_is_named_before_it_waits(
    studio: Studio, harm: Callable[[Path], None]
) -> None:
    start, mask, other = (studio.add_upload(_drawn(ground, "white"), ME) for ground in ("blue", "black", "green"))
    whole = {"init_image": {"image": {"sha256": start.sha256}}, "mask": {"image": {"sha256": mask.sha256}}}
    control = {"image": {"sha256": other.sha256}, "model": "canny"}
    assert studio.submit(draft(**whole), ME)
    for kept, field, fields in (
        (other, "controls_image", {"controls": [control]}),
        (other, "ip_adapters_image", {"ip_adapters": [control]}),
        (mask, "mask_image", whole),
        (start, "init_image_image", whole),
    ):
        path = studio._uploads.path(kept.sha256)
        data = path.read_bytes()
        harm(path)
        with pytest.raises(InvalidInput, match="is not here") as caught:
            studio.submit(draft(**fields), ME)
        assert caught.value.code == f"invalid_{field}"
        path.unlink(missing_ok=True)
        path.write_bytes(data)
    harm(studio._uploads.path(other.sha256))
    ref = {"image": {"sha256": other.sha256}}
    for ask in (
        lambda: studio.upscale(Upscale.model_validate(ref), ME),
        lambda: studio.preprocess(Preprocess.model_validate({**ref, "preprocessor": "canny"}), ME),
    ):
        with pytest.raises(InvalidInput, match="is not here"):
            ask()


@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "hires_prompt", "hires_negative_prompt"])
@pytest.mark.parametrize(
    "text",
    [
        "(cat:1e999)",
        "a (b:99999999999999999999999999999999999999999999999999) c",
        "[sea:(moon:1e999):0.5]",
        "[sea|(moon:-1e999)]",
    ],
)
def test_a_weight_that_is_no_number_is_refused_at_its_field_or_is_no_weight(
    studio: Studio, field: str, text: str
) -> None:
    """Whatever the grammar takes for a weight: the engine never meets one that it refuses."""
    fields: dict[str, Any] = {"steps": 10}
    if field.startswith("hires_"):
        fields["hires"] = {field.removeprefix("hires_"): text}
    else:
        fields[field] = text
    try:
        told = finish(studio, studio.submit(draft(**fields), ME).id)
    except InvalidRecipe as error:
        assert error.code == f"invalid_{field}" and "weight" in error.message and studio.queue(ME) == ()
    else:
        assert isinstance(told[-1], events.Done)


@pytest.mark.parametrize("field", ["weight", "text_weight", "blocks"])
@pytest.mark.parametrize("value", ["1e999", "-1e999", "NaN", "Infinity", "11", "-10.5", '"x"', "null", "[1]", "true"])
def test_absurd_weights_are_refused_as_they_are_read(field: str, value: str) -> None:
    text = f"[{', '.join([value] * 17)}]" if field == "blocks" else value
    if (field, value) == ("text_weight", "null"):
        return  # as the weight
    with pytest.raises(InvalidRecipe) as caught:
        parse_draft(f'{{"prompt": "", "loras": [{{"model": "x", "{field}": {text}}}]}}')
    assert caught.value.code.startswith(("invalid_loras", "invalid_recipe"))


def _lora(path: Path, width: int) -> None:
    header = json.dumps(
        {
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": {
                "dtype": "U8",
                "shape": [4, width],
                "data_offsets": [0, 4 * width],
            }
        }
    ).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4 * width))


@pytest.fixture
def stocked(tmp_path: Path, make_studio: Callable[..., Studio]) -> Studio:
    """With a LoRA of SDXL, a damaged checkpoint, and a depth model without its estimator."""
    models = tmp_path / "models"
    make_model(models)
    _lora(models / "loras" / "wide.safetensors", 2048)
    (models / "cut.safetensors").write_bytes(b"\xff" * 40)
    folder = make_model(models, "depth")
    (folder / "unet/config.json").write_text(json.dumps({"in_channels": 5, "cross_attention_dim": 16}))
    return make_studio()


def test_models_that_do_not_fit_or_are_damaged_are_named_before_they_wait(stocked: Studio) -> None:
    start = {"init_image": {"image": {"sha256": stocked.add_upload(png(SIZE), ME).sha256}}}
    for fields, words in (
        ({"loras": [{"model": "wide"}]}, "SDXL"),
        ({"prompt": "<lora:wide:1>"}, "SDXL"),
        ({"model": "cut"}, "cut"),
        ({"model": "depth", **start}, "no depth_estimator"),
    ):
        with pytest.raises((InvalidRecipe, ModelProblem), match=words):
            stocked.submit(draft(**fields), ME)
    assert stocked.queue(ME) == ()
    depth = {"init_image": {**start["init_image"], "depth": start["init_image"]["image"]}}
    assert isinstance(finish(stocked, stocked.submit(draft(model="depth", **depth), ME).id)[-1], events.Done)


def test_a_long_prompt_is_judged_quickly(studio: Studio) -> None:
    assert isinstance(run(studio, "[sea:moon:0.5], " * 4_000, steps=150)[-1], events.Done)
