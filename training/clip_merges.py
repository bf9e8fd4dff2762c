"""Writes the list that CLIP's tokenizer is made of, from the package that publishes it under the MIT license.

    pip download --no-deps open_clip_torch==3.3.0
    python -m training.clip_merges open_clip_torch-3.3.0-py3-none-any.whl

The result is in the repository (`engine/configs/`); this says where it comes from.
`engine/checkpoints/tokenizers.py` reads it.
"""

import gzip
import sys
import zipfile
from pathlib import Path

SOURCE = "open_clip/bpe_simple_vocab_16e6.txt.gz"
TARGET = Path(__file__).parent.parent / "engine" / "configs" / "clip_merges.txt.gz"
MERGES = 49152 - 256 - 2  # what CLIP uses of the list: 49,408 tokens less 512 of bytes and 2 of begin and end


def merges_of(wheel: Path) -> list[str]:
    """The pairs of symbols that CLIP joins, "left right", most frequent first."""
    with zipfile.ZipFile(wheel) as package:
        lines = gzip.decompress(package.read(SOURCE)).decode("utf-8").split("\n")
    return lines[1 : MERGES + 1]  # behind the list's own heading


def write(merges: list[str], target: Path = TARGET) -> None:
    """One a line; the same list gives the same bytes."""
    target.write_bytes(gzip.compress("\n".join(merges).encode("utf-8"), 9, mtime=0))


if __name__ == "__main__":
    write(merges_of(Path(sys.argv[1])))
