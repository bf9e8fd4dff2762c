"""Models that are a folder in diffusers' layout: checkpoints, ControlNets, T2I-Adapters, VAEs.

Their configuration tells which.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from catalog.detect.control_models import control_kind, read_control_model
from catalog.detect.entries import ModelEntry, folder_part, last_part
from catalog.detect.finding import Found, is_vae_folder
from catalog.detect.pipelines import Pipeline, number_of, variant_of
from catalog.families import FAMILIES
from catalog.files.folders import fingerprint, read_json, settings_of
from catalog.files.own_settings import read_own_settings
from catalog.files.weights import weights_files
from contract.errors import ModelProblem
from contract.values import ModelRef

_PARTS = {
    "sd1": ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
    "sd2": ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
    "sdxl": ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"),
}
_OPTIONAL_PARTS = ("depth_estimator",)
_VAE_CHANNELS = 4
_LEAST_TOKENS, _MOST_TOKENS = 8, 77
_SDXL_SCALING = 0.13025  # of the latents: the one thing by which SDXL's VAE differs in its configuration


def describe_folder(found: Found) -> ModelEntry:
    """The entry of a folder in diffusers' layout."""
    kind = control_kind(found.path)
    is_vae = kind is None and not (found.path / "model_index.json").is_file() and is_vae_folder(found.path)
    try:
        entry = (
            describe_control(found)
            if kind
            else _describe_vae(found)
            if is_vae
            else _describe_checkpoint(found.path, found.name)
        )
    except (ModelProblem, OSError) as error:
        problem = error if isinstance(error, ModelProblem) else _unreadable(error)
        ref = ModelRef(kind=kind or ("vae" if is_vae else "checkpoint"), name=found.name, family="unknown")
        entry = ModelEntry(
            ref, found.path, last_part(found.name), problem=f"{found.name}: {problem.message}", hint=problem.hint
        )
    preview = next(
        (found.path / name for name in ("preview.jpg", "preview.png") if (found.path / name).is_file()), None
    )
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
        return ModelEntry(
            ref, found.path, last_part(found.name), problem=f"{found.name}: {problem.message}", hint=problem.hint
        )
    ref = ModelRef(kind=model.kind, name=found.name, family=model.family, fingerprint=model.fingerprint)
    return ModelEntry(
        ref, found.path, title=last_part(found.name), control_type=model.control_type, size_bytes=_size(model.weights)
    )


def _describe_vae(found: Found) -> ModelEntry:
    config = read_json(found.path / "config.json")
    channels = number_of(config, "latent_channels", "config.json", _VAE_CHANNELS)
    if channels != _VAE_CHANNELS:
        raise ModelProblem(f"It has {channels} latent channels; {_VAE_CHANNELS} are supported.", "Use another VAE.")
    weights = weights_files(found.path)
    ref = ModelRef(
        kind="vae",
        name=found.name,
        family="sdxl" if config.get("scaling_factor") == _SDXL_SCALING else "sd",
        fingerprint=fingerprint(found.path, weights, settings_of(found.path, "vae")),
    )
    return ModelEntry(ref, found.path, title=last_part(found.name), size_bytes=_size(weights))


def _describe_checkpoint(folder: Path, name: str) -> ModelEntry:
    if any(folder.rglob("*.py")):
        raise ModelProblem(
            "The folder holds Python code, which Darkroom never runs.", "Remove the .py files, or use another model."
        )
    pipeline = Pipeline.of(read_json(folder / "model_index.json"))
    if refused := pipeline.refused():
        ref = ModelRef(name=name, family=refused.family)
        return ModelEntry(ref, folder, last_part(name), problem=f"{name}: {refused.problem}", hint=refused.hint)
    unet = read_json(folder / "unet" / "config.json")
    variant, width = variant_of(unet), unet.get("cross_attention_dim")
    family = pipeline.family(width if isinstance(width, int) else 0)
    is_zero_snr = read_json(folder / "scheduler" / "scheduler_config.json").get("rescale_betas_zero_snr") is True
    weights = [
        file
        for part in (*_PARTS[family], *optional_parts(folder))
        if not part.startswith(("tokenizer", "scheduler"))
        for file in weights_files(folder / part)
    ]
    facts = FAMILIES[family]
    own = read_own_settings(folder, facts.defaults, facts.sizes, zero_snr=is_zero_snr)
    ref = ModelRef(
        name=name, family=family, fingerprint=fingerprint(folder, weights, settings_of(folder, "checkpoint"))
    )
    return ModelEntry(
        ref,
        folder,
        title=own.title or last_part(name),
        size_bytes=_size(weights),
        description=own.description,
        sizes=own.sizes,
        defaults=own.defaults,
        examples=own.examples,
        variant=variant,
        zero_snr=is_zero_snr,
        token_limit=_token_limit(folder),
        words=own.words,
        warnings=own.warnings,
    )


def _size(weights: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in weights)


def optional_parts(folder: Path) -> tuple[str, ...]:
    """Parts that only some checkpoints of a family have, and this one does."""
    return tuple(part for part in _OPTIONAL_PARTS if (folder / part / "config.json").is_file())


def _token_limit(folder: Path) -> int:
    limit = read_json(folder / "tokenizer" / "tokenizer_config.json").get("model_max_length", _MOST_TOKENS)
    return limit if isinstance(limit, int) and _LEAST_TOKENS <= limit <= _MOST_TOKENS else _MOST_TOKENS
