"""LoRAs that act in one region: beside the model's weights, which stay as they are.

A layer's output at a place becomes output + mask · Δ(input), Δ the LoRA's change of the layer. In cross-attention the
mask is that of the prompt: a region's LoRA changes what the region's own prompt gives, as `attention.py` mixes it. In
text encoders it acts on the region's prompts alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.errors import InvalidRecipe
from engine.lora.deltas import Delta, LowRank
from engine.lora.keys import ModuleNames
from engine.lora.patch import AppliedLora, LoadedLora, acting_layers, deltas_for
from engine.models.bundle import Bundle
from engine.regions.places import RegionPlaces

Change = Callable[[Tensor], Tensor]  # from a layer's input to what is added to its output
_STEP_EMBEDDING = ".time_emb_proj"  # of a ResNet block: added to all of its places alike, before its second norm


@dataclass(slots=True)
class RegionalLoras:
    """The LoRAs of all regions while they are attached, and what is being computed.

    Attributes:
        stamps: By region: what its LoRAs do to its prompts, as text; empty where they do nothing.
        notices: Sentences for the person, about LoRAs that fit in part.
        idle: The same about LoRAs that change nothing.
        places: Of the pass that is evaluated; None outside of one.
        prompt_of: The region whose prompt the cross-attention reads, or a text encoder; None: the recipe's own.
    """

    stamps: Mapping[int, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    places: RegionPlaces | None = None
    prompt_of: int | None = None

    @property
    def stamp(self) -> str:
        """What acts on the prompt that is read, as text."""
        return "" if self.prompt_of is None else self.stamps.get(self.prompt_of, "")

    @contextmanager
    def reading(self, region: int | None) -> Iterator[None]:
        """While it lasts, a region's prompt is read; None: the recipe's own."""
        self.prompt_of = region
        try:
            yield
        finally:
            self.prompt_of = None


@contextmanager
@torch.no_grad()
def regional_loras(bundle: Bundle, loaded: Sequence[Sequence[LoadedLora]]) -> Iterator[RegionalLoras]:
    """Attach LoRAs to a checkpoint's modules.

    Args:
        loaded: Those of each region, leased as long as this lasts.
    Raises:
        InvalidRecipe: one doesn't fit the checkpoint, or changes what has no place in a picture.
    """
    names = ModuleNames.of(bundle.modules) if any(loaded) else ModuleNames()
    stamps: dict[int, str] = {}
    notices: list[str] = []
    idle: list[str] = []
    attached = RegionalLoras(stamps)
    with ExitStack() as hooks:
        for region, loras in enumerate(loaded):
            for number, lora in enumerate(loras):
                path = f"regions.regions.{region}.loras.{number}.model"
                found = acting_layers(lora, names, bundle, path)
                notices += found.notices
                idle += found.idle
                for one in found.applied:
                    _attach(one, bundle, region, path, attached, hooks)
                    if one.layer.part != "unet":
                        stamps[region] = f"{stamps.get(region, '')}{lora.id}:{one.layer.module}:{one.strength};"
        attached.notices, attached.idle = tuple(dict.fromkeys(notices)), tuple(dict.fromkeys(idle))
        yield attached


def _attach(one: AppliedLora, bundle: Bundle, region: int, path: str, loras: RegionalLoras, hooks: ExitStack) -> None:
    """Hook one LoRA's change of one module."""
    part, name = one.layer.part, one.layer.module
    whole: Any = bundle.modules[part]
    module = whole.get_submodule(name)
    block: Any = whole.get_submodule(name.removesuffix(_STEP_EMBEDDING)) if name.endswith(_STEP_EMBEDDING) else None
    has_places = block is None or block.time_embedding_norm == "default"
    is_embedding = part == "unet" and "embedding" in name.partition(".")[0]
    if not isinstance(module, nn.Linear | nn.Conv2d) or is_embedding or not has_places:
        raise InvalidRecipe(
            f"LoRA “{one.lora.use.model.name}” can't act in one region: it changes {name}, which has no place in the "
            "picture.",
            "Use it for the whole picture.",
            field=path,
        )
    change = _change_of(module, deltas_for(one, bundle, path), one, bundle)

    def by_prompt(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        return output + change(inputs[0]) if loras.prompt_of == region else None

    def by_place(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if loras.places is None:
            return None
        return output + loras.places.mask_like(region, output) * change(inputs[0])

    if block is not None:
        added: list[Tensor] = []

        def note(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> None:
            added[:] = [change(inputs[0])[:, :, None, None]]

        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            if loras.places is None:
                return None
            return (inputs[0] + loras.places.mask_like(region, inputs[0]) * added.pop(),)

        hooks.callback(module.register_forward_hook(note).remove)
        hooks.callback(block.norm2.register_forward_pre_hook(add).remove)
    elif part != "unet" or ".attn2." in name:
        hooks.callback(module.register_forward_hook(by_prompt).remove)
    else:
        hooks.callback(module.register_forward_hook(by_place).remove)


def _change_of(module: nn.Linear | nn.Conv2d, deltas: Mapping[str, Delta], one: AppliedLora, bundle: Bundle) -> Change:
    """A LoRA's change of a layer, as a function of its input: two narrow layers where the file gives factors."""
    device, dtype = bundle.device.torch_device, bundle.device.dtype
    weight, bias = deltas.get("weight"), deltas.get("bias")
    kernels: list[Tensor] = []
    if isinstance(weight, LowRank):
        kernels = [weight.down, weight.up * (weight.scale * one.strength)]
    elif weight is not None:
        original = bundle.original(one.layer.part, f"{one.layer.module}.weight").to(device).float()
        kernels = [torch.zeros_like(original)]
        weight.add_to(kernels[0], original, one.strength)
    if isinstance(module, nn.Conv2d) and kernels:
        kernels[0] = kernels[0].reshape(kernels[0].shape[0], module.in_channels, *module.kernel_size)
        kernels[1:] = [kernel[:, :, None, None] for kernel in kernels[1:]]
    kernels = [kernel.to(device=device, dtype=dtype) for kernel in kernels]
    shift = None
    if bias is not None:
        added = torch.zeros(module.weight.shape[0], device=device)
        bias.add_to(added, torch.zeros_like(added), one.strength)
        shift = added.to(dtype)

    def change(x: Tensor) -> Tensor:
        changed = x
        for number, kernel in enumerate(kernels):
            kernel = kernel.to(x.dtype)  # float32 where half precision overflows
            if isinstance(module, nn.Linear):
                changed = functional.linear(changed, kernel)
            elif number == 0:
                changed = functional.conv2d(changed, kernel, None, module.stride, module.padding, module.dilation)
            else:
                changed = functional.conv2d(changed, kernel)
        if shift is None:
            return changed
        by_channel = shift.to(x.dtype) if isinstance(module, nn.Linear) else shift.to(x.dtype)[:, None, None]
        return changed + by_channel if kernels else by_channel

    return change
