"""ControlNet-LLLite: small nets before linear layers of the U-Net's attention, which add what a control image says.

A layer's input x becomes x + weight · up(mid(cat(conditioning(image), down(x)))), with a ReLU behind down, mid and each
convolution of the conditioning but the last. Source: kohya-ss/sd-scripts, networks/control_net_lllite.py.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.errors import InvalidRecipe
from contract.recipe import Control
from engine.adapters.control_units import Unit, uncond_count
from engine.lora.ldm_names import ldm_names
from engine.models.bundle import Bundle
from engine.sampling.denoise import Conditions
from engine.sampling.guidance.attention import grid_of

_UNET = "lllite_unet_"
_CONVOLUTION = re.compile(r"conditioning1\.(\d+)\.weight")
_CALLED_MIDDLE = ("middle_block_", "middle_blocks_0_")  # both are written


@dataclass(slots=True)
class _Acting:
    """One control in one evaluation of these latents: how much it counts, for which entries of the batch."""

    embeds: Mapping[str, Tensor]
    weight: float
    skipped: int
    latents: Tensor


class LLLite(nn.Module):
    """The small nets of one file, by the layers of the U-Net that they stand before.

    Attributes:
        acting: What acts in the evaluation to come; nothing where a control is out of its span.
    """

    def __init__(self, layers: Mapping[str, Mapping[str, Tensor]]) -> None:
        super().__init__()
        self.layers = layers
        self.acting: list[_Acting] = []

    @property
    def config(self) -> Mapping[str, object]:
        """Of a net: it has none."""
        return {}

    def rest(self) -> None:
        """Nothing acts in the evaluation to come."""
        self.acting.clear()

    def act(self, unit: Unit, batch: Tensor, conditions: Conditions) -> None:
        """Let a control act in the evaluation to come, of this batch of latents."""
        skipped = uncond_count(unit, batch, conditions)
        self.acting.append(_Acting(unit.embeds, unit.control.weight, skipped, batch))

    @torch.inference_mode()
    def embed(self, hint: Tensor) -> dict[str, Tensor]:
        """What a control image says to each layer: (1, C, h, w) of latents, or of a part of their resolution.

        Args:
            hint: (1, 3, H, W), 0..1.
        """
        embeds = {}
        for name, tensors in self.layers.items():
            found = (_CONVOLUTION.fullmatch(tensor) for tensor in tensors)
            numbers = sorted(int(match[1]) for match in found if match is not None)
            x = hint * 2 - 1
            for number in numbers:
                weight, bias = (tensors[f"conditioning1.{number}.{part}"] for part in ("weight", "bias"))
                x = functional.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), stride=weight.shape[-2:])
                x = functional.relu(x) if number != numbers[-1] else x
            embeds[name] = x
        return embeds

    def change(self, name: str, x: Tensor) -> Tensor:
        """A layer's input, (batch, patches, C) or (batch, C, h, w), with what acts now."""
        tensors = self.layers[name]
        is_image = x.dim() == 4
        for acting in self.acting:
            size = tuple(x.shape[-2:]) if is_image else grid_of(x.shape[1], acting.latents)
            embed = acting.embeds[name]
            if tuple(embed.shape[-2:]) != size:
                embed = functional.interpolate(embed, size, mode="nearest-exact")
            if not is_image:
                embed = embed.flatten(2).transpose(1, 2)
            rows = x[acting.skipped :]
            y = functional.relu(_apply(tensors, "down", rows))
            y = torch.cat([embed.expand(rows.shape[0], *embed.shape[1:]).to(y.dtype), y], dim=1 if is_image else 2)
            y = _apply(tensors, "up", functional.relu(_apply(tensors, "mid", y)))
            x = torch.cat([x[: acting.skipped], rows + acting.weight * y])
        return x


def _fits(tensors: Mapping[str, Tensor], width: int) -> bool:
    """Whether the tensors of a small net are whole, and take and give so many channels."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    numbers = sorted(int(match[1]) for match in map(_CONVOLUTION.fullmatch, shapes) if match is not None)
    names = [*(f"conditioning1.{number}" for number in numbers), "down.0", "mid.0", "up.0"]
    if not numbers or any(shapes.get(f"{name}.bias") != shapes.get(f"{name}.weight", ())[:1] for name in names):
        return False
    channels = 3
    for name in names[:-3]:
        if len(shapes[f"{name}.weight"]) != 4 or shapes[f"{name}.weight"][1] != channels:
            return False
        channels = shapes[f"{name}.weight"][0]
    down, mid, up = (shapes[f"{name}.weight"] for name in names[-3:])
    dimensions = {len(shape) for shape in (down, mid, up)}
    if len(dimensions) != 1 or not dimensions <= {2, 4}:
        return False
    return (down[1], mid[1], up[1], up[0]) == (width, down[0] + channels, mid[0], width)


def _apply(tensors: Mapping[str, Tensor], layer: str, x: Tensor) -> Tensor:
    weight, bias = (tensors[f"{layer}.0.{part}"].to(x.dtype) for part in ("weight", "bias"))
    return functional.conv2d(x, weight, bias) if weight.dim() == 4 else functional.linear(x, weight, bias)


@contextmanager
def attached_lllite(control: Control, tensors: Mapping[str, Tensor], bundle: Bundle) -> Iterator[LLLite]:
    """The nets of a file, before the layers of the bundle's U-Net while it lasts.

    Raises:
        InvalidRecipe: it is for another U-Net.
    """
    assert control.model is not None
    modules: dict[str, Any] = {}
    for name, module in bundle.modules["unet"].named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            modules[name] = module
    targets = {}
    for name, ldm_name in ldm_names(modules).items():
        own = ldm_name.replace(".", "_")
        for called in _CALLED_MIDDLE:
            targets[_UNET + own.replace(_CALLED_MIDDLE[0], called)] = modules[name]
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer, _, rest = name.partition(".")
        layers.setdefault(layer, {})[rest] = tensor
    for layer, own_tensors in layers.items():
        target = targets.get(layer)
        if target is None or not _fits(own_tensors, target.weight.shape[1]):
            raise InvalidRecipe(
                f"ControlNet-LLLite “{control.model.name}” does not fit “{bundle.ref.name}”: its “{layer}” stands "
                "before no layer of the model's.",
                "Use one that was made for this kind of model.",
                field="controls.model",
            )
    net = LLLite(layers)
    with ExitStack() as hooks:
        for layer in layers:

            def change(_: nn.Module, inputs: tuple[Tensor, ...], layer: str = layer) -> tuple[Tensor, ...]:
                x, *others = inputs
                return net.change(layer, x), *others

            hooks.callback(targets[layer].register_forward_pre_hook(change).remove)
        yield net
