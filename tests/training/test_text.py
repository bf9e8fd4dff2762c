"""The picture slots of the text encoder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from training.drawing.captions import vocabulary
from training.drawing.data import scenes_of
from training.loops.checkpoints import Budget
from training.text import Slots, TextLesson, load_slots, new_slots, patches, phrasings, train_text, unpatched
from training.tokenizer import LENGTH, write_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), vocabulary())


def test_patches_can_be_put_together_again() -> None:
    latents = torch.randn(3, 4, 16, 16)
    assert patches(latents).shape == (3, 16, 64)
    assert unpatched(patches(latents)).equal(latents)


def test_phrasings_are_the_same_each_time_and_leave_the_slots_free(tokenizer: CLIPTokenizer) -> None:
    scenes = scenes_of(1, 40)
    ids = phrasings(tokenizer, scenes, 3, seed=5)
    assert ids.shape == (40, 3, LENGTH)
    assert ids.equal(phrasings(tokenizer, scenes, 3, seed=5))
    ends_early = (ids[:, :, LENGTH - 16] == tokenizer.eos_token_id).float().mean()
    assert ends_early > 0.97


def small_lesson(tokenizer: CLIPTokenizer) -> TextLesson:
    ids = phrasings(tokenizer, scenes_of(1, 8), 2, seed=5)
    generator = torch.Generator().manual_seed(1)
    latents = tuple(torch.randn(8, 4, 16, 16, generator=generator) for _ in range(2))
    return TextLesson(ids, latents, torch.zeros(8, 16, 16))


def test_training_lowers_the_loss_and_goes_on_after_a_stop(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    lesson, path = small_lesson(tokenizer), tmp_path / "text.pt"
    before = lesson.loss(load_slots(path, tokenizer), np.random.default_rng(0)).item()
    train_text(path, Slots(tokenizer), lesson, Budget(steps=8))
    slots = load_slots(path, tokenizer)
    assert lesson.loss(slots, np.random.default_rng(0)).item() < before
    train_text(path, Slots(tokenizer), lesson, Budget(steps=8))
    again = load_slots(path, tokenizer)
    assert all(again.state_dict()[name].equal(value) for name, value in slots.state_dict().items())


def test_a_shipped_encoder_goes_on_unchanged_and_its_head_learns(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    torch.manual_seed(6)
    shipped = Slots(tokenizer).encoder
    shipped.final_layer_norm.weight.data.fill_(1.5)
    shipped.save_pretrained(tmp_path / "text_encoder")
    lesson, fresh = small_lesson(tokenizer), Slots(tokenizer).head.weight
    train_text(tmp_path / "text.pt", new_slots(tokenizer, tmp_path), lesson, Budget(steps=4))
    slots = load_slots(tmp_path / "text.pt", tokenizer)
    assert all(slots.encoder.state_dict()[name].equal(value) for name, value in shipped.state_dict().items())
    assert not slots.head.weight.equal(fresh)
