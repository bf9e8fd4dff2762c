"""The tokenizer of the starter model."""

from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from training.tokenizer import LENGTH, learn_merges, token_ids, write_tokenizer

WORDS = ["sea", "seagull", "night", "moonlight", "moon", "a"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"), WORDS)


def test_each_known_word_is_one_token(tokenizer: CLIPTokenizer) -> None:
    assert [len(tokenizer.tokenize(word)) for word in WORDS] == [1] * len(WORDS)


def test_unknown_words_fall_into_pieces(tokenizer: CLIPTokenizer) -> None:
    assert len(tokenizer.tokenize("zebra")) > 1


def test_prompts_are_padded_to_one_length(tokenizer: CLIPTokenizer) -> None:
    ids = token_ids(tokenizer, ["moon", "", "sea " * 90])
    assert ids.shape == (3, LENGTH)
    assert (ids[:, 0] == tokenizer.bos_token_id).all()
    assert (ids[:, -1] == tokenizer.eos_token_id).all()


def test_it_loads_again_from_its_folder(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert again("a moonlight sea").input_ids == tokenizer("a moonlight sea").input_ids


def test_merges_make_every_word_whole_and_take_frequent_pairs_first() -> None:
    merges = learn_merges(["bab", "babc", "babd"])
    assert merges[0] == ("b", "a")
    assert {first + second for first, second in merges} >= {"bab</w>", "babc</w>", "babd</w>"}
