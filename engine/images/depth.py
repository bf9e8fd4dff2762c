"""The depth of an init image, for depth-to-image models: an uploaded depth image, or the model's own estimate."""

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from contract.errors import InvalidRecipe
from contract.recipe import Recipe
from engine.images.image_io import fit, open_input
from engine.models.bundle import Bundle

# What MiDaS was trained on; the estimator's own preprocessor_config.json says the same.
_SIDE, _MEAN, _DEVIATION = 384, 0.5, 0.5


@torch.inference_mode()
def depth_of(recipe: Recipe, image: Image.Image, bundle: Bundle, images: Mapping[str, bytes]) -> Tensor:
    """Depth of the inpaint region's image, (1, 1, h, w) at any size, float32, larger is nearer; only its order counts.

    Raises:
        InvalidRecipe: none was uploaded, and the model's folder holds no estimator.
    """
    device = bundle.device.torch_device
    if recipe.init_image and recipe.init_image.depth:
        depth = open_input(recipe.init_image.depth, images).convert("L")
        fitted = fit(depth, image.size, recipe.init_image.resize)
        return torch.from_numpy(np.asarray(fitted, dtype=np.float32).copy())[None, None].to(device)
    estimator = bundle.onload("depth_estimator") if bundle.has("depth_estimator") else None
    if estimator is None:
        raise InvalidRecipe(
            f"{bundle.ref.name} needs the depth of the start picture, and its folder has no depth_estimator.",
            "Add a depth picture (white is near).",
            field="init_image.depth",
        )
    square = image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 255
    normalized = ((pixels - _MEAN) / _DEVIATION).to(device, next(estimator.parameters()).dtype)
    estimate: Tensor = estimator(normalized).predicted_depth
    return estimate[None].float()
