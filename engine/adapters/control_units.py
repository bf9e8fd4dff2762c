"""One control of a recipe at one size, and which entries of a batch it acts on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from contract.recipe import Control
from contract.values import Tiling
from engine.device.evaluations import Evaluate
from engine.sampling.denoise import Conditions, Span


@dataclass(frozen=True, slots=True)
class Unit:
    """One control at one size.

    Attributes:
        hint: (1, 3 or 1, H, W), 0..1 (-1 where a mask cuts it out), in the device's precision.
        type: Of a union model: which of its control types the map is.
        features: Of a T2I-Adapter, weighted: (1, C, h, w) for each down block.
        evaluate: Of a ControlNet's bundle; None evaluates the net itself.
        tiling: The axes around which the net itself is evaluated with wrapped padding.
        embeds: Of a ControlNet-LLLite, by layer.
    """

    control: Control
    net: nn.Module
    hint: Tensor
    type: int | None = None
    features: tuple[Tensor, ...] = ()
    evaluate: Evaluate | None = None
    tiling: Tiling | None = None
    embeds: Mapping[str, Tensor] = field(default_factory=dict)

    def is_active(self, span: Span) -> bool:
        """Whether it acts in a part of the run, as the stock pipelines count."""
        return span[0] >= self.control.start and span[1] <= self.control.end

    @property
    def skips_uncond(self) -> bool:
        """Whether it is kept from the negative prompt's part of the batch."""
        return self.control.mode == "control" or bool(getattr(self.net.config, "global_pool_conditions", False))


def uncond_count(unit: Unit, batch: Tensor, conditions: Conditions) -> int:
    """How many entries at the beginning of the batch, those of the negative prompt, a unit skips."""
    return batch.shape[0] - len(conditions.weights) if unit.skips_uncond else 0


def acts_on(unit: Unit, batch: Tensor, conditions: Conditions) -> bool:
    """Whether there are entries that a unit does not skip: guidance may evaluate the negative prompt alone."""
    return uncond_count(unit, batch, conditions) < batch.shape[0]


def pad_uncond(residual: Tensor, skipped: int) -> Tensor:
    """Put zeros in the place of the uncond entries that were skipped."""
    if not skipped:
        return residual
    zeros = torch.zeros_like(residual[:1]).expand(skipped, *residual.shape[1:])
    return torch.cat([zeros, residual])
