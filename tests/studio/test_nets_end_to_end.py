"""From a tag in a prompt to the picture's file: the real catalog, the real engine, tiny real models."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from contract.errors import StudioError
from contract.events import Done, Saved
from studio.metadata.image_files import KEYWORD
from studio.studio import Studio
from studio.uploads.png_text import read_text
from studio.workers.inline import InlineWorker
from tests.studio.conftest import ME, run
from tests.support import tiny
from tests.support.tiny_loras import ATTENTION, Made, chosen, kohya, make

SMALL = {"steps": 2, "width": 64, "height": 64, "seed": 3}


@pytest.fixture
def studio(tmp_path: Path, make_studio: Callable[..., Studio]) -> Studio:
    models = tmp_path / "models"
    folder = tiny.build("sd1", models / "tiny")
    unet = UNet2DConditionModel.from_pretrained(str(folder / "unet"))
    made = make(chosen({"unet": unet}, ATTENTION), kohya)
    made.save(models / "loras" / "sets" / "ink.safetensors")
    for name, stem in (("flux", "double_blocks_{}_img_attn_qkv"), ("strange", "stranger_{}_to_q")):
        Made(
            {
                f"lora_unet_{stem.format(n)}.{role}.weight": torch.ones(4, 4)
                for n in range(3)
                for role in ("lora_down", "lora_up")
            },
            {},
        ).save(models / "loras" / f"{name}.safetensors")
    (models / "embeddings").mkdir()
    save_file({"emb_params": torch.randn(2, 32)}, models / "embeddings" / "style.safetensors")
    return make_studio(InlineWorker({"device": "cpu", "threads": 1}))


def test_a_tag_and_a_bare_name_reach_the_picture_and_its_text(studio: Studio, tmp_path: Path) -> None:
    events = run(studio, "a cat, style <lora:ink:0.8>", **SMALL)
    assert isinstance(events[-1], Done), events[-1]
    (saved,) = [event for event in events if isinstance(event, Saved)]
    recipe = saved.record.recipe
    assert recipe is not None and recipe.prompt == "a cat, style"
    assert [(use.model.name, use.weight) for use in recipe.loras] == [("sets/ink", 0.8)]
    assert recipe.loras[0].model.sha256 and recipe.embeddings[0].sha256
    file = studio.image_file(saved.record.id, ME)
    with file.open("rb") as opened:
        texts = read_text(opened)
    assert texts["parameters"].startswith("a cat, style <lora:sets/ink:0.8>\n")
    short = recipe.loras[0].model.sha256[:10]
    assert f'Lora hashes: "sets/ink: {short}"' in texts["parameters"] and KEYWORD in texts
    found = studio.read_recipe(file.read_bytes())
    assert found.draft is not None and found.draft["loras"] == [{"model": "sets/ink", "weight": 0.8}]
    again = run(studio, "a cat, style", **SMALL, loras=({"model": "ink", "weight": 0.8},))
    (second,) = [event for event in again if isinstance(event, Saved)]
    assert second.record.recipe == recipe
    plain = run(studio, "a cat, style", **SMALL)
    (third,) = [event for event in plain if isinstance(event, Saved)]
    pictures = [studio.thumbnail_file(one.record.id, ME).read_bytes() for one in (saved, second, third)]
    assert pictures[0] == pictures[1] != pictures[2]


def test_lr08_what_matches_nothing_is_refused_with_its_sentence(studio: Studio) -> None:
    with pytest.raises(StudioError, match="flux: It is for Flux"):
        run(studio, "a cat <lora:flux:1>", **SMALL)
    with pytest.raises(StudioError, match="strange: It is for a model that is not known here"):
        run(studio, "a cat <lora:strange:1>", **SMALL)
