"""A picture that the result takes after, by the U-Net alone: its self-attention, or the statistics of its features.

Before each evaluation the U-Net runs on the picture's latents, noised as far as those of the result ("write"). What its
layers saw then is attended to beside the result's own, or gives mean and deviation ("read").
Source: sd-webui-controlnet's reference_only, reference_adain and reference_adain+attn (Mikubill, lllyasviel); adaptive
instance normalization is Huang and Belongie 2017 (arXiv 1703.06868).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.adapters.control_units import Unit
from engine.device.wrapped_padding import wrapped_padding
from engine.models.bundle import Bundle
from engine.sampling.denoise import Conditions
from engine.sampling.noise_table import NoiseTable, make_noise_table

# By preprocessor: whether it acts in the attention, and in the features.
_ACTS: Mapping[str, tuple[bool, bool]] = MappingProxyType(
    {"reference_only": (True, False), "reference_adain": (False, True), "reference_adain+attn": (True, True)}
)
_FIDELITY: Mapping[str, float] = MappingProxyType({"prompt": 0.0, "control": 1.0})  # by mode; balanced: as asked
_USUAL_FIDELITY = 0.5
_OUTPUT_BLOCKS = 8  # of LDM's numbering, whose features take over statistics; those of the down blocks but the first
_FEATURE_FACTOR = 2.0  # features join in at a half of the weight that attention does
_SEED = 0
_EPS = 1e-6


class Reference(nn.Module):
    """What the layers of a U-Net saw of a picture, and which of them read it.

    Attributes:
        attentions, features: Layers by name, with the weight from which on they act.
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.attentions = _attention_weights(unet)
        self.features = _feature_weights(unet)
        self._write: dict[str, float] | None = None  # by layer, while the picture is looked at
        self._bank: dict[str, Tensor] = {}
        self._fidelity, self._skipped = 0.0, 0

    @property
    def config(self) -> Mapping[str, object]:
        """Of a net: it has none."""
        return {}

    def forget(self) -> None:
        """Nothing acts in the evaluation to come."""
        self._bank = {}

    def look(self, unit: Unit, batch: Tensor, t: Tensor, conditions: Conditions, bundle: Bundle) -> None:
        """See the picture as noisy as a batch of latents, for the evaluation to come of these."""
        in_attention, in_features = _ACTS[unit.control.preprocessor]
        weights = {**(self.attentions if in_attention else {}), **(self.features if in_features else {})}
        self._write = {name: least for name, least in weights.items() if unit.control.weight > least}
        if self._write:
            unet: Any = bundle.onload("unet")
            noise = torch.randn(unit.hint.shape, generator=torch.Generator().manual_seed(_SEED)).to(batch)
            noisy = noised(unit.hint.to(batch), noise, t, make_noise_table(bundle.scheduler_config))
            with wrapped_padding(unit.tiling):
                unet(
                    noisy.expand(batch.shape[0], -1, -1, -1),
                    t,
                    encoder_hidden_states=conditions.prompt_embeds,
                    added_cond_kwargs=conditions.added,
                    return_dict=False,
                )
        self._write = None
        fidelity = _USUAL_FIDELITY if unit.control.low is None else unit.control.low
        self._fidelity = _FIDELITY.get(unit.control.mode, fidelity)
        self._skipped = batch.shape[0] - len(conditions.weights)

    def attend(self, name: str, forward: Callable[..., Tensor], x: Tensor, *others: Any, **named: Any) -> Tensor:
        """Self-attention of (batch, tokens, width) that sees the picture's tokens beside its own."""
        if self._write is not None and name in self._write:
            self._bank[name] = x.detach()
        if self._write is not None or name not in self._bank:
            return forward(x, *others, **named)
        context = torch.cat([x, self._bank[name].to(x.dtype)], dim=1)
        seen = forward(x, *others, **{**named, "encoder_hidden_states": context})
        if not self._skipped or not self._fidelity:
            return seen
        return self._with_own(forward(x[: self._skipped], *others, **named), seen)

    def normalize(self, name: str, x: Tensor) -> Tensor:
        """Features (batch, C, h, w) with mean and deviation of the picture's."""
        if self._write is not None and name in self._write:
            self._bank[name] = x.detach()
        if self._write is not None or name not in self._bank:
            return x
        mean, deviation = _statistics(x)
        to_mean, to_deviation = _statistics(self._bank[name].to(x.dtype))
        seen = (x - mean) / deviation * to_deviation + to_mean
        return self._with_own(x[: self._skipped], seen) if self._skipped else seen

    def _with_own(self, own: Tensor, seen: Tensor) -> Tensor:
        """The negative prompt's entries keep a share of what they are without the picture: the style fidelity."""
        kept = self._fidelity * own + (1 - self._fidelity) * seen[: self._skipped]
        return torch.cat([kept, seen[self._skipped :]])


def noised(x0: Tensor, noise: Tensor, t: Tensor, table: NoiseTable) -> Tensor:
    """Latents with the noise of a timestep, as the U-Net takes them: at the variance that it was trained on."""
    timestep = float(t.reshape(-1)[0])
    if table.is_edm:
        sigma, variance = math.exp(4 * timestep), table.sigma_data**2
    else:
        sigma, variance = float(table.sigmas_at(np.array(timestep))), 1.0
    latents: Tensor = (x0 + sigma * noise) / (variance + sigma**2) ** 0.5
    return latents


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, dim=(2, 3), keepdim=True, correction=0)
    return mean, variance.clamp(min=_EPS).sqrt()


def _attention_weights(unet: nn.Module) -> dict[str, float]:
    """The widest act first."""
    order = ("down_blocks", "mid_block", "up_blocks")
    found = [(name, block) for name, block in unet.named_modules() if name.endswith("attn1")]
    found.sort(key=lambda item: order.index(item[0].split(".")[0]))
    found.sort(key=lambda item: -item[1].to_q.in_features)
    return {name: number / len(found) for number, (name, _) in enumerate(found)}


def _feature_weights(unet: Any) -> dict[str, float]:
    """The middle first, then from it outwards; a layer's features are those behind its attention, if it has one."""

    def last(block: Any, kind: str, number: int) -> str:
        layer = f"{kind}.{number}"
        attentions = getattr(block, "attentions", None)
        upsamplers = getattr(block, "upsamplers", None)
        if upsamplers and number == len(block.resnets) - 1:
            return f"{kind[: kind.rindex('.')]}.upsamplers.0"
        return layer.replace("resnets", "attentions") if attentions else layer

    down, up = [], []
    for index, block in enumerate(unet.down_blocks):
        if index:
            down += [last(block, f"down_blocks.{index}.resnets", number) for number in range(len(block.resnets))]
    for index, block in enumerate(unet.up_blocks):
        up += [last(block, f"up_blocks.{index}.resnets", number) for number in range(len(block.resnets))]
    up = up[:_OUTPUT_BLOCKS]
    weights = {"mid_block": 0.0}
    weights |= {name: _FEATURE_FACTOR * (1 - number / len(down)) for number, name in enumerate(down)}
    weights |= {name: _FEATURE_FACTOR * number / len(up) for number, name in enumerate(up)}
    return weights


@contextmanager
def attached_reference(bundle: Bundle) -> Iterator[Reference]:
    """While it lasts, layers of the bundle's U-Net read what a picture wrote."""
    unet = bundle.modules["unet"]
    reference = Reference(unet)
    with ExitStack() as attached:
        for name in reference.attentions:
            module: Any = unet.get_submodule(name)
            own = module.__dict__.get("forward")
            attached.callback(partial(_restore, module, own))
            module.forward = partial(reference.attend, name, module.forward)
        for name in reference.features:

            def normalize(_: nn.Module, __: object, output: Any, name: str = name) -> Any:
                if isinstance(output, Tensor):
                    return reference.normalize(name, output)
                return (reference.normalize(name, output[0]), *output[1:])

            attached.callback(unet.get_submodule(name).register_forward_hook(normalize).remove)
        yield reference


def _restore(module: Any, own: Any) -> None:
    if own is None:
        module.__dict__.pop("forward", None)
    else:
        module.forward = own
