"""The shipped model folder: what it holds, how large it is, and that the stock pipeline paints with it."""

import json
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPTokenizer

from training import parts
from training.cards import card_path
from training.drawing.captions import vocabulary
from training.export import MAX_BYTES, folder_bytes
from training.extras import PARTS, place_of
from training.sheet import load_pipeline

MODELS = Path(__file__).parents[2] / "models"
STARTER = MODELS / "starter"


def test_the_folder_stays_under_its_share() -> None:
    assert folder_bytes(STARTER) <= MAX_BYTES


def test_every_part_is_there_with_its_picture_and_all_of_them_stay_under_forty_mebibytes() -> None:
    places = [place_of(part, MODELS) for part in PARTS]
    assert [place for place in places if not place.exists()] == []
    for part in PARTS:
        with Image.open(card_path(part, MODELS)) as card:
            assert card.size == (256, 256)
    others = sum(
        folder_bytes(place) if place.is_dir() else place.stat().st_size for place in [*places, MODELS / parts.UPSCALER]
    )
    assert folder_bytes(STARTER) + others <= 40 * 2**20


def test_its_side_file_names_sizes_and_defaults() -> None:
    side = json.loads((STARTER / "darkroom.json").read_text())
    assert side["family"] == "sd1"
    assert all(width % 8 == 0 and height % 8 == 0 for width, height in side["sizes"].values())
    assert 3 <= len(side["examples"]) <= 6
    known = set(vocabulary()) | {
        "a",
        "an",
        "and",
        "at",
        "in",
        "on",
        "over",
        "the",
        "to",
    }  # the page judges no small words
    assert {word for text in side["examples"] for word in re.findall("[a-z]+", text)} <= known


def test_it_publishes_the_words_it_was_trained_on_each_one_token() -> None:
    tokenizer = CLIPTokenizer.from_pretrained(STARTER / "tokenizer")
    words = (STARTER / "vocabulary.txt").read_text().split()
    assert words == vocabulary() and len(words) == len(set(words)) > 300
    assert [word for word in words if len(tokenizer.tokenize(word)) != 1] == []


def test_the_stock_pipeline_paints_night_darker_than_noon() -> None:
    pipeline = load_pipeline(STARTER)

    def brightness(prompt: str) -> float:
        generator = torch.Generator().manual_seed(1)
        picture = pipeline(
            prompt, num_inference_steps=6, guidance_scale=3.0, width=128, height=128, generator=generator
        ).images[0]
        return float(np.asarray(picture).mean())

    assert brightness("the sea at night") < brightness("desert at noon") - 30
