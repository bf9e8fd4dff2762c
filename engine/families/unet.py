"""How the loop calls a U-Net: inputs by diffusers' names, in the compute dtype or in float32."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from engine.device.evaluations import Evaluate, Outputs, by_modules
from engine.families.family import Onload

if TYPE_CHECKING:
    from engine.sampling.denoise import Conditions, ControlResiduals, Predict


@dataclass(frozen=True, slots=True)
class UNetCall:
    """A U-Net called with tensors alone: latents, timestep, prompt embeds, then what this names, in its order.

    Attributes:
        added: Names of its further conditions.
        down_block, adapter_features, image_embeds: How many there are of each; a mid block's residual follows those of
            down blocks.
    """

    added: tuple[str, ...] = ()
    down_block: int = 0
    adapter_features: int = 0
    image_embeds: int = 0

    def __call__(self, unet: nn.Module, latents: Tensor, t: Tensor, prompt_embeds: Tensor, *more: Tensor) -> Outputs:
        """The prediction, (batch, C, h, w), alone."""
        rest = iter(more)
        inputs: dict[str, Any] = {"encoder_hidden_states": prompt_embeds, "return_dict": False}
        added: dict[str, Any] = {name: next(rest) for name in self.added}
        if self.down_block:
            inputs["down_block_additional_residuals"] = tuple(next(rest) for _ in range(self.down_block))
            inputs["mid_block_additional_residual"] = next(rest)
        if self.adapter_features:  # the U-Net empties this list
            inputs["down_intrablock_additional_residuals"] = [next(rest) for _ in range(self.adapter_features)]
        if self.image_embeds:
            added["image_embeds"] = [next(rest) for _ in range(self.image_embeds)]
        if added:
            inputs["added_cond_kwargs"] = added
        return (unet(latents, t, **inputs)[0],)


def predict_with(
    onload: Onload, dtype: torch.dtype, *, in_float32: bool = False, evaluate: Evaluate | None = None
) -> "Predict":
    """The U-Net as the loop calls it: (batch, C, h, w) float32 in, a prediction of that shape out.

    Args:
        onload: Of the bundle; called at each evaluation, since the U-Net may have been offloaded.
        in_float32: Compute in full precision whatever the dtype of the weights: slow, for models that overflow in half.
        evaluate: Of the bundle; None evaluates the U-Net itself, which is all that float32 goes with.
    """

    evaluate = evaluate or by_modules(onload)

    def predict(latents: Tensor, t: Tensor, conditions: "Conditions", residuals: "ControlResiduals | None") -> Tensor:
        added = conditions.added or {}
        tensors = [conditions.prompt_embeds, *added.values()]
        call = UNetCall(tuple(added))
        if residuals is not None:
            down_block = residuals.down_block if residuals.mid_block is not None else ()
            if residuals.mid_block is not None:
                tensors += [*down_block, residuals.mid_block]
            tensors += [*residuals.adapter_features, *residuals.image_embeds]
            counts = (len(down_block), len(residuals.adapter_features), len(residuals.image_embeds))
            call = UNetCall(tuple(added), *counts)
        if in_float32:
            with torch.inference_mode(), float32_layers(onload("unet")):
                wide = [one.float() if one.is_floating_point() else one for one in tensors]
                (prediction,) = evaluate("unet", call, latents.float(), t, *wide)
        else:
            (prediction,) = evaluate("unet", call, latents.to(dtype), t, *tensors)
        return prediction

    return predict


@contextmanager
def float32_layers(module: nn.Module) -> Iterator[None]:
    """Give each layer float32 weights while it runs: they may only just have come (`models/group_offload.py`)."""
    original: dict[nn.Parameter, Tensor] = {}

    def widen(layer: nn.Module, *_: object) -> None:
        for weight in layer.parameters(recurse=False):
            if weight.is_floating_point() and weight.dtype != torch.float32:
                original[weight] = weight.data
                weight.data = weight.data.float()

    def narrow(layer: nn.Module, *_: object) -> None:
        for weight in layer.parameters(recurse=False):
            if weight in original:
                weight.data = original.pop(weight)

    with ExitStack() as hooks:
        for layer in module.modules():
            if next(layer.parameters(recurse=False), None) is not None:
                hooks.callback(layer.register_forward_pre_hook(widen).remove)
                hooks.callback(layer.register_forward_hook(narrow, prepend=True, always_call=True).remove)
        try:
            yield
        finally:
            for weight, data in original.items():
                weight.data = data
