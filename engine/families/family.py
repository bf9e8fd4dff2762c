"""What a family must say: its parts, how text becomes embeddings, how the model is asked."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from contract.errors import InvalidRecipe

Config = Mapping[str, Any]
Builder = Callable[[Config], nn.Module]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One chunk of a prompt. context: (1, tokens, width); pooled: (1, width) or None.

    Attributes:
        widths: Of the text encoders that lie side by side in `context`, where there are several.
    """

    context: Tensor
    pooled: Tensor | None = None
    widths: tuple[int, ...] = ()


class Family(Protocol):
    """One module a family implements this (`sd.py`, `sdxl.py`).

    Attributes:
        builders: For each part with weights, from its configuration to a module (on meta).
        tokenizers: Folder names, in the order of the text encoders.
        zeroes_empty_negative: An empty negative prompt is all zeros instead of encoded.
    """

    builders: Mapping[str, Builder]
    tokenizers: tuple[str, ...]
    zeroes_empty_negative: bool

    def encode(self, parts: Mapping[str, nn.Module], ids: tuple[Tensor, ...], clip_skip: int) -> Encoded:
        """One chunk: token ids (1, tokens) for each encoder -> embeddings."""

    def added(self, pooled: Tensor | None, width: int, height: int) -> dict[str, Tensor] | None:
        """Further inputs of the U-Net. pooled: (rows, width); width, height in pixels."""


def hidden_layer(hidden_states: tuple[Tensor, ...], from_end: int) -> Tensor:
    """The layer that clip skip asks for, (1, tokens, width); from_end 1 is the last.

    Raises:
        InvalidRecipe: the text encoder has fewer layers.
    """
    layers = len(hidden_states) - 1
    if from_end > layers:
        raise InvalidRecipe(
            f"Clip skip leaves no layer: this model's text encoder has {layers}.", "Use clip skip 1.", field="clip_skip"
        )
    return hidden_states[-from_end]


def predict_with(
    parts: Mapping[str, nn.Module], dtype: torch.dtype, *, in_float32: bool = False
) -> Callable[..., Tensor]:
    """The U-Net as the loop calls it: (rows, C, h, w) float32 in, a prediction of that shape out.

    Args:
        parts: Of the bundle; the U-Net is asked for at each call, since it may have left the device.
        in_float32: Compute in full precision whatever the weights are kept in: slow, and where half overflows.
    """

    def predict(rows: Tensor, t: Tensor, conditions: Any, residuals: Any) -> Tensor:
        extra: dict[str, Any] = {}
        if conditions.added is not None:
            extra["added_cond_kwargs"] = conditions.added
        if residuals is not None:
            _add(residuals, extra)
        unet = parts["unet"]
        if in_float32:
            with torch.inference_mode():
                return _in_float32(unet, rows, t, conditions.context, extra)
        return unet(rows.to(dtype), t, encoder_hidden_states=conditions.context, return_dict=False, **extra)[0]

    return predict


def _in_float32(unet: nn.Module, rows: Tensor, t: Tensor, context: Tensor, extra: dict[str, Any]) -> Tensor:
    """Each layer's weights are made wide while it works: they may only just have come (`models/group_offload.py`)."""
    wide = tree_map(
        lambda value: value.float() if isinstance(value, Tensor) and value.is_floating_point() else value,
        {**extra, "encoder_hidden_states": context, "return_dict": False},
    )
    with _wide_layers(unet):
        return unet(rows.float(), t, **wide)[0]


@contextmanager
def _wide_layers(module: nn.Module) -> Iterator[None]:
    own: dict[nn.Parameter, Tensor] = {}

    def widen(layer: nn.Module, *_: object) -> None:
        for weight in layer.parameters(recurse=False):
            if weight.is_floating_point() and weight.dtype != torch.float32:
                own[weight] = weight.data
                weight.data = weight.data.float()

    def narrow(layer: nn.Module, *_: object) -> None:
        for weight in layer.parameters(recurse=False):
            if weight in own:
                weight.data = own.pop(weight)

    with ExitStack() as hooks:
        for layer in module.modules():
            if next(layer.parameters(recurse=False), None) is not None:
                hooks.callback(layer.register_forward_pre_hook(widen).remove)
                hooks.callback(layer.register_forward_hook(narrow, always_call=True).remove)
        try:
            yield
        finally:
            for weight, data in own.items():
                weight.data = data


def _add(residuals: Any, extra: dict[str, Any]) -> None:
    """What controls add, as arguments of the U-Net; it takes some lists apart, so they are made anew."""
    if residuals.mid_block is not None:
        extra["down_block_additional_residuals"] = residuals.down_block
        extra["mid_block_additional_residual"] = residuals.mid_block
    if residuals.adapter_features:
        extra["down_intrablock_additional_residuals"] = list(residuals.adapter_features)
    if residuals.image_embeds:
        image_embeds = list(residuals.image_embeds)
        extra["added_cond_kwargs"] = {**extra.get("added_cond_kwargs", {}), "image_embeds": image_embeds}
