"""Models that are a folder in diffusers' layout: checkpoints, ControlNets, T2I-Adapters, VAEs.

Their configuration decides which.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from catalog.detect.control_models import control_kind, read_control_model
from catalog.detect.entries import ModelEntry, folder_part, last_part
from catalog.detect.finding import Found, is_vae_folder
from catalog.detect.own_settings import read_own_settings
from catalog.detect.pipelines import Pipeline, number_of, variant_of
from catalog.detect.text_encoders import find_encoders
from catalog.families import FAMILIES, latent_channels, vae_family
from catalog.files.folders import fingerprint, read_json, settings_of
from catalog.files.plain_text import printable
from catalog.files.weights import weights_files
from contract.errors import ModelProblem
from contract.values import ModelKind, ModelRef

_OPTIONAL_COMPONENTS = ("depth_estimator",)
_VAE_CHANNELS = 4
_MOST_CLASS_NAME = 60
_LEAST_TOKENS, _MOST_TOKENS = 8, 77


def describe_folder(found: Found) -> ModelEntry:
    """The entry of a folder in diffusers' layout."""
    kind = control_kind(found.path)
    if kind is None:
        has_index = (found.path / "model_index.json").is_file()
        kind = "vae" if not has_index and is_vae_folder(found.path) else "checkpoint"
    try:
        if kind == "checkpoint":
            entry = _describe_checkpoint(found.path, found.name)
        elif kind == "vae":
            entry = _describe_vae(found)
        else:
            entry = describe_control(found)
    except (ModelProblem, OSError) as error:
        entry = _with_problem(found, kind, error)
    preview = None
    for name in ("preview.jpg", "preview.png"):
        if preview is None and (found.path / name).is_file():
            preview = found.path / name
    return replace(entry, folder=folder_part(found.name), modified=found.modified, preview_path=preview)


def _with_problem(found: Found, kind: ModelKind, error: ModelProblem | OSError) -> ModelEntry:
    if isinstance(error, ModelProblem):
        message, hint = error.message, error.hint
    else:
        message, hint = f"It can't be read ({error.strerror}).", "Put it back, or correct its permissions."
    ref = ModelRef(kind=kind, name=found.name, family="unknown")
    return ModelEntry(ref, found.path, last_part(found.name), problem=f"{found.name}: {message}", hint=hint)


def describe_control(found: Found) -> ModelEntry:
    """A ControlNet or T2I-Adapter that is a folder, or an IP-Adapter's file with its encoder.

    Raises:
        ModelProblem, OSError: a folder can't be used; a file that can't gets an entry with a `problem`.
    """
    try:
        model = read_control_model(found.path)
    except (ModelProblem, OSError) as error:
        if found.is_folder:
            raise
        return _with_problem(found, "ip_adapter", error)
    ref = ModelRef(kind=model.kind, name=found.name, family=model.family, fingerprint=model.fingerprint)
    return ModelEntry(
        ref,
        found.path,
        title=last_part(found.name),
        control_type=model.control_type,
        detail=model.detail,
        size_bytes=_size(model.weights),
    )


def _describe_vae(found: Found) -> ModelEntry:
    config = read_json(found.path / "config.json")
    channels = number_of(config, "latent_channels", "config.json", _VAE_CHANNELS)
    family = vae_family(config.get("scaling_factor"), channels)
    if family is None and config.get("latents_mean") and config.get("latents_std"):
        raise ModelProblem(
            "Its latents are scaled by statistics of their own, as Playground v2.5's, which brings its VAE.",
            "Use a VAE for SDXL.",
        )
    if family is None and channels in latent_channels():
        raise ModelProblem("Its latents are scaled as those of no family that is run here.", "Use another VAE.")
    if family is None:
        supported = " or ".join(map(str, latent_channels()))
        raise ModelProblem(f"It has {channels} latent channels; {supported} are supported.", "Use another VAE.")
    weights = weights_files(found.path)
    ref = ModelRef(
        kind="vae",
        name=found.name,
        family=family,
        fingerprint=fingerprint(found.path, weights, settings_of(found.path, "vae")),
    )
    return ModelEntry(ref, found.path, title=last_part(found.name), size_bytes=_size(weights))


def _describe_checkpoint(folder: Path, name: str) -> ModelEntry:
    if any(folder.rglob("*.py")):
        raise ModelProblem(
            "The folder holds Python code, which Darkroom never runs.", "Remove the .py files, or use another model."
        )
    pipeline = Pipeline.of(read_json(folder / "model_index.json"))
    refused = pipeline.refused()
    if refused is not None:
        ref = ModelRef(name=name, family=refused.family)
        return ModelEntry(ref, folder, last_part(name), problem=f"{name}: {refused.problem}", hint=refused.hint)
    denoiser = read_json(folder / pipeline.denoiser / "config.json")
    width = denoiser.get("cross_attention_dim")
    family = pipeline.family(width if isinstance(width, int) else 0)
    facts = FAMILIES[family]
    variant = variant_of(denoiser, facts)
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    is_zero_snr, prediction = scheduler.get("rescale_betas_zero_snr") is True, ""
    if str(scheduler.get("_class_name", "")).startswith("EDM"):
        is_zero_snr, prediction = False, "edm_v" if scheduler.get("prediction_type") == "v_prediction" else "edm"
    weights: list[Path] = []
    for component in (*facts.components, *optional_components(folder)):
        weights += weights_files(folder / component)
    size_bytes, encoders = _size(weights), find_encoders(folder, facts)
    if encoders.has_t5 and encoders.t5 is not None:
        size_bytes += _size(weights_files(encoders.t5))
    detail = facts.detail_of(denoiser) if facts.detail_of else ""
    _, usual = facts.usual_for(variant, prediction, detail)
    defaults = facts.with_rescale(usual, variant, "", zero_snr=is_zero_snr)
    kinds = {"zero_snr": is_zero_snr, "is_flow": facts.flow_shift > 0, "is_edm": bool(prediction)}
    own = read_own_settings(folder, defaults, facts.sizes, **kinds)
    identity = fingerprint(folder, weights, settings_of(folder, "checkpoint"))
    tokenizer = facts.text_encoders[0].tokenizer
    token_limit = read_json(folder / tokenizer / "tokenizer_config.json").get("model_max_length", _MOST_TOKENS)
    if not isinstance(token_limit, int) or not _LEAST_TOKENS <= token_limit <= _MOST_TOKENS:
        token_limit = _MOST_TOKENS
    return ModelEntry(
        ModelRef(name=name, family=family, fingerprint=identity),
        folder,
        title=own.title or last_part(name),
        size_bytes=size_bytes,
        description=own.description,
        sizes=own.sizes,
        defaults=own.defaults,
        examples=own.examples,
        variant=variant,
        prediction=prediction,
        scheduler=printable(str(scheduler.get("_class_name", "")), _MOST_CLASS_NAME),
        zero_snr=is_zero_snr,
        token_limit=token_limit,
        words=own.words,
        warnings=(*own.warnings, encoders.warning) if encoders.warning else own.warnings,
        detail=detail or ("EDM" if prediction else ""),
    )


def _size(weights: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in weights)


def optional_components(folder: Path) -> tuple[str, ...]:
    """The components of a checkpoint that only some of its family have."""
    return tuple(name for name in _OPTIONAL_COMPONENTS if (folder / name / "config.json").is_file())
