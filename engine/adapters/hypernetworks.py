"""Hypernetworks: small networks that bend what an attention's keys and values are made of, for one job.

A file has a pair of networks (keys, values) for each width of context it was trained on: 768 (or 1024, 1280) is the
prompt's, 320, 640 and 1280 are a U-Net's own. Each is x + weight · f(x), f a few layers with an activation between.
Source: the layout and the rule of AUTOMATIC1111's hypernetworks, as converted to safetensors by `convert/pickles.py`.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from contract.errors import InvalidRecipe
from contract.recipe import HypernetworkUse
from engine.models.manager import Bundle

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
    """A hypernetwork of the recipe, leased; `module` only holds its tensors. facts: of the file's metadata."""

    use: HypernetworkUse
    module: nn.Module
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Step:
    """A layer: linear where its weight is a matrix, else a layer norm; `is_last` of the linear ones."""

    weight: Tensor
    bias: Tensor | None
    is_last: bool

    def run(self, x: Tensor, activation: Callable[[Tensor], Tensor], ends_active: bool) -> Tensor:
        weight = self.weight.to(x.dtype)  # float32 where half precision overflows
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if weight.dim() == 1:
            return functional.layer_norm(x, (x.shape[-1],), weight, bias)
        made = functional.linear(x, weight, bias)
        return made if self.is_last and not ends_active else activation(made)


@dataclass(frozen=True, slots=True)
class _Network:
    """One pair's half, with how strongly it acts."""

    steps: tuple[_Step, ...]
    activation: Callable[[Tensor], Tensor]
    ends_active: bool
    weight: float

    def apply(self, context: Tensor) -> Tensor:
        made = context
        for step in self.steps:
            made = step.run(made, self.activation, self.ends_active)
        return context + self.weight * made


@contextmanager
def apply_hypernetworks(bundle: Bundle, loaded: Sequence[LoadedHypernetwork]) -> Iterator[None]:
    """While it lasts, attention of a bundle's U-Net makes keys and values from what the networks give.

    Raises:
        InvalidRecipe: a file is no hypernetwork, has an activation that is not known, or does nothing here.
    """
    if not loaded:
        yield
        return
    networks = [_networks(one, bundle) for one in loaded]
    layers = {
        side: [
            (name, child)
            for name, child in bundle.modules["unet"].named_modules()
            if name.endswith((f"attn1.to_{side}", f"attn2.to_{side}"))
        ]
        for side in _SIDES
    }
    widths = {child.in_features for children in layers.values() for _, child in children}
    for one, made in zip(loaded, networks, strict=True):
        if not widths & {width for width, _ in made}:
            sizes = ", ".join(str(width) for width in sorted({width for width, _ in made}))
            raise InvalidRecipe(
                f"Hypernetwork “{one.use.model.name}” does nothing on “{bundle.ref.name}”: it is made for "
                f"contexts {sizes} wide.",
                "Choose the model it was made for, or remove it.",
                field="hypernetworks.model",
            )
    with ExitStack() as hooks:
        for side, children in layers.items():
            for _, child in children:
                acting = [made[child.in_features, side] for made in networks if (child.in_features, side) in made]
                if acting:
                    hooks.callback(child.register_forward_pre_hook(_hooks_of(acting)).remove)
        yield


def _hooks_of(networks: Sequence[_Network]) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    def apply(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        context, *others = arguments
        for network in networks:
            context = network.apply(context)
        return context, *others

    return apply


def _networks(loaded: LoadedHypernetwork, bundle: Bundle) -> dict[tuple[int, str], _Network]:
    """By width and side ("k", "v")."""
    name, facts = loaded.use.model.name, loaded.facts
    activation = _ACTIVATIONS.get((facts.get("activation_func") or "linear").lower())
    tensors: dict[tuple[int, str], dict[int, dict[str, Tensor]]] = {}
    for key, tensor in loaded.module.state_dict().items():
        if match := _NAME.fullmatch(key):
            steps = tensors.setdefault((int(match[1]), _SIDES[int(match[2])]), {})
            here = tensor.to(device=bundle.device.torch_device, dtype=bundle.device.dtype)
            steps.setdefault(int(match[3]), {})[match[4]] = here
    if (
        activation is None
        or not tensors
        or any("weight" not in step for steps in tensors.values() for step in steps.values())
    ):
        problem = (
            f"it has the activation “{facts.get('activation_func', '')[:40]}”, which is not known"
            if activation is None
            else "its layers are not complete"
        )
        raise InvalidRecipe(
            f"Hypernetwork “{name}” can't be run: {problem}.", "Use another one.", field="hypernetworks.model"
        )
    made = {}
    for place, steps in tensors.items():
        last = max((number for number, step in steps.items() if step["weight"].dim() == 2), default=-1)
        made[place] = _Network(
            tuple(_Step(step["weight"], step.get("bias"), number == last) for number, step in sorted(steps.items())),
            activation,
            facts.get("activate_output", "true").lower() == "true",
            loaded.use.weight,
        )
    return made
