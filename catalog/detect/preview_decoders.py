"""Finds tiny decoders for live previews (TAESD and the like).

`engine/` finds by trying whose latents they read. A checkpoint's folder may have its own in `preview_decoder/`
(diffusers' AutoencoderTiny); those for all models are in a folder `vae_approx`, where A1111 and ComfyUI keep them: such
folders, or safetensors files with TAESD's own names.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from catalog.files.folders import read_json
from catalog.files.headers import read_header
from catalog.files.layout import places_of
from catalog.files.weights import weights_files
from contract.errors import ModelProblem

OWN = "preview_decoder"
TINY_CLASS = "AutoencoderTiny"
_SHARED = ("vae_approx", "vae-approx")
_FIRST_LAYER = re.compile(r"(?:(?:taesd_)?decoder\.)?(?:layers\.0|1)\.weight")


def preview_decoders(checkpoint: Path, roots: Sequence[Path]) -> tuple[Path, ...]:
    """Folders and files of tiny decoders that may fit a checkpoint, its own first.

    Args:
        checkpoint: Its folder or file.
        roots: As of `layout.places_of`.
    """
    homes: dict[Path, None] = {}
    for place in places_of(roots):
        homes[place.folder] = None
        homes[place.folder.parent] = None
    candidates = [checkpoint / OWN]
    for home in homes:
        for folder in _files_in(home):
            if folder.name.casefold() in _SHARED:
                candidates += _files_in(folder)
    return tuple(path for path in candidates if _is_tiny_decoder(path))


def _files_in(folder: Path) -> list[Path]:
    """Everything in a folder; nothing where it can't be read."""
    try:
        return [folder / name for name in sorted(os.listdir(folder))]
    except OSError:
        return []


def _is_tiny_decoder(path: Path) -> bool:
    try:
        if path.is_dir():
            return read_json(path / "config.json").get("_class_name") == TINY_CLASS and bool(weights_files(path))
        if path.suffix != ".safetensors":
            return False
        for name, info in read_header(path).items():
            if _FIRST_LAYER.fullmatch(name) and len(info.shape) == 4:
                return True
    except (ModelProblem, OSError):
        pass
    return False
