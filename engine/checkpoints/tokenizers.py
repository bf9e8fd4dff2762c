"""The tokenizers of a checkpoint: its folder's own, or CLIP's, which is bundled and serves every single file.

Knows no prompts; how a prompt becomes chunks of tokens is in `adapters/prompt_encoder.py`.
"""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import CLIPTokenizer

from contract.errors import ModelProblem
from engine.checkpoints.foreign_config import blame_config

MERGES = Path(__file__).parents[1] / "configs" / "clip_merges.txt.gz"
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
PADDING_OPEN = "!"  # of OpenCLIP's encoders; OpenAI's are padded with END
_LENGTH = 77  # tokens, begin and end included
_BYTES = 256


def read_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer of a folder.

    Raises:
        ModelProblem: there is none, or it can't be read.
    """
    # Without these files transformers makes an empty tokenizer, without an error.
    if not (folder / "tokenizer.json").is_file() and not (folder / "vocab.json").is_file():
        raise ModelProblem(f"{folder.name} has neither tokenizer.json nor vocab.json.", "Download the model again.")
    with blame_config(f"{folder.name} can't be read", "Download the model again."):
        return CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)


class ClipTokenizers:
    """CLIP's own tokenizers, each built once: a third of a second, and every load of a single file asks for one."""

    def __init__(self) -> None:
        self._built: dict[str, CLIPTokenizer] = {}

    def padded_with(self, padding: str) -> CLIPTokenizer:
        """The tokenizer with a padding token, as of `clip_tokenizer`; shared, so nobody may add tokens to it."""
        if padding not in self._built:
            self._built[padding] = clip_tokenizer(padding)
        return self._built[padding]


def clip_tokenizer(padding: str) -> CLIPTokenizer:
    """CLIP's own tokenizer.

    Args:
        padding: The token after a prompt's end: END or PADDING_OPEN.
    """
    # The 256 characters that stand for bytes: printable ones for themselves, the rest by those from 256 on.
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = range(_BYTES, 2 * _BYTES - len(plain))
    letters = [chr(code) for code in (*plain, *rest)]
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    with gzip.open(MERGES, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            left, right = line.split()
            merges.append((left, right))
            words.append(left + right)
    words += [BEGIN, END]
    return CLIPTokenizer(
        vocab={word: number for number, word in enumerate(words)},
        merges=merges,
        unk_token=END,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=padding,
        model_max_length=_LENGTH,
    )


def check_vocabulary(tokenizers: Mapping[str, CLIPTokenizer], modules: Mapping[str, nn.Module]) -> None:
    """Refuse a tokenizer that has more tokens than its text encoder.

    Raises:
        ModelProblem: it has more.
    """
    for encoder, tokenizer in tokenizers.items():
        config: Any = modules[encoder].config
        known = config.vocab_size
        if len(tokenizer) > known:
            raise ModelProblem(
                f"The tokenizer knows {len(tokenizer):,} tokens; {encoder} was made for {known:,}.",
                "Use the tokenizer that came with the model.",
            )
