"""What changes nothing, or not what was meant, is said: one Notice each, and none where all is well."""

from pathlib import Path

import pytest
from PIL import Image

from catalog.models import ModelEntry
from contract.errors import InvalidInput
from contract.events import Notice
from contract.recipe import ModelRef, Recipe
from studio.resolve.no_effect import without_effect
from studio.studio import Studio
from studio.uploads.uploads import grays_of
from tests.studio.conftest import ME, draft, finish
from tests.support.images import encoded

PICTURES = {
    "photo": Image.effect_noise((16, 16), 80).convert("RGB"),
    "clear": Image.new("RGBA", (16, 16), (9, 9, 9, 0)),
    "white": Image.new("L", (16, 16), 255),
    "black": Image.new("L", (16, 16), 0),
    "gray": Image.new("L", (16, 16), 100),
    "spot": Image.new("L", (16, 16), 0),
    "ghost": Image.new("RGBA", (16, 16), (255, 255, 255, 0)),
}
PICTURES["spot"].paste(255, (4, 4, 8, 8))
REFS = {name: {"sha256": f"{place:064x}"} for place, name in enumerate(PICTURES)}
BY_SHA = {REFS[name]["sha256"]: picture for name, picture in PICTURES.items()}


def ref(kind: str, name: str = "ink") -> dict[str, str]:
    return {"kind": kind, "name": name, "family": "sd1"}


def said(variant: str = "text", **changes: object) -> list[str]:
    recipe = Recipe.model_validate(
        {
            "prompt": "a barn",
            "model": ref("checkpoint", "starter"),
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
    entry = ModelEntry(ModelRef(name="starter", family="sd1"), Path("starter"), "Starter", variant=variant)
    return [
        code
        for code, _ in without_effect(
            recipe, entry, BY_SHA.get, lambda sha256: (), lambda sha256: grays_of(BY_SHA[sha256])
        )
    ]


def start(name: str = "photo", **more: object) -> dict[str, object]:
    return {"init_image": {"image": REFS[name], **more}}


def masked(name: str, **more: object) -> dict[str, object]:
    return {**start(), "mask": {"image": REFS[name], **more}}


def control(name: str = "spot", **more: object) -> dict[str, object]:
    return {"controls": ({"model": ref("controlnet"), "image": REFS[name], **more},)}


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({}, []),
        ({"loras": ({"model": ref("lora"), "weight": 0.0},)}, ["no_effect"]),
        ({"loras": ({"model": ref("lora"), "weight": 0.0, "text_weight": 1.0},)}, []),
        ({"loras": ({"model": ref("lora"), "blocks": (0.0,) * 17},)}, ["no_effect"]),
        ({"hypernetworks": ({"model": ref("hypernetwork"), "weight": 0.0},)}, ["no_effect"]),
        (control(), []),
        (control(weight=0.0), ["no_effect"]),
        (control(start=0.41, end=0.44), ["no_effect"]),
        (control(start=0.4, end=0.45), []),
        (control("ghost"), ["blank_map"]),
        (control("black"), ["blank_map"]),
        (control("black", preprocessor="canny"), []),
        ({"ip_adapters": ({"model": ref("ip_adapter"), "image": REFS["photo"], "weight": 0.0},)}, ["no_effect"]),
        ({"guidance": 1.0, "negative_prompt": "blurry"}, ["no_effect"]),
        ({"guidance": 1.0}, []),
        ({"prompt": "embedding:gone, a barn"}, ["unknown_embedding"]),
        ({"negative_prompt": "(embedding:bad-hands:1.2)"}, ["unknown_embedding"]),
        ({"negative_prompt": "embedding:bad", "embeddings": (ref("embedding", "style/bad"),)}, []),
        (start(), []),
        (start(strength=0.0), ["no_effect"]),
        (start(strength=0.01), ["hardly_any_effect"]),
        (start(image_guidance=2.0), ["no_effect"]),
        (start(depth=REFS["photo"]), ["no_effect"]),
        (start("clear"), ["blank_picture"]),
        ({"hires": {"strength": 0.0}}, ["no_effect"]),
        ({"hires": {"strength": 0.5}}, []),
        (masked("spot"), []),
        (masked("white"), ["mask_of_all"]),
        (masked("black", invert=True), ["mask_of_all"]),
        (masked("gray", soft=True), ["mask_of_one_gray"]),
        (masked("white", soft=True), ["mask_of_all"]),
    ],
)
def test_what_has_no_effect_is_said(changes: dict[str, object], codes: list[str]) -> None:
    assert said(**changes) == codes


def test_a_model_for_inpainting_wants_a_mask() -> None:
    assert said("inpaint") == ["model_for_inpainting"] == said("inpaint", **start())
    assert said("inpaint", **masked("spot")) == []
    assert said("edit", **start(strength=0.0, image_guidance=2.0)) == said("depth", **start(depth=REFS["photo"])) == []


def test_a_job_tells_each_once_and_what_was_noted_of_its_pictures(studio: Studio) -> None:
    frames = [Image.effect_noise((64, 64), spread).convert("RGB") for spread in (20, 60, 90)]
    stored = studio.add_upload(encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]), ME)
    assert stored.notices == ("The picture is an animation of 3 frames; the first one is used.",)
    job = studio.submit(draft(init_image={"image": {"sha256": stored.sha256}, "strength": 0.0}, count=2), ME)
    notices = [event for event in finish(studio, job.id) if isinstance(event, Notice)]
    assert [notice.code for notice in notices] == ["first_frame", "no_effect"]


def test_a_picture_that_is_damaged_on_the_disk_is_refused_by_name(studio: Studio) -> None:
    stored = studio.add_upload(encoded(PICTURES["spot"], "PNG"), ME)
    path = studio.upload_file(stored.sha256, ME)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InvalidInput, match="The start picture is not here"):
        studio.submit(
            draft(init_image={"image": {"sha256": stored.sha256}}, mask={"image": {"sha256": stored.sha256}}), ME
        )
