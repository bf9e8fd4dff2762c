"""Fixed prompts and seeds painted by an exported model, on one sheet to look at."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

PROMPTS = (
    "desert at noon", "the sea at night, full moon", "green hills at sunset, a sailboat on the lake", "aurora over snow, mountains, night",
    "a red canyon, storm, lightning", "lavender field at dusk, a windmill", "a meadow in the morning, a horse", "autumn forest in the fog",
    "a lighthouse by the sea at sunset", "city at night, stars", "a red hot air balloon over golden hills", "beach at dawn, a palm tree",
    "a house in the snow at night", "a castle on green hills, rainbow", "golden desert at sunset, a camel", "an island with a volcano at noon, sailboat",
)  # fmt: skip


def load_pipeline(folder: Path) -> StableDiffusionPipeline:
    """The stock pipeline, silent."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def paint_sheet(folder: Path, path: Path, steps: int = 16, guidance: float = 4.0) -> None:
    """Paint PROMPTS, seed = position, four a row at 128x128 pixels, and save the sheet."""
    pipeline = load_pipeline(folder)
    whole = Image.new("RGB", (4 * 130, (len(PROMPTS) + 3) // 4 * 130))
    for index, prompt in enumerate(PROMPTS):
        generator = torch.Generator().manual_seed(index)
        picture = pipeline(prompt, num_inference_steps=steps, guidance_scale=guidance, width=128, height=128, generator=generator).images[0]
        whole.paste(picture, (index % 4 * 130, index // 4 * 130))
    whole.save(path)
