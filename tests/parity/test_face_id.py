"""FaceID against diffusers: the same vector of a face, the same latents; the LoRA inside the file acts in both.

Faces are read by a stand-in: insightface and its models are people's own.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image

from catalog.models import ModelEntry, describe
from contract.recipe import Recipe
from engine.adapters.face_id import Face
from engine.models.manager import ModelManager
from tests.engine.conftest import CPU
from tests.parity.test_controls import OTHER_REF, STEPS, TOLERANCE, Mode, our_latents, stock_latents
from tests.parity.test_start_pictures import set_scheduler, smooth_picture
from tests.support import tiny_controls

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("most_likely_latents"),
]
VECTOR = torch.nn.functional.normalize(torch.randn(512, generator=torch.Generator().manual_seed(1)), dim=0)
CROP = smooth_picture().resize((224, 224), Image.Resampling.BILINEAR)
NAMES = {"faceid": "ip-adapter-faceid", "faceid plus": "ip-adapter-faceid-plus", "v2": "ip-adapter-faceid-plusv2"}


@pytest.mark.parametrize(
    ("kind", "family"), [("faceid", "sdxl"), ("faceid plus", "sd1"), ("v2", "sd1"), ("v2", "sdxl")]
)
def test_latents_equal_diffusers_with_the_same_face(
    kind: str,
    family: str,
    entries: dict[str, ModelEntry],
    make_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    pipeline = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    pipe: Any = pipeline.from_pretrained(str(entries[family].path), local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.first_config = dict(pipe.scheduler.config)
    made = "faceid" if kind == "faceid" else "faceid plus"
    file = tmp_path / "ip" / f"{NAMES[kind]}.safetensors"
    tiny_controls.build_ip_adapter(pipe.unet, file, 50, made, with_encoder=kind != "faceid")
    entry = describe(file, NAMES[kind])
    assert (entry.problem, entry.detail) == (None, "FaceID" if kind == "faceid" else "FaceID Plus")
    entry = replace(entry, ref=entry.ref.model_copy(update={"family": family}))  # too small to be told by its widths

    more = {} if made == "faceid plus" else {"image_encoder_folder": None}
    pipe.load_ip_adapter(str(file.parent), subfolder="", weight_name=file.name, local_files_only=True, **more)
    pipe.set_ip_adapter_scale(0.7)
    (projection,) = pipe.unet.encoder_hid_proj.image_projection_layers
    if made == "faceid plus":
        patches = pipe.prepare_ip_adapter_image_embeds([CROP], None, torch.device("cpu"), 1, True)[0]
        projection.clip_embeds, projection.shortcut = patches, kind == "v2"
    vectors = torch.stack([torch.zeros_like(VECTOR), VECTOR])[:, None, None]

    monkeypatch.setattr("engine.adapters.ip_adapter.face_of", lambda image, root: Face(VECTOR.numpy(), CROP))
    unit = {"model": entry.ref, "image": OTHER_REF, "weight": 0.7}
    recipe = make_recipe(family, steps=STEPS, guidance=2.0, ip_adapters=(unit,), sampler="euler_a", schedule="uniform")
    models = ModelManager(CPU)
    ours, sampling = our_latents(recipe, entries[family], {"face": entry}, models)
    set_scheduler(pipe, recipe, sampling)
    told = {"ip_adapter_image_embeds": [vectors]}
    theirs = stock_latents(Mode(family, pipeline.__name__, told=told), recipe, pipe)
    assert torch.isfinite(ours).all()
    assert (ours - theirs).abs().max() <= TOLERANCE * max(1.0, float(theirs.std()))
    # Without it, all is as before, to the bit: the LoRA inside is off again.
    without = recipe.model_copy(update={"ip_adapters": ()})
    plain, _ = our_latents(without, entries[family], {}, models)
    fresh, _ = our_latents(without, entries[family], {}, ModelManager(CPU))
    assert torch.equal(plain, fresh) and not torch.allclose(plain, ours, atol=1e-2)
    assert np.isclose(np.linalg.norm(VECTOR.numpy()), 1)
