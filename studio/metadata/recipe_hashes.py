"""The sha256 of what a job names: filled in before a picture is saved, so that its file says which files made it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from contract.recipe import Control, Hires, HypernetworkUse, IpAdapter, LoraUse, ModelRef, Recipe
from contract.tasks import Generate, Upscale
from contract.work import WorkItem, path_key

Used = TypeVar("Used", LoraUse, HypernetworkUse, Control, IpAdapter)
Upscaling = TypeVar("Upscaling", Hires, Upscale)


def files_to_hash(work_item: WorkItem) -> dict[str, Path]:
    """Where the models lie whose hashes a picture of this job carries, by `path_key`."""
    refs = work_item.task.models if isinstance(work_item.task, Generate | Upscale) else ()
    return {path_key(ref): Path(work_item.model_paths[path_key(ref)]) for ref in refs}


def with_hashes(recipe: Recipe, known: Mapping[str, str]) -> Recipe:
    """A recipe whose refs carry these hashes, by `path_key`; what is not known stays as it was."""

    def part(use: Used) -> Used:
        return use.model_copy(update={"model": _hashed(use.model, known)})

    return recipe.model_copy(
        update={
            "model": _hashed(recipe.model, known),
            "vae": _hashed(recipe.vae, known) if recipe.vae else None,
            "loras": tuple(map(part, recipe.loras)),
            "hypernetworks": tuple(map(part, recipe.hypernetworks)),
            "controls": tuple(map(part, recipe.controls)),
            "ip_adapters": tuple(map(part, recipe.ip_adapters)),
            "embeddings": tuple(_hashed(ref, known) for ref in recipe.embeddings),
            "hires": with_upscaler_hash(recipe.hires, known) if recipe.hires else None,
        }
    )


def with_upscaler_hash(upscaling: Upscaling, known: Mapping[str, str]) -> Upscaling:
    """The same for what upscales by a model; a built-in upscaler has no file."""
    if not isinstance(upscaling.upscaler, ModelRef):
        return upscaling
    return upscaling.model_copy(update={"upscaler": _hashed(upscaling.upscaler, known)})


def _hashed(ref: ModelRef, known: Mapping[str, str]) -> ModelRef:
    return ref.model_copy(update={"sha256": known.get(path_key(ref), ref.sha256)})
