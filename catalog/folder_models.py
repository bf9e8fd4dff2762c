"""Models that are a folder in diffusers' layout: checkpoints, ControlNets, T2I-Adapters, VAEs; told by configuration."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from catalog.control_models import control_kind, read_control_model
from catalog.entries import ModelEntry, folder_part, last_part
from catalog.families import FAMILIES
from catalog.finding import Found, is_vae_folder
from catalog.folders import MAX_CONFIG_BYTES, fingerprint, read_json, settings_of, weights_file
from catalog.sniff import VARIANTS
from catalog.sniffed import Sniffed, refused_family
from contract.errors import ModelProblem
from contract.values import ModelRef

_PARTS = {"sd1": ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
          "sd2": ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
          "sdxl": ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2",
                   "scheduler")}
_OPTIONAL_PARTS = ("depth_estimator",)
_TRANSFORMERS: Mapping[str, str] = MappingProxyType({
    "SD3Transformer2DModel": "sd3", "FluxTransformer2DModel": "flux"})
_SDXL_SCALING = 0.13025  # of the latents: the one thing by which SDXL's VAE differs in its configuration


def describe_folder(found: Found) -> ModelEntry:
    """The entry of a folder in diffusers' layout."""
    kind = control_kind(found.path)
    is_vae = kind is None and not (found.path / "model_index.json").is_file() and is_vae_folder(found.path)
    try:
        entry = (describe_control(found) if kind else _describe_vae(found) if is_vae
                 else _describe_checkpoint(found.path, found.name))
    except (ModelProblem, OSError) as error:
        problem = error if isinstance(error, ModelProblem) else _unreadable(error)
        ref = ModelRef(kind=kind or ("vae" if is_vae else "checkpoint"), name=found.name, family="unknown")
        entry = ModelEntry(ref, found.path, last_part(found.name), problem=f"{found.name}: {problem.message}",
                           hint=problem.hint)
    preview = next((found.path / name for name in ("preview.jpg", "preview.png") if (found.path / name).is_file()), None)
    return replace(entry, folder=folder_part(found.name), modified=found.modified, preview_path=preview)


def _unreadable(error: OSError) -> ModelProblem:
    return ModelProblem(f"It can't be read ({error.strerror}).", "Put it back, or correct its permissions.")


def describe_control(found: Found) -> ModelEntry:
    """A ControlNet or T2I-Adapter that is a folder, or an IP-Adapter's file with its encoder."""
    try:
        model = read_control_model(found.path)
    except (ModelProblem, OSError) as error:
        problem = error if isinstance(error, ModelProblem) else _unreadable(error)
        if found.is_folder:
            raise problem from None
        ref = ModelRef(kind="ip_adapter", name=found.name, family="unknown")
        return ModelEntry(ref, found.path, last_part(found.name), problem=f"{found.name}: {problem.message}",
                          hint=problem.hint)
    ref = ModelRef(kind=model.kind, name=found.name, family=model.family, fingerprint=model.fingerprint)
    return ModelEntry(ref, found.path, title=last_part(found.name), shows=model.shows,
                      size_bytes=sum(file.stat().st_size for file in model.weights))


def _describe_vae(found: Found) -> ModelEntry:
    config = read_json(found.path / "config.json")
    channels, scaling = config.get("latent_channels", 4), config.get("scaling_factor", 0.18215)
    if channels != 4:
        raise ModelProblem(f"It has {channels} latent channels; 4 are supported.", "Use another VAE.")
    weights = weights_file(found.path)
    ref = ModelRef(kind="vae", name=found.name, family="sdxl" if scaling == _SDXL_SCALING else "sd",
                   fingerprint=fingerprint(found.path, (weights,), settings_of(found.path, "vae")))
    return ModelEntry(ref, found.path, title=last_part(found.name), size_bytes=weights.stat().st_size)


def _describe_checkpoint(folder: Path, name: str) -> ModelEntry:
    if any(folder.rglob("*.py")):
        raise ModelProblem("The folder holds Python code, which Darkroom never runs.",
                           "Remove the .py files, or use another model.")
    index = read_json(folder / "model_index.json")
    if refused := _refused_pipeline(index):
        ref = ModelRef(name=name, family=refused.family)
        return ModelEntry(ref, folder, last_part(name), problem=f"{name}: {refused.problem}", hint=refused.hint)
    unet = read_json(folder / "unet" / "config.json")
    family = _family(index, unet)
    side = read_json(folder / "darkroom.json") if (folder / "darkroom.json").is_file() else {}
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    weights = [weights_file(folder / part) for part in (*_PARTS[family], *optional_parts(folder))
               if not part.startswith(("tokenizer", "scheduler"))]
    facts = FAMILIES[family]
    ref = ModelRef(name=name, family=family, fingerprint=fingerprint(folder, weights, settings_of(folder, "checkpoint")))
    entry = ModelEntry(
        ref, folder, title=_text(side, "title") or last_part(name),
        size_bytes=sum(path.stat().st_size for path in weights),
        description=_text(side, "description"), sizes=facts.sizes, defaults=facts.defaults,
        variant=VARIANTS[unet["in_channels"]], zero_snr=bool(scheduler.get("rescale_betas_zero_snr")),
        token_limit=_token_limit(folder), words=_words(folder))
    return _with_side_file(entry, side)


def _refused_pipeline(index: Mapping[str, Any]) -> Sniffed | None:
    """A pipeline of a family that is known and not run."""
    transformer = index.get("transformer")
    if not isinstance(transformer, list) or not transformer:
        return None
    return refused_family("checkpoint", _TRANSFORMERS.get(str(transformer[-1]), "unknown"))


def _family(index: Mapping[str, Any], unet: Mapping[str, Any]) -> str:
    if unet.get("in_channels") not in VARIANTS:
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
