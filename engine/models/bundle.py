"""What a lease gives: one model, ready to run, with what jobs may do to it while they have it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from transformers import CLIPTokenizer

from contract.recipe import ModelRef
from contract.values import Tiling
from engine.device.attention import has_plain_attention
from engine.device.card_evaluator import CardEvaluator
from engine.device.devices import Device
from engine.device.evaluations import Call, Outputs
from engine.device.openvino_backend import OpenVino
from engine.device.wrapped_padding import WrappedCall
from engine.families.family import ModelFamily
from engine.models.module_slot import ModuleSlot, State
from engine.models.offload import Offloader
from engine.weights.weight_buffer import TensorSpec


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a lease gives: a checkpoint (or a control or adapter), ready to run. Valid only inside the lease.

    A checkpoint has the components that its family declares, and a depth_estimator if it comes with one. Any other
    model has the one component of `components.py`, and neither tokenizers nor a scheduler.

    Attributes:
        digests: By component: a text that changes with its weights.
        zeroes_empty_prompt: Whether this model was trained so, in a family that does it.
        vae_override: The bundle whose VAE is used instead of the model's own.
        tiling: The axes around which denoiser and VAE are evaluated with wrapped padding.
    """

    ref: ModelRef
    family: ModelFamily
    device: Device
    tokenizers: tuple[CLIPTokenizer, ...]
    scheduler_config: Mapping[str, Any]
    digests: Mapping[str, str]
    offloader: Offloader = field(repr=False)
    _slot: ModuleSlot = field(repr=False)
    openvino: OpenVino | None = field(default=None, repr=False)
    zeroes_empty_prompt: bool = True
    vae_override: "Bundle | None" = None
    tiling: Tiling | None = None

    def onload(self, component: str) -> nn.Module:
        """Bring a component to the device and return it, to run it; where memory is short, others make way.

        Raises:
            KeyError: the model has no such component.
        """
        if component == "vae" and self.vae_override is not None:
            return self.vae_override.onload(component)
        return self.offloader.onload(component)

    def has(self, component: str) -> bool:
        """Whether there is such a component."""
        return component in self._slot.modules or (component == "vae" and self.vae_override is not None)

    def with_vae(self, vae: "Bundle") -> "Bundle":
        """This model with the VAE of another bundle."""
        return replace(self, vae_override=vae, digests={**self.digests, **vae.digests})

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The model's own components, to look at their structure: their weights may be offloaded."""
        return self._slot.modules

    def state_of(self, kind: type[State]) -> State:
        """What an adapter keeps about its changes to these weights, by its class; gone when others are swapped in."""
        return self._slot.state_of(kind)

    def evaluate(self, component: str, call: Call, *inputs: Tensor) -> Outputs:
        """`call(module, *inputs)` by what is ready and best."""
        if self.tiling and component in (self.family.facts.denoiser, "vae"):
            call = WrappedCall(call, self.tiling)
        if component == "vae" and self.vae_override is not None:
            return self.vae_override.evaluate(component, call, *inputs)
        self.onload(component)
        weights = self.digests[component] if self.openvino else ""
        return self._slot.evaluate(component, call, inputs, weights, component == self.family.facts.denoiser)

    @property
    def size(self) -> int:
        """Bytes of its weights."""
        return self._slot.layout.size

    def take_turns_with(self, slot: ModuleSlot) -> bool:
        """Let this checkpoint and that of other modules be on the card one at a time; whether that is new."""
        if slot is self._slot or slot.rival is not None:
            return False
        slot.rival, self._slot.rival = self._slot, slot
        slot.may_offload = self._slot.may_offload = True
        return True

    def park(self) -> None:
        """As of `ModelManager.park`."""
        self._slot.park()

    def unpark(self) -> None:
        """The bytes of all weights are there again."""
        self._slot.unpark()

    def forget_wanted(self) -> None:
        """Weights are about to change in place."""
        self._slot.evaluations.forget_wanted()

    @property
    def evaluator(self) -> CardEvaluator | None:
        """Of its denoiser; None where that moves, or computes attention otherwise than it is recorded and compiled."""
        denoiser = self._slot.modules[self.family.facts.denoiser]
        if self._slot.may_offload or not has_plain_attention(denoiser):
            return None
        return self._slot.evaluator

    def present(self, component: str, name: str) -> Tensor | None:
        """A tensor as it is now on the device; None while its component is offloaded."""
        return self._slot.present(component, name)

    def original(self, component: str, name: str) -> Tensor:
        """The model's own tensor, in host memory: never to be written."""
        return self._slot.original(component, name)

    def spec(self, component: str, name: str) -> TensorSpec:
        """Shape and packing of a tensor."""
        return self._slot.spec(component, name)

    def change(self, component: str, name: str, change: Callable[[Tensor], Tensor]) -> None:
        """Do something to the numbers of a packed tensor each time it is expanded, until it is restored."""
        self._slot.change(component, name, change)

    def replace(self, component: str, values: Mapping[str, Tensor]) -> None:
        """Override tensors of a component, by values of any device and dtype, until they are restored."""
        self._slot.replace(component, values)

    def restore(self, component: str, names: Iterable[str]) -> None:
        """Give tensors the model's own values again, to the bit."""
        self._slot.restore(component, names)
