"""What a family declares: its components, how text becomes prompt embeddings, how the U-Net is called."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from contract.errors import InvalidRecipe

if TYPE_CHECKING:
    from engine.sampling.denoise import Conditions, ControlResiduals, Predict

Config = Mapping[str, Any]
Builder = Callable[[Config], nn.Module]
Onload = Callable[[str], nn.Module]  # by component: brings it to the device, if it is not there


@dataclass(frozen=True, slots=True)
class Encoded:
    """One chunk of a prompt. prompt_embeds: (1, tokens, width); pooled: (1, width) or None.

    Attributes:
        widths: Of the text encoders whose embeddings are concatenated in `prompt_embeds`, where there are several.
    """

    prompt_embeds: Tensor
    pooled: Tensor | None = None
    widths: tuple[int, ...] = ()


class ModelFamily(Protocol):
    """One module a family implements this (`sd.py`, `sdxl.py`)."""

    @property
    def builders(self) -> Mapping[str, Builder]:
        """By component with weights: from its configuration to a module (on meta)."""

    @property
    def tokenizers(self) -> tuple[str, ...]:
        """Folder names, in the order of the text encoders."""

    @property
    def zeroes_empty_negative(self) -> bool:
        """An empty negative prompt is all zeros instead of encoded."""

    def encode(self, onload: Onload, ids: tuple[Tensor, ...], clip_skip: int) -> Encoded:
        """One chunk: token ids (1, tokens) for each text encoder -> embeddings."""

    def added(self, pooled: Tensor | None, width: int, height: int) -> dict[str, Tensor] | None:
        """Further inputs of the U-Net. pooled: (batch, width); width, height in pixels."""


def hidden_layer(hidden_states: tuple[Tensor, ...], from_end: int) -> Tensor:
    """The layer that clip skip selects, (1, tokens, width); from_end 1 is the last.

    Raises:
        InvalidRecipe: the text encoder has fewer layers.
    """
    layers = len(hidden_states) - 1
    if from_end > layers:
        raise InvalidRecipe(
            f"Clip skip leaves no layer: this model's text encoder has {layers}.", "Use clip skip 1.", field="clip_skip"
        )
    return hidden_states[-from_end]


def predict_with(onload: Onload, dtype: torch.dtype, *, in_float32: bool = False) -> "Predict":
    """The U-Net as the loop calls it: (batch, C, h, w) float32 in, a prediction of that shape out.

    Args:
        onload: Of the bundle; called at each evaluation, since the U-Net may have been offloaded.
        in_float32: Compute in full precision whatever the dtype of the weights: slow, for models that overflow in half.
    """

    def predict(latents: Tensor, t: Tensor, conditions: "Conditions", residuals: "ControlResiduals | None") -> Tensor:
        inputs: dict[str, Any] = {"encoder_hidden_states": conditions.prompt_embeds, "return_dict": False}
        added = dict(conditions.added or {})
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
        if not in_float32:
            return unet(latents.to(dtype), t, **inputs)[0]
        with torch.inference_mode(), _float32_layers(unet):
            return unet(latents.float(), t, **_in_float32(inputs))[0]

    return predict


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
