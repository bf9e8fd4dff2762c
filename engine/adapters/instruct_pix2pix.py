"""InstructPix2Pix: three predictions a step, guided by the prompt and by the image, each with its own strength.

Source: Brooks et al. 2023 (arXiv 2211.09800), eq. 3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.sampling.denoise import Conditions, ConditionsAt


@dataclass(frozen=True, slots=True)
class EditConditions(Conditions):
    """The batch: negative prompt without the image, negative prompt with it, each prompt with it."""

    image_guidance: float = 1.5

    def apply_cfg(self, prediction: Tensor, guidance: float) -> Tensor:
        """A batch of predictions -> one, (1, C, h, w)."""
        uncond, image_cond = prediction[:1], prediction[1:2]
        conds = prediction[2:].split(1)
        text_direction = torch.zeros_like(uncond)
        for weight, cond in zip(self.weights, conds, strict=True):
            text_direction = text_direction + weight * (cond - image_cond)
        return uncond + self.image_guidance * (image_cond - uncond) + guidance * text_direction


def edit_conditions(at: ConditionsAt, image_guidance: float) -> ConditionsAt:
    """The same conditions with a second uncond entry; unguided ones stay as they are (one prediction)."""

    def edited(step: int) -> Conditions:
        conditions = at(step)
        if not conditions.is_guided:
            return conditions
        added = None
        if conditions.added is not None:
            added = {name: _with_second_uncond(value) for name, value in conditions.added.items()}
        prompt_embeds = _with_second_uncond(conditions.prompt_embeds)
        return EditConditions(prompt_embeds, conditions.weights, True, added, image_guidance=image_guidance)

    return edited


def edit_channels(image_latents: Tensor, conditions: Conditions) -> Tensor:
    """The image's latents (1, C, h, w) for each entry of a guided batch; the first entry is shown none."""
    shown = image_latents.expand(conditions.prompt_embeds.shape[0] - 1, -1, -1, -1)
    return torch.cat([torch.zeros_like(image_latents), shown])


def _with_second_uncond(batch: Tensor) -> Tensor:
    return torch.cat([batch[:1], batch])
