"""Fixed prompts and seeds painted by an exported model, on one sheet to look at."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

PROMPTS = (
    "a red sailboat at sea, at sunset, the sun", "a penguin in the snow, at night, aurora",
    "a lighthouse on an island, at night, full moon",
    "a teapot on a table, at noon", "a red hot air balloon over golden hills", "a cat on the beach, at dawn",
    "an elephant in the golden desert, at noon, the sun", "three mushrooms in the green forest, fog",
    "a castle on green hills, rainbow, in the morning",
    "a green train by a river, at sunset", "a whale at sea, at noon", "an apple and a banana on a table, at sunset",
    "a small house on the left in a meadow, at night, stars", "a big owl in the forest, at night, crescent moon",
    "a yellow car in the city, at night, fireworks", "a rocket over the desert, at dusk, stars",
    "a swan on a lake, lanterns in the sky, at night", "a cow in a lavender field, in the morning, clouds",
    "two orange butterflies in a meadow, at noon", "a cactus on the right in a red canyon, at sunset",
    "a white rabbit in the snow, snowing, in the morning",
    "a blue umbrella on the beach, at noon, the sun", "desert at noon", "aurora over snow, mountains, at night",
)  # fmt: skip


def load_pipeline(folder: Path) -> StableDiffusionPipeline:
    """The stock pipeline, silent."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def paint_sheet(folder: Path, path: Path, steps: int = 20, guidance: float = 4.0) -> None:
    """Paint PROMPTS, seed = position, eight a row at 128x128 pixels, and save the sheet."""
    pipeline = load_pipeline(folder)
    whole = Image.new("RGB", (8 * 130, (len(PROMPTS) + 7) // 8 * 130))
    for index, prompt in enumerate(PROMPTS):
        generator = torch.Generator().manual_seed(index)
        picture = pipeline(
            prompt, num_inference_steps=steps, guidance_scale=guidance, width=128, height=128, generator=generator
        ).images[0]
        whole.paste(picture, (index % 8 * 130, index // 8 * 130))
    whole.save(path)
