"""Finds models in folders and tells kind and family from their configuration and headers, never names.

A model that can't be used is listed with its problem, so that choosing it gives one clear sentence.
Reads no weights; loading is in `engine/models.py`. Single files join with the model manager's issue.
"""

import os
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from catalog.control_models import control_kind, kind_of_file, read_control_model
from catalog.families import FAMILIES, Defaults, Size
from catalog.folders import MAX_CONFIG_BYTES, fingerprint, read_json, weights_file
from catalog.headers import read_header
from catalog.upscalers import is_upscaler, is_upscaler_file
from contract.errors import ModelProblem
from contract.recipe import ModelRef

SCAN_DEPTH = 4
BUNDLED = "starter"
_PARTS = {"sd1": ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
          "sd2": ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
          "sdxl": ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2",
                   "scheduler")}
Seen = MutableMapping[tuple[str, int, int], bool]  # path, size and time of a file: is it a model
_VARIANTS: Mapping[int, str] = MappingProxyType({4: "text", 9: "inpaint", 8: "edit", 5: "depth"})
_OPTIONAL_PARTS = ("depth_estimator",)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that was found.

    Attributes:
        problem: Why it can't be used, as a sentence; None when it can.
        zero_snr: Trained to zero terminal signal-to-noise ratio.
        variant: What a checkpoint works from: "text", "inpaint" (text, or a picture and a mask), "edit"
            (a picture and an instruction: InstructPix2Pix), "depth" (a picture and its depth).
        words: The vocabulary it knows, when it publishes one; empty means any.
        shows: Of a union ControlNet: what its maps may show.
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
    variant: str = "text"
    token_limit: int = 77
    words: frozenset[str] = frozenset()
    shows: tuple[str, ...] = ()
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
    usable = [entry for entry in entries if entry.problem is None and entry.ref.kind == "checkpoint"]
    return next((entry for entry in usable if entry.ref.name == BUNDLED), usable[0] if usable else None)


def scan(roots: Sequence[Path], seen: Seen | None = None) -> tuple[ModelEntry, ...]:
    """Every model below the roots, sorted by title; a name found twice keeps the first.

    Args:
        seen: What earlier scans found of single files; their headers are not read again, and it is added to.
    """
    seen = {} if seen is None else seen
    entries: dict[str, ModelEntry] = {}
    for root in roots:
        for path in _models_below(root, SCAN_DEPTH, seen):
            name = path.relative_to(root).with_suffix("").as_posix() if path.is_file() else _name(path, root)
            entries.setdefault(name, describe(path, name))
    return tuple(sorted(entries.values(), key=lambda entry: entry.title.lower()))


def _name(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix() if folder != root else folder.name


def _models_below(folder: Path, depth: int, seen: Seen) -> Iterator[Path]:
    """Folders that are models, and files that are; nothing within a model is one."""
    if (folder / "model_index.json").is_file() or control_kind(folder):
        yield folder
        return
    if depth == 0:
        return
    try:
        found = sorted((e for e in os.scandir(folder) if not e.name.startswith(".")), key=lambda e: e.path)
    except OSError:
        return
    for child in found:
        if child.is_dir():
            yield from _models_below(Path(child.path), depth - 1, seen)
        elif child.name.endswith(".safetensors") and child.is_file() and _is_model_file(child, seen):
            yield Path(child.path)


def _is_model_file(file: os.DirEntry[str], seen: Seen) -> bool:
    """Whether a file is a model by itself; a library of a thousand LoRAs is looked into once."""
    status = file.stat()
    key = (file.path, status.st_size, status.st_mtime_ns)
    if key not in seen:
        try:
            header = read_header(Path(file.path))
            seen[key] = kind_of_file(header) is not None or is_upscaler(header)
        except ModelProblem:
            seen[key] = False
    return seen[key]


def describe(path: Path, name: str) -> ModelEntry:
    """Read what a model says of itself; a damaged one gets a `problem`."""
    if path.is_file() and is_upscaler_file(path):
        return _describe_upscaler(path, name)
    kind = control_kind(path)
    try:
        return _describe_control(path, name) if kind else _describe(path, name)
    except ModelProblem as problem:
        ref = ModelRef(kind=kind or "checkpoint", name=name, family="unknown", fingerprint="")
        return ModelEntry(ref, path, name, problem=f"{name}: {problem.message}", hint=problem.hint)


def _describe_control(path: Path, name: str) -> ModelEntry:
    found = read_control_model(path)
    ref = ModelRef(kind=found.kind, name=name, family=found.family, fingerprint=fingerprint(found.root, found.weights))
    return ModelEntry(ref, path, title=name.rsplit("/", 1)[-1], shows=found.shows,
                      size_bytes=sum(file.stat().st_size for file in found.weights))


def _describe_upscaler(path: Path, name: str) -> ModelEntry:
    ref = ModelRef(kind="upscaler", name=name, family="upscaler", fingerprint=fingerprint(path.parent, (path,)))
    return ModelEntry(ref, path, title=name.rsplit("/", 1)[-1], size_bytes=path.stat().st_size)


def _describe(folder: Path, name: str) -> ModelEntry:
    if any(folder.rglob("*.py")):
        raise ModelProblem("The folder holds Python code, which Darkroom never runs.",
                           "Remove the .py files, or use another model.")
    index = read_json(folder / "model_index.json")
    unet = read_json(folder / "unet" / "config.json")
    family = _family(index, unet)
    side = read_json(folder / "darkroom.json") if (folder / "darkroom.json").is_file() else {}
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    weights = [weights_file(folder / part) for part in (*_PARTS[family], *optional_parts(folder))
               if not part.startswith(("tokenizer", "scheduler"))]
    facts = FAMILIES[family]
    ref = ModelRef(name=name, family=family, fingerprint=fingerprint(folder, weights))
    entry = ModelEntry(
        ref, folder, title=_text(side, "title") or name.rsplit("/", 1)[-1],
        size_bytes=sum(path.stat().st_size for path in weights),
        description=_text(side, "description"), sizes=facts.sizes, defaults=facts.defaults,
        variant=_VARIANTS[unet["in_channels"]], zero_snr=bool(scheduler.get("rescale_betas_zero_snr")),
        token_limit=_token_limit(folder), words=_words(folder))
    return _with_side_file(entry, side)


def _family(index: Mapping[str, Any], unet: Mapping[str, Any]) -> str:
    if unet.get("in_channels") not in _VARIANTS:
        raise ModelProblem(f"Its U-Net takes {unet.get('in_channels')} channels; known are "
                           "4 (text), 9 (inpainting), 8 (editing) and 5 (depth).", "Use another checkpoint.")
    if index.get("text_encoder_2") and index.get("text_encoder", [None])[0]:
        return "sdxl"
    if index.get("text_encoder_2"):
        raise ModelProblem("It is an SDXL refiner, which can't start a picture.", "Use an SDXL base.")
    return "sd2" if unet.get("cross_attention_dim") == 1024 else "sd1"


def optional_parts(folder: Path) -> tuple[str, ...]:
    """Parts that only some checkpoints of a family have, and this one does."""
    return tuple(part for part in _OPTIONAL_PARTS if (folder / part / "config.json").is_file())


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
