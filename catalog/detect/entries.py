"""What the catalog says of one model. Who says it: `file_models.py` and `folder_models.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from catalog.families import Defaults, Size
from catalog.files.plain_text import without_controls
from contract.values import ModelKind, ModelRef

BUNDLED = "starter"
KIND_LABELS: Mapping[ModelKind, str] = MappingProxyType(
    {
        "checkpoint": "checkpoint",
        "vae": "VAE",
        "lora": "LoRA",
        "controlnet": "ControlNet",
        "t2i_adapter": "T2I-Adapter",
        "ip_adapter": "IP-Adapter",
        "embedding": "embedding",
        "upscaler": "upscaler",
        "hypernetwork": "hypernetwork",
    }
)
_TEXTS: Mapping[str, int] = MappingProxyType(
    {
        "title": 300,
        "description": 300,
        "problem": 1_000,
        "hint": 400,
        "detail": 200,
        "notes": 4_000,
        "alias": 300,
        "folder": 300,
    }
)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that was found.

    Attributes:
        ref: Its family is one of `families.FAMILIES`, "upscaler", or one that is told and not run: "sdxl_refiner",
            "sd3", "flux", "unknown". A VAE file's is "sd": the VAEs of SD 1.x, 2.x and SDXL have the same shapes, so
            that a file of one can't be told from another's; which to use with what is for people to know.
        problem: Why it can't be used, as a sentence; None when it can.
        warnings: What was left out of its settings because it makes no sense, in sentences; it can be used.
        format: "folder" (diffusers' layout), "file", or "pickle", which is never opened.
        has_vae: False of a checkpoint file without a VAE inside.
        zero_snr: Trained to zero terminal signal-to-noise ratio.
        prediction: What a checkpoint that is a file says it predicts: "epsilon", "v_prediction", or "" (not told:
            `families.usual_prediction`). Of a folder its scheduler's configuration says it.
        variant: What a checkpoint works from: "text", "inpaint" (text, or a picture and a mask), "edit"
            (a picture and an instruction: InstructPix2Pix), "depth" (a picture and its depth).
        detail: More of what it is, in words: "LoCon", "SD 3.5 medium".
        words: The vocabulary it knows, when it publishes one; empty means any.
        shows: Of a union ControlNet: what its maps may show.
        notes: What its maker or owner wrote: plain text, up to 4,000 characters.
        trigger_words: What to write into the prompt for it.
        alias: The name its maker gave it, where that is not the file's.
        folder: The subfolder it lies in, to group by; "" for none.
        modified: When its file was changed, seconds since the epoch.
        short_hash: The first ten digits of its sha256, "" until that is known.
        preview_path: The side picture, if there is one.
    """

    ref: ModelRef
    path: Path
    title: str
    size_bytes: int = 0
    description: str = ""
    sizes: Mapping[str, Size] = field(default_factory=dict)
    defaults: Defaults = Defaults()
    examples: tuple[str, ...] = ()
    zero_snr: bool = False
    prediction: str = ""
    variant: str = "text"
    has_vae: bool = True
    detail: str = ""
    token_limit: int = 77
    words: frozenset[str] = frozenset()
    control_type: tuple[str, ...] = ()
    problem: str | None = None
    hint: str = ""
    warnings: tuple[str, ...] = ()
    format: str = "folder"
    notes: str = ""
    trigger_words: tuple[str, ...] = ()
    alias: str = ""
    folder: str = ""
    modified: float = 0.0
    short_hash: str = ""
    preview_path: Path | None = None


def sendable(entry: ModelEntry) -> ModelEntry:
    """An entry whose texts can be shown and sent, whatever its file holds.

    Every text can be encoded, and none is endless.
    """
    changes: dict[str, object] = {}
    for name, limit in _TEXTS.items():
        text = getattr(entry, name)
        if text is not None and (cleaned := without_controls(text)[:limit]) != text:
            changes[name] = cleaned
    for name in ("examples", "trigger_words", "warnings", "control_type"):
        texts = getattr(entry, name)
        if (cleaned_all := tuple(map(without_controls, texts))) != texts:
            changes[name] = cleaned_all
    return replace(entry, **changes) if changes else entry  # type: ignore[arg-type]


def default_model(entries: Sequence[ModelEntry]) -> ModelEntry | None:
    """What a draft without a model gets: the bundled one, which loads at once, else the first that works."""
    usable = [entry for entry in entries if entry.problem is None and entry.ref.kind == "checkpoint"]
    return next((entry for entry in usable if entry.ref.name == BUNDLED), usable[0] if usable else None)


def a_kind(kind: ModelKind) -> str:
    """A kind's label in a sentence: "a LoRA", "an embedding"."""
    label = KIND_LABELS[kind]
    return f"{'an' if label[0] in 'aeiouI' else 'a'} {label}"


def last_part(name: str) -> str:
    """A model's name without its folders."""
    return name.rsplit("/", 1)[-1]


def folder_part(name: str) -> str:
    """The folders of a model's name; "" for none."""
    return name.rpartition("/")[0]
