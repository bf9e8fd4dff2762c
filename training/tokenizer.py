"""A CLIPTokenizer of our own: byte pairs merged until each word we know is one token."""

import itertools
import json
from collections import Counter
from pathlib import Path

from transformers import CLIPTokenizer

LENGTH = 48  # tokens a prompt, with its start and end; the last 16 carry pictures, see text.py
_START, _END = "<|startoftext|>", "<|endoftext|>"


def _byte_letters() -> list[str]:
    """The 256 printable stand-ins for bytes that CLIP's byte-level vocabulary uses, in its order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in plain] + [chr(256 + n) for n in range(256 - len(plain))]


def _merge(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for piece in pieces:
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return out


def learn_merges(words: list[str]) -> list[tuple[str, str]]:
    """Merge the most frequent neighbors, first in spelling on a tie, until every word is one piece."""
    split = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while any(len(pieces) > 1 for pieces in split):
        pairs = Counter(pair for pieces in split for pair in itertools.pairwise(pieces))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = [_merge(pieces, best) for pieces in split]
    return merges


def write_tokenizer(folder: Path, words: list[str]) -> CLIPTokenizer:
    """Write vocab.json, merges.txt and tokenizer_config.json, and load them as anyone would."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = _byte_letters()
    merges = learn_merges(words)
    tokens = [
        *letters,
        *(letter + "</w>" for letter in letters),
        *dict.fromkeys(a + b for a, b in merges),
        _START,
        _END,
    ]
    (folder / "vocab.json").write_text(
        json.dumps({token: index for index, token in enumerate(tokens)}, ensure_ascii=False), encoding="utf-8"
    )
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, "bos_token": _START, "eos_token": _END,
        "unk_token": _END, "pad_token": _END, "do_lower_case": True, "add_prefix_space": False,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    special = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)


def token_ids(tokenizer: CLIPTokenizer, texts: list[str]):
    """Token ids (B, LENGTH), padded with the end token, as the pipeline makes them."""
    return tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids
