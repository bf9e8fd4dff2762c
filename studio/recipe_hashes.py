"""The sha256 of what a recipe names: filled in before a picture is saved, so that its file says which files made it."""

from collections.abc import Mapping
from pathlib import Path

from contract.recipe import ModelKind, ModelRef, Recipe
from contract.tasks import Paint
from contract.work import Ticket, path_key

# What A1111's infotext names by hash; control models are large and named by nobody.
_HASHED: tuple[ModelKind, ...] = ("checkpoint", "vae", "lora", "hypernetwork", "embedding")


def files_to_hash(ticket: Ticket) -> dict[str, Path]:
    """Where the models lie whose hashes a picture of this job carries, by `path_key`."""
    refs = ticket.task.models if isinstance(ticket.task, Paint) else ()
    return {path_key(ref): Path(ticket.model_paths[path_key(ref)]) for ref in refs if ref.kind in _HASHED}


def with_hashes(recipe: Recipe, known: Mapping[str, str]) -> Recipe:
    """A recipe whose refs carry these hashes, by `path_key`; what is not known stays as it was."""

    def hashed(ref: ModelRef) -> ModelRef:
        return ref.model_copy(update={"sha256": known.get(path_key(ref), ref.sha256)})

    return recipe.model_copy(update={
        "model": hashed(recipe.model), "vae": hashed(recipe.vae) if recipe.vae else None,
        "loras": tuple(use.model_copy(update={"model": hashed(use.model)}) for use in recipe.loras),
        "hypernetworks": tuple(use.model_copy(update={"model": hashed(use.model)}) for use in recipe.hypernetworks),
        "embeddings": tuple(hashed(ref) for ref in recipe.embeddings)})
