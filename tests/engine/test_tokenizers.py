"""The tokenizer that is shipped is CLIP's."""

import gzip
import zipfile
from pathlib import Path

import pytest

from engine.checkpoints.tokenizers import END, MERGES, ClipTokenizers, clip_tokenizer
from training.clip_merges import SOURCE, merges_of, write


def test_a_known_sentence_has_its_known_numbers() -> None:
    ids = clip_tokenizer(END)("a photo of a cat").input_ids
    assert ids == [49406, 320, 1125, 539, 320, 2368, 49407]


@pytest.mark.parametrize(("padding", "number"), [(END, 49407), ("!", 0)])
def test_a_prompt_is_filled_up_as_its_encoder_was_trained(padding: str, number: int) -> None:
    tokenizer = clip_tokenizer(padding)
    ids = tokenizer("cat", padding="max_length").input_ids
    assert (len(tokenizer), len(ids), ids[:3], set(ids[3:])) == (49408, 77, [49406, 2368, 49407], {number})


def test_the_list_is_taken_from_the_package_as_it_is(tmp_path: Path) -> None:
    lines = gzip.decompress(MERGES.read_bytes()).decode("utf-8")
    wheel = tmp_path / "package.whl"
    with zipfile.ZipFile(wheel, "w") as package:
        package.writestr(SOURCE, gzip.compress(f"heading\n{lines}\nmore than\nCLIP uses".encode()))
    write(merges_of(wheel), tmp_path / "again.gz")
    assert gzip.decompress((tmp_path / "again.gz").read_bytes()).decode("utf-8") == lines


def test_single_files_share_a_tokenizer() -> None:
    """Building one takes a third of a second, at every load of a checkpoint that is one file."""
    kept = ClipTokenizers()
    assert kept.padded_with(END) is kept.padded_with(END)
    assert kept.padded_with(END).pad_token != kept.padded_with("!").pad_token
