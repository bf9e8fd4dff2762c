"""Control-LoRAs: a ControlNet that is the checkpoint's own U-Net, down to its middle, with low-rank changes.

The net has no weights of its own but the file's. Those of the U-Net are taken when a layer runs, with the change added,
and let go of behind it, so that the ControlNet takes no more memory than its file and one layer.
Source: Stability AI's control-lora, and the form that ComfyUI writes.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from contract.errors import InvalidRecipe
from contract.recipe import Control
from engine.lora.ldm_names import ldm_names
from engine.models.bundle import Bundle
from engine.models.module_slot import on_meta

_HINT, _OUT = "input_hint_block", "middle_block_out.0"
_HINT_LAYER = re.compile(r"input_hint_block\.(\d{1,3})\.weight")
_LEAST_LAYERS = 4  # that a control image passes first
_LATENTS = 4
Make = Callable[[torch.dtype], Tensor]


def control_lora(control: Control, tensors: Mapping[str, Tensor], bundle: Bundle) -> nn.Module:
    """A ControlNet of the bundle's U-Net; it computes with the weights that the U-Net has when it runs.

    Args:
        tensors: Of the file, by its names, on the device. A layer has `up` and `down`, or a whole `weight`.
    Raises:
        InvalidRecipe: it was made for another U-Net.
    """
    unet: Any = bundle.modules["unet"]
    if unet.config.in_channels != _LATENTS:
        raise _unfit(control, bundle, f"that takes {unet.config.in_channels} channels")
    found = (_HINT_LAYER.fullmatch(name) for name in tensors)
    numbers = sorted(int(match[1]) for match in found if match is not None)
    if len(numbers) < _LEAST_LAYERS or f"{_OUT}.weight" not in tensors:
        raise _unfit(control, bundle, "and lacks layers of one")
    # The layers that a control image passes first: every second one keeps the number of channels.
    channels = tuple(tensors[f"{_HINT}.{number}.weight"].shape[0] for number in numbers[:-1:2])
    net: Any = on_meta(
        "controlnet",
        lambda _: ControlNetModel.from_unet(
            unet, conditioning_embedding_out_channels=channels, load_weights_from_unet=False
        ),
        {},
    )
    own = frozenset(name for name, _ in unet.named_parameters())
    leaves = {
        name: leaf for name, leaf in net.named_modules() if next(leaf.parameters(recurse=False), None) is not None
    }
    names = {**ldm_names(leaves), **_own_names(leaves, numbers)}
    strange = {name.rpartition(".")[0] for name in tensors} - {names.get(name, name) for name in leaves} - {""}
    if strange:
        raise _unfit(control, bundle, f"which lacks a layer {min(strange)}")
    for name, leaf in leaves.items():
        makes = {}
        for part, parameter in leaf.named_parameters(recurse=False):
            layer, full_name = names.get(name, name), f"{name}.{part}"
            whole, change = tensors.get(f"{layer}.{part}"), None
            up, down = tensors.get(f"{layer}.up"), tensors.get(f"{layer}.down")
            if part == "weight" and up is not None and down is not None:
                change = _matrix(up), _matrix(down)
            fits = full_name in own if whole is None else whole.shape == parameter.shape
            fits = fits and (up is None) == (down is None)
            if change is not None:
                left, right = change
                fits = fits and left.dim() == right.dim() == 2 and left.shape[1] == right.shape[0]
                fits = fits and left.shape[0] * right.shape[1] == parameter.numel()
            if not fits:
                raise _unfit(control, bundle, f"and does not fit its layer {name}")
            makes[part] = _changed(full_name, change, bundle) if whole is None else whole.to
        _borrow(leaf, makes)

    def onload(*_: object) -> None:
        bundle.onload("unet")

    net.register_forward_pre_hook(onload)
    built: nn.Module = net
    return built


def _own_names(leaves: Mapping[str, nn.Module], numbers: list[int]) -> dict[str, str]:
    """The file's names of the layers that a U-Net has not, by diffusers' names."""
    found = {"controlnet_mid_block": _OUT}
    hint = ["conv_in", *(f"blocks.{number}" for number in range(len(numbers) - 2)), "conv_out"]
    for name, number in zip(hint, numbers, strict=True):
        found[f"controlnet_cond_embedding.{name}"] = f"{_HINT}.{number}"
    for name in leaves:
        if name.startswith("controlnet_down_blocks."):
            found[name] = f"zero_convs.{name.split('.')[1]}.0"
    return found


def _matrix(tensor: Tensor) -> Tensor:
    """A convolution's weight with one row an output channel."""
    return tensor.flatten(1) if tensor.dim() > 1 else tensor


def _changed(name: str, change: tuple[Tensor, Tensor] | None, bundle: Bundle) -> Make:
    """How a parameter of the U-Net is made that a product of two matrices changes, or none."""

    def make(dtype: torch.dtype) -> Tensor:
        present = bundle.present("unet", name)
        tensor = bundle.original("unet", name) if present is None else present
        tensor = tensor.to(device=bundle.device.torch_device, dtype=dtype)
        if change is None:
            return tensor
        up, down = change
        return tensor + (up.to(dtype) @ down.to(dtype)).reshape(tensor.shape)

    return make


def _borrow(leaf: nn.Module, makes: Mapping[str, Make]) -> None:
    """Give a layer its parameters while it runs."""
    empty = dict(leaf.named_parameters(recurse=False))

    def take(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        for part, make in makes.items():
            module._parameters[part] = nn.Parameter(make(inputs[0].dtype), requires_grad=False)

    def leave(module: nn.Module, *_: object) -> None:
        module._parameters.update(empty)

    leaf.register_forward_pre_hook(take)
    leaf.register_forward_hook(leave, always_call=True)


def _unfit(control: Control, bundle: Bundle, why: str) -> InvalidRecipe:
    assert control.model is not None
    return InvalidRecipe(
        f"Control-LoRA “{control.model.name}” is no change of the U-Net of “{bundle.ref.name}”, {why}.",
        "Use one that was made for this kind of model.",
        field="controls.model",
    )
