"""The catalog's entry of one model. `file_models.py` and `folder_models.py` make them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from catalog.distilled import Distilled, distilled_of
from catalog.families import FAMILIES, KNOWN, Defaults, Size
from catalog.files.plain_text import without_controls
from catalog.files.side_files import About
from catalog.samplers import EDM_PREDICTIONS
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
_TEXT_LIMITS: Mapping[str, int] = MappingProxyType(
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
        ref: Its family is one of `families.FAMILIES`, "upscaler", or one that is recognized and not run:
            "flux", "unknown". A VAE file's is "sd": the VAEs of SD 1.x, 2.x and SDXL have the same shapes, so that
            their files can't be distinguished; which to use with what is for people to know.
        problem: Why it can't be used, as a sentence; None when it can.
        warnings: Sentences about settings that were left out because they make no sense; the model can be used.
        format: "folder" (diffusers' layout), "file", or "pickle", which is never opened.
        has_vae: False of a checkpoint file without a VAE inside.
        has_encoders: False of a checkpoint file without text encoders inside.
        borrows_vae: Its VAE is another checkpoint's (`text_encoders.py`).
        zero_snr: Trained to zero terminal signal-to-noise ratio.
        prediction: The prediction that a checkpoint file names: "epsilon", "v_prediction", "edm", "edm_v", or "" (none:
            `Family.usual_prediction`). A folder's is in its scheduler's configuration; here it stands if it is EDM's.
        variant: The input of a checkpoint: "text", "inpaint" (text, or a picture and a mask), "edit"
            (a picture and an instruction: InstructPix2Pix), "depth" (a picture and its depth).
        detail: More about its kind, in words: "LoCon", "SD 3.5 medium".
        words: The vocabulary it knows, when it publishes one; empty means any.
        control_type: Of a ControlNet that has to know what its maps show: the types that they may be.
        notes: By its maker or owner: plain text, up to 4,000 characters.
        trigger_words: To be written into the prompt for it.
        scheduler: The class of a folder's scheduler, which may speak of a method of distillation: "LCMScheduler".
        about: All that its side files and its header say about it.
        alias: Its maker's name for it, where that is not the file's.
        folder: Its subfolder, to group by; "" for none.
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
    has_encoders: bool = True
    borrows_vae: bool = False
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
    scheduler: str = ""
    about: About = About()
    alias: str = ""
    folder: str = ""
    modified: float = 0.0
    short_hash: str = ""
    preview_path: Path | None = None

    @property
    def distilled(self) -> Distilled | None:
        """What its names hint that it was distilled to want; None of most models, and of kinds that never are."""
        if self.ref.kind not in ("checkpoint", "lora"):
            return None
        return distilled_of(self.ref.name, {"modelspec.title": f"{self.alias} {self.scheduler}"}, self.ref.kind)

    @property
    def is_flow(self) -> bool:
        """Whether it is a checkpoint of rectified flow, with which not all samplers go."""
        return self.ref.family in FAMILIES and FAMILIES[self.ref.family].flow_shift > 0

    @property
    def is_edm(self) -> bool:
        """Whether it is a checkpoint of EDM, whose noise has no training timesteps."""
        return self.prediction in EDM_PREDICTIONS

    @property
    def has_own_latents(self) -> bool:
        """Whether its latents are scaled as those of no other model of its family: no other VAE fits."""
        return self.prediction == "edm"

    @property
    def is_zero_snr(self) -> bool:
        """Whether it counts as trained to zero terminal SNR: as its owner says, else as its files do."""
        return self.ref.prediction == "v_zero_snr" if self.ref.prediction else self.zero_snr

    @property
    def has_prediction_choice(self) -> bool:
        """Whether its files leave it open what it predicts: it is a checkpoint that was trained on a noise schedule."""
        is_open = not self.is_flow and not self.is_edm
        return self.ref.kind == "checkpoint" and self.ref.family in FAMILIES and is_open


def sendable(entry: ModelEntry) -> ModelEntry:
    """The entry with texts that can be shown and sent, whatever its file holds.

    Every text can be encoded, and none is endless.
    """
    changes: dict[str, object] = {}
    for name, limit in _TEXT_LIMITS.items():
        text = getattr(entry, name)
        if text is not None:
            changes[name] = without_controls(text)[:limit]
    for name in ("examples", "trigger_words", "warnings", "control_type"):
        changes[name] = tuple(map(without_controls, getattr(entry, name)))
    return replace(entry, **changes)  # type: ignore[arg-type]


def default_model(entries: Sequence[ModelEntry]) -> ModelEntry | None:
    """The model of a draft that names none: the bundled one, which loads at once, else the first that works.

    A refiner only where there is nothing else.
    """
    usable = [entry for entry in entries if entry.problem is None and entry.ref.kind == "checkpoint"]
    for entry in usable:
        if entry.ref.name == BUNDLED:
            return entry
    usable.sort(key=lambda entry: entry.ref.family in KNOWN and bool(KNOWN[entry.ref.family].refines))
    return usable[0] if usable else None


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
