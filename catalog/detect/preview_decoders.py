"""Tiny decoders for live previews (TAESD and the like): where they lie.

`engine/` finds by trying whose latents they read. A checkpoint's folder may have its own in `preview_decoder/`
(diffusers' AutoencoderTiny); those for all models lie in a folder `vae_approx`, where A1111 and ComfyUI keep them: such
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
    homes = {home: None for place in places_of(roots) for home in (place.folder, place.folder.parent)}
    shared = [
        path
        for home in homes
        for folder in _inside(home)
        if folder.name.casefold() in _SHARED
        for path in _inside(folder)
    ]
    return tuple(path for path in (checkpoint / OWN, *shared) if _is_tiny_decoder(path))


def _inside(folder: Path) -> list[Path]:
    """What is in a folder; nothing where it can't be read."""
    try:
        return [folder / name for name in sorted(os.listdir(folder))]
    except OSError:
        return []


def _is_tiny_decoder(path: Path) -> bool:
    try:
        if path.is_dir():
            return read_json(path / "config.json").get("_class_name") == TINY_CLASS and bool(weights_files(path))
        return path.suffix == ".safetensors" and any(
            _FIRST_LAYER.fullmatch(name) and len(info.shape) == 4 for name, info in read_header(path).items()
        )
    except (ModelProblem, OSError):
        return False
