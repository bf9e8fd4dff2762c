"""Hypernetworks on real attention: equal to keys and values made by hand, and gone when the job is."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor, nn

from catalog.models import ModelEntry
from contract.errors import InvalidRecipe
from contract.recipe import HypernetworkUse, ModelRef
from engine.adapters.hypernetworks import LoadedHypernetwork, apply_hypernetworks
from engine.device.devices import Device
from engine.families.unet import predict_with
from engine.models.manager import ModelManager
from engine.sampling.denoise import Conditions
from engine.weights.named_tensors import NamedTensors

CONTEXT = 32  # as wide as the tiny U-Net's own channels, so that one pair bends both kinds of attention


def network(width: int, seed: int, *, norm: bool = False) -> nn.Sequential:
    """As AUTOMATIC1111 builds one: linear, activation, (norm), linear."""
    torch.manual_seed(seed)
    layers = [
        nn.Linear(width, 2 * width),
        nn.ReLU(),
        *([nn.LayerNorm(2 * width)] if norm else []),
        nn.Linear(2 * width, width),
    ]
    return nn.Sequential(*layers)


def loaded(
    pairs: dict[int, tuple[nn.Sequential, nn.Sequential]], weight: float = 1.0, **facts: str
) -> LoadedHypernetwork:
    tensors = {
        f"{width}.{side}.linear.{name}": tensor
        for width, pair in pairs.items()
        for side, half in enumerate(pair)
        for name, tensor in half.state_dict().items()
    }
    return of_tensors(tensors, weight, **facts)


def of_tensors(tensors: dict[str, Tensor], weight: float = 1.0, **facts: str) -> LoadedHypernetwork:
    module = NamedTensors({name: list(tensor.shape) for name, tensor in tensors.items()})
    for name, tensor in tensors.items():
        module.put(name, tensor)
    ref = ModelRef(kind="hypernetwork", name="bend", family="sd1")
    return LoadedHypernetwork(HypernetworkUse(model=ref, weight=weight), module, {"activate_output": "false", **facts})


class ByHand(AttnProcessor):
    """The stock attention with keys and values from bent contexts, as the rule says."""

    def __init__(self, halves: list[tuple[nn.Module, nn.Module, float]]) -> None:
        self.halves = halves

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *others: Any,
        **more: Any,
    ) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        keys = values = context
        for key, value, weight in self.halves:
            keys, values = keys + weight * key(keys), values + weight * value(values)
        query, key, value = (
            attn.head_to_batch_dim(made) for made in (attn.to_q(hidden_states), attn.to_k(keys), attn.to_v(values))
        )
        made = attn.batch_to_head_dim(torch.bmm(attn.get_attention_scores(query, key), value))
        return attn.to_out[0](made)


@pytest.fixture
def unet_of(entries: dict[str, ModelEntry], models: ModelManager) -> Any:
    with models.lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle:
        yield bundle


def test_a_file_that_says_nothing_of_its_end_has_an_activation_there(unet_of: Any) -> None:
    pair = {CONTEXT: (network(CONTEXT, 1), network(CONTEXT, 2))}
    silent = replace(loaded(pair), metadata={"activation_func": "relu"})
    said, other = (loaded(pair, activation_func="relu", activate_output=value) for value in ("true", "false"))
    made = []
    with torch.no_grad():
        for one in (silent, said, other):
            with apply_hypernetworks(unet_of, [one]):
                made.append(unet_of.onload("unet")(torch.ones(1, 4, 8, 8), 300, torch.ones(1, 7, CONTEXT)).sample)
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])


def test_it_acts_in_full_precision_too(entries: dict[str, ModelEntry]) -> None:
    device = Device(torch.device("cpu"), "half", dtype=torch.bfloat16)
    told = Conditions(torch.ones(1, 7, CONTEXT), (1.0,))
    with ModelManager(device).lease(entries["sd1"].ref, str(entries["sd1"].path)) as bundle, torch.inference_mode():
        with apply_hypernetworks(
            bundle, [loaded({CONTEXT: (network(CONTEXT, 1, norm=True), network(CONTEXT, 2))}, activation_func="relu")]
        ):
            wide = predict_with(bundle.onload, torch.bfloat16, in_float32=True)(
                torch.ones(1, 4, 8, 8), torch.tensor(300), told, None
            )
    assert wide.dtype == torch.float32 and wide.isfinite().all()


@pytest.mark.parametrize("norm", [False, True])
def test_it_equals_attention_by_hand_and_is_gone_afterwards(unet_of: Any, norm: bool) -> None:
    bundle, unet = unet_of, unet_of.onload("unet")
    pairs = [
        (network(CONTEXT, 1, norm=norm), network(CONTEXT, 2, norm=norm)),
        (network(CONTEXT, 3), network(CONTEXT, 4)),
    ]
    lents = [
        loaded({CONTEXT: pairs[0], 999: pairs[0]}, 0.8, activation_func="relu", is_layer_norm=str(norm).lower()),
        loaded({CONTEXT: pairs[1]}, -0.5, activation_func="ReLU"),
    ]
    torch.manual_seed(0)
    latents, context = torch.randn(1, 4, 8, 8), torch.randn(1, 77, CONTEXT)
    with torch.no_grad():
        plain = unet(latents, 300, context).sample
        with apply_hypernetworks(bundle, lents):
            ours = unet(latents, 300, context).sample
        own = unet.attn_processors
        unet.set_attn_processor(ByHand([(*pairs[0], 0.8), (*pairs[1], -0.5)]))
        theirs = unet(latents, 300, context).sample
        unet.set_attn_processor(own)
        after = unet(latents, 300, context).sample
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert torch.equal(after, plain) and (ours - plain).abs().max() > 1e-3
    assert not any(module._forward_pre_hooks for module in unet.modules())


def test_it_is_gone_after_a_failure(unet_of: Any) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        apply_hypernetworks(unet_of, [loaded({CONTEXT: (network(CONTEXT, 1), network(CONTEXT, 2))})]),
    ):
        raise ZeroDivisionError
    assert not any(module._forward_pre_hooks for module in unet_of.onload("unet").modules())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: loaded({768: (network(768, 1), network(768, 2))}),
            "does nothing on “sd1”: it is made for contexts 768 wide",
        ),
        (
            lambda: loaded({CONTEXT: (network(CONTEXT, 1), network(CONTEXT, 2))}, activation_func="wild"),
            "activation “wild”",
        ),
        (lambda: of_tensors({"32.0.linear.0.bias": torch.zeros(32)}), "its layers are not complete"),
        (lambda: of_tensors({"x": torch.zeros(32)}), "its layers are not complete"),
    ],
)
def test_what_can_not_be_run_is_refused_by_name(
    unet_of: Any, make: Callable[[], LoadedHypernetwork], words: str
) -> None:
    with pytest.raises(InvalidRecipe) as refused, apply_hypernetworks(unet_of, [make()]):
        pass
    assert words in refused.value.message and "“bend”" in refused.value.message
    assert refused.value.code == "invalid_hypernetworks_model"
