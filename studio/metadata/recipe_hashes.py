"""Adds the sha256 of a job's models to its recipe before an image is saved, so that the image names exact files."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from contract.recipe import Control, Hires, HypernetworkUse, IpAdapter, LoraUse, ModelRef, Recipe, Refiner
from contract.tasks import Generate, Upscale
from contract.work import WorkItem, path_key

Used = TypeVar("Used", LoraUse, HypernetworkUse, Control, IpAdapter, Refiner)
Upscaling = TypeVar("Upscaling", Hires, Upscale)


def files_to_hash(work_item: WorkItem) -> dict[str, Path]:
    """Paths of the models whose hashes an image of this job carries, by `path_key`."""
    if not isinstance(work_item.task, Generate | Upscale):
        return {}
    keys = map(path_key, work_item.task.models)
    return {key: Path(work_item.model_paths[key]) for key in keys}


def with_hashes(recipe: Recipe, known: Mapping[str, str]) -> Recipe:
    """A recipe whose refs carry these hashes, by `path_key`; refs without a known hash stay as they are."""

    def hash_ref(ref: ModelRef) -> ModelRef:
        return _hashed(ref, known)

    def hash_part(use: Used) -> Used:
        if use.model is None:
            return use
        return use.model_copy(update={"model": _hashed(use.model, known)})

    changes: dict[str, object] = {
        "model": hash_ref(recipe.model),
        "loras": tuple(map(hash_part, recipe.loras)),
        "hypernetworks": tuple(map(hash_part, recipe.hypernetworks)),
        "controls": tuple(map(hash_part, recipe.controls)),
        "ip_adapters": tuple(map(hash_part, recipe.ip_adapters)),
        "embeddings": tuple(map(hash_ref, recipe.embeddings)),
    }
    if recipe.regions:
        regions = [
            region.model_copy(update={"loras": tuple(map(hash_part, region.loras))})
            for region in recipe.regions.regions
        ]
        changes["regions"] = recipe.regions.model_copy(update={"regions": tuple(regions)})
    if recipe.vae:
        changes["vae"] = hash_ref(recipe.vae)
    if recipe.refiner:
        changes["refiner"] = hash_part(recipe.refiner)
    if recipe.hires:
        changes["hires"] = with_upscaler_hash(recipe.hires, known)
    return recipe.model_copy(update=changes)


def with_upscaler_hash(upscaling: Upscaling, known: Mapping[str, str]) -> Upscaling:
    """The same for what upscales by a model; a built-in upscaler has no file."""
    if not isinstance(upscaling.upscaler, ModelRef):
        return upscaling
    return upscaling.model_copy(update={"upscaler": _hashed(upscaling.upscaler, known)})


def _hashed(ref: ModelRef, known: Mapping[str, str]) -> ModelRef:
    return ref.model_copy(update={"sha256": known.get(path_key(ref), ref.sha256)})
