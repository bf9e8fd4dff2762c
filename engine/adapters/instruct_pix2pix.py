"""InstructPix2Pix: three predictions a step, steered by the prompt and by the picture, each with its own strength.

Source: Brooks et al. 2023 (arXiv 2211.09800), eq. 3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.sampling.denoise import Conditions, ConditionsAt


@dataclass(frozen=True, slots=True)
class EditConditions(Conditions):
    """Rows: negative prompt without the picture, negative prompt with it, each prompt with it."""

    image_guidance: float = 1.5

    def apply_cfg(self, prediction: Tensor, guidance: float) -> Tensor:
        """Rows of predictions -> one, (1, C, h, w)."""
        away, pictured = prediction[:1], prediction[1:2]
        terms = zip(self.weights, prediction[2:].split(1), strict=True)
        steered = sum(weight * (toward - pictured) for weight, toward in terms)
        return away + self.image_guidance * (pictured - away) + guidance * steered


def edit_conditions(at: ConditionsAt, image_guidance: float) -> ConditionsAt:
    """The same conditions with the third row; unguided ones stay as they are (one look, with the picture)."""

    def edited(step: int) -> Conditions:
        told = at(step)
        if not told.is_guided:
            return told
        added = None if told.added is None else {key: _doubled(rows) for key, rows in told.added.items()}
        return EditConditions(_doubled(told.context), told.weights, True, added, image_guidance)

    return edited


def edit_channels(picture: Tensor, conditions: Conditions) -> Tensor:
    """The picture's latents (1, C, h, w) for each row of guided conditions; the first row sees none."""
    shown = picture.expand(conditions.context.shape[0] - 1, -1, -1, -1)
    return torch.cat([torch.zeros_like(picture), shown])


def _doubled(rows: Tensor) -> Tensor:
    return torch.cat([rows[:1], rows])
