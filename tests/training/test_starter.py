"""The shipped model folder: what it holds, how large it is, and that the stock pipeline paints with it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training.captions import vocabulary
from training.export import MAX_BYTES, folder_bytes
from training.sheet import load_pipeline

STARTER = Path(__file__).parents[2] / "models" / "starter"
pytestmark = pytest.mark.skipif(not (STARTER / "model_index.json").exists(), reason="no starter model in this checkout")


def test_the_folder_stays_under_24_mib() -> None:
    assert folder_bytes(STARTER) <= MAX_BYTES


def test_its_side_file_names_sizes_and_defaults() -> None:
    side = json.loads((STARTER / "darkroom.json").read_text())
    assert side["family"] == "sd1"
    assert all(width % 8 == 0 and height % 8 == 0 for width, height in side["sizes"].values())
    assert len(side["examples"]) == 3


def test_its_vocabulary_is_what_captions_use() -> None:
    assert (STARTER / "vocabulary.txt").read_text().split() == vocabulary()


def test_the_stock_pipeline_paints_night_darker_than_noon() -> None:
    pipeline = load_pipeline(STARTER)

    def brightness(prompt: str) -> float:
        generator = torch.Generator().manual_seed(1)
        picture = pipeline(prompt, num_inference_steps=6, guidance_scale=3.0, width=128, height=128, generator=generator).images[0]
        return float(np.asarray(picture).mean())

    assert brightness("the sea at night") < brightness("desert at noon") - 30
