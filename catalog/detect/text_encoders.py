"""The text encoders of a checkpoint that is one file: inside it, files of their own beside it, or another checkpoint's.

Many files hold a denoiser alone, and people keep the text encoders in a folder `text_encoders` or `clip` (ComfyUI) for
all of them. Where they don't, a whole checkpoint of the same family lends its own, and its VAE, if only one could.
Which fit is told by widths, never by names. Source of the places: the makers' repositories and ComfyUI's folders.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from catalog.families.family import Family
from catalog.families.ldm_checkpoints import CROSS_ATTENTION, UNET
from catalog.files.folders import fingerprint, settings_of, stamp_of
from catalog.files.formats import WEIGHTS
from catalog.files.headers import MAX_HEADER_BYTES, read_header
from catalog.files.tensor_names import Tensors, first_shape, first_width, has_prefix
from contract.errors import ModelProblem

_FOLDERS = ("text_encoders", "text_encoder", "clip")
_CHECKPOINTS = ("checkpoints", "checkpoint", "Stable-diffusion", "stable-diffusion")
_LEVELS = 4  # folders above a checkpoint in which these are looked for
_MOST_FILES = 64  # of a folder
VAE = "first_stage_model."
CLIP_TABLES = ("text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight")
T5_TABLES = ("shared.weight", "encoder.embed_tokens.weight")
_T5_LAYER = "encoder.block.0.layer.0.SelfAttention.q.weight"
TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class FoundEncoders:
    """Where the text encoders of a checkpoint are.

    Attributes:
        beside: By component: a file of its own, or a checkpoint that lends it; the VAE too, where one lends it.
        lenders: Whole checkpoints that could lend their own: used if there is one, not if there are several.
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
    lenders: tuple[Path, ...] = ()

    @property
    def lends_vae(self) -> bool:
        """Whether a VAE is lent."""
        return "vae" in self.beside

    @property
    def borrowed(self) -> str:
        """What another checkpoint lends, as a sentence for people; "" where nothing is lent."""
        lent = [component for component, file in self.beside.items() if file in self.lenders]
        if not lent:
            return ""
        encoders = len(lent) - self.lends_vae
        words = ["text encoder" if encoders == 1 else "text encoders"] if encoders else []
        words += ["VAE"] if self.lends_vae else []
        return f"It uses the {' and the '.join(words)} of “{self.lenders[0].stem}”."

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
    if checkpoint.is_dir():
        if family.t5 is None:
            return NO_ENCODERS
        has_t5 = (checkpoint / family.t5.component / "config.json").is_file()
        t5 = checkpoint / family.t5.component if has_t5 else None
        return FoundEncoders({}, t5=t5, t5_tokenizer=_tokenizer_in([checkpoint], family.t5.tokenizers))
    header = read_header(checkpoint)
    wanted = [encoder.component for encoder in family.text_encoders if not has_prefix(header, *encoder.marks)]
    t5 = checkpoint if family.t5 and has_prefix(header, family.t5.key_prefix) else None
    if not wanted and (t5 or family.t5 is None):
        return FoundEncoders({}, t5=t5, t5_tokenizer=_tokenizer_of(t5, checkpoint, family), wants_t5=bool(family.t5))
    homes = list(_homes(checkpoint.parent))
    pooled, width = _widths(header, family)
    clips, t5s = _files_in(homes)
    if t5 is None and family.t5:
        t5 = next((file for file, t5_width in t5s if t5_width == width), None)
    beside = _fitting(clips, wanted, pooled, len(family.text_encoders)) if wanted else {}
    lenders: tuple[Path, ...] = ()
    if len(wanted) == len(family.text_encoders):
        has_vae = has_prefix(header, VAE)
        if not beside or not has_vae:
            lenders = _lenders(checkpoint, family, pooled)
        if len(lenders) == 1:
            lent = [*([] if beside else wanted), *([] if has_vae else ["vae"])]
            beside |= dict.fromkeys(lent, lenders[0])
            if t5 is None and family.t5 and has_prefix(read_header(lenders[0]), family.t5.key_prefix):
                t5 = lenders[0]
    missing = tuple(component for component in wanted if component not in beside)
    return FoundEncoders(beside, missing, t5, _tokenizer_of(t5, checkpoint, family), bool(family.t5), lenders)


def identity_of(checkpoint: Path, family: Family) -> str:
    """A checkpoint's fingerprint that covers the text encoders beside it; T5's only where it is used.

    Raises:
        ModelProblem, OSError: a file can't be read.
    """
    found = find_encoders(checkpoint, family)
    own = fingerprint(checkpoint.parent, (checkpoint,), settings_of(checkpoint, "checkpoint"))
    others = [fingerprint(file.parent, (file,)) for file in dict.fromkeys(found.beside.values())]
    if found.t5 is not None and found.t5_tokenizer is not None:
        t5 = "" if found.t5 == checkpoint else stamp_of(found.t5)
        others.append(f"{t5} {stamp_of(found.t5_tokenizer)}")
    if not others:
        return own
    return hashlib.sha256(" ".join([own, *others]).encode()).hexdigest()[:16]


def _widths(header: Tensors, family: Family) -> tuple[int, int]:
    """Of what CLIPs make up together, and the prompt embeds that a denoiser takes; 0 where it doesn't show."""
    if family.unet is not None:
        width = first_width(header, CROSS_ATTENTION)
        return width, width
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
        for file in _weights_in(home):
            try:
                header = read_header(file)
            except (ModelProblem, OSError):
                continue
            clip, t5 = first_shape(header, *CLIP_TABLES), first_shape(header, *T5_TABLES)
            if len(clip) == 2:
                clips.append((file, clip[1]))
            elif len(t5) == 2 and _T5_LAYER in header:
                t5s.append((file, t5[1]))
    return clips, t5s


def _weights_in(folder: Path) -> list[Path]:
    """The first files of weights in a folder, by name."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.lower().endswith(WEIGHTS))
    except OSError:
        return []
    return [folder / name for name in names[:_MOST_FILES] if (folder / name).is_file()]


def _fitting(clips: list[tuple[Path, int]], wanted: list[str], pooled: int, count: int) -> dict[str, Path]:
    """The first of that width, or the first two whose widths add up to it: the narrower is the first encoder."""
    if count == 1:
        fitting = [file for file, width in clips if width == pooled]
        return {wanted[0]: fitting[0]} if fitting else {}
    for file, width in clips:
        for other, other_width in clips:
            if width < other_width and width + other_width == pooled:
                pair = dict(zip(("text_encoder", "text_encoder_2"), (file, other), strict=True))
                return {component: pair[component] for component in wanted}
    return {}


def _lenders(checkpoint: Path, family: Family, pooled: int) -> tuple[Path, ...]:
    """Whole checkpoints of the family in its own folder and in folders of checkpoints above; two at most."""
    marks = [[f'"{prefix}'.encode() for prefix in encoder.marks] for encoder in family.text_encoders]
    folders = [checkpoint.parent]
    for level in (checkpoint.parent, *list(checkpoint.parent.parents)[:_LEVELS]):
        folders += [level / name for name in _CHECKPOINTS if (level / name).is_dir()]
    found: dict[Path, None] = {}
    for folder in folders:
        for file in _weights_in(folder):
            if file == checkpoint or not _begins_with_all(file, marks):
                continue
            try:
                header = read_header(file)
            except (ModelProblem, OSError):
                continue
            is_whole = has_prefix(header, UNET) and has_prefix(header, VAE)
            if is_whole and _widths(header, family)[0] == pooled:
                found[file.resolve()] = None
            if len(found) > 1:
                return tuple(found)
    return tuple(found)


def _begins_with_all(file: Path, marks: list[list[bytes]]) -> bool:
    """Whether the header of a safetensors file has one text of each list; quick, nothing of it is parsed."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 2 <= length <= MAX_HEADER_BYTES:
                return False
            raw = opened.read(length)
    except OSError:
        return False
    return all(any(mark in raw for mark in of_one) for of_one in marks)


def _tokenizer_of(t5: Path | None, checkpoint: Path, family: Family) -> Path | None:
    """The tokenizer of a T5; None without one."""
    if t5 is None or family.t5 is None:
        return None
    return _tokenizer_in([t5.parent, *_homes(checkpoint.parent)], family.t5.tokenizers)


def _tokenizer_in(homes: list[Path], names: tuple[str, ...]) -> Path | None:
    """The first folder with a T5 tokenizer."""
    for home in homes:
        for name in names:
            if (home / name / TOKENIZER_FILE).is_file():
                return home / name
    return None
