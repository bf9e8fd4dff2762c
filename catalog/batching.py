"""Which jobs may run side by side, each model evaluation taking all of them in one batch."""

from catalog.guidance import changes_unet
from contract.tasks import Generate, Task
from contract.values import ModelRef


def batch_key(task: Task) -> tuple[object, ...] | None:
    """Equal for tasks that one batch can take: they compute with the same weights, at the same size.

    Weights are the same by their fingerprints: the sha256 may become known between one task and the next.

    Returns:
        None for a task that runs alone: it changes the model for itself, or is no generating.
    """
    if not isinstance(task, Generate):
        return None
    recipe = task.recipe
    if recipe.controls or recipe.ip_adapters or recipe.hypernetworks or recipe.refiner or recipe.regions:
        return None
    if any(changes_unet(one.methods) for one in recipe.passes):
        return None

    def unhashed(ref: ModelRef) -> ModelRef:
        return ref.model_copy(update={"sha256": None}) if ref.fingerprint else ref

    vae = recipe.vae and unhashed(recipe.vae)
    loras = tuple(use.model_copy(update={"model": unhashed(use.model)}) for use in recipe.loras)
    is_unguided = recipe.guidance == 1
    return (unhashed(recipe.model), vae, loras, recipe.width, recipe.height, recipe.tiling, is_unguided)
