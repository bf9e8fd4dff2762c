"""The text encoders of a checkpoint that is one file: inside it, or files of their own beside it.

Files of the later families often hold a transformer and a VAE alone, and people keep the text encoders in a folder
`text_encoders` or `clip` (ComfyUI) for all of them. Which fit is told by widths, never by names. Source of the places:
the makers' repositories and ComfyUI's folders.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from catalog.families.family import Family
from catalog.families.ldm_checkpoints import UNET
from catalog.files.folders import fingerprint, settings_of, stamp_of
from catalog.files.formats import SAFETENSORS
from catalog.files.headers import read_header
from catalog.files.tensor_names import Tensors, first_shape, has_prefix
from contract.errors import ModelProblem

_FOLDERS = ("text_encoders", "text_encoder", "clip")
_LEVELS = 4  # folders above a checkpoint in which these are looked for
_MOST_FILES = 64  # of a folder
CLIP_TABLES = ("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight")
T5_TABLES = ("shared.weight", "encoder.embed_tokens.weight")
_T5_LAYER = "encoder.block.0.layer.0.SelfAttention.q.weight"
TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class FoundEncoders:
    """Where the text encoders of a checkpoint are.

    Attributes:
        beside: By component: a file of its own.
        missing: Components that are neither inside nor beside.
        t5: The file of T5, or its folder; None where there is none.
        t5_tokenizer: Its folder; without one T5 can't be used.
        wants_t5: Whether its family has one.
    """

    beside: Mapping[str, Path]
    missing: tuple[str, ...] = ()
    t5: Path | None = None
    t5_tokenizer: Path | None = None
    wants_t5: bool = True

    @property
    def has_t5(self) -> bool:
        """Whether T5 can be used."""
        return self.t5 is not None and self.t5_tokenizer is not None

    @property
    def warning(self) -> str:
        """What lacks, as a sentence for people; "" where nothing does."""
        if self.has_t5 or not self.wants_t5:
            return ""
        if self.t5 is None:
            return "It has no T5 text encoder: CLIP alone reads the prompts, long sentences less exactly."
        return "Its T5 text encoder is not used: put its tokenizer, the folder tokenizer_3, beside it."


NO_ENCODERS = FoundEncoders({}, wants_t5=False)


def find_encoders(checkpoint: Path, family: Family) -> FoundEncoders:
    """The text encoders of a checkpoint, a file or a folder in diffusers' layout.

    Raises:
        ModelProblem: the checkpoint's header can't be read.
    """
    if family.t5 is None:
        return NO_ENCODERS
    if checkpoint.is_dir():
        has_t5 = (checkpoint / family.t5.component / "config.json").is_file()
        t5 = checkpoint / family.t5.component if has_t5 else None
        return FoundEncoders({}, t5=t5, t5_tokenizer=_tokenizer_in([checkpoint], family.t5.tokenizers))
    header = read_header(checkpoint)
    inside = {encoder.component for encoder in family.text_encoders if has_prefix(header, _prefix_of(encoder.prefix))}
    t5 = checkpoint if has_prefix(header, family.t5.key_prefix) else None
    wanted = [encoder.component for encoder in family.text_encoders if encoder.component not in inside]
    homes = list(_homes(checkpoint.parent))
    beside: dict[str, Path] = {}
    if wanted or t5 is None:
        clips, t5s = _files_in(homes)
        pooled, width = _widths(header, family)
        for file, t5_width in t5s:
            if t5 is None and t5_width == width:
                t5 = file
        if wanted:
            beside = _fitting_pair(clips, wanted, pooled)
    missing = tuple(component for component in wanted if component not in beside)
    tokenizer = None
    if t5 is not None:
        tokenizer = _tokenizer_in([t5.parent, *homes], family.t5.tokenizers)
    return FoundEncoders(beside, missing, t5, tokenizer)


def identity_of(checkpoint: Path, family: Family) -> str:
    """A checkpoint's fingerprint that covers the text encoders beside it; T5's only where it is used.

    Raises:
        ModelProblem, OSError: a file can't be read.
    """
    found = find_encoders(checkpoint, family)
    own = fingerprint(checkpoint.parent, (checkpoint,), settings_of(checkpoint, "checkpoint"))
    others = [fingerprint(file.parent, (file,)) for file in found.beside.values()]
    if found.t5 is not None and found.t5_tokenizer is not None:
        t5 = "" if found.t5 == checkpoint else stamp_of(found.t5)
        others.append(f"{t5} {stamp_of(found.t5_tokenizer)}")
    if not others:
        return own
    return hashlib.sha256(" ".join([own, *others]).encode()).hexdigest()[:16]


def _prefix_of(prefix: str) -> str:
    return f"{prefix}transformer."


def _widths(header: Tensors, family: Family) -> tuple[int, int]:
    """Of the pooled prompt embeds and the prompt embeds that a denoiser takes; 0 where it doesn't show."""
    for names in family.conditioning:
        shapes = [first_shape(header, UNET + name, name) for name in names]
        if all(len(shape) == 2 for shape in shapes):
            return shapes[0][1], shapes[1][1]
    return 0, 0


def _homes(folder: Path) -> Iterator[Path]:
    """The checkpoint's own folder, and folders of text encoders in it and above."""
    yield folder
    for level in (folder, *list(folder.parents)[:_LEVELS]):
        for name in _FOLDERS:
            if (level / name).is_dir():
                yield level / name


def _files_in(homes: list[Path]) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
    """CLIPs and T5s that are files of their own, each with its width, in the order of the folders and by name."""
    clips, t5s = [], []
    for home in homes:
        try:
            names = sorted(name for name in os.listdir(home) if name.lower().endswith(SAFETENSORS))
        except OSError:
            continue
        for name in names[:_MOST_FILES]:
            file = home / name
            try:
                header = read_header(file) if file.is_file() else {}
            except (ModelProblem, OSError):
                continue
            clip, t5 = first_shape(header, *CLIP_TABLES), first_shape(header, *T5_TABLES)
            if len(clip) == 2:
                clips.append((file, clip[1]))
            elif len(t5) == 2 and _T5_LAYER in header:
                t5s.append((file, t5[1]))
    return clips, t5s


def _fitting_pair(clips: list[tuple[Path, int]], wanted: list[str], pooled: int) -> dict[str, Path]:
    """The first two whose widths add up to the pooled embeds': the narrower is the first encoder."""
    for file, width in clips:
        for other, other_width in clips:
            if width < other_width and width + other_width == pooled:
                pair = dict(zip(("text_encoder", "text_encoder_2"), (file, other), strict=True))
                return {component: pair[component] for component in wanted}
    return {}


def _tokenizer_in(homes: list[Path], names: tuple[str, ...]) -> Path | None:
    """The first folder with a T5 tokenizer."""
    for home in homes:
        for name in names:
            if (home / name / TOKENIZER_FILE).is_file():
                return home / name
    return None
