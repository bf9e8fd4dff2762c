"""How the loop calls a U-Net: inputs by diffusers' names, in the compute dtype or in float32."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from engine.device.evaluation import Evaluator
from engine.device.tracing import Traces
from engine.families.family import Onload

if TYPE_CHECKING:
    from engine.sampling.denoise import Conditions, ControlResiduals, Predict


def predict_with(
    onload: Onload,
    dtype: torch.dtype,
    *,
    in_float32: bool = False,
    traces: Traces | None = None,
    evaluator: Evaluator | None = None,
) -> "Predict":
    """The U-Net as the loop calls it: (batch, C, h, w) float32 in, a prediction of that shape out.

    Args:
        onload: Of the bundle; called at each evaluation, since the U-Net may have been offloaded.
        in_float32: Compute in full precision whatever the dtype of the weights: slow, for models that overflow in half.
        traces: Of this U-Net, used where nothing is given to it but latents, timestep and prompt embeds.
        evaluator: Of this U-Net on a card, unless it is computed in float32.
    """

    def predict(latents: Tensor, t: Tensor, conditions: "Conditions", residuals: "ControlResiduals | None") -> Tensor:
        inputs: dict[str, Any] = {"encoder_hidden_states": conditions.prompt_embeds, "return_dict": False}
        added: dict[str, Any] = dict(conditions.added or {})
        if residuals is not None:
            if residuals.mid_block is not None:
                inputs["down_block_additional_residuals"] = residuals.down_block
                inputs["mid_block_additional_residual"] = residuals.mid_block
            if residuals.adapter_features:  # the U-Net empties this list
                inputs["down_intrablock_additional_residuals"] = list(residuals.adapter_features)
            if residuals.image_embeds:
                added["image_embeds"] = list(residuals.image_embeds)
        if added:
            inputs["added_cond_kwargs"] = added
        unet = onload("unet")
        trace = None
        if traces is not None and len(inputs) == 2 and not in_float32:
            trace = traces.find(latents.to(dtype), t, conditions.prompt_embeds)
        if trace is not None:
            prediction: Tensor = trace(latents.to(dtype), t, conditions.prompt_embeds)
        elif in_float32:
            with torch.inference_mode(), _float32_layers(unet):
                prediction = unet(latents.float(), t, **_in_float32(inputs))[0]
        elif evaluator is not None:
            prediction = evaluator(unet, latents.to(dtype), t, inputs)
        else:
            began = time.perf_counter()
            prediction = unet(latents.to(dtype), t, **inputs)[0]
            if traces is not None:
                traces.wanted_s = time.perf_counter() - began
        return prediction

    return predict


def evaluate_plain(unet: nn.Module, latents: Tensor, t: Tensor, prompt_embeds: Tensor) -> Tensor:
    """The U-Net with nothing but these, as it is traced."""
    prediction: Tensor = unet(latents, t, encoder_hidden_states=prompt_embeds, return_dict=False)[0]
    return prediction


def _in_float32(value: Any) -> Any:
    """Inputs of the U-Net with every floating-point tensor in float32."""
    if isinstance(value, dict):
        return {name: _in_float32(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_in_float32(inner) for inner in value])
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.float()
    return value


@contextmanager
def _float32_layers(module: nn.Module) -> Iterator[None]:
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
                hooks.callback(layer.register_forward_hook(narrow, always_call=True).remove)
        try:
            yield
        finally:
            for weight, data in original.items():
                weight.data = data
