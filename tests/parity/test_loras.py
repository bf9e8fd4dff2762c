"""LoRAs against diffusers with peft: the same file, the same picture, whatever the form of its names.

peft runs the small layers beside the big ones at every step; here they lie in the weights. Tiny real models.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from catalog.files.folders import fingerprint
from catalog.models import ModelEntry
from contract.recipe import ModelRef
from contract.work import WorkDone, WorkImage, WorkNotice, path_key
from engine.engine import Engine
from tests.parity.test_stock_pipelines import stock_latents, stock_scheduler
from tests.support.tiny_loras import ATTENTION, CONV, Made, chosen, kohya, kohya_xl, make

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
STEPS = 3


def pipeline(entry: ModelEntry) -> Any:
    kind = StableDiffusionXLPipeline if entry.ref.family == "sdxl" else StableDiffusionPipeline
    pipe = kind.from_pretrained(str(entry.path), local_files_only=True, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def parts(pipe: Any) -> dict[str, torch.nn.Module]:
    return {
        name: part
        for name, part in pipe.components.items()
        if name in ("unet", "text_encoder", "text_encoder_2") and part is not None
    }


def as_kohya(pipe: Any) -> Made:
    """Attention of the U-Net and all text encoders."""
    name_of = kohya_xl if "text_encoder_2" in parts(pipe) else kohya
    return make(chosen(parts(pipe), ATTENTION), name_of)


def as_locon(pipe: Any) -> Made:
    """The U-Net's convolutions too."""
    return make(chosen({"unet": pipe.unet}, CONV), kohya)


def as_trained(pipe: Any, **how: object) -> Made:
    """What peft itself makes and diffusers saves."""
    config = LoraConfig(
        r=4,
        lora_alpha=4,
        target_modules=["to_q", "to_k", "to_v", "to_out.0", "proj_in", "conv1"],
        init_lora_weights="gaussian",
        **how,
    )
    pipe.unet.add_adapter(config)
    generator = torch.Generator().manual_seed(3)
    for name, tensor in pipe.unet.named_parameters():
        if "lora_B" in name:
            tensor.data = torch.randn(tensor.shape, generator=generator) * 0.2
        elif "magnitude" in name:
            tensor.data = tensor.data * (1 + 0.3 * torch.rand(tensor.shape, generator=generator))
    tensors = get_peft_model_state_dict(pipe.unet)
    pipe.unet.delete_adapters("default")
    return Made({f"unet.{name}": tensor.detach().clone() for name, tensor in tensors.items()}, {})


MAKERS: dict[str, Callable[[Any], Made]] = {
    "kohya": as_kohya,
    "kohya LoCon": as_locon,
    "peft": as_trained,
    "DoRA": lambda pipe: as_trained(pipe, use_dora=True),
}


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
@pytest.mark.parametrize("form", MAKERS)
def test_the_picture_equals_diffusers_with_peft(
    form: str,
    kind: str,
    entries: dict[str, ModelEntry],
    engine: Engine,
    make_recipe: Callable[..., Any],
    make_work_item: Callable[..., Any],
    tmp_path: Path,
) -> None:
    pipe = pipeline(entries[kind])
    config = dict(pipe.scheduler.config)
    file = MAKERS[form](pipe).save(tmp_path / "ink.safetensors")
    weight = 1.0 if form == "DoRA" else 0.8
    pipe.load_lora_weights(tmp_path, weight_name=file.name, adapter_name="ink")
    pipe.set_adapters("ink", weight)
    model = ModelRef(
        kind="lora", name="ink", family=entries[kind].ref.family, fingerprint=fingerprint(tmp_path, (file,))
    )
    recipe = make_recipe(
        kind, steps=STEPS, sampler="euler_a", schedule="simple", loras=({"model": model, "weight": weight},)
    )
    pipe.scheduler, _ = stock_scheduler("euler_a", "simple", config)
    (theirs,) = stock_latents(recipe, pipe, {"num_inference_steps": STEPS}, output_type="np")
    work_item = make_work_item(recipe)
    work_item = replace(work_item, model_paths={**work_item.model_paths, path_key(model): str(file)})
    events = list(engine.generate(work_item, lambda: False))
    assert isinstance(events[-1], WorkDone) and not [one for one in events if isinstance(one, WorkNotice)], events[-1]
    (ours,) = [event.pixels for event in events if isinstance(event, WorkImage)]
    (plain,) = [
        event.pixels
        for event in engine.generate(make_work_item(recipe.model_copy(update={"loras": ()})), lambda: False)
        if isinstance(event, WorkImage)
    ]
    stock = (theirs * 255).round().astype(int)
    mine, without = (
        np.frombuffer(image.rgb, dtype=np.uint8).reshape(stock.shape).astype(int) for image in (ours, plain)
    )
    assert np.abs(mine - stock).max() <= 1  # a difference of 1e-7 may round to the next of 256 levels
    assert (mine != stock).mean() < 1e-2
    assert (mine != without).mean() > 0.1
