"""ControlNet-XS: a slim U-Net beside the checkpoint's, which sees its features at every layer and adds to them.

It runs by hooks within the checkpoint's own evaluation, so that nothing of that is copied.
Source: Zavadski et al. 2023 (arXiv 2312.06573); the layers are diffusers' `ControlNetXSAdapter`, the order of exchange
is its `UNetControlNetXSModel`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from engine.adapters.control_units import Unit, uncond_count
from engine.models.bundle import Bundle
from engine.sampling.denoise import Conditions

LAYERS = 2  # a block, of the U-Nets that it is made for
_TIME_POWER = 0.3  # of the share that its own time embedding has


class ControlNetXS(nn.Module):
    """An adapter in one U-Net, and how far it is in the evaluation that runs.

    Attributes:
        adapter: A ControlNetXSAdapter.
    """

    def __init__(self, adapter: nn.Module) -> None:
        super().__init__()
        self.adapter: Any = adapter
        self._weight, self._skipped = 0.0, 0
        self._prompt_embeds: Tensor | None = None  # None where nothing acts
        self._hint: Tensor | None = None
        self._features = torch.empty(0)
        self._skips: list[Tensor] = []

    @property
    def config(self) -> Any:
        """The adapter's."""
        return self.adapter.config

    @torch.inference_mode()
    def embed(self, hint: Tensor) -> dict[str, Tensor]:
        """What a control image is to the first layer: (1, C, h, w)."""
        shown = hint.flip(1) if self.config.conditioning_channel_order == "bgr" else hint
        return {"hint": self.adapter.controlnet_cond_embedding(shown)}

    def rest(self) -> None:
        """Nothing acts in the evaluation to come."""
        self._prompt_embeds, self._skips = None, []

    def act(self, unit: Unit, batch: Tensor, conditions: Conditions) -> None:
        """Let a control act in the evaluation to come, of this batch of latents."""
        self._skipped = uncond_count(unit, batch, conditions)
        self._weight, self._hint = unit.control.weight, unit.embeds["hint"]
        self._prompt_embeds = conditions.prompt_embeds[self._skipped :].to(self._hint.dtype)

    def hooks(self, unet: Any) -> Iterator[Callable[[], None]]:
        """Register what acts on a U-Net; yields what takes each off."""
        yield self._behind(unet.time_embedding, self._mix_time)
        yield self._behind(unet.conv_in, self._begin)
        for block, own in zip(unet.down_blocks, self.adapter.down_blocks, strict=True):
            layers = [*block.resnets, *(block.downsamplers or ())]
            downsampler = getattr(own, "downsamplers", None)
            own_layers = [*own.resnets, *([downsampler] if downsampler is not None else [])]
            attentions, own_attentions = getattr(block, "attentions", ()), getattr(own, "attentions", None) or ()
            for number, (layer, own_layer) in enumerate(zip(layers, own_layers, strict=True)):
                has_attention = number < len(own_attentions)
                yield self._before(layer, self._go(own_layer, own.base_to_ctrl[number]))
                own_attention = own_attentions[number] if has_attention else None
                meet = self._meet(own_attention, own.ctrl_to_base[number])
                yield self._behind(attentions[number] if has_attention else layer, meet)
        own = self.adapter.mid_block
        yield self._before(unet.mid_block, self._go(own.midblock, own.base_to_ctrl, sees_prompt=True))
        yield self._behind(unet.mid_block, self._meet(None, own.ctrl_to_base, is_skip=False))
        for block, own in zip(unet.up_blocks, self.adapter.up_connections, strict=True):
            for layer, to_base in zip(block.resnets, own.ctrl_to_base, strict=True):
                yield self._before(layer, self._return(to_base))

    def _before(self, layer: nn.Module, change: Callable[..., Any]) -> Callable[[], None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> Any:
            return None if self._prompt_embeds is None else change(*inputs)

        return layer.register_forward_pre_hook(hook).remove

    def _behind(self, layer: nn.Module, change: Callable[..., Tensor]) -> Callable[[], None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            if self._prompt_embeds is None:
                return output
            if isinstance(output, tuple):
                return (change(inputs[0], output[0]), *output[1:])
            return change(inputs[0], output)

        return layer.register_forward_hook(hook).remove

    def _own(self, x: Tensor) -> Tensor:
        """The entries that it acts on, in its own precision."""
        assert self._hint is not None
        return x[self._skipped :].to(self._hint.dtype)

    def _added(self, x: Tensor, change: Tensor) -> Tensor:
        """To those entries."""
        return torch.cat([x[: self._skipped], x[self._skipped :] + (self._weight * change).to(x.dtype)])

    def _mix_time(self, t: Tensor, embedding: Tensor) -> Tensor:
        if self.adapter.time_embedding is None:
            return embedding
        share = self.config.time_embedding_mix**_TIME_POWER
        own = self.adapter.time_embedding(self._own(t)).to(embedding.dtype)
        mixed = own * share + embedding[self._skipped :] * (1 - share)
        return torch.cat([embedding[: self._skipped], mixed])

    def _begin(self, latents: Tensor, features: Tensor) -> Tensor:
        self._features = self.adapter.conv_in(self._own(latents)) + self._hint
        self._skips = [self._features]
        return self._added(features, self.adapter.control_to_base_for_conv_in(self._features))

    def _go(self, own_layer: Any, from_base: nn.Module, *, sees_prompt: bool = False) -> Callable[..., None]:
        """One layer further, beside the U-Net's."""

        def go(features: Tensor, *others: Any) -> None:
            both = torch.cat([self._features, from_base(self._own(features))], dim=1)
            embeddings = tuple(self._own(other) for other in others[:1] if isinstance(other, Tensor))
            prompt = {"encoder_hidden_states": self._prompt_embeds} if sees_prompt else {}
            self._features = own_layer(both, *embeddings, **prompt)

        return go

    def _meet(self, attention: Any, to_base: nn.Module, *, is_skip: bool = True) -> Callable[[Tensor, Tensor], Tensor]:
        """Behind a layer: the U-Net's features with what was found beside them."""

        def meet(_: Tensor, features: Tensor) -> Tensor:
            if attention is not None:
                prompt = {"encoder_hidden_states": self._prompt_embeds, "return_dict": False}
                self._features = attention(self._features, **prompt)[0]
            if is_skip:
                self._skips.append(self._features)
            return self._added(features, to_base(self._features))

        return meet

    def _return(self, to_base: nn.Module) -> Callable[..., tuple[Any, ...]]:
        """On the way up: what it kept is added to the U-Net's features, before those of the skip connection."""

        def back(features: Tensor, *others: Any) -> tuple[Any, ...]:
            change = to_base(self._skips.pop())
            channels = change.shape[1]
            return (torch.cat([self._added(features[:, :channels], change), features[:, channels:]], dim=1), *others)

        return back


@contextmanager
def attached_xs(adapter: nn.Module, bundle: Bundle) -> Iterator[ControlNetXS]:
    """An adapter in the bundle's U-Net while it lasts."""
    net = ControlNetXS(adapter)
    with ExitStack() as hooks:
        if fits_xs(adapter, bundle.modules["unet"]):
            for remove in net.hooks(bundle.modules["unet"]):
                hooks.callback(remove)
        yield net


def facts_of_xs(adapter: Any, unet: Any) -> Mapping[str, tuple[object, object]]:
    """What has to be equal: by name, the adapter's and the U-Net's."""
    own, theirs = adapter.config, unet.config
    return {
        "block_out_channels": (tuple(own.base_block_out_channels), tuple(theirs.block_out_channels)),
        "cross_attention_dim": (own.cross_attention_dim, theirs.cross_attention_dim),
        "down_block_types": (tuple(own.down_block_types), tuple(theirs.down_block_types)),
        "layers_per_block": (LAYERS, theirs.layers_per_block),
        "in_channels": (adapter.conv_in.in_channels, theirs.in_channels),
    }


def fits_xs(adapter: Any, unet: Any) -> bool:
    """Whether it can be attached; `check_control_fits` says what differs."""
    return all(own == theirs for own, theirs in facts_of_xs(adapter, unet).values())
