"""Which jobs may run side by side, each model evaluation taking all of them in one batch."""

from catalog.guidance import changes_unet
from contract.tasks import Generate, Task


def batch_key(task: Task) -> tuple[object, ...] | None:
    """Equal for tasks that one batch can take: they compute with the same weights, at the same size.

    Returns:
        None for a task that runs alone: it changes the model for itself, or is no generating.
    """
    if not isinstance(task, Generate):
        return None
    recipe = task.recipe
    if recipe.controls or recipe.ip_adapters or recipe.hypernetworks or recipe.refiner:
        return None
    if any(changes_unet(one.methods) for one in recipe.passes):
        return None
    return (recipe.model, recipe.vae, recipe.loras, recipe.width, recipe.height, recipe.guidance == 1)
