"""Writes the trained parts as an ordinary diffusers folder in half precision, swapped in file by file."""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from catalog.families import sd1
from training.drawing.captions import vocabulary
from training.models import new_scheduler

MAX_BYTES = 28 * 2**20  # of the 40 MiB that all parts may have
_CATALOG = {
    "title": "Starter",
    "description": (
        "Soft painted scenes: landscapes at any time of day, and seventy things in them. "
        "Trained by Darkroom itself on pictures it drew."
    ),
    "family": sd1.FAMILY.id,
    "sizes": {"square": [128, 128], "wide": [160, 96], "tall": [96, 160]},
    "defaults": {
        "sampler": "ddim",
        "schedule": "sgm_uniform",
        "steps": 20,
        "guidance": 4.0,
        "width": 128,
        "height": 128,
        "cfg_rescale": 0,
    },
    "examples": [
        "a red sailboat at sea, at sunset, the sun",
        "a penguin in the snow, at night, aurora",
        "two hot air balloons over green hills in the morning",
        "a teapot and an apple on a table, rainbow",
        "a lighthouse on an island, at night, full moon",
    ],
    "license": "Apache-2.0",
}


def folder_bytes(folder: Path) -> int:
    """Size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _swap(source: Path, target: Path) -> None:
    """Move every file of source over target, each in one rename, weights before the index."""
    files = sorted((p for p in source.rglob("*") if p.is_file()), key=lambda p: p.name == "model_index.json")
    for path in files:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
    shutil.rmtree(source)


def _load_as_float32(config: Path) -> None:
    """Name float32 in a text encoder's config.

    transformers loads the named type, diffusers float32, and they must agree.
    """
    values = json.loads(config.read_text())
    values.pop("torch_dtype", None)
    config.write_text(json.dumps({**values, "dtype": "float32"}, indent=2, sort_keys=True) + "\n")


def _forget_origin(config: Path) -> None:
    """Drop the path that a part was loaded from."""
    values = json.loads(config.read_text())
    values.pop("_name_or_path", None)
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def export(
    target: Path, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, unet: UNet2DConditionModel, vae: AutoencoderKL
) -> int:
    """Write the pipeline, its vocabulary and its side file into target.

    Returns:
        Bytes of the whole folder, at most MAX_BYTES.
    Raises:
        ValueError: The folder came out larger than MAX_BYTES.
    """
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=new_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    temporary = target.with_name(target.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    pipeline.to(torch.float16).save_pretrained(temporary, safe_serialization=True)
    pipeline.to(torch.float32)
    _forget_origin(temporary / "vae" / "config.json")
    _load_as_float32(temporary / "text_encoder" / "config.json")
    (temporary / "vocabulary.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    (temporary / "darkroom.json").write_text(json.dumps(_CATALOG, indent=2) + "\n", encoding="utf-8")
    _swap(temporary, target)
    size = folder_bytes(target)
    if size > MAX_BYTES:
        raise ValueError(f"{target.name} has {size} bytes, more than the {MAX_BYTES} that it may have")
    return size
