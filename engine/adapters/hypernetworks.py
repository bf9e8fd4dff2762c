"""Hypernetworks: small networks that change what attention computes keys and values from, for one job.

A file has a pair of networks (keys, values) for each width of context that it was trained on: 768 (or 1024, 1280) is
the prompt's, 320, 640 and 1280 are the U-Net's own. Each is x + weight · f(x), f a few layers with an activation
between them. Source: AUTOMATIC1111's hypernetworks, as converted to safetensors by `convert/pickles.py`.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.errors import InvalidRecipe
from contract.recipe import HypernetworkUse
from engine.models.bundle import Bundle

_NAME = re.compile(r"(\d+)\.([01])\.linear\.(\d+)\.(weight|bias)")
_SIDES = "kv"  # 0 is of the keys, 1 of the values
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "linear": lambda x: x,
        "relu": functional.relu,
        "leakyrelu": functional.leaky_relu,
        "elu": functional.elu,
        "swish": functional.hardswish,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "gelu": functional.gelu,
        "mish": functional.mish,
        "selu": functional.selu,
        "softplus": functional.softplus,
        "softsign": functional.softsign,
        "hardswish": functional.hardswish,
        "hardtanh": functional.hardtanh,
        "hardsigmoid": functional.hardsigmoid,
        "silu": functional.silu,
        "celu": functional.celu,
        "relu6": functional.relu6,
        "logsigmoid": functional.logsigmoid,
        "hardshrink": functional.hardshrink,
        "softshrink": functional.softshrink,
        "tanhshrink": functional.tanhshrink,
    }
)


@dataclass(frozen=True, slots=True)
class LoadedHypernetwork:
    """A hypernetwork of the recipe, leased; `module` only holds its tensors. metadata: of its file."""

    use: HypernetworkUse
    module: nn.Module
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Layer:
    """Linear where its weight is a matrix, else a layer norm. is_active: an activation follows."""

    weight: Tensor
    bias: Tensor | None
    is_active: bool


@dataclass(frozen=True, slots=True)
class _Network:
    """One pair's half, with its weight in the recipe."""

    layers: tuple[_Layer, ...]
    activation: Callable[[Tensor], Tensor]
    weight: float

    def apply(self, context: Tensor) -> Tensor:
        x = context
        for layer in self.layers:
            weight = layer.weight.to(x.dtype)  # float32 where half precision overflows
            bias = None if layer.bias is None else layer.bias.to(x.dtype)
            if weight.dim() == 1:
                x = functional.layer_norm(x, (x.shape[-1],), weight, bias)
                continue
            x = functional.linear(x, weight, bias)
            if layer.is_active:
                x = self.activation(x)
        return context + self.weight * x


@contextmanager
def apply_hypernetworks(bundle: Bundle, loaded: Sequence[LoadedHypernetwork]) -> Iterator[None]:
    """While it lasts, attention of the bundle's U-Net computes keys and values from what the hypernetworks give.

    Raises:
        InvalidRecipe: a file is no hypernetwork, its activation is unknown, or it does nothing here.
    """
    if not loaded:
        yield
        return
    hypernetworks = [_build_hypernetwork(one, bundle) for one in loaded]
    projections: list[tuple[str, Any]] = []
    for name, module in bundle.modules["unet"].named_modules():
        for side in _SIDES:
            if name.endswith((f"attn1.to_{side}", f"attn2.to_{side}")):
                projections.append((side, module))
    widths = {module.in_features for _, module in projections}
    for one, networks in zip(loaded, hypernetworks, strict=True):
        own_widths = {width for width, _ in networks}
        if not widths & own_widths:
            raise InvalidRecipe(
                f"Hypernetwork “{one.use.model.name}” does nothing on “{bundle.ref.name}”: it is made for "
                f"contexts {', '.join(map(str, sorted(own_widths)))} wide.",
                "Choose the model it was made for, or remove it.",
                field="hypernetworks.model",
            )
    with ExitStack() as hooks:
        for side, module in projections:
            key = (module.in_features, side)
            acting = [networks[key] for networks in hypernetworks if key in networks]
            if not acting:
                continue

            def apply(
                module: nn.Module, arguments: tuple[Tensor, ...], acting: Sequence[_Network] = tuple(acting)
            ) -> tuple[Tensor, ...]:
                context, *others = arguments
                for network in acting:
                    context = network.apply(context)
                return context, *others

            hooks.callback(module.register_forward_pre_hook(apply).remove)
        yield


def _build_hypernetwork(loaded: LoadedHypernetwork, bundle: Bundle) -> dict[tuple[int, str], _Network]:
    """Its networks, by width and side ("k", "v")."""
    activation_name = loaded.metadata.get("activation_func") or "linear"
    activation = _ACTIVATIONS.get(activation_name.lower())
    tensors: dict[tuple[int, str], dict[int, dict[str, Tensor]]] = {}
    for name, tensor in loaded.module.state_dict().items():
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        width, side, number, kind = int(match[1]), _SIDES[int(match[2])], int(match[3]), match[4]
        layers = tensors.setdefault((width, side), {})
        on_device = tensor.to(device=bundle.device.torch_device, dtype=bundle.device.dtype)
        layers.setdefault(number, {})[kind] = on_device

    problem = ""
    if activation is None:
        problem = f"it has the activation “{activation_name[:40]}”, which is not known"
    elif not tensors or any("weight" not in layer for layers in tensors.values() for layer in layers.values()):
        problem = "its layers are not complete"
    if problem or activation is None:
        raise InvalidRecipe(
            f"Hypernetwork “{loaded.use.model.name}” can't be run: {problem}.",
            "Use another one.",
            field="hypernetworks.model",
        )

    ends_active = loaded.metadata.get("activate_output", "true").lower() == "true"
    networks = {}
    for key, layers in tensors.items():
        linear = [number for number, layer in layers.items() if layer["weight"].dim() == 2]
        last = max(linear, default=-1)
        built = []
        for number, layer in sorted(layers.items()):
            built.append(_Layer(layer["weight"], layer.get("bias"), ends_active or number != last))
        networks[key] = _Network(tuple(built), activation, loaded.use.weight)
    return networks
