"""Finds models in folders and tells kind and family from their configuration and headers, never names.

A model that can't be used is listed with its problem, so that choosing it gives one clear sentence.
Reads no weights; loading is in `engine/models.py`. Single files join with the model manager's issue.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from catalog.families import FAMILIES, Defaults, Size
from catalog.headers import read_header
from contract.errors import ModelProblem
from contract.recipe import ModelRef

MAX_CONFIG_BYTES = 4_000_000
SCAN_DEPTH = 4
BUNDLED = "starter"
_PARTS = {"sd1": ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
          "sd2": ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
          "sdxl": ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2",
                   "scheduler")}


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that was found.

    Attributes:
        problem: Why it can't be used, as a sentence; None when it can.
        zero_snr: Trained to zero terminal signal-to-noise ratio.
        words: The vocabulary it knows, when it publishes one; empty means any.
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
    token_limit: int = 77
    words: frozenset[str] = frozenset()
    problem: str | None = None
    hint: str = ""

    @property
    def preview_path(self) -> Path | None:
        """The side picture, if there is one."""
        for name in ("preview.jpg", "preview.png"):
            if (self.path / name).is_file():
                return self.path / name
        return None


def default_model(entries: Sequence[ModelEntry]) -> ModelEntry | None:
    """What a draft without a model gets: the bundled one, which loads at once, else the first that works."""
    usable = [entry for entry in entries if entry.problem is None]
    return next((entry for entry in usable if entry.ref.name == BUNDLED), usable[0] if usable else None)


def scan(roots: Sequence[Path]) -> tuple[ModelEntry, ...]:
    """Every model below the roots, sorted by title; a name found twice keeps the first."""
    entries: dict[str, ModelEntry] = {}
    for root in roots:
        for folder in _model_folders(root, SCAN_DEPTH):
            name = folder.relative_to(root).as_posix() if folder != root else folder.name
            entries.setdefault(name, describe(folder, name))
    return tuple(sorted(entries.values(), key=lambda entry: entry.title.lower()))


def _model_folders(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "model_index.json").is_file():
        yield folder
        return
    if depth == 0:
        return
    try:
        children = sorted(e.path for e in os.scandir(folder)
                          if not e.name.startswith(".") and e.is_dir())
    except OSError:
        return
    for child in children:
        yield from _model_folders(Path(child), depth - 1)


def describe(folder: Path, name: str) -> ModelEntry:
    """Read what a diffusers folder says of itself; a damaged one gets a `problem`."""
    try:
        return _describe(folder, name)
    except ModelProblem as problem:
        ref = ModelRef(name=name, family="unknown", fingerprint="")
        return ModelEntry(ref, folder, name, problem=f"{name}: {problem.message}", hint=problem.hint)


def _describe(folder: Path, name: str) -> ModelEntry:
    if any(folder.rglob("*.py")):
        raise ModelProblem("The folder holds Python code, which Darkroom never runs.",
                           "Remove the .py files, or use another model.")
    index = read_json(folder / "model_index.json")
    unet = read_json(folder / "unet" / "config.json")
    family = _family(index, unet)
    side = read_json(folder / "darkroom.json") if (folder / "darkroom.json").is_file() else {}
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    weights = [weights_file(folder / part) for part in _PARTS[family]
               if not part.startswith(("tokenizer", "scheduler"))]
    facts = FAMILIES[family]
    ref = ModelRef(name=name, family=family, fingerprint=_fingerprint(folder, weights))
    entry = ModelEntry(
        ref, folder, title=_text(side, "title") or name.rsplit("/", 1)[-1],
        size_bytes=sum(path.stat().st_size for path in weights),
        description=_text(side, "description"), sizes=facts.sizes, defaults=facts.defaults,
        zero_snr=bool(scheduler.get("rescale_betas_zero_snr")),
        token_limit=_token_limit(folder), words=_words(folder))
    return _with_side_file(entry, side)


def _family(index: Mapping[str, Any], unet: Mapping[str, Any]) -> str:
    if unet.get("in_channels") != 4:
        raise ModelProblem(f"Its U-Net takes {unet.get('in_channels')} channels; 4 are supported so far.",
                           "Use a text-to-image checkpoint.")
    if index.get("text_encoder_2") and index.get("text_encoder", [None])[0]:
        return "sdxl"
    if index.get("text_encoder_2"):
        raise ModelProblem("It is an SDXL refiner, which can't start a picture.", "Use an SDXL base.")
    return "sd2" if unet.get("cross_attention_dim") == 1024 else "sd1"


def weights_file(part: Path) -> Path:
    """The weights of one part of a diffusers folder, its header read and found sound.

    Raises:
        ModelProblem: there is none that can be used.
    """
    for name in ("diffusion_pytorch_model", "model"):
        for suffix in (".safetensors", ".fp16.safetensors"):
            if (part / (name + suffix)).exists():
                read_header(part / (name + suffix))
                return part / (name + suffix)
    if any(part.glob("*.bin")):
        raise ModelProblem(f"{part.name} holds a pickle (.bin), which can run code when opened.",
                           "Convert it to safetensors first.")
    raise ModelProblem(f"{part.name} has no .safetensors file.", "Download the model again.")


def _fingerprint(folder: Path, weights: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(weights):
        status = path.stat()
        with path.open("rb") as file:
            head = hashlib.sha256(file.read(65536)).hexdigest()
        digest.update(f"{path.relative_to(folder)}|{status.st_size}|{status.st_mtime_ns}|{head}\n".encode())
    return digest.hexdigest()[:16]


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file as a table.

    Raises:
        ModelProblem: it is missing, too large, or not a JSON object.
    """
    where = f"{path.parent.name}/{path.name}"
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ModelProblem(f"{where} is too large for a configuration.", "Download it again.")
        data = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelProblem(f"{where} is missing.", "Download the model again.") from None
    except (OSError, ValueError, RecursionError):
        raise ModelProblem(f"{where} can't be read as JSON.", "Download the model again.") from None
    if not isinstance(data, dict):
        raise ModelProblem(f"{where} is not a table.", "Download the model again.")
    return data


def _text(side: Mapping[str, Any], key: str) -> str:
    value = side.get(key, "")
    return value[:300] if isinstance(value, str) else ""


def _token_limit(folder: Path) -> int:
    limit = read_json(folder / "tokenizer" / "tokenizer_config.json").get("model_max_length", 77)
    return limit if isinstance(limit, int) and 8 <= limit <= 77 else 77


def _words(folder: Path) -> frozenset[str]:
    path = folder / "vocabulary.txt"
    if not path.is_file() or path.stat().st_size > MAX_CONFIG_BYTES:
        return frozenset()
    return frozenset(line.strip().lower() for line in path.read_text("utf-8").splitlines() if line.strip())


def _with_side_file(entry: ModelEntry, side: Mapping[str, Any]) -> ModelEntry:
    """darkroom.json may give sizes, defaults and examples; what it says wrongly is a problem."""
    try:
        sizes = {str(k): (int(w), int(h)) for k, (w, h) in side.get("sizes", {}).items()}
        defaults = replace(entry.defaults, **side.get("defaults", {}))
        examples = tuple(str(text)[:200] for text in side.get("examples", ()))
    except (TypeError, ValueError, AttributeError):
        raise ModelProblem("darkroom.json can't be understood.", "Correct or remove it.") from None
    return replace(entry, sizes=MappingProxyType(sizes) if sizes else entry.sizes,
                   defaults=defaults, examples=examples[:6])
